//! The command line: verbs and their flags. Flags and the environment are read here and nowhere
//! else; what a verb does is in `commands/`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use frugal_core::backend::KeyBits;

mod bench;
mod doctor;
mod serve;

pub(crate) use bench::*;
pub(crate) use doctor::*;
pub(crate) use serve::*;

/// Builds, improves, distils and runs reasoning models on the chips one has, and says what it cost.
#[derive(Debug, Parser)]
#[command(
    name = "frugal",
    version,
    propagate_version = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What every verb understands.
#[derive(Debug, Clone, Args)]
pub(crate) struct Common {
    /// Where models and the ledger live [default: the platform's data folder]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) home: Option<PathBuf>,
    /// One JSON object a line on standard output, for machines
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// No progress; results and errors only
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Threads to compute with [default: all cores]
    #[arg(long, global = true, value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// Use at most this instruction set: amx, avx512bf16, avx512, avx2, neon, portable
    #[arg(long, global = true, value_name = "ISA")]
    pub(crate) isa: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run a recipe: train, evaluate, report, bill
    Run(Run),
    /// Show what a recipe would do, or what a model would need here, without doing it
    Plan(PlanOf),
    /// Fine-tune a model on a task's worked answers
    Sft(Improve),
    /// Improve a model by reinforcement learning on a task
    Grpo(Improve),
    /// Sample a model on a task and keep what is right
    Reject(Improve),
    /// Let a model teach a new, small one on a task
    Distill(Distill),
    /// Talk to a model
    Chat(Chat),
    /// Serve models over HTTP: OpenAI's, DeepSeek's, Anthropic's and Ollama's interfaces
    Serve(Box<Serve>),
    /// Keys of the server's clients: add, list, revoke, rotate
    Keys(Keys),
    /// Evaluate a model on a task's held-out problems
    Eval(Eval),
    /// Write a model in another format: a folder, or a GGUF file
    Export(Export),
    /// Write a model in fewer bits and measure what was lost
    Quantize(Quantize),
    /// Text to token ids
    Tokenize(Tokenize),
    /// Fetch a model from the hub, or take a local one, into the store
    Pull(Pull),
    /// The models of this home: list, show, rm, verify
    Models(Models),
    /// Grade answers read from a file, one JSON object a line
    Grade(Grade),
    /// Compare a checkpoint with values recorded from another implementation
    Check(Check),
    /// What runs have cost: one, or everything ever run in this home
    Cost(Cost),
    /// Measure this machine on the project's own shapes
    Bench(Bench),
    /// Say what this machine offers and whether Frugal can use it; or how well a server speaks
    Doctor(Doctor),
}

/// Which recipe, and what of it is set otherwise.
#[derive(Debug, Clone, Args)]
pub(crate) struct Chosen {
    /// A recipe's name (r1-tiny, cups) or its file; for plan also a model; for run --resume and
    /// --stop also a run's folder
    pub(crate) recipe: String,
    /// Minutes of this machine; sizes and steps follow from it [default: the recipe's]
    #[arg(long, value_name = "MINUTES")]
    pub(crate) budget: Option<f64>,
    /// Override any number, for example base.steps=500 (may be repeated)
    #[arg(long = "set", value_name = "STAGE.FIELD=VALUE")]
    pub(crate) overrides: Vec<String>,
    /// Seed of all random numbers [default: the recipe's]
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Also run the controls: random reward, more of the same corpus, many samples of the base
    #[arg(long)]
    pub(crate) controls: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) chosen: Chosen,
    /// Folder of the run [default: runs/NAME, the next free one]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Go on with the run that was stopped
    #[arg(long)]
    pub(crate) resume: bool,
    /// Ask the run that is under way to write a checkpoint and end
    #[arg(long, conflicts_with_all = ["resume", "web"])]
    pub(crate) stop: bool,
    /// Show the run in a browser while it runs, and after it until Ctrl-C [default address:
    /// 127.0.0.1:8080]
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "127.0.0.1:8080"
    )]
    pub(crate) web: Option<SocketAddr>,
}

#[derive(Debug, Args)]
pub(crate) struct PlanOf {
    #[command(flatten)]
    pub(crate) chosen: Chosen,
    /// For a model: the tokens a conversation may have
    #[arg(long, value_name = "TOKENS", default_value_t = 4096)]
    pub(crate) context: usize,
}

/// Which model.
#[derive(Debug, Clone, Args)]
pub(crate) struct Which {
    /// A folder with config.json, a GGUF file, a run's folder, or the name of a model that was pulled
    pub(crate) model: String,
    /// The stage of a run whose model is meant [default: r1, else the last]
    #[arg(long)]
    pub(crate) stage: Option<String>,
}

