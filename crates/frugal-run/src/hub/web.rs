//! Requests: redirects followed by hand so that the token stays at home, answers turned into
//! errors that say what to do, failures that may pass tried again.

use std::fmt::Write as _;
use std::io::Read;
use std::time::Duration;

use ureq::http::{HeaderMap, StatusCode, Uri};
use ureq::{Agent, Body};

use super::{HubError, Progress, Settings, Watch};
use crate::store::Stop;

const MOST_REDIRECTS: usize = 8;
const MOST_HEADER_BYTES: usize = 64 << 10;

/// A connection's other end: what a token may be sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Origin {
    scheme: String,
    host: String,
    port: u16,
}

impl Origin {
    fn of(address: &Uri) -> Option<Self> {
        let scheme = address.scheme_str()?.to_ascii_lowercase();
        let port = match scheme.as_str() {
            "https" => 443,
            "http" => 80,
            _ => return None,
        };
        let authority = address.authority()?;
        // A name before the host is how addresses pretend to be others.
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return None;
        }
        Some(Self {
            scheme,
            host: authority.host().to_ascii_lowercase(),
            port: authority.port_u16().unwrap_or(port),
        })
    }

    fn is_this_machine(&self) -> bool {
        let host = self.host.trim_matches(['[', ']']);
        let is_loopback = |host: &str| {
            host.parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback())
        };
        host == "localhost" || is_loopback(host)
    }
}

/// An answer that is no redirect.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    body: Body,
    /// Where it came from, without the query, which may hold a signature.
    pub(super) place: String,
    is_home: bool,
}

impl Answer {
    /// A header that is plain text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body; its length is the caller's to limit.
    pub(super) fn reader(self) -> impl Read {
        self.body.into_reader()
    }
}

/// A failure, and whether it may pass.
pub(super) enum Fault {
    Final(HubError),
    /// With the pause that the server asks for.
    Passing(HubError, Option<Duration>),
}

impl<E: Into<HubError>> From<E> for Fault {
    fn from(error: E) -> Self {
        Self::Final(error.into())
    }
}

/// The one who asks.
#[derive(Debug)]
pub(super) struct Web {
    agent: Agent,
    endpoint: String,
    home: Origin,
    authorization: Option<Secret>,
    attempts: u32,
    pause: Duration,
    longest_pause: Duration,
    stop: Stop,
    pub(super) stall: Duration,
}

