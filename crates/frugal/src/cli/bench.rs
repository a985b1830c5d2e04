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
