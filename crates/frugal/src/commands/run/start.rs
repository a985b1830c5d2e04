//! What the models of a run begin with: words of the task's own, or a published checkpoint's.

use anyhow::Context;
use frugal_eval::encode::{Codec, is_of_task};
use frugal_eval::task::Task;
use frugal_eval::tasks;
use frugal_run::recipe::Recipe;
use frugal_text::chat::{Sources, Template};
use frugal_text::word_level;
use frugal_train::artifact::Companions;
use frugal_train::import::Imported;

use crate::cli::{Common, Which};
use crate::models::{self, Opened, Source, Text};

/// What the models of a run begin with.
pub(super) struct Beginning {
    /// Words and ids.
    pub(super) codec: Codec,
    /// What goes with every model.
    pub(super) companions: Companions,
    /// The checkpoint that the recipe imports.
    pub(super) imported: Option<Imported>,
}

impl Beginning {
    /// Opens what the recipe imports; without an import makes the task's own words.
    pub(super) fn of(common: &Common, recipe: &Recipe, task: &dyn Task) -> anyhow::Result<Self> {
        let Some((stage, settings)) = recipe.import() else {
            let (tokenizer, codec) = Codec::for_task(task)?;
            return Ok(Self {
                codec,
                companions: Companions {
                    tokenizer,
                    tokenizer_config: word_level::tokenizer_config_json(recipe.n_positions()),
                    others: Vec::new(),
                },
                imported: None,
            });
        };
        let which = Which {
            model: settings.checkpoint.clone(),
            stage: None,
        };
        let asked = || format!("stage `{}` imports {}", stage.name, settings.checkpoint);
        let source = models::find(common, &which).with_context(asked)?;
        let opened = source.open().with_context(asked)?;
        let text = opened.text().with_context(asked)?;
        let codec = codec_of(&source, text, task).with_context(asked)?;
        let others = text.generation_config.clone();
        let others = others.map(|bytes| ("generation_config.json".to_owned(), bytes));
        let companions = Companions {
            tokenizer: text.tokenizer_json.clone(),
            tokenizer_config: text.tokenizer_config.clone(),
            others: others.into_iter().collect(),
        };
        let imported = Imported {
            digest: digest_of(&opened, text),
            name: opened.name,
            config: opened.config,
            leaves: opened.leaves,
        };
        imported
            .check(settings.positions as usize)
            .with_context(asked)?;
        Ok(Self {
            codec,
            companions,
            imported: Some(imported),
        })
    }
}

/// How the model is asked: in its task's words if it is a run's own, else in its chat template.
fn codec_of(source: &Source, text: &Text, task: &dyn Task) -> anyhow::Result<Codec> {
    if is_of_task(&text.tokenizer, task) {
        return Ok(Codec::new(&text.tokenizer)?);
    }
    if let Some(recipe) = &source.recipe {
        let other = tasks::by_name(&recipe.task.name, None)?;
        anyhow::ensure!(
            !is_of_task(&text.tokenizer, other.as_ref()),
            "expected a model that knows the words of the task {}, got one that only knows those \
             of {}",
            task.name(),
            other.name()
        );
    }
    let sources = Sources {
        given: None,
        file: None,
        config: Some(&text.tokenizer_config),
    };
    let (template, _) = Template::find(&sources, &text.tokenizer)
        .context("expected a model with a chat template, in which problems are put to it")?;
    anyhow::ensure!(
        template.markup()?.can_think(),
        "expected a model whose tokenizer has the control tokens <think> and </think>, between \
         which it is to think, got one without them"
    );
    let codec = Codec::for_chat(text.tokenizer.clone(), template, task.instruction())?;
    Ok(codec)
}

/// Tells a checkpoint from another without reading its weights: by its config, its words and the
/// size of its files.
fn digest_of(opened: &Opened, text: &Text) -> String {
    let size = opened.bytes.to_le_bytes();
    frugal_run::digest_of(&[
        opened.config.to_json().as_bytes(),
        &text.tokenizer_json,
        &text.tokenizer_config,
        &size,
    ])
}
