//! OpenAI's and DeepSeek's chat completions: [`parse`] makes an [`Ask`] of a body, [`Encoder`] bodies
//! of what is [`Said`](crate::answer::Said).
//!
//! Beside OpenAI's fields these are taken:
//!
//! ```text
//! DeepSeek   thinking, reasoning_effort, user_id; of messages: reasoning_content, prefix
//! vLLM       top_k, min_p, repetition_penalty, ignore_eos, stop_token_ids, thinking_token_budget,
//!            chat_template_kwargs, continue_final_message, add_generation_prompt, return_token_ids,
//!            guided_json, guided_regex, guided_grammar (Lark's notation), guided_choice,
//!            structured_outputs
//! ours       verify {samples, checker, reference}: several answers, graded
//!            reasoning_logprobs: log-probabilities of thoughts too, under logprobs.reasoning_content
//! ```
//!
//! What is not offered is refused by name; what is accepted without effect is listed in
//! [`WITHOUT_EFFECT`] and told to the client, see [`Out::unused`].

use serde_json::Value;

use super::conversation;
use super::error::Fault;
use super::fields::{Fields, item, text};
use super::sampled::{self, NAME_BYTES, Streaming};
use super::{form, thinking, tools};
use crate::answer::{Ask, Check, Limits, Verify};

mod encode;

pub use encode::Encoder;

/// Fields of requests that change nothing here, and why.
pub const WITHOUT_EFFECT: [(&str, &str); 7] = [
    ("metadata", "names what is stored, and nothing is stored"),
    ("prediction", "only speeds up, and changes no answer"),
    (
        "prompt_cache_key",
        "what prompts share is found by their tokens",
    ),
    ("safety_identifier", "nobody is reported to anybody"),
    ("service_tier", "there is one tier; the answer names it"),
    (OBFUSCATION, "chunks are as long as what they hold"),
    ("verbosity", "no model here has learnt it; say it in words"),
];
const OBFUSCATION: &str = "stream_options.include_obfuscation";

/// Fields of OpenAI that no request can have here.
const REFUSED: [(&str, &str); 4] = [
    ("audio", "no model here speaks"),
    ("web_search_options", "nothing is fetched for clients"),
    ("functions", "no longer offered: expected tools"),
    ("function_call", "no longer offered: expected tool_choice"),
];

/// What the answer must look like.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Out {
    /// Whether it is sent as it comes.
    pub streaming: Streaming,
    /// Answers.
    pub n: usize,
    /// Under which name thoughts are sent: the server's choice, not the client's.
    pub reasoning: Reasoning,
    /// Whose log-probabilities are sent.
    pub log_probs: LogProbs,
    /// Whether token ids are sent, as vLLM does: `prompt_token_ids` and `token_ids`.
    pub has_ids: bool,
    /// The tier, where the client named one.
    pub service_tier: Option<&'static str>,
    /// Fields of [`WITHOUT_EFFECT`] that the client sent, to be told in a header.
    pub unused: Vec<&'static str>,
}

/// The name of thoughts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reasoning {
    /// `reasoning_content`: DeepSeek's.
    #[default]
    Content,
    /// `reasoning`: vLLM's and others'.
    Bare,
    /// Both.
    Both,
}

/// Whose log-probabilities are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogProbs {
    /// Nobody's.
    #[default]
    None,
    /// The answer's, as the official shape has it.
    Answer,
    /// The thought's too, beside `content` under `reasoning_content`.
    AnswerAndThought,
}

/// Reads a body.
pub fn parse(body: &Value, limits: &Limits) -> Result<(Ask, Out), Fault> {
    let mut fields = Fields::of(body, "")?;
    let model = sampled::model(&mut fields)?;
    let thoughts = thinking::take(&mut fields)?;
    let prompt = conversation::prompt(&mut fields, limits, thoughts.variables)?;
    let n = sampled::answers(&mut fields, limits)?;
    let (log_probs, likeliest) = log_probs(&mut fields, limits)?;
    let (streaming, speaks_of_obfuscation) = sampled::streaming(&mut fields)?;
    let mut unused = unused(&mut fields)?;
    unused.extend(speaks_of_obfuscation.then_some(OBFUSCATION));
    not_offered(&mut fields)?;
    let has_ids = fields.flag("return_token_ids")?.unwrap_or(false);
    let ask = Ask {
        model,
        prompt,
        n,
        max_tokens: max_tokens(&mut fields)?,
        sampled: sampled::sampled(&mut fields, limits)?,
        stop: sampled::stops(&mut fields, limits)?,
        stop_ids: sampled::stop_ids(&mut fields, limits)?,
        ignores_end: fields.flag("ignore_eos")?.unwrap_or(false),
        thinking: thoughts.thinking,
        form: form::take(&mut fields, limits)?,
        tools: tools::take(&mut fields, limits)?,
        likeliest,
        prompt_likeliest: None,
        wants_ids: has_ids,
        verify: verify(&mut fields, n, limits)?,
        user: sampled::user(&mut fields)?,
    };
    let out = Out {
        streaming,
        n,
        reasoning: Reasoning::default(),
        log_probs,
        has_ids,
        service_tier: fields.has("service_tier").then_some("default"),
        unused,
    };
    fields.finish()?;
    Ok((ask, out))
}

