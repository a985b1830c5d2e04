//! The part of `/api/*` that editors use.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Json, Response};
use serde_json::Value;

use super::answers::{Answers, Form};
use super::models::{named, usable};
use super::{Front, note};
use crate::answer::{Ask, Limits};
use crate::server::Visit;
use crate::service::Caller;
use crate::wire::Head;
use crate::wire::error::Fault;
use crate::wire::ollama::{self, Encoder, Known, Out, Running, Wanted};

const CHAT: &str = "/api/chat";
const GENERATE: &str = "/api/generate";

/// Reads a request.
type Parse = fn(&Value, &Limits) -> Result<Wanted, Fault>;

pub(super) async fn version() -> Json<Value> {
    Json(ollama::version())
}

pub(super) async fn tags(State(front): State<Front>, visit: Visit) -> Result<Json<Value>, Fault> {
    let usable = usable(&front, visit.who()?).await?;
    Ok(Json(ollama::tags(&usable)))
}

pub(super) async fn running(
    State(front): State<Front>,
    visit: Visit,
) -> Result<Json<Value>, Fault> {
    let usable = usable(&front, visit.who()?).await?;
    let loaded = front.service.parts.shelf.loaded();
    let running = loaded.iter().filter_map(|served| {
        let listed = usable.iter().find(|model| model.name == served.name)?;
        Some(Running {
            listed,
            bytes: served.bytes(),
            positions: served.handle.facts().positions,
        })
    });
    Ok(Json(ollama::running(&running.collect::<Vec<_>>())))
}

pub(super) async fn show(
    State(front): State<Front>,
    visit: Visit,
    request: Request,
) -> Result<Json<Value>, Fault> {
    let body = front.read(request).await?;
    let name = ollama::parse_show(&body)?;
    let usable = usable(&front, visit.who()?).await?;
    let model = named(&usable, &name)?;
    let own = front.service.parts.shelf.resolve(&name).to_owned();
    let loaded = front.service.parts.shelf.loaded();
    let served = loaded.iter().find(|served| served.name == own);
    let words = served.map(|served| &served.words);
    let can_think = words.is_some_and(|it| it.markup.is_some_and(|markup| markup.can_think()));
    // Tools are told of by a template; whether a model has one is known once it is open.
    let has_tools = words.is_none_or(|words| words.template.is_some());
    let can = [(can_think, "thinking"), (has_tools, "tools")];
    let known = Known {
        positions: served.map(|served| served.handle.facts().positions),
        can: can
            .into_iter()
            .filter_map(|(can, what)| can.then_some(what))
            .collect(),
    };
    Ok(Json(ollama::show(model, &known)))
}

pub(super) async fn chat(
    State(front): State<Front>,
    visit: Visit,
    request: Request,
) -> Result<Response, Fault> {
    let answer = answer(&front, &visit, request, (CHAT, ollama::parse_chat)).await;
    front.counted(CHAT, answer)
}

pub(super) async fn generate(
    State(front): State<Front>,
    visit: Visit,
    request: Request,
) -> Result<Response, Fault> {
    let answer = answer(&front, &visit, request, (GENERATE, ollama::parse_generate)).await;
    front.counted(GENERATE, answer)
}

async fn answer(
    front: &Front,
    visit: &Visit,
    request: Request,
    (route, parse): (&'static str, Parse),
) -> Result<Response, Fault> {
    let caller = front.enter(route, "", visit.who()?)?;
    let body = front.read(request).await?;
    let parts = &front.service.parts;
    let head = |model: String| Head {
        id: String::new(),
        created: parts.clock.now().unix,
        model,
    };
    match parse(&body, &parts.limits)? {
        Wanted::Answer(ask, out) => say(front, visit, caller, (*ask, out)).await,
        Wanted::Load { model, out } => {
            front.service.served(&model, visit.who()?).await?;
            Ok(Json(out.loaded(&head(model))).into_response())
        }
        Wanted::Unload { model, out } => {
            let holder = visit.who()?;
            holder.may_use(&model, parts.shelf.resolve(&model))?;
            named(&usable(front, holder).await?, &model)?;
            // One that is in use stays, and leaves when memory is wanted.
            parts.shelf.unload(&model);
            Ok(Json(out.unloaded(&head(model))).into_response())
        }
    }
}

async fn say(
    front: &Front,
    visit: &Visit,
    caller: Caller,
    (ask, out): (Ask, Out),
) -> Result<Response, Fault> {
    note(visit, &ask.model);
    let clock = &front.service.parts.clock;
    let before = clock.now().seconds;
    let served = front.service.served(&ask.model, visit.who()?).await?;
    let load_seconds = clock.now().seconds - before;
    out.check_positions(served.handle.facts().positions)?;
    let answering = front.service.answer(ask, caller).await?;
    let form = Form::of(out.stream, Form::Lines);
    let encoder = Encoder::new(answering.head.clone(), out, load_seconds);
    Answers::new(vec![answering], encoder, visit)
        .respond(form, front, &[])
        .await
}
