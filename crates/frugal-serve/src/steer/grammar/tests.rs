use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use frugal_core::rng::Rng;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::answer::ask::Limits;
use crate::steer::tests::{EOS, THINK, TOOL, VOCABULARY, ids, text_of, words};
use crate::wire::error::{Fault, Kind};

fn compile(source: &Source) -> Result<Arc<Compiled>, Fault> {
    static GRAMMARS: LazyLock<Arc<Grammars>> = LazyLock::new(|| Grammars::new(&words()).unwrap());
    GRAMMARS.compile(source, &Limits::USUAL)
}

/// Whether a grammar lets a text be written: wholly, and then end; or up to which byte.
fn write(grammar: &Compiled, text: &str) -> Result<(), usize> {
    let mut follower = Follower::new(grammar);
    let mut written = 0;
    for id in ids(text) {
        if follower.stand(None) != Standing::Open || !follower.allows(id) {
            return Err(written);
        }
        follower.took(id);
        written += text_of(&[id]).len();
    }
    match follower.stand(None) {
        Standing::Complete => Ok(()),
        Standing::Open if follower.allows(EOS) => Ok(()),
        _ => Err(written),
    }
}

fn check(source: &Source, rows: &[(&str, Result<(), usize>)]) {
    let grammar = compile(source).unwrap();
    for (text, expected) in rows {
        assert_eq!(write(&grammar, text), *expected, "{text} in {source:?}");
    }
}

