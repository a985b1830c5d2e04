//! Every class of hole that was published of servers like this one, tried here.
//!
//! Numbers of rows are those of the list of published holes that this project keeps. Rows about
//! model files, sockets between machines and pages of browsers concern other rooms, or nothing here:
//! no code is ever read from a model or a request, and there is no socket but the one for clients.

use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::client::Answer;
use super::house::{House, Setup};
use super::model::Script;

mod requests;
mod secrets;
mod words;
mod work;

async fn short() -> House {
    House::open(Setup::saying(Script::says("the rain")))
        .warm()
        .await
}

/// Nothing of this takes longer, on a busy machine and with checks of debug builds.
const SOON: Duration = Duration::from_secs(10);

/// Within the time, and the server still answers others meanwhile and afterwards.
async fn in_time(house: &House, what: &str, request: &str) -> Answer {
    let others = async {
        let began = Instant::now();
        house.get("/livez").await.ok();
        assert!(began.elapsed() < SOON, "{what}: others waited");
    };
    let (answer, ()) = tokio::join!(timeout(SOON, house.ask(request)), others);
    let answer = answer.unwrap_or_else(|_| panic!("{what} took too long"));
    assert!(
        [200, 400, 413].contains(&answer.status),
        "{what}: {answer:?}"
    );
    if answer.status != 200 {
        answer.tells_nothing();
    }
    answer
}
