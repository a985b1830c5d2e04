//! Clients that leave: what works for them must end at once, also while nothing is written.

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::time::{sleep, timeout};

use crate::bytes::{Client, get};
use crate::toy::{SOON, Toy, start};

/// How a client leaves.
#[derive(Debug, Clone, Copy)]
enum Way {
    Closes,
    Resets,
    ClosesItsHalf,
}

/// Seconds from leaving to the end of the work.
async fn seconds_to_leave(toy: &mut Toy, request: &str, way: Way) -> f64 {
    let mut client = Client::connect(toy.address).await;
    client.send(request).await;
    sleep(Duration::from_millis(20)).await;
    assert!(toy.dropped.try_recv().is_err(), "{request}: ended too soon");
    let Client { mut stream, .. } = client;
    let left = Instant::now();
    // Held to the end where only a half is closed.
    let _held = match way {
        Way::Closes => {
            drop(stream);
            None
        }
        Way::Resets => {
            let socket = socket2::SockRef::from(&stream);
            socket.set_linger(Some(Duration::ZERO)).unwrap();
            drop(stream);
            None
        }
        Way::ClosesItsHalf => {
            stream.shutdown().await.unwrap();
            Some(stream)
        }
    };
    let ended = timeout(SOON, toy.dropped.recv()).await.unwrap().unwrap();
    ended.duration_since(left).as_secs_f64()
}

#[tokio::test]
async fn work_ends_within_a_tenth_of_a_second_of_its_client_leaving() {
    let mut toy = start(|_| {});
    // Bytes of a next request keep hyper from reading on.
    let with_more = get("/v1/silent") + "GET /";
    let waits_with_more = get("/v1/wait") + "\r\n";
    for request in [
        &get("/v1/silent"),
        &get("/v1/wait"),
        &with_more,
        &waits_with_more,
    ] {
        for way in [Way::Closes, Way::Resets, Way::ClosesItsHalf] {
            // The best of three: the machine may be busy with other tests.
            let mut best = f64::INFINITY;
            for _ in 0..3 {
                best = best.min(seconds_to_leave(&mut toy, request, way).await);
                if best < 0.1 {
                    break;
                }
            }
            assert!(best < 0.1, "{request} {way:?}: {best}");
        }
    }
    let lines = toy.lines.lock().unwrap();
    assert!(lines.len() >= 12);
    assert!(lines.iter().all(|line| line.status == 499), "{lines:?}");
}

#[tokio::test]
async fn a_client_that_closes_its_half_still_gets_what_is_ready() {
    let toy = start(|_| {});
    for _ in 0..20 {
        let mut client = Client::connect(toy.address).await;
        client.send(&get("/v1/number/1")).await;
        client.stream.shutdown().await.unwrap();
        assert_eq!(client.answer().await.status, 200);
    }
}
