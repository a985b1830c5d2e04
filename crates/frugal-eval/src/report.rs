//! The report of a run: one HTML page that needs no network and no script, and the sentences that
//! tell the run's story, for a terminal as well.
//!
//! This room draws what it is given; it reads no files and measures nothing. The binary fills a
//! [`Report`] from a run folder and the ledger, then calls [`render`]. Read [`mod@story`] for what
//! is said and what is expected, then `plot` for how curves are drawn.
//!
//! Markup is made with maud, which escapes every text by construction: a sample in which a model
//! writes tags stays text. Curves are drawn here and not by a plotting library: the ones that write
//! SVG fix colours and sizes as attributes, so a page that follows light and dark would need every
//! plot twice, and they know neither titles for screen readers nor labels at a line's end.

mod bill;
mod controls;
mod curves;
mod follow;
mod load;
mod numbers;
mod page;
mod plot;
mod results;
mod series;
pub mod story;

use frugal_run::ledger::{Bill, Total};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::evaluate::{PassCurve, Score};
pub use story::{Sentence, Standing, story};

/// Everything a report tells. Lists may be empty and options none: their part of the page is then
/// left out, or says that it was not measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// What the recipe says of itself.
    pub about: String,
    /// Name of the task.
    pub task: String,
    /// The machine, its instruction set and threads, in one line.
    pub machine: String,
    /// The models, by the names the recipe gives them.
    pub models: Vec<ModelLine>,
    /// Lines of the journal: `stage`, `kind`, `step` and numbers by name.
    pub journal: Vec<Value>,
    /// Lines of the timings.
    pub timings: Vec<Timing>,
    /// The examined checkpoints in the order of the recipe.
    pub checkpoints: Vec<Checkpoint>,
    /// Prompts followed through the checkpoints.
    pub followed: Vec<Followed>,
    /// Words by which the task counts a self-check; they are marked in the thinking.
    pub self_check_words: Vec<String>,
    /// The controls, where they were run.
    pub controls: Option<Controls>,
    /// What the run cost; it also names recipe, seed and budget.
    pub bill: Bill,
    /// Energy estimates count this power for a busy core.
    pub watts_per_core: f64,
    /// Every run of this home and what they cost together, this one included.
    pub home: Option<HomeTotal>,
    /// The resolved recipe as text.
    pub recipe_text: String,
}

/// One model of the recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelLine {
    /// Its name.
    pub name: String,
    /// Its shape and sizes in words.
    pub description: String,
}

/// How long a step took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// The stage.
    pub stage: String,
    /// The step, from 0.
    pub step: u64,
    /// Seconds on the wall.
    pub seconds: f64,
    /// Tokens learned from.
    pub tokens_trained: u64,
    /// Tokens sampled.
    pub tokens_generated: u64,
}

/// An examined checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// Its name.
    pub name: String,
    /// What the examination found.
    pub score: Score,
    /// Share of right samples per problem, in the order all checkpoints share; empty if not kept.
    pub pass_rates: Vec<f64>,
}

/// A question and what each checkpoint makes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    /// The question.
    pub question: String,
    /// The greedy answers, in the order of the checkpoints.
    pub answers: Vec<FollowedAnswer>,
}

/// A checkpoint's greedy answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowedAnswer {
    /// The checkpoint.
    pub checkpoint: String,
    /// The continuation in words, control tokens spelled out.
    pub text: String,
    /// Whether it is right.
    pub is_correct: bool,
}

/// What speaks for or against the claim that rewards taught the model something. Each part is there
/// if it was run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Controls {
    /// The base after as much reinforcement learning on rewards that say nothing.
    pub random_reward: Option<Checkpoint>,
    /// The base after as many FLOPs of further training on its own corpus.
    pub continued_sft: Option<Checkpoint>,
    /// pass@k of the base on the same problems.
    pub base_curve: Option<PassCurve>,
    /// FLOPs of one answer of the base; 0 if unknown.
    pub base_flops_per_answer: f64,
    /// FLOPs of one answer of R1-Zero; 0 if unknown.
    pub tuned_flops_per_answer: f64,
}

/// What every run of a home cost together.
#[derive(Debug, Clone, PartialEq)]
pub struct HomeTotal {
    /// Runs, the failed and interrupted ones included.
    pub runs: usize,
    /// Their sum.
    pub total: Total,
}

impl Report {
    /// The checkpoint of a name.
    pub(crate) fn checkpoint(&self, name: &str) -> Option<&Checkpoint> {
        self.checkpoints
            .iter()
            .find(|checkpoint| checkpoint.name == name)
    }
}

/// The page: self-contained HTML.
pub fn render(report: &Report) -> String {
    page::page(report).into_string()
}
