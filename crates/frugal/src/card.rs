//! The card that goes with a model that was written here: what it is made from, how, and what was
//! lost on the way. It never gives a model another's name.

use frugal_model::params::{Params, Spec};

use crate::commands::quantize::Loss;
use crate::models::{Opened, Source};

/// What is known of a model.
#[derive(Debug)]
pub(crate) struct Card {
    base: String,
    method: &'static str,
    title: String,
    facts: Vec<(&'static str, String)>,
    loss: Option<Loss>,
}

impl Card {
    /// The card of a model in fewer bits.
    pub(crate) fn of_quantized(
        source: &Source,
        opened: &Opened,
        format: &str,
        bytes: u64,
        loss: &Loss,
    ) -> Self {
        let base = source.name.clone();
        let mut facts = vec![("format", format.to_owned())];
        facts.extend(size(opened));
        facts.push(("bytes", bytes.to_string()));
        Self {
            title: format!("{base} in {format}"),
            base,
            method: "quantized",
            facts,
            loss: Some(loss.clone()),
        }
    }

    /// As the hub writes it: a head for programs, a text for people.
    pub(crate) fn to_markdown(&self) -> String {
        let base = self.base.replace(['\n', '"'], " ");
        let mut lines = vec![
            "---".to_owned(),
            format!("base_model: \"{base}\""),
            format!("base_model_relation: {}", self.method),
            "---".to_owned(),
            String::new(),
            format!("# {}", self.title),
            String::new(),
        ];
        lines.extend(self.facts.iter().map(line));
        if let Some(loss) = &self.loss {
            let title = "## What was lost, against the original";
            lines.extend([String::new(), title.to_owned(), String::new()]);
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
