//! Conformance cases for any server that speaks OpenAI's interface, and the score.
//!
//! A case says what is sent and what must hold of the answers; it passes, fails with
//! a reason, or is not offered: the server has no such route (404 or 501), or the model cannot do
//! what the case is about (it has no thoughts). What is judged is written down in OpenAI's, DeepSeek's
//! and Anthropic's references, or follows from saying the truth (no field ignored, no key missing);
//! what is a matter of taste is not judged. Nothing depends on what a model knows: models of random
//! weights do.
//!
//! ```text
//! subject   the server that is examined: how it is asked, what it is found to be
//! case      what a case is made of          check   what answers are held against
//! cases     the cases, a file an area
//! ```
//!
//! This room prints nothing: each [`Finding`] is told as it comes.

use std::collections::BTreeMap;
use std::time::Duration;

use frugal_run::consumption::Stopwatch;
use serde::Serialize;

use crate::client::Error;

mod case;
mod cases;
mod check;
mod subject;
#[cfg(test)]
mod tests;

pub use subject::{Subject, Whom};

/// What a case is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Area {
    /// Bodies of chat completions.
    Chat,
    /// Chat completions as events.
    Streaming,
    /// Statuses, and the envelope's four keys.
    Errors,
    /// Fields that change how tokens are drawn and where answers end.
    Parameters,
    /// Answers that are JSON, of a schema or by a pattern.
    Forms,
    /// Tools.
    Tools,
    /// Thoughts: apart from answers, counted, switched off, limited.
    Reasoning,
    /// Counts of tokens, those found in the cache too.
    Usage,
    /// Completions of texts and ids, with log-probabilities of prompts.
    Completions,
    /// OpenAI's responses.
    Responses,
    /// Anthropic's messages.
    Messages,
    /// Tokenizer routes.
    Tokens,
    /// Lists of models.
    Models,
    /// Clients that leave, come again, or come together.
    Connections,
    /// What operators look at.
    Operation,
}

impl Area {
    /// All, in the order they are examined in.
    pub const ALL: [Self; 15] = [
        Self::Models,
        Self::Chat,
        Self::Streaming,
        Self::Errors,
        Self::Parameters,
        Self::Forms,
        Self::Tools,
        Self::Reasoning,
        Self::Usage,
        Self::Completions,
        Self::Responses,
        Self::Messages,
        Self::Tokens,
        Self::Connections,
        Self::Operation,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Streaming => "streaming",
            Self::Errors => "errors",
            Self::Parameters => "parameters",
            Self::Forms => "forms",
            Self::Tools => "tools",
            Self::Reasoning => "reasoning",
            Self::Usage => "usage",
            Self::Completions => "completions",
            Self::Responses => "responses",
            Self::Messages => "messages",
            Self::Tokens => "tokens",
            Self::Models => "models",
            Self::Connections => "connections",
            Self::Operation => "operation",
        }
    }
}

/// What came of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// All holds.
    Pass,
    /// Something does not.
    Fail(String),
    /// The server has no such route, or the model cannot do it.
    NotOffered,
}

/// A case that was tried.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// What it is about.
    pub area: Area,
    /// What must hold.
    pub case: &'static str,
    /// Whether it does.
    pub verdict: Verdict,
    /// How long it took.
    pub seconds: f64,
}

/// Verdicts by their kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Score {
    /// Cases that passed.
    pub passed: usize,
    /// Cases that failed.
    pub failed: usize,
    /// Cases that were not offered.
    pub not_offered: usize,
}

impl Score {
    fn count(&mut self, verdict: &Verdict) {
        match verdict {
            Verdict::Pass => self.passed += 1,
            Verdict::Fail(_) => self.failed += 1,
            Verdict::NotOffered => self.not_offered += 1,
        }
    }

    /// Cases that the server offers to pass.
    pub const fn offered(&self) -> usize {
        self.passed + self.failed
    }
}

/// The score of a server, in all and by area.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Report {
    /// In all.
    pub all: Score,
    /// By area.
    pub areas: BTreeMap<Area, Score>,
}

/// Why a server cannot be examined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DoctorError {
    /// This process cannot wait for answers.
    #[error("could not start waiting for answers")]
    Threads(#[source] std::io::Error),
    /// It gives no answer.
    #[error(transparent)]
    Client(#[from] Error),
    /// It lists no model, and none was named.
    #[error("the server lists no model ({found}): expected the name of one")]
    NoModel {
        /// What came instead.
        found: String,
    },
    /// No conversation is answered, so there is nothing to judge.
    #[error("the server answers no conversation with {model}: {found}")]
    NoAnswer {
        /// The model that was asked.
        model: String,
        /// What came instead.
        found: String,
    },
}

/// What is to be judged.
#[derive(Debug, Clone)]
pub struct Examination {
    /// Whom.
    pub whom: Whom,
    /// In what.
    pub areas: Vec<Area>,
    /// How long a case may take.
    pub patience: Duration,
}

impl Examination {
    /// Meets the server and tries all cases, on this thread. `met` is told the model that is asked.
    ///
    /// # Errors
    /// If there is nothing to judge.
    pub fn run(
        self,
        met: &dyn Fn(&str),
        tell: &mut dyn FnMut(&Finding),
    ) -> Result<Report, DoctorError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(DoctorError::Threads)?;
        runtime.block_on(async {
            let subject = Subject::meet(self.whom).await?;
            met(subject.model());
            Ok(examine(&subject, &self.areas, self.patience, tell).await)
        })
    }
}

/// Tries all cases of some areas, one after another. A case may take `patience`.
pub async fn examine(
    subject: &Subject,
    areas: &[Area],
    patience: Duration,
    tell: &mut dyn FnMut(&Finding),
) -> Report {
    let mut report = Report::default();
    for area in areas {
        for case in cases::of(*area) {
            let watch = Stopwatch::start();
            let tried = tokio::time::timeout(patience, case.run(subject)).await;
            let verdict = tried.unwrap_or_else(|_| {
                let seconds = patience.as_secs();
                Verdict::Fail(format!("expected an answer within {seconds} s, got none"))
            });
            report.all.count(&verdict);
            report.areas.entry(*area).or_default().count(&verdict);
            tell(&Finding {
                area: *area,
                case: case.name,
                verdict,
                seconds: watch.seconds(),
            });
        }
    }
    report
}
