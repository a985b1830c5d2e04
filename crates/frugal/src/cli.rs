//! The command line: verbs and their flags. Flags and the environment are read here and nowhere
//! else; what a verb does is in `commands/`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

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
    /// Show what a recipe would do, without doing it
    Plan(PlanOf),
    /// Talk to a model of a run
    Chat(Chat),
    /// Evaluate a checkpoint on a task's held-out problems
    Eval(Eval),
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
    /// Say what this machine offers and whether Frugal can use it
    Doctor,
}

/// Which recipe, and what of it is set otherwise.
#[derive(Debug, Clone, Args)]
pub(crate) struct Chosen {
    /// A recipe's name (r1-tiny, cups) or its file
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
}

#[derive(Debug, Args)]
pub(crate) struct PlanOf {
    #[command(flatten)]
    pub(crate) chosen: Chosen,
}

#[derive(Debug, Args)]
pub(crate) struct Chat {
    /// A run's folder, or one of its checkpoints
    pub(crate) model: PathBuf,
    /// The stage whose model to talk to [default: r1, else the last]
    #[arg(long)]
    pub(crate) stage: Option<String>,
    /// Sampling temperature; 0 takes the likeliest
    #[arg(long, default_value_t = 0.0)]
    pub(crate) temperature: f32,
    /// Most tokens of an answer
    #[arg(long, default_value_t = 256)]
    pub(crate) max_tokens: usize,
    /// Seed of the sampling
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Eval {
    /// A run's folder
    pub(crate) run: PathBuf,
    /// The stage whose checkpoint to evaluate
    #[arg(long, default_value = "r1")]
    pub(crate) stage: String,
    /// Held-out problems
    #[arg(long, default_value_t = 500)]
    pub(crate) problems: u32,
    /// Samples of each problem
    #[arg(long, default_value_t = 8)]
    pub(crate) samples: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Pull {
    /// OWNER/NAME[@REVISION][:FILE] on the hub, or a folder or GGUF file of this machine
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
    /// Folders with config.json, model.safetensors and golden.safetensors
    #[arg(required = true)]
    pub(crate) folders: Vec<PathBuf>,
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
}

#[derive(Debug, Args)]
pub(crate) struct Cost {
    /// A run's folder [default: everything ever run in this home]
    pub(crate) run: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    pub(crate) what: BenchOf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchOf {
    /// Tokens per second of training steps on random tokens
    Train(BenchTrain),
}

#[derive(Debug, Args)]
pub(crate) struct BenchTrain {
    /// A config.json
    #[arg(long)]
    pub(crate) config: PathBuf,
    /// Sequences of a step
    #[arg(long, default_value_t = 20)]
    pub(crate) sequences: usize,
    /// Tokens of a sequence
    #[arg(long, default_value_t = 140)]
    pub(crate) length: usize,
    /// Steps that are timed
    #[arg(long, default_value_t = 10)]
    pub(crate) steps: usize,
    /// Products in f32 instead of bf16
    #[arg(long)]
    pub(crate) f32: bool,
}