/// `max_completion_tokens`, or `max_tokens` as it was called.
fn max_tokens(fields: &mut Fields<'_>) -> Result<Option<usize>, Fault> {
    let most = i32::MAX.unsigned_abs() as usize;
    let old = fields.count("max_tokens", 1..=most)?;
    let new = fields.count("max_completion_tokens", 1..=most)?;
    Ok(new.or(old))
}

fn log_probs(fields: &mut Fields<'_>, limits: &Limits) -> Result<(LogProbs, Option<usize>), Fault> {
    let is_wanted = fields.flag("logprobs")?.unwrap_or(false);
    let top = fields.count("top_logprobs", 0..=limits.likeliest)?;
    let of_thoughts = fields.flag("reasoning_logprobs")?.unwrap_or(false);
    if !is_wanted {
        let needs = match (top, of_thoughts) {
            (Some(1..), _) => "top_logprobs",
            (_, true) => "reasoning_logprobs",
            _ => return Ok((LogProbs::None, None)),
        };
        return Err(fields.against(needs, "only together with logprobs: true"));
    }
    let log_probs = if of_thoughts {
        LogProbs::AnswerAndThought
    } else {
        LogProbs::Answer
    };
    Ok((log_probs, Some(top.unwrap_or(0))))
}

/// Checks the fields of [`WITHOUT_EFFECT`]; gives the names of those that were sent.
fn unused(fields: &mut Fields<'_>) -> Result<Vec<&'static str>, Fault> {
    let names = WITHOUT_EFFECT.iter().map(|(name, _)| *name);
    let sent = names.filter(|name| fields.has(name)).collect();
    if let Some(mut prediction) = fields.object("prediction")? {
        let kind = prediction.word("type", &[("content", ())])?;
        kind.ok_or_else(|| prediction.missing("type"))?;
        let content = prediction.take("content");
        let content = content.ok_or_else(|| prediction.missing("content"))?;
        conversation::joined(content, &prediction.path("content"), &["text"])?;
        prediction.finish()?;
    }
    if let Some(pairs) = fields.object("metadata")? {
        for (index, (name, value)) in pairs.rest().enumerate() {
            if index == 16 || name.len() > 64 {
                let why = "expected at most 16 names of at most 64 bytes";
                return Err(fields.against("metadata", why));
            }
            text(value, &format!("metadata.{name}"), NAME_BYTES)?;
        }
    }
    fields.text("prompt_cache_key", NAME_BYTES)?;
    fields.text("safety_identifier", NAME_BYTES)?;
    let tiers = ["auto", "default", "flex", "scale", "priority"];
    fields.word("service_tier", &tiers.map(|tier| (tier, ())))?;
    fields.word(
        "verbosity",
        &["low", "medium", "high"].map(|word| (word, ())),
    )?;
    Ok(sent)
}

fn not_offered(fields: &mut Fields<'_>) -> Result<(), Fault> {
    for (name, why) in REFUSED {
        fields.refuse(name, why)?;
    }
    if fields.flag("store")? == Some(true) {
        return Err(fields.against("store", "nothing is stored: expected false"));
    }
    if let Some(value) = fields.take("prompt_cache_retention")
        && !matches!(value.as_str(), Some("in_memory" | "in-memory"))
    {
        return Err(fields.wrong("prompt_cache_retention", "\"in_memory\"", value));
    }
    let kinds = fields.list("modalities", 8)?;
    for (index, value) in kinds.into_iter().flatten().enumerate() {
        if value.as_str() != Some("text") {
            return Err(Fault::field(
                &item("modalities", index),
                "\"text\"",
                super::fields::shown(value),
            ));
        }
    }
    Ok(())
}

/// `verify`: a checker is `majority`, `math`, `json`, or a task's name with its `reference`.
fn verify(fields: &mut Fields<'_>, n: usize, limits: &Limits) -> Result<Option<Verify>, Fault> {
    let Some(mut verify) = fields.object("verify")? else {
        return Ok(None);
    };
    if n != 1 {
        return Err(fields.against("n", "expected 1 beside verify, which gives one answer"));
    }
    let samples = verify.count("samples", 1..=limits.verify_samples)?;
    let samples = samples.ok_or_else(|| verify.missing("samples"))?;
    let checker = verify.text("checker", NAME_BYTES)?;
    let checker = match checker.ok_or_else(|| verify.missing("checker"))? {
        "majority" => Check::Majority,
        "math" => Check::Math,
        "json" => Check::Json,
        "code" => return Err(verify.against("checker", "code is not checked here")),
        name => {
            let reference = verify.take("reference");
            Check::Task {
                name: name.to_owned(),
                reference: reference
                    .ok_or_else(|| verify.missing("reference"))?
                    .clone(),
            }
        }
    };
    verify.finish()?;
    Ok(Some(Verify { samples, checker }))
}

#[cfg(test)]
pub(super) mod tests;
