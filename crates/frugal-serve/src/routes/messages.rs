//! `POST /v1/messages` and `/v1/messages/count_tokens`.

use axum::extract::{Request, State};
use axum::response::{Json, Response};
use serde_json::Value;

use super::answers::{Answers, Form};
use super::{Front, note};
use crate::server::Visit;
use crate::wire::error::Fault;
use crate::wire::messages::{Encoder, counted, parse, parse_count};

const ROUTE: &str = "/v1/messages";
const COUNT: &str = "/v1/messages/count_tokens";

pub(super) async fn create(
    State(front): State<Front>,
    visit: Visit,
    request: Request,
) -> Result<Response, Fault> {
    let answer = answer(&front, &visit, request).await;
    front.counted(ROUTE, answer)
}

async fn answer(front: &Front, visit: &Visit, request: Request) -> Result<Response, Fault> {
    let caller = front.enter(ROUTE, "msg_", visit.who()?)?;
    let body = front.read(request).await?;
    let (ask, out) = parse(&body, &front.service.parts.limits)?;
    note(visit, &ask.model);
    let form = Form::of(out.stream, Form::Events);
    let unused = out.unused.clone();
    let answering = front.service.answer(ask, caller).await?;
    let encoder = Encoder::new(answering.head.clone(), out);
    let answers = Answers::new(vec![answering], encoder, visit);
    answers.respond(form, front, &unused).await
}

pub(super) async fn count(
    State(front): State<Front>,
    visit: Visit,
    request: Request,
) -> Result<Json<Value>, Fault> {
    let count = async {
        let _pass = front.enter(COUNT, "", visit.who()?)?;
        let body = front.read(request).await?;
        let ask = parse_count(&body, &front.service.parts.limits)?;
        note(&visit, &ask.model);
        let ids = front.service.count(ask, visit.who()?).await?;
        Ok(Json(counted(ids.len())))
    };
    front.counted(COUNT, count.await)
}
