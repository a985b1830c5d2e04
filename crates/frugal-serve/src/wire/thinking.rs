//! Whether and how long a model thinks: every spelling of it, and what follows from all together.
//!
//! ```text
//! thinking {type: enabled | disabled, budget_tokens}     DeepSeek, Anthropic
//! reasoning_effort                                       OpenAI, DeepSeek; see EFFORTS
//! thinking_token_budget                                  vLLM; -1 sets no limit
//! chat_template_kwargs {enable_thinking, thinking}       vLLM, SGLang
//! ```
//!
//! A budget says that the model thinks, one of 0 that it does not. A budget in tokens goes before the
//! one of an effort. Two fields that contradict each other are refused.

use serde_json::{Map, Value};

use super::error::Fault;
use super::fields::{Fields, shown};
use crate::answer::Thinking;

/// What an effort means: each step is four times the one before it, and the last has no limit but
/// those of the answer.
pub(super) const EFFORTS: [(&str, Thinking); 8] = [
    ("none", Thinking::Off),
    ("minimal", Thinking::On { budget: Some(512) }),
    (
        "low",
        Thinking::On {
            budget: Some(2_048),
        },
    ),
    (
        "medium",
        Thinking::On {
            budget: Some(8_192),
        },
    ),
    (
        "high",
        Thinking::On {
            budget: Some(32_768),
        },
    ),
    (
        "xhigh",
        Thinking::On {
            budget: Some(131_072),
        },
    ),
    ("max", Thinking::On { budget: None }),
    ("ultra", Thinking::On { budget: None }),
];

/// Names in `chat_template_kwargs` that are not variables: they have fields of their own, or belong
/// to the server.
const NOT_VARIABLES: [&str; 8] = [
    "messages",
    "tools",
    "add_generation_prompt",
    "continue_final_message",
    "bos_token",
    "eos_token",
    "chat_template",
    "tokenize",
];
const MAX_VARIABLES: usize = 64;
const MAX_BUDGET: i64 = 1 << 31;

/// What a request says about thinking, and to its template.
#[derive(Debug)]
pub(super) struct Thoughts {
    /// Whether and how long.
    pub(super) thinking: Thinking,
    /// Variables of the template.
    pub(super) variables: Map<String, Value>,
}

/// Takes every field about thinking.
pub(super) fn take(fields: &mut Fields<'_>) -> Result<Thoughts, Fault> {
    let mut stance = Stance::default();
    if let Some(mut thinking) = fields.object("thinking")? {
        let words = [("enabled", true), ("disabled", false)];
        let is_on = thinking.word("type", &words)?;
        let is_on = is_on.ok_or_else(|| thinking.missing("type"))?;
        stance.is("thinking.type", is_on)?;
        if let Some(tokens) = thinking.integer("budget_tokens", 0..=MAX_BUDGET)? {
            stance.limit("thinking.budget_tokens", tokens)?;
        }
        thinking.finish()?;
    }
    if let Some(tokens) = fields.integer("thinking_token_budget", -1..=MAX_BUDGET)?
        && tokens >= 0
    {
        stance.limit("thinking_token_budget", tokens)?;
    }
    let mut variables = variables(fields, &mut stance)?;
    let effort = fields.take("reasoning_effort").cloned();
    if let (Some(word), Some(thinking)) = (effort, fields.word("reasoning_effort", &EFFORTS)?) {
        stance.is("reasoning_effort", thinking != Thinking::Off)?;
        let before = variables.get("reasoning_effort");
        if before.is_some_and(|before| *before != word) {
            let why = "contradicts chat_template_kwargs.reasoning_effort";
            return Err(fields.against("reasoning_effort", why));
        }
        if let Thinking::On { budget } = thinking {
            stance.effort = budget;
            // Templates that know efforts have a variable of this name.
            variables.insert("reasoning_effort".into(), word);
        }
    }
    Ok(Thoughts {
        thinking: stance.thinking(),
        variables,
    })
}

