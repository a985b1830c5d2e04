//! The flags of `frugal bench`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{CacheBits, Draft};

#[derive(Debug, Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    pub(crate) what: BenchOf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchOf {
    /// Products of matrices, by shape and format
    Gemm(BenchGemm),
    /// Reading memory, with one core and with all
    Bandwidth(BenchBandwidth),
    /// Training steps on random tokens
    Train(BenchTrain),
    /// Steps of reinforcement learning: answers drawn, rewarded and learnt from
    Grpo(BenchGrpo),
    /// Reading a prompt
    Prefill(BenchPrefill),
    /// Generating, token after token
    Decode(BenchDecode),
    /// A server under load: this one with a model, or any other
    Serve(Box<BenchServe>),
    /// Write a model with the random weights of a shape, to measure others on the very same file
    Model(BenchModel),
}

/// How often.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Trials {
    /// Repetitions of everything, in turns, after one that is not counted
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) repetitions: usize,
}

/// Which model is measured.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Subject {
    /// A shape that is known here, with random weights
    #[arg(long, value_enum)]
    pub(crate) shape: Option<KnownShape>,
    /// A config.json, with random weights
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// A folder with config.json, a GGUF file, a run's folder, or the name of a model that was pulled
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum KnownShape {
    /// 6 layers, 256 wide, SwiGLU of 768: 4.7 M parameters
    TinyDense,
    /// V3's, 6 layers, 256 wide, 16 experts of 128, 4 chosen
    TinyMoe,
    /// The main model of the recipe r1-tiny
    R1Tiny,
    /// Qwen2-1.5B's
    #[value(name = "qwen2-1.5b")]
    Qwen2,
    /// V3's, 6 layers, 2048 wide, 64 experts of 1408, 6 chosen
    V3Moe,
}

/// How random weights are stored.
#[derive(Debug, Clone, Args)]
pub(crate) struct Storage {
    /// What random weights are stored in: f32, bf16, f16, fp8, q8_0, q4_0, q4_k or another block format
    #[arg(long, value_name = "FORMAT", default_value = "q8_0")]
    pub(crate) format: String,
}

#[derive(Debug, Args)]
pub(crate) struct BenchGemm {
    #[command(flatten)]
    pub(crate) trials: Trials,
    /// Outputs and inputs of a weight, may be repeated [default: a table of them]
    #[arg(long = "size", value_name = "NxK")]
    pub(crate) sizes: Vec<String>,
    /// Rows that are multiplied with it, may be repeated
    #[arg(long, value_name = "N", default_values_t = [1, 16, 512])]
    pub(crate) rows: Vec<usize>,
}

#[derive(Debug, Args)]
pub(crate) struct BenchBandwidth {
    #[command(flatten)]
    pub(crate) trials: Trials,
}

#[derive(Debug, Args)]
pub(crate) struct BenchTrain {
    #[command(flatten)]
    pub(crate) subject: Subject,
    #[command(flatten)]
    pub(crate) trials: Trials,
    /// Sequences of a step
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub(crate) sequences: usize,
    /// Tokens of a sequence
    #[arg(long, value_name = "TOKENS", default_value_t = 256)]
    pub(crate) length: usize,
    /// Steps of a repetition
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) steps: usize,
    /// Products in f32 instead of bf16
    #[arg(long)]
    pub(crate) f32: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BenchGrpo {
    #[command(flatten)]
    pub(crate) subject: Subject,
    #[command(flatten)]
    pub(crate) trials: Trials,
    /// Prompts of a step
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub(crate) prompts: usize,
    /// Answers to each
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub(crate) samples: usize,
    /// Tokens of a prompt
    #[arg(long, value_name = "TOKENS", default_value_t = 32)]
    pub(crate) prompt: usize,
    /// Tokens of an answer
    #[arg(long, value_name = "TOKENS", default_value_t = 64)]
    pub(crate) tokens: usize,
    /// Products in f32 instead of bf16
    #[arg(long)]
    pub(crate) f32: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BenchPrefill {
    #[command(flatten)]
    pub(crate) subject: Subject,
    #[command(flatten)]
    pub(crate) storage: Storage,
    #[command(flatten)]
    pub(crate) trials: Trials,
    /// Tokens of the prompt
    #[arg(long, value_name = "TOKENS", default_value_t = 512)]
    pub(crate) tokens: usize,
}

#[derive(Debug, Args)]
pub(crate) struct BenchDecode {
    #[command(flatten)]
    pub(crate) subject: Subject,
    #[command(flatten)]
    pub(crate) storage: Storage,
    #[command(flatten)]
    pub(crate) trials: Trials,
    /// Tokens that each stream generates
    #[arg(long, value_name = "TOKENS", default_value_t = 64)]
    pub(crate) tokens: usize,
    /// Streams at once
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) streams: usize,
    /// Tokens that each stream begins with
    #[arg(long, value_name = "TOKENS", default_value_t = 16)]
    pub(crate) prompt: usize,
    /// Who drafts tokens for the model to judge several at a time
    #[arg(long, value_enum, default_value_t = Draft::None)]
    pub(crate) draft: Draft,
    /// Follow a text (or a JSON list of token ids) instead of what the model draws, with drafts and
    /// without in turns
    #[arg(long, value_name = "FILE")]
    pub(crate) text: Option<PathBuf>,
    /// Bits of each number in the cache of keys and values
    #[arg(long, value_enum, default_value_t = CacheBits::Full)]
    pub(crate) cache_bits: CacheBits,
}

