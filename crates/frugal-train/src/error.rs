//! What can go wrong between two checkpoints.

/// Result of training code.
pub type Result<T> = core::result::Result<T, Error>;

/// A refused request: what was expected and what came.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A back-end refused an operation.
    #[error(transparent)]
    Core(#[from] frugal_core::error::Error),
    /// A model or its checkpoint refused.
    #[error(transparent)]
    Model(#[from] frugal_model::error::Error),
    /// Recorded values that cannot be compared with.
    #[error("recorded values: {reason}")]
    Golden {
        /// What was expected and what came.
        reason: String,
    },
    /// Lists that belong together differ in length.
    #[error("{place}: expected {expected} {what}, got {got}")]
    Length {
        /// Who refused.
        place: &'static str,
        /// What is counted.
        what: &'static str,
        /// How many are needed.
        expected: usize,
        /// How many came.
        got: usize,
    },
    /// A setting that no computation can follow.
    #[error("{place}: {reason}")]
    Setting {
        /// Who refused.
        place: &'static str,
        /// What was expected and what came.
        reason: String,
    },
    /// A saved optimiser state does not fit the parameters it is loaded for.
    #[error("optimiser state: {reason}")]
    State {
        /// Which tensor, what was expected and what came.
        reason: String,
    },
    /// A sample that no step can hold, or that has nothing to learn from.
    #[error("sample {index}: {reason}")]
    Sample {
        /// Its place in the list or stream.
        index: usize,
        /// What was expected and what came.
        reason: String,
    },
    /// A run folder, a checkpoint or a journal refused.
    #[error(transparent)]
    Store(#[from] frugal_run::StoreError),
    /// The ledger refused.
    #[error(transparent)]
    Ledger(#[from] frugal_run::ledger::LedgerError),
    /// A recipe's knobs do not fit the task.
    #[error(transparent)]
    Recipe(#[from] frugal_run::recipe::RecipeError),
    /// A task could not make a problem or a line.
    #[error(transparent)]
    Task(#[from] frugal_eval::task::TaskError),
    /// Words and ids do not fit.
    #[error(transparent)]
    Encode(#[from] frugal_eval::encode::EncodeError),
    /// An examination could not be held.
    #[error(transparent)]
    Eval(#[from] frugal_eval::evaluate::EvalError),
    /// A model that is not ready for reinforcement learning.
    #[error("{stage} does not begin: {reasons}")]
    Gate {
        /// The stage that refused.
        stage: String,
        /// What was expected of the model and what it does.
        reasons: String,
    },
    /// Someone left a request to stop in the run's folder; a checkpoint was written.
    #[error(
        "stopped in {stage} after step {step} as asked; a checkpoint was written, --resume continues"
    )]
    Stopped {
        /// The stage.
        stage: String,
        /// Steps done.
        step: u64,
    },
    /// A signal asked the run to stop; a checkpoint was written.
    #[error(
        "interrupted in {stage} after step {step}; a checkpoint was written, --resume continues"
    )]
    Interrupted {
        /// The stage.
        stage: String,
        /// Steps done.
        step: u64,
    },
}
