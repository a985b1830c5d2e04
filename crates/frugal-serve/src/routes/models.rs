//! `GET /v1/models` and one of them.

use axum::extract::{Path, State};
use axum::response::Json;
use serde_json::Value;

use super::Front;
use crate::keys::Holder;
use crate::models::Listed;
use crate::server::Visit;
use crate::wire::error::{Fault, Kind};
use crate::wire::models;

/// The models that a key may use.
pub(super) async fn usable(front: &Front, holder: &Holder) -> Result<Vec<Listed>, Fault> {
    let shelf = &front.service.parts.shelf;
    let may = |model: &Listed| {
        let own = shelf.resolve(&model.name);
        holder.may_use(&model.name, own).is_ok()
    };
    Ok(shelf.list().await?.into_iter().filter(may).collect())
}

/// One of them by its name.
pub(super) fn named<'a>(usable: &'a [Listed], name: &str) -> Result<&'a Listed, Fault> {
    let none = || Fault::new(Kind::NoModel, "there is no model of this name").at("model");
    (usable.iter().find(|model| model.name == name)).ok_or_else(none)
}

pub(super) async fn list(State(front): State<Front>, visit: Visit) -> Result<Json<Value>, Fault> {
    let usable = usable(&front, visit.who()?).await?;
    Ok(Json(models::list(&usable)))
}

pub(super) async fn one(
    State(front): State<Front>,
    Path(id): Path<String>,
    visit: Visit,
) -> Result<Json<Value>, Fault> {
    let usable = usable(&front, visit.who()?).await?;
    Ok(Json(models::object(named(&usable, &id)?)))
}
