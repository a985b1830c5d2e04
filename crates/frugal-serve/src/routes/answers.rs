//! Answers written with a dialect's encoder: as they come, or whole.

use std::collections::VecDeque;

use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Json, Response};
use futures_util::stream::{Stream, unfold};
use serde_json::Value;

use super::Front;
use crate::answer::Said;
use crate::server::stream::{self, Ending, Event};
use crate::server::{Notes, Visit};
use crate::service::Answering;
use crate::wire::error::{Fault, Kind};
use crate::wire::{chat, completions, messages, ollama, responses};

/// Tells which fields were taken without effect.
const UNUSED: HeaderName = HeaderName::from_static("x-frugal-without-effect");

/// A dialect's encoder.
pub(super) trait Writer: Send + 'static {
    /// Takes a piece of what is said to one of the prompts; gives what is sent because of it.
    fn write(&mut self, prompt: usize, said: Said) -> Vec<Event>;

    /// The whole body.
    fn whole(self) -> Result<Value, Fault>;
}

fn plain(value: &Value) -> Event {
    Event::new(value.to_string())
}

fn named((name, value): (&'static str, Value)) -> Event {
    Event::named(name, value.to_string())
}

impl Writer for chat::Encoder {
    fn write(&mut self, _: usize, said: Said) -> Vec<Event> {
        self.push(said).iter().map(plain).collect()
    }

    fn whole(self) -> Result<Value, Fault> {
        self.whole()
    }
}

impl Writer for completions::Encoder {
    fn write(&mut self, prompt: usize, said: Said) -> Vec<Event> {
        self.push(prompt, said).iter().map(plain).collect()
    }

    fn whole(self) -> Result<Value, Fault> {
        self.whole()
    }
}

impl Writer for responses::Encoder {
    fn write(&mut self, _: usize, said: Said) -> Vec<Event> {
        self.push(said).into_iter().map(named).collect()
    }

    fn whole(self) -> Result<Value, Fault> {
        self.whole()
    }
}

impl Writer for messages::Encoder {
    fn write(&mut self, _: usize, said: Said) -> Vec<Event> {
        self.push(said).into_iter().map(named).collect()
    }

    fn whole(self) -> Result<Value, Fault> {
        self.whole()
    }
}

impl Writer for ollama::Encoder {
    fn write(&mut self, _: usize, said: Said) -> Vec<Event> {
        self.push(said).iter().map(plain).collect()
    }

    fn whole(self) -> Result<Value, Fault> {
        self.whole()
    }
}

/// How an answer goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Whole.
    Whole,
    /// As events that end with `[DONE]`.
    EventsThenDone,
    /// As events.
    Events,
    /// As lines.
    Lines,
}

impl Form {
    /// One of them for a stream, whole otherwise.
    pub(super) const fn of(streams: bool, streamed: Self) -> Self {
        if streams { streamed } else { Self::Whole }
    }
}

/// Answers to the prompts of one request, and what writes them.
pub(super) struct Answers<W> {
    under_way: VecDeque<Answering>,
    /// Which prompt is being answered.
    prompt: usize,
    writer: W,
    ready: VecDeque<Event>,
    notes: Notes,
    tokens: (u64, u64),
}

impl<W: Writer> Answers<W> {
    pub(super) fn new(answers: Vec<Answering>, writer: W, visit: &Visit) -> Self {
        Self {
            under_way: answers.into(),
            prompt: 0,
            writer,
            ready: VecDeque::new(),
            notes: visit.notes.clone(),
            tokens: (0, 0),
        }
    }

    /// The answer as it is wanted.
    pub(super) async fn respond(
        self,
        form: Form,
        front: &Front,
        unused: &[&str],
    ) -> Result<Response, Fault> {
        let mut response = match form {
            Form::Whole => Json(self.whole().await?).into_response(),
            Form::EventsThenDone => stream::events(self.events(), Ending::Done, front.keep_alive),
            Form::Events => stream::events(self.events(), Ending::Plain, front.keep_alive),
            Form::Lines => {
                use futures_util::StreamExt;
                stream::lines(self.events().map(|event| event.data))
            }
        };
        if let Ok(unused) = HeaderValue::from_str(&unused.join(", "))
            && !unused.is_empty()
        {
            response.headers_mut().insert(UNUSED, unused);
        }
        Ok(response)
    }

    async fn whole(mut self) -> Result<Value, Fault> {
        while let Some((prompt, said)) = self.next().await {
            self.writer.write(prompt, said);
        }
        self.writer.whole()
    }

    fn events(self) -> impl Stream<Item = Event> + Send + 'static {
        unfold(self, |mut answers| async move {
            loop {
                if let Some(event) = answers.ready.pop_front() {
                    return Some((event, answers));
                }
                let (prompt, said) = answers.next().await?;
                let events = answers.writer.write(prompt, said);
                answers.ready.extend(events);
            }
        })
    }

    /// The next piece, one prompt after another: their answers are made at the same time. After the
    /// last piece to the last prompt, none; an answer that ends without one has failed.
    async fn next(&mut self) -> Option<(usize, Said)> {
        let said = self.under_way.front_mut()?.next().await;
        let broken = || Said::Failed(Fault::new(Kind::Internal, "the answer broke off"));
        let said = said.unwrap_or_else(broken);
        let prompt = self.prompt;
        match &said {
            Said::Done(usage) => {
                self.tokens.0 += usage.prompt_tokens as u64;
                self.tokens.1 += usage.completion_tokens as u64;
                self.notes.set_tokens(self.tokens.0, self.tokens.1);
                self.under_way.pop_front();
                self.prompt += 1;
            }
            // Nothing more will be said to any prompt.
            Said::Failed(_) => self.under_way.clear(),
            _ => {}
        }
        Some((prompt, said))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;
    use crate::wire::samples::{begun, head, plain as said};

    fn answers(pieces: Vec<Vec<Said>>) -> Answers<completions::Encoder> {
        let out = completions::Out {
            streaming: crate::wire::Streaming::Chunks,
            n: 1,
            echoes: vec![completions::Echo::Nothing; pieces.len()],
            ..completions::Out::default()
        };
        let pieces = pieces.into_iter();
        Answers {
            under_way: pieces.map(|all| Answering::of(head("a"), all)).collect(),
            prompt: 0,
            writer: completions::Encoder::new(head("a"), None, out),
            ready: VecDeque::new(),
            notes: Notes::default(),
            tokens: (0, 0),
        }
    }

    #[tokio::test]
    async fn an_answer_that_breaks_off_is_no_end() {
        let all = async |pieces| answers(pieces).events().collect::<Vec<Event>>().await;
        let whole = all(vec![said(), said()]).await;
        assert!(whole.iter().all(|event| !event.data.contains("error")));
        let last = whole.last().unwrap();
        assert!(last.data.contains("\"index\":1") && last.data.contains("\"stop\""));
        let broken = all(vec![said(), vec![begun()], said()]).await;
        assert!(broken.last().unwrap().data.contains("broke off"));
        let whole = answers(vec![vec![begun()]]).whole().await;
        assert_eq!(whole.unwrap_err().kind, Kind::Internal);
    }
}