fn variables(fields: &mut Fields<'_>, stance: &mut Stance) -> Result<Map<String, Value>, Fault> {
    let Some(mut variables) = fields.object("chat_template_kwargs")? else {
        return Ok(Map::new());
    };
    for name in ["enable_thinking", "thinking"] {
        if let Some(is_on) = variables.flag(name)? {
            stance.is(&variables.path(name), is_on)?;
        }
    }
    let mut map = Map::new();
    for (name, value) in variables.rest() {
        let is_name = name.len() <= 64
            && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !is_name {
            let got = shown(&Value::from(name));
            return Err(Fault::field(
                "chat_template_kwargs",
                "names of variables",
                got,
            ));
        }
        if NOT_VARIABLES.contains(&name) {
            return Err(fields.against(&format!("chat_template_kwargs.{name}"), "no variable"));
        }
        if map.len() == MAX_VARIABLES {
            let why = format!("expected at most {MAX_VARIABLES} variables");
            return Err(fields.against("chat_template_kwargs", &why));
        }
        map.insert(name.to_owned(), value.clone());
    }
    Ok(map)
}

/// What was said so far, and where.
#[derive(Debug, Default)]
struct Stance {
    is_on: Option<(bool, String)>,
    budget: Option<(usize, String)>,
    effort: Option<usize>,
}

impl Stance {
    fn is(&mut self, param: &str, is_on: bool) -> Result<(), Fault> {
        match &self.is_on {
            Some((before, other)) if *before != is_on => Err(contradiction(param, other)),
            Some(_) => Ok(()),
            None => {
                self.is_on = Some((is_on, param.to_owned()));
                Ok(())
            }
        }
    }

    fn limit(&mut self, param: &str, tokens: i64) -> Result<(), Fault> {
        let tokens = usize::try_from(tokens).unwrap_or(usize::MAX);
        if let Some((before, other)) = &self.budget
            && *before != tokens
        {
            return Err(contradiction(param, other));
        }
        self.is(param, tokens > 0)?;
        self.budget = Some((tokens, param.to_owned()));
        Ok(())
    }

    fn thinking(self) -> Thinking {
        let budget = self.budget.map(|(tokens, _)| tokens).or(self.effort);
        match self.is_on {
            None => Thinking::Usual,
            Some((false, _)) => Thinking::Off,
            Some((true, _)) => Thinking::On { budget },
        }
    }
}

