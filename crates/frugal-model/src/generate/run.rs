//! One call of a generator: who is being continued, who begins, who has ended.

use alloc::vec;
use alloc::vec::Vec;

use frugal_core::backend::{Backend, Picked};
use frugal_core::rng::key;
use frugal_core::shape::Rows;

use super::draft::{Drafted, Drafting, Track};
use super::engine::{Engine, row_number, share_of_choice};
use super::{Batch, Request, Sample};
use crate::cache::Cache;
use crate::error::Result;
use crate::transformer::{self, Model};

/// The state of one call.
pub(super) struct Run<'a, B: Backend> {
    /// For prompts.
    engine: Engine<'a, B>,
    /// For what follows them.
    answering: Engine<'a, B>,
    pub(super) batch: &'a Batch<'a>,
    /// Of all requests, one after another; the place of a track is its sample's in here.
    flat: Vec<Sample>,
    pub(super) live: Vec<Track>,
    /// Requests begun.
    pub(super) begun: usize,
    /// Samples begun.
    n_tracks: usize,
    pub(super) drafted: Drafted,
    /// What the first samples are to say.
    pub(super) texts: &'a [Vec<u32>],
}

impl<'a, B: Backend> Run<'a, B> {
    pub(super) fn new(
        b: &'a B,
        [prompts, answers]: [&'a Model<B::Tensor>; 2],
        batch: &'a Batch<'a>,
        drafting: Drafting,
    ) -> Result<Self> {
        let n_samples = batch.requests.iter().map(|request| request.n_samples).sum();
        let chosen = share_of_choice(&prompts.config)?;
        let engine = |model| Engine {
            b,
            model,
            sampling: batch.sampling,
            drafting,
            chosen,
            stop: batch.stop,
        };
        Ok(Self {
            engine: engine(prompts),
            answering: engine(answers),
            batch,
            flat: vec![Sample::default(); n_samples],
            live: Vec::new(),
            begun: 0,
            n_tracks: 0,
            drafted: Drafted::default(),
            texts: &[],
        })
    }

    /// The samples of each request.
    pub(super) fn samples(self) -> Vec<Vec<Sample>> {
        let mut flat = self.flat.into_iter();
        let requests = self.batch.requests.iter();
        requests
            .map(|request| flat.by_ref().take(request.n_samples).collect())
            .collect()
    }

    /// Computes the next prompts and draws the first token of their samples.
    pub(super) fn prefill(
        &mut self,
        cache: &mut Cache<B::Tensor>,
        n_requests: usize,
    ) -> Result<usize> {
        let b = self.engine.b;
        let requests = self.batch.requests.iter();
        let requests: Vec<&Request<'_>> = requests.skip(self.begun).take(n_requests).collect();
        let mut prompts = Vec::with_capacity(n_requests);
        let mut ids = Vec::new();
        let mut lengths = Vec::with_capacity(n_requests);
        for request in &requests {
            let mut track = Track::new(cache.open()?, [0; 3]);
            let first = row_number(ids.len())?;
            ids.extend_from_slice(request.ids);
            lengths.push(row_number(request.ids.len())?);
            // What follows the last row is for each sample to draw.
            track.rows = first..row_number(ids.len() - 1)?;
            track.ids.extend_from_slice(request.ids);
            prompts.push(track);
        }
        let sequences: Vec<_> = prompts.iter().map(|track| track.sequence).collect();
        let rows = Rows::packed(&lengths)?;
        let hidden = self.engine.hidden(cache, &ids, &rows, &sequences)?;
        self.engine.follow(cache, &prompts, &hidden)?;
        let last_rows: Vec<u32> = prompts.iter().map(|track| track.rows.end).collect();
        let logits = b.gather(&hidden, &last_rows)?;
        let logits = transformer::logits(b, self.engine.model, &logits)?;
        let mut rows_of_samples = Vec::new();
        let mut tracks = Vec::new();
        for (row, (request, prompt)) in (0..).zip(requests.iter().zip(&prompts)) {
            for sample in 0..request.n_samples {
                rows_of_samples.push(row);
                tracks.push(self.begin(cache, request, prompt, sample)?);
            }
            cache.free(prompt.sequence)?;
        }
        self.begun += n_requests;
        let first = |track: &Track| track.uniform(track.ids.len());
        let uniforms: Vec<f32> = tracks.iter().map(first).collect();
        let logits = b.gather(&logits, &rows_of_samples)?;
        let picked = b.pick(&logits, &self.engine.sampling, &uniforms)?;
        self.settle(cache, tracks, &hidden, &picked)
    }

    /// One of the samples of a request whose prompt is computed.
    fn begin(
        &mut self,
        cache: &mut Cache<B::Tensor>,
        request: &Request<'_>,
        prompt: &Track,
        sample: usize,
    ) -> Result<Track> {
        let words = [key("sample"), request.seed, sample as u64];
        let mut track = Track::new(cache.fork(prompt.sequence)?, words);
        track.place = self.n_tracks;
        if let Some(text) = self.texts.get(track.place) {
            track.told = text.iter().rev().copied().collect();
        }
        self.n_tracks += 1;
        track.limit = request.ids.len() + self.batch.max_new_tokens;
        track.ids.reserve_exact(track.limit);
        track.ids.extend_from_slice(request.ids);
        track.rows = prompt.rows.end..prompt.rows.end + 1;
        track.start = row_number(request.ids.len() - 1)?;
        Ok(track)
    }

    /// Continues all live samples, each by a token or more.
    pub(super) fn decode(&mut self, cache: &mut Cache<B::Tensor>) -> Result<usize> {
        let mut tracks = core::mem::take(&mut self.live);
        self.answering.look_back(&mut tracks);
        let (hidden, picked) = self.answering.step(cache, &mut tracks)?;
        self.settle(cache, tracks, &hidden, &picked)
    }

    /// Hands out the tokens drawn, retires samples that end, and lets the others draft.
    fn settle(
        &mut self,
        cache: &mut Cache<B::Tensor>,
        mut tracks: Vec<Track>,
        hidden: &B::Tensor,
        picked: &Picked,
    ) -> Result<usize> {
        let (flat, stop) = (&mut self.flat, self.batch.stop);
        let mut n_drawn = 0;
        let mut keep = |track: &Track, log_probs: &[f32]| {
            let first = track.ids.len() - log_probs.len();
            let ids = track.ids.get(first..).unwrap_or(&[]);
            n_drawn += ids.len();
            if let Some(sample) = flat.get_mut(track.place) {
                sample.ids.extend_from_slice(ids);
                sample.log_probs.extend_from_slice(log_probs);
                sample.is_finished = ids.last().is_some_and(|id| stop.contains(id));
            }
        };
        let counts = self
            .answering
            .settle(cache, &mut tracks, picked, &mut keep)?;
        self.drafted.add(&counts);
        let mut going = Vec::with_capacity(self.live.len() + tracks.len());
        for track in tracks {
            let sample = self.flat.get(track.place);
            if sample.is_some_and(|sample| sample.is_finished) || track.ids.len() >= track.limit {
                cache.free(track.sequence)?;
            } else {
                going.push(track);
            }
        }
        if let Some(ahead) = self.answering.follow(cache, &going, hidden)? {
            self.answering.look_ahead(cache, &mut going, ahead)?;
        }
        self.live.append(&mut going);
        Ok(n_drawn)
    }
}
