//! What is said, as OpenAI's completions: chunks, or one body.
//!
//! Thoughts are part of the text: whoever continues a text gets what the model writes. Tokens of a
//! prompt that is echoed stand before the answer's in every list of `logprobs`, so that place i is
//! the i-th token of prompt and answer; nothing is known of the first.

use serde_json::{Map, Value, json};

use super::super::error::{Fault, Kind};
use super::super::head::Head;
use super::super::log_probs::{Legacy, Place};
use super::super::sampled::Streaming;
use super::super::usage::{add, add_details, finish_reason, usage};
use super::{Echo, Out};
use crate::answer::{Detail, Finish, Said, TokenText, Usage};

/// What chunks and whole bodies are.
const OBJECT: &str = "text_completion";

/// Makes bodies of what is said in answer to the prompts of one request.
#[derive(Debug)]
pub struct Encoder {
    head: Head,
    fingerprint: Option<String>,
    out: Out,
    choices: Vec<Choice>,
    used: Usage,
    /// Prompts whose last piece has not come.
    open: usize,
    failed: Option<Fault>,
}

/// One answer. What it has said is kept only for a whole body.
#[derive(Debug, Default)]
struct Choice {
    text: String,
    log_probs: Legacy,
    place: Place,
    ids: Vec<u32>,
    prompt_ids: Option<Vec<u32>>,
    ended: Option<(Finish, Detail)>,
}

impl Encoder {
    /// For one answer; the fingerprint names what it depends on beside the seed.
    pub fn new(head: Head, fingerprint: Option<String>, out: Out) -> Self {
        let open = out.echoes.len();
        let choices = (0..open.saturating_mul(out.n)).map(|_| Choice::default());
        Self {
            head,
            fingerprint,
            choices: choices.collect(),
            used: Usage::default(),
            open,
            failed: None,
            out,
        }
    }

    /// Takes a piece of what is said to a prompt, counted from 0; gives the chunks that follow from
    /// it, none unless it streams. What was used is sent when the last prompt is done.
    pub fn push(&mut self, prompt: usize, said: Said) -> Vec<Value> {
        let at = |index: usize, n: usize| prompt.saturating_mul(n).saturating_add(index);
        let n = self.out.n;
        match said {
            Said::Begun {
                prompt: tokens,
                prompt_ids,
                ..
            } => self.begin(prompt, &tokens, &prompt_ids),
            Said::Thinking {
                index,
                text,
                tokens,
            }
            | Said::Answer {
                index,
                text,
                tokens,
            } => self.speak(at(index, n), &text, &tokens),
            // No tools are offered to a text, so none are called.
            Said::CallBegins { .. } | Said::CallArguments { .. } => Vec::new(),
            Said::Ended {
                index,
                finish,
                detail,
            } => self.end(at(index, n), finish, detail),
            Said::Done(used) => self.finish(&used),
            Said::Failed(why) => self.fail(why),
        }
    }

    /// The whole body, once the last piece for every prompt was taken.
    ///
    /// # Errors
    /// What failed; also, if the last piece has not come, that the answer broke off.
    pub fn whole(mut self) -> Result<Value, Fault> {
        if let Some(why) = self.failed {
            return Err(why);
        }
        let broken = || Fault::new(Kind::Internal, "an answer broke off");
        if self.open > 0 {
            return Err(broken());
        }
        let choices = std::mem::take(&mut self.choices).into_iter().enumerate();
        let choices: Option<Vec<Value>> = choices
            .map(|(index, choice)| choice.whole(index, &self.out))
            .collect();
        let mut body = self.head.begin(OBJECT, self.fingerprint.as_deref());
        body.insert("choices".into(), choices.ok_or_else(broken)?.into());
        body.insert("usage".into(), usage(&self.used));
        Ok(body.into())
    }

    /// What stands before each answer to a prompt.
    fn begin(&mut self, prompt: usize, tokens: &[TokenText], ids: &[u32]) -> Vec<Value> {
        let echo = self.out.echoes.get(prompt).cloned().unwrap_or_default();
        let text = match echo {
            Echo::Nothing => None,
            Echo::Text(text) => Some(text),
            Echo::Tokens => {
                let bytes: Vec<u8> = tokens
                    .iter()
                    .flat_map(|token| token.bytes.clone())
                    .collect();
                Some(String::from_utf8_lossy(&bytes).into_owned())
            }
        };
        let first = prompt.saturating_mul(self.out.n);
        let (has_log_probs, has_ids) = (self.out.has_log_probs, self.out.has_ids);
        let mut chunks = Vec::new();
        for index in first..first.saturating_add(self.out.n) {
            let Some(choice) = self.choices.get_mut(index) else {
                break;
            };
            choice.prompt_ids = has_ids.then(|| ids.to_vec());
            if let Some(text) = &text {
                choice.echo(text, tokens, has_log_probs);
            }
            if text.is_some() || has_ids {
                chunks.extend(self.chunk_of(index));
            }
        }
        chunks
    }

