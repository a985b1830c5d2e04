//! Requests taken and refused, and bodies as clients see them.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::answer::{Detail, Finish, Form, Said, TokenText, Usage};
use crate::wire::error::Kind;
use crate::wire::samples;
use crate::wire::samples::{a_line_each, json_like};

const LIMITS: Limits = Limits {
    n: 4,
    prompts: 3,
    ..Limits::USUAL
};

fn body(more: Value) -> Value {
    let mut body = json!({"model": "m", "prompt": "p"});
    if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
        body.extend(more);
    }
    body
}

fn text(text: &str) -> Prompt {
    Prompt::Text(text.into())
}

#[test]
fn prompts_are_taken_in_all_forms() {
    let between = |prefix: &str| Prompt::Middle {
        prefix: prefix.into(),
        suffix: "s".into(),
    };
    let rows = [
        (json!({"prompt": ""}), vec![text("")]),
        (json!({"prompt": ["a", "b"]}), vec![text("a"), text("b")]),
        (json!({"prompt": [1, 2]}), vec![Prompt::Ids(vec![1, 2])]),
        (
            json!({"prompt": [[1], [2, 3]]}),
            vec![Prompt::Ids(vec![1]), Prompt::Ids(vec![2, 3])],
        ),
        (
            json!({"prompt": ["a", [2]]}),
            vec![text("a"), Prompt::Ids(vec![2])],
        ),
        (json!({"suffix": "s"}), vec![between("p")]),
        (
            json!({"prompt": ["a", "b"], "suffix": "s", "echo": false}),
            vec![between("a"), between("b")],
        ),
    ];
    for (more, expected) in rows {
        let (asks, out) = parse(&body(more.clone()), &LIMITS).unwrap();
        let prompts: Vec<Prompt> = asks.into_iter().map(|ask| ask.prompt).collect();
        assert_eq!(prompts, expected, "{more}");
        assert_eq!(out.echoes, vec![Echo::Nothing; expected.len()]);
    }
}

#[test]
fn settings_are_taken() {
    type Change = fn(&mut Ask);
    let least = || Ask {
        max_tokens: Some(16),
        ..Ask::of("m".into(), text("p"))
    };
    let rows: [(Value, Change); 14] = [
        (json!({}), |_| {}),
        (json!({"max_tokens": 5}), |ask| ask.max_tokens = Some(5)),
        (json!({"n": 4, "best_of": 4}), |ask| ask.n = 4),
        (json!({"logprobs": 0}), |ask| ask.likeliest = Some(0)),
        (json!({"logprobs": 20}), |ask| ask.likeliest = Some(20)),
        (json!({"echo": true}), |_| {}),
        (json!({"echo": true, "max_tokens": 0}), |ask| {
            ask.max_tokens = Some(0);
        }),
        (json!({"echo": true, "logprobs": 1}), |ask| {
            (ask.likeliest, ask.prompt_likeliest) = (Some(1), Some(1));
        }),
        (json!({"echo": true, "prompt": [1]}), |ask| {
            (ask.prompt, ask.prompt_likeliest) = (Prompt::Ids(vec![1]), Some(0));
        }),
        (
            json!({"stop": ["\n\n", "Q:"], "temperature": 0, "seed": 1234}),
            |ask| {
                ask.stop = vec!["\n\n".into(), "Q:".into()];
                (ask.sampled.temperature, ask.sampled.seed) = (Some(0.0), Some(1234));
            },
        ),
        (json!({"guided_regex": "a+"}), |ask| {
            ask.form = Form::Regex("a+".into());
        }),
        (json!({"ignore_eos": true, "stop_token_ids": [2]}), |ask| {
            (ask.ignores_end, ask.stop_ids) = (true, vec![2]);
        }),
        (json!({"return_token_ids": true}), |ask| {
            ask.wants_ids = true;
        }),
        (json!({"user": "ann"}), |ask| ask.user = Some("ann".into())),
    ];
    for (more, change) in rows {
        let mut expected = least();
        change(&mut expected);
        assert_eq!(
            parse(&body(more.clone()), &LIMITS).unwrap().0,
            [expected],
            "{more}"
        );
    }
    let more = json!({"stream": true, "stream_options": {"include_usage": true, "include_obfuscation": true}});
    let out = parse(&body(more), &LIMITS).unwrap().1;
    assert_eq!(
        (out.streaming, out.unused),
        (Streaming::ChunksAndUsage, vec![unused::OBFUSCATION.0])
    );
}

