//! `POST /v1/responses`.

use axum::extract::{Request, State};
use axum::response::Response;

use super::answers::{Answers, Form};
use super::{Front, note};
use crate::server::Visit;
use crate::wire::error::Fault;
use crate::wire::responses::{Encoder, parse};

const ROUTE: &str = "/v1/responses";

pub(super) async fn create(
    State(front): State<Front>,
    visit: Visit,
    request: Request,
) -> Result<Response, Fault> {
    let answer = answer(&front, &visit, request).await;
    front.counted(ROUTE, answer)
}

async fn answer(front: &Front, visit: &Visit, request: Request) -> Result<Response, Fault> {
    let caller = front.enter(ROUTE, "resp_", visit.who()?)?;
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
