//! One step: rows gathered from samples, computed together, and what came of them given back.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use std::sync::Arc;

use frugal_model::generate::price_of_a_row;
use frugal_run::consumption::Stopwatch;

use super::run::Run;
use super::sample::{Reading, Sample, flops};
use super::{Costs, Drawn, End, Error, Event, Part, Result, Rows, TokenModel};
use crate::steer::Next;

/// How long a part of prompts may keep those waiting who answer, in seconds; and the fewest rows of
/// one, below which the weights are read for too little.
const PATIENCE: f64 = 0.2;
const FEWEST_ROWS: usize = 32;
/// How much the last part counts in the mean pace.
const NEW_SHARE: f64 = 0.3;

impl Run {
    /// One step of all who answer.
    pub(super) fn answer(&mut self) {
        self.plan_answers();
        while !self.has_room_to_answer() {
            if !self.put_back_last() {
                for sample in std::mem::take(&mut self.answering) {
                    self.lose(sample, "the cache has no room for one sample");
                }
                return;
            }
        }
        if self.answering.is_empty() {
            return;
        }
        self.look_back();
        let mut samples = std::mem::take(&mut self.answering);
        let ends: Vec<usize> = samples.iter().map(|sample| self.end_of(sample)).collect();
        let seconds = Stopwatch::start();
        let results = {
            let mut parts: Vec<Part<'_>> = (samples.iter_mut().zip(&ends))
                .filter_map(|(sample, end)| sample.part(*end))
                .collect();
            compute(&mut *self.model, &mut parts, Rows::OfAnswers)
        };
        let seconds = seconds.seconds();
        self.bill(
            samples.iter_mut().collect(),
            &ends,
            Rows::OfAnswers,
            seconds,
        );
        for ((mut sample, end), result) in samples.into_iter().zip(ends).zip(results) {
            match result {
                Err(error) => self.lose(sample, &error.to_string()),
                Ok(drawn) => {
                    sample.computed = end;
                    self.settle(sample, drawn);
                }
            }
        }
    }

    /// Decides how the next tokens come about. Those that are put rather than drawn cost no step of
    /// their own.
    fn plan_answers(&mut self) {
        for mut sample in std::mem::take(&mut self.answering) {
            let end = loop {
                match sample.plan() {
                    Next::Forced(id) => {
                        if let Some(end) = sample.take_forced(id) {
                            break Some(end);
                        }
                    }
                    Next::Nothing => break Some(End::Complete),
                    Next::Free | Next::Adjusted => break None,
                }
            };
            self.go_on(sample, end);
        }
    }

    /// Drafts what may follow: in all as many rows as a part of prompts may have, as far as there are
    /// pages for them without anybody's loss.
    fn look_back(&mut self) {
        let price = price_of_a_row(self.answering.len(), self.facts.share_of_choice);
        let mut answering = std::mem::take(&mut self.answering);
        let own: usize = answering.iter().map(|sample| self.pages_of(sample)).sum();
        let mut pages = self.model.vacant_pages().saturating_sub(own);
        let mut rows = self.settings.prefill_rows;
        for sample in &mut answering {
            if self.end_of(sample) < sample.length() {
                continue;
            }
            let own = self.pages_of(sample);
            sample.look_back(rows, price);
            let more = self.pages_of(sample).saturating_sub(own);
            if more > pages {
                sample.forget_draft();
            } else {
                pages -= more;
                rows -= sample.n_drafted();
            }
        }
        self.answering = answering;
    }

    /// Pages that a sample needs to be computed as far as it is in this step, with its draft.
    fn pages_of(&self, sample: &Sample) -> usize {
        let rows = self.end_of(sample) - sample.computed + sample.n_drafted();
        let pages = sample.sequence.map(|it| self.model.pages_for(it, rows));
        pages.and_then(Result::ok).unwrap_or(0)
    }

    /// Gives a sample what was drawn for it, and forgets what was computed on a wrong draft.
    fn settle(&mut self, mut sample: Sample, drawn: Vec<Drawn>) {
        let (computed, drafted) = (sample.computed, sample.n_drafted());
        let end = sample.take_all(drawn);
        let right = sample.computed - computed;
        // Their FLOPs are billed.
        let rows = Costs {
            answer_rows: right,
            ..Costs::default()
        };
        sample.costs.add(&rows);
        sample.paid = sample.paid.max(sample.computed);
        self.gauges.spend(&rows);
        self.gauges.draft(drafted, right);
        if end.is_none()
            && right < drafted
            && let Some(sequence) = sample.sequence
            && let Err(error) = self.model.truncate(sequence, sample.computed)
        {
            self.lose(sample, &error.to_string());
            return;
        }
        self.go_on(sample, end);
    }

