//! `options` of Ollama's interface.
//!
//! What they say about sampling acts. Accepted without effect:
//!
//! | Option | Why |
//! |---|---|
//! | `num_keep` | nothing is cut off a prompt |
//! | `numa`, `num_batch`, `num_gpu`, `main_gpu`, `num_thread`, `low_vram`, `f16_kv`, `use_mmap`, `use_mlock` | the operator decides how a model is computed, when the server starts |
//! | `mirostat_tau`, `mirostat_eta` | they mean nothing without `mirostat`, which is refused |
//! | `mirostat: 0`, `tfs_z: 1`, `typical_p: 1`, `penalize_newline: true`, `logits_all`, `vocab_only`, `embedding_only: false` | they ask for nothing |
//! | `repeat_last_n` | where no penalty is on; penalties here look at the whole text, so -1 is what is done, and 0 is no penalty |

use crate::answer::{Ask, Limits};
use crate::wire::error::Fault;
use crate::wire::fields::Fields;
use crate::wire::sampled::{MOST_TOKENS, stops};

/// Reads `options` into a request. Gives `num_ctx`, which only the model can check.
pub(super) fn read(
    fields: &mut Fields<'_>,
    ask: &mut Ask,
    limits: &Limits,
) -> Result<Option<usize>, Fault> {
    let Some(mut options) = fields.object("options")? else {
        return Ok(None);
    };
    let sampled = &mut ask.sampled;
    sampled.temperature = options.number("temperature", 0.0..=2.0)?;
    sampled.top_p = options.number("top_p", 0.0..=1.0)?;
    sampled.min_p = options.number("min_p", 0.0..=1.0)?;
    sampled.top_k = options.count("top_k", 0..=MOST_TOKENS)?;
    let penalty = options.number("presence_penalty", -2.0..=2.0)?;
    sampled.presence_penalty = penalty.unwrap_or(0.0);
    let penalty = options.number("frequency_penalty", -2.0..=2.0)?;
    sampled.frequency_penalty = penalty.unwrap_or(0.0);
    let penalty = options.number("repeat_penalty", 0.01..=10.0)?;
    sampled.repetition_penalty = penalty.unwrap_or(1.0);
    // Any negative seed is Ollama's word for none.
    let seed = options.integer("seed", i64::MIN..=i64::MAX)?;
    sampled.seed = seed.and_then(|seed| u64::try_from(seed).ok());
    looks_back(&mut options, ask)?;
    ask.max_tokens = num_predict(&mut options)?;
    ask.stop = stops(&mut options, limits)?;
    let num_ctx = options.count("num_ctx", 1..=MOST_TOKENS)?;
    passed_over(&mut options)?;
    options.finish()?;
    Ok(num_ctx)
}

/// How many tokens penalties look back at.
fn looks_back(options: &mut Fields<'_>, ask: &mut Ask) -> Result<(), Fault> {
    let sampled = &mut ask.sampled;
    match options.integer("repeat_last_n", -1..=i64::from(i32::MAX))? {
        None | Some(-1) => {}
        Some(0) => sampled.repetition_penalty = 1.0,
        Some(_) => {
            #[expect(clippy::float_cmp, reason = "a penalty of exactly 1 does nothing")]
            let is_on = sampled.repetition_penalty != 1.0;
            if is_on {
                let why = "expected -1: repeat_penalty looks at the whole text here";
                return Err(options.against("repeat_last_n", why));
            }
        }
    }
    Ok(())
}

/// -1 sets no limit, and -2 fills the context, which is the same here.
fn num_predict(options: &mut Fields<'_>) -> Result<Option<usize>, Fault> {
    match options.integer("num_predict", -2..=i64::from(i32::MAX))? {
        Some(0) => Err(options.against("num_predict", "expected -1, -2 or at least 1, got 0")),
        most => Ok(most.and_then(|most| usize::try_from(most).ok())),
    }
}

/// Options of the table above: of the right type, and asking for nothing that is not done.
fn passed_over(options: &mut Fields<'_>) -> Result<(), Fault> {
    for name in ["num_keep", "num_batch", "num_gpu", "main_gpu", "num_thread"] {
        options.integer(name, -1..=i64::from(i32::MAX))?;
    }
    for name in ["numa", "low_vram", "f16_kv", "use_mmap", "use_mlock"] {
        options.flag(name)?;
    }
    for name in ["mirostat_tau", "mirostat_eta"] {
        options.number(name, 0.0..=100.0)?;
    }
    options.count("mirostat", 0..=0)?;
    for name in ["tfs_z", "typical_p"] {
        options.number(name, 1.0..=1.0)?;
    }
    if options.flag("penalize_newline")? == Some(false) {
        let why = "expected true: penalties look at every token";
        return Err(options.against("penalize_newline", why));
    }
    for name in ["logits_all", "vocab_only", "embedding_only"] {
        if options.flag(name)? == Some(true) {
            return Err(options.against(name, "expected false: text is what is given here"));
        }
    }
    Ok(())
}