#[derive(Debug, Args)]
pub(crate) struct BenchModel {
    #[command(flatten)]
    pub(crate) subject: Subject,
    #[command(flatten)]
    pub(crate) storage: Storage,
    /// Where to: a new folder, or a file that ends in .gguf
    pub(crate) out: PathBuf,
}

/// By which route a server is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum AskedBy {
    /// /v1/chat/completions
    Chat,
    /// /v1/completions
    Completions,
}

/// What is tried instead of measuring rates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LoadTest {
    /// Many streams at a time: each text is the one that its request gets alone; memory stays
    Whole,
    /// Five times what the server can do: it goes on, refuses the rest politely and recovers
    Overload,
    /// Clients that do not read or never finish asking hold nobody up
    Slow,
    /// What was held for a client that leaves is free at once (frugal's own server only)
    Leave,
}

#[derive(Debug, Args)]
pub(crate) struct BenchServe {
    /// Serve this model meanwhile, on a port of this machine: a folder with config.json, a GGUF file, a
    /// run's folder, or the name of a model that was pulled
    #[arg(
        value_name = "MODEL",
        required_unless_present = "url",
        conflicts_with = "url"
    )]
    pub(crate) served: Option<String>,
    /// A server that runs already, of OpenAI's interface: http://HOST:PORT
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// The model's name there [default: the first it lists]
    #[arg(long, value_name = "NAME", requires = "url")]
    pub(crate) model: Option<String>,
    /// The key it wants
    #[arg(long, value_name = "KEY", requires = "url")]
    pub(crate) key: Option<String>,
    /// Its process, where that runs here: its memory is watched
    #[arg(long, value_name = "PID", requires = "url")]
    pub(crate) pid: Option<u32>,
    /// The route
    #[arg(long, value_enum, default_value_t = AskedBy::Chat)]
    pub(crate) route: AskedBy,
    /// Clients at a time who ask again when they are answered, may be repeated [default: 1 4 16 64]
    #[arg(long, value_name = "N")]
    pub(crate) streams: Vec<usize>,
    /// Requests that come a second at random moments, answered or not, may be repeated
    #[arg(long, value_name = "R")]
    pub(crate) rate: Vec<f64>,
    /// Requests of a row [default: 8 a stream, 16 or more; with --rate what --seconds makes]
    #[arg(long, value_name = "N", conflicts_with = "seconds")]
    pub(crate) requests: Option<usize>,
    /// How long a row takes, or a test [default: 20 with --rate, 30 for tests]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) seconds: Option<f64>,
    /// Tokens of an answer
    #[arg(long, value_name = "TOKENS", default_value_t = 64)]
    pub(crate) tokens: usize,
    /// Tokens of a prompt, nearly
    #[arg(long, value_name = "TOKENS", default_value_t = 64)]
    pub(crate) prompt_tokens: usize,
    /// How tokens are drawn
    #[arg(long, value_name = "T", default_value_t = 1.0)]
    pub(crate) temperature: f64,
    /// Try this instead (may be repeated); the exit code says whether all was well
    #[arg(long, value_enum, value_name = "TEST")]
    pub(crate) test: Vec<LoadTest>,
    /// Of MODEL's server: answers made together
    #[arg(long, value_name = "N", conflicts_with = "url")]
    pub(crate) max_sequences: Option<usize>,
    /// Of MODEL's server: requests that wait at most
    #[arg(long, value_name = "N", conflicts_with = "url")]
    pub(crate) max_waiting: Option<usize>,
    /// Of MODEL's server: memory for weights and cache, as 800MiB
    #[arg(long, value_name = "BYTES", conflicts_with = "url")]
    pub(crate) memory: Option<String>,
}
