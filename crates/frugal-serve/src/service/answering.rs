//! The task behind an answer: events become what is said, and what was used is settled.

use std::pin::pin;
use std::sync::Arc;

use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::{Listing, Ready, Service, verify};
use crate::answer::speak::{Going, Part, Speaker};
use crate::answer::{Said, TokenText, Usage};
use crate::engine::{Asked, Costs, Drawn, End, Event};
use crate::metrics::Watch;
use crate::models::Words;
use crate::quota::{Pass, Spent};
use crate::shelf::Served;
use crate::steer::Closed;
use crate::wire::error::{Fault, Kind};

/// When a request that waited in vain may be tried again, in seconds.
const AGAIN_SECONDS: u32 = 5;

/// What an answer's task holds on to.
pub(super) struct Task {
    pub(super) service: Arc<Service>,
    pub(super) served: Arc<Served>,
    pub(super) asked: Asked,
    pub(super) ready: Ready,
    pub(super) id: String,
    pub(super) sender: Sender<Said>,
    pub(super) pass: Pass,
    pub(super) watch: Watch,
    pub(super) began: f64,
    /// By when all of it must have been taken.
    pub(super) ends: Instant,
    pub(super) listing: Listing,
}

/// What an answer has come to.
struct State<'a> {
    speakers: Vec<Speaker<'a>>,
    /// Answers that have been told to end, or have ended.
    is_over: Vec<bool>,
    /// Samples whose costs are not known yet.
    left: usize,
    usage: Usage,
    costs: Costs,
    /// Whether its turn has come.
    has_started: bool,
}

/// How following an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Followed {
    /// All of it was said, or kept to be graded.
    Whole,
    /// It was broken off, by its client or by a limit.
    Cut,
    /// It failed by no fault of its client, who owes nothing for it.
    Failed,
}

/// What woke the task.
enum Woken {
    Event(Option<Event>),
    Left,
    /// Its turn has not come in time.
    NotBegun,
    /// It has taken all the time that there is.
    Late,
}

impl Task {
    /// Runs until every sample has ended and been paid for.
    pub(super) async fn run(mut self) {
        let served = Arc::clone(&self.served);
        let words: &Words = &served.words;
        let n = self.ready.records.len();
        let speaker = |index| {
            let request = self.id.as_str();
            let part = Part { index, request };
            Speaker::new(words, &self.ready.prepared, &self.ready.ask, part)
        };
        let mut state = State {
            speakers: (0..n).map(speaker).collect(),
            is_over: vec![false; n],
            left: n,
            usage: Usage {
                prompt_tokens: self.ready.prepared.ids.len(),
                ..Usage::default()
            },
            costs: Costs::default(),
            has_started: false,
        };
        // Answers that are graded first are kept until the best is known.
        let mut kept = self.ready.ask.verify.is_some().then(Vec::new);
        let mut followed = self.follow(&mut state, words, &mut kept).await;
        self.settle(&mut state);
        // Before grading, which takes a while and may be cut short.
        if followed != Followed::Failed && state.has_started {
            self.charge(&state.usage);
        }
        if followed == Followed::Whole
            && let Some(kept) = kept
            && !self.give_best(kept, &mut state).await
        {
            self.pass.spent(Spent::default());
            followed = Followed::Failed;
        }
        if followed != Followed::Whole {
            if state.has_started {
                self.watch.took(&state.usage);
            }
            return;
        }
        let usage = std::mem::take(&mut state.usage);
        self.say(Said::Done(Box::new(usage))).await;
        drop(self.listing);
    }

