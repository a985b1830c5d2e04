//! OpenAI's completions, which DeepSeek's FIM completion and lm-evaluation-harness speak as well:
//! [`parse`] makes an [`Ask`] for each prompt of a body, [`Encoder`] one body of what is
//! [`Said`](crate::answer::Said) to all of them.
//!
//! Answer i of prompt p is choice `p * n + i`. Beside OpenAI's fields there are vLLM's for drawing
//! and for the form of answers, see [`chat`](super::chat). Departures: `best_of` is `n` or nothing;
//! `max_tokens` may be 0 together with `echo`, to see a prompt's log-probabilities alone; `logprobs`
//! goes as far as the server's limit.

use serde_json::Value;

use super::error::Fault;
use super::fields::{Fields, item, shown, token_id};
use super::form;
use super::sampled::{self, MOST_TOKENS, Streaming};
use super::unused;
use crate::answer::{Ask, Limits, Prompt};

mod encode;

pub use encode::Encoder;

/// Tokens of an answer where nothing is said, as OpenAI has it.
const USUAL_TOKENS: usize = 16;
/// Fields of requests that change nothing here, and why.
pub const WITHOUT_EFFECT: [(&str, &str); 1] = [unused::OBFUSCATION];

/// What the answer must look like.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Out {
    /// Whether it is sent as it comes.
    pub streaming: Streaming,
    /// Answers to each prompt.
    pub n: usize,
    /// What stands before the answers to each prompt.
    pub echoes: Vec<Echo>,
    /// Whether log-probabilities are sent.
    pub has_log_probs: bool,
    /// Whether token ids are sent.
    pub has_ids: bool,
    /// Fields of [`WITHOUT_EFFECT`] that the client sent, to be told in a header.
    pub unused: Vec<&'static str>,
}

/// What stands before an answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Echo {
    /// Nothing.
    #[default]
    Nothing,
    /// The prompt, a text.
    Text(String),
    /// The text of the prompt's tokens.
    Tokens,
}

/// Reads a body: an [`Ask`] for each prompt, in order, and what all answers together look like.
pub fn parse(body: &Value, limits: &Limits) -> Result<(Vec<Ask>, Out), Fault> {
    let mut fields = Fields::of(body, "")?;
    let model = sampled::model(&mut fields)?;
    let prompts = prompts(&mut fields, limits)?;
    let n = sampled::answers(&mut fields, limits)?;
    let most = limits.n.max(limits.prompts);
    if n.saturating_mul(prompts.len()) > most {
        let why = format!("expected at most {most} answers to all prompts together");
        return Err(fields.against("n", &why));
    }
    let best_of = fields.count("best_of", 1..=limits.n.max(n))?;
    if best_of.is_some_and(|best_of| best_of != n) {
        return Err(fields.against("best_of", "expected as many as n: all answers are given"));
    }
    let echoes = fields.flag("echo")?.unwrap_or(false);
    let likeliest = fields.count("logprobs", 0..=limits.likeliest)?;
    let streaming = sampled::streaming(&mut fields)?;
    let has_ids = fields.flag("return_token_ids")?.unwrap_or(false);
    // The prompt is put in below.
    let common = Ask {
        n,
        max_tokens: Some(max_tokens(&mut fields, echoes)?),
        sampled: sampled::sampled(&mut fields, limits)?,
        stop: sampled::stops(&mut fields, limits)?,
        stop_ids: sampled::stop_ids(&mut fields, limits)?,
        ignores_end: fields.flag("ignore_eos")?.unwrap_or(false),
        form: form::take(&mut fields, limits)?,
        likeliest,
        wants_ids: has_ids,
        user: sampled::user(&mut fields)?,
        ..Ask::of(model, Prompt::Ids(Vec::new()))
    };
    let echoed = |prompt: &Prompt| match (echoes, prompt) {
        (false, _) => Echo::Nothing,
        (true, Prompt::Text(text)) => Echo::Text(text.clone()),
        (true, _) => Echo::Tokens,
    };
    let out = Out {
        streaming,
        n,
        echoes: prompts.iter().map(echoed).collect(),
        has_log_probs: likeliest.is_some(),
        has_ids,
        unused: unused::sent(body, &WITHOUT_EFFECT),
    };
    fields.finish()?;
    let asks = prompts.into_iter().zip(&out.echoes).map(|(prompt, echo)| {
        // Ids are echoed as the text of the prompt's tokens, which comes with their
        // log-probabilities alone.
        let prompt_likeliest = match echo {
            Echo::Nothing => None,
            Echo::Text(_) => likeliest,
            Echo::Tokens => likeliest.or(Some(0)),
        };
        Ask {
            prompt,
            prompt_likeliest,
            ..common.clone()
        }
    });
    Ok((asks.collect(), out))
}

fn max_tokens(fields: &mut Fields<'_>, echoes: bool) -> Result<usize, Fault> {
    let least = usize::from(!echoes);
    let max_tokens = fields.count("max_tokens", least..=MOST_TOKENS)?;
    Ok(max_tokens.unwrap_or(USUAL_TOKENS))
}

/// `prompt` as a text, texts, ids or lists of ids; with `suffix`, what stands between two texts.
fn prompts(fields: &mut Fields<'_>, limits: &Limits) -> Result<Vec<Prompt>, Fault> {
    let suffix = fields.text("suffix", limits.body_bytes)?;
    let value = fields
        .take("prompt")
        .ok_or_else(|| fields.missing("prompt"))?;
    let expected = "a text, texts, token ids or lists of them";
    let prompts = match value {
        Value::String(text) => vec![Prompt::Text(text.clone())],
        Value::Array(items) => match items.first() {
            Some(Value::Number(_)) => vec![ids(items, "prompt")?],
            Some(_) => {
                if items.len() > limits.prompts {
                    let most = limits.prompts;
                    let why = format!("expected at most {most} prompts, got {}", items.len());
                    return Err(fields.against("prompt", &why));
                }
                let paths = (0..).map(|index| item("prompt", index));
                let one = |(value, path): (&Value, String)| match value {
                    Value::String(text) => Ok(Prompt::Text(text.clone())),
                    Value::Array(items) => ids(items, &path),
                    _ => Err(Fault::field(&path, "a text or token ids", shown(value))),
                };
                items.iter().zip(paths).map(one).collect::<Result<_, _>>()?
            }
            None => return Err(fields.wrong("prompt", expected, value)),
        },
        _ => return Err(fields.wrong("prompt", expected, value)),
    };
    match suffix {
        None => Ok(prompts),
        Some(_) if fields.take("echo").and_then(Value::as_bool) == Some(true) => {
            Err(fields.against("echo", "not together with suffix"))
        }
        Some(suffix) => {
            let between = |prompt| match prompt {
                Prompt::Text(prefix) => Ok(Prompt::Middle {
                    prefix,
                    suffix: suffix.to_owned(),
                }),
                _ => Err(fields.against("suffix", "only together with prompts that are texts")),
            };
            prompts.into_iter().map(between).collect()
        }
    }
}

fn ids(items: &[Value], path: &str) -> Result<Prompt, Fault> {
    if items.is_empty() {
        return Err(Fault::field(path, "token ids", "none"));
    }
    let paths = (0..).map(|index| item(path, index));
    let ids = items
        .iter()
        .zip(paths)
        .map(|(id, path)| token_id(id, &path));
    Ok(Prompt::Ids(ids.collect::<Result<_, _>>()?))
}

#[cfg(test)]
mod tests;
