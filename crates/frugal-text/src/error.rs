//! The errors of this crate.

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What can be wrong with a tokenizer, a template, or the text given to them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or a part of it is larger than anything we are willing to read.
    #[error("{what}: at most {limit} allowed, got {got}")]
    TooLarge {
        /// What was counted, with its unit.
        what: &'static str,
        /// The most we accept.
        limit: usize,
        /// What came.
        got: usize,
    },
    /// The file is JSON, but not a consistent tokenizer.
    #[error("tokenizer file: {0}")]
    Inconsistent(String),
    /// The file is not JSON.
    #[error("{what} is not valid JSON: {source}")]
    Json {
        /// Which file.
        what: &'static str,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// The tokenizer library refused.
    #[error("cannot {doing}: {source}")]
    Library {
        /// What was being done.
        doing: &'static str,
        /// What the library said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A word-level vocabulary has no such word.
    #[error("expected words of the vocabulary, got {0:?}")]
    UnknownWord(String),
    /// A word cannot be part of a word-level vocabulary.
    #[error("{word:?} cannot be a word of the vocabulary: {why}")]
    BadWord {
        /// The word.
        word: String,
        /// The reason.
        why: &'static str,
    },
    /// The vocabulary has no such id.
    #[error("expected an id of the vocabulary (below {vocab_size}), got {id}")]
    UnknownId {
        /// The id.
        id: u32,
        /// The number of ids.
        vocab_size: usize,
    },
    /// The model of the tokenizer made a control token out of plain text.
    #[error("text became the control token {0:?}, which only a control segment may give")]
    ControlInText(String),
    /// A control segment names an id that is no control token.
    #[error("expected the id of a control token, got {0}")]
    NotControl(u32),
    /// No control token has this spelling.
    #[error("expected a control token named {0:?}, the tokenizer has none")]
    NoSuchControl(String),
    /// The template is not valid, ran out of fuel, or failed on its input.
    #[error("chat template: {0}")]
    Template(#[from] minijinja::Error),
    /// The template refused the conversation with `raise_exception`.
    #[error("chat template refused the conversation: {0}")]
    Refused(String),
    /// `tokenizer_config.json` or the conversation lacks something a template needs.
    #[error("chat: {0}")]
    Chat(String),
    /// The tokenizer is none that a GGUF file can hold; such a file is written without vocabulary.
    #[error("this tokenizer cannot be written into a GGUF file: {0}")]
    NotInGguf(String),
    /// Neither the checkpoint nor its kind of tokenizer tells how conversations are written.
    #[error(
        "no chat template: the checkpoint has none and its control tokens are of no known format; \
         this may be a base model, which continues text (give the template of a conversation with \
         --template FILE)"
    )]
    NoTemplate,
    /// The template glues a control token together from parts.
    #[error(
        "chat template builds the control token {0:?} from parts, expected it spelled in one piece"
    )]
    Assembled(String),
}
