//! Every setting: its name, what it means, its default.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use frugal_run::consumption::WATTS_PER_CORE;
use toml::Spanned;
use toml::de::DeValue;

use super::given::{Given, Origin};
use super::read::{Reader, Sink, Written, quoted, read_item, refuse_item};
use crate::answer::Limits;
use crate::wire::chat::ReasoningField;

/// A section of the file.
pub(super) trait Section {
    /// Its name.
    const NAME: &'static str;
    /// Reads the fields that are there.
    fn read(&mut self, reader: &mut Reader<'_, '_, '_, '_>);
    /// Writes all of them, with what they mean.
    fn example(&self, text: &mut String);
}

/// Declares sections. A field without a default shows a sample instead, after `such as`.
macro_rules! sections {
    ($(
        $(#[doc = $about:literal])+
        $Section:ident $name:literal {
            $(
                $(#[doc = $doc:literal])+
                $field:ident : $T:ty = $usual:expr $(, such as $sample:literal)? ;
            )+
        }
    )+) => {
        $(
            $(#[doc = $about])+
            #[derive(Debug, Clone, PartialEq)]
            pub struct $Section {
                $(
                    $(#[doc = $doc])+
                    pub $field: Given<$T>,
                )+
            }

            impl Default for $Section {
                fn default() -> Self {
                    Self { $(
                        $field: Given::usual(concat!($name, ".", stringify!($field)), $usual),
                    )+ }
                }
            }

            impl Section for $Section {
                const NAME: &'static str = $name;

                fn read(&mut self, reader: &mut Reader<'_, '_, '_, '_>) {
                    $( reader.field(stringify!($field), &mut self.$field); )+
                }

                fn example(&self, text: &mut String) {
                    text.push('\n');
                    $( text.extend(["#", $about, "\n"]); )+
                    text.extend(["[", $name, "]\n"]);
                    $(
                        $( text.extend(["#", $doc, "\n"]); )+
                        let sample: &[&str] = &[$( $sample )?];
                        example(text, stringify!($field), self.$field.value.written(), sample);
                    )+
                }
            }
        )+

        /// All sections and the fields of each.
        pub(super) const FIELDS: &[(&str, &[&str])] =
            &[$( ($name, &[$( stringify!($field) ),+]) ),+];
    };
}

fn example(text: &mut String, name: &str, written: Option<String>, sample: &[&str]) {
    match (written, sample) {
        (_, [sample]) if sample.starts_with("[[") => {
            sample
                .lines()
                .for_each(|line| text.extend(["#", line, "\n"]));
        }
        (Some(written), _) => text.extend([name, " = ", &written, "\n"]),
        (None, sample) => text.extend(["#", name, " = ", &sample.concat(), "\n"]),
    }
}

sections! {
    /// Where it listens and how it treats connections.
    ServerSection "server" {
        /// Addresses it listens on. Anything beyond loopback needs keys.
        bind: Vec<String> = vec!["127.0.0.1:8080".into()];
        /// Names it is reached by, beside `localhost` and its addresses. Requests on loopback for
        /// another host are refused: they come from web pages that point their own name here.
        host_names: Vec<String> = Vec::new();
        /// The certificate chain and its key, PEM files. Both or none.
        tls_certificate: Option<PathBuf> = None, such as "\"/etc/frugal/cert.pem\"";
        /// See tls_certificate.
        tls_key: Option<PathBuf> = None, such as "\"/etc/frugal/key.pem\"";
        /// Web pages that may ask, as `https://chat.example.org`; `*` is any, where keys are required.
        cors_origins: Vec<String> = Vec::new();
        /// Connections at a time.
        max_connections: usize = 4096;
        /// Bytes of a request's head.
        max_head_bytes: Bytes = Bytes(64 << 10);
        /// Seconds in which the head of a request must come.
        head_seconds: u64 = 10;
        /// Seconds in which its body must come.
        body_seconds: u64 = 60;
        /// Seconds a client may take none of what it is sent.
        write_seconds: u64 = 60;
        /// Seconds a connection may be idle.
        idle_seconds: u64 = 300;
        /// Seconds a request may wait for its turn.
        queue_seconds: u64 = 600;
        /// Seconds a request may take in all.
        request_seconds: u64 = 3600;
        /// Seconds that requests under way have to end when the server is to stop.
        drain_seconds: u64 = 30;
        /// Seconds between two signs of life to a client that waits.
        keep_alive_seconds: u64 = 15;
        /// Whether `/metrics` may be read without a key where keys are required.
        open_metrics: bool = false;
        /// Whether prompts may stand in the log.
        log_prompts: bool = false;
    }
    /// What a request may hold. More is refused before anything is allocated for it.
    LimitsSection "limits" {
        /// Bytes of its body.
        body_bytes: Bytes = bytes(Limits::USUAL.body_bytes);
        /// Messages of a conversation.
        messages: usize = Limits::USUAL.messages;
        /// Answers.
        n: usize = Limits::USUAL.n;
        /// Stop texts.
        stops: usize = Limits::USUAL.stops;
        /// Bytes of one.
        stop_bytes: usize = Limits::USUAL.stop_bytes;
        /// Tools.
        tools: usize = Limits::USUAL.tools;
        /// Bytes of a schema, regular expression or grammar.
        schema_bytes: Bytes = bytes(Limits::USUAL.schema_bytes);
        /// Nesting of JSON.
        depth: usize = Limits::USUAL.depth;
        /// Tokens with a bias.
        biases: usize = Limits::USUAL.biases;
        /// Likeliest tokens at a place.
        likeliest: usize = Limits::USUAL.likeliest;
        /// Samples of a verified answer.
        verify_samples: usize = Limits::USUAL.verify_samples;
        /// Prompts of a completions request.
        prompts: usize = Limits::USUAL.prompts;
    }
    /// Which models it serves.
    ModelsSection "models" {
        /// The model that is loaded at the start. A request always names its own.
        default: Option<String> = None, such as "\"r1-tiny\"";
        /// Memory for weights and caches of all models; what the machine has room for if not given.
        memory: Option<Bytes> = None, such as "\"12 GiB\"";
        /// Models loaded at a time. One more unloads the one used least recently.
        max_loaded: usize = 4;
        /// Tokens of a sequence at most; as many as a model has positions if not given.
        context: Option<usize> = None, such as "32768";
        /// Whether every model of the store can be asked for by its full name: true, false, or
        /// "auto", which is true if none are listed below.
        whole_store: When = When::Auto;
        /// The models, one such part each, with either a path (a folder or a GGUF file) or a name of
        /// the store. Aliases are other names that clients may use; there are none but these.
        served: Vec<Served> = Vec::new(), such as "[[models.served]]\nname = \"r1-tiny\"\npath = \"runs/r1-tiny\"\naliases = [\"deepseek-chat\"]\n[[models.served]]\nstore = \"deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B\"";
    }
    /// How they are computed.
    EngineSection "engine" {
        /// Answers continued together, for each model.
        max_sequences: usize = 64;
        /// Tokens of prompts read between two tokens of those who are answered.
        prefill_rows: usize = 128;
        /// Requests that wait at most, for each model; more are told to come again.
        max_waiting: usize = 256;
        /// Whether what may follow is drafted where a text repeats itself, and several tokens are computed
        /// in one step. Answers are the same.
        drafts: bool = true;
        /// Bits of a number in the cache: 8, 16 or 32; as the device likes if not given.
        cache_bits: Option<u32> = None, such as "16";
        /// Threads that compute; one for each core if not given.
        threads: Option<usize> = None, such as "8";
    }
    /// Who may enter. Keys are made by `frugal keys add`.
    KeysSection "keys" {
        /// Whether requests need a key: true, false, or "auto", which is true beyond loopback.
        required: When = When::Auto;
    }
    /// The page that people open in a browser, at `/`.
    WebSection "web" {
        /// Whether there is one.
        enabled: bool = true;
        /// Folders of runs, or of folders of runs, to show beside the runs of this home.
        runs: Vec<PathBuf> = Vec::new();
    }
    /// What answers cost.
    PriceSection "price" {
        /// Money for an hour of one core.
        per_core_hour: f64 = 0.0;
        /// In which currency.
        currency: String = "EUR".into();
        /// Watts of a busy core, where the machine does not measure its energy.
        watts_per_core: f64 = WATTS_PER_CORE;
    }
    /// How models think.
    ReasoningSection "reasoning" {
        /// Where thoughts stand in an answer: "reasoning_content", "reasoning" or "both".
        field: ReasoningField = ReasoningField::Content;
        /// Tokens of a thought where a request does not say; no bound if not given.
        default_budget: Option<usize> = None, such as "8192";
        /// Whether thoughts that go in circles are closed.
        circles_guard: bool = true;
        /// Tokens of a thought by `reasoning_effort`: "none" does not think, "max" has no bound.
        effort_minimal: usize = 512;
        /// See effort_minimal.
        effort_low: usize = 2048;
        /// See effort_minimal.
        effort_medium: usize = 8192;
        /// See effort_minimal.
        effort_high: usize = 32_768;
        /// See effort_minimal.
        effort_xhigh: usize = 131_072;
    }
}

/// A number of bytes, written as a number or as `"12 GiB"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

const fn bytes(n: usize) -> Bytes {
    Bytes(n as u64)
}

/// Units of bytes, largest first of each kind.
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

impl fmt::Display for Bytes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_whole = |unit: &&(&str, u64)| self.0 >= unit.1 && self.0.is_multiple_of(unit.1);
        match UNITS.iter().filter(is_whole).max_by_key(|(_, unit)| *unit) {
            Some((name, unit)) => write!(out, "{} {name}", self.0 / unit),
            None => write!(out, "{} B", self.0),
        }
    }
}

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected {}, got {text:?}", Self::EXPECTED);
        let text_end = text.trim();
        let unit = UNITS.iter().find(|(name, _)| text_end.ends_with(name));
        let (number, unit) = match unit {
            Some((name, unit)) => (text_end.trim_end_matches(name).trim_end(), *unit),
            None => (text_end, 1),
        };
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if !is_digits(whole) || !is_digits(part) || whole.is_empty() || part.len() > 9 {
            return Err(wrong());
        }
        let whole: u128 = whole.parse().map_err(|_| wrong())?;
        let digits = u32::try_from(part.len()).map_err(|_| wrong())?;
        let part: u128 = format!("0{part}").parse().map_err(|_| wrong())?;
        let unit = u128::from(unit);
        let part = part * unit / 10_u128.pow(digits);
        let sum = whole
            .checked_mul(unit)
            .and_then(|whole| whole.checked_add(part));
        let sum = sum
            .and_then(|sum| u64::try_from(sum).ok())
            .ok_or_else(wrong)?;
        Ok(Self(sum))
    }
}

