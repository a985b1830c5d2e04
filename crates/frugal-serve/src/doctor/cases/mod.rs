//! The cases, a file an area.

use super::Area;
use super::case::Case;

mod chat;
mod completions;
mod connections;
mod errors;
mod forms;
mod messages;
mod models;
mod operation;
mod parameters;
mod reasoning;
mod responses;
mod streaming;
mod tokens;
mod tools;
mod usage;

/// Those of an area.
pub(super) fn of(area: Area) -> Vec<Case> {
    match area {
        Area::Chat => chat::cases(),
        Area::Streaming => streaming::cases(),
        Area::Errors => errors::cases(),
        Area::Parameters => parameters::cases(),
        Area::Forms => forms::cases(),
        Area::Tools => tools::cases(),
        Area::Reasoning => reasoning::cases(),
        Area::Usage => usage::cases(),
        Area::Completions => completions::cases(),
        Area::Responses => responses::cases(),
        Area::Messages => messages::cases(),
        Area::Tokens => tokens::cases(),
        Area::Models => models::cases(),
        Area::Connections => connections::cases(),
        Area::Operation => operation::cases(),
    }
}
