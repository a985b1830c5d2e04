//! `POST /v1/chat/completions`, and the end of a thought on request.

use axum::extract::{Path, Request, State};
use axum::response::{Json, Response};
use serde_json::{Value, json};

use super::answers::{Answers, Form};
use super::{Front, note};
use crate::server::Visit;
use crate::wire::chat::{Encoder, parse};
use crate::wire::error::{Fault, Kind};

const ROUTE: &str = "/v1/chat/completions";

pub(super) async fn create(
    State(front): State<Front>,
    visit: Visit,
    request: Request,
) -> Result<Response, Fault> {
    let answer = answer(&front, &visit, request).await;
    front.counted(ROUTE, answer)
}

async fn answer(front: &Front, visit: &Visit, request: Request) -> Result<Response, Fault> {
    let caller = front.enter(ROUTE, "chatcmpl-", visit.who()?)?;
    let body = front.read(request).await?;
    let (ask, mut out) = parse(&body, &front.service.parts.limits)?;
    out.reasoning = front.reasoning;
    note(visit, &ask.model);
    let form = Form::of(out.streaming.is_on(), Form::EventsThenDone);
    let unused = out.unused.clone();
    let answering = front.service.answer(ask, caller).await?;
    let fingerprint = Some(answering.fingerprint.clone());
    let encoder = Encoder::new(answering.head.clone(), fingerprint, out);
    let answers = Answers::new(vec![answering], encoder, visit);
    answers.respond(form, front, &unused).await
}

/// Ends the thought of an answer under way; its answer goes on.
pub(super) async fn stop_thinking(
    State(front): State<Front>,
    Path(id): Path<String>,
    visit: Visit,
) -> Result<Json<Value>, Fault> {
    if front.service.stop_thinking(&id, visit.who()?) {
        return Ok(Json(
            json!({ "id": id, "object": "chat.completion.stop_thinking", "stopped": true }),
        ));
    }
    let message = "no answer of this id is under way";
    Err(Fault::new(Kind::NoRoute, message).at("id"))
}