#[test]
fn each_form_allows_what_fits_it() {
    check(
        &Source::JsonObject,
        &[
            (r#"{"a": [1, true, "ü\n"], "b": {}}"#, Ok(())),
            ("{\n  \"a\": null\n}", Ok(())),
            ("[1]", Err(0)),
            (r#"{"a": 01}"#, Err(7)),
            (r#"{"a""#, Err(4)),
        ],
    );
    let schema = json!({
        "type": "object", "additionalProperties": false, "required": ["n"],
        "properties": { "n": { "type": "integer", "minimum": 0, "maximum": 120 },
            "kind": { "enum": ["a", "b"] } },
    });
    check(
        &Source::JsonSchema(schema),
        &[
            (r#"{"n": 119, "kind": "b"}"#, Ok(())),
            (r#"{"n": 121"#, Err(8)),
            (r#"{"kind": "a"}"#, Err(2)),
            (r#"{"n": 1, "x": 1}"#, Err(10)),
        ],
    );
    let regex = Source::Regex(r"^(a|b\/)+\d{2}$".into());
    check(&regex, &[("ab/12", Ok(())), ("a1", Err(2)), ("c", Err(0))]);
    let choice = Source::Choice(["ja", "ja!", "n\"e\nin\u{7f}", ""].map(String::from).into());
    check(
        &choice,
        &[
            ("ja", Ok(())),
            ("ja!", Ok(())),
            ("n\"e\nin\u{7f}", Ok(())),
            ("", Ok(())),
            ("jo", Err(1)),
            ("ja?", Err(2)),
        ],
    );
    let lark =
        "start: \"f(\" arg (\",\" arg)* \")\"\narg: /[0-9]+/ | %json {\"type\": \"boolean\"}\n";
    check(
        &Source::Lark(lark.into()),
        &[("f(1,true,22)", Ok(())), ("f(,", Err(2)), ("f(1", Err(3))],
    );
}

#[test]
fn white_space_ends() {
    let grammar = compile(&Source::JsonObject).unwrap();
    let text = format!("{{{}", " ".repeat(1000));
    assert_eq!(write(&grammar, &text), Err(65));
}

#[test]
fn clients_cannot_ask_for_control_tokens() {
    for grammar in [
        format!("start: <[{THINK}]>"),
        format!("start: \"a\" | <[{THINK}]> \"b\""),
        "start: <[*]>".to_owned(),
        format!("start: <[^{EOS}]>"),
    ] {
        let Ok(grammar) = compile(&Source::Lark(grammar.clone())) else {
            continue;
        };
        let mut follower = Follower::new(&grammar);
        match follower.stand(None) {
            Standing::Open => assert!(!follower.allows(THINK) && !follower.allows(TOOL)),
            standing => assert_eq!(standing, Standing::Stuck),
        }
    }
    // Nor does their spelling do anything.
    let spelled = compile(&Source::Regex("<think>.*".into())).unwrap();
    let mut follower = Follower::new(&spelled);
    assert_eq!(follower.stand(None), Standing::Open);
    assert!(follower.allows(ids("<")[0]) && !follower.allows(THINK));
}

#[test]
fn calls_of_tools_are_composed() {
    let call = |name: &str, parameters: Value| {
        Piece::All(vec![
            Piece::Control(TOOL),
            Piece::Text(format!("{{\"name\": \"{name}\", \"arguments\": ")),
            Piece::Json(parameters),
            Piece::Text("}\n".into()),
        ])
    };
    let calls = Piece::OneOf(vec![
        call(
            "sum",
            json!({ "type": "object", "properties": { "of": { "type": "array", "items": { "type": "integer" } } },
            "required": ["of"], "additionalProperties": false }),
        ),
        call(
            "now",
            json!({ "type": "object", "additionalProperties": false }),
        ),
    ]);
    let auto = Piece::All(vec![
        Piece::AnyText,
        Piece::Maybe(Box::new(Piece::Repeated(Box::new(calls)))),
    ]);
    let grammar = compile(&Source::Composed(auto)).unwrap();
    let drive = |parts: &[Result<&str, u32>]| {
        let mut follower = Follower::new(&grammar);
        for part in parts {
            let ids = part.map_or_else(|id| vec![id], ids);
            for (at, id) in ids.into_iter().enumerate() {
                if follower.stand(None) != Standing::Open || !follower.allows(id) {
                    return Err(at);
                }
                follower.took(id);
            }
        }
        match follower.stand(None) {
            Standing::Open => Ok(follower.allows(EOS)),
            standing => Ok(standing == Standing::Complete),
        }
    };
    assert_eq!(drive(&[Ok("No need.")]), Ok(true));
    let sum = "{\"name\": \"sum\", \"arguments\": {\"of\": [1, 2]}}\n";
    let now = "{\"name\": \"now\", \"arguments\": {}}\n";
    assert_eq!(drive(&[Ok("See: "), Err(TOOL), Ok(sum)]), Ok(true));
    assert_eq!(drive(&[Err(TOOL), Ok(sum), Err(TOOL), Ok(now)]), Ok(true));
    assert_eq!(drive(&[Err(TOOL), Ok(sum), Err(THINK)]), Err(0));
    assert_eq!(drive(&[Err(TOOL), Ok("{\"name\": \"rm\"")]), Err(9));
    assert_eq!(drive(&[Err(TOOL), Ok("{\"na")]), Ok(false));
}

/// Names of what a text violates in the schema of [`never_violated`].
fn violations(value: &Value) -> Vec<&'static str> {
    let fields = value.as_object().unwrap();
    let is_short = |v: &Value| v.as_str().is_some_and(|s| s.chars().count() <= 6);
    let checks = [
        (
            "fields",
            fields
                .keys()
                .all(|k| ["id", "tags", "note", "ratio"].contains(&k.as_str())),
        ),
        (
            "id",
            fields
                .get("id")
                .and_then(Value::as_u64)
                .is_some_and(|id| (1..=300).contains(&id)),
        ),
        (
            "tags",
            fields
                .get("tags")
                .and_then(Value::as_array)
                .is_some_and(|tags| {
                    tags.len() <= 3
                        && tags
                            .iter()
                            .all(|t| ["x", "yé", "\"z"].contains(&t.as_str().unwrap_or("")))
                }),
        ),
        (
            "note",
            fields
                .get("note")
                .is_none_or(|note| note.is_null() || is_short(note)),
        ),
        (
            "ratio",
            fields.get("ratio").is_none_or(|r| r.as_bool().is_some()),
        ),
    ];
    checks
        .iter()
        .filter(|(_, holds)| !holds)
        .map(|(name, _)| *name)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// A model that draws at random writes JSON of the schema, whatever it draws.
    #[test]
    fn never_violated(seed in any::<u64>()) {
        let schema = json!({
            "type": "object", "additionalProperties": false, "required": ["id", "tags"],
            "properties": {
                "id": { "type": "integer", "minimum": 1, "maximum": 300 },
                "tags": { "type": "array", "maxItems": 3, "items": { "enum": ["x", "yé", "\"z"] } },
                "note": { "anyOf": [{ "type": "string", "maxLength": 6 }, { "type": "null" }] },
                "ratio": { "type": "boolean" },
            },
        });
        let grammar = compile(&Source::JsonSchema(schema)).unwrap();
        let mut follower = Follower::new(&grammar);
        let mut rng = Rng::derive(&[seed]);
        let mut written = Vec::new();
        loop {
            match follower.stand(None) {
                Standing::Open => {}
                Standing::Complete => break,
                Standing::Stuck => prop_assert!(false, "stuck after {:?}", text_of(&written)),
            }
            let mut logits = [0.0; VOCABULARY];
            follower.mask(&mut logits);
            let allowed: Vec<u32> = (0..).zip(logits).filter(|(_, l)| *l == 0.0).map(|(id, _)| id).collect();
            prop_assert!(!allowed.is_empty() && allowed.iter().all(|id| follower.allows(*id)));
            let id = *rng.choose(&allowed).unwrap();
            follower.took(id);
            if id == EOS {
                break;
            }
            written.push(id);
            prop_assert!(written.len() < 2000);
        }
        let text = String::from_utf8(text_of(&written)).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(violations(&value), Vec::<&str>::new(), "{}", text);
    }
}

/// Writes up to some tokens at random and gives the longest time that one took.
fn slowest_token(grammar: &Compiled, n: usize) -> Duration {
    let mut follower = Follower::new(grammar);
    let mut rng = Rng::derive(&[7]);
    let mut slowest = Duration::ZERO;
    for _ in 0..n {
        let begun = Instant::now();
        if follower.stand(None) != Standing::Open {
            break;
        }
        let mut logits = [0.0; VOCABULARY];
        follower.mask(&mut logits);
        let allowed: Vec<u32> = (0..)
            .zip(logits)
            .filter(|(_, l)| *l == 0.0)
            .map(|(id, _)| id)
            .collect();
        follower.took(*rng.choose(&allowed).unwrap());
        slowest = slowest.max(begun.elapsed());
    }
    slowest
}

/// Each is refused, or followed at a bounded cost.
#[test]
#[expect(clippy::too_many_lines, reason = "a row for each")]
fn hostile_sources_cost_little() {
    let regex = |text: &str| Source::Regex(text.into());
    let schema = Source::JsonSchema;
    let chain: serde_json::Map<String, Value> = (0..1500)
        .map(|i| {
            (
                format!("{i}"),
                json!({ "items": { "$ref": format!("#/$defs/{}", i + 1) } }),
            )
        })
        .chain([("1500".to_owned(), json!({}))])
        .collect();
    let option =
        |i: usize| json!({ "type": "object", "properties": { format!("{i}"): { "const": i } } });
    let rows: Vec<(&str, Source)> = vec![
        ("repeats of repeats", regex("(a{1,100000}){1,100000}")),
        (
            "repeats without parentheses",
            regex("a{1,100000}{1,100000}"),
        ),
        (
            "repeats nested",
            regex("((((a{1,99}){1,99}){1,99}){1,99}){1,99}"),
        ),
        ("catastrophe", regex("(a+)+(a+)+(a+)+b")),
        ("alternatives", regex(&"(a|aa|aaa|b)*".repeat(500))),
        (
            "deep regex",
            regex(&format!("{}a{}", "(".repeat(10_000), ")".repeat(10_000))),
        ),
        ("classes", regex(&r"[\w\d\p{L}]{1,1000}".repeat(200))),
        (
            "powers of states",
            regex("(a|b)*a(a|b){30}(a|b)*b(a|b){40}"),
        ),
        ("cut off", regex("abc\\")),
        ("look-behind", regex("(?<=a)b")),
        ("nothing", regex("")),
        ("comment for an expression", regex("/x")),
        ("itself", schema(json!({ "$ref": "#" }))),
        (
            "two that are each other",
            schema(
                json!({ "$ref": "#/$defs/a", "$defs": { "a": { "$ref": "#/$defs/b" }, "b": { "$ref": "#/$defs/a" } } }),
            ),
        ),
        (
            "itself in all",
            schema(json!({ "allOf": [{ "$ref": "#" }, { "type": "object" }] })),
        ),
        (
            "a list of itself",
            schema(json!({ "type": "array", "items": { "$ref": "#" }, "minItems": 1 })),
        ),
        (
            "a chain",
            schema(json!({ "$ref": "#/$defs/0", "$defs": chain })),
        ),
        ("nowhere", schema(json!({ "$ref": "#/$defs/a" }))),
        (
            "far away",
            schema(json!({ "$ref": "http://127.0.0.1:1/a.json" })),
        ),
        (
            "long texts",
            schema(
                json!({ "type": "string", "minLength": 10_000, "maxLength": 100_000, "pattern": "^(a|b)*$" }),
            ),
        ),
        (
            "many items",
            schema(
                json!({ "type": "array", "minItems": 1000, "maxItems": 10_000, "items": { "type": "object" } }),
            ),
        ),
        (
            "many properties",
            schema(json!({ "type": "object", "minProperties": 100, "maxProperties": 1000 })),
        ),
        (
            "many cases",
            schema(json!({ "anyOf": (0..1000).map(option).collect::<Vec<_>>() })),
        ),
        (
            "many cases that exclude each other",
            schema(json!({ "oneOf": (0..1000).map(option).collect::<Vec<_>>() })),
        ),
        (
            "many words",
            schema(json!({ "enum": (0..5000).map(|i| format!("{i:07}")).collect::<Vec<_>>() })),
        ),
        (
            "ten million bytes",
            schema(json!({ "enum": vec!["0123456789".repeat(100); 10_000] })),
        ),
        (
            "odd numbers",
            schema(
                json!({ "type": "number", "multipleOf": 1e-9, "minimum": -1e300, "maximum": 1e300 }),
            ),
        ),
        (
            "large divisor",
            schema(json!({ "type": "integer", "multipleOf": 987_654_321_987_u64 })),
        ),
        (
            "patterns",
            schema(
                json!({ "patternProperties": (0..30).map(|i| (format!("^{i}(a|b)*c{{1,999}}$"), json!({}))).collect::<serde_json::Map<_, _>>() }),
            ),
        ),
        (
            "a pattern that explodes",
            schema(json!({ "type": "string", "pattern": "(a{1,9999}){1,9999}" })),
        ),
        (
            "parentheses",
            Source::Lark(format!(
                "start: {}\"a\"{}",
                "(".repeat(9000),
                ")".repeat(9000)
            )),
        ),
        (
            "left recursion",
            Source::Lark("start: start start | \"a\" | \"\"".into()),
        ),
        (
            "ambiguity",
            Source::Lark("start: a+\na: b b | b | a a\nb: /x*/ | /x+/".into()),
        ),
        (
            "substrings",
            Source::Lark(format!(
                "start: X\nX: %regex {{\"substring_chars\": \"{}\"}}",
                "ab".repeat(20_000)
            )),
        ),
        (
            "repeats of rules",
            Source::Lark("start: a{1,100000}\na: b{1,100000}\nb: \"x\" \"y\"".into()),
        ),
        (
            "a schema within",
            Source::Lark("start: %json {\"$ref\": \"http://a\"}".into()),
        ),
        ("no grammar", Source::Lark("\u{0}%%%".into())),
        ("no start", Source::Lark("a: \"b\"".into())),
        ("no choice", Source::Choice(vec![])),
        (
            "many choices",
            Source::Choice((0..6000).map(|i| format!("{i:08}")).collect()),
        ),
    ];
    for (what, source) in rows {
        let begun = Instant::now();
        let grammar = compile(&source);
        let compiled = begun.elapsed();
        let slowest = grammar
            .as_ref()
            .map_or(Duration::ZERO, |g| slowest_token(g, 40));
        assert!(
            slowest < Duration::from_millis(500),
            "{what}: a token takes {slowest:?}"
        );
        assert!(
            compiled < Duration::from_millis(2500),
            "{what} takes {compiled:?}"
        );
        if let Err(fault) = grammar {
            assert_eq!(fault.kind, Kind::Schema, "{what}");
            assert!(fault.message.len() < 200 && !fault.message.contains("llguidance"));
        }
    }
}

#[test]
fn grammars_are_kept() {
    let grammars = Grammars::new(&words()).unwrap();
    let source = |i: usize| Source::Choice(vec![format!("{i}")]);
    let first = grammars.compile(&source(0), &Limits::USUAL).unwrap();
    for i in 1..70 {
        grammars.compile(&source(i), &Limits::USUAL).unwrap();
        let again = grammars.compile(&source(0), &Limits::USUAL).unwrap();
        assert!(Arc::ptr_eq(&first, &again));
    }
    assert_eq!(grammars.n_kept(), 64);
    // What is written the same need not be the same.
    let lark = |source: Source| grammars.compile(&source, &Limits::USUAL).unwrap();
    let composed = lark(Source::Composed(Piece::Text("a".into())));
    let plain = lark(Source::Lark("start: r0\nr0: \"a\"\n".into()));
    assert!(!Arc::ptr_eq(&composed, &plain) && plain.within.is_some());
}

#[test]
fn samples_follow_each_their_own() {
    let grammar = compile(&Source::Choice(vec!["ab".into(), "cd".into()])).unwrap();
    let mut first = Follower::new(&grammar);
    let mut second = Follower::new(&grammar);
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|t| ids(t)[0]);
    for (follower, ids) in [(&mut first, [a, b]), (&mut second, [c, d])] {
        for id in ids {
            assert_eq!(follower.stand(None), Standing::Open);
            assert!(follower.allows(id));
            follower.took(id);
        }
    }
    // One that was told nonsense is stuck, alone.
    let mut third = Follower::new(&grammar);
    third.stand(None);
    third.took(EOS);
    assert_eq!(third.stand(None), Standing::Stuck);
    assert_eq!(
        [first.stand(None), second.stand(None)],
        [Standing::Complete; 2]
    );
}

#[test]
fn a_vocabulary_of_words_follows_no_grammar() {
    let words = crate::steer::tests::whole_words();
    let fault = Grammars::new(&words).unwrap_err();
    assert_eq!(fault.kind, Kind::Schema);
}
