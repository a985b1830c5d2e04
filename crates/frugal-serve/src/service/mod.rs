//! The server without HTTP: an [`Ask`] in, a stream of [`Said`] out, within what a key may use.
//!
//! [`Service::answer`] finds the model, makes the prompt off the async threads, hands the job to the
//! engine and leaves a task behind that turns events into what is said (`answering`); what it cost
//! is settled there, also for those who leave. `verify` draws several answers and gives the best.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use frugal_text::chat::Moment;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::answer::prompt::{Place, Prepared, prepare};
use crate::answer::{Ask, Limits, Said};
use crate::aside::Aside;
use crate::config::{PriceSettings, ReasoningSettings};
use crate::engine::{Job, Refusal, State};
use crate::keys::Holder;
use crate::metrics::{Metrics, Of};
use crate::quota::{Clock, Pass, Quotas, Wanted};
use crate::shelf::{Served, Shelf};
use crate::steer::{Record, Steering};
use crate::wire::Head;
use crate::wire::error::{Fault, Kind};

mod answering;
mod rules;
mod verify;

pub use verify::Grader;

/// Pieces that wait for a client who reads slowly, before the answer waits for it.
const PIECES: usize = 64;

/// What a service is made of.
#[derive(Debug)]
pub struct Parts {
    /// The models.
    pub shelf: Shelf,
    /// What a request may hold.
    pub limits: Limits,
    /// What keys have used.
    pub quotas: Arc<Quotas>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// One clock for all.
    pub clock: Clock,
    /// What answers cost.
    pub price: PriceSettings,
    /// How models think.
    pub reasoning: ReasoningSettings,
    /// How long a request may wait for its turn.
    pub queue_time: Duration,
    /// How long a request may take in all.
    pub request_time: Duration,
    /// Who grades answers, beside the votes that are taken here.
    pub grader: Option<Arc<dyn Grader>>,
    /// Threads for the work on texts.
    pub text_threads: usize,
    /// Whether prompts may stand in the log, under the target `prompts`.
    pub log_prompts: bool,
}

/// Answers requests.
#[derive(Debug)]
pub struct Service {
    /// What it is made of.
    pub parts: Parts,
    under_way: Mutex<BTreeMap<String, (i64, Arc<State>)>>,
    text: Aside,
    names: Names,
}

/// Who asks, and by which route.
#[derive(Debug)]
pub struct Caller {
    /// The route, as in the documentation.
    pub route: &'static str,
    /// The prefix of the answer's id: `chatcmpl-`.
    pub prefix: &'static str,
    /// What the key may still use.
    pub pass: Pass,
}

/// An answer under way. When it is dropped, the answer ends.
#[derive(Debug)]
pub struct Answering {
    /// What it is called: the model as it was asked for.
    pub head: Head,
    /// What the answer depends on, beside what was asked.
    pub fingerprint: String,
    said: mpsc::Receiver<Said>,
}

impl Answering {
    /// One of which these pieces are said, and no more.
    #[cfg(test)]
    pub(crate) fn of(head: Head, pieces: Vec<Said>) -> Self {
        let (sender, said) = mpsc::channel(pieces.len().max(1));
        for piece in pieces {
            sender.try_send(piece).unwrap();
        }
        Self {
            head,
            fingerprint: String::new(),
            said,
        }
    }

    /// The next piece; none after the last.
    pub async fn next(&mut self) -> Option<Said> {
        self.said.recv().await
    }
}

/// A request made ready, off the async threads.
struct Ready {
    ask: Ask,
    prepared: Prepared,
    steering: Vec<Steering>,
    records: Vec<Arc<Record>>,
}

impl Service {
    /// A service.
    pub fn new(parts: Parts) -> Arc<Self> {
        Arc::new(Self {
            text: Aside::new(parts.text_threads),
            parts,
            under_way: Mutex::default(),
            names: Names::default(),
        })
    }

