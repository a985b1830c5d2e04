//! More than a server can do: it goes on doing what it can, refuses the rest politely, recovers.

use std::time::Duration;

use frugal_run::consumption::Stopwatch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::measure::{Closed, Fate, Open, Run, Summary, ask, closed, open};
use super::{Spread, Subject};

/// Seconds at the beginning that do not count: queues fill, or empty.
const SETTLE: f64 = 2.0;
/// How long is watched whether the server recovers, and how often.
const RECOVER: f64 = 10.0;
const PROBE: Duration = Duration::from_millis(250);
/// Requests whose time to the first token is the normal one.
const NORMAL: usize = 20;
/// How much later than that a first token may come and still be normal, beside twice the time.
const SLACK: f64 = 0.05;

/// What is tried.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Overload {
    /// Clients that find out how much the server can do: more than it answers together.
    pub streams: usize,
    /// How many times that then comes.
    pub times: f64,
    /// For so long each.
    pub seconds: f64,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// Whole answers a second that the server can make.
    pub saturation: f64,
    /// Requests a second that came then.
    pub offered: f64,
    /// Whole answers a second that it made then.
    pub goodput: f64,
    /// What became of those requests.
    pub summary: Summary,
    /// Seconds from a request until it was refused.
    pub until_refused: Option<Spread>,
    /// The time to the first token of a request that is alone, in seconds.
    pub normal: f64,
    /// Seconds after the overload from which on it was so again; none if it was not.
    pub recovered: Option<f64>,
    /// Requests after the overload: when each was due, and when its first token came, if it did.
    pub after: Vec<(f64, Option<f64>)>,
}

impl Told {
    /// Whether the server did nine tenths of what it can, refused the rest with a word about when to
    /// come again, and recovered in five seconds.
    pub fn is_well(&self) -> bool {
        self.goodput >= 0.9 * self.saturation
            && self.summary.failed == 0
            && self.summary.refused_bluntly == 0
            && self.recovered.is_some_and(|seconds| seconds <= 5.0)
    }
}

impl Overload {
    /// Finds what the server can do, asks for much more, and stops.
    pub async fn run(self, subject: &Subject) -> Told {
        let saturated = Closed {
            streams: self.streams,
            requests: None,
            seconds: Some(SETTLE + self.seconds),
            first: 0,
        };
        let saturated = closed(subject, saturated).await;
        let saturation = saturated.rate_between(SETTLE, SETTLE + self.seconds);
        let alone = Closed {
            streams: 1,
            requests: Some(NORMAL),
            seconds: None,
            first: 1 << 32,
        };
        let normal = closed(subject, alone).await.summary();
        let normal = normal.first.map_or(0.0, |first| first.p50);
        let offered = self.times * saturation;
        let much = Open {
            rate: offered,
            seconds: SETTLE + self.seconds,
            first: 1 << 33,
        };
        let loading = tokio::spawn({
            let subject = subject.clone();
            async move { open(&subject, much).await }
        });
        sleep(Duration::from_secs_f64(much.seconds)).await;
        let after = after(subject).await;
        let run: Run = loading.await.unwrap_or_default();
        let refused = (run.outcomes.iter()).filter(|outcome| outcome.fate == Fate::Refused);
        Told {
            saturation,
            offered,
            goodput: run.rate_between(SETTLE, SETTLE + self.seconds),
            until_refused: Spread::of(refused.map(|outcome| outcome.whole).collect()),
            summary: run.summary(),
            normal,
            recovered: recovered(&after, normal),
            after,
        }
    }
}

/// Asks now and then after the overload.
async fn after(subject: &Subject) -> Vec<(f64, Option<f64>)> {
    let watch = Stopwatch::start();
    let mut probes = JoinSet::new();
    for index in 1 << 34.. {
        let due = watch.seconds();
        if due > RECOVER {
            break;
        }
        let subject = subject.clone();
        probes.spawn(async move {
            let call = subject.questions.call(index);
            ask(&subject.client, call, (index, due), watch).await
        });
        sleep(PROBE).await;
    }
    let outcomes = probes.join_all().await;
    let mut after: Vec<_> = (outcomes.iter())
        .map(|it| (it.due, (it.fate == Fate::Whole).then_some(it.first)))
        .collect();
    after.sort_by(|a, b| a.0.total_cmp(&b.0));
    after
}

/// When the request was due from which on a middle one of five had its first token as soon as
/// normally: one that comes late now and then is the machine's affair.
fn recovered(after: &[(f64, Option<f64>)], normal: f64) -> Option<f64> {
    let is_normal = |first: Option<f64>| first.is_some_and(|first| first <= 2.0 * normal + SLACK);
    let is_well = |some: &[(f64, Option<f64>)]| {
        let well = some.iter().filter(|(_, first)| is_normal(*first)).count();
        2 * well > some.len()
    };
    let last_ill = after.windows(5).rposition(|some| !is_well(some));
    // The window that begins after it is the first of those that are well.
    let from = last_ill.map_or(0, |last| last + 1);
    let begin = after.get(from..).filter(|rest| rest.len() >= 5)?;
    let (due, _) = begin.iter().find(|(_, first)| is_normal(*first))?;
    Some(*due)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recovered_is_who_answers_as_soon_as_before() {
        let after = |firsts: &str| -> Vec<(f64, Option<f64>)> {
            let first = |letter| match letter {
                '.' => Some(0.05),
                's' => Some(1.0),
                _ => None,
            };
            (0..)
                .zip(firsts.chars())
                .map(|(n, it)| (f64::from(n), first(it)))
                .collect()
        };
        for (firsts, expected) in [
            ("..........", Some(0.0)),
            ("-ss.......", Some(3.0)),
            ("-ss..s....", Some(3.0)),
            ("ssssss....", Some(6.0)),
            ("ssssssss..", None),
            ("-----.....", Some(5.0)),
            ("ssssss....", Some(6.0)),
            ("ssssssss..", None),
            ("", None),
        ] {
            assert_eq!(recovered(&after(firsts), 0.02), expected, "{firsts}");
        }
    }
}
