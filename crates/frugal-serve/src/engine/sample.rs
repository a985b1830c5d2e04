//! One answer under way, and the job it belongs to.

use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use frugal_core::rng::{Rng, key};
use frugal_model::cache::SequenceId;
use frugal_model::generate::{Drafter, Lookup};
use tokio::sync::mpsc::UnboundedSender;

use super::job::{Job, State, Submitted};
use super::likeliest::log_prob;
use super::{Costs, Draw, Drawn, End, Event, Facts, Part, Token, Watch};
use crate::steer::{Next, Steering};

/// Tokens that drafts look back over: what is farther away is seldom said again, and looking takes time
/// from all who are answered.
const LOOK_BACK: usize = 4096;

/// A job that has been taken.
#[derive(Debug)]
pub(super) struct Request {
    /// Its steering is with its samples.
    pub(super) job: Job,
    pub(super) state: Arc<State>,
    events: UnboundedSender<Event>,
    /// Samples that have not ended.
    left: Cell<usize>,
}

impl Request {
    /// Takes a job: its samples, none of which has begun.
    pub(super) fn take(mut submitted: Submitted, drafting: Option<Lookup>) -> Vec<Sample> {
        let steering = std::mem::take(&mut submitted.job.steering);
        let request = Rc::new(Self {
            left: Cell::new(steering.len()),
            job: submitted.job,
            state: submitted.state,
            events: submitted.events,
        });
        let sample = |(index, steering)| Sample {
            answer: Vec::new(),
            request: Rc::clone(&request),
            index,
            steering,
            sequence: None,
            computed: 0,
            paid: 0,
            costs: Costs::default(),
            planned: None,
            drafter: drafting.map(Drafter::new),
            draft: Vec::new(),
        };
        steering.into_iter().enumerate().map(sample).collect()
    }

    /// Whether nobody wants it any more.
    pub(super) fn is_unwanted(&self) -> bool {
        self.state.has_left() || self.events.is_closed()
    }

    pub(super) fn tell(&self, event: Event) {
        // Nobody listens where the receiver is gone; the next sweep finds that.
        let _ = self.events.send(event);
    }
}

/// One of the answers to a job.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) request: Rc<Request>,
    pub(super) index: usize,
    pub(super) steering: Steering,
    /// What has been drawn.
    answer: Vec<u32>,
    /// Its pages; none while it waits.
    pub(super) sequence: Option<SequenceId>,
    /// Tokens that the sequence holds.
    pub(super) computed: usize,
    /// Tokens that its costs hold, or another's. What is computed again after the sample was put back
    /// for want of room is the engine's own expense.
    pub(super) paid: usize,
    /// What its client pays for.
    pub(super) costs: Costs,
    /// How its next token comes about, once that is decided.
    planned: Option<Next>,
    drafter: Option<Drafter>,
    /// Tokens that may follow, computed in the step that is being made.
    draft: Vec<u32>,
}

/// What names the random number of a sample's next token.
struct Own<'a> {
    request: &'a Request,
    index: usize,
    position: usize,
}

impl Own<'_> {
    fn draw<'a>(&self, next: Next, steering: &'a mut Steering) -> Option<Draw<'a>> {
        match next {
            Next::Free => Some(self.draw_free()),
            Next::Adjusted => {
                let adjust = |logits: &mut [f32]| steering.adjust(logits);
                Some(Draw {
                    adjust: Some(Box::new(adjust)),
                    ..self.draw_free()
                })
            }
            Next::Forced(_) | Next::Nothing => None,
        }
    }

    fn draw_free<'a>(&self) -> Draw<'a> {
        let job = &self.request.job;
        let (index, position) = (self.index as u64, self.position as u64);
        let words = [key("sample"), job.seed, index, position];
        Draw {
            sampling: job.sampling,
            uniform: Rng::derive(&words).uniform(),
            adjust: None,
            likeliest: job.likeliest,
        }
    }
}

impl Sample {
    pub(super) fn n_prompt(&self) -> usize {
        self.request.job.prompt.len()
    }

