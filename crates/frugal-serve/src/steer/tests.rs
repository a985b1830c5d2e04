use std::sync::LazyLock;

use frugal_text::byte_level::letter_of;
use frugal_text::reasoning::{Markup, Start};
use frugal_text::{Tokenizer, word_level};
use serde_json::{Map, Value, json};

use super::*;
use crate::answer::ask::Limits;
use crate::models::Words;

pub(super) const EOS: u32 = 256;
pub(super) const THINK: u32 = 257;
pub(super) const END_THINK: u32 = 258;
pub(super) const TOOL: u32 = 259;
/// Bytes, control tokens, some longer tokens, and padding as models have it.
pub(super) const VOCABULARY: usize = 300;
const MARKUP: Markup = Markup {
    think: THINK,
    end_think: END_THINK,
    eos: EOS,
};

fn tokenizer() -> Tokenizer {
    let is_in_text = |byte: &u8| !matches!(byte, 0xC0 | 0xC1 | 0xF5..);
    let mut vocab: Map<String, Value> = (0..=u8::MAX)
        .filter(is_in_text)
        .map(|byte| (letter_of(byte).to_string(), byte.into()))
        .collect();
    let longer = [
        ("t", "r"),
        ("u", "e"),
        ("tr", "ue"),
        ("\"", ":"),
        ("a", "b"),
    ];
    for ((a, b), id) in longer.iter().zip(260..) {
        vocab.insert(format!("{a}{b}"), id.into());
    }
    let control = |(id, name): (u32, &str)| {
        json!({ "id": id, "content": name, "single_word": false,
        "lstrip": false, "rstrip": false, "normalized": false, "special": true })
    };
    let controls = [
        (EOS, "<eos>"),
        (THINK, "<think>"),
        (END_THINK, "</think>"),
        (TOOL, "<tool>"),
    ];
    let file = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": controls.map(control),
        "normalizer": null,
        "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false },
        "post_processor": null,
        "decoder": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true },
        "model": { "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": longer },
    });
    Tokenizer::from_json(file.to_string().as_bytes()).unwrap()
}

fn words_of(tokenizer: Tokenizer) -> Arc<Words> {
    Arc::new(Words {
        tokenizer,
        tokenizer_config: Value::Null,
        template: None,
        markup: Some(MARKUP),
        stops: vec![EOS],
        bos: None,
        temperature: 1.0,
        top_p: 1.0,
        top_k: 0,
    })
}

pub(super) fn words() -> Arc<Words> {
    static WORDS: LazyLock<Arc<Words>> = LazyLock::new(|| words_of(tokenizer()));
    Arc::clone(&WORDS)
}

pub(super) fn whole_words() -> Arc<Words> {
    let words = ["one".to_string()];
    let file = word_level::tokenizer_json(&words, &word_level::CONTROL).unwrap();
    words_of(Tokenizer::from_json(&file).unwrap())
}

pub(super) fn ids(text: &str) -> Vec<u32> {
    words().tokenizer.encode(text).unwrap()
}

pub(super) fn text_of(ids: &[u32]) -> Vec<u8> {
    let words = words();
    ids.iter()
        .flat_map(|id| words.tokenizer.text_bytes(*id).unwrap_or_default())
        .collect()
}

fn thoughts(start: Start, budget: Option<usize>) -> Thoughts {
    Thoughts {
        markup: MARKUP,
        start,
        budget,
        after: ids("\n\n"),
        ends: vec![EOS],
        watch: Watch::Circles,
    }
}

/// Answers as a model whose logits say which token it would draw, the likeliest at all times.
/// Returns what came, with `!` before what was forced.
fn run(
    steering: &mut Steering,
    asks_at: usize,
    model: impl Fn(usize) -> Vec<(u32, f32)>,
) -> String {
    let mut out = String::new();
    for at in 0..400 {
        let next = steering.next(at >= asks_at);
        assert_eq!(steering.next(at >= asks_at), next, "asked twice");
        let mut logits = vec![-30.0; VOCABULARY];
        for (id, logit) in model(at) {
            logits[id as usize] = logit;
        }
        let id = match next {
            Next::Nothing => return out + "|",
            Next::Forced(id) => {
                out.push('!');
                id
            }
            _ => {
                if next == Next::Adjusted {
                    steering.adjust(&mut logits);
                }
                let best = (0..)
                    .zip(&logits)
                    .max_by(|a, b| a.1.total_cmp(b.1))
                    .unwrap();
                assert!(best.1.is_finite());
                best.0
            }
        };
        steering.took(id);
        match id {
            EOS => return out + "<eos>",
            THINK => out.push_str("<think>"),
            END_THINK => out.push_str("</think>"),
            id => out.push_str(&String::from_utf8_lossy(&text_of(&[id]))),
        }
    }
    out + "..."
}

