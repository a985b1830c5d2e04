//! Clients that do not read, and clients that never finish asking: nobody else is held up.

use std::time::Duration;

use frugal_run::consumption::Stopwatch;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::Subject;
use super::measure::{Closed, Summary, closed};
use crate::client::{Client, Error, Reply};

/// Clients that read, before and beside the others.
const READERS: usize = 8;
/// Bytes that wait in a slow client's system. Much more does not fit the server's side.
const BUFFER: u32 = 4096;
/// How long the server may take to be done with answers that nobody reads.
const DONE_TIME: f64 = 120.0;

/// What is tried.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slow {
    /// Clients that read one event a second, and as many that never finish asking.
    pub clients: usize,
    /// Tokens of the answers that are not read.
    pub tokens: usize,
    /// How long readers are measured, each time.
    pub seconds: f64,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// Slow clients whose answer began.
    pub slow: usize,
    /// Connections that never finish asking.
    pub half_open: usize,
    /// Of both, those the server still kept at the end.
    pub kept: usize,
    /// Readers alone.
    pub before: Summary,
    /// Seconds until the server computed nothing for slow clients any more, where it says.
    pub done_after: Option<f64>,
    /// Readers beside them.
    pub beside: Summary,
}

impl Told {
    /// Whether readers were as well off as before: four fifths of the tokens, first tokens within
    /// twice the time (and a fiftieth of a second).
    pub fn is_well(&self) -> bool {
        let first = |summary: &Summary| summary.first.map_or(f64::INFINITY, |first| first.p50);
        self.beside.failed + self.beside.refused + self.beside.refused_bluntly == 0
            && self.beside.whole > 0
            && self.beside.tokens_per_second >= 0.8 * self.before.tokens_per_second
            && first(&self.beside) <= 2.0 * first(&self.before) + 0.02
    }
}

impl Slow {
    /// Measures readers alone and beside the others.
    ///
    /// # Errors
    /// If the server does not let so many connect.
    pub async fn run(self, subject: &Subject) -> Result<Told, Error> {
        let readers = |first| Closed {
            streams: READERS,
            requests: None,
            seconds: Some(self.seconds),
            first,
        };
        closed(
            subject,
            Closed {
                seconds: Some(1.0),
                ..readers(1 << 20)
            },
        )
        .await;
        let before = closed(subject, readers(0)).await.summary();
        let half_open = half_open(&subject.client, self.clients).await?;
        let slow = self.slow(subject).await;
        let n_slow = slow.len();
        let done_after = idle(subject).await;
        let beside = closed(subject, readers(1 << 32)).await.summary();
        let mut kept = 0;
        for stream in &half_open {
            kept += usize::from(!is_closed(stream));
        }
        let mut lived = slow;
        while let Some(is_alive) = lived.try_join_next() {
            kept += usize::from(is_alive.unwrap_or(false));
        }
        kept += lived.len();
        Ok(Told {
            slow: n_slow,
            half_open: half_open.len(),
            kept,
            before,
            done_after,
            beside,
        })
    }

    /// Clients that ask for much and read little, until they are dropped.
    async fn slow(self, subject: &Subject) -> JoinSet<bool> {
        let client = subject.client.with_receive_buffer(BUFFER);
        let questions = subject.questions.with_tokens(self.tokens);
        let mut asking = JoinSet::new();
        for index in 0..self.clients as u64 {
            let (client, call) = (client.clone(), questions.call((1 << 33) + index));
            asking.spawn(async move { client.begin(call).await });
        }
        let mut slow = JoinSet::new();
        while let Some(asked) = asking.join_next().await {
            if let Ok(Ok(reply)) = asked
                && reply.status == 200
            {
                slow.spawn(read_slowly(reply));
            }
        }
        slow
    }
}

/// Whether the answer went on to its end.
async fn read_slowly(mut reply: Reply) -> bool {
    loop {
        match reply.next_event().await {
            Ok(Some(_)) => sleep(Duration::from_secs(1)).await,
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

/// Connections that say nothing, half of a head, or half of a body.
async fn half_open(client: &Client, n: usize) -> Result<Vec<TcpStream>, Error> {
    const SAID: [&str; 3] = [
        "",
        "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-",
        "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{\"model\":",
    ];
    let mut streams = Vec::new();
    for said in SAID.iter().cycle().take(n) {
        let mut stream = client.connect().await?;
        // One that is closed already is found so at the end.
        let _ = stream.write_all(said.as_bytes()).await;
        streams.push(stream);
    }
    Ok(streams)
}

fn is_closed(stream: &TcpStream) -> bool {
    let mut scrap = [0; 4096];
    loop {
        match stream.try_read(&mut scrap) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}

/// Waits until the server computes nothing.
async fn idle(subject: &Subject) -> Option<f64> {
    let watch = Stopwatch::start();
    while watch.seconds() < DONE_TIME {
        let running = subject.gauge("frugal_num_requests_running").await?;
        let waiting = subject.gauge("frugal_num_requests_waiting").await?;
        if running + waiting < 1.0 {
            return Some(watch.seconds());
        }
        sleep(Duration::from_millis(100)).await;
    }
    None
}
