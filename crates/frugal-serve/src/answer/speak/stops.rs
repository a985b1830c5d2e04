//! Stop texts found in a text that comes in pieces.
//!
//! Knuth, Morris and Pratt's search for each of them at once: a byte costs a bounded number of steps
//! a stop text on average, whatever stop texts and text are.

/// A stop text under search.
#[derive(Debug, Clone)]
struct One {
    bytes: Vec<u8>,
    /// For each length, how long the longest beginning is that also ends what was matched.
    shorter: Vec<usize>,
    /// Bytes matched so far.
    matched: usize,
}

/// Stop texts under search.
#[derive(Debug, Clone)]
pub(super) struct Stops {
    all: Vec<One>,
}

/// A stop text found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    /// Which.
    pub(super) which: usize,
    /// Bytes of the last piece up to its end.
    pub(super) end: usize,
    /// Bytes of it.
    pub(super) bytes: usize,
}

impl Stops {
    /// Prepares the search; empty texts stop nothing.
    pub(super) fn new(texts: &[String]) -> Self {
        Self {
            all: texts.iter().map(|text| One::new(text)).collect(),
        }
    }

    /// Takes the next piece. The stop text that ends first is found, of several that end there the
    /// longest.
    pub(super) fn push(&mut self, piece: &str) -> Option<Found> {
        for (at, byte) in piece.bytes().enumerate() {
            let mut found: Option<Found> = None;
            for (which, one) in self.all.iter_mut().enumerate() {
                let bytes = one.bytes.len();
                let is_longer = found.is_none_or(|found| found.bytes < bytes);
                if one.step(byte) && is_longer {
                    let end = at + 1;
                    found = Some(Found { which, end, bytes });
                }
            }
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// Bytes at the end of what came that may be the beginning of a stop text.
    pub(super) fn held(&self) -> usize {
        self.all.iter().map(|one| one.matched).max().unwrap_or(0)
    }

    /// Forgets what came.
    pub(super) fn reset(&mut self) {
        for one in &mut self.all {
            one.matched = 0;
        }
    }
}

impl One {
    fn new(text: &str) -> Self {
        let bytes = text.as_bytes().to_vec();
        let mut one = Self {
            shorter: vec![0; bytes.len()],
            bytes,
            matched: 0,
        };
        for at in 1..one.bytes.len() {
            let byte = one.bytes.get(at).copied().unwrap_or_default();
            one.step(byte);
            if let Some(shorter) = one.shorter.get_mut(at) {
                *shorter = one.matched;
            }
        }
        one.matched = 0;
        one
    }

    /// Takes a byte, and tells whether the text is complete with it.
    fn step(&mut self, byte: u8) -> bool {
        loop {
            if self.bytes.get(self.matched) == Some(&byte) {
                self.matched += 1;
                break;
            }
            if self.matched == 0 {
                break;
            }
            self.matched = self.shorter.get(self.matched - 1).copied().unwrap_or(0);
        }
        !self.bytes.is_empty() && self.matched == self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(texts: &[String], pieces: &[String]) -> (String, Option<usize>) {
        let mut stops = Stops::new(texts);
        let mut before = 0;
        for piece in pieces {
            if let Some(found) = stops.push(piece) {
                let text = pieces.concat();
                let end = before + found.end;
                assert_eq!(text[..end][end - found.bytes..], texts[found.which]);
                return (text[..end - found.bytes].to_string(), Some(found.which));
            }
            before += piece.len();
            assert!(stops.held() <= before);
        }
        (pieces.concat(), None)
    }

    /// Stop texts, pieces, what is left, which stopped.
    type Row = (
        &'static [&'static str],
        &'static [&'static str],
        &'static str,
        Option<usize>,
    );

    #[test]
    fn the_first_to_end_stops() {
        let rows: [Row; 8] = [
            (&["END"], &["a E", "N", "D b"], "a ", Some(0)),
            (&["aab"], &["aaab"], "a", Some(0)),
            (&["abab"], &["abaabab"], "aba", Some(0)),
            (&["bcd", "c"], &["abcd"], "ab", Some(1)),
            (&["c", "abc"], &["abc"], "", Some(1)),
            (&["日本"], &["日", "日本"], "日", Some(0)),
            (&["x"], &["abc"], "abc", None),
            (&[""], &["abc"], "abc", None),
        ];
        for (texts, pieces, before, which) in rows {
            let own = |texts: &[&str]| texts.iter().map(|t| (*t).to_string()).collect::<Vec<_>>();
            let expected = (before.to_string(), which);
            assert_eq!(found(&own(texts), &own(pieces)), expected, "{texts:?}");
        }
    }

    #[test]
    fn what_may_begin_a_stop_text_is_held() {
        let mut stops = Stops::new(&["abc".to_string(), "bd".to_string()]);
        let held = ["a", "b", "x", "zab", "d"].map(|piece| {
            let found = stops.push(piece);
            (stops.held(), found.is_some())
        });
        assert_eq!(
            held,
            [(1, false), (2, false), (0, false), (2, false), (2, true)]
        );
        stops.reset();
        assert_eq!(stops.held(), 0);
    }

    proptest! {
        /// The search agrees with looking at every place.
        #[test]
        fn the_search_agrees_with_a_slow_one(
            texts in proptest::collection::vec("[abü]{1,4}", 1..4),
            pieces in proptest::collection::vec("[abü]{0,5}", 0..8),
        ) {
            let text = pieces.concat();
            let ends = (0..=text.len()).find_map(|end| {
                let head = text.get(..end)?;
                let longest = texts.iter().filter(|stop| head.ends_with(*stop)).max_by_key(|stop| stop.len())?;
                Some(head[..end - longest.len()].to_string())
            });
            let (before, which) = found(&texts, &pieces);
            prop_assert_eq!(which.is_some(), ends.is_some());
            prop_assert_eq!(before, ends.unwrap_or(text));
        }
    }
}
