//! Answers said, token by token.

use frugal_text::chat::{Builtin, Moment};
use frugal_text::reasoning::Start;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::answer::prompt::{Manner, Place, prepare};
use crate::answer::testing::{DEEPSEEK, PLAIN, QWEN, ask, chat, mannered, tool};
use crate::answer::{Prompt, Thinking, Tools};
use crate::engine::Drawn;

/// Declares tools in some way, and writes calls as Qwen does.
const HERMES: &str = "{{ tools|tojson if tools else '' }}{% for m in messages %}{{ m.content or '' }}\
    {% for c in m.tool_calls or [] %}{{ '<tool_call>\\n{\"name\": \"' + c.function.name + '\", \"arguments\": ' + \
    c.function.arguments + '}\\n</tool_call>' }}{% endfor %}{% endfor %}";

struct Model(Words, Manner);

impl Model {
    fn new(control: &str, template: Option<&str>) -> Self {
        let (words, manner) = mannered(control, template);
        Self(words, manner)
    }

    fn r1() -> Self {
        Self::new(DEEPSEEK, Some(&Builtin::DeepseekR1.source()))
    }

    fn prepared(&self, ask: &Ask) -> Prepared {
        let place = Place {
            words: &self.0,
            manner: &self.1,
            positions: 4096,
            now: Moment::from_unix_seconds(0),
        };
        prepare(ask, &place).unwrap()
    }

    /// Ids of a text with control tokens between `⟦⟧`; a number is an id.
    fn ids(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        for part in text.split('⟦') {
            let (name, rest) = part.split_once('⟧').unwrap_or(("", part));
            if let Ok(id) = name.parse() {
                ids.push(id);
            } else if !name.is_empty() {
                ids.push(self.0.tokenizer.control(name).unwrap());
            }
            ids.extend(rest.bytes().map(u32::from));
        }
        ids
    }

    fn said(&self, ask: &Ask, text: &str, why: End) -> Told {
        self.said_after(&self.prepared(ask), ask, text, why)
    }

    fn said_after(&self, prepared: &Prepared, ask: &Ask, text: &str, why: End) -> Told {
        let part = Part {
            index: 3,
            request: "r",
        };
        let mut speaker = Speaker::new(&self.0, prepared, ask, part);
        let mut said = Vec::new();
        let mut going = Going::On;
        for id in self.ids(text) {
            let token = Token {
                sample: 0,
                drawn: Drawn {
                    id,
                    log_prob: -0.5,
                    likeliest: vec![(id, -0.5)],
                },
                is_forced: false,
            };
            going = speaker.hear(&token, &mut said);
        }
        speaker.end(why, None, &mut said);
        Told {
            said,
            counts: speaker.counts(),
            going,
        }
    }
}

struct Told {
    said: Vec<Said>,
    counts: Counts,
    going: Going,
}

impl Told {
    /// Pieces joined by kind: `T` thinking, `A` answer, `C` a call, `(` its arguments.
    fn shown(&self) -> String {
        let mut text = String::new();
        let mut last = ' ';
        for piece in &self.said {
            let (kind, more) = match piece {
                Said::Thinking { index: 3, text, .. } if !text.is_empty() => ('T', text.clone()),
                Said::Answer { index: 3, text, .. } if !text.is_empty() => ('A', text.clone()),
                Said::CallBegins {
                    index: 3,
                    call,
                    id,
                    name,
                } => {
                    assert_eq!(*id, format!("call_r_3_{call}"));
                    ('C', format!("{call}{name}"))
                }
                Said::CallArguments {
                    index: 3,
                    call,
                    text,
                } => (
                    '(',
                    if last == '(' {
                        text.clone()
                    } else {
                        format!("{call}{text}")
                    },
                ),
                _ => continue,
            };
            if kind != last || kind == 'C' {
                if !text.is_empty() {
                    text.push('|');
                }
                text.push(kind);
                text.push(':');
            }
            last = kind;
            text.push_str(&more);
        }
        text
    }

    fn ended(&self) -> (Finish, Detail) {
        match self.said.last() {
            Some(Said::Ended {
                index: 3,
                finish,
                detail,
            }) => (*finish, detail.clone()),
            other => panic!("expected an end, got {other:?}"),
        }
    }

    fn token_ids(&self) -> Vec<u32> {
        let tokens = self.said.iter().flat_map(|piece| match piece {
            Said::Thinking { tokens, .. } | Said::Answer { tokens, .. } => tokens.as_slice(),
            _ => &[],
        });
        tokens.map(|token| token.id).collect()
    }
}

