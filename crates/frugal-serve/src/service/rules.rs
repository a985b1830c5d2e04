//! What a request asks of every token: sampling, weights, thoughts, form.

use std::sync::Arc;

use frugal_core::backend::Sampling;
use frugal_text::tools;
use serde_json::{Value, json};

use crate::answer::prompt::{Calls, Glue, Prepared};
use crate::answer::{Ask, Form, Limits, Sampled, Thinking};
use crate::config::ReasoningSettings;
use crate::models::Words;
use crate::shelf::Served;
use crate::steer::{Compiled, Piece, Rules, Source, Thoughts, Watch, Weights};
use crate::wire::error::{Fault, Kind};

/// How tokens are drawn: as asked, else as the model's makers say.
pub(super) fn sampling(words: &Words, sampled: &Sampled) -> Sampling {
    Sampling {
        temperature: sampled.temperature.unwrap_or(words.temperature),
        // Devices refuse no mass at all. The smallest part of it that holds anything holds the
        // likeliest token alone.
        top_p: sampled.top_p.unwrap_or(words.top_p).max(f32::MIN_POSITIVE),
        top_k: sampled.top_k.unwrap_or(words.top_k),
        min_p: sampled.min_p.unwrap_or(0.0),
    }
}

/// Compiles what a request asks for. Takes up to seconds for a new grammar: not for an async thread.
pub(super) fn rules(
    served: &Served,
    ask: &Ask,
    prepared: &Prepared,
    (limits, reasoning): (&Limits, &ReasoningSettings),
) -> Result<Rules, Fault> {
    let sampled = &ask.sampled;
    Ok(Rules {
        weights: Weights {
            bias: sampled.bias.clone(),
            presence: sampled.presence_penalty,
            frequency: sampled.frequency_penalty,
            repetition: sampled.repetition_penalty,
            forbidden: prepared.forbidden.clone(),
        },
        thoughts: thoughts(served, ask, prepared, reasoning),
        grammar: grammar(served, ask, prepared, limits)?,
    })
}

fn thoughts(
    served: &Served,
    ask: &Ask,
    prepared: &Prepared,
    reasoning: &ReasoningSettings,
) -> Option<Thoughts> {
    if !prepared.markup.can_think() {
        return None;
    }
    let budget = match ask.thinking {
        Thinking::On {
            budget: Some(budget),
        } => Some(budget),
        Thinking::Off => Some(0),
        Thinking::Usual | Thinking::On { budget: None } => reasoning.default_budget,
    };
    let after = match prepared.glue {
        Glue::Lines => served.words.tokenizer.encode("\n\n"),
        Glue::Bare => Ok(Vec::new()),
    };
    let mut ends = prepared.stop.clone();
    ends.push(prepared.markup.eos);
    Some(Thoughts {
        markup: prepared.markup,
        start: prepared.start,
        budget,
        after: after.unwrap_or_default(),
        ends,
        watch: if reasoning.guards_circles {
            Watch::Circles
        } else {
            Watch::Nothing
        },
    })
}

/// The form of the answer and of the calls in it.
fn grammar(
    served: &Served,
    ask: &Ask,
    prepared: &Prepared,
    limits: &Limits,
) -> Result<Option<Arc<Compiled>>, Fault> {
    let Some(source) = source_of(ask, prepared)? else {
        return Ok(None);
    };
    let grammars = served.grammars()?;
    match grammars.compile(&source, limits) {
        // A schema that cannot be held to is no loss where nobody insists on it.
        Err(fault) if fault.kind == Kind::Schema && is_lenient(ask, prepared) => {
            let mut prepared = prepared.clone();
            for tool in prepared.calls.iter_mut().flat_map(|calls| &mut calls.tools) {
                tool.parameters = json!({ "type": "object" });
            }
            let lenient = source_of(ask, &prepared)?;
            lenient
                .map(|source| grammars.compile(&source, limits))
                .transpose()
        }
        compiled => compiled.map(Some),
    }
}

/// Whether no tool asks for its schema to be held to, and nothing else has one.
fn is_lenient(ask: &Ask, prepared: &Prepared) -> bool {
    let is_strict = |tool: &Value| tool.pointer("/function/strict") == Some(&Value::Bool(true));
    prepared.calls.is_some() && ask.form == Form::Free && !ask.tools.tools.iter().any(is_strict)
}

/// What an answer must look like; nothing where any text will do.
fn source_of(ask: &Ask, prepared: &Prepared) -> Result<Option<Source>, Fault> {
    let Some(calls) = &prepared.calls else {
        return Ok(Source::of(&ask.form));
    };
    let pieces = match &ask.form {
        _ if calls.must => call_pieces(calls),
        // Where calls begin with a control token, whatever follows it is a call.
        Form::Free if calls.format.openings().is_empty() => return Ok(None),
        Form::Free => {
            let call = Piece::Maybe(Box::new(call_pieces(calls)));
            Piece::All(vec![Piece::AnyText, call])
        }
        Form::JsonObject => {
            let object = Piece::Json(json!({ "type": "object" }));
            Piece::OneOf(vec![object, call_pieces(calls)])
        }
        Form::JsonSchema(schema) => {
            Piece::OneOf(vec![Piece::Json(schema.clone()), call_pieces(calls)])
        }
        Form::Regex(_) | Form::Lark(_) | Form::Choice(_) => {
            let expected = "a form without tools, or tools without a form";
            return Err(Fault::field("tools", expected, "both"));
        }
    };
    Ok(Some(Source::Composed(pieces)))
}

fn call_pieces(calls: &Calls) -> Piece {
    let tools::Grammar {
        before,
        calls,
        between,
        after,
        count,
    } = calls.grammar();
    let pieces = |pieces: Vec<tools::Piece>| pieces.into_iter().map(piece).collect::<Vec<_>>();
    let call = Piece::OneOf(
        (calls.into_iter())
            .map(|call| Piece::All(pieces(call)))
            .collect(),
    );
    let mut all = pieces(before);
    all.push(call.clone());
    if count == tools::Count::Many {
        let mut more = pieces(between);
        more.push(call);
        let more = Piece::Repeated(Box::new(Piece::All(more)));
        all.push(Piece::Maybe(Box::new(more)));
    }
    all.extend(pieces(after));
    Piece::All(all)
}

fn piece(piece: tools::Piece) -> Piece {
    match piece {
        tools::Piece::Control(id) => Piece::Control(id),
        tools::Piece::Text(text) => Piece::Text(text),
        tools::Piece::Json(schema) => Piece::Json(schema),
    }
}