    /// Follows the engine's events to the last.
    async fn follow(
        &mut self,
        state: &mut State<'_>,
        words: &Words,
        kept: &mut Option<Vec<Said>>,
    ) -> Followed {
        let parts = &self.service.parts;
        let mut queue = pin!(sleep(parts.queue_time));
        let mut whole = pin!(sleep_until(self.ends));
        let mut has_left = false;
        let mut cut = Followed::Cut;
        loop {
            let woken = tokio::select! {
                event = self.asked.events.recv() => Woken::Event(event),
                () = self.sender.closed(), if !has_left => Woken::Left,
                () = &mut queue, if !has_left && !state.has_started => Woken::NotBegun,
                () = &mut whole, if !has_left => Woken::Late,
            };
            let mut said = Vec::new();
            match woken {
                Woken::Left => {
                    has_left = true;
                    self.asked.state().leave();
                }
                Woken::NotBegun => {
                    has_left = true;
                    cut = Followed::Failed;
                    self.give_up(
                        "the server is too busy: the request waited too long for its turn",
                    )
                    .await;
                }
                Woken::Late => {
                    has_left = true;
                    self.give_up("the answer took longer than the server allows")
                        .await;
                }
                // The engine ends when its model is unloaded or the server stops.
                Woken::Event(None) => {
                    if !has_left {
                        let message = "the answer broke off: its model has stopped";
                        let fault = Fault::new(Kind::Unavailable, message).again_after(1);
                        self.say(Said::Failed(fault)).await;
                    }
                    return Followed::Failed;
                }
                Woken::Event(Some(event)) => {
                    if matches!(event, Event::Failed { .. }) {
                        if !has_left {
                            let fault = Fault::new(Kind::Internal, "the answer failed");
                            self.say(Said::Failed(fault)).await;
                        }
                        return Followed::Failed;
                    }
                    if let Some(fault) = self.stuck(&event, state).filter(|_| kept.is_none()) {
                        if !has_left {
                            self.say(Said::Failed(fault)).await;
                        }
                        has_left = true;
                        self.asked.state().leave();
                    }
                    self.take(event, state, words, &mut said);
                }
            }
            for piece in said {
                match kept {
                    Some(kept) => kept.push(piece),
                    None if has_left => {}
                    None => {
                        if !self.say(piece).await {
                            has_left = true;
                            self.asked.state().leave();
                        }
                    }
                }
            }
            if state.left == 0 {
                return if has_left { cut } else { Followed::Whole };
            }
        }
    }

    /// Ends an answer for want of time.
    async fn give_up(&mut self, message: &str) {
        self.asked.state().leave();
        let fault = Fault::new(Kind::Unavailable, message).again_after(AGAIN_SECONDS);
        self.say(Said::Failed(fault)).await;
    }

    /// Takes an event; gives what it lets be said.
    fn take(&mut self, event: Event, state: &mut State<'_>, words: &Words, said: &mut Vec<Said>) {
        let now = self.service.parts.clock.now().seconds;
        match event {
            Event::Started => {
                if !std::mem::replace(&mut state.has_started, true) {
                    self.watch.left_queue(now);
                }
            }
            Event::Begun { cached, prompt } => {
                state.usage.cached_tokens = cached;
                state.usage.seconds_to_first = now - self.began;
                said.push(self.begun(cached, prompt, words));
            }
            Event::Token(token) => {
                let index = token.sample;
                let (Some(speaker), Some(is_over)) =
                    (state.speakers.get_mut(index), state.is_over.get_mut(index))
                else {
                    return;
                };
                if *is_over {
                    return;
                }
                if speaker.hear(&token, said) == Going::Stopped {
                    *is_over = true;
                    speaker.end(End::Left, self.closed(index), said);
                    self.asked.state().end_sample(index);
                }
            }
            Event::Ended { sample, why, costs } => {
                state.left -= 1;
                state.costs.add(&costs);
                let closed = self.closed(sample);
                // Among answers that are graded, one that broke off has no vote.
                let why = if self.is_stuck(sample) {
                    End::Length
                } else {
                    why
                };
                if let (Some(speaker), Some(is_over)) = (
                    state.speakers.get_mut(sample),
                    state.is_over.get_mut(sample),
                ) && !std::mem::replace(is_over, true)
                {
                    speaker.end(why, closed, said);
                }
            }
            Event::Failed { .. } => {}
        }
    }

    fn is_stuck(&self, sample: usize) -> bool {
        let record = self.ready.records.get(sample);
        record.is_some_and(|record| record.is_stuck())
    }

