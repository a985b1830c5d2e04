//! How much of its allowance each key has used.
//!
//! A request passes three gates: [`Quotas::enter`] before its body is looked at (requests per
//! minute, requests under way, a day's allowance already spent), [`Pass::reserve`] once its tokens
//! are counted, and when its [`Pass`] is dropped what it really took replaces what was reserved.
//!
//! Days begin at midnight UTC. What a day has used is written to `frugal.db` every few seconds and at
//! the end, so a restart does not grant a new day; a kill loses at most those seconds. Servers of one
//! home add to the same day. Requests per minute and those under way are each server's own.
//!
//! What is charged is what the answer says it used: the tokens of prompt and answer, and the money of
//! the rows computed for it, drafts in vain among them, without what the engine computed again because
//! it had put the answer back. Who leaves once the prompt is being read, or has an answer cut off by
//! the time it may take, pays for the whole prompt and for what was answered until then. Nothing is
//! charged for a request that is refused, that waited for its turn in vain, or that failed by the
//! server's own fault; it counts as a request nevertheless.
//!
//! An answer's tokens are reserved up to [`RESERVED_ANSWER_TOKENS`], not up to a limit of the
//! model's length that nearly none reaches: a day may so end a little above its allowance, but
//! nobody with half a day left is refused for asking without `max_tokens`.
//!
//! Time is passed in as [`Now`]; memory is an account of some hundred bytes for each key that came
//! today.

mod account;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use frugal_run::consumption::{Stopwatch, unix_seconds};
use rusqlite::params;
use serde::Serialize;

use crate::keys::{Holder, KeysError, Records, from_integer, to_integer};
use crate::wire::error::{Fault, Kind};
use account::{Account, day_of, seconds_to_reset};

/// Tokens of one answer that are reserved at most.
pub const RESERVED_ANSWER_TOKENS: u64 = 4096;
/// Seconds between two writings of what was used.
const WRITE_SECONDS: f64 = 3.0;

/// A moment, on both clocks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Now {
    /// Seconds since 1970, for days and ends of keys. It may jump.
    pub unix: i64,
    /// Seconds since some start, for everything shorter. It does not.
    pub seconds: f64,
}

/// Tells the time.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Stopwatch);

impl Clock {
    /// One that starts now.
    pub fn start() -> Self {
        Self(Stopwatch::start())
    }

    /// This moment.
    pub fn now(&self) -> Now {
        Now {
            unix: unix_seconds(),
            seconds: self.0.seconds(),
        }
    }
}

/// What was used.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Spent {
    /// Tokens of prompts and answers.
    pub tokens: u64,
    /// Money.
    pub money: f64,
}

impl Spent {
    fn add(&mut self, other: Self) {
        self.tokens = self.tokens.saturating_add(other.tokens);
        self.money += other.money;
    }
}

/// What a request wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Tokens of its prompt.
    pub prompt_tokens: usize,
    /// The most tokens of each answer, if it says so.
    pub max_tokens: Option<usize>,
    /// Answers.
    pub n: usize,
}

impl Wanted {
    fn tokens(self) -> u64 {
        let most = self.max_tokens.map_or(RESERVED_ANSWER_TOKENS, count);
        let answers = most
            .min(RESERVED_ANSWER_TOKENS)
            .saturating_mul(count(self.n));
        count(self.prompt_tokens).saturating_add(answers)
    }
}

/// What a key has used of a day.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Used {
    /// Number of the key; 0 for those without one.
    pub key: i64,
    /// Requests.
    pub requests: u64,
    /// What they took.
    pub spent: Spent,
}

/// The accounts of all keys.
#[derive(Debug)]
pub struct Quotas {
    state: Mutex<State>,
    records: Option<Mutex<Records>>,
}

#[derive(Debug, Default)]
struct State {
    accounts: BTreeMap<i64, Account>,
    written: f64,
}

impl Quotas {
    /// Those of a home, with what today has used already.
    ///
    /// # Errors
    /// A home that cannot be written, records that cannot be read.
    pub fn open(home: &Path) -> Result<Self, KeysError> {
        let records = Records::open(home)?;
        let rows = read_days(&records)?.into_iter();
        let accounts = rows.map(|(key, day, requests, used)| {
            let account = Account {
                day,
                requests,
                used,
                ..Account::default()
            };
            (key, account)
        });
        Ok(Self {
            state: Mutex::new(State {
                accounts: accounts.collect(),
                written: 0.0,
            }),
            records: Some(Mutex::new(records)),
        })
    }

