//! The page's files, as they were built: from a table in the program, never from a disk.
//!
//! Names under `/assets/` carry a digest of what they hold, so browsers keep them for good; the rest
//! is asked for again each time and answered with 304 while it is the same. What shrinks is squeezed
//! once, when it is first wanted so.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::{LazyLock, OnceLock};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::{Response as Of, StatusCode};
use axum::response::Response;
use axum::routing::get;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

/// What the page may load and do: its own files and its own server, no script that is written into
/// the page, and none that is made from text.
pub(crate) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' data:; font-src 'self'; connect-src 'self'; manifest-src 'self'; \
    worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'";

/// Headers of every file.
const HEADERS: [(HeaderName, &str); 4] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    ),
];

/// Files below this many bytes are sent as they are.
const WORTH_SQUEEZING: usize = 1 << 10;

/// Names and bytes, in order of name.
static FILES: &[(&str, &[u8])] = &include!(concat!(env!("OUT_DIR"), "/page.rs"));

static TABLE: LazyLock<Vec<File>> = LazyLock::new(|| {
    let files = FILES.iter();
    files.map(|(name, bytes)| File::new(name, bytes)).collect()
});

/// One file.
#[derive(Debug)]
struct File {
    name: &'static str,
    bytes: &'static [u8],
    kind: &'static str,
    /// Names the bytes, without quotes.
    tag: String,
    /// Its bytes squeezed; none where that would not make them fewer.
    squeezed: OnceLock<Option<Bytes>>,
}

/// The routes of all files, each at its own path, and the page itself at `/`.
pub(super) fn routes() -> Router {
    let mut router = Router::new();
    for file in &*TABLE {
        let answer = get(async move |headers: HeaderMap| file.answer(&headers).await);
        if file.name == "index.html" {
            router = router.route("/", answer.clone());
        }
        router = router.route(&format!("/{}", file.name), answer);
    }
    router
}

impl File {
    fn new(name: &'static str, bytes: &'static [u8]) -> Self {
        let digest = Sha256::digest(bytes);
        let mut tag = String::new();
        for byte in digest.iter().take(16) {
            // Writing to a string cannot fail.
            let _ = write!(tag, "{byte:02x}");
        }
        Self {
            name,
            bytes,
            kind: kind_of(name),
            tag,
            squeezed: OnceLock::new(),
        }
    }

    async fn answer(&'static self, asked: &HeaderMap) -> Response {
        let squeezed = if accepts_gzip(asked) {
            self.squeezed().await
        } else {
            None
        };
        let end = if squeezed.is_some() { "-gzip" } else { "" };
        let tag = format!("\"{}{end}\"", self.tag);
        let is_known = has_tag(asked, &tag);
        let is_squeezed = squeezed.is_some();
        let bytes = squeezed.unwrap_or(Bytes::from_static(self.bytes));
        let body = if is_known {
            Body::empty()
        } else {
            Body::from(bytes)
        };
        let mut response = Of::new(body);
        let headers = response.headers_mut();
        for (name, value) in HEADERS {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        headers.insert(
            header::CACHE_CONTROL,
            HeaderValue::from_static(self.keeping()),
        );
        // A tag is made of letters, digits and quotes.
        if let Ok(tag) = HeaderValue::from_str(&tag) {
            headers.insert(header::ETAG, tag);
        }
        if is_known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return response;
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.kind));
        if is_squeezed {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }

    /// How long browsers may keep it.
    fn keeping(&self) -> &'static str {
        if self.name.starts_with("assets/") {
            "public, max-age=31536000, immutable"
        } else {
            "no-cache"
        }
    }

    async fn squeezed(&'static self) -> Option<Bytes> {
        if let Some(squeezed) = self.squeezed.get() {
            return squeezed.clone();
        }
        let is_text = !self.kind.starts_with("image/png") && !self.kind.starts_with("font/");
        if !is_text || self.bytes.len() < WORTH_SQUEEZING {
            return None;
        }
        let work = || self.squeezed.get_or_init(|| squeeze(self.bytes)).clone();
        // If it fails the file goes as it is.
        tokio::task::spawn_blocking(work).await.ok().flatten()
    }
}

fn squeeze(bytes: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).ok()?;
    let squeezed = encoder.finish().ok()?;
    (squeezed.len() < bytes.len()).then(|| squeezed.into())
}

fn kind_of(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, end)| end) {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// Whether a client takes gzip: named, or by `*`, and not with a weight of nothing.
fn accepts_gzip(asked: &HeaderMap) -> bool {
    let values = asked.get_all(header::ACCEPT_ENCODING).iter();
    let parts = values.filter_map(|value| value.to_str().ok());
    let mut rest = None;
    for part in parts.flat_map(|value| value.split(',')) {
        let (name, weight) = part.split_once(';').unwrap_or((part, ""));
        let weight = weight.trim().strip_prefix("q=").unwrap_or("1");
        let is_taken = weight
            .trim()
            .parse::<f32>()
            .is_ok_and(|weight| weight > 0.0);
        match name.trim() {
            "gzip" | "x-gzip" => return is_taken,
            "*" => rest = Some(is_taken),
            _ => {}
        }
    }
    rest == Some(true)
}

/// Whether a client has these very bytes.
fn has_tag(asked: &HeaderMap, tag: &str) -> bool {
    let values = asked.get_all(header::IF_NONE_MATCH).iter();
    let values = values.filter_map(|value| value.to_str().ok());
    let mut tags = values.flat_map(|value| value.split(',')).map(str::trim);
    tags.any(|known| known.strip_prefix("W/").unwrap_or(known) == tag || known == "*")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn gzip_is_taken_where_it_is_accepted() {
        for (value, expected) in [
            ("gzip", true),
            ("deflate, gzip;q=0.5, br", true),
            ("gzip;q=0", false),
            ("gzip;q=0, *", false),
            ("*;q=0.1", true),
            ("*;q=0", false),
            ("br", false),
            ("", false),
            ("gzip;q=x", false),
        ] {
            let headers = asked(header::ACCEPT_ENCODING, value);
            assert_eq!(accepts_gzip(&headers), expected, "{value}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }

    #[test]
    fn tags_are_compared_whole() {
        for (value, expected) in [
            ("\"a\"", true),
            ("W/\"a\"", true),
            ("\"b\", \"a\"", true),
            ("*", true),
            ("\"ab\"", false),
            ("a", false),
        ] {
            let headers = asked(header::IF_NONE_MATCH, value);
            assert_eq!(has_tag(&headers, "\"a\""), expected, "{value}");
        }
    }

    #[test]
    fn every_file_has_a_type_and_a_route() {
        assert!(FILES.iter().any(|(name, _)| *name == "index.html"));
        for file in &*TABLE {
            assert_ne!(file.kind, "application/octet-stream", "{}", file.name);
        }
        // Paths that a router does not take would end it here.
        let _ = routes();
    }

    #[tokio::test]
    async fn what_is_squeezed_comes_back_and_what_does_not_shrink_is_left() {
        use std::io::Read as _;
        let text = "the same again and again, ".repeat(200);
        let file = Box::leak(Box::new(File::new("a.js", text.clone().leak().as_bytes())));
        let squeezed = file.squeezed().await.unwrap();
        assert!(squeezed.len() * 5 < text.len());
        let mut back = String::new();
        let mut reader = flate2::read::GzDecoder::new(&squeezed[..]);
        reader.read_to_string(&mut back).unwrap();
        assert_eq!(back, text);
        assert_eq!(squeeze(&squeezed), None);
    }
}
