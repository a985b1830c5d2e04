//! A conversation under way: what was said, what a line that is typed means, one answer at a time.

use std::fmt::Write as _;
use std::fs;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use frugal_eval::encode::Codec;
use frugal_eval::judge::judge;
use frugal_eval::task::{Problem, Task};
use frugal_run::consumption::unix_seconds;
use frugal_text::chat::{Conversation, Ending, Moment, Template, message};
use frugal_text::reasoning::{Event, Markup, Parser, Start};
use frugal_text::{Decoder, Segment, Tokenizer};
use serde_json::{Map, Value, json};

use super::show::Screen;
use crate::cli::{Common, Switch};
use crate::output::{say_json, tell};
use crate::speaker::{Speaker, Spoken};

const HELP: &str = "\
/think on|off   ask the model to think, or not to
/fold on|off    hide the thinking behind its length
/system TEXT    what the model is told first; starts anew
/new            forget the conversation
/save FILE      write the conversation as Markdown
/quit           end (also Ctrl-D)
A line that ends with a backslash goes on in the next one.";

/// How a message becomes a prompt.
pub(super) enum Prompting {
    /// By a chat template.
    Chat(Box<Template>),
    /// As it is, after the token that begins a sequence.
    Raw {
        /// That token.
        bos: Option<u32>,
    },
}

/// A task that a model was trained on, to tell right answers from wrong ones.
pub(super) struct Checker {
    pub(super) task: Box<dyn Task>,
    pub(super) codec: Codec,
}

impl Checker {
    /// A problem to show what is understood.
    pub(super) fn example(&self) -> anyhow::Result<String> {
        let mut rng = frugal_core::rng::Rng::derive(&[1]);
        Ok(self.task.problem(&mut rng, &self.task.level())?.question)
    }
}

/// A conversation.
pub(super) struct Talk<'a> {
    pub(super) common: &'a Common,
    pub(super) tokenizer: &'a Tokenizer,
    pub(super) prompting: Prompting,
    pub(super) checker: Option<Checker>,
    pub(super) speaker: Speaker<'a>,
    /// Tokens that end an answer.
    pub(super) stops: Vec<u32>,
    /// Set by Ctrl-C.
    pub(super) stopped: Arc<AtomicBool>,
    /// Tokens of an answer a second that were expected, where anyone asked.
    pub(super) forecast: Option<f64>,
    pub(super) max_tokens: usize,
    pub(super) thinks: Option<Switch>,
    pub(super) is_folded: bool,
    pub(super) system: Option<String>,
    /// What the template sees.
    pub(super) messages: Vec<Value>,
    /// What `/save` writes: (heading, text).
    pub(super) transcript: Vec<(&'static str, String)>,
}

/// An answer taken apart.
#[derive(Default)]
struct Heard {
    thinking: String,
    thinking_tokens: usize,
    answer: String,
}

