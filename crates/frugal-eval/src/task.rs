//! What a task is: problems, the habits of the base corpus, a grader and skill probes.
//!
//! A task is text in, text out: words separated by single spaces, control tokens spelled as in
//! [`frugal_text::word_level::CONTROL`]. Ids are made in [`crate::encode`]. Which problems are
//! held out is decided in [`crate::split`], how lines are mixed in [`crate::corpus`].

use frugal_core::rng::Rng;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::knobs::{Level, Mix};

/// One question and what its grader needs to know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// The words that follow `<bos>`, separated by single spaces.
    pub question: String,
    /// Identity up to reordering: two problems with one key are the same problem.
    pub key: String,
    /// The task's own view of the problem.
    pub data: serde_json::Value,
}

impl Problem {
    /// The task's own view of the problem as a type.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, TaskError> {
        T::deserialize(&self.data).map_err(|source| TaskError::ForeignProblem {
            question: self.question.clone(),
            source,
        })
    }
}

/// Why an answer was accepted or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The answer is right.
    Correct,
    /// The text holds no complete `<answer>` element where one was required.
    MissingAnswerTag,
    /// The answer is not of the form the task asks for, or exceeds the grader's limits.
    Malformed,
    /// Well formed, but not made of the given numbers, each once.
    WrongNumbers,
    /// Well formed, but it says something else than the truth.
    WrongValue,
    /// The problem was made by another task, so there is nothing to compare with.
    ForeignProblem,
}

/// A grader's decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether the answer counts.
    pub correct: bool,
    /// Why.
    pub reason: Reason,
}

impl Verdict {
    /// The verdict that `reason` stands for.
    pub const fn new(reason: Reason) -> Self {
        Self {
            correct: matches!(reason, Reason::Correct),
            reason,
        }
    }

    /// Whether the answer had the form the task asks for, right or wrong.
    pub const fn is_well_formed(&self) -> bool {
        matches!(
            self.reason,
            Reason::Correct | Reason::WrongNumbers | Reason::WrongValue
        )
    }
}

/// A skill that careful thinking is made of; each can be the one that is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Skill {
    /// Writing again what was written before (the target, a digit).
    Copying,
    /// The result of one operation.
    Computing,
    /// Noticing that two things are equal or not.
    Comparing,
    /// Ending the thought when it is done, and answering from it.
    Stopping,
    /// Going on to the next step of a fixed order.
    Stepping,
}

impl Skill {
    /// The skill's name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Copying => "copying",
            Self::Computing => "computing",
            Self::Comparing => "comparing",
            Self::Stopping => "stopping",
            Self::Stepping => "stepping",
        }
    }
}

/// One test of one skill: does the model continue `prompt` with exactly `expected`?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// What is tested.
    pub skill: Skill,
    /// The words that follow `<bos>`: the question and the beginning of a thought.
    pub prompt: String,
    /// The words that must follow.
    pub expected: String,
}

impl Probe {
    /// The probe that shows a `question` and the words of a trace up to `at`, and expects the next
    /// `n_words`.
    pub fn within(skill: Skill, question: &str, trace: &[&str], at: usize, n_words: usize) -> Self {
        let shown = trace.iter().take(at);
        let words: Vec<&str> = core::iter::once(&question).chain(shown).copied().collect();
        let expected: Vec<&str> = trace.iter().skip(at).take(n_words).copied().collect();
        Self {
            skill,
            prompt: words.join(" "),
            expected: expected.join(" "),
        }
    }
}

