//! Text to ids and back, in vLLM's shapes: `/tokenize`, `/detokenize`, `/tokenizer_info`.

use serde_json::{Map, Value, json};

use super::error::Fault;
use super::fields::{Fields, item, token_id};
use super::sampled::model;
use super::{conversation, thinking, tools};
use crate::answer::{Limits, Prompt, Thinking, Tools};

/// What is to be made ids of.
#[derive(Debug, Clone, PartialEq)]
pub struct Tokenize {
    /// The model, if one is named; else the one that is served.
    pub model: Option<String>,
    /// A text or a conversation.
    pub prompt: Prompt,
    /// Whether the model's first token is put before it.
    pub adds_special: bool,
    /// Whether the tokens' texts are wanted.
    pub wants_texts: bool,
    /// Tools of the conversation.
    pub tools: Tools,
    /// Whether its turn is opened for thinking.
    pub thinking: Thinking,
}

/// What is to be made text of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detokenize {
    /// The model, if one is named.
    pub model: Option<String>,
    /// The ids.
    pub ids: Vec<u32>,
}

/// Reads a body of `/tokenize`: with `prompt`, a text, or with `messages` and what belongs to them.
pub fn tokenize(body: &Value, limits: &Limits) -> Result<Tokenize, Fault> {
    let mut fields = Fields::of(body, "")?;
    let model = optional_model(&mut fields)?;
    let mut ask = match fields.text("prompt", limits.body_bytes)? {
        Some(text) => Tokenize {
            model,
            prompt: Prompt::Text(text.to_owned()),
            adds_special: true,
            wants_texts: false,
            tools: Tools::default(),
            thinking: Thinking::Usual,
        },
        None if !fields.has("messages") => return Err(fields.missing("prompt")),
        None => {
            let thoughts = thinking::take(&mut fields)?;
            Tokenize {
                model,
                prompt: conversation::prompt(&mut fields, limits, thoughts.variables)?,
                // Templates write it themselves.
                adds_special: false,
                wants_texts: false,
                tools: tools::take(&mut fields, limits)?,
                thinking: thoughts.thinking,
            }
        }
    };
    if let Some(adds) = fields.flag("add_special_tokens")? {
        ask.adds_special = adds;
    }
    ask.wants_texts = fields.flag("return_token_strs")?.unwrap_or(false);
    fields.finish()?;
    Ok(ask)
}

/// Reads a body of `/detokenize`.
pub fn detokenize(body: &Value, limits: &Limits) -> Result<Detokenize, Fault> {
    let mut fields = Fields::of(body, "")?;
    let model = optional_model(&mut fields)?;
    let values = fields.list("tokens", limits.body_bytes)?;
    let values = values.ok_or_else(|| fields.missing("tokens"))?;
    let paths = (0..).map(|index| item("tokens", index));
    let ids = values
        .iter()
        .zip(paths)
        .map(|(id, path)| token_id(id, &path));
    let ids = ids.collect::<Result<_, _>>()?;
    fields.finish()?;
    Ok(Detokenize { model, ids })
}

fn optional_model(fields: &mut Fields<'_>) -> Result<Option<String>, Fault> {
    if fields.has("model") {
        return model(fields).map(Some);
    }
    fields.take("model");
    Ok(None)
}

/// The body that `/tokenize` answers with.
pub fn tokenized(ids: &[u32], positions: usize, texts: Option<&[String]>) -> Value {
    json!({ "count": ids.len(), "max_model_len": positions, "tokens": ids, "token_strs": texts })
}

/// The body that `/detokenize` answers with.
pub fn detokenized(text: &str) -> Value {
    json!({ "prompt": text })
}

