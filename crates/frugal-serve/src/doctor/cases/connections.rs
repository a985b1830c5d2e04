//! Clients that leave, come again, or come together.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use crate::client::{Answer, Call};
use crate::doctor::case::{Case, Doing, own};
use crate::doctor::check::{Why, answered, content, same, that};
use crate::doctor::subject::{Subject, read_until, write};

/// How long a server may take to notice that a client has left.
const NOTICED: Duration = Duration::from_secs(5);

pub(super) fn cases() -> Vec<Case> {
    vec![
        own("answers asked for together are those given alone", together),
        own("a client who leaves ends its answer", leaving),
        own(
            "a client who leaves a stream does not harm the next",
            next_one,
        ),
        own("a connection answers one request after another", again),
        own("a client who sends half a request holds nobody up", half),
    ]
}

/// Eight at a time, drawn with seeds of their own.
fn together(s: &Subject) -> Doing<'_> {
    Box::pin(async move {
        let call = |seed: u64| s.chat(&json!({ "seed": seed, "temperature": 1, "max_tokens": 24 }));
        let all = join_all((0..8).map(|seed| s.send(call(seed)))).await;
        for (seed, answer) in (0..).zip(all) {
            let together = answered(&answer?)?;
            let alone = answered(&s.send(call(seed)).await?)?;
            let what = format!("the answer of seed {seed}");
            same(&what, &content(&together), &content(&alone))?;
        }
        Ok(())
    })
}

/// Answers under way, by the metric that servers of this kind have.
fn running(metrics: &Answer) -> Option<f64> {
    let text = metrics.text();
    let mut found = None;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let is_running = [
            "requests_running",
            "requests_processing",
            "num_running_reqs",
        ];
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        if is_running.iter().any(|end| name.ends_with(end)) {
            let value: f64 = line.rsplit(' ').next()?.parse().ok()?;
            found = Some(found.unwrap_or(0.0) + value);
        }
    }
    found
}

fn leaving(s: &Subject) -> Doing<'_> {
    Box::pin(async move {
        let metrics = async || -> Result<f64, Why> {
            let answer = s.send(Call::get("/metrics")).await?;
            running(&answer).ok_or(Why::NotOffered)
        };
        metrics().await?;
        let long = json!({ "stream": true, "max_tokens": 3000, "ignore_eos": true });
        let mut reply = s.begin(s.chat(&long)).await?;
        reply.next_event().await?;
        reply.next_event().await?;
        drop(reply);
        let ended = async {
            while metrics().await? > 0.0 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Ok(())
        };
        let waited = tokio::time::timeout(NOTICED, ended).await;
        waited.unwrap_or_else(|_| {
            let seconds = NOTICED.as_secs();
            Err(Why::Fails(format!(
                "it was still being made {seconds} s later"
            )))
        })
    })
}

fn next_one(s: &Subject) -> Doing<'_> {
    Box::pin(async move {
        let mut reply = s
            .begin(s.chat(&json!({ "stream": true, "max_tokens": 64 })))
            .await?;
        reply.next_event().await?;
        drop(reply);
        answered(&s.send(s.chat(&json!({ "max_tokens": 2 }))).await?).map(drop)
    })
}

fn again(s: &Subject) -> Doing<'_> {
    Box::pin(async move {
        let mut stream = s.connect().await?;
        let request = format!("{}\r\n", s.head("GET", "models"));
        for _ in 0..2 {
            write(&mut stream, &request).await?;
            let is_whole = |text: &str| text.contains("\"list\"") && text.contains("}]");
            let answer = read_until(&mut stream, is_whole).await?;
            let line = answer.lines().next().unwrap_or_default().to_owned();
            that(line.starts_with("HTTP/1.1 200"), || {
                format!("expected HTTP/1.1 200, got {line:?}")
            })?;
        }
        Ok(())
    })
}

fn half(s: &Subject) -> Doing<'_> {
    Box::pin(async move {
        let mut held = Vec::new();
        for _ in 0..8 {
            let mut stream = s.connect().await?;
            let head = s.head("POST", "chat/completions");
            let rest = "content-type: application/json\r\ncontent-length: 100\r\n\r\n{\"model\"";
            write(&mut stream, &format!("{head}{rest}")).await?;
            held.push(stream);
        }
        let answer = s.send(s.chat(&json!({ "max_tokens": 2 }))).await?;
        drop(held);
        answered(&answer).map(drop)
    })
}
