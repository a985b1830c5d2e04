//! How fast: clients in a closed loop, and arrivals in an open one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use frugal_core::rng::{Rng, key};
use frugal_run::consumption::Stopwatch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{Spread, Subject};
use crate::client::heard::hear;
use crate::client::{Call, Client};

/// After so long an answer counts as failed.
const MOST_SECONDS: Duration = Duration::from_mins(20);

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// All of the answer came.
    Whole,
    /// The server had no room, and said when to come again.
    Refused,
    /// The server had no room, and did not say when to come again.
    RefusedBluntly,
    /// Anything else.
    Failed(String),
}

/// A request and its answer. Moments are in seconds since the measurement began, spans since the
/// request was due.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Its number.
    pub index: u64,
    /// What became of it.
    pub fate: Fate,
    /// When it was due.
    pub due: f64,
    /// When it had ended.
    pub ended: f64,
    /// Span until the first piece of text.
    pub first: f64,
    /// Span until the end.
    pub whole: f64,
    /// Mean time between its tokens, after the first.
    pub per_token: Option<f64>,
    /// Tokens of the answer.
    pub tokens: usize,
    /// Tokens of the prompt, where the server says.
    pub prompt_tokens: Option<usize>,
    /// Thought and answer.
    pub text: String,
}

/// Asks, and tells what became of it.
pub async fn ask(
    client: &Client,
    call: Call,
    (index, due): (u64, f64),
    watch: Stopwatch,
) -> Outcome {
    let sent = watch.seconds();
    let late = (sent - due).max(0.0);
    let heard = timeout(MOST_SECONDS, hear(client, call)).await;
    let ended = watch.seconds();
    let mut outcome = Outcome {
        index,
        fate: Fate::Failed("no end in time".into()),
        due,
        ended,
        first: ended - due,
        whole: ended - due,
        per_token: None,
        tokens: 0,
        prompt_tokens: None,
        text: String::new(),
    };
    let heard = match heard {
        Err(_) => return outcome,
        Ok(Err(error)) => {
            outcome.fate = Fate::Failed(chain(&error));
            return outcome;
        }
        Ok(Ok(heard)) => heard,
    };
    outcome.fate = match heard.status {
        200 if heard.is_whole() => Fate::Whole,
        _ if heard.is_refused() && heard.retry_after.is_some() => Fate::Refused,
        _ if heard.is_refused() => Fate::RefusedBluntly,
        status => {
            let why = heard.error.as_deref().unwrap_or("the stream broke off");
            let why: String = why.chars().take(200).collect();
            Fate::Failed(format!("status {status}: {why}"))
        }
    };
    outcome.tokens = heard.n_tokens();
    outcome.prompt_tokens = heard.prompt_tokens();
    if let (Some(first), Some(last)) = (heard.pieces.first(), heard.pieces.last()) {
        outcome.first = late + first;
        let steps = outcome.tokens.saturating_sub(1);
        outcome.per_token = (steps > 0).then(|| (last - first) / steps as f64);
    }
    outcome.text = heard.thought + &heard.text;
    outcome
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Clients that ask again when they are answered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Closed {
    /// How many.
    pub streams: usize,
    /// Requests in all; none begins after so many.
    pub requests: Option<usize>,
    /// None begins after so long.
    pub seconds: Option<f64>,
    /// The number of the first request.
    pub first: u64,
}

/// Clients that come at random moments.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Open {
    /// Requests a second.
    pub rate: f64,
    /// For so long.
    pub seconds: f64,
    /// The number of the first request.
    pub first: u64,
}

/// Requests and how long they took together.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Run {
    /// Every request.
    pub outcomes: Vec<Outcome>,
    /// Until the last had ended.
    pub seconds: f64,
}

/// Runs a closed loop.
pub async fn closed(subject: &Subject, how: Closed) -> Run {
    let watch = Stopwatch::start();
    let next = Arc::new(AtomicU64::new(0));
    let mut streams = JoinSet::new();
    for _ in 0..how.streams {
        let (subject, next) = (subject.clone(), Arc::clone(&next));
        streams.spawn(async move {
            let mut outcomes = Vec::new();
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                let now = watch.seconds();
                let is_over = how.requests.is_some_and(|most| n >= most as u64)
                    || how.seconds.is_some_and(|most| now >= most);
                if is_over {
                    return outcomes;
                }
                let index = how.first + n;
                let call = subject.questions.call(index);
                let outcome = ask(&subject.client, call, (index, now), watch).await;
                // Who is refused, or cannot connect, comes again after a moment.
                let has_failed = outcome.fate != Fate::Whole;
                outcomes.push(outcome);
                if has_failed {
                    sleep(Duration::from_millis(100)).await;
                }
            }
        });
    }
    gather(streams, watch).await
}

/// Runs an open loop.
pub async fn open(subject: &Subject, how: Open) -> Run {
    let watch = Stopwatch::start();
    let mut requests = JoinSet::new();
    for (n, due) in (0..).zip(arrivals(how)) {
        let early = due - watch.seconds();
        if early > 0.0 {
            sleep(Duration::from_secs_f64(early)).await;
        }
        let index = how.first + n;
        let subject = subject.clone();
        requests.spawn(async move {
            let call = subject.questions.call(index);
            vec![ask(&subject.client, call, (index, due), watch).await]
        });
    }
    gather(requests, watch).await
}