    fn go_on(&mut self, sample: Sample, end: Option<End>) {
        match end {
            Some(end) => self.finish(sample, end),
            None => self.answering.push(sample),
        }
    }

    /// How far a sample that answers is computed in this step: all of it, except after it was put
    /// back.
    fn end_of(&self, sample: &Sample) -> usize {
        let most = sample.computed + self.settings.prefill_rows.max(1);
        sample.length().min(most)
    }

    fn has_room_to_answer(&mut self) -> bool {
        let pages = self.answering.iter().map(|sample| self.pages_of(sample));
        self.make_room(pages.sum())
    }

    /// One part of the prompts being read, evenly shared among them.
    pub(super) fn read(&mut self) {
        let mut readings: Vec<Reading> = self.reading.drain(..).collect();
        let ends = self.share_out(&readings);
        let pages = (readings.iter().zip(&ends)).filter_map(|(reading, end)| {
            let first = reading.first()?;
            let rows = end - first.computed;
            self.model.pages_for(first.sequence?, rows).ok()
        });
        let pages = pages.sum();
        // Those who answer will leave pages.
        if !self.make_room(pages) && !self.answering.is_empty() {
            self.reading.extend(readings);
            return;
        }
        // Who has no rows in this step waits for the next.
        let mut taking_part = Vec::new();
        let mut ends_of_parts = Vec::new();
        for (reading, end) in readings.drain(..).zip(ends) {
            if reading.first().is_some_and(|first| end > first.computed) {
                taking_part.push(reading);
                ends_of_parts.push(end);
            } else {
                self.reading.push_back(reading);
            }
        }
        if !taking_part.is_empty() {
            self.read_parts(taking_part, &ends_of_parts);
        }
    }

    fn read_parts(&mut self, mut readings: Vec<Reading>, ends: &[usize]) {
        let prompts: Vec<Arc<[u32]>> = readings.iter().filter_map(Reading::prompt).collect();
        let seconds = Stopwatch::start();
        let results = {
            let rows = readings.iter_mut().zip(&prompts).zip(ends);
            let mut parts: Vec<Part<'_>> = rows
                .filter_map(|((reading, prompt), end)| reading.part(prompt, *end))
                .collect();
            compute(&mut *self.model, &mut parts, Rows::OfPrompts)
        };
        let seconds = seconds.seconds();
        let rows: usize = (readings.iter().zip(ends))
            .filter_map(|(reading, end)| Some(end - reading.first()?.computed))
            .sum();
        let pace = seconds / rows.max(1) as f64;
        self.seconds_per_row += NEW_SHARE * (pace - self.seconds_per_row);
        let payers = readings.iter_mut().filter_map(|r| r.samples.first_mut());
        self.bill(payers.collect(), ends, Rows::OfPrompts, seconds);
        for ((mut reading, end), result) in readings.into_iter().zip(ends).zip(results) {
            match result {
                Err(error) => {
                    for sample in reading.samples {
                        self.lose(sample, &error.to_string());
                    }
                }
                Ok(drawn) => {
                    if let Some(first) = reading.samples.first_mut() {
                        first.computed = *end;
                    }
                    if reading.rows_left() > 0 {
                        self.reading.push_back(reading);
                    } else {
                        self.begin_answers(reading, drawn);
                    }
                }
            }
        }
    }