impl Talk<'_> {
    /// Does what a typed line says. False ends the conversation.
    pub(super) fn hear(&mut self, line: &str) -> bool {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match (word, rest.trim()) {
            ("", "") => {}
            ("/quit" | "/exit" | "/bye", _) => return false,
            ("/help", _) => tell(HELP),
            ("/think", "on") => self.thinks = Some(Switch::On),
            ("/think", "off") => self.thinks = Some(Switch::Off),
            ("/fold", "on") => self.is_folded = true,
            ("/fold", "off") => self.is_folded = false,
            ("/new", _) => self.forget(),
            ("/system", text) => {
                self.system = (!text.is_empty()).then(|| text.to_owned());
                self.forget();
            }
            ("/save", file) if !file.is_empty() => match self.save(file) {
                Ok(()) => tell(format!("wrote {file}")),
                Err(error) => tell(format!("{error:#}")),
            },
            (command, _) if command.starts_with('/') => {
                tell(format!("expected one of these, got {line}\n{HELP}"));
            }
            _ => {
                if let Err(error) = self.ask(line) {
                    tell(format!("{error:#}"));
                }
            }
        }
        true
    }

    fn forget(&mut self) {
        self.messages.clear();
        self.transcript.clear();
    }

    fn save(&self, file: &str) -> anyhow::Result<()> {
        let mut text = String::new();
        for (heading, part) in &self.transcript {
            writeln!(text, "## {heading}\n\n{}\n", part.trim())?;
        }
        let mut options = fs::OpenOptions::new();
        let mut out = options
            .write(true)
            .create_new(true)
            .open(file)
            .with_context(|| format!("expected a new file, cannot write {file}"))?;
        std::io::Write::write_all(&mut out, text.as_bytes())?;
        Ok(())
    }

    /// Puts a message to the model and shows its answer.
    pub(super) fn ask(&mut self, message_text: &str) -> anyhow::Result<()> {
        let problem = match &self.checker {
            Some(checker) => Some(checker.task.parse(message_text)?),
            None => None,
        };
        // A run's tiny model has seen one question at a time.
        if problem.is_some() {
            self.messages.clear();
        }
        let content = problem
            .as_ref()
            .map_or(message_text, |problem| problem.question.as_str());
        let asked = message("user", content);
        let segments = self.prompt(&asked)?;
        let context = self.tokenizer.encode_segments(&segments)?;
        anyhow::ensure!(
            context.len() < self.speaker.positions(),
            "expected a conversation of fewer than {} tokens (--context), got {}",
            self.speaker.positions(),
            context.len()
        );
        let (heard, spoken) = self.listen(&context, &segments)?;
        self.report(&heard, &spoken, problem.as_ref())?;
        self.transcript.push(("You", message_text.to_owned()));
        if !heard.thinking.is_empty() {
            self.transcript.push(("Thinking", heard.thinking.clone()));
        }
        self.transcript.push(("Answer", heard.answer.clone()));
        let mut answer = message("assistant", heard.answer.trim());
        if let (Some(fields), false) = (answer.as_object_mut(), heard.thinking.is_empty()) {
            fields.insert("reasoning_content".to_owned(), heard.thinking.into());
        }
        self.messages.extend([asked, answer]);
        Ok(())
    }

    /// The conversation so far and a new message as the model reads them.
    fn prompt(&self, asked: &Value) -> anyhow::Result<Vec<Segment>> {
        let template = match &self.prompting {
            Prompting::Raw { bos } => {
                let text = asked.get("content").and_then(Value::as_str);
                let begin = bos.map(Segment::Control).into_iter();
                let text = Segment::Text(text.unwrap_or_default().to_owned());
                return Ok(begin.chain([text]).collect());
            }
            Prompting::Chat(template) => template,
        };
        let system = self.system.iter().map(|text| message("system", text));
        let messages: Vec<Value> = system
            .chain(self.messages.iter().cloned())
            .chain([asked.clone()])
            .collect();
        let mut variables = Map::new();
        if let Some(thinks) = self.thinks {
            let is_on = Value::Bool(thinks == Switch::On);
            // Qwen3's name for it, and DeepSeek V3.1's.
            variables.insert("enable_thinking".to_owned(), is_on.clone());
            variables.insert("thinking".to_owned(), is_on);
        }
        let mut segments = template.render(&Conversation {
            messages: &messages,
            tools: None,
            variables: &variables,
            ending: Ending::AssistantTurn,
            now: u64::try_from(unix_seconds())
                .ok()
                .map(Moment::from_unix_seconds),
        })?;
        if let Ok(markup) = template.markup()
            && markup.can_think()
        {
            self.insist(&mut segments, &markup);
        }
        Ok(segments)
    }

    /// Opens or closes the block of thinking where the template has not done as asked.
    fn insist(&self, segments: &mut Vec<Segment>, markup: &Markup) {
        match (self.thinks, Start::after(segments, markup)) {
            (Some(Switch::Off), Start::Thinking) => {
                segments.push(Segment::Control(markup.end_think));
                segments.push(Segment::Text("\n\n".to_owned()));
            }
            (Some(Switch::On), Start::Fresh) => {
                segments.push(Segment::Control(markup.think));
                segments.push(Segment::Text("\n".to_owned()));
            }
            _ => {}
        }
    }

    /// Lets the model speak and shows it as it comes.
    fn listen(&mut self, context: &[u32], segments: &[Segment]) -> anyhow::Result<(Heard, Spoken)> {
        let markup = match &self.prompting {
            Prompting::Chat(template) => template.markup().ok(),
            Prompting::Raw { .. } => None,
        };
        let parser = |markup| {
            Parser::new(markup, Start::after(segments, &markup)).ending_also_at(&self.stops)
        };
        let mut parser = markup.map(parser);
        let mut decoders = [self.tokenizer.decoder(), self.tokenizer.decoder()];
        let mut heard = Heard::default();
        let mut screen = Screen::new(self.common.json, self.is_folded);
        self.stopped.store(false, Ordering::Relaxed);
        let stopped = Arc::clone(&self.stopped);
        let is_stopped = || stopped.load(Ordering::Relaxed);
        let spoken = self
            .speaker
            .speak(context, self.max_tokens, &is_stopped, &mut |id| {
                let [thought, answered] = &mut decoders;
                match parser.as_mut().map(|parser| parser.feed(id)) {
                    Some(Event::Thinking(id)) => {
                        let piece = piece_of(thought, id);
                        heard.thinking.push_str(piece);
                        heard.thinking_tokens += 1;
                        screen.think(piece);
                    }
                    Some(Event::Control(_)) => {}
                    Some(Event::Answer(_) | Event::Trailing(_)) | None => {
                        let piece = piece_of(answered, id);
                        heard.answer.push_str(piece);
                        screen.answer(piece);
                    }
                }
                Ok(if is_stopped() {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                })
            })?;
        let [thought, answered] = decoders;
        heard.thinking.push_str(&thought.finish()?);
        let rest = answered.finish()?;
        screen.answer(&rest);
        heard.answer.push_str(&rest);
        screen.end(&remark(&heard, &spoken, self.forecast));
        Ok((heard, spoken))
    }

    /// What a machine is told of an answer, and the verdict of a task's checker.
    fn report(
        &self,
        heard: &Heard,
        spoken: &Spoken,
        problem: Option<&Problem>,
    ) -> anyhow::Result<()> {
        let verdict = match (&self.checker, problem) {
            (Some(checker), Some(problem)) => {
                let judged = judge(checker.task.as_ref(), problem, &spoken.ids, &checker.codec)?;
                Some(judged.correct)
            }
            _ => None,
        };
        if self.common.json {
            return say_json(&json!({
                "event": "answer",
                "thinking": heard.thinking.trim(),
                "answer": heard.answer.trim(),
                "correct": verdict,
                "finished": spoken.is_finished,
                "tokens": spoken.ids.len(),
                "thinking_tokens": heard.thinking_tokens,
                "prompt_tokens": spoken.prompt_tokens,
                "prompt_seconds": spoken.prompt_seconds,
                "tokens_per_second": spoken.tokens_per_second(),
                "drafted_tokens": spoken.drafted.drafted,
                "accepted_tokens": spoken.drafted.accepted,
                "tokens_per_step": spoken.drafted.tokens_per_step(),
                "forecast_tokens_per_second": self.forecast,
            }));
        }
        if let Some(is_right) = verdict {
            crate::output::say(if is_right { "[right]" } else { "[wrong]" });
        }
        Ok(())
    }
}

