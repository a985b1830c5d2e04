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
use super::fields::{Fields, item};
use super::sampled::{self, MOST_TOKENS, Streaming};
use super::{form, thinking, tools, unused, verify};
use crate::answer::{Ask, Limits, Verify};

mod encode;

pub use encode::Encoder;

/// Fields of requests that change nothing here, and why.
pub const WITHOUT_EFFECT: [(&str, &str); 8] = [
    ("metadata", "names what is stored, and nothing is stored"),
    ("prediction", "only speeds up, and changes no answer"),
    (
        "prompt_cache_key",
        "what prompts share is found by their tokens",
    ),
    unused::CACHE_RETENTION,
    ("safety_identifier", "nobody is reported to anybody"),
    ("service_tier", "there is one tier; the answer names it"),
    unused::OBFUSCATION,
    ("verbosity", "no model here has learnt it; say it in words"),
];

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
    pub reasoning: ReasoningField,
    /// Whose log-probabilities are sent.
    pub log_probs: LogProbs,
    /// Whether token ids are sent, as vLLM does: `prompt_token_ids` and `token_ids`.
    pub has_ids: bool,
    /// The tier, where the client named one.
    pub service_tier: Option<&'static str>,
    /// Fields of [`WITHOUT_EFFECT`] that the client sent, to be told in a header.
    pub unused: Vec<&'static str>,
}

/// Where thoughts stand in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReasoningField {
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
    let thoughts = thinking::take(&mut fields, limits)?;
    let prompt = conversation::prompt(&mut fields, limits, thoughts.variables)?;
    let n = sampled::answers(&mut fields, limits)?;
    let (log_probs, likeliest) = log_probs(&mut fields, limits)?;
    let streaming = sampled::streaming(&mut fields)?;
    without_effect(&mut fields)?;
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
        verify: graded(&mut fields, n, limits)?,
        user: sampled::user(&mut fields)?,
    };
    let out = Out {
        streaming,
        n,
        reasoning: ReasoningField::default(),
        log_probs,
        has_ids,
        service_tier: fields.has("service_tier").then_some("default"),
        unused: unused::sent(body, &WITHOUT_EFFECT),
    };
    fields.finish()?;
    Ok((ask, out))
}

/// `max_completion_tokens`, or `max_tokens` as it was called.
fn max_tokens(fields: &mut Fields<'_>) -> Result<Option<usize>, Fault> {
    let old = fields.count("max_tokens", 1..=MOST_TOKENS)?;
    let new = fields.count("max_completion_tokens", 1..=MOST_TOKENS)?;
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

/// Checks the fields of [`WITHOUT_EFFECT`].
fn without_effect(fields: &mut Fields<'_>) -> Result<(), Fault> {
    if let Some(mut prediction) = fields.object("prediction")? {
        let kind = prediction.word("type", &[("content", ())])?;
        kind.ok_or_else(|| prediction.missing("type"))?;
        let content = prediction.take("content");
        let content = content.ok_or_else(|| prediction.missing("content"))?;
        conversation::joined(content, &prediction.path("content"), &["text"])?;
        prediction.finish()?;
    }
    fields.word("verbosity", &unused::VERBOSITIES)?;
    unused::of_openai(fields)
}

fn not_offered(fields: &mut Fields<'_>) -> Result<(), Fault> {
    for (name, why) in REFUSED {
        fields.refuse(name, why)?;
    }
    if fields.flag("store")? == Some(true) {
        return Err(fields.against("store", "nothing is stored: expected false"));
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

fn graded(fields: &mut Fields<'_>, n: usize, limits: &Limits) -> Result<Option<Verify>, Fault> {
    let verify = verify::take(fields, limits)?;
    if verify.is_some() && n != 1 {
        return Err(fields.against("n", "expected 1 beside verify, which gives one answer"));
    }
    Ok(verify)
}

#[cfg(test)]
mod tests;
