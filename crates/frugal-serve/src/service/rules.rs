//! What a request asks of every token: sampling, weights, thoughts, form.

use std::sync::Arc;

use frugal_core::backend::Sampling;
use frugal_text::tools;

use crate::answer::prompt::{Calls, Glue, Prepared};
use crate::answer::{Ask, Form, Limits, Sampled, Thinking};
use crate::config::ReasoningSettings;
use crate::models::Words;
use crate::shelf::Served;
use crate::steer::{Compiled, Piece, Rules, Source, Thoughts, Watch, Weights};
use crate::wire::error::Fault;

/// How tokens are drawn: as asked, else as the model's makers say.
pub(super) fn sampling(words: &Words, sampled: &Sampled) -> Sampling {
    Sampling {
        temperature: sampled.temperature.unwrap_or(words.temperature),
        // The smallest part of all that holds anything holds the likeliest token alone.
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
        first: Vec::new(),
        weights: Weights {
            bias: sampled.bias.clone(),
            presence: sampled.presence_penalty,
            frequency: sampled.frequency_penalty,
            repetition: sampled.repetition_penalty,
            forbidden: prepared.forbidden.clone(),
        },
        thoughts: thoughts(served, ask, prepared, reasoning)?,
        grammar: grammar(served, ask, prepared, limits)?,
    })
}

fn thoughts(
    served: &Served,
    ask: &Ask,
    prepared: &Prepared,
    reasoning: &ReasoningSettings,
) -> Result<Option<Thoughts>, Fault> {
    if !prepared.markup.can_think() {
        return Ok(None);
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
    Ok(Some(Thoughts {
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
    }))
}

/// The form of the answer and of the calls in it.
fn grammar(
    served: &Served,
    ask: &Ask,
    prepared: &Prepared,
    limits: &Limits,
) -> Result<Option<Arc<Compiled>>, Fault> {
    let source = match (&prepared.calls, &ask.form) {
        (Some(calls), _) if calls.must => Source::Composed(call_pieces(calls)),
        (Some(calls), Form::Free) => {
            // Where calls begin with a control token, whatever follows it is a call.
            if calls.format.openings().is_empty() {
                return Ok(None);
            }
            let call = Piece::Maybe(Box::new(call_pieces(calls)));
            Source::Composed(Piece::All(vec![Piece::AnyText, call]))
        }
        (Some(calls), form) => {
            let json = match form {
                Form::JsonObject => Piece::Json(serde_json::json!({ "type": "object" })),
                Form::JsonSchema(schema) => Piece::Json(schema.clone()),
                _ => {
                    let expected = "a form without tools, or tools without a form";
                    return Err(Fault::field("tools", expected, "both"));
                }
            };
            Source::Composed(Piece::OneOf(vec![json, call_pieces(calls)]))
        }
        (None, form) => match Source::of(form) {
            Some(source) => source,
            None => return Ok(None),
        },
    };
    served.grammars()?.compile(&source, limits).map(Some)
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
