//! The engine's thread: who begins, who goes on, who ends.
//!
//! Round by round: take jobs, drop those whose client left, begin what there is room for, one step of
//! all who answer, one part of the prompts being read. What a step does is in `turn.rs`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use super::job::{EngineSettings, Gauges, Submitted};
use super::prefix::Prompts;
use super::sample::{Reading, Request, Sample};
use super::schedule::Queue;
use super::{End, Event, Facts, Result, TokenModel};

/// Tokens of kept prompts at most, in times those that the cache has room for.
const KEPT_TIMES: usize = 16;
/// How often an idle engine looks whether it is to stop.
const IDLE: Duration = Duration::from_millis(50);

/// An engine at work.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) model: Box<dyn TokenModel>,
    pub(super) settings: EngineSettings,
    pub(super) gauges: Arc<Gauges>,
    pub(super) facts: Facts,
    /// Jobs that have not begun, and samples that were put back.
    pub(super) queue: Queue<Vec<Sample>>,
    pub(super) prompts: Prompts,
    pub(super) reading: VecDeque<Reading>,
    pub(super) answering: Vec<Sample>,
    /// Seconds of a row of a prompt, of late.
    pub(super) seconds_per_row: f64,
}

impl Run {
    pub(super) fn new(
        model: Box<dyn TokenModel>,
        settings: EngineSettings,
        gauges: Arc<Gauges>,
    ) -> Self {
        Self {
            facts: model.facts(),
            model,
            settings,
            gauges,
            queue: Queue::default(),
            prompts: Prompts::default(),
            reading: VecDeque::new(),
            answering: Vec::new(),
            seconds_per_row: 0.0,
        }
    }

    /// Works until it is told to stop, or nobody can ask any more and all is done.
    pub(super) fn serve(mut self, jobs: &Receiver<Submitted>, is_stopped: &AtomicBool) {
        let mut is_open = true;
        while !is_stopped.load(Ordering::Acquire) {
            let is_idle =
                self.queue.len() == 0 && self.reading.is_empty() && self.answering.is_empty();
            if is_idle && !is_open {
                return;
            }
            if is_idle {
                match jobs.recv_timeout(IDLE) {
                    Ok(job) => self.take(job),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => is_open = false,
                }
            }
            while let Ok(job) = jobs.try_recv() {
                self.take(job);
            }
            self.round();
        }
        while let Ok(job) = jobs.try_recv() {
            self.take(job);
        }
        self.fail_all();
    }

    fn round(&mut self) {
        self.sweep();
        self.begin();
        self.tell_gauges();
        self.answer();
        self.read();
        self.tell_gauges();
    }

    fn take(&mut self, submitted: Submitted) {
        let owner = submitted.job.owner;
        let samples = Request::take(submitted, self.settings.drafting);
        if samples.is_empty() {
            self.gauges.waiting.fetch_sub(1, Ordering::AcqRel);
        } else {
            self.queue.push(owner, samples);
        }
    }

    /// Ends what nobody wants any more.
    fn sweep(&mut self) {
        let is_unwanted = |samples: &Vec<Sample>| {
            samples
                .first()
                .is_none_or(|first| first.request.is_unwanted())
        };
        for samples in self.queue.remove_if(is_unwanted) {
            self.gauges.waiting.fetch_sub(1, Ordering::AcqRel);
            for sample in samples {
                self.finish(sample, End::Left);
            }
        }
        for index in (0..self.answering.len()).rev() {
            let sample = self.answering.get(index);
            if sample.is_some_and(Sample::is_unwanted) {
                let sample = self.answering.remove(index);
                self.finish(sample, End::Left);
            }
        }
        for index in (0..self.reading.len()).rev() {
            let first = self.reading.get(index).and_then(Reading::first);
            if first.is_none_or(|first| first.request.is_unwanted())
                && let Some(reading) = self.reading.remove(index)
            {
                for sample in reading.samples {
                    self.finish(sample, End::Left);
                }
            }
        }
    }

    /// Begins what waits, in turn, as far as there is room. Who does not fit is not overtaken.
    fn begin(&mut self) {
        while let Some(first) = self.queue.first() {
            let Some(sample) = first.first() else {
                self.queue.pop();
                continue;
            };
            let live = self.reading.iter().map(|reading| reading.samples.len());
            let live = self.answering.len() + live.sum::<usize>();
            let pages = sample.length().div_ceil(self.facts.page_rows) + first.len();
            let has_room = live + first.len() <= self.settings.max_sequences
                && self.live_pages() + pages <= self.facts.max_pages;
            if live > 0 && !has_room {
                return;
            }
            if let Some(samples) = self.queue.pop() {
                self.gauges.waiting.fetch_sub(1, Ordering::AcqRel);
                self.begin_reading(samples);
            }
        }
    }

