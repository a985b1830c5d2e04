//! Who is signed in on the page: a key once, then a cookie.
//!
//! A session's token is 256 random bits; only its digest is kept, in the home's `frugal.db` beside the
//! key that was shown. It ends after 30 days, with the key (revoked, expired, replaced), or where
//! somebody signs in more often than [`MOST_SESSIONS`] times: the oldest goes. Scripts of the page
//! cannot read the cookie, and other pages cannot ride on it: see `server/origin.rs`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use axum::extract::{Request, State};
use axum::http::header::{self, HeaderValue};
use axum::response::{IntoResponse, Json, Response};
use rusqlite::params;
use serde_json::{Value, json};
use subtle::ConstantTimeEq;

use super::{Web, broken};
use crate::keys::{Holder, Keyring, KeysError, Records, Token, part_of_key};
use crate::quota::{Clock, Now};
use crate::server::{Peer, Visit};
use crate::wire::error::{Fault, Kind};

/// Seconds after which one signs in again.
const SECONDS: i64 = 30 * 86_400;
/// Sessions of one key.
const MOST_SESSIONS: i64 = 20;
/// Seconds between two looks for what other processes changed.
const LOOK_SECONDS: f64 = 1.0;

/// Wrong keys that one address may show within [`PACE_SECONDS`]. Nobody guesses 256 bits; it is so
/// that nobody tries all day.
const MOST_FAILURES: u32 = 10;
const PACE_SECONDS: f64 = 60.0;
/// Addresses whose failures are kept in mind.
const MOST_ADDRESSES: usize = 4096;

/// Bytes of a body with a key.
const BODY_BYTES: usize = 4 << 10;

type Digest = [u8; 32];

/// All who are signed in.
#[derive(Debug)]
pub struct Sessions {
    keyring: Arc<Keyring>,
    clock: Clock,
    kept: Mutex<Kept>,
    live: RwLock<BTreeMap<Digest, Session>>,
    failures: Mutex<BTreeMap<Option<Peer>, Failures>>,
}

/// The records, and what was seen of them.
#[derive(Debug)]
struct Kept {
    records: Records,
    looked: f64,
    /// Changes whenever another process writes to the file.
    version: i64,
}

#[derive(Debug, Clone)]
struct Session {
    /// Names the key's text that was shown.
    part: String,
    ends: i64,
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    since: f64,
    count: u32,
}

impl Sessions {
    /// The sessions of a home.
    ///
    /// # Errors
    /// A home that cannot be written, records that cannot be read.
    pub fn open(home: &Path, keyring: Arc<Keyring>, clock: Clock) -> Result<Self, KeysError> {
        let records = Records::open(home)?;
        let version = version(&records)?;
        let live = read(&records)?;
        Ok(Self {
            keyring,
            clock,
            kept: Mutex::new(Kept {
                records,
                looked: clock.now().seconds,
                version,
            }),
            live: RwLock::new(live),
            failures: Mutex::default(),
        })
    }

    /// Whose session a token is of, while it and its key last.
    ///
    /// A session is found by the digest of its token, which nobody can choose, so that how long the
    /// search takes tells nothing; what is found is compared in constant time nevertheless.
    pub fn holder(&self, token: &Token) -> Option<Holder> {
        let now = self.clock.now();
        self.look(now);
        let digest = token.digest();
        let part = {
            let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
            let (found, session) = live.get_key_value(&digest)?;
            let is_equal: bool = found.ct_eq(&digest).into();
            (is_equal && now.unix < session.ends).then(|| session.part.clone())?
        };
        self.keyring.holder_of(&part, now)
    }

    /// Signs in. Waits for a disk.
    fn begin(&self, key: &str, peer: Option<Peer>) -> Result<(Token, Holder), Fault> {
        let now = self.clock.now();
        self.check_pace(peer, now)?;
        let admitted = self.keyring.admit(Some(key), now);
        let holder = admitted.inspect_err(|_| self.note_failure(peer, now))?;
        let part = part_of_key(key).ok_or_else(Fault::ours)?;
        let not_written = |error: KeysError| broken("a session was not written", &error);
        let token = Token::draw().map_err(not_written)?;
        let digest = token.digest();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let written = kept.records.change("write", |change| {
            change.execute("DELETE FROM web_sessions WHERE ends <= ?1", [now.unix])?;
            change.execute(
                "INSERT INTO web_sessions (digest, part, created, ends) VALUES (?1, ?2, ?3, ?4)",
                params![digest, part, now.unix, now.unix + SECONDS],
            )?;
            change.execute(
                "DELETE FROM web_sessions WHERE digest IN (
                     SELECT digest FROM web_sessions JOIN key_secrets USING (part)
                     WHERE key_secrets.key = ?1
                     ORDER BY digest = ?2 DESC, web_sessions.created DESC
                     LIMIT -1 OFFSET ?3)",
                params![holder.id, digest, MOST_SESSIONS],
            )
        });
        written.map_err(not_written)?;
        self.refresh(&kept.records).map_err(not_written)?;
        Ok((token, holder))
    }

    /// Signs out. Waits for a disk.
    fn end(&self, token: &Token) -> Result<(), Fault> {
        let digest = token.digest();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let written = kept.records.change("write", |change| {
            change.execute("DELETE FROM web_sessions WHERE digest = ?1", [digest])
        });
        written.map_err(|error| broken("a session was not ended", &error))?;
        let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
        live.remove(&digest);
        Ok(())
    }

    /// Notices what other processes changed, once a second. A look reads one number as a rule.
    fn look(&self, now: Now) {
        let Ok(mut kept) = self.kept.try_lock() else {
            return;
        };
        if now.seconds - kept.looked < LOOK_SECONDS {
            return;
        }
        kept.looked = now.seconds;
        let seen = version(&kept.records).and_then(|version| {
            if version != kept.version {
                self.refresh(&kept.records)?;
                kept.version = version;
            }
            Ok(())
        });
        if let Err(error) = seen {
            tracing::error!(%error, "the sessions were not read again");
        }
    }

    fn refresh(&self, records: &Records) -> Result<(), KeysError> {
        let read = read(records)?;
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = read;
        Ok(())
    }

    fn check_pace(&self, peer: Option<Peer>, now: Now) -> Result<(), Fault> {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(seen) = failures.get(&peer) else {
            return Ok(());
        };
        let left = seen.since + PACE_SECONDS - now.seconds;
        if left <= 0.0 || seen.count < MOST_FAILURES {
            return Ok(());
        }
        let message = "too many wrong keys from this address; try again in a minute";
        Err(Fault::new(Kind::RateLimit, message).again_after(60))
    }

    fn note_failure(&self, peer: Option<Peer>, now: Now) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= MOST_ADDRESSES && !failures.contains_key(&peer) {
            failures.retain(|_, seen| now.seconds - seen.since < PACE_SECONDS);
            if failures.len() >= MOST_ADDRESSES {
                failures.pop_first();
            }
        }
        let fresh = Failures {
            since: now.seconds,
            count: 0,
        };
        let seen = failures.entry(peer).or_insert(fresh);
        if now.seconds - seen.since >= PACE_SECONDS {
            *seen = fresh;
        }
        seen.count += 1;
    }
}