/// What can go wrong in making a problem or a line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// The knobs ask for something that does not exist.
    #[error("{task}: {field} is {got}, expected {expected}")]
    Knob {
        /// The task.
        task: String,
        /// The knob.
        field: &'static str,
        /// What it was set to.
        got: String,
        /// What would have been possible.
        expected: String,
    },
    /// No problem with these knobs was found in many draws.
    #[error("{task}: expected a problem within {draws} draws at this level, found none")]
    NoProblem {
        /// The task.
        task: String,
        /// How often was tried.
        draws: u32,
    },
    /// The task has fewer different problems than were asked for.
    #[error("{task}: expected {wanted} different {side} problems, found {found}")]
    TooFew {
        /// The task.
        task: String,
        /// Which side of the split.
        side: &'static str,
        /// How many were asked for.
        wanted: usize,
        /// How many there were.
        found: usize,
    },
    /// The problem's data is not this task's.
    #[error("the data of problem {question:?} is not of this task: {source}")]
    ForeignProblem {
        /// The problem's question.
        question: String,
        /// What did not fit.
        source: serde_json::Error,
    },
    /// A question typed by hand that the task does not understand.
    #[error("{task}: expected a question like {expected:?}, got {got:?}")]
    Question {
        /// The task.
        task: String,
        /// An example of what is understood.
        expected: String,
        /// What came.
        got: String,
    },
    /// A row of a data file that is no problem of this task.
    #[error("{task}: row {row} is not a problem: {reason}")]
    Row {
        /// The task.
        task: String,
        /// The line, counted from 1.
        row: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// Overrides that do not fit the knobs' names or types.
    #[error("{what}: {source}")]
    Overrides {
        /// Which knobs.
        what: &'static str,
        /// What did not fit.
        source: serde_json::Error,
    },
    /// There is no task of this name.
    #[error("unknown task {got:?}, expected one of {expected}")]
    UnknownTask {
        /// The names there are.
        expected: String,
        /// What was asked for.
        got: String,
    },
}

/// A family of problems with a checker. Object safe; one file a task in [`crate::tasks`].
///
/// Everything is a pure function of its arguments; randomness comes in as an [`Rng`].
pub trait Task: core::fmt::Debug + Send + Sync {
    /// The name in recipes and reports.
    fn name(&self) -> &str;

    /// What a model that never saw the task is told before a question, answer's form included.
    fn instruction(&self) -> &'static str;

    /// Every word that questions, thoughts and answers can be made of, each once, in the order of
    /// their ids. Control tokens are not among them.
    fn words(&self) -> Vec<String>;

    /// The difficulty this task starts from when a recipe says nothing.
    fn level(&self) -> Level;

    /// The shares of habits this task starts from when a recipe says nothing.
    fn mix(&self) -> Mix;

    /// A problem, from either side of the split; see [`crate::split::draw`] for one side.
    fn problem(&self, rng: &mut Rng, level: &Level) -> Result<Problem, TaskError>;

    /// The problem behind a question typed by hand.
    fn parse(&self, question: &str) -> Result<Problem, TaskError>;

    /// One base-corpus continuation of the problem: the text after the question, without `<eos>`.
    /// Which habit it shows is drawn from `mix`; it is never chosen for being right.
    fn habit(&self, problem: &Problem, rng: &mut Rng, mix: &Mix) -> Result<String, TaskError>;

    /// A patient thought about a problem like `problem` that has no solution, with that problem; or
    /// nothing if the task has no such problems.
    fn hopeless(
        &self,
        _problem: &Problem,
        _rng: &mut Rng,
        _mix: &Mix,
    ) -> Result<Option<(Problem, String)>, TaskError> {
        Ok(None)
    }

    /// A line of stand-alone facts, or nothing if the task has none.
    fn drill(&self, rng: &mut Rng, mix: &Mix) -> Option<String>;

    /// Whether `answer` (the text after the thinking, without control tokens) is right.
    fn grade(&self, problem: &Problem, answer: &str) -> Verdict;

    /// The answer in a form in which equal answers are equal texts, for the majority vote; nothing
    /// if the answer is malformed.
    fn canonical(&self, problem: &Problem, answer: &str) -> Option<String>;

    /// The words with which a careful thought begins, to make a model think before it is asked
    /// how well it thinks.
    fn opening(&self) -> &'static str {
        "<think>"
    }

    /// The words with which a thought rejects what it just tried, to be marked for readers.
    fn self_check_words(&self) -> &'static [&'static str] {
        &[]
    }

    /// How often the thinking checked itself and went on.
    fn self_checks(&self, _thinking: &[&str]) -> usize {
        0
    }

    /// For each word of the thinking whether it stands where this task's way of thinking has such
    /// a word; the consistency reward is the share of true.
    fn expected(&self, problem: &Problem, thinking: &[&str]) -> Vec<bool>;

    /// Skill tests made from one problem, in the form of thinking that `mix` teaches.
    fn probes(&self, problem: &Problem, rng: &mut Rng, mix: &Mix) -> Result<Vec<Probe>, TaskError>;
}
