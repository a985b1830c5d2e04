//! Lists of models.

use serde_json::Value;

use crate::client::Call;
use crate::doctor::case::{Case, Doing, one, own, refused};
use crate::doctor::check::{good, has, list, same, text, that};
use crate::doctor::subject::Subject;

pub(super) fn cases() -> Vec<Case> {
    vec![
        one(
            "the list is one of models with id, object, created and owned_by",
            |_| Call::get("/v1/models"),
            |_, answer| {
                let body = good(answer)?;
                same("object", &text(&body, "/object"), &"list")?;
                let is_model = |model: &Value| {
                    has(model, "", &["id", "object", "created", "owned_by"])?;
                    same("object", &text(model, "/object"), &"model")
                };
                list(&body, "/data").iter().try_for_each(is_model)
            },
        ),
        one(
            "the model that answers is in it",
            |_| Call::get("/v1/models"),
            |s, answer| {
                let body = good(answer)?;
                let ids: Vec<&str> = (list(&body, "/data").iter())
                    .map(|model| text(model, "/id"))
                    .collect();
                that(ids.contains(&s.model()), || {
                    format!("expected {}, got {ids:?}", s.model())
                })
            },
        ),
        own("a model is shown by its name", shown),
        refused(
            "a model that there is not is 404",
            |_| Call::get("/v1/models/no-such-model"),
            (404, "model"),
        ),
    ]
}

fn shown(s: &Subject) -> Doing<'_> {
    Box::pin(async move {
        let path = format!("/v1/models/{}", s.model());
        let body = good(&s.send(Call::get(&path)).await?)?;
        same("id", &text(&body, "/id"), &s.model())?;
        same("object", &text(&body, "/object"), &"model")
    })
}
