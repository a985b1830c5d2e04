//! Runs over HTTP. Looking is for everyone who is let in; stopping and going on for who may manage.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{Json, Response};
use axum::routing::{get, post};

use super::{List, Offsets, Reader, Runs, Whole, watch};
use crate::server::Visit;
use crate::server::stream::{self, Ending};
use crate::web::{Manager, Web};
use crate::wire::error::{Fault, Kind};

/// The routes of runs.
pub(in crate::web) fn routes() -> Router<Web> {
    Router::new()
        .route("/web/runs", get(list))
        .route("/web/runs/{id}", get(one))
        .route("/web/runs/{id}/events", get(events))
        .route("/web/runs/{id}/stop", post(stop))
        .route("/web/runs/{id}/resume", post(resume))
}

impl Web {
    fn runs(&self) -> Result<Arc<Runs>, Fault> {
        let none = || Fault::new(Kind::NoRoute, "this server shows no runs");
        self.runs.clone().ok_or_else(none)
    }
}

fn reader(visit: &Visit) -> Result<Reader, Fault> {
    Ok(if visit.who()?.may_manage {
        Reader::Manager
    } else {
        Reader::Guest
    })
}

async fn list(State(web): State<Web>, visit: Visit) -> Result<Json<List>, Fault> {
    let (runs, reader) = (web.runs()?, reader(&visit)?);
    web.aside.run(move || runs.list(reader)).await.map(Json)
}

async fn one(
    State(web): State<Web>,
    Path(id): Path<String>,
    visit: Visit,
) -> Result<Json<Whole>, Fault> {
    let (runs, reader) = (web.runs()?, reader(&visit)?);
    web.aside.run(move || runs.one(&id, reader)).await.map(Json)
}

async fn events(
    State(web): State<Web>,
    Path(id): Path<String>,
    Query(offsets): Query<Offsets>,
    visit: Visit,
) -> Result<Response, Fault> {
    visit.who()?;
    let (runs, shutdown) = (web.runs()?, web.shutdown.clone());
    // Finding the run may read the ledger.
    let open = move || watch(&runs, &id, offsets, &shutdown);
    let told = web.aside.run(open).await?;
    Ok(stream::events(told, Ending::Plain, web.keep_alive))
}

async fn stop(
    State(web): State<Web>,
    Path(id): Path<String>,
    _: Manager,
) -> Result<StatusCode, Fault> {
    let runs = web.runs()?;
    web.aside.run(move || runs.stop(&id)).await?;
    Ok(StatusCode::ACCEPTED)
}

async fn resume(
    State(web): State<Web>,
    Path(id): Path<String>,
    _: Manager,
) -> Result<StatusCode, Fault> {
    let runs = web.runs()?;
    web.aside.run(move || runs.resume(&id)).await?;
    Ok(StatusCode::ACCEPTED)
}
