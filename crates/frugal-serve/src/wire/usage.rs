//! What bodies end with: how an answer ended, what was used, and what it cost.

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

/// Adds `finish_details`: what the official words do not say, where there is any.
pub(super) fn add_details(body: &mut Map<String, Value>, detail: &Detail) {
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
    if !details.is_empty() {
        body.insert("finish_details".into(), details.into());
    }
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
    });
    if let Some(body) = body.as_object_mut() {
        add_cost(body, usage);
    }
    body
}

/// Adds what is ours in every dialect: `cost`, and `verified` where there is any.
pub(super) fn add_cost(body: &mut Map<String, Value>, usage: &Usage) {
    let cost = json!({
        "flops": usage.flops,
        "core_seconds": usage.core_seconds,
        "joules": usage.joules,
        "joules_are": usage.joules_are,
        "money": usage.money,
        "currency": usage.currency,
    });
    body.insert("cost".into(), cost);
    if let Some(verified) = &usage.verified {
        body.insert("verified".into(), verified.clone());
    }
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
