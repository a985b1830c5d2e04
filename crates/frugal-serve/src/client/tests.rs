//! Against sockets that say what real servers say, cut where networks cut.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::heard::hear;
use super::*;

/// A server that answers each connection's requests by what it is given, in pieces.
async fn server(answers: Vec<Vec<&'static str>>) -> Target {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        for answer in answers {
            let mut head = vec![0; 4096];
            let count = socket.read(&mut head).await.unwrap();
            assert!(count > 0, "no request came");
            for piece in answer {
                socket.write_all(piece.as_bytes()).await.unwrap();
                socket.flush().await.unwrap();
                tokio::task::yield_now().await;
            }
        }
        // Stays open, so that a second connection would hang.
        std::future::pending::<()>().await;
    });
    Target::parse(&format!("http://{address}/v1/")).unwrap()
}

#[test]
fn addresses_are_read() {
    let cases = [
        ("http://127.0.0.1:8080", Some(("127.0.0.1", 8080, ""))),
        ("http://a.example", Some(("a.example", 80, ""))),
        ("http://a.example/", Some(("a.example", 80, ""))),
        ("http://a.example:9/v1/", Some(("a.example", 9, ""))),
        ("http://a.example:9/x/v1", Some(("a.example", 9, "/x"))),
        ("http://[::1]:7/", Some(("[::1]", 7, ""))),
        ("http://[::1]", Some(("[::1]", 80, ""))),
        ("https://a.example", None),
        ("http://", None),
        ("http://a:b", None),
        ("http://user@a", None),
        ("a.example", None),
    ];
    for (url, expected) in cases {
        let target = Target::parse(url).ok();
        let target = (target.as_ref()).map(|it| (it.host.as_str(), it.port, it.base.as_str()));
        assert_eq!(target, expected, "{url}");
    }
}

#[tokio::test]
async fn a_stream_is_heard_and_its_connection_used_again() {
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    // Lengths of chunks are made, not counted by hand.
    let payload = [
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"reasoning_content\":\"hm\"}}]}\n\n: keep-alive\n\nda",
        "ta: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"two\"},\"finish_reason\":\"stop\"}]}\n\n",
        "data: {\"choices\":[],\"usage\":{\"completion_tokens\":7}}\n\ndata: [DONE]\n\n",
    ];
    let mut pieces: Vec<&'static str> = vec![head];
    for piece in payload {
        let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
        pieces.push(Box::leak(chunk.into_boxed_str()));
    }
    pieces.push("0\r\n\r\n");
    let second =
        vec!["HTTP/1.1 429 Too Many Requests\r\nretry-after: 2\r\ncontent-length: 2\r\n\r\n{}"];
    let client = Client::new(server(vec![pieces, second]).await);
    let call = || Call::post("/v1/chat/completions", &json!({ "stream": true }));
    let heard = hear(&client, call()).await.unwrap();
    assert!(heard.is_whole(), "{heard:?}");
    assert_eq!((heard.thought.as_str(), heard.text.as_str()), ("hm", "two"));
    assert_eq!((heard.n_tokens(), heard.pieces.len()), (7, 2));
    let refused = hear(&client, call()).await.unwrap();
    assert!(refused.is_refused() && !refused.is_whole(), "{refused:?}");
    assert_eq!(refused.retry_after, Some(2.0));
}

#[tokio::test]
async fn a_reply_that_is_dropped_closes_its_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Target::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let server = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut head = vec![0; 4096];
        socket.read(&mut head).await.unwrap();
        let answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n";
        socket.write_all(answer).await.unwrap();
        // The end, or an error where the system tells it as a reset.
        !matches!(socket.read(&mut head).await, Ok(count) if count > 0)
    });
    let client = Client::new(target);
    let mut reply = client.begin(Call::get("/")).await.unwrap();
    assert_eq!(reply.next_bytes().await.unwrap().unwrap(), "a");
    drop(reply);
    assert!(server.await.unwrap());
}
