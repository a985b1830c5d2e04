//! `/tokenize`, `/detokenize` and `/tokenizer_info`.

use std::sync::Arc;

use axum::extract::{Query, Request, State};
use axum::response::Json;
use serde_json::Value;

use super::{Front, note};
use crate::answer::{Ask, Prompt};
use crate::server::Visit;
use crate::shelf::Served;
use crate::wire::error::Fault;
use crate::wire::tokens;

const TOKENIZE: &str = "/tokenize";
const DETOKENIZE: &str = "/detokenize";
const INFO: &str = "/tokenizer_info";

pub(super) async fn tokenize(
    State(front): State<Front>,
    visit: Visit,
    request: Request,
) -> Result<Json<Value>, Fault> {
    let answer = make_ids(&front, &visit, request).await;
    front.counted(TOKENIZE, answer)
}

async fn make_ids(front: &Front, visit: &Visit, request: Request) -> Result<Json<Value>, Fault> {
    let holder = visit.who()?;
    let _pass = front.enter(TOKENIZE, "", holder)?;
    let body = front.read(request).await?;
    let wanted = tokens::tokenize(&body, &front.service.parts.limits)?;
    let model = wanted.model.unwrap_or_default();
    let served = front.service.served(&model, holder).await?;
    note(visit, &served.name);
    let ids = match wanted.prompt {
        Prompt::Text(text) => {
            let (served, adds_special) = (Arc::clone(&served), wanted.adds_special);
            let encode = move || encode(&served, &text, adds_special);
            front.service.on_text(encode).await?
        }
        prompt => {
            let ask = Ask {
                tools: wanted.tools,
                thinking: wanted.thinking,
                ..Ask::of(model, prompt)
            };
            front.service.count(ask, holder).await?
        }
    };
    let texts: Option<Vec<String>> = wanted.wants_texts.then(|| {
        let text = |id: &u32| served.words.tokenizer.token_name(*id).unwrap_or_default();
        ids.iter().map(text).collect()
    });
    let positions = served.handle.facts().positions;
    Ok(Json(tokens::tokenized(&ids, positions, texts.as_deref())))
}

/// An operator's view of a text, not a prompt: a text that is a control token's spelling as a whole
/// gives that token, which is how clients look up ids of ends.
fn encode(served: &Served, text: &str, adds_special: bool) -> Result<Vec<u32>, Fault> {
    let words = &served.words;
    let first = words.bos.filter(|_| adds_special);
    let rest = match words.tokenizer.control(text) {
        Some(id) => vec![id],
        None => (words.tokenizer.encode(text)).map_err(|_| {
            Fault::field("prompt", "a text that the vocabulary can write", "another")
        })?,
    };
    Ok(first.into_iter().chain(rest).collect())
}

pub(super) async fn detokenize(
    State(front): State<Front>,
    visit: Visit,
    request: Request,
) -> Result<Json<Value>, Fault> {
    let answer = make_text(&front, &visit, request).await;
    front.counted(DETOKENIZE, answer)
}

async fn make_text(front: &Front, visit: &Visit, request: Request) -> Result<Json<Value>, Fault> {
    let holder = visit.who()?;
    let _pass = front.enter(DETOKENIZE, "", holder)?;
    let body = front.read(request).await?;
    let wanted = tokens::detokenize(&body, &front.service.parts.limits)?;
    let model = wanted.model.unwrap_or_default();
    let served = front.service.served(&model, holder).await?;
    note(visit, &served.name);
    let decode = move || {
        let text = served.words.tokenizer.decode(&wanted.ids);
        text.map_err(|_| Fault::field("tokens", "ids of the vocabulary", "others"))
    };
    let text = front.service.on_text(decode).await?;
    Ok(Json(tokens::detokenized(&text)))
}

/// Which model's.
#[derive(Debug, serde::Deserialize)]
pub(super) struct Of {
    #[serde(default)]
    model: String,
}

pub(super) async fn info(
    State(front): State<Front>,
    Query(of): Query<Of>,
    visit: Visit,
) -> Result<Json<Value>, Fault> {
    let info = async {
        let holder = visit.who()?;
        let _pass = front.enter(INFO, "", holder)?;
        let served = front.service.served(&of.model, holder).await?;
        let info = tokens::tokenizer_info(&served.words.tokenizer_config);
        Ok(Json(info))
    };
    front.counted(INFO, info.await)
}
