//! The files of a run as a stream of events, from byte offsets on, while they grow.
//!
//! ```text
//! {"file":"journal","offset":1234,"lines":[…]}     whole lines; the next one begins at that offset
//! {"file":"journal","reset":true}                  what came of this file is void; it comes anew
//! {"state":"running","stopping":false,"stages":[…]} after all there is was sent, and when it changes
//! ```
//!
//! A client that was cut off asks again from the offsets it was told. Looking at files may wait for a
//! disk, so it is done apart from the threads that serve; how many may watch is bounded.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use frugal_run::consumption::Stopwatch;
use futures_util::Stream;
use futures_util::stream::unfold;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep;

use super::progress::{JOURNAL, SAMPLES, TIMINGS};
use super::tail::{News, Read, Tail};
use super::{Known, Runs, Standing};
use crate::server::stream::Event;
use crate::server::{Shutdown, Stage};
use crate::wire::error::{Fault, Kind};

/// Between two looks at files that do not change.
const PAUSE: Duration = Duration::from_millis(400);
/// So many looks without news are between two at how the run stands.
const LOOKS: u32 = 4;
/// How long one stream lasts; then the client asks again, and is let in again or not.
const LIFE: Duration = Duration::from_mins(15);

/// Where to go on in each file.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(super) struct Offsets {
    #[serde(default)]
    journal: u64,
    #[serde(default)]
    timings: u64,
    #[serde(default)]
    samples: u64,
}

/// One client that watches a run.
struct Watch {
    runs: Arc<Runs>,
    id: String,
    known: Arc<Known>,
    tails: [Tail; 3],
    told: Option<Standing>,
    looks: u32,
    ready: VecDeque<Event>,
}

/// What holds a stream open.
struct Open {
    watch: Option<Watch>,
    ready: VecDeque<Event>,
    shutdown: Shutdown,
    age: Stopwatch,
    _permit: OwnedSemaphorePermit,
}

/// The events of a run.
///
/// # Errors
/// No such run; too many who watch.
pub(super) fn watch(
    runs: &Arc<Runs>,
    id: &str,
    offsets: Offsets,
    shutdown: &Shutdown,
) -> Result<impl Stream<Item = Event> + Send + use<>, Fault> {
    let permit = Arc::clone(&runs.watchers).try_acquire_owned();
    let permit = permit.map_err(|_| {
        Fault::new(Kind::Busy, "too many pages watch runs at the moment").again_after(10)
    })?;
    let watch = Watch {
        known: runs.known(id)?,
        runs: Arc::clone(runs),
        id: id.to_owned(),
        tails: [
            Tail::at(JOURNAL, offsets.journal),
            Tail::at(TIMINGS, offsets.timings),
            Tail::at(SAMPLES, offsets.samples),
        ],
        told: None,
        looks: 0,
        ready: VecDeque::new(),
    };
    let open = Open {
        watch: Some(watch),
        ready: VecDeque::new(),
        shutdown: shutdown.clone(),
        age: Stopwatch::start(),
        _permit: permit,
    };
    Ok(unfold(open, |mut open| async move {
        let event = open.next().await?;
        Some((event, open))
    }))
}

impl Open {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            // Also where there is always something new.
            let is_over = self.age.seconds() >= LIFE.as_secs_f64();
            if is_over || self.shutdown.stage() >= Stage::Draining {
                return None;
            }
            let mut watch = self.watch.take()?;
            let looked = tokio::task::spawn_blocking(move || {
                watch.look();
                watch
            });
            let mut watch = looked.await.ok()?;
            self.ready.append(&mut watch.ready);
            self.watch = Some(watch);
            if self.ready.is_empty() {
                tokio::select! {
                    () = sleep(PAUSE) => {}
                    () = self.shutdown.reached(Stage::Draining) => return None,
                }
            }
        }
    }
}

impl Watch {
    /// Reads on in each file; where none has news, looks how the run stands.
    fn look(&mut self) {
        for tail in &mut self.tails {
            let read = tail.read(&self.known.inside);
            let file = tail.name().trim_end_matches(".jsonl");
            let event = match read {
                Read::Nothing => continue,
                Read::Lines(news) => event(file, &news),
                Read::Reset => json!({ "file": file, "reset": true }).to_string(),
                Read::Damaged => json!({ "file": file, "damaged": true }).to_string(),
            };
            self.ready.push_back(Event::new(event));
        }
        if !self.ready.is_empty() {
            return;
        }
        let is_due = self.told.is_none() || self.looks.is_multiple_of(LOOKS);
        self.looks = self.looks.wrapping_add(1);
        if !is_due {
            return;
        }
        let standing = self.runs.standing(&self.id, &self.known);
        // Steps are told by the journal.
        if !self.told.as_ref().is_some_and(|told| told.is_as(&standing)) {
            if let Ok(text) = serde_json::to_string(&standing) {
                self.ready.push_back(Event::new(text));
            }
            self.told = Some(standing);
        }
    }
}

/// Lines as they are in the file: each is known to be JSON.
fn event(file: &str, news: &News) -> String {
    let bytes: usize = news.lines.iter().map(|line| line.len() + 1).sum();
    let mut text = String::with_capacity(bytes + 64);
    text.push_str("{\"file\":\"");
    text.push_str(file);
    text.push_str("\",\"offset\":");
    text.push_str(&news.offset.to_string());
    if news.skipped > 0 {
        text.push_str(",\"skipped\":");
        text.push_str(&news.skipped.to_string());
    }
    text.push_str(",\"lines\":[");
    for (index, line) in news.lines.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        text.push_str(line);
    }
    text.push_str("]}");
    text
}
