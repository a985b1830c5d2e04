//! The tokens of one model as the grammar library wants them, and the making of grammars for it.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use frugal_text::Tokenizer;
use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{
    InferenceCapabilities, SimpleVob, TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv,
};
use llguidance::{Matcher, ParserFactory, panic_utils};

use super::Compiled;
use super::kept::Kept;
use super::schema::fault;
use super::source::{Notation, Source};
use crate::answer::ask::Limits;
use crate::models::Words;
use crate::wire::error::{Fault, Kind};

/// How long a grammar may take to compile. The library's own limits (work and states) end most of
/// what would take longer; its thread is left to them.
pub(super) const DEADLINE: Duration = Duration::from_secs(2);
/// Grammars being compiled at the same time, those that nobody waits for any more included.
const MOST_UNDERWAY: usize = 4;
/// Stack of a thread that compiles. The library follows schemas and references by recursion; what
/// it does not touch of this costs nothing.
const STACK_BYTES: usize = 256 << 20;
/// States of a grammar's lexer at most, about 1 KiB each.
const MAX_LEXER_STATES: usize = 50_000;
/// Work on a grammar's lexer for one token at most, in the library's units: some 14,000 a
/// millisecond. Ordinary schemas take a tenth of it for their worst token.
const STEP_FUEL: u64 = 60_000;
/// The library's tree has room for tokens this long; longer ones never come under a grammar.
const MAX_TOKEN_BYTES: usize = 1000;
/// The byte that begins the names of control tokens in the library's tree; no text has it.
const MARK: u8 = TokTrie::SPECIAL_TOKEN_MARKER;

/// Makes grammars for one model and keeps them.
pub struct Grammars {
    factory: ParserFactory,
    /// Tokens that a client's grammar may use: text, and the ends.
    text: SimpleVob,
    kept: Kept,
    underway: Arc<AtomicUsize>,
}

impl fmt::Debug for Grammars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grammars")
            .field("vocabulary", &self.text.len())
            .finish_non_exhaustive()
    }
}

impl Grammars {
    /// Lays out a model's tokens. Takes some seconds for a vocabulary of 150,000: once for each
    /// model, when a grammar is first asked for, off the engine's thread.
    ///
    /// *Errors*: a vocabulary of whole words, which cannot write texts of a given form.
    pub fn new(words: &Arc<Words>) -> Result<Arc<Self>, Fault> {
        let tokenizer = &words.tokenizer;
        if tokenizer.puts_spaces() {
            return Err(fault(
                "the model's vocabulary is of whole words: it cannot follow a grammar",
            ));
        }
        let n_tokens = tokenizer.vocab_size();
        let ids = 0..u32::try_from(n_tokens).unwrap_or(u32::MAX);
        let tokens: Vec<Vec<u8>> = ids.map(|id| bytes_in_tree(tokenizer, id)).collect();
        let mut text = SimpleVob::alloc(n_tokens);
        for (id, bytes) in tokens.iter().enumerate() {
            text.set(id, bytes.first().is_some_and(|first| *first != MARK));
        }
        let ends: Vec<u32> = words
            .stops
            .iter()
            .copied()
            .filter(|id| (*id as usize) < n_tokens)
            .collect();
        for end in &ends {
            text.allow_token(*end);
        }
        let source = Arc::clone(words);
        Self::over(&tokens, &ends, text, Some(source)).ok_or_else(|| {
            Fault::new(
                Kind::Internal,
                "the model's vocabulary cannot follow a grammar",
            )
        })
    }

    /// None where the library refuses or panics.
    fn over(
        tokens: &[Vec<u8>],
        ends: &[u32],
        text: SimpleVob,
        words: Option<Arc<Words>>,
    ) -> Option<Arc<Self>> {
        let factory = panic_utils::catch_unwind(AssertUnwindSafe(|| {
            let no_end = llguidance::toktrie::INVALID_TOKEN;
            let n_tokens = u32::try_from(tokens.len()).unwrap_or(u32::MAX);
            let trie = TokTrie::from(&TokRxInfo::new(n_tokens, no_end), tokens);
            let trie = if ends.is_empty() {
                trie
            } else {
                trie.with_eos_tokens(ends)
            };
            let tree: TokEnv = Arc::new(Tree { trie, words });
            let slices = llguidance::earley::SlicedBiasComputer::general_slices();
            ParserFactory::new(&tree, InferenceCapabilities::default(), &slices)
        }));
        let mut factory = factory.ok()?;
        factory.quiet();
        let limits = factory.limits_mut();
        limits.max_lexer_states = MAX_LEXER_STATES;
        limits.step_lexer_fuel = STEP_FUEL;
        limits.verbose_errors = false;
        Some(Arc::new(Self {
            factory,
            text,
            kept: Kept::default(),
            underway: Arc::default(),
        }))
    }

