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
        let mut out = String::new();
        let base = self.base.replace(['\n', '"'], " ");
        out += &format!(
            "---\nbase_model: \"{base}\"\nbase_model_relation: {}\n---\n\n# {}\n\n",
            self.method, self.title
        );
        for (name, value) in &self.facts {
            out += &format!("- {name}: {value}\n");
        }
        if let Some(loss) = &self.loss {
            out.push_str(&lost(loss));
        }
        out
    }
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

fn lost(loss: &Loss) -> String {
    let text = &loss.text;
    let mut out = String::from("\n## What was lost, against the original\n\n");
    let mut line = |name: &str, value: String| out += &format!("- {name}: {value}\n");
    line("tokens of text compared", text.tokens.to_string());
    line("KL divergence, nats a token", format!("{:.6}", text.divergence));
    line("the largest", format!("{:.4}", text.largest_divergence));
    line("same likeliest token", format!("{:.2} %", 100.0 * text.agreement));
    line(
        "perplexity before and after",
        format!("{:.4}, {:.4}", text.perplexity_before, text.perplexity_after),
    );
    if let Some(task) = &loss.task {
        for (when, score) in [("before", &task.before), ("after", &task.after)] {
            line(
                &format!("{} {when}", task.task),
                format!(
                    "pass@1 {:.1} %, greedy {:.1} %, thinking {:.1} tokens, {} problems",
                    100.0 * score.pass_at_1.value,
                    100.0 * score.greedy.value,
                    score.mean_thinking_tokens,
                    score.problems
                ),
            );
        }
    }
    out
}
