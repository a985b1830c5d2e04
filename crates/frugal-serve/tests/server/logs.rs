//! The access log: what is in it, and what never is.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use frugal_serve::server::Line;
use tokio::time::sleep;

use crate::bytes::{Client, ask, get, post_text};
use crate::toy::{OneKey, Toy, start_for};

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

async fn last(toy: &Toy, count: usize) -> Line {
    for _ in 0..100 {
        if let Some(line) = toy.lines.lock().unwrap().get(count - 1) {
            return line.clone();
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("no line {count}");
}

#[tokio::test]
async fn a_line_a_request_and_nothing_secret() {
    let kept = Kept::default();
    let writer = kept.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .with_max_level(tracing::Level::TRACE)
        .finish();
    // For all threads: whether a place logs is decided once, by whichever test comes there first.
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let toy = start_for(Arc::new(OneKey), |_| {});
    let keyed = |request: String| {
        request.replacen(
            "\r\n",
            "\r\nauthorization: Bearer good\r\nx-request-id: trace-of-log\r\n",
            1,
        )
    };

    let mut client = Client::connect(toy.address).await;
    client.send(&keyed(get("/v1/count/3?token=hidden"))).await;
    client.until("[DONE]\n\n").await;
    let line = last(&toy, 1).await;
    let expected = Line {
        id: "trace-of-log".into(),
        method: "GET".into(),
        route: "/v1/count/{n}".into(),
        status: 200,
        seconds: line.seconds,
        bytes: 41,
        key: Some("team".into()),
        model: Some("toy\\nmodel".into()),
        prompt_tokens: Some(3),
        completion_tokens: Some(3),
    };
    assert_eq!(line, expected);
    assert!((0.03..1.0).contains(&line.seconds), "{line:?}");

    ask(toy.address, &keyed(post_text("/v1/echo", "\"my prompt\""))).await;
    assert_eq!(last(&toy, 2).await.route, "/v1/echo");
    ask(toy.address, &keyed(get("/v1/%0a%1bhidden"))).await;
    assert_eq!(last(&toy, 3).await.route, "-");
    let keyless = keyed(get("/v1/who")).replace("Bearer", "Basic");
    ask(toy.address, &keyless).await;
    let refused = last(&toy, 4).await;
    assert_eq!((refused.status, refused.key), (401, None));
    ask(toy.address, &keyed(get("/v1/panic"))).await;
    assert_eq!(last(&toy, 5).await.status, 500);

    let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
    // Those of other tests are there as well, and have no more secrets.
    let own = text.lines().filter(|line| line.contains("trace-of-log"));
    assert_eq!(
        own.filter(|line| line.contains(" access: ")).count(),
        5,
        "{text}"
    );
    for secret in ["good", "hidden", "my prompt", "secret", "toy\nmodel"] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
}
