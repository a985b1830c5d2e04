//! Makes a vocabulary of byte pairs from text.
//!
//! As GPT-2's was made: text is cut into words, and again and again the pair of neighbours that
//! occurs most often becomes a token. Among equals the pair with the greater bytes wins, so that a
//! text has one vocabulary. The result is a [`TokenizerKeys`], from which the other forms follow.
//!
//! Made for vocabularies of some thousands: each merge looks through all pairs.

use std::collections::{BTreeMap, BTreeSet};

use tokenizers::{
    OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _, PreTokenizerWrapper,
};

use crate::byte_level::{byte_of, letter_of};
use crate::gguf::{TokenizerKeys, pre_tokenizer_json};
use crate::tokenizer::MAX_VOCABULARY;
use crate::{Error, Result};

/// What to make a vocabulary of.
#[derive(Debug, Clone, Copy)]
pub struct Training<'a> {
    /// The name of the pre-tokenizer that cuts words, as GGUF files have it; `gpt-2` is the plainest.
    pub pre: &'a str,
    /// Control tokens, which take the first ids. Where a text spells one, it is cut.
    pub control: &'a [&'a str],
    /// How many tokens to make at most, bytes and control tokens included.
    pub n_tokens: usize,
}

/// A pair of neighbouring tokens.
type Pair = (usize, usize);

/// Trains on texts. Fewer tokens come out where no pair is left that occurs twice.
///
/// *Errors*: an unknown pre-tokenizer, less room than the bytes and control tokens need.
///
/// *Cost*: merges times pairs, and the words that hold them.
pub fn byte_pairs(texts: &[&str], training: &Training<'_>) -> Result<TokenizerKeys> {
    let Training {
        pre,
        control,
        n_tokens,
    } = *training;
    let n_least = 256 + control.len();
    if n_tokens < n_least || n_tokens > MAX_VOCABULARY {
        return Err(Error::Inconsistent(format!(
            "expected room for {n_least} to {MAX_VOCABULARY} tokens, got {n_tokens}"
        )));
    }
    let mut tokens = Tokens::new(control);
    let mut words = Words::new(count_words(texts, training)?, &tokens);
    let mut merges = Vec::new();
    while tokens.names.len() < n_tokens
        && let Some(pair) = words.strongest(&tokens)
    {
        let [left, right] = [pair.0, pair.1].map(|id| tokens.name(id).to_string());
        merges.push(format!("{left} {right}"));
        let id = tokens.add(format!("{left}{right}"));
        words.merge(pair, id);
    }
    let token_types = (0..tokens.names.len()).map(|id| if id < control.len() { 3 } else { 1 });
    Ok(TokenizerKeys {
        model: "gpt2".into(),
        pre: pre.into(),
        token_types: token_types.collect(),
        tokens: tokens.names,
        merges,
        ..TokenizerKeys::default()
    })
}

/// Counts the words of the texts, in the letters of bytes.
fn count_words(texts: &[&str], training: &Training<'_>) -> Result<BTreeMap<String, u64>> {
    let cutter: PreTokenizerWrapper = serde_json::from_value(pre_tokenizer_json(training.pre)?)
        .map_err(|source| Error::Json {
            what: "the pre-tokenizer",
            source,
        })?;
    let mut counts = BTreeMap::new();
    for text in texts {
        for part in without(text, training.control) {
            let mut pieces = PreTokenizedString::from(part);
            cutter
                .pre_tokenize(&mut pieces)
                .map_err(|source| Error::Library {
                    doing: "cut the text into words",
                    source,
                })?;
            for (word, _, _) in pieces.get_splits(OffsetReferential::Normalized, OffsetType::Byte) {
                *counts.entry(word.to_string()).or_insert(0) += 1;
            }
        }
    }
    Ok(counts)
}

