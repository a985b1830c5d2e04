//! What runs cost, as the page reads it: the ledger's entries and sums with their units in the names.

use std::collections::BTreeMap;

use frugal_run::consumption::Used;
use frugal_run::ledger::{Bill, Entry, Total, Work};
use serde::Serialize;

/// What a stage, a run or everything cost.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Spent {
    /// On the wall.
    seconds: f64,
    core_seconds: f64,
    peak_memory_bytes: Option<u64>,
    joules: f64,
    /// How the joules came about; none where nothing was used.
    energy: Option<&'static str>,
    tokens_trained: u64,
    tokens_generated: u64,
    flops_forward: f64,
    flops_backward: f64,
    flops_rollout: f64,
    /// By currency.
    money: BTreeMap<String, f64>,
}

impl Spent {
    fn new(used: Option<&Used>, work: &Work, money: BTreeMap<String, f64>) -> Self {
        Self {
            seconds: used.map_or(0.0, |used| used.wall_seconds),
            core_seconds: used.map_or(0.0, |used| used.core_seconds),
            peak_memory_bytes: used.and_then(|used| used.peak_memory_bytes),
            joules: used.map_or(0.0, |used| used.joules),
            energy: used.map(|used| used.energy_method.label()),
            tokens_trained: work.tokens_trained,
            tokens_generated: work.tokens_generated,
            flops_forward: work.flops_forward,
            flops_backward: work.flops_backward,
            flops_rollout: work.flops_rollout,
            money,
        }
    }

    /// A sum of the ledger.
    pub(super) fn of(total: &Total) -> Self {
        Self::new(total.used.as_ref(), &total.work, total.money.clone())
    }

    /// Seconds on the wall.
    pub(super) fn seconds(&self) -> f64 {
        self.seconds
    }
}

/// What a stage cost.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct StageBill {
    stage: String,
    #[serde(flatten)]
    spent: Spent,
    /// Of the model, per second on the wall.
    flops_per_second: f64,
    /// That rate as a share of the machine's peak, where that was measured.
    share_of_peak: Option<f64>,
    price_per_core_hour: f64,
    currency: String,
}

impl StageBill {
    fn of(stage: &str, entry: &Entry) -> Self {
        let money = BTreeMap::from([(entry.price.currency.clone(), entry.money)]);
        Self {
            stage: stage.to_owned(),
            spent: Spent::new(Some(&entry.used), &entry.work, money),
            flops_per_second: entry.flops_per_second(),
            share_of_peak: entry.share_of_peak(),
            price_per_core_hour: entry.price.per_core_hour,
            currency: entry.price.currency.clone(),
        }
    }

    /// Those of a bill, in the order the stages began.
    pub(super) fn all(bill: &Bill) -> Vec<Self> {
        let stages = bill.stages.iter();
        stages
            .map(|(stage, entry)| Self::of(stage, entry))
            .collect()
    }
}

/// What was paid for and left no folder to look at: answers of servers, runs whose folder is gone.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Other {
    /// Name of the recipe, or of the verb.
    recipe: String,
    /// How many there were.
    count: usize,
    spent: Spent,
}

/// Bills summed by the name of their recipe.
pub(super) fn summed<'a>(bills: impl Iterator<Item = &'a Bill>) -> Vec<Other> {
    let mut sums: BTreeMap<&str, (usize, Total)> = BTreeMap::new();
    for bill in bills {
        let (count, total) = sums.entry(&bill.run.recipe).or_default();
        *count += 1;
        bill.stages.iter().for_each(|(_, entry)| total.add(entry));
    }
    sums.into_iter()
        .map(|(recipe, (count, total))| Other {
            recipe: recipe.to_owned(),
            count,
            spent: Spent::of(&total),
        })
        .collect()
}