    /// Tokens of the prompt and of what has been drawn.
    pub(super) fn length(&self) -> usize {
        self.n_prompt() + self.answer.len()
    }

    /// Whether nobody wants more of it.
    pub(super) fn is_unwanted(&self) -> bool {
        self.request.is_unwanted() || self.request.state.has_enough(self.index)
    }

    /// Decides how the next token comes about, once.
    pub(super) fn plan(&mut self) -> Next {
        let is_to_answer = self.request.state.is_to_answer();
        let steering = &mut self.steering;
        *self
            .planned
            .get_or_insert_with(|| steering.next(is_to_answer))
    }

    /// What was decided.
    pub(super) const fn planned(&self) -> Option<Next> {
        self.planned
    }

    /// Drafts up to `most` tokens that may follow, if a row is worth `price` tokens, where the model's
    /// own choice is not interfered with: what does depends on the tokens before.
    pub(super) fn look_back(&mut self, most: usize, price: f32) {
        let (Some(drafter), Some(Next::Free)) = (&mut self.drafter, self.planned) else {
            return;
        };
        let (job, answer) = (&self.request.job, &self.answer);
        // A step brings a token more than was drafted.
        let left = job.max_tokens.saturating_sub(answer.len() + 1);
        let text = || -> Vec<u32> {
            let skipped = (job.prompt.len() + answer.len()).saturating_sub(LOOK_BACK);
            let text = job.prompt.iter().chain(answer).skip(skipped);
            text.copied().collect()
        };
        self.draft = drafter.draft(text, most.min(left), price);
    }

    pub(super) fn n_drafted(&self) -> usize {
        self.draft.len()
    }

    pub(super) fn forget_draft(&mut self) {
        self.draft.clear();
    }

    /// Its rows up to `end`, after the prompt's, and where that is all of it the rows of its draft and
    /// the draws of what comes next.
    pub(super) fn part(&mut self, end: usize) -> Option<Part<'_>> {
        let (position, n_prompt) = (self.length(), self.n_prompt());
        let is_all = end == position;
        let own = |drafted: usize| Own {
            request: &self.request,
            index: self.index,
            position: position + drafted,
        };
        let next = self.planned.filter(|_| is_all);
        let first = next.and_then(|next| own(0).draw(next, &mut self.steering));
        let further = (1..=self.draft.len()).map(|n| own(n).draw_free());
        let draws = first.into_iter().chain(further).collect();
        Some(Part {
            sequence: self.sequence?,
            ids: (self.answer).get(self.computed.checked_sub(n_prompt)?..end - n_prompt)?,
            draft: &self.draft,
            watch: None,
            draws,
        })
    }

    /// Takes what was drawn in a step, as far as it followed from what was drawn before it; the end of
    /// the sample if it is that. What the sequence then holds beyond [`Self::computed`] is wrong.
    pub(super) fn take_all(&mut self, drawn: Vec<Drawn>) -> Option<End> {
        let draft = std::mem::take(&mut self.draft);
        let mut right = 0;
        let mut end = None;
        for (nth, drawn) in drawn.into_iter().enumerate() {
            let id = drawn.id;
            end = self.take(drawn, false);
            let is_right = end.is_none() && draft.get(nth) == Some(&id);
            // What follows was drawn from the model's own choice.
            if !is_right || self.plan() != Next::Free {
                break;
            }
            right += 1;
        }
        self.computed += right;
        if let Some(drafter) = &mut self.drafter {
            drafter.learn(draft.len(), right);
        }
        end
    }

    /// Takes a token; the end of the sample if it is that.
    pub(super) fn take(&mut self, drawn: Drawn, is_forced: bool) -> Option<End> {
        let id = drawn.id;
        self.planned = None;
        self.answer.push(id);
        self.steering.took(id);
        self.request.tell(Event::Token(Token {
            sample: self.index,
            drawn,
            is_forced,
        }));
        if self.request.job.stop.contains(&id) {
            return Some(End::Stop(id));
        }
        self.is_full().then_some(End::Length)
    }

    /// Takes a token that is put there.
    pub(super) fn take_forced(&mut self, id: u32) -> Option<End> {
        let drawn = Drawn {
            id,
            ..Drawn::default()
        };
        self.take(drawn, true)
    }

    /// Whether it has as many tokens as it may.
    pub(super) fn is_full(&self) -> bool {
        self.answer.len() >= self.request.job.max_tokens
    }

    /// Its end, told to whoever asked. Whether it was the last of its job.
    pub(super) fn end(&self, why: End) -> bool {
        self.request.tell(Event::Ended {
            sample: self.index,
            why,
            costs: self.costs,
        });
        self.leave()
    }

    /// It is lost.
    pub(super) fn fail(&self, why: &str) -> bool {
        let why = why.to_owned();
        self.request.tell(Event::Failed { why });
        self.leave()
    }

    fn leave(&self) -> bool {
        let left = self.request.left.get().saturating_sub(1);
        self.request.left.set(left);
        left == 0
    }
}