impl Written for Bytes {
    const EXPECTED: &'static str = "bytes as a whole number or as \"12 GiB\"";

    fn from_value(value: &DeValue<'_>) -> Option<Self> {
        match value {
            DeValue::String(text) => text.parse().ok(),
            value => u64::from_value(value).map(Self),
        }
    }

    fn written(&self) -> Option<String> {
        Some(quoted(&self.to_string()))
    }
}

/// Whether something is so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// As the rest of the configuration wants it.
    Auto,
    /// Yes.
    Yes,
    /// No.
    No,
}

impl From<bool> for When {
    fn from(is: bool) -> Self {
        if is { Self::Yes } else { Self::No }
    }
}

impl Written for When {
    const EXPECTED: &'static str = "true, false or \"auto\"";

    fn from_value(value: &DeValue<'_>) -> Option<Self> {
        match value {
            DeValue::Boolean(is) => Some(Self::from(*is)),
            DeValue::String(text) if text == "auto" => Some(Self::Auto),
            _ => None,
        }
    }

    fn written(&self) -> Option<String> {
        let text = match self {
            Self::Auto => "\"auto\"",
            Self::Yes => "true",
            Self::No => "false",
        };
        Some(text.into())
    }
}

impl ReasoningField {
    const ALL: [(&'static str, Self); 3] = [
        ("reasoning_content", Self::Content),
        ("reasoning", Self::Bare),
        ("both", Self::Both),
    ];
}

impl FromStr for ReasoningField {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.iter().find(|(name, _)| *name == text);
        let known = known.map(|(_, field)| *field);
        known.ok_or_else(|| format!("expected {}, got {text:?}", Self::EXPECTED))
    }
}

