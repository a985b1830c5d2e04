//! The memory that tensors and scratch come from.
//!
//! A [`Block`] comes from a [`Recycler`] and returns to it, so that a training step after the first
//! few asks the system for nothing. Blocks begin at a cache line and hold what they held last.
//! Nothing here knows shapes. Read next: [`super::tensor`].

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use half::bf16;

use super::vector::Level;

/// One cache line.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([u32; 16]);

impl Line {
    const BYTES: usize = 64;
    /// NaN as f32: in debug builds recycled memory is filled with it, so that a kernel that leaves
    /// a number unwritten is found out.
    const POISON: Self = Self([0x7FC0_0000; 16]);
}

/// Idle memory a recycler keeps at most.
const MOST_IDLE_BYTES: usize = 1 << 31;

/// Sizes up to this many lines are found only by blocks of the very size.
const MOST_SMALL_LINES: usize = 256;

/// Memory that waits to be used again, by size.
pub(super) struct Recycler {
    shelves: Mutex<Shelves>,
    fresh: AtomicUsize,
    level: Level,
}

#[derive(Default)]
struct Shelves {
    /// Blocks of each size, found without a search: decoding a token of a small model takes and
    /// gives back some hundred.
    sizes: Vec<Vec<Vec<Line>>>,
    idle_lines: usize,
}

impl fmt::Debug for Recycler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recycler")
            .field("fresh", &self.fresh)
            .finish_non_exhaustive()
    }
}

impl Recycler {
    /// Nothing yet, for tensors that kernels of `level` work on.
    pub(super) fn new(level: Level) -> Self {
        Self {
            shelves: Mutex::default(),
            fresh: AtomicUsize::new(0),
            level,
        }
    }

    /// The kernels' level.
    pub(super) fn level(&self) -> Level {
        self.level
    }

    /// Memory of at least `bytes`, with whatever it held last.
    pub(super) fn take(self: &Arc<Self>, bytes: usize) -> Block {
        let class = size_class(bytes.div_ceil(Line::BYTES));
        let found = {
            let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
            // Up to twice the size asked for: steps vary in length from one to the next.
            let others = if class <= MOST_SMALL_LINES { 0 } else { STEPS };
            let first = shelf_of(class);
            let shelf = shelves.sizes.iter_mut().skip(first).take(1 + others);
            let fitting = shelf.into_iter().find_map(Vec::pop);
            if let Some(lines) = &fitting {
                shelves.idle_lines -= lines.len();
            }
            fitting
        };
        let mut lines = found.unwrap_or_else(|| {
            self.fresh.fetch_add(1, Ordering::Relaxed);
            allocate(class)
        });
        if cfg!(debug_assertions) {
            lines.fill(Line::POISON);
        }
        Block {
            lines,
            home: Arc::clone(self),
        }
    }

    /// Memory for `len` floats.
    pub(super) fn take_f32(self: &Arc<Self>, len: usize) -> Block {
        self.take(len.saturating_mul(4))
    }

    /// How often the system was asked for memory.
    pub(super) fn fresh(&self) -> usize {
        self.fresh.load(Ordering::Relaxed)
    }

    fn give_back(&self, lines: Vec<Line>) {
        if lines.is_empty() {
            return;
        }
        let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        if (shelves.idle_lines + lines.len()) * Line::BYTES <= MOST_IDLE_BYTES {
            shelves.idle_lines += lines.len();
            let shelf = shelf_of(lines.len());
            if shelves.sizes.len() <= shelf {
                shelves.sizes.resize_with(shelf + 1, Vec::new);
            }
            if let Some(shelf) = shelves.sizes.get_mut(shelf) {
                shelf.push(lines);
            }
        }
    }
}

/// Zeroed lines. Where they are many the system is asked for large pages: walks over big tensors
/// then miss the translation buffer 512 times less.
fn allocate(lines: usize) -> Vec<Line> {
    let mut memory: Vec<Line> = Vec::with_capacity(lines);
    #[cfg(target_os = "linux")]
    {
        /// Bytes of a large page; the advice takes whole ones.
        const LARGE_PAGE: usize = 2 << 20;
        let bytes = lines * Line::BYTES;
        if bytes >= 2 * LARGE_PAGE {
            let skipped =
                memory.as_ptr().addr().next_multiple_of(LARGE_PAGE) - memory.as_ptr().addr();
            let advised = (bytes - skipped) / LARGE_PAGE * LARGE_PAGE;
            let first = memory.as_mut_ptr().cast::<u8>().wrapping_add(skipped);
            // SAFETY: the range lies in the allocation just made, and the advice changes no byte of
            // it. A refusal is of no consequence.
            unsafe { libc::madvise(first.cast(), advised, libc::MADV_HUGEPAGE) };
        }
    }
    memory.resize(lines, Line([0; 16]));
    memory
}

