//! Bodies as clients see them.

use serde_json::json;

use super::*;
use crate::answer::{Detail, Finish, Said, TokenText, Usage};
use crate::wire::chat::{Out, ReasoningField};
use crate::wire::error::Kind;
use crate::wire::samples::{self, a_line_each};

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

fn chunks(out: Out, said: impl IntoIterator<Item = Said>) -> String {
    let mut encoder = encoder(out);
    let chunks = said.into_iter().flat_map(|said| encoder.push(said));
    a_line_each(chunks)
}

/// The choices of chunks alone: the rest is the same in all.
fn choices(out: Out, said: impl IntoIterator<Item = Said>) -> String {
    let mut encoder = encoder(out);
    let chunks = said.into_iter().flat_map(|said| encoder.push(said));
    a_line_each(chunks.map(|chunk| chunk["choices"].clone()))
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