/// The body that `/tokenizer_info` answers with: a `tokenizer_config.json`, in which tokens are
/// written as their texts and those that clients look for are there, if only as null.
pub fn tokenizer_info(config: &Value) -> Value {
    let mut info = config.as_object().cloned().unwrap_or_else(Map::new);
    for name in ["bos_token", "eos_token", "pad_token", "unk_token"] {
        let token = info.get(name).cloned().unwrap_or_default();
        let text = token.get("content").cloned().unwrap_or(token);
        info.insert(name.into(), text);
    }
    for (name, value) in [
        ("tokenizer_class", "PreTrainedTokenizerFast".into()),
        ("chat_template", Value::Null),
    ] {
        info.entry(name).or_insert(value);
    }
    info.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_conversations_are_taken() {
        let ask = tokenize(
            &json!({"prompt": "a", "add_special_tokens": false}),
            &Limits::USUAL,
        );
        let ask = ask.unwrap();
        assert_eq!(
            (ask.prompt, ask.adds_special),
            (Prompt::Text("a".into()), false)
        );
        let body = json!({
            "model": "m", "messages": [{"role": "user", "content": "u"}], "return_token_strs": true,
            "add_generation_prompt": false, "chat_template_kwargs": {"enable_thinking": false},
            "tools": [{"type": "function", "function": {"name": "f"}}],
        });
        let ask = tokenize(&body, &Limits::USUAL).unwrap();
        let expected = Tokenize {
            model: Some("m".into()),
            prompt: Prompt::Chat {
                messages: vec![json!({"role": "user", "content": "u"})],
                variables: Map::new(),
                continues_last: false,
                opens_turn: false,
            },
            adds_special: false,
            wants_texts: true,
            tools: Tools {
                tools: vec![json!({"type": "function", "function": {"name": "f"}})],
                is_parallel: true,
                ..Tools::default()
            },
            thinking: Thinking::Off,
        };
        assert_eq!(ask, expected);
        let ids = detokenize(&json!({"tokens": [1, 2.0]}), &Limits::USUAL).unwrap();
        assert_eq!(
            ids,
            Detokenize {
                model: None,
                ids: vec![1, 2]
            }
        );
    }

    #[test]
    fn others_are_refused_by_name() {
        let rows = [
            (json!({}), "prompt"),
            (json!({"prompt": 5}), "prompt"),
            (json!({"prompt": "a", "messages": []}), "messages"),
            (json!({"prompt": "a", "tools": []}), "tools"),
            (json!({"messages": []}), "messages"),
            (
                json!({"prompt": "a", "return_token_strs": 1}),
                "return_token_strs",
            ),
            (json!({"model": "", "prompt": "a"}), "model"),
        ];
        for (body, param) in rows {
            let fault = tokenize(&body, &Limits::USUAL).unwrap_err();
            assert_eq!(fault.param.as_deref(), Some(param), "{body}");
        }
        for (body, param) in [
            (json!({}), "tokens"),
            (json!({"tokens": [-1]}), "tokens[0]"),
            (json!({"tokens": [0, 4_294_967_296_u64]}), "tokens[1]"),
            (json!({"tokens": [1], "skip": true}), "skip"),
        ] {
            let fault = detokenize(&body, &Limits::USUAL).unwrap_err();
            assert_eq!(fault.param.as_deref(), Some(param), "{body}");
        }
    }

    #[test]
    fn bodies_are_vllms() {
        let texts = ["a".to_owned(), "b".to_owned()];
        insta::assert_snapshot!(tokenized(&[1, 2], 64, Some(&texts)), @r#"{"count":2,"max_model_len":64,"tokens":[1,2],"token_strs":["a","b"]}"#);
        insta::assert_snapshot!(tokenized(&[1], 64, None), @r#"{"count":1,"max_model_len":64,"tokens":[1],"token_strs":null}"#);
        insta::assert_snapshot!(detokenized("a"), @r#"{"prompt":"a"}"#);
        let config =
            json!({"eos_token": {"content": "</s>", "lstrip": false}, "chat_template": "t"});
        insta::assert_snapshot!(tokenizer_info(&config), @r#"{"eos_token":"</s>","chat_template":"t","bos_token":null,"pad_token":null,"unk_token":null,"tokenizer_class":"PreTrainedTokenizerFast"}"#);
    }
}