/// A number that changes when another connection has written to the file.
fn version(records: &Records) -> Result<i64, KeysError> {
    records.read(|database| database.query_row("PRAGMA data_version", [], |row| row.get(0)))
}

fn read(records: &Records) -> Result<BTreeMap<Digest, Session>, KeysError> {
    records.read(|database| {
        let mut all = database.prepare_cached("SELECT digest, part, ends FROM web_sessions")?;
        let rows = all.query_map([], |row| {
            let session = Session {
                part: row.get(1)?,
                ends: row.get(2)?,
            };
            Ok((row.get::<_, Digest>(0)?, session))
        })?;
        rows.collect()
    })
}

pub(super) async fn show(State(web): State<Web>, visit: Visit) -> Json<Value> {
    Json(web.shown(visit.who().ok()))
}

pub(super) async fn begin(
    State(web): State<Web>,
    visit: Visit,
    request: Request,
) -> Result<Response, Fault> {
    let is_secure = web.has_tls || comes_by_https(&request);
    let body = web.read(request, BODY_BYTES).await?;
    if !web.is_keyed() {
        return Ok(Json(web.shown(visit.who().ok())).into_response());
    }
    let key = body.get("key").and_then(Value::as_str).unwrap_or_default();
    if key.is_empty() {
        return Err(Fault::field("key", "an API key", "none"));
    }
    let (sessions, key) = (Arc::clone(&web.sessions), key.trim().to_owned());
    let begin = move || sessions.begin(&key, visit.peer);
    let (token, holder) = web.aside.run(begin).await?;
    let mut response = Json(web.shown(Some(&holder))).into_response();
    set_cookie(&mut response, token.expose(), SECONDS, is_secure);
    Ok(response)
}

pub(super) async fn end(State(web): State<Web>, visit: Visit) -> Result<Response, Fault> {
    if let Some(token) = visit.token {
        let sessions = Arc::clone(&web.sessions);
        web.aside.run(move || sessions.end(&token)).await?;
    }
    let nobody = if web.is_keyed() {
        None
    } else {
        Some(Holder::anyone())
    };
    let mut response = Json(web.shown(nobody.as_ref())).into_response();
    set_cookie(&mut response, "", 0, web.has_tls);
    Ok(response)
}

impl Web {
    /// Whether everyone needs a key.
    fn is_keyed(&self) -> bool {
        self.sessions.keyring.is_needed()
    }

    /// What the page is told of the server and of who looks at it. Those who are nobody learn no more
    /// than that.
    fn shown(&self, who: Option<&Holder>) -> Value {
        let parts = &self.service.parts;
        let is_keyed = self.is_keyed();
        let price = &parts.price;
        json!({
            "keyed": is_keyed,
            "name": who.filter(|_| is_keyed).map(|who| &who.name),
            "may_manage": who.is_some_and(|who| who.may_manage),
            "version": env!("CARGO_PKG_VERSION"),
            "default_model": who.and(parts.shelf.settings().default.as_ref()),
            "history": if is_keyed { "server" } else { "browser" },
            "runs": self.runs.is_some(),
            "price": who.map(|_| json!({
                "currency": price.currency,
                "per_core_hour": price.per_core_hour,
                "watts_per_core": price.watts_per_core,
            })),
        })
    }
}

/// Whether the page was opened by HTTPS, if only with a proxy in front.
fn comes_by_https(request: &Request) -> bool {
    let origin = request.headers().get(header::ORIGIN);
    origin.is_some_and(|origin| origin.as_bytes().starts_with(b"https://"))
}

fn set_cookie(response: &mut Response, token: &str, seconds: i64, is_secure: bool) {
    let secure = if is_secure { "; Secure" } else { "" };
    let name = Token::COOKIE;
    let text =
        format!("{name}={token}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    // Tokens are letters and digits.
    if let Ok(cookie) = HeaderValue::from_str(&text) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
}
