//! `frugal doctor`: what this machine offers, and whether the ledger can be kept; with `--api`, how
//! well a server speaks.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::ExitCode;

use frugal_run::consumption::unix_seconds;
use frugal_run::ledger::Ledger;
use frugal_serve::keys::Keys;
use serde_json::{Value, json};

use crate::cli::{Common, Doctor};
use crate::device::{self, Precision};
use crate::output::{metric, say, say_json};
use crate::{home, limits};

mod api;

/// The port that `frugal serve` listens on where nobody says otherwise.
const PORT: u16 = 8080;
/// Files that a server may have to have open: a client is one.
const FILES_OF_A_SERVER: u64 = 4096;

pub(crate) fn run(common: &Common, arguments: &Doctor) -> anyhow::Result<ExitCode> {
    match &arguments.api {
        Some(url) => api::run(common, arguments, url),
        None => machine(common),
    }
}

/// One thing that was looked at: its name, what machines are told and what people are.
struct Line {
    name: &'static str,
    value: Value,
    words: String,
}

impl Line {
    fn new(name: &'static str, value: impl Into<Value>, words: impl Into<String>) -> Self {
        let (value, words) = (value.into(), words.into());
        Self { name, value, words }
    }
}

fn machine(common: &Common) -> anyhow::Result<ExitCode> {
    let home = home::of(common)?;
    let ledger = Ledger::open(&home);
    let mut lines = processor(common)?;
    lines.extend(room(&home));
    lines.extend(network(&home));
    lines.push(match &ledger {
        Ok(_) => Line::new("ledger", "ok", "ok"),
        Err(error) => Line::new("ledger", error.to_string(), error.to_string()),
    });
    if common.json {
        let named = |line: Line| (line.name.to_owned(), line.value);
        let mut all = serde_json::Map::from_iter([("event".to_owned(), json!("doctor"))]);
        all.extend(lines.into_iter().map(named));
        say_json(&all)?;
    } else {
        for line in lines {
            say(format!("{:<17}{}", words_for(line.name), line.words));
        }
    }
    Ok(if ledger.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What people call what machines have a name for.
fn words_for(name: &str) -> String {
    let known = [
        ("isa", "instructions"),
        ("peak_bf16_flops", "bf16 products"),
        ("peak_f32_flops", "f32 products"),
        ("bytes_per_second", "memory speed"),
        ("memory_free_bytes", "memory free"),
        ("disk_free_bytes", "disk free"),
        ("port_8080", "port 8080"),
        ("keys_live", "keys"),
    ];
    let found = known.into_iter().find(|(known, _)| *known == name);
    found.map_or_else(|| name.replace('_', " "), |(_, words)| words.to_owned())
}

fn processor(common: &Common) -> anyhow::Result<Vec<Line>> {
    let device = device::open(common, Precision::Bf16)?;
    let isa = format!("{:?}", device.isa());
    let products = |name, precision| {
        let peak = device::peak(&device, precision);
        Line::new(name, peak, format!("{}FLOP/s", metric(peak)))
    };
    let (bf16, f32) = (
        products("peak_bf16_flops", Precision::Bf16),
        products("peak_f32_flops", Precision::F32),
    );
    let bandwidth = device::bandwidth(&device);
    let speed = format!("{}B/s read", metric(bandwidth));
    let threads = device.threads();
    Ok(vec![
        Line::new("isa", isa.to_lowercase(), isa),
        Line::new("threads", threads, threads.to_string()),
        bf16,
        f32,
        Line::new("bytes_per_second", bandwidth, speed),
    ])
}

fn room(home: &Path) -> Vec<Line> {
    let bytes = |bytes: u64| format!("{}B", metric(bytes as f64));
    let memory = limits::free_memory();
    let disk = limits::free_disk(home);
    let unknown = || "the system does not tell".to_owned();
    vec![
        Line::new("memory_free_bytes", memory, bytes(memory)),
        Line::new(
            "home",
            home.display().to_string(),
            home.display().to_string(),
        ),
        Line::new("disk_free_bytes", disk, disk.map_or_else(unknown, bytes)),
    ]
}

fn network(home: &Path) -> Vec<Line> {
    let is_free = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)).is_ok();
    let port = if is_free { "free" } else { "taken" };
    let keys = match live_keys(home) {
        Ok(0) => Line::new("keys_live", 0, "none: only this machine can be served"),
        Ok(live) => Line::new("keys_live", live, format!("{live} let in")),
        Err(error) => Line::new("keys_live", Value::Null, format!("{error:#}")),
    };
    let files = limits::open_files();
    let most = files.and_then(|(now, most)| most.map(|most| most.max(now)));
    let words = match (files, most) {
        (None, _) => "no limit".to_owned(),
        (Some((now, _)), None) => format!("{now}, and more on request"),
        (Some((now, _)), Some(most)) if most < FILES_OF_A_SERVER => {
            format!("{now}, at most {most}: fewer clients than a server could take")
        }
        (Some((now, _)), Some(most)) => format!("{now}, at most {most}"),
    };
    vec![
        Line::new("port_8080", port, port),
        keys,
        Line::new("open_files", files.map(|(now, _)| now), words),
    ]
}

/// Keys that let in.
fn live_keys(home: &Path) -> anyhow::Result<usize> {
    let now = unix_seconds();
    let keys = Keys::open(home)?.list()?;
    Ok(keys.iter().filter(|key| key.is_live(now)).count())
}
