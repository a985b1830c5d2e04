//! `POST /v1/completions`.

use axum::extract::{Request, State};
use axum::response::Response;

use super::answers::{Answers, Form};
use super::{Front, note};
use crate::server::Visit;
use crate::wire::completions::{Encoder, parse};
use crate::wire::error::{Fault, Kind};

const ROUTE: &str = "/v1/completions";

pub(super) async fn create(
    State(front): State<Front>,
    visit: Visit,
    request: Request,
) -> Result<Response, Fault> {
    let answer = answer(&front, &visit, request).await;
    front.counted(ROUTE, answer)
}

async fn answer(front: &Front, visit: &Visit, request: Request) -> Result<Response, Fault> {
    let holder = visit.who()?;
    let mut caller = Some(front.enter(ROUTE, "cmpl-", holder)?);
    let body = front.read(request).await?;
    let (asks, out) = parse(&body, &front.service.parts.limits)?;
    let form = Form::of(out.streaming.is_on(), Form::EventsThenDone);
    let mut answers = Vec::with_capacity(asks.len());
    for mut ask in asks {
        note(visit, &ask.model);
        // Log-probabilities stand beside every token, the one that ends the answer included.
        ask.wants_ids |= ask.likeliest.is_some();
        // Each prompt is a request of its own, as far as the key's limits go.
        let caller = match caller.take() {
            Some(caller) => caller,
            None => front.enter(ROUTE, "cmpl-", holder)?,
        };
        answers.push(front.service.answer(ask, caller).await?);
    }
    let first = answers.first();
    let first = first.ok_or_else(|| Fault::new(Kind::Invalid, "no prompt").at("prompt"))?;
    let unused = out.unused.clone();
    let fingerprint = Some(first.fingerprint.clone());
    let encoder = Encoder::new(first.head.clone(), fingerprint, out);
    let answers = Answers::new(answers, encoder, visit);
    answers.respond(form, front, &unused).await
}
