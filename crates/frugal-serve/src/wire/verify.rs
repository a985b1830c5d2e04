//! `verify {samples, checker, reference}`: several answers, graded, on every route but completions.

use super::error::Fault;
use super::fields::Fields;
use super::sampled::NAME_BYTES;
use crate::answer::{Check, Limits, Verify};

/// Takes `verify`: a checker is `majority`, `math`, `json`, or a task's name with its `reference`.
pub(super) fn take(fields: &mut Fields<'_>, limits: &Limits) -> Result<Option<Verify>, Fault> {
    let Some(mut verify) = fields.object("verify")? else {
        return Ok(None);
    };
    let samples = verify.count("samples", 1..=limits.verify_samples)?;
    let samples = samples.ok_or_else(|| verify.missing("samples"))?;
    let checker = verify.text("checker", NAME_BYTES)?;
    let checker = match checker.ok_or_else(|| verify.missing("checker"))? {
        "majority" => Check::Majority,
        "math" => Check::Math,
        "json" => Check::Json,
        "code" => return Err(verify.against("checker", "code is not checked here")),
        name => {
            let reference = verify.take("reference");
            let reference = reference.ok_or_else(|| verify.missing("reference"))?;
            Check::Task {
                name: name.to_owned(),
                reference: reference.clone(),
            }
        }
    };
    verify.finish()?;
    Ok(Some(Verify { samples, checker }))
}
