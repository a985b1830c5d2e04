//! The model card that travels with every checkpoint.

use frugal_core::backend::TrainBackend;
use frugal_model::params::{Params, Spec};
use frugal_model::transformer::Model;

use crate::error::Result;
use crate::room::Room;

/// `README.md` of a model that was made by `how`.
pub(crate) fn of<B: TrainBackend>(
    room: &Room<'_, B>,
    model: &Model<B::Tensor>,
    how: &str,
) -> Result<String> {
    let specs = Params::<Spec>::spec(&model.config)?;
    let count = specs.count(&model.config);
    Ok(format!(
        "---\nlicense: apache-2.0\nlibrary_name: transformers\ntags: [frugal, reasoning]\n---\n\n\
         # {stage}\n\n\
         Made by the stage `{stage}` of a Frugal run (seed {seed}): {how}.\n\n\
         | | |\n|---|---|\n\
         | Architecture | {architecture:?} |\n\
         | Parameters | {total} in all, {active} active, {mtp} in the extra prediction layer |\n\
         | Vocabulary | {vocabulary} words of the task `{task}` |\n\
         | Prompt | `<bos>` and the question's words; thinking stands between `<think>` and `</think>` |\n\n\
         It knows this one task and nothing else. What it cost is in the run's ledger.\n",
        stage = room.stage,
        seed = room.seed,
        architecture = model.config.architecture,
        total = count.total,
        active = count.active,
        mtp = count.mtp,
        vocabulary = model.config.vocab_size,
        task = room.task.name(),
    ))
}