    /// Begins an answer.
    ///
    /// # Errors
    /// If the model is not to be had, the request cannot be met, or there is no room for it now.
    pub async fn answer(self: &Arc<Self>, ask: Ask, caller: Caller) -> Result<Answering, Fault> {
        let began = self.parts.clock.now();
        let served = self.served(&ask.model, caller.pass.holder()).await?;
        // Making a prompt takes longer than to refuse it: at many times what can be answered, prompts
        // that will be refused would take the place of answers.
        if let Some(refusal) = served.handle.refusal() {
            return Err(refused(refusal));
        }
        let asked_for = ask.model.clone();
        let ready = self.make_ready(Arc::clone(&served), ask).await?;
        let Caller {
            route,
            prefix,
            mut pass,
        } = caller;
        let wanted = Wanted {
            prompt_tokens: ready.prepared.ids.len(),
            max_tokens: ready.ask.max_tokens,
            n: ready.steering.len(),
        };
        pass.reserve(wanted, began)?;
        let id = format!("{prefix}{}", self.names.next());
        if self.parts.log_prompts {
            tracing::info!(target: "prompts", id, prompt = ?ready.ask.prompt);
        }
        let (job, ready) = self.job(&served, ready, pass.holder())?;
        let asked = served.handle.ask(job).map_err(refused)?;
        // What was refused before is counted as that, and not as given up by its client.
        let of = Of {
            route,
            model: &served.name,
            key: &pass.holder().name,
        };
        let watch = self.parts.metrics.begin(of, began.seconds);
        let fingerprint = served.fingerprint();
        let (sender, said) = mpsc::channel(PIECES);
        let listing = Listing::new(self, &id, pass.holder().id, asked.state());
        let task = answering::Task {
            service: Arc::clone(self),
            served,
            asked,
            ready,
            id: id.clone(),
            sender,
            pass,
            watch,
            began: began.seconds,
            ends: Instant::now() + self.parts.request_time,
            listing,
        };
        tokio::spawn(task.run());
        let head = Head {
            id,
            created: began.unix,
            model: asked_for,
        };
        Ok(Answering {
            head,
            fingerprint,
            said,
        })
    }

    /// A model that a key may use, loaded.
    ///
    /// # Errors
    /// If there is none of that name, the key may not use it, or it cannot be loaded.
    pub async fn served(&self, name: &str, holder: &Holder) -> Result<Arc<Served>, Fault> {
        let own = self.parts.shelf.resolve(name);
        holder.may_use(name, own)?;
        self.parts.shelf.get(name).await
    }

