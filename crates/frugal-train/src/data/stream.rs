//! Steps of an endless, generated corpus.

use frugal_core::rng::Rng;

use super::pack::{Sample, Step};
use crate::error::{Error, Result};

/// A corpus that never ends: sample j of step i is drawn from the random stream named by
/// (key.., i, j), so a step follows from its index alone.
#[derive(Debug, Clone)]
pub struct Stream<G> {
    key: Vec<u64>,
    n_rows: usize,
    generate: G,
}

impl<G> Stream<G>
where
    G: Fn(&mut Rng) -> Result<Sample>,
{
    /// A stream of steps of exactly `n_rows` rows, of what `generate` makes; `key` names run and stage.
    #[must_use]
    pub fn new(key: &[u64], n_rows: usize, generate: G) -> Self {
        Self {
            key: key.to_vec(),
            n_rows,
            generate,
        }
    }

    /// The samples of step `index`.
    ///
    /// The last one is cut to fill the step: steps of one size are quicker than ragged ones, and
    /// leaving out what does not fit would make long samples rarer than the corpus has them.
    ///
    /// # Errors
    /// Those of the generator, and a sample without a target.
    pub fn samples(&self, index: u64) -> Result<Vec<Sample>> {
        let mut samples = Vec::new();
        let mut left = self.n_rows;
        while left > 0 {
            let place = [index, samples.len() as u64];
            let mut rng = Rng::derive(&[&self.key[..], &place].concat());
            let mut sample = (self.generate)(&mut rng)?;
            if sample.n_rows() == 0 {
                return Err(Error::Sample {
                    index: samples.len(),
                    reason: format!("expected at least 2 tokens, got {}", sample.ids.len()),
                });
            }
            sample.cut(left);
            left -= sample.n_rows();
            samples.push(sample);
        }
        Ok(samples)
    }

    /// Step `index`.
    ///
    /// # Errors
    /// As [`Stream::samples`].
    pub fn step(&self, index: u64) -> Result<Step> {
        Step::of(&self.samples(index)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(key: u64) -> Stream<impl Fn(&mut Rng) -> Result<Sample>> {
        Stream::new(&[key], 40, |rng| {
            let n = 2 + rng.below(12) as usize;
            Ok(Sample::plain((0..n).map(|_| rng.below(100)).collect()))
        })
    }

    #[test]
    fn a_step_follows_from_its_index() {
        let later = stream(1).step(7).unwrap();
        let fresh = stream(1);
        for index in 0..7 {
            assert_ne!(fresh.step(index).unwrap(), later);
        }
        assert_eq!(fresh.step(7).unwrap(), later);
        assert_ne!(stream(2).step(7).unwrap(), later);
        assert_eq!(later.rows.n_rows(), 40);
    }

    #[test]
    fn a_generator_without_tokens_is_refused() {
        let empty = Stream::new(&[1], 10, |_| Ok(Sample::plain(vec![3])));
        assert!(empty.step(0).is_err());
    }
}
