//! Why a recipe is refused. Each message is one sentence that a person can act on.

use thiserror::Error;

use crate::store::StoreError;

/// Why a recipe, an override or a plan is refused.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// The file could not be read.
    #[error(transparent)]
    File(#[from] StoreError),
    /// The text is larger than any recipe should be.
    #[error("the recipe has {bytes} bytes, expected at most {limit}")]
    TooLarge {
        /// Size of the text.
        bytes: usize,
        /// Largest accepted size.
        limit: usize,
    },
    /// The text is not TOML.
    #[error("the recipe is not valid TOML: line {line}: {message}")]
    Syntax {
        /// Line of the fault, from 1.
        line: usize,
        /// What the parser says.
        message: String,
    },
    /// A field nobody reads.
    #[error("{place} has no field `{field}`{nearest}")]
    UnknownField {
        /// The section or stage.
        place: String,
        /// The field as written.
        field: String,
        /// `; the nearest known field is ...`, or nothing where the section has no fields.
        nearest: String,
    },
    /// A value of another type.
    #[error("field `{field}` of {place} expects {expected}, got {got}")]
    WrongType {
        /// The section or stage.
        place: String,
        /// The field.
        field: String,
        /// The type that fits.
        expected: &'static str,
        /// What came.
        got: String,
    },
    /// A value of the right type that the field does not take.
    #[error("{place}: {message}")]
    BadValue {
        /// The section, stage or field.
        place: String,
        /// What was expected and what came.
        message: String,
    },
    /// A reference to a stage or section that is not there.
    #[error("{place}: {role} names `{name}`, expected one of {known}")]
    UnknownName {
        /// The section or stage.
        place: String,
        /// The field that refers.
        role: &'static str,
        /// The name as written.
        name: String,
        /// The names that would do.
        known: String,
    },
    /// An override that is not `stage.field=value`.
    #[error("override `{text}`: {message}")]
    Override {
        /// The override as given.
        text: String,
        /// What was expected and what came.
        message: String,
    },
}

impl RecipeError {
    /// A value that does not fit, said about `place`.
    pub(crate) fn bad(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self::BadValue {
            place: place.into(),
            message: message.into(),
        }
    }
}
