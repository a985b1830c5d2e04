//! The card that goes with a model that was written here: what it is made from, how, and what was
//! lost on the way. It never gives a model another's name.

use std::path::Path;

use anyhow::Context;
use frugal_model::params::{Params, Spec};
use frugal_run::models::Card;

use crate::commands::quantize::Loss;
use crate::export::{Target, beside};
use crate::models::{Opened, Source};

/// What was made of a model.
pub(crate) struct Made<'a> {
    pub(crate) source: &'a Source,
    pub(crate) opened: &'a Opened,
    pub(crate) target: Target,
    pub(crate) bytes: u64,
    /// What was lost, where it was measured.
    pub(crate) loss: Option<&'a Loss>,
}

impl Made<'_> {
    /// Puts the card into a folder, or beside a file.
    pub(crate) fn leave_card(&self, out: &Path) -> anyhow::Result<()> {
        let path = match self.target {
            Target::Folder(_) => out.join("README.md"),
            Target::Gguf(_) => beside(out, "md"),
        };
        std::fs::write(&path, self.card())
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// As the hub writes it: a head for programs, a text for people.
    fn card(&self) -> String {
        let (base, format) = (&self.source.name, self.target.name());
        let method = if self.loss.is_some() {
            "quantized"
        } else {
            "exported"
        };
        let head = Card {
            licence: self.source.licence(),
            base_models: vec![base.clone()],
            method: Some(method.to_owned()),
            pipeline: None,
        };
        let mut lines = vec![head.head(), format!("# {base} in {format}\n")];
        let mut facts = vec![("format", format.to_owned())];
        facts.extend(size(self.opened));
        facts.push(("bytes", self.bytes.to_string()));
        lines.extend(facts.iter().map(line));
        if let Some(loss) = self.loss {
            lines.push("\n## What was lost, against the original\n".to_owned());
            lines.extend(lost(loss).iter().map(line));
        }
        lines.push(String::new());
        lines.join("\n")
    }
}

fn line((name, value): &(impl std::fmt::Display, String)) -> String {
    format!("- {name}: {value}")
}

/// Parameters, as files and bills count them.
fn size(opened: &Opened) -> Vec<(&'static str, String)> {
    let specs = Params::<Spec>::spec(&opened.config);
    let Ok(count) = specs.map(|specs| specs.count(&opened.config)) else {
        return Vec::new();
    };
    vec![
        ("parameters", count.total.to_string()),
        ("parameters a token passes", count.active.to_string()),
    ]
}

fn lost(loss: &Loss) -> Vec<(String, String)> {
    let text = &loss.text;
    let agreement = format!("{:.2} %", 100.0 * text.agreement);
    let perplexity = [text.perplexity_before, text.perplexity_after];
    let mut lines: Vec<(String, String)> = [
        ("tokens of text compared", text.tokens.to_string()),
        (
            "KL divergence, nats a token",
            format!("{:.6}", text.divergence),
        ),
        ("the largest", format!("{:.4}", text.largest_divergence)),
        ("same likeliest token", agreement),
        ("perplexity before", format!("{:.4}", perplexity[0])),
        ("perplexity after", format!("{:.4}", perplexity[1])),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    if let Some(task) = &loss.task {
        for (when, score) in [("before", &task.before), ("after", &task.after)] {
            let value = format!(
                "pass@1 {:.1} %, greedy {:.1} %, thinking {:.1} tokens, {} problems",
                100.0 * score.pass_at_1.value,
                100.0 * score.greedy.value,
                score.mean_thinking_tokens,
                score.problems
            );
            lines.push((format!("{} {when}", task.task), value));
        }
    }
    lines
}
