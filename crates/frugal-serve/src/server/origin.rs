//! Which hosts may be asked for and which web pages may ask.
//!
//! A server on loopback is within reach of every page that its user opens: a page's own name can be
//! made to resolve to 127.0.0.1 (so the Host header is checked), and a page can send simple requests
//! to other origins without asking (so those that change anything must come from the server's own
//! pages or from listed ones, and bodies must be JSON, for which browsers ask first).

use std::net::IpAddr;

use axum::body::Body;
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{Method, Response as Of, StatusCode, Version};
use axum::response::Response;

use super::Settings;
use crate::wire::error::{Fault, Kind};

const REQUEST_PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-request-private-network");
const ALLOW_PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-allow-private-network");

/// What browsers say of where a request comes from. Pages cannot set it.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// What the server's own page sends. Browsers that say nothing of a request's origin (plain HTTP to
/// another machine) still let no page of another origin send it without asking first.
const OF_PAGE: HeaderName = HeaderName::from_static("x-frugal-page");

/// Headers of an answer that pages may read.
const EXPOSED: HeaderValue =
    HeaderValue::from_static("x-request-id, request-id, retry-after, x-should-retry");
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, DELETE");
const USUAL_HEADERS: HeaderValue =
    HeaderValue::from_static("authorization, content-type, x-api-key, x-request-id");

/// Bytes of a list of headers that is allowed as it is asked for.
const MOST_ASKED_BYTES: usize = 2048;

/// The page that asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Page {
    /// None, or one of this server's own.
    Own,
    /// One that may read answers; with what to tell its browser.
    Listed(HeaderValue),
    /// Another.
    Foreign,
}

/// Who may ask.
#[derive(Debug)]
pub(super) struct Origins {
    /// Names allowed besides those of loopback; none are checked where others can connect anyway.
    hosts: Option<Vec<String>>,
    pages: Vec<String>,
}

impl Origins {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            hosts: settings.is_loopback_only().then(|| settings.hosts.clone()),
            pages: settings.cors.clone(),
        }
    }

    /// Refuses names that are not this server's.
    pub(super) fn check_host(&self, head: &Parts) -> Result<(), Fault> {
        let mut named = head.headers.get_all(header::HOST).iter();
        let (host, other) = (named.next(), named.next());
        if other.is_some() || (host.is_none() && head.version >= Version::HTTP_11) {
            return Err(Fault::new(Kind::Invalid, "expected one Host header"));
        }
        let Some(allowed) = &self.hosts else {
            return Ok(());
        };
        let of_uri = head.uri.authority().map(Authority::as_str);
        let of_header = host.map(|name| name.to_str().unwrap_or_default());
        for authority in of_uri.into_iter().chain(of_header) {
            if !is_allowed(authority, allowed) {
                let message =
                    "this server answers to localhost only; its operator can allow other hosts";
                return Err(Fault::new(Kind::Origin, message));
            }
        }
        Ok(())
    }

    /// Which page asks.
    pub(super) fn page(&self, head: &Parts) -> Page {
        let Some(origin) = head.headers.get(header::ORIGIN) else {
            return Page::Own;
        };
        let text = origin.to_str().unwrap_or_default();
        if self.pages.iter().any(|page| page == "*") {
            Page::Listed(HeaderValue::from_static("*"))
        } else if self
            .pages
            .iter()
            .any(|page| page.eq_ignore_ascii_case(text))
        {
            Page::Listed(origin.clone())
        } else if is_own_origin(text, head) {
            Page::Own
        } else {
            Page::Foreign
        }
    }

    /// Refuses what pages of others may not do.
    pub(super) fn check_page(head: &Parts, page: &Page) -> Result<(), Fault> {
        let changes = !matches!(head.method, Method::GET | Method::HEAD);
        if changes && *page == Page::Foreign {
            let message =
                "pages of this origin may not ask; the server's operator can list it for CORS";
            return Err(Fault::new(Kind::Origin, message));
        }
        Ok(())
    }

    /// Tells the browser that the page may read the answer.
    pub(super) fn mark(&self, headers: &mut HeaderMap, page: &Page) {
        if !self.pages.is_empty() {
            headers.append(header::VARY, HeaderValue::from_static("origin"));
        }
        if let Page::Listed(origin) = page {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        }
    }
}

/// Whether an origin is that of the host which is asked.
fn is_own_origin(origin: &str, head: &Parts) -> bool {
    let host = head.headers.get(header::HOST);
    let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    authority.is_some_and(|name| !name.is_empty() && name.eq_ignore_ascii_case(host))
}

/// Whether a browser vouches that the server's own page asks. Pages that are listed for CORS are not
/// its own: they come with keys, never with what a browser keeps for the page.
pub(super) fn is_of_own_page(head: &Parts) -> bool {
    let all = |name: &HeaderName, is_own: &dyn Fn(&str) -> bool| {
        let mut values = head.headers.get_all(name).iter().peekable();
        values.peek()?;
        Some(values.all(|value| value.to_str().is_ok_and(is_own)))
    };
    let site = all(&SEC_FETCH_SITE, &|site| site == "same-origin");
    let origin = all(&header::ORIGIN, &|origin| is_own_origin(origin, head));
    match (site, origin) {
        (None, None) => head.headers.contains_key(OF_PAGE),
        (site, origin) => site != Some(false) && origin != Some(false),
    }
}

