//! The model card that travels with every checkpoint.

use frugal_core::backend::TrainBackend;
use frugal_model::config::ModelConfig;
use frugal_model::params::{Params, Spec};

use crate::error::Result;
use crate::room::{Origin, Room};

/// `README.md` of a model that was made by `how`.
pub(crate) fn of<B: TrainBackend>(
    room: &Room<'_, B>,
    config: &ModelConfig,
    how: &str,
) -> Result<String> {
    let specs = Params::<Spec>::spec(config)?;
    let count = specs.count(config);
    let task = room.task.name();
    let vocabulary = config.vocab_size;
    let (head, base, words, prompt, end) = match &room.origin {
        Origin::Nothing => (
            "license: apache-2.0\n".to_owned(),
            String::new(),
            format!("{vocabulary} words of the task `{task}`"),
            "`<bos>` and the question's words; thinking stands between `<think>` and `</think>`",
            "It knows this one task and nothing else.".to_owned(),
        ),
        Origin::Imported(base) => (
            format!("base_model: {}\n", quoted(base)),
            format!("| Base | {base} |\n"),
            format!("{vocabulary} ids, the base's"),
            "the base's chat template",
            format!("The task of the run was `{task}`; the licence is that of the base."),
        ),
        Origin::WordsOf(other) => (
            String::new(),
            String::new(),
            format!("{vocabulary} ids, those of {other}"),
            "the chat template of the model whose words it has",
            format!("It began from nothing and knows the task `{task}` and nothing else."),
        ),
    };
    Ok(format!(
        "---\n{head}library_name: transformers\ntags: [frugal, reasoning]\n---\n\n\
         # {stage}\n\n\
         Made by the stage `{stage}` of a Frugal run (seed {seed}): {how}.\n\n\
         | | |\n|---|---|\n\
         {base}\
         | Architecture | {architecture:?} |\n\
         | Parameters | {total} in all, {active} active, {mtp} in the extra prediction layer |\n\
         | Vocabulary | {words} |\n\
         | Prompt | {prompt} |\n\n\
         {end} What it cost is in the run's ledger.\n",
        stage = room.stage,
        seed = room.seed,
        architecture = config.architecture,
        total = count.total,
        active = count.active,
        mtp = count.mtp,
    ))
}

/// A name as a string of the card's head.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace(['\n', '"', '\\'], " "))
}