    /// How far each prompt is computed in this step.
    fn share_out(&self, readings: &[Reading]) -> Vec<usize> {
        let most = self.settings.prefill_rows.max(1);
        let mut budget = if self.answering.is_empty() || self.seconds_per_row <= 0.0 {
            most
        } else {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a positive number of rows, bounded on the next line"
            )]
            let rows = (PATIENCE / self.seconds_per_row).min(1e6) as usize;
            rows.clamp(FEWEST_ROWS.min(most), most)
        };
        let mut rows = vec![0; readings.len()];
        let mut waiting: Vec<usize> = (0..readings.len()).collect();
        while budget > 0 && !waiting.is_empty() {
            let each = (budget / waiting.len()).max(1);
            waiting.retain(|index| {
                let (Some(rows), Some(reading)) = (rows.get_mut(*index), readings.get(*index))
                else {
                    return false;
                };
                let more = each.min(reading.rows_left() - *rows).min(budget);
                *rows += more;
                budget -= more;
                *rows < reading.rows_left()
            });
        }
        let computed = |reading: &Reading| reading.first().map_or(0, |first| first.computed);
        (readings.iter().zip(rows))
            .map(|(reading, rows)| computed(reading) + rows)
            .collect()
    }

    /// The prompt is read: its samples begin, each with pages of its own from here on.
    fn begin_answers(&mut self, reading: Reading, drawn: Vec<Drawn>) {
        let is_again = reading.is_again();
        let Reading {
            mut samples,
            looked_at,
            cached,
        } = reading;
        let Some(sequence) = samples.first().and_then(|first| first.sequence) else {
            return;
        };
        if let Some(first) = samples.first() {
            if let Err(error) = self.keep(first) {
                tracing::warn!(%error, "a prompt could not be kept");
            }
            if !is_again {
                first.request.tell(Event::Begun {
                    cached,
                    prompt: looked_at,
                });
            }
        }
        for sample in samples.iter_mut().skip(1) {
            sample.computed = sample.n_prompt();
            // The first one paid for all.
            sample.paid = sample.computed;
            sample.sequence = self.model.fork(sequence, sample.computed).ok();
        }
        if is_again {
            self.answering.append(&mut samples);
            return;
        }
        let mut drawn = drawn.into_iter();
        for mut sample in samples {
            if sample.sequence.is_none() {
                self.lose(sample, "the cache has no room for one more sample");
                continue;
            }
            let end = match sample.planned() {
                None => Some(End::Length),
                Some(Next::Forced(id)) => sample.take_forced(id),
                Some(Next::Nothing) => Some(End::Complete),
                Some(Next::Free | Next::Adjusted) => {
                    drawn.next().and_then(|drawn| sample.take(drawn, false))
                }
            };
            self.go_on(sample, end);
        }
    }

    /// Shares out what a step cost, by FLOPs; each sample was computed up to its end, and its draft, right
    /// or wrong. All of it was spent, and a sample pays for the rows that it had not before.
    fn bill(&mut self, samples: Vec<&mut Sample>, ends: &[usize], rows: Rows, seconds: f64) {
        let facts = self.facts;
        let computed = |(sample, end): (&&mut Sample, &usize)| sample.computed..*end;
        let each: Vec<Range<usize>> = samples.iter().zip(ends).map(computed).collect();
        let drafted = |sample: &Sample, end| flops(&facts, end..end + sample.n_drafted());
        let all: f64 = (samples.iter().zip(&each))
            .map(|(sample, each)| flops(&facts, each.clone()) + drafted(sample, each.end))
            .sum();
        let pace = seconds * self.settings.threads as f64 / all.max(f64::MIN_POSITIVE);
        let costs = |of: Range<usize>, more: f64| {
            let n = of.len();
            let flops = flops(&facts, of) + more;
            let (prompt_rows, answer_rows) = match rows {
                Rows::OfPrompts => (n, 0),
                Rows::OfAnswers => (0, n),
            };
            Costs {
                flops,
                core_seconds: flops * pace,
                prompt_rows,
                answer_rows,
            }
        };
        for (sample, computed) in samples.into_iter().zip(each) {
            let (n, end) = (computed.len(), computed.end);
            let new = sample.paid.clamp(computed.start, end)..end;
            sample.paid = sample.paid.max(end);
            let drafted = drafted(sample, end);
            sample.costs.add(&costs(new, drafted));
            self.gauges.spend(&costs(computed, drafted));
            let owner = sample.request.job.owner;
            self.queue.charge(owner, n + sample.n_drafted());
        }
    }
}

/// Computes parts; what one of them makes impossible is not the others' loss.
fn compute(
    model: &mut dyn TokenModel,
    parts: &mut [Part<'_>],
    rows: Rows,
) -> Vec<Result<Vec<Drawn>>> {
    let counts: Vec<usize> = parts.iter().map(|part| part.draws.len()).collect();
    match step(model, parts, rows) {
        Ok(drawn) => {
            let mut drawn = drawn.into_iter();
            let own = |n: usize| Ok(drawn.by_ref().take(n).collect());
            counts.into_iter().map(own).collect()
        }
        Err(error) if parts.len() < 2 => vec![Err(error)],
        Err(error) => {
            tracing::warn!(%error, "a step failed and is tried part by part");
            let again = |part: &mut Part<'_>| step(model, std::slice::from_mut(part), rows);
            parts.iter_mut().map(again).collect()
        }
    }
}

fn step(model: &mut dyn TokenModel, parts: &mut [Part<'_>], rows: Rows) -> Result<Vec<Drawn>> {
    // The model's own state is that of before the step wherever it panics: that is its promise.
    catch_unwind(AssertUnwindSafe(|| model.step(parts, rows))).unwrap_or(Err(Error::Panicked))
}