fn asked() -> Ask {
    ask(chat(json!([{ "role": "user", "content": "U" }])))
}

fn stopping(stops: &[&str]) -> Ask {
    Ask {
        stop: stops.iter().map(|stop| (*stop).to_string()).collect(),
        ..asked()
    }
}

const END: End = End::Stop(257);

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn thoughts_and_answers_are_told_apart_and_trimmed() {
    let r1 = Model::r1();
    let v31 = Model::new(DEEPSEEK, Some(&Builtin::DeepseekV31.source()));
    let chat_ml = Model::new(QWEN, Some(&Builtin::ChatMl.source()));
    let end = "⟦<｜end▁of▁sentence｜>⟧";
    // (model, thinking, tokens, what is said, tokens and those of the thought)
    let rows = [
        (
            &r1,
            Thinking::Usual,
            format!("a\n\nb\n⟦</think>⟧\n\nc\n{end}"),
            "T:a\n\nb|A:c\n",
            (11, 6),
        ),
        // The prompt has written the line break after the mark.
        (
            &r1,
            Thinking::Usual,
            format!("\na⟦</think>⟧\n\n\nc{end}"),
            "T:\na|A:\nc",
            (8, 3),
        ),
        (&r1, Thinking::Usual, "a\n".to_string(), "T:a\n", (2, 2)),
        (
            &r1,
            Thinking::Usual,
            format!("\n⟦</think>⟧c{end}"),
            "A:c",
            (4, 2),
        ),
        (&r1, Thinking::Off, format!("\n\nc{end}"), "A:\n\nc", (4, 0)),
        // Marks out of place are no text.
        (
            &r1,
            Thinking::Usual,
            format!("a⟦<think>⟧b⟦</think>⟧c⟦</think>⟧d⟦<think>⟧{end}"),
            "T:ab|A:cd",
            (9, 4),
        ),
        // Without line breaks in the template none are markup, but those before an answer.
        (
            &v31,
            Thinking::On { budget: None },
            format!("\na\n⟦</think>⟧\nc{end}"),
            "T:\na\n|A:c",
            (7, 4),
        ),
        // The model opens its thought itself, or does not.
        (
            &chat_ml,
            Thinking::Usual,
            "⟦<think>⟧\n\na\n⟦</think>⟧\n\nc⟦<|im_end|>⟧".to_string(),
            "T:\na|A:c",
            (10, 6),
        ),
        (
            &chat_ml,
            Thinking::Usual,
            "\nc⟦<|im_end|>⟧".to_string(),
            "A:\nc",
            (3, 0),
        ),
        (
            &chat_ml,
            Thinking::Usual,
            "⟦</think>⟧\n\nc⟦<|im_end|>⟧".to_string(),
            "A:c",
            (5, 0),
        ),
        // Characters of several tokens, one that is not finished, ids that the vocabulary lacks.
        (
            &r1,
            Thinking::Off,
            format!("ü日⟦230⟧{end}"),
            "A:ü日\u{FFFD}",
            (7, 0),
        ),
        (
            &r1,
            Thinking::Off,
            format!("a⟦9999⟧b⟦<｜User｜>⟧{end}"),
            "A:ab<｜User｜>",
            (5, 0),
        ),
        (
            &r1,
            Thinking::Usual,
            format!("a⟦230⟧⟦</think>⟧b{end}"),
            "T:a\u{FFFD}|A:b",
            (5, 3),
        ),
    ];
    for (model, thinking, tokens, expected, (completion, reasoning)) in rows {
        let ask = Ask {
            thinking,
            ..asked()
        };
        let told = model.said(&ask, &tokens, END);
        assert_eq!(told.shown(), expected, "{tokens:?}");
        assert_eq!(
            told.counts,
            Counts {
                completion,
                reasoning
            },
            "{tokens:?}"
        );
        assert_eq!(told.going, Going::On);
    }
}

