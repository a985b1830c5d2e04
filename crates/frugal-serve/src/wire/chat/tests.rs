//! Requests taken and refused, and bodies as clients see them.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::answer::Check;
use crate::answer::{Detail, Finish, Form, Prompt, Said, Thinking, TokenText, ToolChoice, Usage};
use crate::wire::error::Kind;
use crate::wire::samples;

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

fn out(streaming: Streaming) -> Out {
    Out {
        streaming,
        n: 1,
        ..Out::default()
    }
}

fn begun() -> Said {
    Said::Begun {
        prompt_tokens: 5,
        cached_tokens: 4,
        prompt: Vec::new(),
        prompt_ids: vec![1, 2],
    }
}

fn answer(index: usize, text: &str) -> Said {
    Said::Answer {
        index,
        text: text.into(),
        tokens: Vec::new(),
    }
}

fn thought(text: &str) -> Said {
    Said::Thinking {
        index: 0,
        text: text.into(),
        tokens: Vec::new(),
    }
}

fn ended(index: usize, finish: Finish) -> Said {
    Said::Ended {
        index,
        finish,
        detail: Detail::default(),
    }
}

fn token(id: u32, bytes: &[u8], log_prob: f32) -> TokenText {
    TokenText {
        id,
        bytes: bytes.into(),
        log_prob: Some(log_prob),
        likeliest: vec![(9, b"Yes".to_vec(), -0.25)],
    }
}

fn used() -> Said {
    Said::Done(Box::new(Usage {
        prompt_tokens: 5,
        cached_tokens: 4,
        completion_tokens: 3,
        reasoning_tokens: 2,
        flops: 1e9,
        core_seconds: 0.5,
        joules: 2.5,
        joules_are: "estimated",
        money: 0.125,
        currency: "EUR".into(),
        ..Usage::default()
    }))
}

fn encoder(out: Out) -> Encoder {
    Encoder::new(samples::head("chatcmpl-1"), Some("fp".into()), out)
}

pub(in crate::wire) fn lines(values: impl Iterator<Item = Value>) -> String {
    let lines: Vec<String> = values.map(|value| value.to_string()).collect();
    lines.join("\n")
}

fn chunks(out: Out, said: impl IntoIterator<Item = Said>) -> String {
    let mut encoder = encoder(out);
    let chunks = said.into_iter().flat_map(|said| encoder.push(said));
    lines(chunks)
}

/// The choices of chunks alone: the rest is the same in all.
fn choices(out: Out, said: impl IntoIterator<Item = Said>) -> String {
    let mut encoder = encoder(out);
    let chunks = said.into_iter().flat_map(|said| encoder.push(said));
    lines(chunks.map(|chunk| chunk["choices"].clone()))
}

fn whole(out: Out, said: impl IntoIterator<Item = Said>) -> Value {
    let mut encoder = encoder(out);
    for said in said {
        assert_eq!(encoder.push(said), Vec::<Value>::new());
    }
    encoder.whole().unwrap()
}

