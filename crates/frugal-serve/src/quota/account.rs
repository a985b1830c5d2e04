//! The account of one key.

use std::collections::VecDeque;

use super::{Now, Spent};
use crate::keys::Holder;
use crate::wire::error::{Fault, Kind};

/// Seconds of a window of requests.
const WINDOW: i64 = 60;
const DAY: i64 = 86_400;

#[derive(Debug, Default)]
pub(super) struct Account {
    /// Counts by second of those that entered within the window, oldest first.
    pub(super) recent: VecDeque<(i64, u32)>,
    pub(super) running: u32,
    pub(super) reserved: u64,
    pub(super) day: i64,
    pub(super) requests: u64,
    pub(super) used: Spent,
    /// Of both, what the records do not have yet.
    pub(super) new_requests: u64,
    pub(super) new_used: Spent,
}

impl Account {
    /// Begins a new day. A clock that goes back does not.
    pub(super) fn roll(&mut self, now: Now) {
        let day = day_of(now.unix);
        if day > self.day {
            self.day = day;
            self.requests = 0;
            self.used = Spent::default();
            // Of the day that is over; nobody asks for it any more.
            self.new_requests = 0;
            self.new_used = Spent::default();
        }
        let oldest = second_of(now) - WINDOW;
        while self.recent.front().is_some_and(|(at, _)| *at < oldest) {
            self.recent.pop_front();
        }
    }

    /// Whether nothing of it matters any more.
    pub(super) fn is_over(&mut self, now: Now) -> bool {
        self.running == 0 && self.day < day_of(now.unix) && {
            self.roll(now);
            self.recent.is_empty()
        }
    }

    pub(super) fn refuse_spent(&self, holder: &Holder, now: Now) -> Result<(), Fault> {
        let refuse =
            |text: String| Err(Fault::new(Kind::Balance, text).again_after(seconds_to_reset(now)));
        match (holder.limits.tokens_per_day, holder.limits.money_per_day) {
            (Some(most), _) if self.used.tokens >= most => refuse(format!(
                "this API key has used the {most} tokens that it has a day; the next begins at 00:00 UTC"
            )),
            (_, Some(most)) if self.used.money >= most => refuse(
                "this API key has used the money that it has a day; the next begins at 00:00 UTC"
                    .into(),
            ),
            _ => Ok(()),
        }
    }

    /// Seconds until one more request is within the limit; `None` if it is.
    ///
    /// Requests are counted by whole seconds, and those of the second that is about to leave the
    /// window still count: no 60 seconds ever have more than the limit.
    pub(super) fn seconds_to_wait(&self, most: u32, now: Now) -> Option<u32> {
        let counted: u64 = self.recent.iter().map(|(_, n)| u64::from(*n)).sum();
        let mut too_many = (counted + 1)
            .checked_sub(u64::from(most))
            .filter(|n| *n > 0)?;
        for (at, n) in &self.recent {
            too_many = too_many.saturating_sub(u64::from(*n));
            if too_many == 0 {
                let wait = (at + WINDOW + 1) as f64 - now.seconds;
                return Some(whole_seconds(wait));
            }
        }
        Some(whole_seconds(WINDOW as f64))
    }

    pub(super) fn count_request(&mut self, now: Now) {
        self.requests = self.requests.saturating_add(1);
        self.new_requests = self.new_requests.saturating_add(1);
        let second = second_of(now);
        match self.recent.back_mut() {
            Some((at, n)) if *at >= second => *n = n.saturating_add(1),
            _ => self.recent.push_back((second, 1)),
        }
    }
}

/// The day of a time in seconds since 1970.
pub(super) fn day_of(unix: i64) -> i64 {
    unix.div_euclid(DAY)
}

pub(super) fn seconds_to_reset(now: Now) -> u32 {
    u32::try_from(DAY - now.unix.rem_euclid(DAY)).unwrap_or(u32::MAX)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "seconds since the process began"
)]
fn second_of(now: Now) -> i64 {
    now.seconds.floor() as i64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between one and a window's seconds"
)]
fn whole_seconds(seconds: f64) -> u32 {
    seconds.ceil().clamp(1.0, WINDOW as f64 + 1.0) as u32
}