    /// Does work on texts off the async threads, a bounded number at a time.
    ///
    /// # Errors
    /// Of the work, and if it panics.
    pub async fn on_text<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        self.text.run(work).await
    }

    /// The prompt of a request, as ids: for counting, also where there is no room for it.
    ///
    /// # Errors
    /// As [`Self::answer`].
    pub async fn count(&self, ask: Ask, holder: &Holder) -> Result<Vec<u32>, Fault> {
        let served = self.served(&ask.model, holder).await?;
        let ask = Ask {
            max_tokens: Some(0),
            ..ask
        };
        let work = move || prepare_for(&served, &ask, usize::MAX);
        Ok(self.on_text(work).await?.ids)
    }

    /// Ends the thought of an answer under way; its answer goes on. Whether there is such an answer
    /// of this key.
    pub fn stop_thinking(&self, id: &str, holder: &Holder) -> bool {
        let under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match under_way.get(id) {
            Some((owner, state)) if *owner == holder.id => {
                state.stop_thinking();
                true
            }
            _ => false,
        }
    }

    /// Answers under way.
    pub fn n_under_way(&self) -> usize {
        let under_way = self.under_way.lock();
        under_way.unwrap_or_else(PoisonError::into_inner).len()
    }

    async fn make_ready(&self, served: Arc<Served>, ask: Ask) -> Result<Ready, Fault> {
        let most = self.parts.shelf.settings().engine.max_sequences;
        let n = ask.verify.as_ref().map_or(ask.n, |verify| verify.samples);
        if n > most {
            let field = if ask.verify.is_some() {
                "verify.samples"
            } else {
                "n"
            };
            let expected = format!("at most {most}, as many as are answered together");
            return Err(Fault::field(field, &expected, n));
        }
        let (limits, reasoning) = (self.parts.limits, self.parts.reasoning.clone());
        self.on_text(move || {
            let positions = served.handle.facts().positions;
            let prepared = prepare_for(&served, &ask, positions)?;
            let rules = rules::rules(&served, &ask, &prepared, (&limits, &reasoning))?;
            let steering = rules.steer(&prepared.ids, n);
            let records = steering.iter().map(Steering::record).collect();
            Ok(Ready {
                ask,
                prepared,
                steering,
                records,
            })
        })
        .await
    }

    fn job(
        &self,
        served: &Served,
        mut ready: Ready,
        holder: &Holder,
    ) -> Result<(Job, Ready), Fault> {
        let sampled = &ready.ask.sampled;
        let seed = match sampled.seed {
            Some(seed) => seed,
            None => random_seed()?,
        };
        let vocabulary = served.handle.facts().vocabulary;
        if let Some((id, _)) = (sampled.bias.iter()).find(|(id, _)| *id as usize >= vocabulary) {
            let expected = format!("ids of the vocabulary, below {vocabulary}");
            return Err(Fault::field("logit_bias", &expected, id));
        }
        let job = Job {
            prompt: Arc::from(&*ready.prepared.ids),
            steering: std::mem::take(&mut ready.steering),
            max_tokens: ready.prepared.max_tokens,
            sampling: rules::sampling(&served.words, sampled),
            seed,
            stop: Arc::from(&*ready.prepared.stop),
            likeliest: ready.ask.likeliest,
            prompt_likeliest: ready.ask.prompt_likeliest,
            owner: holder.id.unsigned_abs(),
            space: self.names.space(holder.id, ready.ask.user.as_deref()),
        };
        Ok((job, ready))
    }
}

fn refused(refusal: Refusal) -> Fault {
    match refusal {
        Refusal::Full { waiting } => {
            let message = format!("{waiting} requests are waiting already; ask again soon");
            Fault::new(Kind::Busy, message).again_after(1)
        }
        Refusal::Stopped => {
            Fault::new(Kind::Unavailable, "the model is being unloaded").again_after(1)
        }
    }
}

fn prepare_for(served: &Served, ask: &Ask, positions: usize) -> Result<Prepared, Fault> {
    let unix = frugal_run::consumption::unix_seconds();
    let place = Place {
        words: &served.words,
        manner: &served.manner,
        positions,
        now: Moment::from_unix_seconds(unix.unsigned_abs()),
    };
    prepare(ask, &place)
}

fn random_seed() -> Result<u64, Fault> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| {
        tracing::error!(%error, "the system gives no random numbers");
        Fault::ours()
    })?;
    // JSON's numbers are exact to here, should a client want to name the seed.
    Ok(u64::from_le_bytes(bytes) >> 11)
}

/// Makes ids of answers and names of spaces, which clients cannot guess.
#[derive(Debug, Default)]
struct Names {
    /// Keyed by the system's random numbers.
    key: RandomState,
    made: AtomicU64,
}

impl Names {
    fn next(&self) -> String {
        let count = self.made.fetch_add(1, Ordering::Relaxed);
        let half = |which: u8| self.key.hash_one((count, which));
        format!("{:016x}{:016x}", half(0), half(1))
    }

    /// Prompts are shared among those of one key and user.
    fn space(&self, key: i64, user: Option<&str>) -> u64 {
        self.key.hash_one((key, user))
    }
}

/// An answer's place among those under way.
#[derive(Debug)]
struct Listing {
    service: Arc<Service>,
    id: String,
}

impl Listing {
    fn new(service: &Arc<Service>, id: &str, owner: i64, state: Arc<State>) -> Self {
        let mut under_way = service
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        under_way.insert(id.to_owned(), (owner, state));
        Self {
            service: Arc::clone(service),
            id: id.to_owned(),
        }
    }
}

impl Drop for Listing {
    fn drop(&mut self) {
        let under_way = self.service.under_way.lock();
        under_way
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.id);
    }
}