    fn speak(&mut self, index: usize, text: &str, tokens: &[TokenText]) -> Vec<Value> {
        let (has_log_probs, has_ids) = (self.out.has_log_probs, self.out.has_ids);
        let Some(choice) = self.choices.get_mut(index) else {
            return Vec::new();
        };
        choice.text.push_str(text);
        for token in tokens.iter().filter(|_| has_log_probs) {
            let offset = choice.place.pass(&token.bytes);
            choice.log_probs.add(token, offset);
        }
        if has_ids {
            choice.ids.extend(tokens.iter().map(|token| token.id));
        }
        let says_nothing = text.is_empty() && (tokens.is_empty() || !(has_log_probs || has_ids));
        if says_nothing {
            return Vec::new();
        }
        self.chunk_of(index).into_iter().collect()
    }

    fn end(&mut self, index: usize, finish: Finish, detail: Detail) -> Vec<Value> {
        if let Some(choice) = self.choices.get_mut(index) {
            // Calls of tools have no place here.
            let finish = match finish {
                Finish::Length => Finish::Length,
                Finish::Stop | Finish::ToolCalls => Finish::Stop,
            };
            choice.ended = Some((finish, detail));
        }
        self.chunk_of(index).into_iter().collect()
    }

    fn finish(&mut self, used: &Usage) -> Vec<Value> {
        add(&mut self.used, used);
        self.open = self.open.saturating_sub(1);
        if self.open > 0 || self.out.streaming != Streaming::ChunksAndUsage {
            return Vec::new();
        }
        let mut chunk = self.chunk(Vec::new());
        chunk.insert("usage".into(), usage(&self.used));
        vec![chunk.into()]
    }

    /// The first failure ends all: what other prompts say after it is not sent.
    fn fail(&mut self, why: Fault) -> Vec<Value> {
        if self.failed.is_some() {
            return Vec::new();
        }
        let chunk = why.openai();
        self.failed = Some(why);
        if self.out.streaming.is_on() {
            vec![chunk]
        } else {
            Vec::new()
        }
    }

    /// A chunk with what an answer has said since the last one, if chunks are sent.
    fn chunk_of(&mut self, index: usize) -> Option<Value> {
        if !self.out.streaming.is_on() || self.failed.is_some() {
            return None;
        }
        let choice = self.choices.get_mut(index)?.take_new(index, &self.out);
        Some(self.chunk(vec![choice]).into())
    }

    fn chunk(&self, choices: Vec<Value>) -> Map<String, Value> {
        let mut chunk = self.head.begin(OBJECT, self.fingerprint.as_deref());
        chunk.insert("choices".into(), choices.into());
        if self.out.streaming == Streaming::ChunksAndUsage {
            chunk.insert("usage".into(), Value::Null);
        }
        chunk
    }
}

impl Choice {
    fn echo(&mut self, text: &str, tokens: &[TokenText], has_log_probs: bool) {
        self.text.push_str(text);
        let bytes: usize = tokens.iter().map(|token| token.bytes.len()).sum();
        // A first token that the tokenizer put before the text is not in the text.
        let first = tokens.first().map_or(0, |token| token.bytes.len());
        let is_put_before = bytes == text.len().saturating_add(first);
        for (index, token) in tokens.iter().enumerate().filter(|_| has_log_probs) {
            let bytes: &[u8] = match index {
                0 if is_put_before => &[],
                _ => &token.bytes,
            };
            let offset = self.place.pass(bytes);
            self.log_probs.add(token, offset);
        }
        self.place = Place::after(text);
    }

    /// The answer in a whole body, if it has ended.
    fn whole(mut self, index: usize, out: &Out) -> Option<Value> {
        self.ended.is_some().then(|| self.take_new(index, out))
    }

    /// What was said since the last time; in a whole body, all of it.
    fn take_new(&mut self, index: usize, out: &Out) -> Value {
        let log_probs = if out.has_log_probs {
            self.log_probs.take()
        } else {
            Value::Null
        };
        let text = std::mem::take(&mut self.text);
        let mut choice = Map::new();
        choice.insert("text".into(), text.into());
        choice.insert("index".into(), index.into());
        choice.insert("logprobs".into(), log_probs);
        let ended = self.ended.take();
        let reason = ended.as_ref().map(|(finish, _)| finish_reason(*finish));
        choice.insert("finish_reason".into(), reason.into());
        if let Some((_, detail)) = &ended {
            add_details(&mut choice, detail);
        }
        if out.has_ids {
            let ids = std::mem::take(&mut self.ids);
            choice.insert("token_ids".into(), ids.into());
            if let Some(ids) = self.prompt_ids.take() {
                choice.insert("prompt_token_ids".into(), json!(ids));
            }
        }
        choice.into()
    }
}
