//! A catalogue without any file: what it is told to hold, and what was done with it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use frugal_run::Stop;
use frugal_run::hub::{Progress, Wanted, Watch};
use frugal_serve::models::{Ancestor, Catalogue, Cost, Entry, Forecast, Origin};

/// Models that a test has in stock.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stock {
    pub(crate) entries: Arc<Mutex<Vec<Entry>>>,
    pub(crate) forecasts: Arc<AtomicUsize>,
}

/// A model from a hub.
pub(crate) fn stored(name: &str, base: &str) -> Entry {
    Entry {
        name: name.into(),
        stored: Some(name.into()),
        bytes: 100,
        parameters: Some(7),
        licence: Some("mit".into()),
        base_models: vec![base.into()],
        method: Some("quantized".into()),
        origin: Some(Origin::Hub {
            address: format!("https://hub.example/{name}"),
            revision: "0123".into(),
        }),
        created: 5,
        ..Entry::default()
    }
}

/// A model of a run on this machine.
pub(crate) fn of_run(name: &str) -> Entry {
    Entry {
        name: name.into(),
        bytes: 100,
        method: Some("grpo".into()),
        origin: Some(Origin::Path("/home/secret/runs/a".into())),
        before: vec![Ancestor {
            name: "base".into(),
            method: Some("pretrain".into()),
            teacher: None,
        }],
        cost: Some(Cost {
            flops: 1e15,
            core_seconds: 60.0,
            joules: 480.0,
            money: vec![("EUR".into(), 0.5)],
        }),
        ..Entry::default()
    }
}

impl Stock {
    pub(crate) fn with(entries: Vec<Entry>) -> Self {
        Self {
            entries: Arc::new(Mutex::new(entries)),
            ..Self::default()
        }
    }
}

impl Catalogue for Stock {
    fn entries(&self) -> Result<Vec<Entry>, String> {
        Ok(self.entries.lock().unwrap().clone())
    }

    fn card(&self, name: &str) -> Option<String> {
        (name == "o/n").then(|| "# Title".into())
    }

    fn forecast(&self, name: &str) -> Result<Forecast, String> {
        self.forecasts.fetch_add(1, Ordering::Relaxed);
        if name == "m" {
            return Ok(Forecast {
                tokens_per_second: 10.0,
                prompt_tokens_per_second: 100.0,
                memory_bytes: 1000,
            });
        }
        Err("cannot read /home/secret/model.safetensors".into())
    }

    /// `o/slow` never comes to an end by itself, `o/gone` is not there.
    fn pull(&self, wanted: &Wanted, stop: &Stop, watch: &mut Watch<'_>) -> Result<String, String> {
        let name = &wanted.id;
        if name == "o/gone" {
            return Err("the hub has no model o/gone".into());
        }
        watch(&Progress::Listed {
            name,
            revision: &wanted.revision,
            n_files: 1,
            bytes: 100,
        });
        let mut have = 0;
        while have < 100 {
            let file = "model.safetensors";
            watch(&Progress::Bytes {
                file,
                have,
                bytes: 100,
            });
            if stop.is_asked() {
                return Err("stopped before the end, as asked".into());
            }
            if name == "o/slow" {
                std::thread::sleep(Duration::from_millis(5));
            } else {
                have += 10;
            }
        }
        watch(&Progress::End {
            file: "model.safetensors",
            bytes: 100,
        });
        self.entries.lock().unwrap().push(stored(name, "o/base"));
        Ok(name.clone())
    }

    fn verify(
        &self,
        stored: &str,
        _stop: &Stop,
        _watch: &mut Watch<'_>,
    ) -> Result<Vec<String>, String> {
        Ok(match stored {
            "o/bad" => vec!["model.safetensors: expected 100 bytes, found 99".into()],
            _ => Vec::new(),
        })
    }

    fn remove(&self, stored: &str) -> Result<(), String> {
        let mut entries = self.entries.lock().unwrap();
        entries.retain(|entry| entry.stored.as_deref() != Some(stored));
        Ok(())
    }
}
