//! `frugal chat`: a conversation in a terminal or a pipe, the thinking apart from the answer.

mod show;
mod talk;

use std::fs;
use std::io::{self, BufRead, IsTerminal, Read};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context;
use frugal_core::backend::Sampling;
use frugal_eval::encode::{Codec, is_of_task};
use frugal_eval::tasks;
use frugal_text::reasoning::Markup;

use crate::cli::{Chat, Common, Products, Serve};
use crate::commands::serve;
use crate::device::{self, Precision};
use crate::forecast::Machine;
use crate::models::{self, Opened, Source};
use crate::output::{metric, tell};
use crate::speaker::{Speaker, drafting};
use talk::{Checker, Prompting, Talk};

/// Longest line, and longest text from a pipe, that is read.
const MAX_BYTES: u64 = 4 << 20;
/// How R1's makers sample, for models that say nothing.
const TEMPERATURE: f32 = 0.6;
const TOP_P: f32 = 0.95;

pub(crate) fn run(common: &Common, arguments: &Chat) -> anyhow::Result<ExitCode> {
    let source = models::find(common, &arguments.which)?;
    match arguments.web {
        Some(at) => serve::run(common, &Serve::one(&source, at)),
        None => here(common, arguments, &source),
    }
}

/// The conversation in this terminal or pipe.
fn here(common: &Common, arguments: &Chat, source: &Source) -> anyhow::Result<ExitCode> {
    let opened = source.open()?;
    let text = opened.text()?;
    let checker = checker(source, &opened)?;
    let prompting = if arguments.raw {
        Prompting::Raw {
            bos: text.first_token(&opened.config),
        }
    } else {
        let given = match &arguments.template {
            Some(path) => Some(
                fs::read_to_string(path)
                    .with_context(|| format!("cannot read {}", path.display()))?,
            ),
            None => None,
        };
        let template = text.template(given.as_deref())?;
        Prompting::Chat(Box::new(template))
    };
    let precision = match arguments.products {
        Products::Bf16 => Precision::Bf16,
        Products::F32 => Precision::F32,
    };
    let device = device::open(common, precision)?;
    let watch = frugal_run::consumption::Stopwatch::start();
    let model = opened.load(&device, opened.positions(arguments.context))?;
    let stdin = io::stdin();
    let is_terminal = stdin.is_terminal() && arguments.message.is_none() && !common.json;
    if is_terminal && !common.quiet {
        tell(format!(
            "{} ({}B on disk, ready in {:.1} s). /help for commands; Ctrl-C stops an answer, Ctrl-D ends",
            opened.name,
            metric(opened.bytes as f64),
            watch.seconds()
        ));
        if let Some(checker) = &checker {
            tell(format!("it knows problems like `{}`", checker.example()?));
        }
    }
    let context = opened.positions(arguments.context);
    let forecast = if arguments.forecast {
        let mut machine = Machine::measure(&device);
        let cache = (context, arguments.cache_bits.into());
        let forecast = machine.forecast(&opened.config, &models::formats(&opened), cache)?;
        Some(forecast.answer_tokens_per_second)
    } else {
        None
    };
    let drawing = (
        sampling(arguments, &opened, checker.is_some()),
        drafting(arguments.draft),
        arguments.cache_bits.into(),
    );
    let mut stops = opened.stops()?;
    stops.extend(markup(&prompting).map(|markup| markup.eos));
    let stopped = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::clone(&stopped))?;
    let mut talk = Talk {
        common,
        tokenizer: &text.tokenizer,
        prompting,
        checker,
        stops: stops.clone(),
        speaker: Speaker::new(&device, &model, drawing, stops, arguments.seed)?,
        stopped,
        forecast,
        max_tokens: arguments.max_tokens,
        thinks: arguments.think,
        is_folded: false,
        system: arguments.system.clone(),
        messages: Vec::new(),
        transcript: Vec::new(),
    };
    if let Some(message) = &arguments.message {
        talk.ask(message)?;
    } else if is_terminal {
        let mut reader = stdin.lock();
        while let Some(line) = read_line(&mut reader)? {
            if !talk.hear(&line) {
                break;
            }
        }
        // Ctrl-D leaves the cursor behind the prompt.
        tell("");
    } else if talk.checker.is_some() {
        // Problems of a task come one a line.
        for line in stdin.lock().take(MAX_BYTES).lines() {
            let line = line?;
            if !line.trim().is_empty()
                && let Err(error) = talk.ask(line.trim())
            {
                tell(format!("{error:#}"));
            }
        }
    } else {
        let mut message = String::new();
        stdin.lock().take(MAX_BYTES).read_to_string(&mut message)?;
        talk.ask(message.trim_end())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The marks of a template that has them.
fn markup(prompting: &Prompting) -> Option<Markup> {
    match prompting {
        Prompting::Chat(template) => template.markup().ok(),
        Prompting::Raw { .. } => None,
    }
}

/// Asks at the terminal for a line; one that ends with a backslash goes on.
fn read_line(reader: &mut impl BufRead) -> anyhow::Result<Option<String>> {
    let mut text = String::new();
    loop {
        show::prompt(if text.is_empty() { "> " } else { "  " });
        let mut line = String::new();
        let read = reader.by_ref().take(MAX_BYTES).read_line(&mut line)?;
        if read == 0 {
            return Ok(None);
        }
        let line = line.trim_end_matches(['\n', '\r']);
        let Some(begun) = line.strip_suffix('\\') else {
            text.push_str(line);
            return Ok(Some(text));
        };
        text.push_str(begun);
        text.push('\n');
    }
}

/// How tokens are drawn: as asked, else as the model's makers say, else as R1's do; a run's tiny
/// model takes the likeliest.
fn sampling(arguments: &Chat, opened: &Opened, is_run: bool) -> Sampling {
    let makers = opened.text.as_ref().map(|text| text.generation.clone());
    let makers = makers.unwrap_or_default();
    let usual = if is_run { 0.0 } else { TEMPERATURE };
    let temperature = arguments
        .temperature
        .or(makers.temperature)
        .unwrap_or(usual);
    Sampling {
        temperature,
        top_p: arguments.top_p.or(makers.top_p).unwrap_or(TOP_P),
        top_k: makers.top_k.unwrap_or(0),
        ..Sampling::PLAIN
    }
}

/// A run's task, to tell right from wrong.
fn checker(source: &Source, opened: &Opened) -> anyhow::Result<Option<Checker>> {
    let Some(recipe) = &source.recipe else {
        return Ok(None);
    };
    let task = tasks::by_name(&recipe.task.name, None)?;
    let tokenizer = &opened.text()?.tokenizer;
    // A published model that a run started from is talked to as such.
    if !is_of_task(tokenizer, task.as_ref()) {
        return Ok(None);
    }
    let codec = Codec::new(tokenizer)?;
    Ok(Some(Checker { task, codec }))
}
