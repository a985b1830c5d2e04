//! Where a template comes from: given by hand, beside the checkpoint, in its config, or built in.

use serde_json::Value;

use super::builtin::Builtin;
use super::{Template, template_source, token_named};
use crate::tokenizer::Tokenizer;
use crate::{Error, Result, json};

/// What there is to choose from, the strongest first.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sources<'a> {
    /// A template that the user gives.
    pub given: Option<&'a str>,
    /// The contents of `chat_template.jinja`, where newer checkpoints keep it.
    pub file: Option<&'a str>,
    /// `tokenizer_config.json`, which also names the tokens of beginning and end.
    pub config: Option<&'a [u8]>,
}

/// Which of them it was, for telling the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Given by the user.
    Given,
    /// `chat_template.jinja`.
    File,
    /// `tokenizer_config.json`.
    Config,
    /// None of them: the format that the control tokens were made for.
    Builtin(Builtin),
}

impl Template {
    /// The first template among the sources, or else the builtin one of the tokenizer's kind.
    ///
    /// *Errors*: as [`Template::new`]; [`Error::NoTemplate`] where nothing tells the format.
    pub fn find(sources: &Sources<'_>, tokenizer: &Tokenizer) -> Result<(Self, Origin)> {
        let what = "tokenizer_config.json";
        let config: Value = sources
            .config
            .map_or(Ok(Value::Null), |config| json::read(what, config))?;
        let builtin = Builtin::of(tokenizer);
        let written = [
            (sources.given, Origin::Given),
            (sources.file, Origin::File),
            (template_source(&config), Origin::Config),
        ];
        let written = written
            .into_iter()
            .find_map(|(text, origin)| Some((text?.to_string(), origin)));
        let built = || builtin.map(|one| (one.source(), Origin::Builtin(one)));
        let (source, origin) = written.or_else(built).ok_or(Error::NoTemplate)?;
        let known = builtin.map_or([""; 2], Builtin::ends);
        let [bos, eos] = [("bos_token", known[0]), ("eos_token", known[1])].map(|(name, known)| {
            let by_kind = Some(known).filter(|known| tokenizer.control(known).is_some());
            token_named(&config, name).or(by_kind).unwrap_or_default()
        });
        Ok((Self::new(&source, tokenizer, bos, eos)?, origin))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;
    use crate::chat::{Conversation, Ending, message};
    use crate::word_level;

    fn tokenizer(names: &[&str]) -> Tokenizer {
        Tokenizer::from_json(&word_level::tokenizer_json(&[], names).unwrap()).unwrap()
    }

    fn ids(template: &Template, messages: &[Value]) -> String {
        let conversation = Conversation {
            messages,
            tools: None,
            variables: &Map::new(),
            ending: Ending::AssistantTurn,
            now: None,
        };
        format!("{:?}", template.render(&conversation).unwrap())
    }

    #[test]
    fn the_first_source_that_speaks_is_taken() {
        let tokenizer = tokenizer(&["<bos>", "<eos>", "<|im_start|>", "<|im_end|>"]);
        let config =
            json!({ "bos_token": "<bos>", "eos_token": "<eos>", "chat_template": "c" }).to_string();
        let without = json!({ "bos_token": "<bos>" }).to_string();
        let all = Sources {
            given: Some("g"),
            file: Some("f"),
            config: Some(config.as_bytes()),
        };
        let rows = [
            (all, Origin::Given, "[Text(\"g\")]"),
            (
                Sources { given: None, ..all },
                Origin::File,
                "[Text(\"f\")]",
            ),
            (
                Sources {
                    given: None,
                    file: None,
                    ..all
                },
                Origin::Config,
                "[Text(\"c\")]",
            ),
            (
                Sources {
                    config: Some(without.as_bytes()),
                    ..Sources::default()
                },
                Origin::Builtin(Builtin::ChatMl),
                "[Control(2), Text(\"user\\nhi\"), Control(3), Text(\"\\n\"), Control(2), Text(\"assistant\\n\")]",
            ),
        ];
        for (sources, expected, text) in rows {
            let (template, origin) = Template::find(&sources, &tokenizer).unwrap();
            assert_eq!(
                (origin, ids(&template, &[message("user", "hi")])),
                (expected, text.to_string())
            );
        }
        assert!(
            Template::find(
                &Sources {
                    config: Some(b"{"),
                    ..all
                },
                &tokenizer
            )
            .is_err()
        );
    }

    #[test]
    fn a_base_model_is_told_what_to_do() {
        let tokenizer = tokenizer(&["<|endoftext|>"]);
        let found = Template::find(
            &Sources {
                config: Some(b"{}"),
                ..Sources::default()
            },
            &tokenizer,
        );
        let told = found.unwrap_err();
        assert!(matches!(told, Error::NoTemplate) && told.to_string().contains("--template FILE"));
    }

    #[test]
    fn control_tokens_tell_the_format_and_its_ends() {
        let rows: [(&[&str], Option<Builtin>); 6] = [
            (
                &["<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"],
                Some(Builtin::DeepseekR1),
            ),
            (
                &["<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>"],
                Some(Builtin::DeepseekV3),
            ),
            (
                &["<|im_start|>", "<|im_end|>", "<think>", "</think>"],
                Some(Builtin::ChatMl),
            ),
            (
                &["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
                Some(Builtin::Llama3),
            ),
            (&["<bos>", "<eos>", "<think>", "</think>"], None),
            (&["<|im_start|>"], None),
        ];
        for (names, expected) in rows {
            assert_eq!(Builtin::of(&tokenizer(names)), expected, "{names:?}");
        }
        for one in Builtin::ALL {
            assert_eq!(Builtin::from_name(one.name()), Some(one));
        }
        // The end is known from the format where no config names it.
        let deepseek = tokenizer(rows[1].0);
        let (template, _) = Template::find(&Sources::default(), &deepseek).unwrap();
        assert_eq!(template.markup().unwrap().eos, 2);
    }
}