/// FLOPs of the rows of a sequence from one token up to another.
pub(super) fn flops(facts: &Facts, rows: Range<usize>) -> f64 {
    let n = rows.len() as f64;
    let before = rows.start as f64 + (n - 1.0) / 2.0;
    n * (facts.flops_per_token + before * facts.flops_per_key)
}

/// A job whose prompt is being read, by the first of its samples for all of them. One that was put
/// back reads for itself.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) samples: Vec<Sample>,
    /// Of the prompt's tokens, where wanted.
    pub(super) looked_at: Vec<Drawn>,
    /// Tokens of the prompt that were found in the cache.
    pub(super) cached: usize,
}

impl Reading {
    pub(super) fn first(&self) -> Option<&Sample> {
        self.samples.first()
    }

    /// Its prompt.
    pub(super) fn prompt(&self) -> Option<Arc<[u32]>> {
        self.first()
            .map(|first| Arc::clone(&first.request.job.prompt))
    }

    /// The prompt's rows up to `end`, and the draws of the first tokens where that is all of it.
    pub(super) fn part<'a>(&'a mut self, prompt: &'a [u32], end: usize) -> Option<Part<'a>> {
        let is_again = self.is_again();
        let first = self.samples.first()?;
        let (sequence, begin) = (first.sequence?, first.computed);
        let likeliest = first.request.job.prompt_likeliest.filter(|_| !is_again);
        let is_all = end == prompt.len() && !is_again;
        let draws = if is_all {
            (self.samples.iter_mut())
                .filter(|sample| !sample.is_full())
                .filter_map(|sample| {
                    let next = sample.plan();
                    let own = Own {
                        request: &sample.request,
                        index: sample.index,
                        position: prompt.len(),
                    };
                    own.draw(next, &mut sample.steering)
                })
                .collect()
        } else {
            Vec::new()
        };
        let looked_at = &mut self.looked_at;
        let before = looked_at.len();
        let watch = likeliest.map(|most| {
            let look = move |row: usize, logits: &[f32]| {
                // What was seen in a step that failed is seen again.
                looked_at.truncate(before + row);
                // The last row's is for the samples to draw.
                if let Some(id) = prompt.get(begin + row + 1) {
                    looked_at.push(Drawn {
                        id: *id,
                        log_prob: log_prob(logits, *id),
                        likeliest: super::likeliest::likeliest(logits, most),
                    });
                }
            };
            Box::new(look) as Watch<'_>
        });
        Some(Part {
            sequence,
            ids: prompt.get(begin..end)?,
            draft: &[],
            watch,
            draws,
        })
    }

    /// Rows of the prompt that are not computed.
    pub(super) fn rows_left(&self) -> usize {
        self.first()
            .map_or(0, |first| first.n_prompt() - first.computed)
    }

    /// Whether it goes on from tokens that were drawn before it was put back.
    pub(super) fn is_again(&self) -> bool {
        self.first().is_some_and(|first| !first.answer.is_empty())
    }
}