/// A model that likes to write one text, over and over.
fn likes(text: &str) -> impl Fn(usize) -> Vec<(u32, f32)> {
    let ids = ids(text);
    move |at| vec![(ids[at % ids.len()], 5.0), (EOS, 0.0)]
}

#[test]
fn nothing_asked_is_nothing_done() {
    let mut steering = Rules::NONE.steer(&[1], 2).remove(1);
    assert!(steering.parts.is_none());
    for id in 0..100 {
        assert_eq!(steering.next(true), Next::Free);
        steering.took(id);
    }
    let mut default = Steering::default();
    default.adjust(&mut [0.0]);
    assert_eq!(default.next(false), Next::Free);
    let record = steering.record();
    assert_eq!(
        (record.thought_tokens(), record.closed(), record.is_stuck()),
        (0, None, false)
    );
    let thinks = Rules {
        thoughts: Some(thoughts(Start::Thinking, Some(1000))),
        ..Rules::NONE
    };
    assert_eq!(thinks.steer(&[], 1)[0].next(false), Next::Free);
}

#[test]
fn a_steering_can_be_sent() {
    const fn is_sent<T: Send + std::fmt::Debug>() {}
    const fn is_shared<T: Send + Sync>() {}
    is_sent::<Steering>();
    is_shared::<Arc<Compiled>>();
    is_shared::<Arc<Grammars>>();
    is_shared::<Rules>();
}

#[expect(clippy::unnecessary_wraps, reason = "as rules have it")]
fn grammar(source: &Source) -> Option<Arc<Compiled>> {
    static GRAMMARS: LazyLock<Arc<Grammars>> = LazyLock::new(|| Grammars::new(&words()).unwrap());
    Some(GRAMMARS.compile(source, &Limits::USUAL).unwrap())
}

#[test]
#[expect(clippy::too_many_lines, reason = "a row for each")]
fn parts_act_together() {
    let yes_no = || grammar(&Source::Choice(vec!["yes".into(), "no".into()]));
    let free = Rules::NONE;
    let ban = |id: &str| Weights {
        bias: vec![(ids(id)[0], -100.0)],
        ..Weights::NONE
    };
    let rows: Vec<(&str, Rules, usize, &str, &str)> = vec![
        (
            "a budget, then the template's blank line",
            Rules {
                thoughts: Some(thoughts(Start::Thinking, Some(3))),
                ..free.clone()
            },
            999,
            "abcdefgh",
            "abcd!</think>!\n!\n",
        ),
        (
            "a thought of nothing",
            Rules {
                thoughts: Some(thoughts(Start::Thinking, Some(0))),
                ..free.clone()
            },
            999,
            "x",
            "!</think>!\n!\nx",
        ),
        (
            "somebody asks",
            Rules {
                thoughts: Some(thoughts(Start::Thinking, None)),
                ..free.clone()
            },
            2,
            "hm",
            "hm!</think>!\n!\nm",
        ),
        (
            "a grammar is for the answer",
            Rules {
                thoughts: Some(thoughts(Start::Thinking, Some(4))),
                grammar: yes_no(),
                ..free.clone()
            },
            999,
            "o, hm? n",
            "o, h!</think>!\n!\nno|",
        ),
        (
            "a model that does not think",
            Rules {
                thoughts: Some(thoughts(Start::Fresh, None)),
                grammar: yes_no(),
                ..free.clone()
            },
            999,
            "y",
            "yes|",
        ),
        (
            "what is forbidden does not come, but for a grammar that has nothing else",
            Rules {
                weights: ban("y"),
                grammar: yes_no(),
                ..free.clone()
            },
            999,
            "y",
            "no|",
        ),
        (
            "a grammar that has nothing else",
            Rules {
                weights: ban("o"),
                grammar: grammar(&Source::Choice(vec!["oo".into()])),
                ..free.clone()
            },
            999,
            "y",
            "oo|",
        ),
        (
            "passing over the end does not keep a grammar open",
            Rules {
                weights: Weights {
                    forbidden: vec![EOS],
                    ..Weights::NONE
                },
                grammar: grammar(&Source::Regex("a{2,3}".into())),
                ..free.clone()
            },
            999,
            "q",
            "aaa|",
        ),
        (
            "the end comes where the grammar lets it",
            Rules {
                grammar: grammar(&Source::Regex("a{2,3}".into())),
                ..free.clone()
            },
            999,
            "q",
            "aa<eos>",
        ),
    ];
    for (what, rules, asks_at, text, expected) in rows {
        let mut steering = rules.steer(&[], 1).remove(0);
        let got = run(&mut steering, asks_at, likes(text));
        // "ab" is one token: the budget of 3 is "ab", "c", "d".
        assert!(got.starts_with(expected), "{what}: {got:?}");
        assert!(!steering.record().is_stuck());
    }
}

