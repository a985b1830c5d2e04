//! What is said, as OpenAI's chat completions: chunks, or one body.
//!
//! Chunks come in the order that clients rely on, for each answer: its role, its thought, its text,
//! its calls of tools, how it ended; then, if wanted, what all used. Side fields of ours and others
//! stand beside the official ones: `reasoning_content`, `finish_details`, `token_ids`.

use serde_json::{Map, Value, json};

use super::super::error::{Fault, Kind};
use super::super::head::Head;
use super::super::log_probs::items;
use super::super::sampled::Streaming;
use super::super::usage::{add_details, finish_reason, usage};
use super::{LogProbs, Out, ReasoningField};
use crate::answer::{Detail, Finish, Said, TokenText, Usage};

/// Makes bodies of what is said in answer to one request.
#[derive(Debug)]
pub struct Encoder {
    head: Head,
    fingerprint: Option<String>,
    out: Out,
    choices: Vec<Choice>,
    prompt_ids: Option<Vec<u32>>,
    used: Option<Box<Usage>>,
    failed: Option<Fault>,
}

/// One answer. What it has said is kept only for a whole body.
#[derive(Debug, Default)]
struct Choice {
    has_begun: bool,
    text: String,
    thought: Option<String>,
    calls: Vec<Call>,
    log_probs: Vec<Value>,
    thought_log_probs: Vec<Value>,
    ids: Vec<u32>,
    ended: Option<(Finish, Detail)>,
}

#[derive(Debug, Default)]
struct Call {
    id: String,
    name: String,
    arguments: String,
}

/// Whether a text is a thought's or the answer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Thought,
    Answer,
}

impl Encoder {
    /// For one answer; the fingerprint names what it depends on beside the seed.
    pub fn new(head: Head, fingerprint: Option<String>, out: Out) -> Self {
        let choices = (0..out.n).map(|_| Choice::default()).collect();
        Self {
            head,
            fingerprint,
            out,
            choices,
            prompt_ids: None,
            used: None,
            failed: None,
        }
    }

    /// Takes a piece; gives the chunks that follow from it, none unless it streams. After the last
    /// piece the stream's own end is sent; a failure is a chunk with `error` alone.
    pub fn push(&mut self, said: Said) -> Vec<Value> {
        match said {
            Said::Begun { prompt_ids, .. } => self.begin(prompt_ids),
            Said::Thinking {
                index,
                text,
                tokens,
            } => self.speak(index, Part::Thought, &text, &tokens),
            Said::Answer {
                index,
                text,
                tokens,
            } => self.speak(index, Part::Answer, &text, &tokens),
            Said::CallBegins {
                index,
                call,
                id,
                name,
            } => self.call(index, call, id, name),
            Said::CallArguments { index, call, text } => self.argue(index, call, &text),
            Said::Ended {
                index,
                finish,
                detail,
            } => self.end(index, finish, detail),
            Said::Done(used) => self.finish(used),
            Said::Failed(why) => self.fail(why),
        }
    }

    /// The whole body, once the last piece was taken.
    ///
    /// # Errors
    /// What failed; also, if the last piece has not come, that the answer broke off.
    pub fn whole(self) -> Result<Value, Fault> {
        if let Some(why) = self.failed {
            return Err(why);
        }
        let Some(used) = &self.used else {
            return Err(Fault::new(Kind::Internal, "the answer broke off"));
        };
        let mut body = self.head("chat.completion");
        let choices = self.choices.into_iter().enumerate();
        let choices: Option<Vec<Value>> = choices
            .map(|(index, choice)| choice.whole(index, &self.out))
            .collect();
        let broken = || Fault::new(Kind::Internal, "an answer broke off");
        body.insert("choices".into(), choices.ok_or_else(broken)?.into());
        body.insert("usage".into(), usage(used));
        if let Some(ids) = self.prompt_ids {
            body.insert("prompt_token_ids".into(), ids.into());
        }
        Ok(body.into())
    }

    fn begin(&mut self, prompt_ids: Vec<u32>) -> Vec<Value> {
        if self.out.has_ids {
            self.prompt_ids = Some(prompt_ids);
        }
        (0..self.out.n)
            .filter_map(|index| self.role(index))
            .collect()
    }

