//! What the encoders' tests say, the same in every dialect.

use proptest::prelude::*;
use serde_json::{Map, Value};

use crate::answer::{Detail, Finish, Said, TokenText, Usage};
use crate::wire::Head;
use crate::wire::error::{Fault, Kind};

pub(crate) fn head(id: &str) -> Head {
    Head {
        id: id.into(),
        created: 7,
        model: "m".into(),
    }
}

pub(crate) fn begun() -> Said {
    Said::Begun {
        prompt_tokens: 12,
        cached_tokens: 8,
        prompt: Vec::new(),
        prompt_ids: Vec::new(),
    }
}

pub(super) fn thought(text: &str) -> Said {
    Said::Thinking {
        index: 0,
        text: text.into(),
        tokens: Vec::new(),
    }
}

pub(super) fn answer(text: &str) -> Said {
    Said::Answer {
        index: 0,
        text: text.into(),
        tokens: vec![TokenText {
            id: 7,
            bytes: text.into(),
            log_prob: Some(-0.5),
            likeliest: vec![(7, text.into(), -0.5), (9, vec![0xff], f32::NEG_INFINITY)],
        }],
    }
}

pub(super) fn call(number: usize, arguments: &[&str]) -> Vec<Said> {
    let begins = Said::CallBegins {
        index: 0,
        call: number,
        id: format!("call_{number}"),
        name: "look_up".into(),
    };
    let more = arguments.iter().map(|text| Said::CallArguments {
        index: 0,
        call: number,
        text: (*text).into(),
    });
    std::iter::once(begins).chain(more).collect()
}

pub(super) fn ended(finish: Finish, stop: Option<&str>) -> Vec<Said> {
    let detail = Detail {
        stop: stop.map(Into::into),
        ..Detail::default()
    };
    let usage = Usage {
        prompt_tokens: 12,
        cached_tokens: 8,
        completion_tokens: 5,
        reasoning_tokens: 2,
        seconds_to_first: 0.5,
        seconds: 2.0,
        ..Usage::default()
    };
    vec![
        Said::Ended {
            index: 0,
            finish,
            detail,
        },
        Said::Done(Box::new(usage)),
    ]
}

pub(crate) fn plain() -> Vec<Said> {
    let said = vec![begun(), answer("Hel"), answer("lo")];
    said.into_iter().chain(ended(Finish::Stop, None)).collect()
}

pub(super) fn thoughtful() -> Vec<Said> {
    let said = vec![begun(), thought("Hm"), thought("."), answer("4")];
    said.into_iter().chain(ended(Finish::Stop, None)).collect()
}

pub(super) fn calling() -> Vec<Said> {
    let said = [vec![begun()], call(0, &["{\"q\"", ":1}"]), call(1, &["{}"])];
    let said = said.into_iter().flatten();
    said.chain(ended(Finish::ToolCalls, None)).collect()
}

pub(super) fn cut() -> Vec<Said> {
    let said = [vec![begun(), answer("So")], call(0, &["{\"q"])];
    let said = said.into_iter().flatten();
    said.chain(ended(Finish::Length, None)).collect()
}

pub(super) fn failing() -> Vec<Said> {
    vec![
        begun(),
        answer("So"),
        Said::Failed(Fault::new(Kind::Internal, "a step failed")),
    ]
}

/// A body with some fields changed; null takes one away.
pub(super) fn with(body: &Value, changes: &Value) -> Value {
    let mut body = body.as_object().unwrap().clone();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            body.remove(name);
        } else {
            body.insert(name.clone(), value.clone());
        }
    }
    body.into()
}

/// A line a field.
pub(super) fn lines(value: &Value) -> String {
    let fields = value.as_object().unwrap().iter();
    let lines: Vec<String> = fields
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    lines.join("\n")
}

/// JSON that is near enough to requests to get past the first checks: names and words of the
/// dialects, at any place.
pub(super) fn json(words: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let word = prop::sample::select(words);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3_i64..3000).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 6, move |inner| {
        let name = prop_oneof![9 => word.clone().prop_map(str::to_owned), 1 => ".{0,8}"];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name, inner), 0..8)
                .prop_map(|fields| Map::from_iter(fields).into()),
        ]
    })
}

/// The same as the value of every field that a body has, beside a body that is accepted.
pub(super) fn nearly(body: Value, words: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let changes = prop::collection::vec((prop::sample::select(words), json(words)), 1..3);
    changes.prop_map(move |changes| {
        let mut body = body.as_object().unwrap().clone();
        for (name, value) in changes {
            body.insert(name.to_owned(), value);
        }
        body.into()
    })
}

pub(in crate::wire) fn a_line_each(values: impl Iterator<Item = Value>) -> String {
    let lines: Vec<String> = values.map(|value| value.to_string()).collect();
    lines.join("\n")
}

/// Any JSON, of the names and words that requests are made of, so that checks deep inside are met.
pub(in crate::wire) fn json_like(words: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let word = prop::sample::select(words);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3_i64..300).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
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
