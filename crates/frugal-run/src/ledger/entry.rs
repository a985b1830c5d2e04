//! One stage's entry, sums of entries, and how they lie in the table.

use std::collections::BTreeMap;

use rusqlite::{Connection, Row, named_params};
use serde::{Deserialize, Serialize};

use super::{LedgerError, from_integer, to_integer};
use crate::consumption::{EnergyMethod, Used, unix_seconds};

/// What a core-hour costs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Price {
    /// Money per core-hour.
    pub per_core_hour: f64,
    /// Its currency.
    pub currency: String,
}

/// What a stage has computed. FLOPs are the model's as its meter counts them, kept in f64: exact
/// up to 9e15 and close beyond.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Work {
    /// Tokens the optimiser learned from.
    pub tokens_trained: u64,
    /// Tokens sampled.
    pub tokens_generated: u64,
    /// FLOPs of the forward passes of training.
    pub flops_forward: f64,
    /// FLOPs of the backward passes.
    pub flops_backward: f64,
    /// FLOPs of sampling.
    pub flops_rollout: f64,
}

impl Work {
    /// All FLOPs.
    #[must_use]
    pub fn flops(&self) -> f64 {
        self.flops_forward + self.flops_backward + self.flops_rollout
    }

    /// Adds what was computed later.
    pub fn add(&mut self, other: &Self) {
        self.tokens_trained = self.tokens_trained.saturating_add(other.tokens_trained);
        self.tokens_generated = self.tokens_generated.saturating_add(other.tokens_generated);
        self.flops_forward += other.flops_forward;
        self.flops_backward += other.flops_backward;
        self.flops_rollout += other.flops_rollout;
    }
}

/// What one stage of one run cost.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    /// Time, memory, energy.
    pub used: Used,
    /// Tokens and FLOPs.
    pub work: Work,
    /// The machine's measured rate of products, to compare with; 0 where not measured.
    pub peak_flops_per_second: f64,
    /// The price that was stated.
    pub price: Price,
    /// Core-hours times the price.
    pub money: f64,
}

impl Entry {
    /// The entry for what was used and computed, at a price.
    #[must_use]
    pub fn new(used: Used, work: Work, peak_flops_per_second: f64, price: Price) -> Self {
        let money = used.core_seconds / 3600.0 * price.per_core_hour;
        Self {
            used,
            work,
            peak_flops_per_second,
            price,
            money,
        }
    }

    /// The sum of what a stage had cost before it was resumed and what it cost since. The price
    /// shown is the later one; money was billed at each.
    ///
    /// # Errors
    /// Two currencies.
    pub fn plus(&self, later: &Self) -> Result<Self, LedgerError> {
        if self.price.currency != later.price.currency {
            return Err(LedgerError::Currency {
                was: self.price.currency.clone(),
                now: later.price.currency.clone(),
            });
        }
        let mut work = self.work;
        work.add(&later.work);
        Ok(Self {
            used: joined(&self.used, &later.used),
            work,
            peak_flops_per_second: self.peak_flops_per_second.max(later.peak_flops_per_second),
            price: later.price.clone(),
            money: self.money + later.money,
        })
    }

    /// Model FLOPs per second of wall time; 0 before any time has passed.
    #[must_use]
    pub fn flops_per_second(&self) -> f64 {
        ratio(self.work.flops(), self.used.wall_seconds)
    }

    /// That rate as a share of the machine's measured peak; `None` where that was not measured.
    #[must_use]
    pub fn share_of_peak(&self) -> Option<f64> {
        let peak = self.peak_flops_per_second;
        (peak > 0.0).then(|| self.flops_per_second() / peak)
    }
}

/// A sum over stages and runs.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Total {
    /// Time, memory (the largest) and energy; `None` before any entry.
    pub used: Option<Used>,
    /// Tokens and FLOPs.
    pub work: Work,
    /// Money by currency.
    pub money: BTreeMap<String, f64>,
}

impl Total {
    /// Adds an entry.
    pub fn add(&mut self, entry: &Entry) {
        self.used = Some(
            self.used
                .map_or(entry.used, |used| joined(&used, &entry.used)),
        );
        self.work.add(&entry.work);
        *self.money.entry(entry.price.currency.clone()).or_default() += entry.money;
    }

    /// Model FLOPs per second of wall time; 0 before any time has passed.
    #[must_use]
    pub fn flops_per_second(&self) -> f64 {
        ratio(
            self.work.flops(),
            self.used.map_or(0.0, |used| used.wall_seconds),
        )
    }
}