/// One stage on a model.
#[derive(Debug, Args)]
pub(crate) struct Improve {
    #[command(flatten)]
    pub(crate) which: Which,
    /// The task it learns
    #[arg(long, default_value = "countdown")]
    pub(crate) task: String,
    /// Folder of the run [default: runs/VERB-MODEL, the next free one]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Go on with the run that was stopped, as it was started
    #[arg(long, conflicts_with_all = ["overrides", "budget", "seed"])]
    pub(crate) resume: bool,
    /// Minutes of training; steps follow from a forecast of this machine [default: the stated steps]
    #[arg(long, value_name = "MINUTES")]
    pub(crate) budget: Option<f64>,
    /// Override any number of the stage, or of another, for example steps=50, evaluation.problems=200
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    pub(crate) overrides: Vec<String>,
    /// Seed of all random numbers
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Tokens that a prompt with its answer may have, at most the model's
    #[arg(long, value_name = "TOKENS", default_value_t = 1024)]
    pub(crate) positions: usize,
}

#[derive(Debug, Args)]
pub(crate) struct Distill {
    #[command(flatten)]
    pub(crate) improve: Improve,
    /// Family of the new model; its sizes are model.student.FIELD of --set
    #[arg(long, value_enum, default_value_t = Student::Qwen3)]
    pub(crate) student: Student,
}

/// Family of a new model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Student {
    DeepseekV3,
    DeepseekV2,
    Qwen2,
    Qwen3,
    Llama,
}

impl Student {
    /// Its name in recipes.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::DeepseekV3 => "deepseek_v3",
            Self::DeepseekV2 => "deepseek_v2",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Llama => "llama",
        }
    }
}

/// In which precision products are formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Products {
    /// Operands rounded to bf16, sums in f32
    Bf16,
    /// All in f32
    F32,
}

#[derive(Debug, Args)]
pub(crate) struct Chat {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Ask this and end; otherwise standard input is asked
    pub(crate) message: Option<String>,
    /// Talk on a page in the browser instead, as `frugal serve MODEL` shows it
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        num_args = 0..=1,
        default_missing_value = "127.0.0.1:8080",
        require_equals = true,
        conflicts_with_all = ["message", "raw", "template"]
    )]
    pub(crate) web: Option<SocketAddr>,
    /// Sampling temperature; 0 takes the likeliest [default: the model's, else 0.6]
    #[arg(long)]
    pub(crate) temperature: Option<f32>,
    /// Draw from the likeliest tokens up to this mass [default: the model's, else 0.95]
    #[arg(long)]
    pub(crate) top_p: Option<f32>,
    /// Most tokens of an answer, thinking included
    #[arg(long, default_value_t = 4096)]
    pub(crate) max_tokens: usize,
    /// Tokens a conversation may have
    #[arg(long, value_name = "TOKENS", default_value_t = 16384)]
    pub(crate) context: usize,
    /// What the model is told before the conversation
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,
    /// Whether the model is to think, where its template knows how to ask
    #[arg(long, value_enum)]
    pub(crate) think: Option<Switch>,
    /// A chat template to use instead of the model's
    #[arg(long, value_name = "FILE")]
    pub(crate) template: Option<PathBuf>,
    /// Continue the text as it is, without a chat template
    #[arg(long)]
    pub(crate) raw: bool,
    /// Measure the machine first, and say with each answer how fast it was expected to be
    #[arg(long)]
    pub(crate) forecast: bool,
    /// Seed of the sampling
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Who drafts tokens for the model to judge several at a time: it speaks faster, and says the same
    #[arg(long, value_enum, default_value_t = Draft::Lookup)]
    pub(crate) draft: Draft,
    /// Precision of products
    #[arg(long, value_enum, default_value_t = Products::Bf16)]
    pub(crate) products: Products,
    /// Bits of each number in the cache of keys and values
    #[arg(long, value_enum, default_value_t = CacheBits::Full)]
    pub(crate) cache_bits: CacheBits,
}

/// In how many bits keys and values are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum CacheBits {
    /// As many as attention reads: 16, or 32 where it computes in f32
    Full,
    /// 8, and a scale for every 32 numbers: about half the memory, and answers that may differ
    #[value(name = "8")]
    Eight,
}