/// Whether a browser asks what a page may ask.
pub(super) fn is_preflight(head: &Parts) -> bool {
    head.method == Method::OPTIONS
        && head.headers.contains_key(header::ORIGIN)
        && head
            .headers
            .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// What a listed page may ask: with the headers it wants, since they are no secret of ours.
pub(super) fn preflight(head: &Parts) -> Response {
    let mut response = Of::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    let wanted = head.headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS);
    let wanted = wanted.filter(|names| names.len() <= MOST_ASKED_BYTES);
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        wanted.cloned().unwrap_or(USUAL_HEADERS),
    );
    headers.insert(
        header::ACCESS_CONTROL_MAX_AGE,
        HeaderValue::from_static("600"),
    );
    if head.headers.contains_key(REQUEST_PRIVATE_NETWORK) {
        headers.insert(ALLOW_PRIVATE_NETWORK, HeaderValue::from_static("true"));
    }
    response
}

/// Whether `HOST` or `HOST:PORT` is loopback or one of those allowed.
fn is_allowed(authority: &str, allowed: &[String]) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(host, _)| host),
        None => authority
            .split_once(':')
            .map_or(authority, |(host, _)| host),
    };
    let is_loopback = host
        .parse::<IpAddr>()
        .is_ok_and(|address| address.is_loopback());
    is_loopback
        || host.eq_ignore_ascii_case("localhost")
        || allowed.iter().any(|name| name.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    fn head(rows: &[(&str, &str)]) -> Parts {
        let mut request = Request::post("/v1/x");
        for (name, value) in rows {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn only_names_of_loopback_are_answered_to() {
        let allowed = ["box.local".to_owned()];
        for (authority, expected) in [
            ("localhost", true),
            ("LocalHost:8080", true),
            ("127.0.0.1", true),
            ("127.0.0.1:80", true),
            ("[::1]", true),
            ("[::1]:8080", true),
            ("box.local:1", true),
            ("evil.example", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example:80", false),
            ("evil.example:127.0.0.1", false),
            ("192.168.0.1", false),
            ("[::2]:80", false),
            ("localhost@evil.example", false),
            ("", false),
            ("[", false),
        ] {
            assert_eq!(is_allowed(authority, &allowed), expected, "{authority}");
        }
    }

    #[test]
    fn pages_are_own_listed_or_foreign() {
        let mut settings = Settings::usual(vec![([127, 0, 0, 1], 80).into()]);
        settings.cors = vec!["https://chat.example".into()];
        let origins = Origins::new(&settings);
        let listed = Page::Listed(HeaderValue::from_static("https://chat.example"));
        for (origin, expected) in [
            (None, Page::Own),
            (Some("http://localhost:80"), Page::Own),
            (Some("https://chat.example"), listed),
            (Some("https://chat.example.evil"), Page::Foreign),
            (Some("http://chat.example"), Page::Foreign),
            (Some("http://localhost:81"), Page::Foreign),
            (Some("null"), Page::Foreign),
            (Some("http://"), Page::Foreign),
        ] {
            let mut rows = vec![("host", "localhost:80")];
            rows.extend(origin.map(|origin| ("origin", origin)));
            assert_eq!(origins.page(&head(&rows)), expected, "{origin:?}");
        }
    }

    #[test]
    fn only_the_servers_own_page_rides_on_its_cookie() {
        let own = ("origin", "http://localhost:80");
        let foreign = ("origin", "http://evil.example");
        let [same, same_site, cross, typed] =
            ["same-origin", "same-site", "cross-site", "none"].map(|site| ("sec-fetch-site", site));
        let page = ("x-frugal-page", "1");
        for (rows, expected) in [
            (vec![], false),
            (vec![own], true),
            (vec![same], true),
            (vec![own, same], true),
            (vec![page], true),
            (vec![foreign], false),
            (vec![foreign, page], false),
            (vec![foreign, same], false),
            (vec![own, foreign], false),
            (vec![("origin", "null"), page], false),
            (vec![own, cross], false),
            (vec![cross], false),
            (vec![cross, page], false),
            (vec![same_site, page], false),
            (vec![typed], false),
            (vec![same, cross], false),
        ] {
            let mut all = vec![("host", "localhost:80")];
            all.extend(&rows);
            assert_eq!(is_of_own_page(&head(&all)), expected, "{rows:?}");
        }
    }

    #[test]
    fn every_name_of_a_request_must_be_allowed() {
        let loopback = Origins::new(&Settings::usual(vec![([127, 0, 0, 1], 80).into()]));
        let wide = Origins::new(&Settings::usual(vec![([0, 0, 0, 0], 80).into()]));
        let kind = |origins: &Origins, head: &Parts| origins.check_host(head).map_err(|f| f.kind);
        let evil = head(&[("host", "evil.example")]);
        assert_eq!(kind(&loopback, &evil), Err(Kind::Origin));
        assert_eq!(kind(&wide, &evil), Ok(()));
        let two = head(&[("host", "localhost"), ("host", "evil.example")]);
        assert_eq!(kind(&loopback, &two), Err(Kind::Invalid));
        assert_eq!(kind(&loopback, &head(&[])), Err(Kind::Invalid));
        let mut absolute = head(&[("host", "localhost")]);
        absolute.uri = "http://evil.example/v1/x".parse().unwrap();
        assert_eq!(kind(&loopback, &absolute), Err(Kind::Origin));
    }
}
