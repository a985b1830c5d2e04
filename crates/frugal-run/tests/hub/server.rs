//! A small server that speaks the hub's routes and can be told to misbehave.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// One request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: BTreeMap<String, String>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Where a range begins.
    pub(crate) fn from(&self) -> Option<usize> {
        let range = self.header("range")?;
        let from = range.strip_prefix("bytes=")?.strip_suffix('-')?;
        Some(from.parse().unwrap())
    }
}

/// What is sent back.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Bytes of the body after which the connection ends, or waits.
    pub(crate) stop: Option<(usize, Stop)>,
    pub(crate) is_chunked: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    Cut,
    Stall(Duration),
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: b"{}".to_vec(),
            stop: None,
            is_chunked: false,
        }
    }

    pub(crate) fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self {
            body: body.into(),
            ..Self::status(200)
        }
    }

    pub(crate) fn redirect(to: impl Into<String>) -> Self {
        Self::status(302).with("Location", to)
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn cut_after(mut self, bytes: usize) -> Self {
        self.stop = Some((bytes, Stop::Cut));
        self
    }

    pub(crate) fn stall_after(mut self, bytes: usize, time: Duration) -> Self {
        self.stop = Some((bytes, Stop::Stall(time)));
        self
    }

    pub(crate) fn chunked(mut self) -> Self {
        self.is_chunked = true;
        self
    }

    fn send(&self, stream: &mut TcpStream) -> std::io::Result<()> {
        let mut head = Vec::new();
        write!(head, "HTTP/1.1 {} X\r\nConnection: close\r\n", self.status)?;
        for (name, value) in &self.headers {
            write!(head, "{name}: {value}\r\n")?;
        }
        let has_length = self
            .headers
            .iter()
            .any(|(name, _)| name == "Content-Length");
        if self.is_chunked {
            write!(head, "Transfer-Encoding: chunked\r\n")?;
        } else if !has_length {
            write!(head, "Content-Length: {}\r\n", self.body.len())?;
        }
        write!(head, "\r\n")?;
        stream.write_all(&head)?;
        let sent = self.stop.map_or(self.body.len(), |(bytes, _)| bytes);
        let body = &self.body[..sent.min(self.body.len())];
        if self.is_chunked {
            stream.write_all(format!("{:x}\r\n", body.len()).as_bytes())?;
            stream.write_all(body)?;
            stream.write_all(b"\r\n0\r\n\r\n")?;
        } else {
            stream.write_all(body)?;
        }
        stream.flush()?;
        if let Some((_, Stop::Stall(time))) = self.stop {
            thread::sleep(time);
        }
        Ok(())
    }
}

/// A server on this machine; it ends with the value.
pub(crate) struct Server {
    address: SocketAddr,
    log: Arc<Mutex<Vec<Request>>>,
    is_over: Arc<AtomicBool>,
}

impl Server {
    pub(crate) fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let is_over = Arc::new(AtomicBool::new(false));
        let (answer, seen, over) = (Arc::new(answer), Arc::clone(&log), Arc::clone(&is_over));
        thread::spawn(move || {
            for stream in listener.incoming() {
                if over.load(Ordering::SeqCst) {
                    break;
                }
                let Ok(mut stream) = stream else { continue };
                let (answer, seen) = (Arc::clone(&answer), Arc::clone(&seen));
                thread::spawn(move || {
                    let Some(request) = read(&stream) else { return };
                    seen.lock().unwrap().push(request.clone());
                    // A client that has seen enough closes; that is its right.
                    drop(answer(&request).send(&mut stream));
                });
            }
        });
        Self {
            address,
            log,
            is_over,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests so far.
    pub(crate) fn log(&self) -> Vec<Request> {
        self.log.lock().unwrap().clone()
    }

    /// Those for a file of this last name.
    pub(crate) fn asked(&self, name: &str) -> Vec<Request> {
        let all = self.log();
        let is_asked = |request: &Request| request.path.ends_with(&format!("/{name}"));
        all.into_iter().filter(is_asked).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        // Wakes the listener so that it sees the flag.
        drop(TcpStream::connect(self.address));
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream.take(1 << 16)).lines();
    let first = lines.next()?.ok()?;
    let target = first.split(' ').nth(1)?.to_owned();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut headers = BTreeMap::new();
    for line in lines {
        let line = line.ok()?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    Some(Request {
        path: path.to_owned(),
        query: query.to_owned(),
        headers,
    })
}

/// A repository as the hub would serve it.
#[derive(Debug, Clone)]
pub(crate) struct Repository {
    pub(crate) id: String,
    pub(crate) commit: String,
    pub(crate) files: BTreeMap<String, Vec<u8>>,
}

impl Repository {
    pub(crate) fn new(id: &str, files: &[(&str, &[u8])]) -> Self {
        let files = files
            .iter()
            .map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec()));
        Self {
            id: id.to_owned(),
            commit: "0123456789abcdef0123456789abcdef01234567".to_owned(),
            files: files.collect(),
        }
    }

    pub(crate) fn listing(&self) -> serde_json::Value {
        let files: Vec<serde_json::Value> = self
            .files
            .iter()
            .map(|(name, bytes)| {
                let git = Sha1::new_with_prefix(format!("blob {}\0", bytes.len()));
                let blob = format!("{:x}", git.chain_update(bytes).finalize());
                let mut file = serde_json::json!({
                    "rfilename": name, "size": bytes.len(), "blobId": blob,
                });
                if [".safetensors", ".gguf"]
                    .iter()
                    .any(|end| name.ends_with(end))
                {
                    let sha256 = format!("{:x}", Sha256::digest(bytes));
                    file["lfs"] = serde_json::json!({
                        "sha256": sha256, "size": bytes.len(), "pointerSize": 134,
                    });
                    file["blobId"] = "f".repeat(40).into();
                }
                file
            })
            .collect();
        serde_json::json!({
            "_id": "x", "id": self.id, "sha": self.commit, "private": false, "gated": false,
            "siblings": files,
        })
    }

    /// What an honest hub answers.
    pub(crate) fn answer(&self, request: &Request) -> Reply {
        let listing = format!("/api/models/{}/revision/", self.id);
        if let Some(revision) = request.path.strip_prefix(&listing) {
            if revision != "main" && revision != self.commit || request.query != "blobs=true" {
                return Reply::status(404);
            }
            return Reply::ok(self.listing().to_string());
        }
        let files = format!("/{}/resolve/{}/", self.id, self.commit);
        let name = request.path.strip_prefix(&files);
        match name.and_then(|name| self.files.get(name)) {
            Some(bytes) => ranged(request, bytes),
            None => Reply::status(404),
        }
    }
}

/// The whole of some bytes, or the rest of them where that was asked for and they are the same.
pub(crate) fn ranged(request: &Request, bytes: &[u8]) -> Reply {
    let tag = format!("\"{:x}\"", Sha256::digest(bytes));
    let is_same = request.header("if-range").is_none_or(|known| known == tag);
    match request.from().filter(|_| is_same) {
        Some(from) if from >= bytes.len() => Reply::status(416),
        Some(from) => Reply {
            status: 206,
            ..Reply::ok(&bytes[from..])
        }
        .with(
            "Content-Range",
            format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len()),
        )
        .with("ETag", tag),
        None => Reply::ok(bytes).with("ETag", tag),
    }
}