/// A token that no debug print shows.
struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Web {
    pub(super) fn new(settings: &Settings) -> Result<Self, HubError> {
        let refuse = |message: String| HubError::Settings(message);
        let endpoint = settings.endpoint.trim_end_matches('/').to_owned();
        let address: Option<Uri> = endpoint.parse().ok();
        let origin = address
            .filter(|address| address.query().is_none())
            .and_then(|address| Origin::of(&address));
        let home = origin.ok_or_else(|| {
            refuse(format!(
                "expected an endpoint like https://huggingface.co, got {endpoint:?}"
            ))
        })?;
        let authorization = match &settings.token {
            None => None,
            Some(token) if token.bytes().all(|byte| byte.is_ascii_graphic()) => {
                if home.scheme != "https" && !home.is_this_machine() {
                    return Err(refuse(format!(
                        "expected an https endpoint to send a token to, got {endpoint}"
                    )));
                }
                Some(Secret(format!("Bearer {token}")))
            }
            Some(_) => {
                return Err(refuse(
                    "expected a token of plain letters and digits, got other characters".into(),
                ));
            }
        };
        let proxy = settings.proxy.as_deref().map(ureq::Proxy::new).transpose();
        let proxy = proxy.map_err(|error| {
            // The address may hold a password, so it is not repeated.
            refuse(format!("expected a proxy as http://HOST:PORT, got {error}"))
        })?;
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_response_header_size(MOST_HEADER_BYTES)
            .user_agent(concat!("frugal/", env!("CARGO_PKG_VERSION")))
            .proxy(proxy)
            .timeout_resolve(Some(settings.connect))
            .timeout_connect(Some(settings.connect))
            .timeout_recv_response(Some(settings.stall))
            .timeout_per_read(Some(settings.stall))
            .timeout_per_write(Some(settings.stall))
            .build();
        Ok(Self {
            agent: config.new_agent(),
            endpoint,
            home,
            authorization,
            attempts: settings.attempts.max(1),
            pause: settings.pause,
            longest_pause: settings.longest_pause,
            stop: settings.stop.clone(),
            stall: settings.stall,
        })
    }

    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Asks once, following redirects. Any status that is no redirect is an answer.
    pub(super) fn get(
        &self,
        what: &str,
        url: &str,
        headers: &[(&str, String)],
    ) -> Result<Answer, Fault> {
        let start: Uri = url
            .parse()
            .map_err(|_| HubError::Settings(format!("expected an address, got {url:?}")))?;
        let from = place_of(&start);
        let stop = |message: String| HubError::Redirect {
            url: from.clone(),
            message,
        };
        let mut address = start;
        let mut seen: Vec<Uri> = Vec::new();
        loop {
            let origin = Origin::of(&address).ok_or_else(|| {
                stop(format!(
                    "to {:?}, expected http or https",
                    place_of(&address)
                ))
            })?;
            let is_home = origin == self.home;
            // Offered in plain form only: a packed body has no ranges.
            let mut request = self
                .agent
                .get(address.clone())
                .header("Accept-Encoding", "identity");
            for (name, value) in headers {
                request = request.header(*name, value);
            }
            if let Some(Secret(value)) = self.authorization.as_ref().filter(|_| is_home) {
                request = request.header("Authorization", value);
            }
            let response = request
                .call()
                .map_err(|error| broken(what, &place_of(&address), &error))?;
            let (parts, body) = response.into_parts();
            if !matches!(parts.status.as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(Answer {
                    status: parts.status,
                    headers: parts.headers,
                    body,
                    place: place_of(&address),
                    is_home,
                });
            }
            let location = parts
                .headers
                .get("location")
                .and_then(|to| to.to_str().ok());
            let next = location
                .and_then(|to| joined(&address, to))
                .ok_or_else(|| stop("without an address that can be followed".into()))?;
            if origin.scheme == "https" && next.scheme_str() != Some("https") {
                let to = place_of(&next);
                return Err(stop(format!("from https to {to}, expected https")).into());
            }
            seen.push(address);
            if seen.contains(&next) {
                return Err(stop(format!("in a circle by way of {}", place_of(&next))).into());
            }
            if seen.len() > MOST_REDIRECTS {
                return Err(stop(format!("more than {MOST_REDIRECTS} times")).into());
            }
            address = next;
        }
    }

    /// What an answer means that is not the one hoped for.
    pub(super) fn refusal(&self, what: &str, answer: &Answer) -> Fault {
        let status = answer.status.as_u16();
        let error = HubError::Status {
            what: what.to_owned(),
            url: answer.place.clone(),
            status,
        };
        match status {
            401 | 403 if answer.is_home => Fault::Final(HubError::Denied {
                what: what.to_owned(),
                status,
                advice: if self.authorization.is_some() {
                    "the token in HF_TOKEN may not read it; if it asks to accept terms, do so on \
                     its page"
                } else {
                    "it is private, asks to accept terms, or is not there; set HF_TOKEN to a \
                     token that may read it"
                },
            }),
            404 | 410 => Fault::Final(HubError::NotFound(what.to_owned())),
            429 | 503 => {
                let seconds = answer
                    .header("retry-after")
                    .and_then(|s| s.trim().parse().ok());
                Fault::Passing(error, seconds.map(Duration::from_secs))
            }
            // 401 and 403 from elsewhere: the signature of the redirect has run out.
            401 | 403 | 408 | 416 | 500 | 502 | 504 => Fault::Passing(error, None),
            _ => Fault::Final(error),
        }
    }

    /// A body of at most `limit` bytes, tried again while failures may pass.
    pub(super) fn text(
        &self,
        what: &str,
        url: &str,
        limit: u64,
        watch: &mut Watch<'_>,
    ) -> Result<Vec<u8>, HubError> {
        let mut tries = Tries::new(self, what);
        loop {
            match self.text_once(what, url, limit) {
                Ok(body) => return Ok(body),
                Err(fault) => tries.failed(fault, watch)?,
            }
        }
    }

    fn text_once(&self, what: &str, url: &str, limit: u64) -> Result<Vec<u8>, Fault> {
        let answer = self.get(what, url, &[])?;
        if answer.status != StatusCode::OK {
            return Err(self.refusal(what, &answer));
        }
        let place = answer.place.clone();
        let mut body = Vec::new();
        let read = answer
            .reader()
            .take(limit.saturating_add(1))
            .read_to_end(&mut body);
        read.map_err(|error| cut(what, &place, &error.to_string()))?;
        if body.len() as u64 > limit {
            return Err(Fault::Final(HubError::TooLong {
                what: what.to_owned(),
                most: limit,
            }));
        }
        Ok(body)
    }
}