async fn gather(mut tasks: JoinSet<Vec<Outcome>>, watch: Stopwatch) -> Run {
    let mut outcomes = Vec::new();
    while let Some(done) = tasks.join_next().await {
        outcomes.extend(done.unwrap_or_default());
    }
    outcomes.sort_by_key(|outcome| outcome.index);
    Run {
        outcomes,
        seconds: watch.seconds(),
    }
}

/// The moments of arrivals that know nothing of each other: the spans between them are exponential.
fn arrivals(how: Open) -> Vec<f64> {
    let mut rng = Rng::derive(&[key("arrivals"), how.rate.to_bits(), how.first]);
    let mut moments = Vec::new();
    let mut now = 0.0;
    loop {
        now -= (1.0 - f64::from(rng.uniform())).ln() / how.rate;
        // A rate that is no number ends it as well.
        if now.partial_cmp(&how.seconds) != Some(std::cmp::Ordering::Less) {
            return moments;
        }
        moments.push(now);
    }
}

/// What a run comes to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Summary {
    /// Requests whose whole answer came.
    pub whole: usize,
    /// Refused, and told when to come again.
    pub refused: usize,
    /// Refused without that.
    pub refused_bluntly: usize,
    /// Failed in another way.
    pub failed: usize,
    /// How the first of those failed.
    pub failure: Option<String>,
    /// Mean tokens of a prompt.
    pub prompt_tokens: f64,
    /// Mean tokens of an answer.
    pub tokens: f64,
    /// Tokens of whole answers a second.
    pub tokens_per_second: f64,
    /// Whole answers a second.
    pub requests_per_second: f64,
    /// Seconds until the first text, of whole answers.
    pub first: Option<Spread>,
    /// Seconds for each token after the first.
    pub per_token: Option<Spread>,
    /// Seconds until the end.
    pub latency: Option<Spread>,
    /// What it took.
    pub seconds: f64,
}

impl Run {
    /// Sums it up.
    pub fn summary(&self) -> Summary {
        let count = |is: &dyn Fn(&Fate) -> bool| {
            let those = self.outcomes.iter().filter(|outcome| is(&outcome.fate));
            those.count()
        };
        let whole: Vec<&Outcome> = self.whole().collect();
        let spread = |of: fn(&Outcome) -> Option<f64>| {
            Spread::of(whole.iter().copied().filter_map(of).collect())
        };
        let tokens: usize = whole.iter().map(|outcome| outcome.tokens).sum();
        let prompts: usize = whole
            .iter()
            .filter_map(|outcome| outcome.prompt_tokens)
            .sum();
        let n = whole.len().max(1) as f64;
        let seconds = self.seconds.max(f64::MIN_POSITIVE);
        Summary {
            whole: whole.len(),
            refused: count(&|fate| *fate == Fate::Refused),
            refused_bluntly: count(&|fate| *fate == Fate::RefusedBluntly),
            failed: count(&|fate| matches!(fate, Fate::Failed(_))),
            failure: self
                .outcomes
                .iter()
                .find_map(|outcome| match &outcome.fate {
                    Fate::Failed(why) => Some(why.clone()),
                    _ => None,
                }),
            prompt_tokens: prompts as f64 / n,
            tokens: tokens as f64 / n,
            tokens_per_second: tokens as f64 / seconds,
            requests_per_second: whole.len() as f64 / seconds,
            first: spread(|outcome| Some(outcome.first)),
            per_token: spread(|outcome| outcome.per_token),
            latency: spread(|outcome| Some(outcome.whole)),
            seconds: self.seconds,
        }
    }

    /// Requests whose whole answer came.
    pub fn whole(&self) -> impl Iterator<Item = &Outcome> {
        self.outcomes
            .iter()
            .filter(|outcome| outcome.fate == Fate::Whole)
    }

    /// Whole answers a second among those that ended between two moments.
    pub fn rate_between(&self, from: f64, to: f64) -> f64 {
        let those = self
            .whole()
            .filter(|outcome| (from..to).contains(&outcome.ended));
        those.count() as f64 / (to - from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_come_at_their_rate_and_know_nothing_of_each_other() {
        let moments = arrivals(Open {
            rate: 50.0,
            seconds: 200.0,
            first: 3,
        });
        // The number of arrivals has the deviation of its root; four of them are allowed.
        assert!(
            (moments.len() as f64 - 10_000.0).abs() < 400.0,
            "{}",
            moments.len()
        );
        assert!(moments.windows(2).all(|pair| pair[0] <= pair[1]));
        let spans: Vec<f64> = moments.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = spans.iter().sum::<f64>() / spans.len() as f64;
        let squares = spans.iter().map(|span| (span - mean).powi(2)).sum::<f64>();
        let deviation = (squares / spans.len() as f64).sqrt();
        // Of exponential spans the deviation is the mean.
        assert!((deviation / mean - 1.0).abs() < 0.1, "{deviation} {mean}");
    }
}