    /// Those of a server that keeps none.
    pub fn in_memory() -> Self {
        Self {
            state: Mutex::default(),
            records: None,
        }
    }

    /// Lets a request in and counts it, or says when to try again. A request that is refused does
    /// not count.
    ///
    /// # Errors
    /// [`Kind::RateLimit`] for too many requests, [`Kind::Balance`] for a day that is spent.
    pub fn enter(self: &Arc<Self>, holder: &Holder, now: Now) -> Result<Pass, Fault> {
        let limits = &holder.limits;
        let mut state = self.state();
        let account = state.account(holder.id, now);
        if let Some(most) = limits.concurrent
            && account.running >= most
        {
            let text = format!(
                "expected at most {most} requests under way with this API key, got one more"
            );
            return Err(Fault::new(Kind::RateLimit, text).again_after(1));
        }
        account.refuse_spent(holder, now)?;
        if let Some(most) = limits.requests_per_minute
            && let Some(seconds) = account.seconds_to_wait(most, now)
        {
            let text = format!(
                "expected at most {most} requests a minute with this API key, got one more"
            );
            return Err(Fault::new(Kind::RateLimit, text).again_after(seconds));
        }
        account.count_request(now);
        account.running = account.running.saturating_add(1);
        Ok(Pass {
            quotas: Arc::clone(self),
            holder: holder.clone(),
            reserved: 0,
            spent: Spent::default(),
        })
    }

    /// What each key has used of today, in order of keys.
    pub fn today(&self, now: Now) -> Vec<Used> {
        let mut state = self.state();
        let accounts = state.accounts.iter_mut().map(|(key, account)| {
            account.roll(now);
            Used {
                key: *key,
                requests: account.requests,
                spent: account.used,
            }
        });
        accounts.collect()
    }

    /// Writes what was used, if it is time to. Call it every second or so, on a thread that may
    /// wait for a disk.
    ///
    /// # Errors
    /// A database that refuses; it is tried again with the next call.
    pub fn write_some(&self, now: Now) -> Result<(), KeysError> {
        let mut state = self.state();
        if now.seconds - state.written < WRITE_SECONDS {
            return Ok(());
        }
        state.written = now.seconds;
        state.accounts.retain(|_, account| !account.is_over(now));
        drop(state);
        self.write_all()
    }

