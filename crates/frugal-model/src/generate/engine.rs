//! One step of sequences that are being continued, each by its last tokens and its draft.

use alloc::vec::Vec;

use frugal_core::backend::{Backend, Picked, Sampling};
use frugal_core::shape::Rows;

use super::draft::{Drafted, Drafting, Track};
use super::ngram::look_up;
use crate::cache::{Cache, Cached, SequenceId};
use crate::config::ModelConfig;
use crate::error::Result;
use crate::mtp;
use crate::params::{Params, Spec};
use crate::transformer::{self, Model, Step};

/// So many rows cost about as much on top of a step as a step of one row, measured where the weights are
/// read from memory; fewer where they are in the processor's cache.
const ROWS_OF_A_STEP: f32 = 10.0;

/// Who computes, who draws, who drafts.
#[derive(Debug)]
pub(crate) struct Engine<'a, B: Backend> {
    pub(crate) b: &'a B,
    /// As prompts are computed, or answers.
    pub(crate) model: &'a Model<B::Tensor>,
    pub(crate) sampling: Sampling,
    pub(crate) drafting: Drafting,
    /// Of [`share_of_choice`].
    pub(crate) chosen: f32,
    pub(crate) stop: &'a [u32],
}

/// The share of a token's weights that are of experts it chose: other rows of its step choose others.
///
/// # Errors
/// If the config has no such parameters.
pub fn share_of_choice(config: &ModelConfig) -> Result<f32> {
    let count = Params::<Spec>::spec(config)?.count(config);
    Ok(count.chosen as f32 / count.active.max(1) as f32)
}

/// The rows of a step, gathered track by track.
#[derive(Debug, Default)]
struct Gathered {
    ids: Vec<u32>,
    lengths: Vec<u32>,
    starts: Vec<u32>,
    sequences: Vec<SequenceId>,
}

impl Gathered {
    fn push(&mut self, sequence: SequenceId, start: u32, parts: [&[u32]; 2]) -> Result<()> {
        let before = self.ids.len();
        for part in parts {
            self.ids.extend_from_slice(part);
        }
        self.lengths.push(row_number(self.ids.len() - before)?);
        self.starts.push(start);
        self.sequences.push(sequence);
        Ok(())
    }

    fn rows(&self) -> Result<Rows> {
        Ok(Rows::new(&self.lengths, &self.starts)?)
    }

    /// Whether the cache has pages enough. Such as sharers might leave to each other are not counted.
    fn fits<T: Clone>(&self, cache: &Cache<T>) -> Result<bool> {
        let mut needed = 0;
        let places = self.starts.iter().zip(&self.lengths);
        for (sequence, (start, length)) in self.sequences.iter().zip(places) {
            needed += cache.pages_for(*sequence, *start, *length)?;
        }
        Ok(needed <= cache.vacant_pages())
    }
}

