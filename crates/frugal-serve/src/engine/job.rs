//! What an engine is asked for, and the handles on it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use frugal_core::backend::Sampling;
use frugal_model::generate::Lookup;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::run::Run;
use super::{Costs, Error, Event, Facts, Result, TokenModel};
use crate::steer::Steering;

/// How many sequences and rows are computed together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineSettings {
    /// Samples continued together.
    pub max_sequences: usize,
    /// Rows of prompts computed between two steps of those who answer.
    pub prefill_rows: usize,
    /// Jobs that wait at most; more are refused.
    pub max_waiting: usize,
    /// Threads that compute, for the cost of a step.
    pub threads: usize,
    /// How what may follow is drafted, if it is.
    pub drafting: Option<Lookup>,
}

/// One prompt and what is wanted after it.
#[derive(Debug)]
pub struct Job {
    /// The prompt, at least one token.
    pub prompt: Arc<[u32]>,
    /// One for each sample wanted.
    pub steering: Vec<Steering>,
    /// The most tokens of a sample.
    pub max_tokens: usize,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Names the random numbers.
    pub seed: u64,
    /// Tokens that end a sample.
    pub stop: Arc<[u32]>,
    /// Wants log-probabilities of the samples' tokens, and of so many likeliest ones.
    pub likeliest: Option<usize>,
    /// The same for the prompt's tokens.
    pub prompt_likeliest: Option<usize>,
    /// Whose it is: owners are served in turn.
    pub owner: u64,
    /// Prompts begin alike only within a space.
    pub space: u64,
}

/// Why a job is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Too many wait.
    Full {
        /// How many do.
        waiting: usize,
    },
    /// The engine has stopped.
    Stopped,
}

/// A job under way. When it is dropped, the job ends and its pages are free.
#[derive(Debug)]
pub struct Asked {
    /// What happens to it.
    pub events: UnboundedReceiver<Event>,
    state: Arc<State>,
}

impl Asked {
    /// A handle that can be kept elsewhere.
    pub fn state(&self) -> Arc<State> {
        Arc::clone(&self.state)
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.state.leave();
    }
}

/// What can be told to a job under way.
#[derive(Debug)]
pub struct State {
    has_left: AtomicBool,
    stops_thinking: AtomicBool,
    /// Samples that have said enough.
    is_enough: Vec<AtomicBool>,
}

impl State {
    fn new(n_samples: usize) -> Self {
        Self {
            has_left: AtomicBool::new(false),
            stops_thinking: AtomicBool::new(false),
            is_enough: (0..n_samples).map(|_| AtomicBool::new(false)).collect(),
        }
    }

    /// Ends one of the samples.
    pub fn end_sample(&self, sample: usize) {
        if let Some(is_enough) = self.is_enough.get(sample) {
            is_enough.store(true, Ordering::Release);
        }
    }

    /// Whether a sample has said enough.
    pub(super) fn has_enough(&self, sample: usize) -> bool {
        let is_enough = self.is_enough.get(sample);
        is_enough.is_some_and(|is_enough| is_enough.load(Ordering::Acquire))
    }

    /// Ends the job.
    pub fn leave(&self) {
        self.has_left.store(true, Ordering::Release);
    }

    /// Ends the thoughts of its samples; the answers go on.
    pub fn stop_thinking(&self) {
        self.stops_thinking.store(true, Ordering::Release);
    }

    /// Whether nobody wants it any more.
    pub fn has_left(&self) -> bool {
        self.has_left.load(Ordering::Acquire)
    }

    /// Whether its thoughts are to end.
    pub fn is_to_answer(&self) -> bool {
        self.stops_thinking.load(Ordering::Acquire)
    }
}

/// A job as the engine's thread gets it.
#[derive(Debug)]
pub(super) struct Submitted {
    pub(super) job: Job,
    pub(super) events: UnboundedSender<Event>,
    pub(super) state: Arc<State>,
}

/// What an engine does now.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    pub(super) waiting: AtomicUsize,
    pub(super) reading: AtomicUsize,
    pub(super) answering: AtomicUsize,
    pub(super) pages_in_use: AtomicUsize,
    pub(super) preempted: AtomicUsize,
    pub(super) drafted: AtomicUsize,
    pub(super) accepted: AtomicUsize,
    spent: Mutex<Costs>,
}