    /// Writes what was used. Call it at the end.
    ///
    /// # Errors
    /// A database that refuses.
    pub fn write_all(&self) -> Result<(), KeysError> {
        let Some(records) = &self.records else {
            return Ok(());
        };
        let mut records = records.lock().unwrap_or_else(PoisonError::into_inner);
        // Requests go on while the disk is written to.
        let news = self.state().take_news();
        if news.is_empty() {
            return Ok(());
        }
        let written = records.change("write the use of", |change| {
            let mut write = change.prepare_cached(WRITE_DAY)?;
            let write = news.iter().map(|news| {
                let Spent { tokens, money } = news.used;
                let values = params![
                    news.key,
                    news.day,
                    to_integer(news.requests),
                    to_integer(tokens),
                    money
                ];
                write.query_row(values, read_day)
            });
            write.collect::<rusqlite::Result<Vec<_>>>()
        });
        let mut state = self.state();
        match &written {
            Ok(days) => state.has_written(days),
            Err(_) => state.give_back(&news),
        }
        written.map(drop)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Quotas {
    fn drop(&mut self) {
        if let Err(error) = self.write_all() {
            tracing::error!(%error, "what keys used was not written");
        }
    }
}

/// What the keys of a home have used of the day of a time, in order of keys; servers write it every few
/// seconds.
///
/// # Errors
/// A database that refuses.
pub fn used_on(home: &Path, unix: i64) -> Result<Vec<Used>, KeysError> {
    let days = read_days(&Records::open(home)?)?.into_iter();
    let days = days.filter(|(_, day, ..)| *day == day_of(unix));
    let days = days.map(|(key, _, requests, spent)| Used {
        key,
        requests,
        spent,
    });
    Ok(days.collect())
}

/// A request under way. Dropping it ends the request: what it took is charged, the rest of what it
/// reserved is free, and so is its place.
#[derive(Debug)]
pub struct Pass {
    quotas: Arc<Quotas>,
    holder: Holder,
    reserved: u64,
    spent: Spent,
}

impl Pass {
    /// Whose it is.
    pub fn holder(&self) -> &Holder {
        &self.holder
    }

    /// Reserves what the request may take at most. With several prompts, call it for each.
    ///
    /// # Errors
    /// [`Kind::Balance`] if the day has not that much left, [`Kind::RateLimit`] if it has but for
    /// what other requests have reserved.
    pub fn reserve(&mut self, wanted: Wanted, now: Now) -> Result<(), Fault> {
        let tokens = wanted.tokens();
        let quotas = Arc::clone(&self.quotas);
        let mut state = quotas.state();
        let account = state.account(self.holder.id, now);
        account.refuse_spent(&self.holder, now)?;
        if let Some(most) = self.holder.limits.tokens_per_day {
            let left = most.saturating_sub(account.used.tokens);
            if tokens > left {
                let text = format!(
                    "expected at most {left} tokens, which this API key has left of its {most} a day, got a request for {tokens}"
                );
                return Err(Fault::new(Kind::Balance, text).again_after(seconds_to_reset(now)));
            }
            if tokens > left.saturating_sub(account.reserved) {
                let text = format!(
                    "expected at most {left} tokens in all requests under way with this API key, got one for {tokens} more"
                );
                return Err(Fault::new(Kind::RateLimit, text).again_after(1));
            }
        }
        account.reserved = account.reserved.saturating_add(tokens);
        self.reserved = self.reserved.saturating_add(tokens);
        Ok(())
    }

    /// Says what the request has taken so far, in all. The last word counts, even where the request
    /// ends because its client has left.
    pub fn spent(&mut self, spent: Spent) {
        self.spent = spent;
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut state = self.quotas.state();
        // No clock here: what ends just after midnight is charged to the day of the key's last
        // request, or the next.
        if let Some(account) = state.accounts.get_mut(&self.holder.id) {
            account.running = account.running.saturating_sub(1);
            account.reserved = account.reserved.saturating_sub(self.reserved);
            account.used.add(self.spent);
            account.new_used.add(self.spent);
        }
    }
}

impl State {
    fn account(&mut self, key: i64, now: Now) -> &mut Account {
        let account = self.accounts.entry(key).or_default();
        account.roll(now);
        account
    }

    /// What the records do not have yet. Without a key there is nothing to limit later.
    fn take_news(&mut self) -> Vec<News> {
        let accounts = self.accounts.iter_mut().filter(|(key, _)| **key != 0);
        let news = accounts.map(|(key, account)| News {
            key: *key,
            day: account.day,
            requests: std::mem::take(&mut account.new_requests),
            used: std::mem::take(&mut account.new_used),
        });
        news.filter(|news| news.requests > 0 || news.used != Spent::default())
            .collect()
    }

    fn give_back(&mut self, news: &[News]) {
        for news in news {
            if let Some(account) = self.accounts.get_mut(&news.key)
                && account.day == news.day
            {
                account.new_requests += news.requests;
                account.new_used.add(news.used);
            }
        }
    }

    /// The records have the sum of all servers of the home.
    fn has_written(&mut self, days: &[(i64, i64, u64, Spent)]) {
        for (key, day, requests, used) in days {
            if let Some(account) = self.accounts.get_mut(key)
                && account.day == *day
            {
                account.requests = requests.saturating_add(account.new_requests);
                account.used = *used;
                account.used.add(account.new_used);
            }
        }
    }
}

/// What the records do not have yet of a key.
#[derive(Debug)]
struct News {
    key: i64,
    day: i64,
    requests: u64,
    used: Spent,
}

/// Adds to a day of a key, or begins one.
const WRITE_DAY: &str = "
INSERT INTO key_days (key, day, requests, tokens, money) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT (key) DO UPDATE SET
    requests = iif(day < excluded.day, 0, requests) + excluded.requests,
    tokens = iif(day < excluded.day, 0, tokens) + excluded.tokens,
    money = iif(day < excluded.day, 0.0, money) + excluded.money,
    day = max(day, excluded.day)
RETURNING key, day, requests, tokens, money";

fn read_day(row: &rusqlite::Row<'_>) -> rusqlite::Result<(i64, i64, u64, Spent)> {
    let spent = Spent {
        tokens: from_integer(row.get(3)?),
        money: row.get(4)?,
    };
    Ok((row.get(0)?, row.get(1)?, from_integer(row.get(2)?), spent))
}

fn read_days(records: &Records) -> Result<Vec<(i64, i64, u64, Spent)>, KeysError> {
    records.read(|database| {
        let mut days = database
            .prepare("SELECT key, day, requests, tokens, money FROM key_days ORDER BY key")?;
        days.query_map([], read_day)?.collect()
    })
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