impl Written for ReasoningField {
    const EXPECTED: &'static str = "\"reasoning_content\", \"reasoning\" or \"both\"";

    fn from_value(value: &DeValue<'_>) -> Option<Self> {
        String::from_value(value)?.parse().ok()
    }

    fn written(&self) -> Option<String> {
        let known = Self::ALL.iter().find(|(_, field)| field == self);
        known.map(|(name, _)| quoted(name))
    }
}

/// Where a model's files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A folder or a GGUF file.
    Path(PathBuf),
    /// A name of the store.
    Store(String),
}

/// A model that is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// The name clients use.
    pub name: String,
    /// Where its files are.
    pub source: Source,
    /// Other names clients may use.
    pub aliases: Vec<String>,
    /// Where it was written.
    pub origin: Origin,
}

impl Served {
    /// One that the command line names.
    pub fn by_flag(name: impl Into<String>, source: Source) -> Self {
        Self {
            name: name.into(),
            source,
            aliases: Vec::new(),
            origin: Origin::Flag("MODEL"),
        }
    }
}

impl Written for Served {
    const EXPECTED: &'static str = "a section with name, path or store, and aliases";
    // A list without one of its models would seem to lack what others name.
    const IS_OF_USE_IN_PART: bool = false;

    fn from_value(_: &DeValue<'_>) -> Option<Self> {
        // Read below: what is wrong with its parts is told part by part.
        None
    }

    fn read(value: &Spanned<DeValue<'_>>, _: &str, sink: &mut Sink<'_>) -> Option<Self> {
        const PLACE: &str = "models.served";
        let item = read_item(value, PLACE, &["name", "path", "store"], sink)?;
        let (name, source) = match item.texts.as_slice() {
            [name, None, Some(store)] => {
                let name = name.clone().unwrap_or_else(|| store.clone());
                (name, Source::Store(store.clone()))
            }
            [Some(name), Some(path), None] => (name.clone(), Source::Path(path.into())),
            [None, Some(_), None] => {
                let message = "expected a name for clients beside the path, got none";
                refuse_item(sink, item.line, PLACE, message);
                return None;
            }
            _ => {
                let message = "expected either a path or a store";
                refuse_item(sink, item.line, PLACE, message);
                return None;
            }
        };
        Some(Self {
            name,
            source,
            aliases: item.aliases,
            origin: Origin::Line(item.line),
        })
    }

    fn written(&self) -> Option<String> {
        None
    }
}
