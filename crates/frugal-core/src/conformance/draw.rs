//! Shapes and numbers of a draw, all derived from its name.

use alloc::vec::Vec;

use crate::error::Result;
use crate::rng::Rng;
use crate::shape::Rows;

/// Sizes around which kernels go wrong: nothing, one, primes, and the edges of tiles.
const SIZES: [usize; 20] = [
    1, 2, 3, 5, 7, 8, 13, 15, 16, 17, 31, 32, 33, 47, 63, 64, 65, 96, 127, 129,
];

/// A stream of shapes and numbers.
pub(super) struct Draw {
    rng: Rng,
    index: u64,
}

impl Draw {
    pub(super) fn new(rng: Rng, index: u64) -> Self {
        Self { rng, index }
    }

    /// Which draw this is; 0 is the one without rows.
    pub(super) fn index(&self) -> u64 {
        self.index
    }

    /// A size of at most `limit`, at least 1.
    pub(super) fn size(&mut self, limit: usize) -> usize {
        let n = SIZES.iter().take_while(|size| **size <= limit).count();
        let at = self.below(n.max(1));
        SIZES.get(at).copied().unwrap_or(1)
    }

    /// Rows of a step: none in draw 0, one in draw 1, else any size up to `limit`.
    pub(super) fn rows(&mut self, limit: usize) -> usize {
        match self.index {
            0 => 0,
            1 => 1,
            _ => self.size(limit),
        }
    }

    /// Ragged sequences of `n_rows` together, some of them empty.
    pub(super) fn sequences(&mut self, n_rows: usize) -> Result<Rows> {
        let mut lengths = Vec::new();
        let mut left = n_rows;
        while left > 0 {
            let length = self.below(left + 1);
            // Every third may be empty, but a step ends some time.
            let length = if length == 0 && self.below(3) > 0 {
                left
            } else {
                length
            };
            lengths.push(u32::try_from(length).unwrap_or(0));
            left -= length;
        }
        lengths.push(0);
        Rows::packed(&lengths)
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        self.rng.below(u32::try_from(n).unwrap_or(u32::MAX)) as usize
    }

    pub(super) fn normals(&mut self, n: usize) -> Vec<f32> {
        self.rng.normals(n, 1.0)
    }

    pub(super) fn uniform(&mut self) -> f32 {
        self.rng.uniform()
    }

    /// `n` indices below `limit`, with repetitions.
    pub(super) fn indices(&mut self, n: usize, limit: usize) -> Vec<u32> {
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        (0..n).map(|_| self.rng.below(limit)).collect()
    }

    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        self.rng.shuffle(items);
    }

    pub(super) fn choose<T: Copy>(&mut self, first: T, others: &[T]) -> T {
        let at = self.below(others.len() + 1);
        others.get(at).copied().unwrap_or(first)
    }
}
