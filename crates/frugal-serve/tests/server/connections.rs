//! Many clients, slow clients, clients that never speak.

use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

use crate::bytes::{Client, ask, get};
use crate::toy::{SOON, start};

#[tokio::test]
async fn a_head_that_trickles_is_cut_and_holds_nobody_up() {
    let toy = start(|settings| settings.head_time = Duration::from_millis(200));
    let mut slow = Client::connect(toy.address).await;
    slow.send("GET /livez HT").await;
    let began = Instant::now();
    let trickle = async {
        for _ in 0..3 {
            sleep(Duration::from_millis(60)).await;
            slow.send("x").await;
        }
        slow.rest().await
    };
    let request = get("/livez");
    let (text, other) = tokio::join!(trickle, ask(toy.address, &request));
    assert_eq!((text.as_str(), other.status), ("", 200));
    let seconds = began.elapsed().as_secs_f64();
    assert!((0.19..1.0).contains(&seconds), "{seconds}");
}

#[tokio::test]
async fn a_connection_is_kept_while_it_is_used_and_closed_when_it_idles() {
    let toy = start(|settings| settings.idle_time = Duration::from_millis(250));
    let mut client = Client::connect(toy.address).await;
    // Longer in all than a connection may idle.
    for _ in 0..4 {
        client.send(&get("/livez")).await;
        assert_eq!(client.answer().await.status, 200);
        sleep(Duration::from_millis(100)).await;
    }
    let began = Instant::now();
    assert_eq!(client.rest().await, "");
    assert!(began.elapsed() < SOON);
    let mut mute = Client::connect(toy.address).await;
    assert_eq!(mute.rest().await, "");
}

#[tokio::test]
async fn requests_in_a_row_are_answered_in_order() {
    let toy = start(|_| {});
    let mut client = Client::connect(toy.address).await;
    let three = [1, 2, 3].map(|n| get(&format!("/v1/number/{n}"))).concat();
    client.send(&three).await;
    let text = client.until("\r\n\r\n3").await;
    let order: Vec<_> = ["\r\n\r\n1", "\r\n\r\n2", "\r\n\r\n3"]
        .map(|mark| text.find(mark).unwrap())
        .to_vec();
    assert!(order.is_sorted());
}

#[tokio::test]
async fn five_hundred_idle_connections_hold_nobody_up() {
    let toy = start(|_| {});
    let mut idle = Vec::new();
    for _ in 0..500 {
        idle.push(Client::connect(toy.address).await);
    }
    let began = Instant::now();
    assert_eq!(ask(toy.address, &get("/livez")).await.status, 200);
    assert!(began.elapsed() < SOON);
    for client in idle.iter_mut().step_by(50) {
        client.send(&get("/v1/number/1")).await;
        assert_eq!(client.answer().await.status, 200);
    }
}

#[tokio::test]
async fn more_connections_than_allowed_are_told_so() {
    let toy = start(|settings| settings.connections = 2);
    let mut held = vec![
        Client::connect(toy.address).await,
        Client::connect(toy.address).await,
    ];
    for client in &mut held {
        client.send(&get("/livez")).await;
        client.answer().await;
    }
    let answer = ask(toy.address, &get("/livez")).await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (503, "unavailable")
    );
    assert_eq!(answer.header("retry-after"), Some("1"));
    held.clear();
    let freed = async {
        while ask(toy.address, &get("/livez")).await.status != 200 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, freed).await.unwrap();
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_dropped_while_others_go_on() {
    let mut toy = start(|settings| settings.write_time = Duration::from_millis(200));
    let mut slow = Client::connect(toy.address).await;
    slow.send(&get("/v1/flood")).await;
    let mut other = Client::connect(toy.address).await;
    other.send(&get("/v1/count/50")).await;
    let began = Instant::now();
    let text = other.until("[DONE]").await;
    assert!(text.contains("data: 49"), "{text}");
    assert!(began.elapsed() < SOON);
    timeout(SOON, toy.dropped.recv()).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_reader_that_takes_its_time_is_not_dropped() {
    let mut toy = start(|settings| settings.write_time = Duration::from_millis(700));
    // Little room on its side, so that the server sees what is taken soon after.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 << 10).unwrap();
    let stream = socket.connect(toy.address).await.unwrap();
    let mut slow = Client::over(stream);
    slow.send(&get("/v1/flood")).await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(1200) {
        assert!(!slow.more().await.is_empty());
        sleep(Duration::from_millis(2)).await;
    }
    assert!(toy.dropped.try_recv().is_err());
}

#[tokio::test]
async fn addresses_of_both_families_are_listened_on() {
    let settings = frugal_serve::server::Settings::usual(vec![
        ([127, 0, 0, 1], 0).into(),
        (std::net::Ipv6Addr::LOCALHOST, 0).into(),
    ]);
    assert!(settings.is_loopback_only());
    match frugal_serve::server::Server::bind(&settings) {
        Ok(server) => {
            let addresses = server.addresses();
            assert!(addresses[0].is_ipv4() && addresses[1].is_ipv6());
            let mut again = settings;
            again.listen = addresses[..1].to_vec();
            let Err(error) = frugal_serve::server::Server::bind(&again) else {
                panic!("an address was listened on twice");
            };
            assert_eq!(
                error.to_string(),
                format!("could not listen on {}", addresses[0])
            );
        }
        Err(error) => eprintln!("skipped: no IPv6 here ({error})"),
    }
}

#[tokio::test]
async fn streams_wait_with_comments_and_say_what_they_are() {
    let toy = start(|settings| settings.keep_alive = Duration::from_millis(50));
    let mut client = Client::connect(toy.address).await;
    client.send(&get("/v1/silent")).await;
    let text = client.until(": keep-alive\n\n").await + &client.until(": keep-alive\n\n").await;
    for header in [
        "HTTP/1.1 200 OK",
        "content-type: text/event-stream\r\n",
        "cache-control: no-cache\r\n",
        "x-accel-buffering: no\r\n",
    ] {
        assert!(text.contains(header), "{header}: {text}");
    }
    let mut client = Client::connect(toy.address).await;
    client.send(&get("/v1/lines/3")).await;
    let text = client.until("\r\n0\r\n").await;
    assert!(
        text.contains("content-type: application/x-ndjson"),
        "{text}"
    );
    assert!(text.contains("0\n1\n2\n"), "{text}");
}