#[test]
fn a_thought_may_be_opened_before_a_grammar_begins() {
    let rules = Rules {
        thoughts: Some(thoughts(Start::Fresh, None)),
        grammar: grammar(&Source::Choice(vec!["ok".into()])),
        ..Rules::NONE
    };
    let mut steering = rules.steer(&[], 1).remove(0);
    let wants = [THINK, 65, 66, END_THINK];
    let got = run(&mut steering, 999, |at| {
        vec![(wants.get(at).copied().unwrap_or(90), 9.0)]
    });
    assert_eq!(got, "<think>AB</think>!\n!\nok|");
    let record = steering.record();
    assert_eq!((record.thought_tokens(), record.closed()), (2, None));
}

#[test]
fn a_budget_closes_softly_where_the_model_finds_a_place() {
    let rules = Rules {
        thoughts: Some(thoughts(Start::Thinking, Some(300))),
        ..Rules::NONE
    };
    let mut steering = rules.steer(&[], 1).remove(0);
    // Every tenth token is a place: the end is 4 behind the likeliest there, and 25 elsewhere.
    let got = run(&mut steering, 999, |at| {
        let end = if at % 10 == 0 { 1.0 } else { -20.0 };
        vec![
            (33 + u32::try_from(at * at % 83).unwrap(), 5.0),
            (END_THINK, end),
        ]
    });
    let thought = got.split("</think>").next().unwrap();
    assert!(!thought.contains('!') || !thought.ends_with('!'));
    let record = steering.record();
    assert_eq!(record.closed(), Some(Closed::Budget));
    assert_eq!(record.thought_tokens() % 10, 0);
    assert!(
        (264..300).contains(&record.thought_tokens()),
        "{}",
        record.thought_tokens()
    );
}

#[test]
fn circles_are_told() {
    let rules = Rules {
        thoughts: Some(thoughts(Start::Thinking, None)),
        ..Rules::NONE
    };
    let mut steering = rules.steer(&[], 1).remove(0);
    let got = run(&mut steering, 999, likes("Wait, let me see. "));
    assert!(got.contains("!</think>!\n!\n"), "{got}");
    assert_eq!(steering.record().closed(), Some(Closed::Circles));
}

#[test]
fn penalties_see_forced_tokens_and_prompts() {
    let rules = Rules {
        thoughts: Some(thoughts(Start::Thinking, Some(0))),
        weights: Weights {
            presence: 1.0,
            repetition: 2.0,
            ..Weights::NONE
        },
        ..Rules::NONE
    };
    let b = ids("b")[0];
    let mut steering = rules.steer(&[b], 1).remove(0);
    let mut forced = None;
    while let Next::Forced(id) = steering.next(false) {
        steering.took(id);
        forced = Some(id);
    }
    let c = forced.unwrap();
    assert_eq!(steering.next(false), Next::Adjusted);
    let mut logits = vec![4.0; VOCABULARY];
    steering.adjust(&mut logits);
    assert_eq!(
        [logits[b as usize], logits[c as usize], logits[0]],
        [2.0, 1.0, 4.0]
    );
}

#[test]
fn a_grammar_that_cannot_be_followed_is_told() {
    let rules = Rules {
        grammar: grammar(&Source::Choice(vec!["ok".into()])),
        ..Rules::NONE
    };
    let mut steering = rules.steer(&[], 1).remove(0);
    assert_eq!(steering.next(false), Next::Adjusted);
    // The engine never does this: it draws what was allowed.
    steering.took(EOS);
    assert_eq!(steering.next(false), Next::Nothing);
    assert!(steering.record().is_stuck());
}