impl From<CacheBits> for KeyBits {
    fn from(bits: CacheBits) -> Self {
        match bits {
            CacheBits::Full => Self::AsProducts,
            CacheBits::Eight => Self::Eight,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Draft {
    /// Nobody: one token at a time
    None,
    /// The conversation itself, where it repeats
    Lookup,
    /// The model's layer for it, where it has one (DeepSeek V3)
    Mtp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Switch {
    /// Yes
    On,
    /// No
    Off,
}

#[derive(Debug, Args)]
pub(crate) struct Eval {
    #[command(flatten)]
    pub(crate) which: Which,
    /// The task [default: a run's own]
    #[arg(long)]
    pub(crate) task: Option<String>,
    /// The rows of a task that has them (countdown-hard, game24)
    #[arg(long, value_name = "FILE")]
    pub(crate) data: Option<PathBuf>,
    /// Held-out problems
    #[arg(long, default_value_t = 500)]
    pub(crate) problems: u32,
    /// Samples of each problem
    #[arg(long, default_value_t = 8)]
    pub(crate) samples: u32,
    /// Most tokens of an answer, thinking included
    #[arg(long, default_value_t = 256)]
    pub(crate) max_tokens: usize,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Where to: a new folder, or a file that ends in .gguf
    pub(crate) out: PathBuf,
    /// f32, f16, bf16, fp8 (folders); f32, f16, bf16, q8_0, q4_0, q4_k, q5_k, q6_k, q4_k_m (GGUF) [default: as stored]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Quantize {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Where to: a file that ends in .gguf, or a new folder for fp8
    pub(crate) out: PathBuf,
    /// q8_0, q6_k, q5_k, q4_k_m, q4_k, q4_0, or fp8
    #[arg(long, value_name = "FORMAT", default_value = "q4_k_m")]
    pub(crate) to: String,
    /// A text to measure the loss on [default: for a run's model lines of its task]
    #[arg(long, value_name = "FILE")]
    pub(crate) text: Option<PathBuf>,
    /// Most tokens of the text that are used
    #[arg(long, default_value_t = 2048)]
    pub(crate) tokens: usize,
    /// Also measure accuracy and length of thinking on this task
    #[arg(long)]
    pub(crate) task: Option<String>,
    /// Problems of the task
    #[arg(long, default_value_t = 64)]
    pub(crate) problems: u32,
    /// Most tokens of an answer to one
    #[arg(long, default_value_t = 512)]
    pub(crate) max_tokens: usize,
}

#[derive(Debug, Args)]
pub(crate) struct Tokenize {
    #[command(flatten)]
    pub(crate) which: Which,
    /// The text; - or nothing for standard input
    pub(crate) text: Option<String>,
    /// Numbers in: print the text of token ids
    #[arg(long)]
    pub(crate) decode: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Pull {
    /// OWNER/NAME, OWNER/NAME@REVISION or OWNER/NAME:FILE on the hub, or a folder or GGUF file of
    /// this machine
    pub(crate) model: String,
    /// The name it gets in the store [default: the one it has]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Link the files of a local model in place of copying them
    #[arg(long)]
    pub(crate) link: bool,
    /// Refuse to fetch more than this
    #[arg(long, value_name = "GB", default_value_t = 3000)]
    pub(crate) max_size: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Models {
    #[command(subcommand)]
    pub(crate) what: Option<ModelsOf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ModelsOf {
    /// All models, a line each; the default
    List,
    /// One model: what it is, where it is from, its files with their digests
    Show {
        /// Its full name, or the whole last part of it
        model: String,
    },
    /// Remove models, or what an unfinished pull left
    Rm {
        /// Their names
        #[arg(required = true)]
        models: Vec<String>,
    },
    /// Compare every file with its recorded digest
    Verify {
        /// Their names [default: all]
        models: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Grade {
    /// The task whose grader to use
    #[arg(long, default_value = "countdown")]
    pub(crate) task: String,
    /// Lines of {"question": ..., "answer": ...}; - for standard input
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Folders with a model and golden.safetensors
    #[arg(required = true)]
    pub(crate) folders: Vec<PathBuf>,
    /// Largest error allowed in f32, relative to the largest recorded value of a tensor
    #[arg(long, default_value_t = frugal_train::check::TOLERANCE)]
    pub(crate) tolerance: f64,
    /// Which back-end to check
    #[arg(long, value_enum, default_value_t = CheckOn::Both)]
    pub(crate) on: CheckOn,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum CheckOn {
    /// Plain loops and the fast back-end in f32
    Both,
    /// Plain loops
    Reference,
    /// The fast back-end in f32
    Cpu,
    /// The fast back-end with products in bf16, the logits alone
    CpuBf16,
}

impl CheckOn {
    /// One by one.
    pub(crate) fn back_ends(self) -> Vec<Self> {
        match self {
            Self::Both => vec![Self::Reference, Self::Cpu],
            one => vec![one],
        }
    }

    /// Its name in tables.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::Reference => "reference",
            Self::Cpu => "cpu",
            Self::CpuBf16 => "cpu, bf16",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Cost {
    /// A run's folder [default: everything ever run in this home]
    pub(crate) run: Option<PathBuf>,
}