    /// What is said instead of an end, where an answer ends because the form that was asked for asks
    /// too much: half a form is none.
    fn stuck(&self, event: &Event, state: &State<'_>) -> Option<Fault> {
        let Event::Ended { sample, .. } = event else {
            return None;
        };
        // One that has said all it was to say is whole.
        let is_over = state.is_over.get(*sample).copied().unwrap_or(true);
        if is_over || !self.is_stuck(*sample) {
            return None;
        }
        tracing::warn!(id = self.id, "a grammar could not be followed to its end");
        let message = "the answer broke off: the form that was asked for takes too much work to \
                       follow, or the model cannot write it";
        Some(Fault::new(Kind::Schema, message))
    }

    fn begun(&self, cached_tokens: usize, prompt: Vec<Drawn>, words: &Words) -> Said {
        let Ready { ask, prepared, .. } = &self.ready;
        let bytes = |id| words.tokenizer.token_bytes(id).unwrap_or_default();
        let told = |drawn: Drawn| TokenText {
            id: drawn.id,
            bytes: bytes(drawn.id),
            log_prob: Some(drawn.log_prob),
            likeliest: (drawn.likeliest.into_iter())
                .map(|(id, log_prob)| (id, bytes(id), log_prob))
                .collect(),
        };
        let first = (prepared.ids.first()).map(|id| TokenText {
            id: *id,
            bytes: bytes(*id),
            ..TokenText::default()
        });
        let prompt = if ask.prompt_likeliest.is_some() {
            first
                .into_iter()
                .chain(prompt.into_iter().map(told))
                .collect()
        } else {
            Vec::new()
        };
        Said::Begun {
            prompt_tokens: prepared.ids.len(),
            cached_tokens,
            prompt,
            prompt_ids: if ask.wants_ids {
                prepared.ids.clone()
            } else {
                Vec::new()
            },
        }
    }

    fn closed(&self, sample: usize) -> Option<&'static str> {
        let record = self.ready.records.get(sample)?;
        record.closed().map(Closed::name)
    }

    /// What was used.
    fn settle(&mut self, state: &mut State<'_>) {
        let parts = &self.service.parts;
        let usage = &mut state.usage;
        for speaker in &state.speakers {
            let counts = speaker.counts();
            usage.completion_tokens += counts.completion;
            usage.reasoning_tokens += counts.reasoning;
        }
        usage.flops = state.costs.flops;
        usage.core_seconds = state.costs.core_seconds;
        usage.joules = usage.core_seconds * parts.price.watts_per_core;
        usage.joules_are = "estimated";
        usage.money = usage.core_seconds / 3600.0 * parts.price.per_core_hour;
        usage.currency.clone_from(&parts.price.currency);
        usage.seconds = parts.clock.now().seconds - self.began;
    }

    /// Tells it to the key's account: not where nothing was computed, nor where the fault is ours.
    fn charge(&mut self, usage: &Usage) {
        self.pass.spent(Spent {
            tokens: (usage.prompt_tokens + usage.completion_tokens) as u64,
            money: usage.money,
        });
    }

    /// Of several answers the best, and what grading came to. Whether it could be told.
    async fn give_best(&mut self, kept: Vec<Said>, state: &mut State<'_>) -> bool {
        let Some(wanted) = self.ready.ask.verify.clone() else {
            return true;
        };
        let grader = self.service.parts.grader.clone();
        let graded = self
            .service
            .on_text(move || Ok(verify::best(&wanted, kept, grader.as_deref())))
            .await;
        let Ok((pieces, verdict)) = graded else {
            let fault = Fault::new(Kind::Internal, "the answers could not be graded");
            self.say(Said::Failed(fault)).await;
            return false;
        };
        state.usage.verified = Some(verdict);
        for piece in pieces {
            self.say(piece).await;
        }
        true
    }

    /// Says a piece; whether somebody heard it in time. Who reads slowly is waited for, but for no
    /// longer than the answer may take.
    async fn say(&mut self, said: Said) -> bool {
        let now = self.service.parts.clock.now().seconds;
        self.watch.said(&said, now);
        let heard = timeout_at(self.ends, self.sender.send(said)).await;
        matches!(heard, Ok(Ok(())))
    }
}