/// How often something was tried, and the pauses in between.
pub(super) struct Tries<'a> {
    web: &'a Web,
    what: &'a str,
    n_failed: u32,
}

impl<'a> Tries<'a> {
    pub(super) fn new(web: &'a Web, what: &'a str) -> Self {
        Self {
            web,
            what,
            n_failed: 0,
        }
    }

    /// Forgets the failures: the last attempt brought much.
    pub(super) fn forgive(&mut self) {
        self.n_failed = 0;
    }

    /// Waits for the next attempt, or says why there is none.
    pub(super) fn failed(&mut self, fault: Fault, watch: &mut Watch<'_>) -> Result<(), HubError> {
        let (error, wish) = match fault {
            Fault::Final(error) => return Err(error),
            Fault::Passing(error, wish) => (error, wish),
        };
        let longest = self.web.longest_pause;
        if let Some(wish) = wish.filter(|wish| *wish > longest) {
            return Err(HubError::Busy {
                what: self.what.to_owned(),
                seconds: wish.as_secs(),
                most: longest.as_secs(),
            });
        }
        self.n_failed += 1;
        if self.n_failed >= self.web.attempts {
            return Err(HubError::GaveUp {
                attempts: self.n_failed,
                last: Box::new(error),
            });
        }
        let doubled = 2_u32.saturating_pow(self.n_failed - 1);
        let own = self.web.pause.saturating_mul(doubled).min(longest);
        let pause = wish.unwrap_or(own);
        watch(&Progress::Retry {
            what: self.what,
            attempt: self.n_failed,
            pause,
            reason: &error,
        });
        self.web.stop.sleep(pause)?;
        Ok(())
    }
}

/// A connection that ended before the body did.
pub(super) fn cut(what: &str, place: &str, message: &str) -> Fault {
    let error = HubError::Network {
        what: what.to_owned(),
        url: place.to_owned(),
        message: message.to_owned(),
    };
    Fault::Passing(error, None)
}

fn broken(what: &str, place: &str, error: &ureq::Error) -> Fault {
    let fault = HubError::Network {
        what: what.to_owned(),
        url: place.to_owned(),
        message: error.to_string(),
    };
    match error {
        ureq::Error::Io(_)
        | ureq::Error::Timeout(_)
        | ureq::Error::Protocol(_)
        | ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed
        | ureq::Error::ConnectProxyFailed(_) => Fault::Passing(fault, None),
        // Certificates, addresses and headers that are wrong stay wrong.
        _ => Fault::Final(fault),
    }
}