    /// The chunk with the role, once for each answer, before anything else of it.
    fn role(&mut self, index: usize) -> Option<Value> {
        let choice = self.choices.get_mut(index)?;
        if !self.out.streaming.is_on() || std::mem::replace(&mut choice.has_begun, true) {
            return None;
        }
        let choice = chunk_choice(index, json!({ "role": "assistant", "content": "" }));
        let mut chunk = self.chunk(vec![choice.into()]);
        // Sent once, with the first chunk.
        if let (Some(ids), Some(chunk)) = (self.prompt_ids.take(), chunk.as_object_mut()) {
            chunk.insert("prompt_token_ids".into(), ids.into());
        }
        Some(chunk)
    }

    fn speak(&mut self, index: usize, part: Part, text: &str, tokens: &[TokenText]) -> Vec<Value> {
        let wants = match part {
            Part::Answer => self.out.log_probs != LogProbs::None,
            Part::Thought => self.out.log_probs == LogProbs::AnswerAndThought,
        };
        let log_probs = wants.then(|| items(tokens));
        let ids = self
            .out
            .has_ids
            .then(|| tokens.iter().map(|token| token.id).collect::<Vec<_>>());
        if !self.out.streaming.is_on() {
            if let Some(choice) = self.choices.get_mut(index) {
                choice.keep(part, text, log_probs, ids);
            }
            return Vec::new();
        }
        let says_nothing =
            text.is_empty() && (tokens.is_empty() || (log_probs.is_none() && ids.is_none()));
        if says_nothing {
            return Vec::new();
        }
        let mut delta = Map::new();
        match part {
            Part::Answer => {
                delta.insert("content".into(), text.into());
            }
            Part::Thought => self.out.reasoning.name(&mut delta, text),
        }
        let mut choice = chunk_choice(index, delta.into());
        if let Some(items) = log_probs {
            let (content, thought) = match part {
                Part::Answer => (items, None),
                Part::Thought => (Value::Null, Some(items)),
            };
            choice.insert("logprobs".into(), log_prob_object(content, thought));
        }
        if let Some(ids) = ids {
            choice.insert("token_ids".into(), ids.into());
        }
        self.chunks(index, choice)
    }

    fn call(&mut self, index: usize, call: usize, id: String, name: String) -> Vec<Value> {
        if self.out.streaming.is_on() {
            let function = json!({ "name": name, "arguments": "" });
            let call = json!({ "index": call, "id": id, "type": "function", "function": function });
            let choice = chunk_choice(index, json!({ "tool_calls": [call] }));
            return self.chunks(index, choice);
        }
        if let Some(choice) = self.choices.get_mut(index) {
            let call = Call {
                id,
                name,
                ..Call::default()
            };
            choice.calls.push(call);
        }
        Vec::new()
    }

    fn argue(&mut self, index: usize, call: usize, text: &str) -> Vec<Value> {
        if self.out.streaming.is_on() {
            let call = json!({ "index": call, "function": { "arguments": text } });
            let choice = chunk_choice(index, json!({ "tool_calls": [call] }));
            return self.chunks(index, choice);
        }
        let choice = self.choices.get_mut(index);
        if let Some(call) = choice.and_then(|choice| choice.calls.get_mut(call)) {
            call.arguments.push_str(text);
        }
        Vec::new()
    }

    fn end(&mut self, index: usize, finish: Finish, detail: Detail) -> Vec<Value> {
        if self.out.streaming.is_on() {
            let mut choice = chunk_choice(index, json!({}));
            ended(&mut choice, finish, &detail);
            return self.chunks(index, choice);
        }
        if let Some(choice) = self.choices.get_mut(index) {
            choice.ended = Some((finish, detail));
        }
        Vec::new()
    }

    fn finish(&mut self, used: Box<Usage>) -> Vec<Value> {
        let mut chunks = Vec::new();
        if self.out.streaming == Streaming::ChunksAndUsage {
            let mut chunk = self.chunk(Vec::new());
            if let Some(chunk) = chunk.as_object_mut() {
                chunk.insert("usage".into(), usage(&used));
            }
            chunks.push(chunk);
        }
        self.used = Some(used);
        chunks
    }

    fn fail(&mut self, why: Fault) -> Vec<Value> {
        let chunk = why.openai();
        self.failed = Some(why);
        if self.out.streaming.is_on() {
            vec![chunk]
        } else {
            Vec::new()
        }
    }