/// Sizes between a power of two and the next.
const STEPS: usize = 8;

/// Sizes in steps of an eighth of a power of two: at most 12.5 % is wasted.
fn size_class(lines: usize) -> usize {
    let lines = lines.max(1);
    lines.next_multiple_of(step_of(lines))
}

fn step_of(lines: usize) -> usize {
    (lines.next_power_of_two() / (2 * STEPS)).max(1)
}

/// The number of a size among all sizes.
fn shelf_of(class: usize) -> usize {
    let step = step_of(class);
    STEPS * step.trailing_zeros() as usize + class / step
}

/// Memory that returns to its recycler when dropped.
pub(super) struct Block {
    lines: Vec<Line>,
    home: Arc<Recycler>,
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Block")
            .field("bytes", &(self.lines.len() * Line::BYTES))
            .finish_non_exhaustive()
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.home.give_back(std::mem::take(&mut self.lines));
    }
}

/// A number type whose every bit pattern is valid and that has no padding.
///
/// # Safety
/// The above, and an alignment and size that divide 64 bytes.
unsafe trait Plain: Copy {}
// SAFETY: four bytes, every pattern is a number.
unsafe impl Plain for f32 {}
// SAFETY: as above.
unsafe impl Plain for u32 {}
// SAFETY: one byte, every pattern is a number.
unsafe impl Plain for u8 {}
// SAFETY: two bytes around a u16 (`repr(transparent)`).
unsafe impl Plain for bf16 {}

impl Block {
    /// A copy of it.
    pub(super) fn duplicate(&self) -> Self {
        let mut copy = self.home.take(self.bytes());
        for (to, from) in copy.lines.iter_mut().zip(&self.lines) {
            *to = *from;
        }
        copy
    }

    /// How much it is.
    pub(super) fn bytes(&self) -> usize {
        self.lines.len() * Line::BYTES
    }

    /// Where it came from.
    pub(super) fn home(&self) -> &Arc<Recycler> {
        &self.home
    }

    fn view<T: Plain>(&self) -> &[T] {
        let len = self.lines.len() * (Line::BYTES / size_of::<T>());
        // SAFETY: the lines are initialised and contiguous, as many bytes as `len` numbers take;
        // `Plain` vouches for alignment and bit patterns; the borrow of `self` covers the result.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast::<T>(), len) }
    }

    fn view_mut<T: Plain>(&mut self) -> &mut [T] {
        let len = self.lines.len() * (Line::BYTES / size_of::<T>());
        // SAFETY: as in `view`, and the mutable borrow makes it the only one.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast::<T>(), len) }
    }

    /// The memory as floats, at least as many as asked for.
    pub(super) fn f32s(&self) -> &[f32] {
        self.view()
    }

    /// As above.
    pub(super) fn f32s_mut(&mut self) -> &mut [f32] {
        self.view_mut()
    }

    /// The memory as bf16.
    pub(super) fn bf16s(&self) -> &[bf16] {
        self.view()
    }

    /// As above.
    pub(super) fn bf16s_mut(&mut self) -> &mut [bf16] {
        self.view_mut()
    }

    /// The memory as bytes.
    pub(super) fn u8s(&self) -> &[u8] {
        self.view()
    }

    /// As above.
    pub(super) fn u8s_mut(&mut self) -> &mut [u8] {
        self.view_mut()
    }

    /// The memory as indices.
    pub(super) fn u32s(&self) -> &[u32] {
        self.view()
    }

    /// As above.
    pub(super) fn u32s_mut(&mut self) -> &mut [u32] {
        self.view_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::detect::CpuFeatures;

    #[test]
    fn memory_is_used_again() {
        let home = Arc::new(Recycler::new(Level::of(CpuFeatures::detect())));
        for len in [1000, 990, 1001, 980, 1000] {
            drop(home.take_f32(len));
        }
        assert_eq!(home.fresh(), 1);
        let (a, b) = (home.take_f32(1000), home.take_f32(1000));
        assert_eq!(home.fresh(), 2);
        drop((a, b));
        // Of large blocks any up to twice the size will do.
        for len in [100_000, 60_000, 99_000] {
            drop(home.take_f32(len));
        }
        assert_eq!(home.fresh(), 3);
    }

    #[test]
    fn size_classes_hold_what_was_asked_for() {
        for lines in 0..5000 {
            let class = size_class(lines);
            assert!(
                class >= lines && class <= (lines + lines / 8).max(1),
                "{lines} {class}"
            );
        }
        // Each size has a number of its own, in order.
        let mut classes: Vec<usize> = (1..5000).map(size_class).collect();
        classes.dedup();
        for pair in classes.windows(2) {
            assert_eq!(shelf_of(pair[0]) + 1, shelf_of(pair[1]), "{pair:?}");
        }
    }
}