/// The address without its query, for people.
fn place_of(address: &Uri) -> String {
    let authority = address
        .authority()
        .map_or("", |authority| authority.as_str());
    // Never a name and password that someone put before the host.
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!(
        "{}://{host}{}",
        address.scheme_str().unwrap_or_default(),
        address.path()
    )
}

/// Where a redirect leads: a whole address, one of the same scheme, or a path of the same host.
fn joined(from: &Uri, to: &str) -> Option<Uri> {
    let to = to.split('#').next().unwrap_or_default();
    let scheme = from.scheme_str()?;
    let whole = if to.starts_with("//") {
        format!("{scheme}:{to}")
    } else if to.starts_with('/') {
        format!("{scheme}://{}{to}", from.authority()?)
    } else {
        to.to_owned()
    };
    let next: Uri = whole.parse().ok()?;
    Origin::of(&next).map(|_| next)
}

/// A part of an address with everything unusual escaped.
pub(super) fn encoded(part: &str) -> String {
    let mut out = String::with_capacity(part.len());
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(endpoint: &str, token: Option<&str>) -> Settings {
        Settings {
            token: token.map(str::to_owned),
            ..Settings::of(endpoint)
        }
    }

    #[test]
    fn endpoints_and_tokens_are_checked_before_anything_is_sent() {
        for endpoint in [
            "",
            "huggingface.co",
            "ftp://a",
            "https://",
            "https://u:p@a",
            "https://a?b",
        ] {
            let error = Web::new(&settings(endpoint, None)).unwrap_err().to_string();
            assert!(error.contains("expected an endpoint like"), "{error}");
        }
        Web::new(&settings("https://hub.example/prefix/", Some("hf_x"))).unwrap();
        for local in ["http://127.0.0.1:1", "http://localhost", "http://[::1]:8"] {
            Web::new(&settings(local, Some("hf_x"))).unwrap();
        }
        let error = Web::new(&settings("http://hub.example", Some("hf_secret"))).unwrap_err();
        assert!(
            error.to_string().contains("expected an https endpoint"),
            "{error}"
        );
        let error = Web::new(&settings("https://a", Some("hf_secret\r\nX: y"))).unwrap_err();
        assert!(
            !format!("{error} {error:?}").contains("hf_secret"),
            "{error}"
        );
        let web = Web::new(&settings("https://a", Some("hf_secret"))).unwrap();
        assert!(!format!("{web:?}").contains("hf_secret"));
        assert!(!format!("{:?}", settings("https://a", Some("hf_secret"))).contains("hf_secret"));
    }

    #[test]
    fn redirects_are_joined_as_browsers_do_or_refused() {
        let from: Uri = "https://hub.example:8443/a/b?c=d".parse().unwrap();
        for (to, expected) in [
            ("/x?y=z", Some("https://hub.example:8443/x?y=z")),
            ("//cdn.example/x", Some("https://cdn.example/x")),
            ("https://cdn.example/x#part", Some("https://cdn.example/x")),
            ("x/y", None),
            ("", None),
            ("file:///etc/passwd", None),
            ("https://user@cdn.example/", None),
            ("https:///x", None),
        ] {
            let next = joined(&from, to).map(|next| next.to_string());
            assert_eq!(next.as_deref(), expected, "{to}");
        }
        assert_eq!(place_of(&from), "https://hub.example:8443/a/b");
        assert_eq!(encoded("refs/pr/1+a b"), "refs%2Fpr%2F1%2Ba%20b");
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let origin = |text: &str| Origin::of(&text.parse().unwrap());
        assert_eq!(
            origin("https://A.example"),
            origin("https://a.example:443/x")
        );
        assert_ne!(origin("https://a.example"), origin("http://a.example"));
        assert_ne!(origin("http://127.0.0.1:1"), origin("http://127.0.0.1:2"));
        assert_eq!(origin("ftp://a"), None);
    }
}
