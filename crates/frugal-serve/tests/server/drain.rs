//! How a server ends.

use std::time::{Duration, Instant};

use frugal_serve::server::{Stage, State};
use tokio::time::{sleep, timeout};

use crate::bytes::{Client, ask, get, post_text};
use crate::toy::{SOON, start};

#[tokio::test]
async fn draining_finishes_what_runs_and_begins_nothing() {
    let toy = start(|_| {});
    let mut runs = Client::connect(toy.address).await;
    runs.send(&get("/v1/count/40")).await;
    runs.until("data: 0\n").await;
    let mut idle = Client::connect(toy.address).await;
    idle.send(&get("/readyz")).await;
    assert_eq!(idle.answer().await.status, 200);

    toy.shutdown.drain();
    assert_eq!(toy.readiness.state(), State::Draining);
    assert_eq!(idle.rest().await, "");
    let ready = ask(toy.address, &get("/readyz")).await;
    assert_eq!((ready.status, ready.code().as_str()), (503, "unavailable"));
    assert_eq!(ready.header("connection"), Some("close"));
    assert_eq!(ask(toy.address, &get("/livez")).await.status, 200);
    let refused = ask(toy.address, &post_text("/v1/echo", "{}")).await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.header("retry-after"), Some("5"));
    assert_eq!(refused.header("x-should-retry"), Some("true"));

    let text = runs.until("[DONE]").await;
    assert!(text.contains("data: 39\n"), "{text}");
    runs.rest().await;
    timeout(SOON, toy.server).await.unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(toy.address).await.is_err());
}

#[tokio::test]
async fn what_does_not_finish_is_cut_at_the_deadline() {
    let mut toy = start(|settings| settings.drain_time = Duration::from_millis(200));
    let mut runs = Client::connect(toy.address).await;
    runs.send(&get("/v1/silent")).await;
    runs.until("\r\n\r\n").await;
    let began = Instant::now();
    toy.shutdown.drain();
    timeout(SOON, toy.server).await.unwrap().unwrap();
    let seconds = began.elapsed().as_secs_f64();
    assert!((0.19..1.0).contains(&seconds), "{seconds}");
    timeout(SOON, toy.dropped.recv()).await.unwrap().unwrap();
    assert_eq!(runs.rest().await, "");
}

#[tokio::test]
async fn nothing_running_ends_at_once() {
    let toy = start(|_| {});
    let mut idle = Client::connect(toy.address).await;
    idle.send(&get("/livez")).await;
    idle.answer().await;
    toy.shutdown.drain();
    // Clients close when they are told to.
    drop(idle);
    timeout(SOON, toy.server).await.unwrap().unwrap();
}

#[cfg(unix)]
#[tokio::test]
async fn the_first_signal_drains_and_the_second_cuts() {
    let toy = start(|_| {});
    let shutdown = toy.shutdown.clone();
    let reloads = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&reloads);
    let signals = tokio::spawn(async move {
        let reload = || {
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        };
        shutdown.obey_signals(reload).await
    });
    sleep(Duration::from_millis(50)).await;
    let mut runs = Client::connect(toy.address).await;
    runs.send(&get("/v1/silent")).await;
    runs.until("\r\n\r\n").await;
    let signal = |name: &str| {
        let line = format!("kill {name} {}", std::process::id());
        let kill = std::process::Command::new("sh")
            .args(["-c", &line])
            .status();
        assert!(kill.unwrap().success());
    };
    signal("-HUP");
    signal("-TERM");
    timeout(SOON, toy.shutdown.reached(Stage::Draining))
        .await
        .unwrap();
    assert_eq!(toy.shutdown.stage(), Stage::Draining);
    signal("-INT");
    timeout(SOON, toy.server).await.unwrap().unwrap();
    timeout(SOON, signals).await.unwrap().unwrap().unwrap();
    assert_eq!(reloads.load(std::sync::atomic::Ordering::Relaxed), 1);
}
