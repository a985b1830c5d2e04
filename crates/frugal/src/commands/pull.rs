//! `frugal pull`: a model from the hub, or from a folder or file, into the store.

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use frugal_run::hub::{Hub, Progress, Wanted};
use frugal_run::models::{self, Added, Import, ModelName, Store, Take};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use crate::cli::{Common, Pull};
use crate::facts::Known;
use crate::home;
use crate::output::{Usage, metric, say, say_json, tell};

/// Bytes of one GB, as disks are sold.
const GB: u64 = 1_000_000_000;

pub(crate) fn run(common: &Common, arguments: &Pull) -> anyhow::Result<ExitCode> {
    let store = Store::open(&home::of(common)?)?;
    let name = arguments.name.as_deref().map(str::parse::<ModelName>);
    let name = name.transpose().map_err(|error| Usage(error.to_string()))?;
    let mut teller = Teller::new(common);
    let path = Path::new(&arguments.model);
    let added = if path.exists() {
        let import = Import {
            path,
            name: name.as_ref(),
            take: if arguments.link {
                Take::Link
            } else {
                Take::Copy
            },
        };
        store.import(import, &Known, &mut |progress| teller.hear(progress))
    } else {
        if arguments.link {
            let message = format!(
                "expected a folder or GGUF file of this machine to link, got {}",
                arguments.model
            );
            return Err(Usage(message).into());
        }
        let wanted: Wanted = arguments
            .model
            .parse()
            .map_err(|error| Usage(format!("{error}; nor is there such a file or folder")))?;
        let mut settings = home::hub();
        settings.most_bytes = arguments.max_size.saturating_mul(GB);
        let pull = models::Pull {
            wanted: &wanted,
            name: name.as_ref(),
        };
        let hub = Hub::new(settings)?;
        store.pull(&hub, pull, &Known, &mut |progress| teller.hear(progress))
    };
    teller.finish();
    let added = added.with_context(|| format!("pull {}", arguments.model))?;
    let (model, is_new) = match &added {
        Added::New(model) => (model, true),
        Added::Already(model) => (model, false),
    };
    if common.json {
        say_json(&json!({ "event": "pulled", "new": is_new, "model": model }))?;
    } else {
        let bytes = metric(model.bytes as f64);
        let facts = &model.facts;
        let what = format!("{}, {}, {bytes}B", facts.architecture, facts.format);
        let was = if is_new { "" } else { " already" };
        say(format!("{} is in the store{was}: {what}", model.name));
    }
    Ok(ExitCode::SUCCESS)
}

/// How progress is told.
enum How {
    Bar(ProgressBar),
    Lines,
    Json,
    Quiet,
}

/// Tells how a model comes in or is checked: a bar on a terminal, lines in a pipe, JSON for
/// machines.
pub(crate) struct Teller {
    how: How,
    /// Parts of the file that were told of.
    told: u64,
}

/// Lines and JSON are told at each so many parts of a file.
const PARTS: u64 = 10;
/// Of files smaller than this only the end is told.
const SMALL: u64 = 100_000_000;

impl Teller {
    pub(crate) fn new(common: &Common) -> Self {
        let how = if common.json {
            How::Json
        } else if common.quiet {
            How::Quiet
        } else if std::io::stderr().is_terminal() {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let style = "{msg:40!} {bar:24} {bytes:>10}/{total_bytes:<10} {bytes_per_sec} +{eta}";
            let style = ProgressStyle::with_template(style)
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .progress_chars("=> ");
            bar.set_style(style);
            How::Bar(bar)
        } else {
            How::Lines
        };
        Self { how, told: 0 }
    }

    /// Hears of progress and tells of it.
    pub(crate) fn hear(&mut self, progress: &Progress<'_>) {
        let is_due = self.is_due(progress);
        match &self.how {
            How::Bar(bar) => show(bar, progress),
            How::Lines if is_due => {
                if let Some(line) = line(progress) {
                    tell(line);
                }
            }
            How::Json if is_due => {
                if let Some(event) = event(progress) {
                    say(event);
                }
            }
            How::Lines | How::Json | How::Quiet => {}
        }
    }

    fn is_due(&mut self, progress: &Progress<'_>) -> bool {
        match progress {
            Progress::Begin { .. } => {
                self.told = 0;
                true
            }
            Progress::Bytes { have, bytes, .. } => {
                let part = have / (bytes / PARTS).max(1);
                let is_new = part != self.told && have < bytes && *bytes >= SMALL;
                self.told = part;
                is_new
            }
            _ => true,
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        if let How::Bar(bar) = &self.how {
            bar.finish_and_clear();
        }
    }
}

fn show(bar: &ProgressBar, progress: &Progress<'_>) {
    match progress {
        Progress::Begin { file, have, bytes } => {
            bar.set_length(*bytes);
            bar.set_position(*have);
            // The rate is that of what comes now.
            bar.reset_eta();
            bar.set_message((*file).to_owned());
        }
        Progress::Bytes { have, .. } => bar.set_position(*have),
        Progress::End { .. } => {}
        other => {
            if let Some(line) = line(other) {
                bar.println(line);
            }
        }
    }
}

fn line(progress: &Progress<'_>) -> Option<String> {
    let size = |bytes: u64| format!("{}B", metric(bytes as f64));
    Some(match progress {
        Progress::Listed {
            name,
            revision,
            n_files,
            bytes,
        } => {
            let at = if revision.is_empty() { "" } else { "@" };
            format!("{name}{at}{revision}: {n_files} files, {}", size(*bytes))
        }
        Progress::Begin { file, have, bytes } if *have > 0 => {
            format!("{file}: {} of {} are there", size(*have), size(*bytes))
        }
        Progress::Bytes { file, have, bytes } => {
            format!("{file}: {} of {}", size(*have), size(*bytes))
        }
        Progress::Retry {
            what,
            attempt,
            pause,
            reason,
        } => format!(
            "{what}: attempt {attempt} failed, next in {:.1} s: {reason}",
            pause.as_secs_f64()
        ),
        Progress::End { file, bytes } => format!("{file}: {}, digest right", size(*bytes)),
        _ => return None,
    })
}

fn event(progress: &Progress<'_>) -> Option<serde_json::Value> {
    Some(match progress {
        Progress::Listed {
            name,
            revision,
            n_files,
            bytes,
        } => json!({
            "event": "listed", "name": name, "revision": revision, "files": n_files, "bytes": bytes,
        }),
        Progress::Begin { file, have, bytes } | Progress::Bytes { file, have, bytes } => {
            json!({ "event": "file", "file": file, "have": have, "bytes": bytes })
        }
        Progress::Retry {
            what,
            attempt,
            pause,
            reason,
        } => json!({
            "event": "retry", "what": what, "attempt": attempt,
            "pause_seconds": pause.as_secs_f64(), "reason": reason.to_string(),
        }),
        Progress::End { file, bytes } => {
            json!({ "event": "file_end", "file": file, "bytes": bytes })
        }
        _ => return None,
    })
}