/// The text that is certain with one more id. A published embedding may have more rows than its
/// tokenizer has tokens; what a model says with one of these stands for nothing.
fn piece_of<'d>(decoder: &'d mut Decoder<'_>, id: u32) -> &'d str {
    decoder.push(id).unwrap_or("\u{FFFD}")
}

/// What an answer took, beside what was expected.
fn remark(heard: &Heard, spoken: &Spoken, expected: Option<f64>) -> String {
    let mut words = vec![format!("{} tokens", spoken.ids.len())];
    if heard.thinking_tokens > 0 {
        words.push(format!("{} of them thinking", heard.thinking_tokens));
    }
    if let Some(rate) = spoken.tokens_per_second() {
        words.push(match expected {
            Some(expected) => format!("{rate:.1} tokens/s ({expected:.1} were forecast)"),
            None => format!("{rate:.1} tokens/s"),
        });
    }
    if spoken.drafted.drafted > 0 {
        words.push(format!(
            "{} of {} drafted tokens accepted",
            spoken.drafted.accepted, spoken.drafted.drafted
        ));
    }
    words.push(format!(
        "{} prompt tokens in {:.1} s",
        spoken.prompt_tokens, spoken.prompt_seconds
    ));
    if !spoken.is_finished {
        words.push("cut short".to_owned());
    }
    words.join(", ")
}
