//! What bodies of OpenAI's dialects end with: how an answer ended, and what was used.

use serde_json::{Map, Value, json};

use crate::answer::{Detail, Finish, Usage};

/// One of the official words. No other may be added: clients refuse what they do not know.
pub(super) const fn finish_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
        Finish::ToolCalls => "tool_calls",
    }
}

/// What the official words do not say, for the side field `finish_details`.
pub(super) fn finish_details(detail: &Detail) -> Option<Value> {
    let mut details = Map::new();
    if let Some(stop) = &detail.stop {
        details.insert("stop".into(), stop.as_str().into());
    }
    if let Some(why) = detail.thought_closed {
        details.insert("thought_closed".into(), why.into());
    }
    if detail.ended_in_thought {
        details.insert("ended_in_thought".into(), true.into());
    }
    (!details.is_empty()).then(|| details.into())
}

/// OpenAI's usage with its details, DeepSeek's flat fields, and what it cost.
pub(super) fn usage(usage: &Usage) -> Value {
    let missed = usage.prompt_tokens.saturating_sub(usage.cached_tokens);
    let mut body = json!({
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens.saturating_add(usage.completion_tokens),
        "prompt_tokens_details": { "cached_tokens": usage.cached_tokens, "audio_tokens": 0 },
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
        "prompt_cache_hit_tokens": usage.cached_tokens,
        "prompt_cache_miss_tokens": missed,
        "cost": {
            "flops": usage.flops,
            "core_seconds": usage.core_seconds,
            "joules": usage.joules,
            "joules_are": usage.joules_are,
            "money": usage.money,
            "currency": usage.currency,
        },
    });
    if let (Some(verified), Some(body)) = (&usage.verified, body.as_object_mut()) {
        body.insert("verified".into(), verified.clone());
    }
    body
}

/// Adds what another prompt of the same request used.
pub(super) fn add(total: &mut Usage, other: &Usage) {
    total.prompt_tokens = total.prompt_tokens.saturating_add(other.prompt_tokens);
    total.cached_tokens = total.cached_tokens.saturating_add(other.cached_tokens);
    total.completion_tokens = total
        .completion_tokens
        .saturating_add(other.completion_tokens);
    total.reasoning_tokens = total
        .reasoning_tokens
        .saturating_add(other.reasoning_tokens);
    total.flops += other.flops;
    total.core_seconds += other.core_seconds;
    total.joules += other.joules;
    total.money += other.money;
    // What is partly estimated is an estimate.
    if total.joules_are.is_empty() || total.joules_are == "measured" {
        total.joules_are = other.joules_are;
    }
    total.currency.clone_from(&other.currency);
    total.seconds_to_first = total.seconds_to_first.max(other.seconds_to_first);
    total.seconds = total.seconds.max(other.seconds);
}