fn contradiction(param: &str, other: &str) -> Fault {
    let words = format!("{param}: contradicts {other}");
    Fault::new(super::error::Kind::Invalid, words).at(param)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn taken(body: &Value) -> Result<Thoughts, Fault> {
        let mut fields = Fields::of(body, "")?;
        let thoughts = take(&mut fields)?;
        fields.finish()?;
        Ok(thoughts)
    }

    #[test]
    fn every_spelling_says_whether_and_how_long() {
        let on = |budget| Thinking::On { budget };
        let rows = [
            (json!({}), Thinking::Usual),
            (
                json!({"thinking": null, "reasoning_effort": null}),
                Thinking::Usual,
            ),
            (json!({"thinking": {"type": "enabled"}}), on(None)),
            (
                json!({"thinking": {"type": "enabled", "budget_tokens": 9}}),
                on(Some(9)),
            ),
            (json!({"thinking": {"type": "disabled"}}), Thinking::Off),
            (json!({"reasoning_effort": "none"}), Thinking::Off),
            (json!({"reasoning_effort": "minimal"}), on(Some(512))),
            (json!({"reasoning_effort": "low"}), on(Some(2048))),
            (json!({"reasoning_effort": "medium"}), on(Some(8192))),
            (json!({"reasoning_effort": "high"}), on(Some(32768))),
            (json!({"reasoning_effort": "xhigh"}), on(Some(131_072))),
            (json!({"reasoning_effort": "max"}), on(None)),
            (json!({"thinking_token_budget": 7}), on(Some(7))),
            (json!({"thinking_token_budget": 0}), Thinking::Off),
            (json!({"thinking_token_budget": -1}), Thinking::Usual),
            (
                json!({"chat_template_kwargs": {"enable_thinking": true}}),
                on(None),
            ),
            (
                json!({"chat_template_kwargs": {"thinking": false}}),
                Thinking::Off,
            ),
            (
                json!({"reasoning_effort": "high", "thinking_token_budget": 7}),
                on(Some(7)),
            ),
            (
                json!({"thinking": {"type": "enabled"}, "reasoning_effort": "low"}),
                on(Some(2048)),
            ),
            (
                json!({"thinking": {"type": "disabled"}, "thinking_token_budget": 0}),
                Thinking::Off,
            ),
        ];
        for (body, thinking) in rows {
            assert_eq!(taken(&body).unwrap().thinking, thinking, "{body}");
        }
    }

    #[test]
    fn contradictions_and_other_nonsense_are_refused_by_name() {
        let rows = [
            (
                json!({"thinking": {"type": "disabled"}, "reasoning_effort": "low"}),
                "reasoning_effort",
            ),
            (
                json!({"thinking": {"type": "disabled", "budget_tokens": 9}}),
                "thinking.budget_tokens",
            ),
            (
                json!({"thinking": {"type": "enabled", "budget_tokens": 9}, "thinking_token_budget": 8}),
                "thinking_token_budget",
            ),
            (
                json!({"thinking_token_budget": 8, "reasoning_effort": "none"}),
                "reasoning_effort",
            ),
            (
                json!({"thinking": {"type": "enabled"}, "chat_template_kwargs": {"enable_thinking": false}}),
                "chat_template_kwargs.enable_thinking",
            ),
            (
                json!({"chat_template_kwargs": {"enable_thinking": true, "thinking": false}}),
                "chat_template_kwargs.thinking",
            ),
            (
                json!({"chat_template_kwargs": {"reasoning_effort": "low"}, "reasoning_effort": "high"}),
                "reasoning_effort",
            ),
            (
                json!({"chat_template_kwargs": {"messages": []}}),
                "chat_template_kwargs.messages",
            ),
            (
                json!({"chat_template_kwargs": {"chat_template": "x"}}),
                "chat_template_kwargs.chat_template",
            ),
            (
                json!({"chat_template_kwargs": {"a b": 1}}),
                "chat_template_kwargs",
            ),
            (
                json!({"chat_template_kwargs": {"thinking": 1}}),
                "chat_template_kwargs.thinking",
            ),
            (json!({"thinking": {}}), "thinking.type"),
            (json!({"thinking": {"type": "adaptive"}}), "thinking.type"),
            (
                json!({"thinking": {"type": "enabled", "extra": 1}}),
                "thinking.extra",
            ),
            (json!({"thinking": true}), "thinking"),
            (json!({"reasoning_effort": "hard"}), "reasoning_effort"),
            (
                json!({"thinking_token_budget": -2}),
                "thinking_token_budget",
            ),
            (
                json!({"thinking_token_budget": 1_u64 << 40}),
                "thinking_token_budget",
            ),
        ];
        for (body, param) in rows {
            assert_eq!(
                taken(&body).unwrap_err().param.as_deref(),
                Some(param),
                "{body}"
            );
        }
        let many: Map<String, Value> = (0..65).map(|i| (format!("v{i}"), json!(i))).collect();
        let fault = taken(&json!({"chat_template_kwargs": many})).unwrap_err();
        assert_eq!(
            fault.message,
            "chat_template_kwargs: expected at most 64 variables"
        );
    }

    #[test]
    fn other_names_go_to_the_template() {
        let body = json!({
            "chat_template_kwargs": {"enable_thinking": true, "style": {"a": 1}},
            "reasoning_effort": "low",
        });
        let variables = Value::Object(taken(&body).unwrap().variables);
        assert_eq!(
            variables,
            json!({"style": {"a": 1}, "reasoning_effort": "low"})
        );
    }
}
