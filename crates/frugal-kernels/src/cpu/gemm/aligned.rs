//! Growable memory that starts on a cache line, for packed operands and scratch.

/// Words of a cache line.
const LINE: usize = 16;

/// One cache line; also the alignment that 512-bit loads and tile rows like best.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([u32; LINE]);

/// A four-byte number for which any bit pattern is a value.
///
/// # Safety
/// Four bytes wide, no padding, no invalid bit patterns, alignment of at most 64.
pub(crate) unsafe trait Word: Copy {}
// SAFETY: IEEE binary32 is four bytes and every pattern is a number or a NaN.
unsafe impl Word for f32 {}
// SAFETY: four bytes, every pattern valid.
unsafe impl Word for u32 {}

/// Words on cache lines.
#[derive(Debug, Clone)]
pub(crate) struct Aligned<T> {
    lines: Vec<Line>,
    len: usize,
    word: std::marker::PhantomData<T>,
}

impl<T: Word> Aligned<T> {
    pub(crate) const fn new() -> Self {
        Self {
            lines: Vec::new(),
            len: 0,
            word: std::marker::PhantomData,
        }
    }

    /// Makes it `len` words long. What they hold is left over from earlier use or zero. Memory is
    /// never given back, so a sequence of like calls allocates once.
    pub(crate) fn set_len(&mut self, len: usize) -> &mut [T] {
        let lines = len.div_ceil(LINE);
        if lines > self.lines.len() {
            self.lines.resize(lines, Line([0; LINE]));
        }
        self.len = len;
        self.as_mut_slice()
    }

    pub(crate) fn as_slice(&self) -> &[T] {
        // SAFETY: the lines hold at least `len` initialised words; `Word` promises that these bits
        // are values of T and that T needs no more alignment than a line has.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: as in `as_slice`, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_on_a_line_and_keeps_its_words() {
        let mut words = Aligned::<f32>::new();
        assert!(words.as_slice().is_empty());
        words.set_len(5).fill(2.5);
        assert_eq!(words.as_slice(), [2.5; 5]);
        words.set_len(100);
        assert_eq!(words.as_slice().as_ptr().addr() % 64, 0);
        assert_eq!(words.as_slice()[..5], [2.5; 5]);
    }
}