/// The parts of a text between control tokens.
fn without<'a>(text: &'a str, control: &[&str]) -> Vec<&'a str> {
    let mut parts = vec![text];
    for name in control.iter().filter(|name| !name.is_empty()) {
        parts = parts.iter().flat_map(|part| part.split(name)).collect();
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// Tokens by id, in the letters of bytes, and the bytes that decide between equals.
struct Tokens {
    names: Vec<String>,
    bytes: Vec<Vec<u8>>,
    first_letter: usize,
}

impl Tokens {
    /// Control tokens, then all bytes in the order of their letters.
    fn new(control: &[&str]) -> Self {
        let letters: BTreeSet<char> = (0..=u8::MAX).map(letter_of).collect();
        let mut tokens = Self {
            names: Vec::new(),
            bytes: Vec::new(),
            first_letter: control.len(),
        };
        for name in control {
            tokens.add((*name).to_string());
        }
        for letter in letters {
            tokens.add(letter.to_string());
        }
        tokens
    }

    fn add(&mut self, name: String) -> usize {
        self.bytes.push(name.chars().filter_map(byte_of).collect());
        self.names.push(name);
        self.names.len() - 1
    }

    fn name(&self, id: usize) -> &str {
        self.names.get(id).map_or("", String::as_str)
    }

    /// The token of a single letter.
    fn of_letter(&self, letter: char) -> Option<usize> {
        let letters = self.names.get(self.first_letter..self.first_letter + 256)?;
        let found =
            letters.binary_search_by_key(&letter, |name| name.chars().next().unwrap_or_default());
        found.ok().map(|at| at + self.first_letter)
    }

    fn bytes_of(&self, pair: Pair) -> (&[u8], &[u8]) {
        let bytes = |id: usize| self.bytes.get(id).map_or(&[][..], Vec::as_slice);
        (bytes(pair.0), bytes(pair.1))
    }
}

/// Words as tokens, with how often each occurs, and where each pair is.
struct Words {
    words: Vec<(Vec<usize>, u64)>,
    pairs: BTreeMap<Pair, Occurrences>,
}

#[derive(Default)]
struct Occurrences {
    count: u64,
    /// The words that hold the pair, or held it once.
    words: BTreeSet<usize>,
}

impl Words {
    fn new(counts: BTreeMap<String, u64>, tokens: &Tokens) -> Self {
        let word = |(word, count): (String, u64)| {
            (
                word.chars()
                    .filter_map(|letter| tokens.of_letter(letter))
                    .collect(),
                count,
            )
        };
        let mut words = Self {
            words: counts.into_iter().map(word).collect(),
            pairs: BTreeMap::new(),
        };
        for at in 0..words.words.len() {
            words.count(at, |count, n| count + n);
        }
        words
    }

    /// Adds a word's pairs to the counts, or takes them away.
    fn count(&mut self, at: usize, change: impl Fn(u64, u64) -> u64) {
        let Some((word, n)) = self.words.get(at) else {
            return;
        };
        for pair in word.iter().copied().zip(word.iter().copied().skip(1)) {
            let occurrences = self.pairs.entry(pair).or_default();
            occurrences.count = change(occurrences.count, *n);
            occurrences.words.insert(at);
        }
    }

    /// The pair that occurs most often, at least twice.
    fn strongest(&self, tokens: &Tokens) -> Option<Pair> {
        let often = self.pairs.iter().filter(|(_, o)| o.count > 1);
        let strongest = often.max_by(|(a, x), (b, y)| {
            x.count
                .cmp(&y.count)
                .then_with(|| tokens.bytes_of(**a).cmp(&tokens.bytes_of(**b)))
        });
        strongest.map(|(pair, _)| *pair)
    }

    /// Joins a pair in all words, from the left.
    fn merge(&mut self, pair: Pair, id: usize) {
        let holders = self
            .pairs
            .get(&pair)
            .map(|o| o.words.clone())
            .unwrap_or_default();
        for at in holders {
            self.count(at, |count, n| count - n);
            if let Some((word, _)) = self.words.get_mut(at) {
                *word = joined(word, pair, id);
            }
            self.count(at, |count, n| count + n);
        }
        self.pairs.retain(|_, o| o.count > 0);
    }
}

fn joined(word: &[usize], pair: Pair, id: usize) -> Vec<usize> {
    let mut rest = word;
    let mut joined = Vec::with_capacity(word.len());
    while let [first, after @ ..] = rest {
        let (token, after) = match after {
            [second, after @ ..] if (*first, *second) == pair => (id, after),
            _ => (*first, after),
        };
        joined.push(token);
        rest = after;
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tokenizer;
    use crate::gguf::tokenizer_json;

    const SMALL: Training<'_> = Training {
        pre: "gpt-2",
        control: &["<end>"],
        n_tokens: 300,
    };

    #[test]
    fn frequent_pairs_become_tokens_and_equals_go_by_their_bytes() {
        // A blank before "a" five times; then "aa", " ac" and " ab" twice each.
        let made = byte_pairs(&["ab ab ab<end>ac ac ac aaaa"], &SMALL).unwrap();
        assert_eq!(made.merges, ["Ġ a", "a a", "Ġa c", "Ġa b"]);
        assert_eq!((made.tokens.len(), made.tokens[0].as_str()), (261, "<end>"));
        assert_eq!(&made.token_types[..2], [3, 1]);
        let tokenizer = Tokenizer::from_json(&tokenizer_json(&made).unwrap()).unwrap();
        assert_eq!(tokenizer.encode(" ac abaa").unwrap(), [259, 260, 258]);
        assert_eq!(
            tokenizer
                .decode(&tokenizer.encode("é ac").unwrap())
                .unwrap(),
            "é ac"
        );
    }

    #[test]
    fn room_and_names_are_checked() {
        let none = byte_pairs(&[], &SMALL).unwrap();
        assert_eq!((none.tokens.len(), none.merges.len()), (257, 0));
        assert!(
            byte_pairs(
                &["a"],
                &Training {
                    n_tokens: 256,
                    ..SMALL
                }
            )
            .is_err()
        );
        assert!(
            byte_pairs(
                &["a"],
                &Training {
                    n_tokens: usize::MAX,
                    ..SMALL
                }
            )
            .is_err()
        );
        assert!(
            byte_pairs(
                &["a"],
                &Training {
                    pre: "default",
                    ..SMALL
                }
            )
            .is_err()
        );
    }
}
