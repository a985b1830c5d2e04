//! `frugal tokenize`: text to ids, ids to text.

use std::io::{self, Read};
use std::process::ExitCode;

use anyhow::Context;
use serde_json::json;

use crate::cli::{Common, Tokenize};
use crate::models;
use crate::output::{say, say_json};

/// The most that is read from standard input.
const MAX_BYTES: u64 = 64 << 20;

pub(crate) fn run(common: &Common, arguments: &Tokenize) -> anyhow::Result<ExitCode> {
    let opened = models::find(common, &arguments.which)?.open()?;
    let tokenizer = &opened.text()?.tokenizer;
    let input = match arguments.text.as_deref() {
        Some(text) if text != "-" => text.to_owned(),
        _ => {
            let mut text = String::new();
            io::stdin().take(MAX_BYTES).read_to_string(&mut text)?;
            text
        }
    };
    if arguments.decode {
        let number = |word: &str| {
            word.parse::<u32>()
                .with_context(|| format!("expected token ids, got {word:?}"))
        };
        let ids = input
            .split(|c: char| c.is_whitespace() || c == ',')
            .filter(|word| !word.is_empty())
            .map(number)
            .collect::<anyhow::Result<Vec<u32>>>()?;
        let text = tokenizer.decode(&ids)?;
        if common.json {
            say_json(&json!({ "event": "text", "text": text }))?;
        } else {
            say(text);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let ids = tokenizer.encode(&input)?;
    if common.json {
        let pieces: Vec<_> = ids.iter().map(|id| tokenizer.token_name(*id)).collect();
        say_json(&json!({ "event": "tokens", "ids": ids, "pieces": pieces, "count": ids.len() }))?;
    } else {
        let words: Vec<String> = ids.iter().map(u32::to_string).collect();
        say(words.join(" "));
    }
    Ok(ExitCode::SUCCESS)
}