#[test]
fn ends_say_how_and_where() {
    let r1 = Model::r1();
    let rows = [
        (
            "a⟦</think>⟧b⟦<｜end▁of▁sentence｜>⟧",
            END,
            Finish::Stop,
            None,
            false,
        ),
        ("a⟦<｜end▁of▁sentence｜>⟧", END, Finish::Stop, None, true),
        ("a", End::Length, Finish::Length, None, true),
        ("a⟦</think>⟧b", End::Length, Finish::Length, None, false),
        ("a⟦</think>⟧b", End::Complete, Finish::Stop, None, false),
        (
            "a⟦</think>⟧bz",
            End::Stop(122),
            Finish::Stop,
            Some("z"),
            false,
        ),
    ];
    for (tokens, why, finish, stop, ended_in_thought) in rows {
        let ask = Ask {
            stop_ids: vec![122],
            ..asked()
        };
        let told = r1.said(&ask, tokens, why);
        let detail = Detail {
            stop: stop.map(String::from),
            thought_closed: None,
            ended_in_thought,
        };
        assert_eq!(told.ended(), (finish, detail), "{tokens}");
        assert!(
            !told.shown().contains('z') && !told.shown().contains("end"),
            "{tokens}"
        );
    }
    // What ends the answer usually is passed over, and is no text.
    let ask = Ask {
        ignores_end: true,
        thinking: Thinking::Off,
        ..asked()
    };
    let told = r1.said(&ask, "a⟦<｜end▁of▁sentence｜>⟧b", End::Length);
    assert_eq!((told.shown().as_str(), told.counts.completion), ("A:ab", 3));
}

#[test]
fn who_closes_the_thought_is_known() {
    let r1 = Model::r1();
    let (ask, prepared) = (asked(), r1.prepared(&asked()));
    for is_forced in [false, true] {
        let part = Part {
            index: 0,
            request: "r",
        };
        let mut speaker = Speaker::new(&r1.0, &prepared, &ask, part);
        let mut said = Vec::new();
        for (id, is_forced) in [(97, false), (261, is_forced), (98, false)] {
            let drawn = Drawn {
                id,
                ..Drawn::default()
            };
            speaker.hear(
                &Token {
                    sample: 0,
                    drawn,
                    is_forced,
                },
                &mut said,
            );
        }
        speaker.end(End::Length, is_forced.then_some("budget"), &mut said);
        let Some(Said::Ended { detail, .. }) = said.last() else {
            panic!("expected an end")
        };
        assert_eq!(detail.thought_closed, is_forced.then_some("budget"));
    }
}

/// Stops, tokens, what is said, which stopped, tokens counted.
type Stopping = (
    &'static [&'static str],
    &'static str,
    &'static str,
    Option<&'static str>,
    usize,
);

#[test]
fn stop_texts_end_the_answer_and_are_no_part_of_it() {
    let r1 = Model::r1();
    let rows: [Stopping; 7] = [
        (&["END"], "⟦</think>⟧abENDcd", "A:ab", Some("END"), 6),
        (&["END"], "END⟦</think>⟧abEN", "T:END|A:abEN", None, 8),
        (&["ü", "b"], "⟦</think>⟧aüb", "A:a", Some("ü"), 4),
        (&["ab", "abc"], "⟦</think>⟧xabc", "A:x", Some("ab"), 4),
        (
            &["\n\n"],
            "⟦</think>⟧\n\na\nb\n\nc",
            "A:a\nb",
            Some("\n\n"),
            8,
        ),
        (&["a"], "⟦</think>⟧a", "", Some("a"), 2),
        (&["aab"], "⟦</think>⟧aaaab", "A:aa", Some("aab"), 6),
    ];
    for (stops, tokens, expected, stop, completion) in rows {
        let told = r1.said(&stopping(stops), tokens, End::Length);
        assert_eq!(told.shown(), expected, "{tokens}");
        assert_eq!(told.counts.completion, completion, "{tokens}");
        let (finish, detail) = told.ended();
        assert_eq!(detail.stop.as_deref(), stop);
        let stopped = stop.is_some();
        assert_eq!(told.going == Going::Stopped, stopped);
        assert_eq!(finish == Finish::Stop, stopped);
    }
}

#[test]
fn nothing_is_held_back_longer_than_needed() {
    let r1 = Model::r1();
    let ask = Ask {
        thinking: Thinking::Off,
        ..stopping(&["abc"])
    };
    let prepared = r1.prepared(&ask);
    let mut speaker = Speaker::new(
        &r1.0,
        &prepared,
        &ask,
        Part {
            index: 0,
            request: "r",
        },
    );
    let steps = [
        ("x", "x"),
        ("a", ""),
        ("b", ""),
        ("a", "ab"),
        ("x", "ax"),
        ("ü", "ü"),
    ];
    for (tokens, expected) in steps {
        let mut said = Vec::new();
        for id in r1.ids(tokens) {
            let drawn = Drawn {
                id,
                ..Drawn::default()
            };
            speaker.hear(
                &Token {
                    sample: 0,
                    drawn,
                    is_forced: false,
                },
                &mut said,
            );
        }
        let text: String = said
            .iter()
            .map(|piece| match piece {
                Said::Answer { text, .. } => text.as_str(),
                other => panic!("expected an answer, got {other:?}"),
            })
            .collect();
        assert_eq!(text, expected, "{tokens}");
    }
}