#[test]
fn what_is_not_taken_is_refused_by_name() {
    let rows = [
        (json!({"model": null}), "model"),
        (json!({"prompt": null}), "prompt"),
        (json!({"prompt": 5}), "prompt"),
        (json!({"prompt": {}}), "prompt"),
        (json!({"prompt": []}), "prompt"),
        (json!({"prompt": [[]]}), "prompt[0]"),
        (json!({"prompt": [null]}), "prompt[0]"),
        (json!({"prompt": [1, "a"]}), "prompt[1]"),
        (json!({"prompt": ["a", 1]}), "prompt[1]"),
        (json!({"prompt": [[1, -1]]}), "prompt[0][1]"),
        (json!({"prompt": [1.5]}), "prompt[0]"),
        (json!({"prompt": ["a", "b", "c", "d"]}), "prompt"),
        (json!({"prompt": ["a", "b"], "n": 3}), "n"),
        (json!({"prompt": [1], "suffix": "s"}), "suffix"),
        (json!({"suffix": "s", "echo": true}), "echo"),
        (json!({"suffix": 5}), "suffix"),
        (json!({"best_of": 2}), "best_of"),
        (json!({"best_of": 2, "n": 3}), "best_of"),
        (json!({"max_tokens": 0}), "max_tokens"),
        (json!({"max_tokens": -1, "echo": true}), "max_tokens"),
        (json!({"logprobs": 21}), "logprobs"),
        (json!({"logprobs": true}), "logprobs"),
        (json!({"echo": 1}), "echo"),
        (json!({"messages": []}), "messages"),
        (json!({"tools": []}), "tools"),
        (json!({"reasoning_effort": "low"}), "reasoning_effort"),
        (json!({"verify": {}}), "verify"),
        (json!({"stream_options": {}}), "stream_options"),
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

// --- Bodies ---

fn out(more: Value) -> Out {
    parse(&body(more), &LIMITS).unwrap().1
}

fn encoder(out: Out) -> Encoder {
    Encoder::new(samples::head("cmpl-1"), None, out)
}

fn begun(prompt: &[TokenText]) -> Said {
    Said::Begun {
        prompt_tokens: prompt.len(),
        cached_tokens: 0,
        prompt: prompt.to_vec(),
        prompt_ids: vec![1, 2],
    }
}

fn answer(index: usize, text: &str, tokens: &[TokenText]) -> Said {
    Said::Answer {
        index,
        text: text.into(),
        tokens: tokens.to_vec(),
    }
}

fn ended(index: usize, finish: Finish) -> Said {
    Said::Ended {
        index,
        finish,
        detail: Detail::default(),
    }
}

fn used() -> Said {
    Said::Done(Box::new(Usage {
        prompt_tokens: 3,
        completion_tokens: 1,
        flops: 8.0,
        joules_are: "measured",
        currency: "EUR".into(),
        ..Usage::default()
    }))
}

/// A token and the likeliest in its place, which is another one for a token less likely than it.
fn token(text: &[u8], log_prob: Option<f32>) -> TokenText {
    let likeliest = log_prob.map(|log_prob| {
        if log_prob < -1.0 {
            (99, b"likelier".to_vec(), -0.5)
        } else {
            (1, text.to_vec(), log_prob)
        }
    });
    TokenText {
        id: 1,
        bytes: text.into(),
        log_prob,
        likeliest: likeliest.into_iter().collect(),
    }
}

fn whole(out: Out, said: impl IntoIterator<Item = (usize, Said)>) -> Value {
    let mut encoder = encoder(out);
    for (prompt, said) in said {
        assert_eq!(encoder.push(prompt, said), Vec::<Value>::new());
    }
    encoder.whole().unwrap()
}

fn chunks(out: Out, said: impl IntoIterator<Item = (usize, Said)>) -> String {
    let mut encoder = encoder(out);
    let said = said.into_iter();
    let chunks = said.flat_map(|(prompt, said)| encoder.push(prompt, said));
    a_line_each(chunks)
}

#[test]
fn plain_answers() {
    let said = || {
        let thought = Said::Thinking {
            index: 0,
            text: "hm ".into(),
            tokens: Vec::new(),
        };
        [
            begun(&[]),
            thought,
            answer(0, "x", &[]),
            ended(0, Finish::Length),
            used(),
        ]
        .map(|said| (0, said))
    };
    insta::assert_snapshot!(whole(out(json!({})), said()), @r#"{"id":"cmpl-1","object":"text_completion","created":7,"model":"m","system_fingerprint":null,"choices":[{"text":"hm x","index":0,"logprobs":null,"finish_reason":"length"}],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0},"prompt_cache_hit_tokens":0,"prompt_cache_miss_tokens":3,"cost":{"flops":8.0,"core_seconds":0.0,"joules":0.0,"joules_are":"measured","money":0.0,"currency":"EUR"}}}"#);
    insta::assert_snapshot!(chunks(out(json!({"stream": true})), said()), @r#"
    {"id":"cmpl-1","object":"text_completion","created":7,"model":"m","system_fingerprint":null,"choices":[{"text":"hm ","index":0,"logprobs":null,"finish_reason":null}]}
    {"id":"cmpl-1","object":"text_completion","created":7,"model":"m","system_fingerprint":null,"choices":[{"text":"x","index":0,"logprobs":null,"finish_reason":null}]}
    {"id":"cmpl-1","object":"text_completion","created":7,"model":"m","system_fingerprint":null,"choices":[{"text":"","index":0,"logprobs":null,"finish_reason":"length"}]}
    "#);
}

#[test]
fn several_prompts_have_their_places() {
    let said = || {
        [
            (1, begun(&[])),
            (0, begun(&[])),
            (1, answer(0, "c", &[])),
            (0, answer(1, "b", &[])),
            (0, answer(0, "a", &[])),
            (0, ended(0, Finish::Stop)),
            (1, answer(1, "d", &[])),
            (0, ended(1, Finish::ToolCalls)),
            (0, used()),
            (1, ended(0, Finish::Stop)),
            (1, ended(1, Finish::Length)),
            (1, used()),
        ]
    };
    let more = json!({"prompt": ["p", "q"], "n": 2, "echo": true, "max_tokens": 1});
    let body = whole(out(more.clone()), said());
    insta::assert_snapshot!(body["choices"], @r#"[{"text":"pa","index":0,"logprobs":null,"finish_reason":"stop"},{"text":"pb","index":1,"logprobs":null,"finish_reason":"stop"},{"text":"qc","index":2,"logprobs":null,"finish_reason":"stop"},{"text":"qd","index":3,"logprobs":null,"finish_reason":"length"}]"#);
    assert_eq!(
        (
            &body["usage"]["prompt_tokens"],
            &body["usage"]["cost"]["flops"]
        ),
        (&json!(6), &json!(16.0))
    );
    let mut more = more;
    more["stream"] = true.into();
    more["stream_options"] = json!({"include_usage": true});
    let text = chunks(out(more), said());
    assert_eq!(text.matches("\"usage\":null").count(), 12, "{text}");
    assert_eq!(text.matches("\"choices\":[]").count(), 1, "{text}");
}

/// What lm-evaluation-harness sends for a log-likelihood, and how it reads the answer
/// (`LocalCompletionsAPI.parse_logprobs`): the answer's one token is dropped, and a continuation is
/// greedy if each of its tokens has the greatest log-probability in its place.
#[test]
fn harnesses_find_the_log_probs_of_prompts() {
    let more = json!({
        "prompt": [[5, 6, 7, 8], [5, 6, 9, 8]], "temperature": 0, "max_tokens": 1, "logprobs": 1,
        "seed": 1234, "echo": true,
    });
    let context = [token(b"A", None), token(b" b", Some(-0.25))];
    let with = |more: [TokenText; 2]| [context.clone(), more].concat();
    let said = [
        (
            0,
            begun(&with([token(b" c", Some(-0.5)), token(b" d", Some(-1.0))])),
        ),
        (
            1,
            begun(&with([token(b" x", Some(-3.0)), token(b" d", Some(-1.0))])),
        ),
        (1, answer(0, "", &[token(b"</s>", Some(-0.125))])),
        (0, answer(0, " e", &[token(b" e", Some(-0.125))])),
        (1, ended(0, Finish::Stop)),
        (0, ended(0, Finish::Length)),
        (0, used()),
        (1, used()),
    ];
    let body = whole(out(more), said);
    let read = |choice: &Value| {
        let part = |name: &str| {
            let list = choice["logprobs"][name].as_array().unwrap();
            list[2..list.len() - 1].to_vec()
        };
        let log_probs: Vec<f64> = part("token_logprobs")
            .iter()
            .map(|x| x.as_f64().unwrap())
            .collect();
        let greatest = part("top_logprobs").into_iter().map(|top| {
            let top = top
                .as_object()
                .unwrap()
                .values()
                .map(|x| x.as_f64().unwrap());
            top.fold(f64::NEG_INFINITY, f64::max)
        });
        let is_greedy = log_probs
            .iter()
            .zip(greatest)
            .all(|(x, greatest)| x.to_bits() == greatest.to_bits());
        (log_probs.iter().sum::<f64>(), is_greedy)
    };
    let choices = body["choices"].as_array().unwrap();
    assert_eq!(
        choices.iter().map(read).collect::<Vec<_>>(),
        [(-1.5, true), (-4.0, false)]
    );
    insta::assert_snapshot!(choices[1], @r#"{"text":"A b x d","index":1,"logprobs":{"tokens":["A"," b"," x"," d","</s>"],"token_logprobs":[null,-0.25,-3.0,-1.0,-0.125],"top_logprobs":[null,{" b":-0.25},{"likelier":-0.5," x":-3.0},{" d":-1.0},{"</s>":-0.125}],"text_offset":[0,1,3,5,7]},"finish_reason":"stop"}"#);
}

#[test]
fn offsets_are_characters_of_the_text() {
    let prompt = [
        token(b"<s>", None),
        token("né".as_bytes(), Some(-0.5)),
        token(b"\xe2\x82", Some(-0.5)),
        token(b"\xac", Some(-0.5)),
    ];
    let said = [
        begun(&prompt),
        answer(0, " o", &[token(b" o", Some(-0.5))]),
        answer(0, "k", &[token(b"k", Some(-0.5))]),
        ended(0, Finish::Stop),
        used(),
    ];
    let more = json!({"prompt": "né€", "echo": true, "logprobs": 0});
    let body = whole(out(more.clone()), said.clone().map(|said| (0, said)));
    let choice = &body["choices"][0];
    assert_eq!(choice["text"], "né€ ok");
    assert_eq!(choice["logprobs"]["text_offset"], json!([0, 0, 2, 2, 3, 5]));
    assert_eq!(
        choice["logprobs"]["tokens"],
        json!(["<s>", "né", "bytes:\\xe2\\x82", "bytes:\\xac", " o", "k"])
    );
    let mut more = more;
    more["stream"] = true.into();
    let mut encoder = encoder(out(more));
    let offsets = said.into_iter().flat_map(|said| encoder.push(0, said));
    let offsets = offsets.map(|chunk| chunk["choices"][0]["logprobs"]["text_offset"].clone());
    assert_eq!(
        offsets.collect::<Value>(),
        json!([[0, 0, 2, 2], [3], [5], []])
    );
}

#[test]
fn ids_are_given_and_echoed() {
    let more = json!({"prompt": [1, 2], "echo": true, "return_token_ids": true});
    let said = [
        begun(&[token(b"a", None), token(b"b", Some(-0.5))]),
        answer(0, "c", &[token(b"c", None)]),
        ended(0, Finish::Stop),
        used(),
    ];
    let said = || said.clone().map(|said| (0, said));
    insta::assert_snapshot!(whole(out(more.clone()), said())["choices"], @r#"[{"text":"abc","index":0,"logprobs":null,"finish_reason":"stop","token_ids":[1],"prompt_token_ids":[1,2]}]"#);
    let mut more = more;
    more["stream"] = true.into();
    insta::assert_snapshot!(chunks(out(more), said()), @r#"
    {"id":"cmpl-1","object":"text_completion","created":7,"model":"m","system_fingerprint":null,"choices":[{"text":"ab","index":0,"logprobs":null,"finish_reason":null,"token_ids":[],"prompt_token_ids":[1,2]}]}
    {"id":"cmpl-1","object":"text_completion","created":7,"model":"m","system_fingerprint":null,"choices":[{"text":"c","index":0,"logprobs":null,"finish_reason":null,"token_ids":[1]}]}
    {"id":"cmpl-1","object":"text_completion","created":7,"model":"m","system_fingerprint":null,"choices":[{"text":"","index":0,"logprobs":null,"finish_reason":"stop","token_ids":[]}]}
    "#);
}

#[test]
fn failures_are_told_once() {
    let more = json!({"prompt": ["p", "q"], "stream": true});
    let failed = || Said::Failed(Fault::new(Kind::Internal, "the model failed"));
    let said = [(0, failed()), (1, answer(0, "x", &[])), (1, failed())];
    insta::assert_snapshot!(chunks(out(more), said), @r#"{"error":{"message":"the model failed","type":"server_error","param":null,"code":"internal_error"}}"#);
    let mut broken = encoder(out(json!({})));
    broken.push(0, failed());
    assert_eq!(broken.whole().unwrap_err().kind.status(), 500);
    assert_eq!(
        encoder(out(json!({}))).whole().unwrap_err().message,
        "an answer broke off"
    );
}

const WORDS: &[&str] = &[
    "model",
    "prompt",
    "suffix",
    "echo",
    "logprobs",
    "max_tokens",
    "n",
    "best_of",
    "stop",
    "stream",
    "stream_options",
    "include_usage",
    "logit_bias",
    "1",
    "seed",
    "response_format",
    "type",
    "text",
    "guided_regex",
    "user",
    "top_k",
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