    /// A chunk of one answer, after the one with its role.
    fn chunks(&mut self, index: usize, choice: Map<String, Value>) -> Vec<Value> {
        let mut chunks: Vec<Value> = self.role(index).into_iter().collect();
        chunks.push(self.chunk(vec![choice.into()]));
        chunks
    }

    fn chunk(&self, choices: Vec<Value>) -> Value {
        let mut chunk = self.head("chat.completion.chunk");
        chunk.insert("choices".into(), choices.into());
        if self.out.streaming == Streaming::ChunksAndUsage {
            chunk.insert("usage".into(), Value::Null);
        }
        chunk.into()
    }

    fn head(&self, object: &str) -> Map<String, Value> {
        let mut head = self.head.begin(object, self.fingerprint.as_deref());
        if let Some(tier) = self.out.service_tier {
            head.insert("service_tier".into(), tier.into());
        }
        head
    }
}

impl ReasoningField {
    /// Writes a thought under its name or names.
    fn name(self, object: &mut Map<String, Value>, thought: &str) {
        let names: &[&str] = match self {
            Self::Content => &["reasoning_content"],
            Self::Bare => &["reasoning"],
            Self::Both => &["reasoning_content", "reasoning"],
        };
        for name in names {
            object.insert((*name).into(), thought.into());
        }
    }
}

impl Choice {
    fn keep(&mut self, part: Part, text: &str, log_probs: Option<Value>, ids: Option<Vec<u32>>) {
        let (kept, items) = match part {
            Part::Answer => (&mut self.text, &mut self.log_probs),
            Part::Thought => (
                self.thought.get_or_insert_default(),
                &mut self.thought_log_probs,
            ),
        };
        kept.push_str(text);
        if let Some(Value::Array(more)) = log_probs {
            items.extend(more);
        }
        self.ids.extend(ids.into_iter().flatten());
    }

    /// The answer in a whole body, if it has ended.
    fn whole(self, index: usize, out: &Out) -> Option<Value> {
        let (finish, detail) = self.ended?;
        let mut message = Map::new();
        message.insert("role".into(), "assistant".into());
        let is_calls_alone = self.text.is_empty() && !self.calls.is_empty();
        let content = (!is_calls_alone).then_some(self.text);
        message.insert("content".into(), content.into());
        message.insert("refusal".into(), Value::Null);
        if let Some(thought) = self.thought {
            out.reasoning.name(&mut message, &thought);
        }
        if !self.calls.is_empty() {
            let calls: Vec<Value> = self.calls.into_iter().map(Call::whole).collect();
            message.insert("tool_calls".into(), calls.into());
        }
        message.insert("annotations".into(), json!([]));
        let log_probs = match out.log_probs {
            LogProbs::None => Value::Null,
            LogProbs::Answer => log_prob_object(self.log_probs.into(), None),
            LogProbs::AnswerAndThought => {
                log_prob_object(self.log_probs.into(), Some(self.thought_log_probs.into()))
            }
        };
        let mut choice = Map::new();
        choice.insert("index".into(), index.into());
        choice.insert("message".into(), message.into());
        choice.insert("logprobs".into(), log_probs);
        ended(&mut choice, finish, &detail);
        if out.has_ids {
            choice.insert("token_ids".into(), self.ids.into());
        }
        Some(choice.into())
    }
}

impl Call {
    fn whole(self) -> Value {
        let function = json!({ "name": self.name, "arguments": self.arguments });
        json!({ "id": self.id, "type": "function", "function": function })
    }
}

fn chunk_choice(index: usize, delta: Value) -> Map<String, Value> {
    let mut choice = Map::new();
    choice.insert("index".into(), index.into());
    choice.insert("delta".into(), delta);
    choice.insert("logprobs".into(), Value::Null);
    choice.insert("finish_reason".into(), Value::Null);
    choice
}

fn ended(choice: &mut Map<String, Value>, finish: Finish, detail: &Detail) {
    choice.insert("finish_reason".into(), finish_reason(finish).into());
    add_details(choice, detail);
}

fn log_prob_object(content: Value, thought: Option<Value>) -> Value {
    let mut object = Map::new();
    object.insert("content".into(), content);
    object.insert("refusal".into(), Value::Null);
    if let Some(thought) = thought {
        object.insert("reasoning_content".into(), thought);
    }
    object.into()
}

#[cfg(test)]
mod tests;