fn calling(model: &Model, is_parallel: bool) -> Ask {
    let tools = Tools {
        tools: vec![tool("f"), tool("g")],
        is_parallel,
        ..Tools::default()
    };
    let ask = Ask {
        tools,
        thinking: Thinking::Off,
        ..asked()
    };
    assert!(model.prepared(&ask).calls.is_some());
    ask
}

#[test]
fn calls_are_said_as_they_come() {
    let hermes = Model::new("<bos> <eos> <tool_call> </tool_call>", Some(HERMES));
    let r1 = Model::r1();
    let two = "so⟦<tool_call>⟧\n{\"name\": \"f\", \"arguments\": {\"a\": \"ü\"}}\n⟦</tool_call>⟧\n⟦<tool_call>⟧{\"name\": \"g\", \"arguments\": {}}⟦</tool_call>⟧⟦<eos>⟧";
    let told = hermes.said(&calling(&hermes, true), two, END);
    assert_eq!(told.shown(), "A:so|C:0f|(:0{\"a\": \"ü\"}|C:1g|(:1{}");
    assert_eq!(told.ended().0, Finish::ToolCalls);
    assert_eq!(told.counts.completion, hermes.ids(two).len());
    // One call ends the answer where only one is allowed; what follows does not count.
    let told = hermes.said(&calling(&hermes, false), two, End::Left);
    assert_eq!(told.shown(), "A:so|C:0f|(:0{\"a\": \"ü\"}");
    assert_eq!(
        (told.ended().0, told.going),
        (Finish::ToolCalls, Going::Stopped)
    );
    let first = two.split_once("}\n⟦</tool").unwrap().0;
    assert_eq!(told.counts.completion, hermes.ids(first).len());
    // Calls that the model was told to spell.
    let spelled = two
        .replace("⟦<tool_call>⟧", "<tool_call>")
        .replace("⟦</tool_call>⟧", "</tool_call>")
        .replace("⟦<eos>⟧", "");
    let told = r1.said(&calling(&r1, true), &spelled, END);
    assert_eq!(told.shown(), "A:so|C:0f|(:0{\"a\": \"ü\"}|C:1g|(:1{}");
    // Half a call, and none.
    let told = hermes.said(
        &calling(&hermes, true),
        "⟦<tool_call>⟧{\"name\": \"f\", \"arguments\": {\"a",
        End::Length,
    );
    assert_eq!(
        (told.shown().as_str(), told.ended().0),
        ("C:0f|(:0{\"a", Finish::Length)
    );
    let told = hermes.said(
        &calling(&hermes, true),
        "⟦<tool_call>⟧{\"name\": \"h\"}⟦<eos>⟧",
        END,
    );
    assert_eq!(
        (told.shown().as_str(), told.ended().0),
        ("A:<tool_call>{\"name\": \"h\"}", Finish::Stop)
    );
    // Without tools a call is text.
    let told = hermes.said(
        &asked(),
        "⟦<tool_call>⟧{\"name\": \"f\", \"arguments\": {}}",
        END,
    );
    assert_eq!(
        told.shown(),
        "A:<tool_call>{\"name\": \"f\", \"arguments\": {}}"
    );
}

#[test]
fn stop_texts_and_calls_do_not_mix() {
    let r1 = Model::r1();
    let stop = |stop: &str| Ask {
        stop: vec![stop.to_string()],
        ..calling(&r1, true)
    };
    let call =
        "x<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": \"STOP\"}}</tool_call>STOP more";
    let told = r1.said(&stop("STOP"), call, End::Left);
    assert_eq!(told.shown(), "A:x|C:0f|(:0{\"a\": \"STOP\"}");
    assert_eq!(
        (told.ended().0, told.counts.completion),
        (Finish::ToolCalls, call.len() - " more".len())
    );
    // Markup that turns out to be text is looked at; tokens after the stop text do not count.
    let told = r1.said(&stop("<too"), "x<tool! more", End::Left);
    assert_eq!((told.shown().as_str(), told.counts.completion), ("A:x", 5));
    // A stop text does not reach over a call.
    let told = r1.said(
        &stop("xy"),
        "x<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>y",
        END,
    );
    assert_eq!(told.shown(), "A:x|C:0f|(:0{}|A:y");
}

