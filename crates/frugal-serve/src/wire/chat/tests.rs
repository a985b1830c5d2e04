//! Requests taken and refused.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::answer::Check;
use crate::answer::{Form, Prompt, Thinking, ToolChoice};
use crate::wire::samples::json_like;

const LIMITS: Limits = Limits {
    n: 4,
    stops: 2,
    stop_bytes: 8,
    biases: 2,
    ..Limits::USUAL
};

/// The least body, with more fields.
fn body(more: Value) -> Value {
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "u"}]});
    if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
        body.extend(more);
    }
    body
}

fn least() -> Ask {
    let prompt = Prompt::Chat {
        messages: vec![json!({"role": "user", "content": "u"})],
        variables: serde_json::Map::new(),
        continues_last: false,
        opens_turn: true,
    };
    let mut ask = Ask::of("m".into(), prompt);
    ask.tools.is_parallel = true;
    ask
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn what_is_taken_is_asked() {
    type Change = fn(&mut Ask);
    let rows: [(Value, Change); 34] = [
        (json!({}), |_| {}),
        (
            json!({"temperature": null, "tools": null, "stop": null, "n": null, "stream": null}),
            |_| {},
        ),
        (json!({"max_tokens": 7}), |ask| ask.max_tokens = Some(7)),
        (json!({"max_completion_tokens": 8}), |ask| {
            ask.max_tokens = Some(8);
        }),
        (
            json!({"max_completion_tokens": 8, "max_tokens": 7}),
            |ask| ask.max_tokens = Some(8),
        ),
        (json!({"temperature": 0.5}), |ask| {
            ask.sampled.temperature = Some(0.5);
        }),
        (json!({"top_p": 1}), |ask| ask.sampled.top_p = Some(1.0)),
        (json!({"top_k": 40}), |ask| ask.sampled.top_k = Some(40)),
        (json!({"top_k": -1}), |ask| ask.sampled.top_k = Some(0)),
        (json!({"min_p": 0.25}), |ask| ask.sampled.min_p = Some(0.25)),
        (json!({"presence_penalty": -2}), |ask| {
            ask.sampled.presence_penalty = -2.0;
        }),
        (json!({"frequency_penalty": 2.0}), |ask| {
            ask.sampled.frequency_penalty = 2.0;
        }),
        (json!({"repetition_penalty": 1.5}), |ask| {
            ask.sampled.repetition_penalty = 1.5;
        }),
        (json!({"logit_bias": {"50256": -100, "7": 0.5}}), |ask| {
            ask.sampled.bias = vec![(50256, -100.0), (7, 0.5)];
        }),
        (json!({"seed": -1}), |ask| ask.sampled.seed = Some(u64::MAX)),
        (json!({"seed": 42.0}), |ask| ask.sampled.seed = Some(42)),
        (json!({"n": 4}), |ask| ask.n = 4),
        (json!({"stop": "\n"}), |ask| ask.stop = vec!["\n".into()]),
        (json!({"stop": ["a", "b"]}), |ask| {
            ask.stop = vec!["a".into(), "b".into()];
        }),
        (json!({"stop": []}), |_| {}),
        (json!({"stop_token_ids": [1, 2]}), |ask| {
            ask.stop_ids = vec![1, 2];
        }),
        (json!({"ignore_eos": true}), |ask| ask.ignores_end = true),
        (json!({"logprobs": true}), |ask| ask.likeliest = Some(0)),
        (json!({"logprobs": true, "top_logprobs": 20}), |ask| {
            ask.likeliest = Some(20);
        }),
        (json!({"logprobs": false, "top_logprobs": 0}), |_| {}),
        (json!({"return_token_ids": true}), |ask| {
            ask.wants_ids = true;
        }),
        (json!({"user": "ann"}), |ask| ask.user = Some("ann".into())),
        (json!({"user_id": "a-1_b", "user": "a-1_b"}), |ask| {
            ask.user = Some("a-1_b".into());
        }),
        (json!({"reasoning_effort": "none"}), |ask| {
            ask.thinking = Thinking::Off;
        }),
        (json!({"response_format": {"type": "json_object"}}), |ask| {
            ask.form = Form::JsonObject;
        }),
        (
            json!({"tools": [], "tool_choice": "none", "parallel_tool_calls": false}),
            |ask| {
                ask.tools.choice = ToolChoice::None;
                ask.tools.is_parallel = false;
            },
        ),
        (
            json!({"verify": {"samples": 8, "checker": "math"}}),
            |ask| {
                ask.verify = Some(Verify {
                    samples: 8,
                    checker: Check::Math,
                });
            },
        ),
        (
            json!({"verify": {"samples": 2, "checker": "sums", "reference": {"x": 1}}}),
            |ask| {
                let checker = Check::Task {
                    name: "sums".into(),
                    reference: json!({"x": 1}),
                };
                ask.verify = Some(Verify {
                    samples: 2,
                    checker,
                });
            },
        ),
        (
            json!({
                "store": false, "modalities": ["text"], "metadata": {"a": "b"}, "verbosity": "low",
                "prediction": {"type": "content", "content": [{"type": "text", "text": "x"}]},
                "safety_identifier": "s", "prompt_cache_key": "k", "prompt_cache_retention": "in_memory",
                "service_tier": "auto", "audio": null, "stream_options": null, "web_search_options": null,
            }),
            |_| {},
        ),
    ];
    for (more, change) in rows {
        let mut expected = least();
        change(&mut expected);
        assert_eq!(
            parse(&body(more.clone()), &LIMITS).unwrap().0,
            expected,
            "{more}"
        );
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn what_is_not_taken_is_refused_by_name() {
    let rows = [
        (json!({"model": null}), "model"),
        (json!({"model": ""}), "model"),
        (json!({"model": 5}), "model"),
        (json!({"messages": null}), "messages"),
        (json!({"frobnicate": 1}), "frobnicate"),
        (json!({"min_tokens": 5}), "min_tokens"),
        (json!({"max_tokens": 0}), "max_tokens"),
        (json!({"max_tokens": 1.5}), "max_tokens"),
        (
            json!({"max_tokens": 0, "max_completion_tokens": 5}),
            "max_tokens",
        ),
        (
            json!({"max_completion_tokens": "5"}),
            "max_completion_tokens",
        ),
        (json!({"temperature": 2.1}), "temperature"),
        (json!({"temperature": -0.1}), "temperature"),
        (json!({"top_p": 1.1}), "top_p"),
        (json!({"top_k": -2}), "top_k"),
        (json!({"min_p": 2}), "min_p"),
        (json!({"presence_penalty": 3}), "presence_penalty"),
        (json!({"frequency_penalty": -3}), "frequency_penalty"),
        (json!({"repetition_penalty": 0}), "repetition_penalty"),
        (json!({"logit_bias": [1]}), "logit_bias"),
        (json!({"logit_bias": {"a": 1}}), "logit_bias"),
        (json!({"logit_bias": {"01": 1}}), "logit_bias"),
        (json!({"logit_bias": {"1": 101}}), "logit_bias.1"),
        (
            json!({"logit_bias": {"1": 0, "2": 0, "3": 0}}),
            "logit_bias",
        ),
        (json!({"seed": 1e30}), "seed"),
        (json!({"n": 0}), "n"),
        (json!({"n": 5}), "n"),
        (json!({"stop": ""}), "stop"),
        (json!({"stop": 5}), "stop"),
        (json!({"stop": "123456789"}), "stop"),
        (json!({"stop": ["a", ""]}), "stop[1]"),
        (json!({"stop": ["a", "b", "c"]}), "stop"),
        (json!({"stop_token_ids": [1, -1]}), "stop_token_ids[1]"),
        (json!({"ignore_eos": 1}), "ignore_eos"),
        (json!({"top_logprobs": 1}), "top_logprobs"),
        (json!({"logprobs": 5}), "logprobs"),
        (
            json!({"logprobs": true, "top_logprobs": 21}),
            "top_logprobs",
        ),
        (json!({"reasoning_logprobs": true}), "reasoning_logprobs"),
        (json!({"stream": "yes"}), "stream"),
        (
            json!({"stream_options": {"include_usage": true}}),
            "stream_options",
        ),
        (
            json!({"stream": true, "stream_options": {"include_cost": true}}),
            "stream_options.include_cost",
        ),
        (json!({"user_id": "a b"}), "user_id"),
        (json!({"user_id": "x".repeat(513)}), "user_id"),
        (json!({"user_id": "a", "user": "b"}), "user_id"),
        (json!({"store": true}), "store"),
        (
            json!({"audio": {"voice": "alloy", "format": "wav"}}),
            "audio",
        ),
        (json!({"web_search_options": {}}), "web_search_options"),
        (json!({"functions": []}), "functions"),
        (json!({"function_call": "none"}), "function_call"),
        (json!({"modalities": ["text", "audio"]}), "modalities[1]"),
        (json!({"metadata": {"a": 1}}), "metadata"),
        (json!({"metadata": {("k".repeat(65)): "v"}}), "metadata"),
        (
            json!({"prediction": {"type": "content"}}),
            "prediction.content",
        ),
        (
            json!({"prediction": {"type": "tokens", "content": "x"}}),
            "prediction.type",
        ),
        (
            json!({"prompt_cache_retention": "24h"}),
            "prompt_cache_retention",
        ),
        (json!({"service_tier": "gold"}), "service_tier"),
        (json!({"verbosity": "loud"}), "verbosity"),
        (json!({"verify": {"checker": "math"}}), "verify.samples"),
        (
            json!({"verify": {"samples": 65, "checker": "math"}}),
            "verify.samples",
        ),
        (json!({"verify": {"samples": 2}}), "verify.checker"),
        (
            json!({"verify": {"samples": 2, "checker": "code"}}),
            "verify.checker",
        ),
        (
            json!({"verify": {"samples": 2, "checker": "sums"}}),
            "verify.reference",
        ),
        (
            json!({"verify": {"samples": 2, "checker": "math", "reference": 1}}),
            "verify.reference",
        ),
        (
            json!({"verify": {"samples": 2, "checker": "math"}, "n": 2}),
            "n",
        ),
        (
            json!({"thinking": {"type": "disabled"}, "reasoning_effort": "high"}),
            "reasoning_effort",
        ),
        (
            json!({"guided_regex": "a", "guided_choice": ["a"]}),
            "guided_choice",
        ),
        (json!({"tool_choice": "required"}), "tool_choice"),
    ];
    for (more, param) in rows {
        let fault = parse(&body(more.clone()), &LIMITS).unwrap_err();
        assert_eq!(
            (fault.param.as_deref(), fault.kind.status()),
            (Some(param), 400),
            "{more}"
        );
        assert!(fault.message.starts_with(param), "{}", fault.message);
    }
}

#[test]
fn clients_are_told_what_changes_nothing() {
    let more = json!({
        "stream": true, "stream_options": {"include_usage": true, "include_obfuscation": false},
        "verbosity": "low", "service_tier": "flex", "metadata": {}, "prompt_cache_retention": "in_memory",
        "logprobs": true, "reasoning_logprobs": true, "n": 2, "return_token_ids": true,
    });
    let out = parse(&body(more), &LIMITS).unwrap().1;
    let expected = Out {
        streaming: Streaming::ChunksAndUsage,
        n: 2,
        reasoning: ReasoningField::Content,
        log_probs: LogProbs::AnswerAndThought,
        has_ids: true,
        service_tier: Some("default"),
        unused: vec![
            "metadata",
            "prompt_cache_retention",
            "service_tier",
            unused::OBFUSCATION.0,
            "verbosity",
        ],
    };
    assert_eq!(out, expected);
}

// --- Bodies ---

const WORDS: &[&str] = &[
    "model",
    "messages",
    "role",
    "user",
    "assistant",
    "tool",
    "content",
    "type",
    "text",
    "tool_calls",
    "id",
    "function",
    "name",
    "arguments",
    "tool_call_id",
    "thinking",
    "enabled",
    "budget_tokens",
    "reasoning_effort",
    "high",
    "chat_template_kwargs",
    "response_format",
    "json_schema",
    "schema",
    "tools",
    "tool_choice",
    "allowed_tools",
    "mode",
    "auto",
    "required",
    "parameters",
    "logit_bias",
    "1",
    "stop",
    "stream",
    "stream_options",
    "verify",
    "samples",
    "checker",
    "math",
    "metadata",
    "guided_json",
    "guided_choice",
    "structured_outputs",
    "json",
    "n",
    "seed",
    "logprobs",
    "prefix",
    "modalities",
    "prediction",
    "reasoning_content",
    "continue_final_message",
    "top_logprobs",
];

proptest! {
    #[test]
    fn any_json_is_taken_or_refused_in_words(
        value in json_like(WORDS),
        fields in prop::collection::vec((prop::sample::select(WORDS), json_like(WORDS)), 0..4),
    ) {
        let more = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        for body in [value, body(Value::Object(more))] {
            if let Err(fault) = parse(&body, &LIMITS) {
                prop_assert!(!fault.message.is_empty() && fault.message.len() < 1000);
            }
        }
    }
}
