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
        let recovered = recover(subject, normal).await;
        let run: Run = loading.await.unwrap_or_default();
        let refused = (run.outcomes.iter()).filter(|outcome| outcome.fate == Fate::Refused);
        Told {
            saturation,
            offered,
            goodput: run.rate_between(SETTLE, SETTLE + self.seconds),
            until_refused: Spread::of(refused.map(|outcome| outcome.whole).collect()),
            summary: run.summary(),
            normal,
            recovered,
        }
    }
}

/// Seconds from now after which a new request's first token comes as soon as it normally does.
async fn recover(subject: &Subject, normal: f64) -> Option<f64> {
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
    let mut outcomes = probes.join_all().await;
    outcomes.sort_by(|a, b| a.due.total_cmp(&b.due));
    let is_normal = |fate: &Fate, first: f64| *fate == Fate::Whole && first <= 2.0 * normal + SLACK;
    let first_well = outcomes
        .iter()
        .rposition(|outcome| !is_normal(&outcome.fate, outcome.first))
        .map_or(0, |last_bad| last_bad + 1);
    outcomes.get(first_well).map(|outcome| outcome.due)
}