#[test]
fn plain_answers() {
    let said = || {
        [
            begun(),
            answer(0, "Hel"),
            answer(0, "lo"),
            ended(0, Finish::Stop),
            used(),
        ]
    };
    insta::assert_snapshot!(chunks(out(Streaming::Chunks), said()), @r#"
    {"id":"chatcmpl-1","object":"chat.completion.chunk","created":7,"model":"m","system_fingerprint":"fp","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}
    {"id":"chatcmpl-1","object":"chat.completion.chunk","created":7,"model":"m","system_fingerprint":"fp","choices":[{"index":0,"delta":{"content":"Hel"},"logprobs":null,"finish_reason":null}]}
    {"id":"chatcmpl-1","object":"chat.completion.chunk","created":7,"model":"m","system_fingerprint":"fp","choices":[{"index":0,"delta":{"content":"lo"},"logprobs":null,"finish_reason":null}]}
    {"id":"chatcmpl-1","object":"chat.completion.chunk","created":7,"model":"m","system_fingerprint":"fp","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}
    "#);
    insta::assert_snapshot!(format!("{:#}", whole(out(Streaming::No), said())), @r#"
    {
      "id": "chatcmpl-1",
      "object": "chat.completion",
      "created": 7,
      "model": "m",
      "system_fingerprint": "fp",
      "choices": [
        {
          "index": 0,
          "message": {
            "role": "assistant",
            "content": "Hello",
            "refusal": null,
            "annotations": []
          },
          "logprobs": null,
          "finish_reason": "stop"
        }
      ],
      "usage": {
        "prompt_tokens": 5,
        "completion_tokens": 3,
        "total_tokens": 8,
        "prompt_tokens_details": {
          "cached_tokens": 4,
          "audio_tokens": 0
        },
        "completion_tokens_details": {
          "reasoning_tokens": 2,
          "audio_tokens": 0,
          "accepted_prediction_tokens": 0,
          "rejected_prediction_tokens": 0
        },
        "prompt_cache_hit_tokens": 4,
        "prompt_cache_miss_tokens": 1,
        "cost": {
          "flops": 1000000000.0,
          "core_seconds": 0.5,
          "joules": 2.5,
          "joules_are": "estimated",
          "money": 0.125,
          "currency": "EUR"
        }
      }
    }
    "#);
}

#[test]
fn usage_comes_last_if_wanted() {
    let said = [begun(), ended(0, Finish::Stop), used()];
    insta::assert_snapshot!(chunks(out(Streaming::ChunksAndUsage), said), @r#"
    {"id":"chatcmpl-1","object":"chat.completion.chunk","created":7,"model":"m","system_fingerprint":"fp","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"usage":null}
    {"id":"chatcmpl-1","object":"chat.completion.chunk","created":7,"model":"m","system_fingerprint":"fp","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"usage":null}
    {"id":"chatcmpl-1","object":"chat.completion.chunk","created":7,"model":"m","system_fingerprint":"fp","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":3,"total_tokens":8,"prompt_tokens_details":{"cached_tokens":4,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":2,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0},"prompt_cache_hit_tokens":4,"prompt_cache_miss_tokens":1,"cost":{"flops":1000000000.0,"core_seconds":0.5,"joules":2.5,"joules_are":"estimated","money":0.125,"currency":"EUR"}}}
    "#);
}

#[test]
fn thoughts_go_by_the_name_the_server_gives_them() {
    let said = || {
        let detail = Detail {
            thought_closed: Some("budget"),
            ..Detail::default()
        };
        let ended = Said::Ended {
            index: 0,
            finish: Finish::Stop,
            detail,
        };
        [begun(), thought("hm"), answer(0, "42"), ended, used()]
    };
    insta::assert_snapshot!(choices(out(Streaming::Chunks), said()), @r#"
    [{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]
    [{"index":0,"delta":{"reasoning_content":"hm"},"logprobs":null,"finish_reason":null}]
    [{"index":0,"delta":{"content":"42"},"logprobs":null,"finish_reason":null}]
    [{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop","finish_details":{"thought_closed":"budget"}}]
    "#);
    insta::assert_snapshot!(whole(out(Streaming::No), said())["choices"], @r#"[{"index":0,"message":{"role":"assistant","content":"42","refusal":null,"reasoning_content":"hm","annotations":[]},"logprobs":null,"finish_reason":"stop","finish_details":{"thought_closed":"budget"}}]"#);
    for (reasoning, delta) in [
        (ReasoningField::Bare, json!({"reasoning": "hm"})),
        (
            ReasoningField::Both,
            json!({"reasoning_content": "hm", "reasoning": "hm"}),
        ),
    ] {
        let mut encoder = encoder(Out {
            reasoning,
            ..out(Streaming::Chunks)
        });
        let chunks = encoder.push(thought("hm"));
        assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
        assert_eq!(chunks[1]["choices"][0]["delta"], delta);
    }
}

#[test]
fn tools_are_called_in_parallel() {
    let begins = |call: usize, id: &str, name: &str| Said::CallBegins {
        index: 0,
        call,
        id: id.into(),
        name: name.into(),
    };
    let argues = |call, text: &str| Said::CallArguments {
        index: 0,
        call,
        text: text.into(),
    };
    let said = || {
        [
            begun(),
            begins(0, "call_a", "weather"),
            argues(0, "{\"city\":"),
            argues(0, "\"Oslo\"}"),
            begins(1, "call_b", "time"),
            argues(1, "{}"),
            ended(0, Finish::ToolCalls),
            used(),
        ]
    };
    insta::assert_snapshot!(choices(out(Streaming::Chunks), said()), @r#"
    [{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]
    [{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_a","type":"function","function":{"name":"weather","arguments":""}}]},"logprobs":null,"finish_reason":null}]
    [{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"city\":"}}]},"logprobs":null,"finish_reason":null}]
    [{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\"Oslo\"}"}}]},"logprobs":null,"finish_reason":null}]
    [{"index":0,"delta":{"tool_calls":[{"index":1,"id":"call_b","type":"function","function":{"name":"time","arguments":""}}]},"logprobs":null,"finish_reason":null}]
    [{"index":0,"delta":{"tool_calls":[{"index":1,"function":{"arguments":"{}"}}]},"logprobs":null,"finish_reason":null}]
    [{"index":0,"delta":{},"logprobs":null,"finish_reason":"tool_calls"}]
    "#);
    insta::assert_snapshot!(whole(out(Streaming::No), said())["choices"], @r#"[{"index":0,"message":{"role":"assistant","content":null,"refusal":null,"tool_calls":[{"id":"call_a","type":"function","function":{"name":"weather","arguments":"{\"city\":\"Oslo\"}"}},{"id":"call_b","type":"function","function":{"name":"time","arguments":"{}"}}],"annotations":[]},"logprobs":null,"finish_reason":"tool_calls"}]"#);
}

#[test]
fn log_probs_and_ids() {
    let said = || {
        [
            begun(),
            Said::Thinking {
                index: 0,
                text: "h".into(),
                tokens: vec![token(3, b"h", -0.5)],
            },
            Said::Answer {
                index: 0,
                text: String::new(),
                tokens: vec![token(4, b"\xc3", -1.0)],
            },
            Said::Answer {
                index: 0,
                text: "é".into(),
                tokens: vec![TokenText {
                    id: 5,
                    bytes: b"\xa9".to_vec(),
                    ..TokenText::default()
                }],
            },
            ended(0, Finish::Stop),
            used(),
        ]
    };
    let plain = Out {
        log_probs: LogProbs::Answer,
        ..out(Streaming::Chunks)
    };
    insta::assert_snapshot!(choices(plain, said()), @r#"
    [{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]
    [{"index":0,"delta":{"reasoning_content":"h"},"logprobs":null,"finish_reason":null}]
    [{"index":0,"delta":{"content":""},"logprobs":{"content":[{"token":"bytes:\\xc3","logprob":-1.0,"bytes":[195],"top_logprobs":[{"token":"Yes","logprob":-0.25,"bytes":[89,101,115]}]}],"refusal":null},"finish_reason":null}]
    [{"index":0,"delta":{"content":"é"},"logprobs":{"content":[{"token":"bytes:\\xa9","logprob":-9999.0,"bytes":[169],"top_logprobs":[]}],"refusal":null},"finish_reason":null}]
    [{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]
    "#);
    let all = Out {
        log_probs: LogProbs::AnswerAndThought,
        has_ids: true,
        ..out(Streaming::No)
    };
    let body = whole(all.clone(), said());
    insta::assert_snapshot!(body["choices"], @r#"[{"index":0,"message":{"role":"assistant","content":"é","refusal":null,"reasoning_content":"h","annotations":[]},"logprobs":{"content":[{"token":"bytes:\\xc3","logprob":-1.0,"bytes":[195],"top_logprobs":[{"token":"Yes","logprob":-0.25,"bytes":[89,101,115]}]},{"token":"bytes:\\xa9","logprob":-9999.0,"bytes":[169],"top_logprobs":[]}],"refusal":null,"reasoning_content":[{"token":"h","logprob":-0.5,"bytes":[104],"top_logprobs":[{"token":"Yes","logprob":-0.25,"bytes":[89,101,115]}]}]},"finish_reason":"stop","token_ids":[3,4,5]}]"#);
    assert_eq!(body["prompt_token_ids"], json!([1, 2]));
    let mut encoder = encoder(Out {
        streaming: Streaming::Chunks,
        ..all
    });
    assert_eq!(encoder.push(begun())[0]["prompt_token_ids"], json!([1, 2]));
    let [_, thought, ..] = said();
    insta::assert_snapshot!(encoder.push(thought)[0]["choices"], @r#"[{"index":0,"delta":{"reasoning_content":"h"},"logprobs":{"content":null,"refusal":null,"reasoning_content":[{"token":"h","logprob":-0.5,"bytes":[104],"top_logprobs":[{"token":"Yes","logprob":-0.25,"bytes":[89,101,115]}]}]},"finish_reason":null,"token_ids":[3]}]"#);
}

#[test]
fn several_answers_are_told_apart() {
    let said = || {
        let detail = Detail {
            stop: Some("\n".into()),
            ..Detail::default()
        };
        [
            begun(),
            answer(1, "b"),
            answer(0, "a"),
            ended(1, Finish::Length),
            Said::Ended {
                index: 0,
                finish: Finish::Stop,
                detail,
            },
            used(),
        ]
    };
    let two = |streaming| Out {
        n: 2,
        service_tier: Some("default"),
        ..out(streaming)
    };
    insta::assert_snapshot!(choices(two(Streaming::Chunks), said()), @r#"
    [{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]
    [{"index":1,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]
    [{"index":1,"delta":{"content":"b"},"logprobs":null,"finish_reason":null}]
    [{"index":0,"delta":{"content":"a"},"logprobs":null,"finish_reason":null}]
    [{"index":1,"delta":{},"logprobs":null,"finish_reason":"length"}]
    [{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop","finish_details":{"stop":"\n"}}]
    "#);
    let body = whole(two(Streaming::No), said());
    insta::assert_snapshot!(body["choices"], @r#"[{"index":0,"message":{"role":"assistant","content":"a","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop","finish_details":{"stop":"\n"}},{"index":1,"message":{"role":"assistant","content":"b","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"length"}]"#);
    assert_eq!(body["service_tier"], "default");
}

#[test]
fn ends_inside_a_thought_are_told() {
    let detail = Detail {
        ended_in_thought: true,
        ..Detail::default()
    };
    let ended = Said::Ended {
        index: 0,
        finish: Finish::Length,
        detail,
    };
    let body = whole(out(Streaming::No), [begun(), thought("hm"), ended, used()]);
    insta::assert_snapshot!(body["choices"], @r#"[{"index":0,"message":{"role":"assistant","content":"","refusal":null,"reasoning_content":"hm","annotations":[]},"logprobs":null,"finish_reason":"length","finish_details":{"ended_in_thought":true}}]"#);
}

#[test]
fn json_is_text_and_verdicts_stand_in_the_usage() {
    let Said::Done(mut usage) = used() else {
        panic!("the usage");
    };
    usage.verified = Some(json!({"agreement": 0.75}));
    let said = [
        answer(0, "{\"a\":1}"),
        ended(0, Finish::Stop),
        Said::Done(usage),
    ];
    let body = whole(out(Streaming::No), said);
    assert_eq!(body["choices"][0]["message"]["content"], "{\"a\":1}");
    assert_eq!(body["usage"]["verified"], json!({"agreement": 0.75}));
}

#[test]
fn failures_are_told() {
    let failed = || Said::Failed(Fault::new(Kind::Internal, "the model failed"));
    insta::assert_snapshot!(chunks(out(Streaming::Chunks), [failed()]), @r#"{"error":{"message":"the model failed","type":"server_error","param":null,"code":"internal_error"}}"#);
    let mut broken = encoder(out(Streaming::No));
    assert_eq!(broken.push(failed()), Vec::<Value>::new());
    let fault = broken.whole().unwrap_err();
    assert_eq!(
        (fault.kind.status(), fault.message.as_str()),
        (500, "the model failed")
    );
    assert_eq!(
        encoder(out(Streaming::No))
            .whole()
            .unwrap_err()
            .kind
            .status(),
        500
    );
    let mut early = encoder(out(Streaming::No));
    early.push(used());
    assert_eq!(early.whole().unwrap_err().message, "an answer broke off");
}

#[test]
fn no_chunk_has_an_error_but_a_failure() {
    let said = [
        begun(),
        thought("a"),
        answer(0, "b"),
        ended(0, Finish::Stop),
        used(),
    ];
    let mut encoder = encoder(out(Streaming::ChunksAndUsage));
    for chunk in said.into_iter().flat_map(|said| encoder.push(said)) {
        assert!(
            chunk.get("error").is_none() && chunk["id"] == "chatcmpl-1",
            "{chunk}"
        );
    }
}

/// Any JSON, of the names and words that requests are made of, so that checks deep inside are met.
pub(in crate::wire) fn json_like(words: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let word = prop::sample::select(words);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3_i64..300).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|x| json!(x)),
        word.clone().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 48, 6, move |inner| {
        let name = word.clone().prop_map(str::to_owned);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name, inner), 0..6)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

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