    /// Pages of all that are under way, if none were shared.
    fn live_pages(&self) -> usize {
        let reading = (self.reading.iter()).flat_map(|reading| &reading.samples);
        let pages = |sample: &Sample| sample.length().div_ceil(self.facts.page_rows) + 1;
        reading.chain(&self.answering).map(pages).sum()
    }

    fn begin_reading(&mut self, mut samples: Vec<Sample>) {
        let Some(first) = samples.first_mut() else {
            return;
        };
        let job = &first.request.job;
        // Who wants to see every row computes every row.
        let found = if job.prompt_likeliest.is_some() {
            None
        } else {
            self.prompts.find(job.space, &job.prompt)
        };
        let begun = match found {
            Some(found) => {
                (self.model.fork(found.sequence, found.length)).map(|s| (s, found.length))
            }
            None => self.model.open().map(|sequence| (sequence, 0)),
        };
        match begun {
            Ok((sequence, cached)) => {
                first.sequence = Some(sequence);
                first.computed = cached;
                first.request.tell(Event::Started);
                self.reading.push_back(Reading {
                    samples,
                    looked_at: Vec::new(),
                    cached,
                });
            }
            Err(error) => {
                for sample in samples {
                    self.lose(sample, &error.to_string());
                }
            }
        }
    }

    /// Makes room for so many pages: forgets prompts, oldest first. Whether there is room.
    pub(super) fn make_room(&mut self, pages: usize) -> bool {
        while self.model.vacant_pages() < pages {
            let Some(sequence) = self.prompts.forget_oldest() else {
                return false;
            };
            self.free(sequence);
        }
        true
    }

    /// Puts back who began last, to be computed again when there is room: those whose prompts are being
    /// read, then those who answer, but for the last of them. Whether there was anybody.
    pub(super) fn put_back_last(&mut self) -> bool {
        let mut samples = match self.reading.pop_back() {
            Some(reading) => reading.samples,
            None if self.answering.len() > 1 => self.answering.pop().into_iter().collect(),
            None => return false,
        };
        let Some(first) = samples.first_mut() else {
            return true;
        };
        first.computed = 0;
        let (owner, sequence) = (first.request.job.owner, first.sequence.take());
        if let Some(sequence) = sequence {
            self.free(sequence);
        }
        let n_samples = samples.len();
        self.gauges
            .preempted
            .fetch_add(n_samples, Ordering::Relaxed);
        self.gauges.waiting.fetch_add(1, Ordering::AcqRel);
        self.queue.put_back(owner, samples);
        true
    }

    /// Keeps a prompt that was read, for those that begin alike.
    pub(super) fn keep(&mut self, sample: &Sample) -> Result<()> {
        let Some(sequence) = sample.sequence else {
            return Ok(());
        };
        let job = &sample.request.job;
        let fork = self.model.fork(sequence, job.prompt.len())?;
        for unneeded in self.prompts.keep((job.space, &job.prompt), fork) {
            self.free(unneeded);
        }
        let most = KEPT_TIMES * self.facts.max_pages * self.facts.page_rows;
        while let Some(sequence) = self.prompts.forget_beyond(most) {
            self.free(sequence);
        }
        Ok(())
    }

    /// A sample has ended.
    #[expect(clippy::needless_pass_by_value, reason = "it ends here")]
    pub(super) fn finish(&mut self, sample: Sample, why: End) {
        let is_last = sample.end(why);
        self.dismiss(&sample, is_last);
    }

    /// A sample is lost.
    #[expect(clippy::needless_pass_by_value, reason = "it ends here")]
    pub(super) fn lose(&mut self, sample: Sample, why: &str) {
        tracing::error!(why, "a sample is lost");
        let is_last = sample.fail(why);
        self.dismiss(&sample, is_last);
    }

    fn dismiss(&mut self, sample: &Sample, is_last: bool) {
        if let Some(sequence) = sample.sequence {
            self.free(sequence);
        }
        if is_last {
            self.queue.end(sample.request.job.owner);
        }
    }

    fn free(&mut self, sequence: frugal_model::cache::SequenceId) {
        if let Err(error) = self.model.free(sequence) {
            tracing::error!(%error, "a sequence could not be freed");
        }
    }

    fn fail_all(&mut self) {
        let waiting = self.queue.remove_if(|_| true).into_iter().flatten();
        let reading = std::mem::take(&mut self.reading);
        let reading = reading.into_iter().flat_map(|reading| reading.samples);
        let answering = std::mem::take(&mut self.answering);
        let all: Vec<Sample> = waiting.chain(reading).chain(answering).collect();
        for sample in all {
            sample.request.tell(Event::Failed {
                why: "the engine has stopped".into(),
            });
        }
    }

    fn tell_gauges(&self) {
        let set = |gauge: &AtomicUsize, value| gauge.store(value, Ordering::Relaxed);
        set(&self.gauges.reading, self.reading.len());
        set(&self.gauges.answering, self.answering.len());
        let in_use = self.facts.max_pages - self.model.vacant_pages();
        set(&self.gauges.pages_in_use, in_use);
    }
}
