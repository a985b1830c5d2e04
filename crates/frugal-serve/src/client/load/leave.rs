//! Clients that leave: how soon what was held for them is free.
//!
//! Watched through the gauges that our server tells; no other can be tried.

use std::time::Duration;

use frugal_run::consumption::Stopwatch;
use tokio::time::sleep;

use super::{Spread, Subject};
use crate::client::{Client, Error};

/// Within this the pages must be free, in seconds.
const IN_TIME: f64 = 0.1;
/// After this it counts as never.
const NEVER: f64 = 5.0;
/// Times as long as usual are the prompts during whose reading clients leave.
const LONG: usize = 8;
/// Tokens of answers that would not end by themselves in time.
const ENDLESS: usize = 2000;

/// What is tried.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Leave {
    /// Clients that leave, one after another, at each moment of an answer.
    pub times: usize,
    /// Others who are answered all the while.
    pub others: usize,
}

/// What came of it: seconds until nothing was held any more.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Told {
    /// After leaving in the middle of the answer.
    pub answering: Option<Spread>,
    /// After leaving when the request was taken: its prompt is being read.
    pub reading: Option<Spread>,
    /// The same as the first, while others are answered.
    pub beside_others: Option<Spread>,
}

impl Told {
    /// Whether all was free in time, always.
    pub fn is_well(&self) -> bool {
        let all = [self.answering, self.reading, self.beside_others];
        all.iter()
            .all(|spread| spread.is_some_and(|spread| spread.most <= IN_TIME))
    }
}

/// When a client leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    Taken,
    Answered,
}

impl Leave {
    /// Has clients leave, and watches.
    ///
    /// # Errors
    /// If the server tells no gauges, or does not answer.
    pub async fn run(self, subject: &Subject) -> Result<Told, Error> {
        let endless = Subject {
            questions: subject.questions.with_tokens(ENDLESS),
            ..subject.clone()
        };
        let long = Subject {
            questions: endless.questions.with_longer_prompts(LONG),
            ..endless.clone()
        };
        let answering = self.all(&endless, (Moment::Answered, PAGES)).await?;
        let reading = self.all(&long, (Moment::Taken, RUNNING)).await?;
        let mut others = Vec::new();
        for index in 0..self.others as u64 {
            let mut reply = endless
                .client
                .begin(endless.questions.call((1 << 35) + index))
                .await?;
            // The first event says only that an answer begins.
            for _ in 0..2 {
                reply.next_event().await?;
            }
            others.push(tokio::spawn(async move {
                while let Ok(Some(_)) = reply.next_event().await {}
            }));
        }
        let beside_others = self.all(&endless, (Moment::Answered, RUNNING)).await?;
        for other in others {
            other.abort();
        }
        Ok(Told {
            answering,
            reading,
            beside_others,
        })
    }

    async fn all(
        self,
        subject: &Subject,
        (moment, gauge): (Moment, &str),
    ) -> Result<Option<Spread>, Error> {
        // The first leaves behind what is kept of its prompt on purpose.
        leave(subject, (0, moment), gauge).await?;
        let mut seconds = Vec::new();
        for n in 1..=self.times as u64 {
            // Prompts that are read must be new each time; answers are watched with a known prompt,
            // of which nothing more is kept.
            let index = match moment {
                Moment::Taken => n,
                Moment::Answered => 0,
            };
            seconds.push(leave(subject, (index, moment), gauge).await?);
        }
        Ok(Spread::of(seconds))
    }
}

const PAGES: &str = "frugal_kv_cache_pages_in_use";
const RUNNING: &str = "frugal_num_requests_running";

/// One client comes and leaves; the seconds until a gauge is as low as before.
async fn leave(
    subject: &Subject,
    (index, moment): (u64, Moment),
    gauge: &str,
) -> Result<f64, Error> {
    let read = || async {
        subject.gauge(gauge).await.ok_or_else(|| Error::Status {
            expected: "the gauges of a frugal server at /metrics",
            status: 404,
            body: gauge.to_owned(),
        })
    };
    let before = read().await?;
    // A client of its own: what it does to its connection must not be another's.
    let client = Client {
        idle: std::sync::Arc::default(),
        ..subject.client.clone()
    };
    let mut reply = client
        .begin(subject.questions.call((1 << 36) + index))
        .await?;
    if moment == Moment::Answered {
        for _ in 0..4 {
            reply.next_event().await?;
        }
    }
    let watch = Stopwatch::start();
    drop(reply);
    while watch.seconds() < NEVER {
        if read().await? <= before {
            return Ok(watch.seconds());
        }
        sleep(Duration::from_millis(2)).await;
    }
    Ok(NEVER)
}
