//! Many streams for a long time: each text is the one the same request gets alone, and memory stays.

use std::sync::Arc;
use std::time::Duration;

use frugal_run::consumption::Stopwatch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::Subject;
use super::measure::{Closed, Fate, Outcome, ask, closed};
use crate::client::Error;

/// The share of the time in which the server may still come to its size.
const WARM_UP: f64 = 0.2;
/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// What is tried.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Whole {
    /// Streams at a time.
    pub streams: usize,
    /// For so long.
    pub seconds: f64,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Told {
    /// Answers that were compared.
    pub answers: usize,
    /// Of these: as they were alone.
    pub alike: usize,
    /// Not as they were alone.
    pub different: usize,
    /// Refused.
    pub refused: usize,
    /// That did not come, or not whole.
    pub failed: usize,
    /// The first thing that was wrong.
    pub example: Option<String>,
    /// Tokens a second, of answers that were alike.
    pub tokens_per_second: f64,
    /// The most memory in use before it should grow no more, in bytes.
    pub memory_before: Option<f64>,
    /// The most after.
    pub memory_after: Option<f64>,
    /// What it took.
    pub seconds: f64,
}

impl Told {
    /// How much memory grew, as a share.
    pub fn growth(&self) -> Option<f64> {
        let (before, after) = self.memory_before.zip(self.memory_after)?;
        Some(after / before - 1.0)
    }

    /// Whether nothing was lost or mixed up, and memory grew by less than a twentieth.
    pub fn is_well(&self) -> bool {
        self.answers > 0
            && self.alike == self.answers
            && self.growth().is_none_or(|growth| growth < 0.05)
    }

    fn count(&mut self, outcome: &Outcome, alone: &str) {
        self.answers += 1;
        let mut wrong = |what: String| {
            self.example.get_or_insert(what);
        };
        match &outcome.fate {
            Fate::Whole if outcome.text == alone => self.alike += 1,
            Fate::Whole => {
                let cut = |text: &str| text.chars().take(60).collect::<String>();
                wrong(format!(
                    "request {}: expected `{}`, got `{}`",
                    outcome.index,
                    cut(alone),
                    cut(&outcome.text)
                ));
                self.different += 1;
            }
            Fate::Refused | Fate::RefusedBluntly => {
                wrong(format!("request {} was refused", outcome.index));
                self.refused += 1;
            }
            Fate::Failed(why) => {
                wrong(format!("request {}: {why}", outcome.index));
                self.failed += 1;
            }
        }
    }
}

impl Whole {
    /// Asks each request alone, then all of them at a time, again and again.
    ///
    /// # Errors
    /// If one is not answered when it is alone.
    pub async fn run(self, subject: &Subject) -> Result<Told, Error> {
        let alone = self.alone(subject).await?;
        let watch = Stopwatch::start();
        let mut streams = JoinSet::new();
        for (index, alone) in (0..).zip(alone) {
            let subject = subject.clone();
            streams.spawn(async move {
                let mut told = Told::default();
                let mut tokens = 0;
                while watch.seconds() < self.seconds {
                    let call = subject.questions.call(index);
                    let due = watch.seconds();
                    let outcome = ask(&subject.client, call, (index, due), watch).await;
                    told.count(&outcome, &alone);
                    tokens += outcome.tokens;
                    if outcome.fate != Fate::Whole {
                        sleep(Duration::from_millis(100)).await;
                    }
                }
                (told, tokens)
            });
        }
        let looking = tokio::spawn(look(subject.clone(), watch, self.seconds));
        let mut all = Told::default();
        let mut all_tokens = 0;
        while let Some(Ok((told, tokens))) = streams.join_next().await {
            all.answers += told.answers;
            all.alike += told.alike;
            all.different += told.different;
            all.refused += told.refused;
            all.failed += told.failed;
            all.example = all.example.or(told.example);
            all_tokens += tokens;
        }
        all.seconds = watch.seconds();
        all.tokens_per_second = all_tokens as f64 / all.seconds;
        if let Ok((before, after)) = looking.await {
            (all.memory_before, all.memory_after) = (before, after);
        }
        Ok(all)
    }

    /// What each request is answered when there is no other.
    async fn alone(self, subject: &Subject) -> Result<Vec<Arc<str>>, Error> {
        let one_by_one = Closed {
            streams: 1,
            requests: Some(self.streams),
            seconds: None,
            first: 0,
        };
        let run = closed(subject, one_by_one).await;
        let text = |outcome: Outcome| match outcome.fate {
            Fate::Whole => Ok(Arc::from(outcome.text)),
            fate => Err(Error::Status {
                expected: "an answer to a request that is alone",
                status: 0,
                body: format!("{fate:?}"),
            }),
        };
        run.outcomes.into_iter().map(text).collect()
    }
}

/// The most memory in use, before and after the server should have come to its size.
async fn look(subject: Subject, watch: Stopwatch, seconds: f64) -> (Option<f64>, Option<f64>) {
    let (mut before, mut after) = (None::<f64>, None::<f64>);
    loop {
        let now = watch.seconds();
        if now >= seconds {
            return (before, after);
        }
        let memory = subject.memory().await;
        let most = if now < seconds * WARM_UP {
            &mut before
        } else {
            &mut after
        };
        *most = match (*most, memory) {
            (Some(most), Some(memory)) => Some(most.max(memory)),
            (most, memory) => most.or(memory),
        };
        sleep(LOOK).await;
    }
}