impl<B: Backend> Engine<'_, B> {
    /// Gives each track a draft where its text suggests one.
    pub(crate) fn look_back(&self, tracks: &mut [Track]) {
        let Drafting::Lookup(rule) = self.drafting else {
            return;
        };
        let price = price_of_a_row(tracks.len(), self.chosen);
        for track in tracks {
            let most = track.reach(rule.most, price);
            if most > 0 {
                look_up(&track.ids, rule, most, &mut track.draft);
            }
        }
    }

    /// Computes what the cache does not hold of each track, and its draft: hidden states of all
    /// rows, and a token drawn after the last token of each track and after each one of its draft.
    pub(crate) fn step(
        &self,
        cache: &mut Cache<B::Tensor>,
        tracks: &mut [Track],
    ) -> Result<(B::Tensor, Picked)> {
        let mut gathered = gather_tracks(cache, tracks)?;
        let has_drafts = tracks.iter().any(|track| !track.draft.is_empty());
        if has_drafts && !gathered.fits(cache)? {
            for track in tracks.iter_mut() {
                track.draft.clear();
            }
            gathered = gather_tracks(cache, tracks)?;
        }
        let mut chosen = Vec::with_capacity(gathered.ids.len());
        let mut uniforms = Vec::with_capacity(gathered.ids.len());
        for track in tracks.iter() {
            let n_drawn = row_number(track.draft.len())? + 1;
            let first = track.rows.end.saturating_sub(n_drawn);
            chosen.extend(first..track.rows.end);
            let positions = track.ids.len()..=track.ids.len() + track.draft.len();
            uniforms.extend(positions.map(|position| track.uniform(position)));
        }
        let (ids, sequences) = (&gathered.ids, &gathered.sequences);
        let hidden = self.hidden(cache, ids, &gathered.rows()?, sequences)?;
        let logits = if chosen.len() == ids.len() {
            transformer::logits(self.b, self.model, &hidden)?
        } else {
            let chosen = self.b.gather(&hidden, &chosen)?;
            transformer::logits(self.b, self.model, &chosen)?
        };
        let picked = self.b.pick(&logits, &self.sampling, &uniforms)?;
        Ok((hidden, picked))
    }

    /// Hidden states of the given rows.
    pub(crate) fn hidden(
        &self,
        cache: &mut Cache<B::Tensor>,
        ids: &[u32],
        rows: &Rows,
        sequences: &[SequenceId],
    ) -> Result<B::Tensor> {
        let cached = Cached { cache, sequences };
        transformer::hidden(self.b, self.model, &Step { ids, rows }, Some(cached))
    }

    /// Gives each track the tokens drawn for it as far as they hold, and forgets what was computed
    /// on a wrong draft. `on_taken` sees each track with its new tokens, and their log-probabilities.
    pub(crate) fn settle(
        &self,
        cache: &mut Cache<B::Tensor>,
        tracks: &mut [Track],
        picked: &Picked,
        on_taken: &mut dyn FnMut(&Track, &[f32]),
    ) -> Result<Drafted> {
        let mut counts = Drafted::default();
        let mut next = 0;
        for track in tracks {
            let end = next + track.draft.len() + 1;
            let ids = picked.ids.get(next..end).unwrap_or(&[]);
            let log_probs = picked.log_probs.get(next..end).unwrap_or(&[]);
            next = end;
            let taken = track.take(ids, self.stop, &mut counts);
            on_taken(track, log_probs.get(..taken).unwrap_or(&[]));
            // The last token taken is not computed yet.
            let computed = cache.length(track.sequence)?;
            let held = row_number(track.ids.len())?.saturating_sub(1);
            track.rows.end -= computed.saturating_sub(held);
            cache.truncate(track.sequence, held)?;
        }
        Ok(counts)
    }

    /// Lets the extra layer, where it drafts, see the rows of `hidden` that are each track's own, with
    /// the tokens that follow them. Gives its hidden states after the last of each; nothing where
    /// the cache has no room.
    pub(crate) fn follow(
        &self,
        cache: &mut Cache<B::Tensor>,
        tracks: &[Track],
        hidden: &B::Tensor,
    ) -> Result<Option<B::Tensor>> {
        if !matches!(self.drafting, Drafting::Mtp { .. }) {
            return Ok(None);
        }
        let mut gathered = Gathered::default();
        let (mut kept, mut last) = (Vec::new(), Vec::new());
        for track in tracks.iter().filter(|track| !track.rows.is_empty()) {
            let first = track.start as usize + 1;
            let next = track.ids.get(first..first + track.rows.len());
            gathered.push(track.sequence, track.start, [next.unwrap_or(&[]), &[]])?;
            kept.extend(track.rows.clone());
            last.push(row_number(kept.len() - 1)?);
        }
        if kept.is_empty() || !gathered.fits(cache)? {
            return Ok(None);
        }
        let hidden = self.b.gather(hidden, &kept)?;
        let hidden = self.extra(cache, &gathered, &hidden)?;
        Ok(Some(self.b.gather(&hidden, &last)?))
    }

    fn extra(
        &self,
        cache: &mut Cache<B::Tensor>,
        gathered: &Gathered,
        hidden: &B::Tensor,
    ) -> Result<B::Tensor> {
        let (rows, ids) = (&gathered.rows()?, &*gathered.ids);
        let sequences = &gathered.sequences;
        let cached = Cached { cache, sequences };
        mtp::hidden_cached(self.b, self.model, hidden, &Step { ids, rows }, cached)
    }

    /// Drafts with the extra layer, whose hidden states `[tracks, D]` of the last tokens are given;
    /// for more than one token it is applied to its own results.
    ///
    /// A guess is drawn by the very number that will decide the token: where both distributions are
    /// alike, so are the draws.
    pub(crate) fn look_ahead(
        &self,
        cache: &mut Cache<B::Tensor>,
        tracks: &mut [Track],
        mut hidden: B::Tensor,
    ) -> Result<()> {
        // Each guess is a layer's work and the head's.
        let own = 1.0 / self.model.config.num_hidden_layers.max(1) as f32;
        let price = price_of_a_row(tracks.len(), self.chosen) + own;
        let most = self.drafting.most();
        let mut live: Vec<(usize, &mut Track)> = (tracks.iter_mut())
            .map(|track| (track.reach(most, price), track))
            .collect();
        for round in 0..most {
            let going = (0..).zip(&live).filter(|(_, (reach, _))| *reach > round);
            let going: Vec<u32> = going.map(|(row, _)| row).collect();
            live.retain(|(reach, _)| *reach > round);
            if live.is_empty() {
                break;
            }
            hidden = self.b.gather(&hidden, &going)?;
            if round > 0 {
                match self.again(cache, &live, &hidden)? {
                    Some(further) => hidden = further,
                    None => break,
                }
            }
            let logits = transformer::logits(self.b, self.model, &hidden)?;
            let uniforms: Vec<f32> = (live.iter())
                .map(|(_, track)| track.uniform(track.ids.len() + round))
                .collect();
            let picked = self.b.pick(&logits, &self.sampling, &uniforms)?;
            for ((_, track), id) in live.iter_mut().zip(picked.ids) {
                track.draft.push(id);
            }
        }
        // Rows beyond what is held are written again by the next step, which takes its own pages.
        for track in tracks {
            let held = cache.length(track.sequence)?;
            cache.truncate(track.sequence, held)?;
        }
        Ok(())
    }

    /// The extra layer after its own last guess of each track.
    fn again(
        &self,
        cache: &mut Cache<B::Tensor>,
        live: &[(usize, &mut Track)],
        hidden: &B::Tensor,
    ) -> Result<Option<B::Tensor>> {
        let mut gathered = Gathered::default();
        for (_, track) in live {
            let (last, before) = track
                .draft
                .split_last()
                .map_or((0, 0), |(id, rest)| (*id, rest.len()));
            let start = cache.length(track.sequence)? + row_number(before)?;
            gathered.push(track.sequence, start, [&[last], &[]])?;
        }
        if !gathered.fits(cache)? {
            return Ok(None);
        }
        self.extra(cache, &gathered, hidden).map(Some)
    }
}

/// What a drafted row must bring, in tokens, where so many sequences are continued together: its cost
/// over what a token of theirs costs. `chosen` is [`share_of_choice`].
#[must_use]
pub fn price_of_a_row(n_sequences: usize, chosen: f32) -> f32 {
    let (n, row) = (n_sequences as f32, 1.0 / ROWS_OF_A_STEP);
    n * (row + chosen) / (1.0 + n * row + (n - 1.0) * chosen)
}

/// The rows of a step, of which each track keeps in mind its own.
fn gather_tracks<T: Clone>(cache: &Cache<T>, tracks: &mut [Track]) -> Result<Gathered> {
    let mut gathered = Gathered::default();
    for track in tracks {
        let first = row_number(gathered.ids.len())?;
        track.start = cache.length(track.sequence)?;
        let rest = track.ids.get(track.start as usize..).unwrap_or(&[]);
        gathered.push(track.sequence, track.start, [rest, &track.draft])?;
        track.rows = first..row_number(gathered.ids.len())?;
    }
    Ok(gathered)
}

/// A row's number, or a length, as back-ends count them.
pub(crate) fn row_number(row: usize) -> Result<u32> {
    u32::try_from(row).map_err(|_| frugal_core::error::Error::PositionOverflow.into())
}