impl Gauges {
    /// Something was computed.
    pub(super) fn spend(&self, costs: &Costs) {
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        spent.add(costs);
    }

    /// Tokens were drafted, so many of them right.
    pub(super) fn draft(&self, drafted: usize, right: usize) {
        self.drafted.fetch_add(drafted, Ordering::Relaxed);
        self.accepted.fetch_add(right, Ordering::Relaxed);
    }
}

/// What an engine does now, read at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// Jobs that have not begun.
    pub waiting: usize,
    /// Jobs whose prompts are being read.
    pub reading: usize,
    /// Samples being answered.
    pub answering: usize,
    /// Pages of the cache in use, those of kept prompts included.
    pub pages_in_use: usize,
    /// Samples that were put back for want of pages, ever.
    pub preempted: usize,
    /// Tokens that were drafted, ever.
    pub drafted: usize,
    /// Those of them that were drawn, and after which the answer went on.
    pub accepted: usize,
    /// All that was ever computed, also for those who left.
    pub spent: Costs,
}

/// Takes jobs for an engine.
#[derive(Debug, Clone)]
pub struct Handle {
    jobs: mpsc::Sender<Submitted>,
    gauges: Arc<Gauges>,
    facts: Facts,
    max_waiting: usize,
}

impl Handle {
    /// What the model is.
    pub const fn facts(&self) -> &Facts {
        &self.facts
    }

    /// What the engine does now.
    pub fn load(&self) -> Load {
        let read = |gauge: &AtomicUsize| gauge.load(Ordering::Relaxed);
        Load {
            waiting: read(&self.gauges.waiting),
            reading: read(&self.gauges.reading),
            answering: read(&self.gauges.answering),
            pages_in_use: read(&self.gauges.pages_in_use),
            preempted: read(&self.gauges.preempted),
            drafted: read(&self.gauges.drafted),
            accepted: read(&self.gauges.accepted),
            spent: *(self.gauges.spent.lock()).unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Why a job would be refused, if one were handed in now: to be asked before much is done for one.
    pub fn refusal(&self) -> Option<Refusal> {
        let waiting = self.gauges.waiting.load(Ordering::Acquire);
        (waiting >= self.max_waiting).then_some(Refusal::Full { waiting })
    }

    /// Hands in a job.
    pub fn ask(&self, job: Job) -> std::result::Result<Asked, Refusal> {
        let waiting = self.gauges.waiting.fetch_add(1, Ordering::AcqRel);
        let take_back = || {
            self.gauges.waiting.fetch_sub(1, Ordering::AcqRel);
        };
        if waiting >= self.max_waiting {
            take_back();
            return Err(Refusal::Full { waiting });
        }
        let (sender, events) = unbounded_channel();
        let state = Arc::new(State::new(job.steering.len()));
        let submitted = Submitted {
            job,
            events: sender,
            state: Arc::clone(&state),
        };
        if self.jobs.send(submitted).is_err() {
            take_back();
            return Err(Refusal::Stopped);
        }
        Ok(Asked { events, state })
    }
}

/// An engine's thread. When it is dropped the thread ends after the step it is in; what it had
/// under way has failed.
#[derive(Debug)]
pub struct Engine {
    handle: Option<Handle>,
    thread: Option<thread::JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl Engine {
    /// Starts a thread for a model.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(model: Box<dyn TokenModel>, settings: EngineSettings) -> Result<Self> {
        let (jobs, submitted) = mpsc::channel();
        let gauges = Arc::new(Gauges::default());
        let stop = Arc::new(AtomicBool::new(false));
        let handle = Handle {
            jobs,
            gauges: Arc::clone(&gauges),
            facts: model.facts(),
            max_waiting: settings.max_waiting,
        };
        let is_stopped = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("engine".into())
            .spawn(move || Run::new(model, settings, gauges).serve(&submitted, &is_stopped))
            .map_err(Error::Thread)?;
        Ok(Self {
            handle: Some(handle),
            thread: Some(thread),
            stop,
        })
    }

    /// Whether its thread has ended by itself, which it does where it panics outside a step.
    pub fn has_ended(&self) -> bool {
        self.thread
            .as_ref()
            .is_none_or(thread::JoinHandle::is_finished)
    }

    /// Takes jobs for it.
    pub fn handle(&self) -> Result<Handle> {
        self.handle.clone().ok_or(Error::Stopped)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.handle = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the engine's thread panicked");
        }
    }
}