    /// Makes a grammar, or finds it among those kept. It waits, so it is not for an async task.
    ///
    /// *Errors*: a source that is too large, cannot be followed or takes too long; too many that are
    /// being compiled already.
    pub fn compile(
        self: &Arc<Self>,
        source: &Source,
        limits: &Limits,
    ) -> Result<Arc<Compiled>, Fault> {
        let notation = source.notation(limits)?;
        let digest = notation.digest(source.may_control());
        if let Some(grammar) = self.kept.get(&digest) {
            return Ok(grammar);
        }
        let slot = Slot::take(&self.underway).ok_or_else(|| {
            Fault::new(Kind::Busy, "too many grammars are being prepared").again_after(1)
        })?;
        let (made, wait) = mpsc::sync_channel(1);
        let (grammars, what) = (Arc::clone(self), source.clone());
        let work = move || {
            let grammar = grammars.make(notation, &what).map(Arc::new);
            if let Ok(grammar) = &grammar {
                grammars.kept.put(digest, Arc::clone(grammar));
            }
            drop(slot);
            // Nobody may be waiting any more.
            let _ = made.send(grammar);
        };
        let thread = thread::Builder::new()
            .name("grammar".into())
            .stack_size(STACK_BYTES);
        thread.spawn(work).map_err(|_| {
            Fault::new(Kind::Unavailable, "no thread to prepare a grammar on").again_after(1)
        })?;
        wait.recv_timeout(DEADLINE)
            .unwrap_or_else(|_| Err(fault("the grammar takes too long to prepare")))
    }

    fn make(&self, notation: Notation, source: &Source) -> Result<Compiled, Fault> {
        let grammar = match notation {
            Notation::Json(schema) => TopLevelGrammar::from_json_schema(schema),
            Notation::Lark(grammar) => TopLevelGrammar::from_lark(grammar),
        };
        let parser = self.factory.create_parser(grammar);
        let parser = parser.map_err(|why| refusal(source, &why.to_string()))?;
        let mut matcher = Matcher::new(Ok(parser));
        // The first mask: what cannot be followed at all is known before anybody waits for it, and
        // copies begin with what was worked out.
        if matcher.compute_mask().is_err() {
            return Err(refusal(source, ""));
        }
        Ok(Compiled {
            matcher,
            within: (!source.may_control()).then(|| self.text.clone()),
        })
    }

    #[cfg(test)]
    pub(super) fn n_kept(&self) -> usize {
        self.kept.len()
    }
}

/// Says in our words why the library refuses; its own are for programmers, and may hold what the
/// client sent.
fn refusal(source: &Source, why: &str) -> Fault {
    let has = |word: &str| why.contains(word);
    let is_schema = matches!(source, Source::JsonSchema(_) | Source::JsonObject);
    let is_large = [
        "too large",
        "too complex",
        "limit",
        "too many",
        "exceeded",
        "too deeply",
    ];
    let why = if has("nsatisfiable") {
        "no value fits it".to_owned()
    } else if is_large.iter().any(|word| has(word)) {
        "it is too large or too complex".to_owned()
    } else if has("oneOf") {
        "the cases of a oneOf must exclude each other: use anyOf".to_owned()
    } else if has("Reference segment") || has("circular") {
        "a $ref points nowhere, or only to itself".to_owned()
    } else if has("disjoint") {
        "patternProperties must not overlap".to_owned()
    } else if why.is_empty() {
        "no text fits it, as it holds itself or needs tokens that the model lacks".to_owned()
    } else if is_schema {
        "it has a value or a combination that is not supported".to_owned()
    } else if let (Source::Lark(_), Some((line, column))) = (source, place(why)) {
        format!("it cannot be read at line {line}, column {column}")
    } else if let Source::Regex(_) = source {
        "it cannot be read: look-around and back-references are not supported".to_owned()
    } else {
        "it cannot be read".to_owned()
    };
    let what = match source {
        Source::JsonSchema(_) | Source::JsonObject => "schema",
        Source::Regex(_) => "regular expression",
        Source::Lark(_) => "grammar",
        Source::Choice(_) => "choice",
        Source::Composed(_) => "tools",
    };
    fault(format!("{what}: {why}"))
}

/// The line and column with which a message of the library begins: `at 3(7): ...`.
fn place(why: &str) -> Option<(u32, u32)> {
    let (line, rest) = why.trim_start_matches("at ").split_once('(')?;
    let (column, _) = rest.split_once(')')?;
    Some((line.parse().ok()?, column.parse().ok()?))
}

/// A place among the grammars being compiled; given back when dropped.
struct Slot(Arc<AtomicUsize>);

impl Slot {
    fn take(underway: &Arc<AtomicUsize>) -> Option<Self> {
        let slot = Self(Arc::clone(underway));
        let before = underway.fetch_add(1, Ordering::AcqRel);
        (before < MOST_UNDERWAY).then_some(slot)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The bytes of a token in the library's tree; control tokens have names that no text has.
fn bytes_in_tree(tokenizer: &Tokenizer, id: u32) -> Vec<u8> {
    match tokenizer.text_bytes(id) {
        // Byte 0xFF is in no text, and would be taken for the mark.
        Some(bytes) if bytes.first() == Some(&MARK) || bytes.len() > MAX_TOKEN_BYTES => Vec::new(),
        Some(bytes) => bytes,
        None => match tokenizer.token_name(id) {
            Some(_) => [&[MARK], format!("<{id}>").as_bytes()].concat(),
            None => Vec::new(),
        },
    }
}

/// A model's tokens, for the library.
struct Tree {
    trie: TokTrie,
    /// Cuts text that a grammar demands into tokens as the model's own texts are cut.
    words: Option<Arc<Words>>,
}

impl TokenizerEnv for Tree {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        let encode = |text: &str| {
            let ids = self.words.as_ref()?.tokenizer.encode(text).ok()?;
            // Normalisation, or a space that is put before texts, would write something else.
            (self.trie.decode_raw(&ids) == text.as_bytes()).then_some(ids)
        };
        let greedy = |text: &str| self.trie.greedy_tokenize(text.as_bytes());
        self.trie.tokenize_with_greedy_fallback(bytes, |text| {
            encode(text).unwrap_or_else(|| greedy(text))
        })
    }
}