fn ratio(count: f64, seconds: f64) -> f64 {
    if seconds > 0.0 { count / seconds } else { 0.0 }
}

/// Two stretches one after the other: sums, but the larger of the memory peaks.
fn joined(a: &Used, b: &Used) -> Used {
    let is_same = a.energy_method == b.energy_method;
    Used {
        wall_seconds: a.wall_seconds + b.wall_seconds,
        core_seconds: a.core_seconds + b.core_seconds,
        peak_memory_bytes: a.peak_memory_bytes.max(b.peak_memory_bytes),
        joules: a.joules + b.joules,
        energy_method: if is_same {
            a.energy_method
        } else {
            EnergyMethod::Mixed
        },
    }
}

/// Writes the entry in place of the one before. The row keeps its number, and so its place.
pub(super) fn write(
    database: &Connection,
    run: i64,
    stage: &str,
    entry: &Entry,
) -> rusqlite::Result<()> {
    let (used, work) = (&entry.used, &entry.work);
    let values = named_params! {
        ":run": run, ":stage": stage, ":updated": unix_seconds(),
        ":wall": used.wall_seconds, ":core": used.core_seconds,
        ":trained": to_integer(work.tokens_trained),
        ":generated": to_integer(work.tokens_generated),
        ":forward": work.flops_forward, ":backward": work.flops_backward,
        ":rollout": work.flops_rollout, ":peak_rate": entry.peak_flops_per_second,
        ":memory": used.peak_memory_bytes.map(to_integer), ":joules": used.joules,
        ":method": used.energy_method.label(), ":price": entry.price.per_core_hour,
        ":currency": entry.price.currency, ":money": entry.money,
    };
    database
        .prepare_cached(
            "INSERT INTO stage_costs VALUES (:run, :stage, :updated, :wall, :core, :trained,
                 :generated, :forward, :backward, :rollout, :peak_rate, :memory, :joules, :method,
                 :price, :currency, :money)
             ON CONFLICT (run, stage) DO UPDATE SET
                 updated = excluded.updated,
                 wall_seconds = excluded.wall_seconds,
                 core_seconds = excluded.core_seconds,
                 tokens_trained = excluded.tokens_trained,
                 tokens_generated = excluded.tokens_generated,
                 flops_forward = excluded.flops_forward,
                 flops_backward = excluded.flops_backward,
                 flops_rollout = excluded.flops_rollout,
                 peak_flops_per_second = excluded.peak_flops_per_second,
                 peak_memory_bytes = excluded.peak_memory_bytes,
                 joules = excluded.joules,
                 energy_method = excluded.energy_method,
                 price_per_core_hour = excluded.price_per_core_hour,
                 currency = excluded.currency,
                 money = excluded.money",
        )?
        .execute(values)?;
    Ok(())
}

/// The entries of a run in the order its stages began.
pub(super) fn of_run(database: &Connection, run: i64) -> rusqlite::Result<Vec<(String, Entry)>> {
    database
        .prepare_cached("SELECT * FROM stage_costs WHERE run = ?1 ORDER BY rowid")?
        .query_map([run], |row| Ok((row.get("stage")?, read(row)?)))?
        .collect()
}

fn read(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let method: String = row.get("energy_method")?;
    let memory: Option<i64> = row.get("peak_memory_bytes")?;
    Ok(Entry {
        used: Used {
            wall_seconds: row.get("wall_seconds")?,
            core_seconds: row.get("core_seconds")?,
            peak_memory_bytes: memory.map(from_integer),
            joules: row.get("joules")?,
            energy_method: match method.as_str() {
                "measured" => EnergyMethod::Measured,
                "mixed" => EnergyMethod::Mixed,
                _ => EnergyMethod::Estimated,
            },
        },
        work: Work {
            tokens_trained: from_integer(row.get("tokens_trained")?),
            tokens_generated: from_integer(row.get("tokens_generated")?),
            flops_forward: row.get("flops_forward")?,
            flops_backward: row.get("flops_backward")?,
            flops_rollout: row.get("flops_rollout")?,
        },
        peak_flops_per_second: row.get("peak_flops_per_second")?,
        price: Price {
            per_core_hour: row.get("price_per_core_hour")?,
            currency: row.get("currency")?,
        },
        money: row.get("money")?,
    })
}