#[test]
fn tokens_go_with_their_text() {
    let r1 = Model::r1();
    let text = "a\n⟦</think>⟧\n\nüb<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>\nc⟦<｜end▁of▁sentence｜>⟧";
    let with = |likeliest, wants_ids| Ask {
        likeliest,
        wants_ids,
        thinking: Thinking::Usual,
        ..calling(&r1, true)
    };
    assert_eq!(
        r1.said(&with(None, false), text, END).token_ids(),
        [0_u32; 0]
    );
    // For ids: all, in their order.
    let all = r1.said(&with(None, true), text, END);
    assert_eq!(all.token_ids(), r1.ids(text));
    // For log-probabilities: those of the texts, whose bytes they are.
    let told = r1.said(&with(Some(1), false), text, END);
    for piece in &told.said {
        let (Said::Thinking { text, tokens, .. } | Said::Answer { text, tokens, .. }) = piece
        else {
            continue;
        };
        let bytes: Vec<u8> = tokens
            .iter()
            .flat_map(|token| token.bytes.clone())
            .collect();
        assert_eq!(String::from_utf8_lossy(&bytes), *text);
        for token in tokens {
            assert_eq!(token.log_prob, Some(-0.5));
            assert_eq!(token.likeliest, [(token.id, token.bytes.clone(), -0.5)]);
        }
    }
    assert_eq!(told.token_ids(), r1.ids("aüb\nc"));
    // Those of a stop text are not shown.
    let ask = Ask {
        likeliest: Some(1),
        thinking: Thinking::Off,
        ..stopping(&["bc"])
    };
    let told = r1.said(&ask, "abcd", End::Left);
    assert_eq!(told.token_ids(), [97]);
    let ask = Ask {
        wants_ids: true,
        likeliest: None,
        ..ask
    };
    assert_eq!(r1.said(&ask, "abcd", End::Left).token_ids(), [97, 98, 99]);
}

#[test]
fn a_plain_prompt_is_continued_as_text() {
    let r1 = Model::r1();
    let ask = ask(Prompt::Text("x".into()));
    let told = r1.said(
        &ask,
        "\n⟦<think>⟧a⟦</think>⟧\n\nb⟦<｜end▁of▁sentence｜>⟧",
        END,
    );
    assert_eq!(told.shown(), "A:\n<think>a</think>\n\nb");
    assert_eq!(told.counts.reasoning, 0);
}

proptest! {
    /// Whatever comes, with stop texts and tools or not: no panic, every token counted once, and
    /// without stop texts and calls the text is what the tokens decode to.
    #[test]
    fn whatever_comes_is_said(
        ids in proptest::collection::vec(prop_oneof![
            4 => 0_u32..256,
            2 => 97_u32..100,
            2 => 256_u32..264,
            1 => Just(10_u32),
            1 => Just(99_999_u32),
        ], 0..40),
        starts_thinking in any::<bool>(),
        has_tools in any::<bool>(),
        stops in proptest::collection::vec("[abc]{1,3}", 0..3),
        wants_ids in any::<bool>(),
    ) {
        let model = &*PROPTEST_MODEL;
        let has_stops = !stops.is_empty();
        let base = if has_tools { calling(model, true) } else { Ask { thinking: Thinking::Off, ..asked() } };
        let ask = Ask { stop: stops, wants_ids, ..base };
        let mut prepared = model.prepared(&ask);
        prepared.start = if starts_thinking { Start::Thinking } else { Start::Answering };
        let text = ids.iter().map(|id| format!("⟦{id}⟧")).collect::<Vec<_>>().concat();
        let told = model.said_after(&prepared, &ask, &text, End::Length);
        prop_assert!(told.counts.reasoning <= told.counts.completion);
        prop_assert!(told.counts.completion <= ids.len());
        let ended = ids.iter().position(|id| *id == 257).map_or(ids.len(), |at| at + 1);
        if wants_ids {
            let shown = told.token_ids();
            prop_assert_eq!(&shown, &ids[..shown.len()]);
            prop_assert_eq!(shown.len(), told.counts.completion);
        }
        if !has_stops {
            prop_assert_eq!(told.counts.completion, ended);
        }
    }
}

static PROPTEST_MODEL: std::sync::LazyLock<Model> = std::sync::LazyLock::new(Model::r1);

#[test]
fn a_speaker_may_wait_on_another_thread() {
    const fn is_send<T: Send>() {}
    is_send::<Speaker<'_>>();
}

#[test]
fn a_model_without_a_template_only_answers() {
    let model = Model::new(PLAIN, None);
    let told = model.said(&ask(Prompt::Text("x".into())), "a⟦<eos>⟧b", END);
    assert_eq!((told.shown().as_str(), told.counts.completion), ("A:a", 2));
}
