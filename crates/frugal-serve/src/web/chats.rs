//! Conversations, kept for the key they belong to in the home's `frugal.db`.
//!
//! A conversation is the page's own document, a tree of questions and answers: here it is a text with
//! a title, a number that each change raises, and words to find it by. Whoever writes says which
//! change was seen last, so that two windows do not overwrite each other. Every statement names the
//! owner; there is no other way to a row.
//!
//! A change is on the disk before it is answered. Searching looks at the first [`WORDS_BYTES`] of what
//! was said, without regard to case.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Path as Part, Query, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{StatusCode, request};
use axum::response::{IntoResponse, Json, Response};
use rusqlite::{OptionalExtension, Row, named_params, params};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Web, broken};
use crate::keys::{KeysError, Records};
use crate::quota::Clock;
use crate::server::Visit;
use crate::wire::error::{Fault, Kind};

/// Bytes of a document.
const DOCUMENT_BYTES: usize = 4 << 20;
/// Bytes of a request beside its document.
const BESIDE_BYTES: usize = 64 << 10;
/// Conversations of an owner.
const MOST_CHATS: i64 = 5000;
/// Characters of a title.
const TITLE_CHARS: usize = 200;
/// Characters that are searched for.
const SEARCH_CHARS: usize = 200;
/// Bytes of a conversation that are searched.
const WORDS_BYTES: usize = 128 << 10;
/// Conversations told of at a time.
const MOST_LISTED: u32 = 200;
const USUALLY_LISTED: u32 = 50;

/// The conversations of a home.
#[derive(Debug)]
pub struct Chats {
    records: Mutex<Records>,
    clock: Clock,
}

/// A conversation as it is to be kept.
#[derive(Debug)]
struct Written {
    title: String,
    /// The change that was seen last; 0 for a new one.
    revision: i64,
    model: String,
    turns: i64,
    words: String,
    document: String,
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Made {
        revision: i64,
        updated: i64,
    },
    /// Somebody else was quicker: this is the number of the change that is kept, 0 where the
    /// conversation is gone.
    Late(i64),
    /// There are too many.
    Full,
}

/// From where a list goes on: the last one that was told of.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cursor {
    updated: i64,
    id: String,
}

impl Cursor {
    fn read(text: &str) -> Option<Self> {
        let (updated, id) = text.split_once('.')?;
        Some(Self {
            updated: updated.parse().ok()?,
            id: read_id(id).ok()?,
        })
    }
}

impl Chats {
    /// Those of a home.
    ///
    /// # Errors
    /// A home that cannot be written, records that cannot be read.
    pub fn open(home: &Path, clock: Clock) -> Result<Self, KeysError> {
        let records = Records::open(home)?;
        // What somebody wrote is worth a wait for the disk.
        records.read(|database| database.pragma_update(None, "synchronous", "full"))?;
        Ok(Self {
            records: Mutex::new(records),
            clock,
        })
    }

    fn read<T>(
        &self,
        work: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T>,
    ) -> Result<T, Fault> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let read = records.read(work);
        read.map_err(|error| broken("conversations were not read", &error))
    }

    fn list(&self, owner: i64, asked: &Asked) -> Result<Value, Fault> {
        let cursor = match &asked.before {
            None => None,
            Some(text) => Some(
                Cursor::read(text)
                    .ok_or_else(|| Fault::field("before", "what `next` said", "another text"))?,
            ),
        };
        let limit = asked.limit.unwrap_or(USUALLY_LISTED);
        if !(1..=MOST_LISTED).contains(&limit) {
            let expected = format!("1 to {MOST_LISTED}");
            return Err(Fault::field("limit", &expected, limit));
        }
        let pattern = asked.pattern()?;
        let (updated, id) = match cursor {
            Some(cursor) => (cursor.updated, cursor.id),
            None => (i64::MAX, String::new()),
        };
        let rows = self.read(|database| {
            let mut select = database.prepare_cached(
                "SELECT id, title, updated, revision, model, turns FROM web_chats
                 WHERE owner = :owner AND (updated, id) < (:updated, :id)
                   AND (:pattern IS NULL OR words LIKE :pattern ESCAPE '\\')
                 ORDER BY updated DESC, id DESC LIMIT :limit",
            )?;
            let values = named_params! {
                ":owner": owner, ":updated": updated, ":id": id, ":pattern": pattern,
                ":limit": i64::from(limit) + 1,
            };
            let rows = select.query_map(values, listed)?;
            rows.collect::<rusqlite::Result<Vec<(Cursor, Value)>>>()
        })?;
        let most = limit as usize;
        let last = rows.get(most - 1).filter(|_| rows.len() > most);
        let next = last.map(|(cursor, _)| format!("{}.{}", cursor.updated, cursor.id));
        let data: Vec<Value> = rows.into_iter().take(most).map(|(_, row)| row).collect();
        Ok(json!({ "data": data, "next": next }))
    }

    /// One whole, as JSON: its document stands there as it was kept.
    fn get(&self, owner: i64, id: &str) -> Result<Option<String>, Fault> {
        self.read(|database| {
            let mut select = database.prepare_cached(
                "SELECT title, updated, revision, document FROM web_chats
                 WHERE owner = ?1 AND id = ?2",
            )?;
            let whole = |row: &Row<'_>| {
                let (title, document): (String, String) = (row.get(0)?, row.get(3)?);
                let (updated, revision): (i64, i64) = (row.get(1)?, row.get(2)?);
                let (id, title) = (json!(id), json!(title));
                Ok(format!(
                    "{{\"id\":{id},\"title\":{title},\"updated_at\":{updated},\
                     \"revision\":{revision},\"document\":{document}}}"
                ))
            };
            select.query_row(params![owner, id], whole).optional()
        })
    }

    fn put(&self, owner: i64, id: &str, chat: &Written) -> Result<Change, Fault> {
        let now = self.clock.now().unix;
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = records.change("write", |change| {
            let mut select = change.prepare_cached(
                "SELECT revision, updated FROM web_chats WHERE owner = ?1 AND id = ?2",
            )?;
            let kept = select
                .query_row(params![owner, id], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let (revision, before): (i64, i64) = kept.unwrap_or((0, 0));
            if revision != chat.revision {
                return Ok(Change::Late(revision));
            }
            if kept.is_none() {
                let mut count =
                    change.prepare_cached("SELECT count(*) FROM web_chats WHERE owner = ?1")?;
                let count: i64 = count.query_row([owner], |row| row.get(0))?;
                if count >= MOST_CHATS {
                    return Ok(Change::Full);
                }
            }
            // A clock that was set back does not put what is newest at the end.
            let updated = now.max(before);
            let revision = revision + 1;
            let mut write = change.prepare_cached(
                "INSERT INTO web_chats
                     (owner, id, updated, revision, title, model, turns, words, document)
                 VALUES (:owner, :id, :updated, :revision, :title, :model, :turns, :words, :document)
                 ON CONFLICT (owner, id) DO UPDATE SET
                     updated = excluded.updated, revision = excluded.revision,
                     title = excluded.title, model = excluded.model, turns = excluded.turns,
                     words = excluded.words, document = excluded.document",
            )?;
            write.execute(named_params! {
                ":owner": owner, ":id": id, ":updated": updated, ":revision": revision,
                ":title": chat.title, ":model": chat.model, ":turns": chat.turns,
                ":words": chat.words, ":document": chat.document,
            })?;
            Ok(Change::Made { revision, updated })
        });
        changed.map_err(|error| broken("a conversation was not written", &error))
    }

    fn remove(&self, owner: i64, id: &str) -> Result<(), Fault> {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let removed = records.change("write", |change| {
            change.execute(
                "DELETE FROM web_chats WHERE owner = ?1 AND id = ?2",
                params![owner, id],
            )
        });
        let removed = removed.map(drop);
        removed.map_err(|error| broken("a conversation was not removed", &error))
    }
}

fn listed(row: &Row<'_>) -> rusqlite::Result<(Cursor, Value)> {
    let (id, updated): (String, i64) = (row.get(0)?, row.get(2)?);
    let value = json!({
        "id": id,
        "title": row.get::<_, String>(1)?,
        "updated_at": updated,
        "revision": row.get::<_, i64>(3)?,
        "model": row.get::<_, String>(4)?,
        "turns": row.get::<_, i64>(5)?,
    });
    Ok((Cursor { updated, id }, value))
}

/// Which are asked for.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    q: Option<String>,
    limit: Option<u32>,
    before: Option<String>,
}

impl Asked {
    /// What words must be like; none where all are wanted. What is special to LIKE is only itself.
    fn pattern(&self) -> Result<Option<String>, Fault> {
        let text = self.q.as_deref().unwrap_or_default().trim();
        if text.is_empty() {
            return Ok(None);
        }
        if text.chars().count() > SEARCH_CHARS {
            let expected = format!("at most {SEARCH_CHARS} characters");
            return Err(Fault::field("q", &expected, "more"));
        }
        let mut pattern = String::from("%");
        for letter in text.to_lowercase().chars() {
            if matches!(letter, '%' | '_' | '\\') {
                pattern.push('\\');
            }
            pattern.push(letter);
        }
        pattern.push('%');
        Ok(Some(pattern))
    }
}

impl Written {
    /// Reads a body: `title`, `document` and `revision`.
    fn read(mut body: Value) -> Result<Self, Fault> {
        let title = body
            .get("title")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let title = title.trim().to_owned();
        if title.chars().count() > TITLE_CHARS {
            let expected = format!("at most {TITLE_CHARS} characters");
            return Err(Fault::field("title", &expected, "more"));
        }
        let revision = body.get("revision").and_then(Value::as_i64);
        let revision = revision.filter(|revision| *revision >= 0).ok_or_else(|| {
            Fault::field("revision", "the change that was seen last, or 0", "none")
        })?;
        let document = body.get_mut("document").map(Value::take);
        let document = document.unwrap_or_default();
        let nodes = document.get("nodes").and_then(Value::as_object);
        let is_known = document.get("version").and_then(Value::as_i64) == Some(1);
        let Some(nodes) = nodes.filter(|_| is_known) else {
            let expected = "a conversation of version 1, with its nodes";
            return Err(Fault::field("document", expected, "something else"));
        };
        let is_question = |node: &&Value| node.get("role").and_then(Value::as_str) == Some("user");
        let turns = nodes.values().filter(is_question).count();
        let said = nodes
            .values()
            .filter_map(|node| node.get("content")?.as_str());
        let words = words(std::iter::once(title.as_str()).chain(said));
        let model = document.get("model").and_then(Value::as_str);
        let model: String = model
            .unwrap_or_default()
            .chars()
            .take(TITLE_CHARS)
            .collect();
        let document = document.to_string();
        if document.len() > DOCUMENT_BYTES {
            return Err(too_large());
        }
        Ok(Self {
            title,
            revision,
            model,
            turns: i64::try_from(turns).unwrap_or(i64::MAX),
            words,
            document,
        })
    }
}

/// What a conversation is found by: in lower case, up to a limit.
fn words<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let mut words = String::new();
    for letter in texts.flat_map(|text| text.chars().chain(['\n'])) {
        if words.len() >= WORDS_BYTES {
            break;
        }
        // A zero would end the text for SQLite.
        words.extend(letter.to_lowercase().filter(|letter| *letter != '\0'));
    }
    words
}

fn too_large() -> Fault {
    let message = format!(
        "expected a conversation of at most {} MiB, got more; begin a new one",
        DOCUMENT_BYTES >> 20
    );
    Fault::new(Kind::TooLarge, message)
}

/// A UUID, as the page makes them.
fn read_id(text: &str) -> Result<String, Fault> {
    let is_fine = text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
        });
    if is_fine {
        return Ok(text.to_owned());
    }
    Err(Fault::field("id", "a UUID in lower case", "another text"))
}

/// Whose conversations are meant, as an argument of handlers.
#[derive(Debug)]
pub(super) struct Owner {
    id: i64,
    chats: Arc<Chats>,
}

impl axum::extract::FromRequestParts<Web> for Owner {
    type Rejection = Fault;

    async fn from_request_parts(head: &mut request::Parts, web: &Web) -> Result<Self, Fault> {
        let visit = Visit::from_request_parts(head, web).await?;
        let none = || {
            let message = "this server keeps no conversations: they stay in the browser";
            Fault::new(Kind::NoRoute, message)
        };
        Ok(Self {
            id: visit.who()?.id,
            chats: web.chats.clone().ok_or_else(none)?,
        })
    }
}

pub(super) async fn list(
    State(web): State<Web>,
    owner: Owner,
    Query(asked): Query<Asked>,
) -> Result<Json<Value>, Fault> {
    let list = move || owner.chats.list(owner.id, &asked);
    Ok(Json(web.aside.run(list).await?))
}

pub(super) async fn one(
    State(web): State<Web>,
    owner: Owner,
    Part(id): Part<String>,
) -> Result<Response, Fault> {
    let id = read_id(&id)?;
    let get = move || owner.chats.get(owner.id, &id);
    let found = web.aside.run(get).await?;
    let none = || Fault::new(Kind::NoRoute, "there is no conversation of this id").at("id");
    Ok((
        [(CONTENT_TYPE, "application/json")],
        found.ok_or_else(none)?,
    )
        .into_response())
}

pub(super) async fn put(
    State(web): State<Web>,
    owner: Owner,
    Part(id): Part<String>,
    request: Request,
) -> Result<Response, Fault> {
    let id = read_id(&id)?;
    let body = web.read(request, DOCUMENT_BYTES + BESIDE_BYTES).await;
    let body = body.map_err(|fault| match fault.kind {
        Kind::TooLarge => too_large(),
        _ => fault,
    })?;
    let write = move || {
        let chat = Written::read(body)?;
        let change = owner.chats.put(owner.id, &id, &chat)?;
        Ok((id, change))
    };
    let (id, change) = web.aside.run(write).await?;
    match change {
        Change::Made { revision, updated } => {
            let made = json!({ "id": id, "revision": revision, "updated_at": updated });
            Ok(Json(made).into_response())
        }
        Change::Late(revision) => Ok(late(revision)),
        Change::Full => {
            let message = format!(
                "{MOST_CHATS} conversations are kept already, as many as may be; remove some"
            );
            Err(Fault::new(Kind::Conflict, message))
        }
    }
}

/// The usual envelope, with the number of the change that is kept beside it.
fn late(revision: i64) -> Response {
    let message = if revision == 0 {
        "this conversation was removed meanwhile"
    } else {
        "this conversation was changed elsewhere meanwhile"
    };
    let mut body = Fault::new(Kind::Conflict, message).at("revision").openai();
    if let Some(fields) = body.as_object_mut() {
        fields.insert("revision".into(), revision.into());
    }
    (StatusCode::CONFLICT, Json(body)).into_response()
}

pub(super) async fn remove(
    State(web): State<Web>,
    owner: Owner,
    Part(id): Part<String>,
) -> Result<StatusCode, Fault> {
    let id = read_id(&id)?;
    let remove = move || owner.chats.remove(owner.id, &id);
    web.aside.run(remove).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{Grant, Keys};

    const ID: &str = "0b8f5d1e-7a52-4c9d-9f0e-3c1a2b4d5e6f";

    fn written(title: &str, said: &str, revision: i64) -> Written {
        let document = json!({
            "version": 1, "model": "m",
            "nodes": { "a": { "role": "user", "content": said } },
        });
        let body = json!({ "title": title, "revision": revision, "document": document });
        Written::read(body).unwrap()
    }

    fn chats() -> (tempfile::TempDir, Chats) {
        let home = tempfile::tempdir().unwrap();
        let mut keys = Keys::open(home.path()).unwrap();
        for name in ["a", "b"] {
            let grant = Grant {
                name: name.into(),
                ..Grant::default()
            };
            keys.add(&grant, 1).unwrap();
        }
        let chats = Chats::open(home.path(), Clock::start()).unwrap();
        (home, chats)
    }

    fn id(n: usize) -> String {
        format!("0b8f5d1e-7a52-4c9d-9f0e-{n:012x}")
    }

    fn found(chats: &Chats, text: &str) -> Vec<String> {
        let asked = Asked {
            q: Some(text.into()),
            ..Asked::default()
        };
        let list = chats.list(1, &asked).unwrap();
        let titles = list["data"].as_array().unwrap().iter();
        titles
            .map(|chat| chat["title"].as_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn who_writes_last_has_seen_what_was_written_before() {
        let (_home, chats) = chats();
        let put = |revision| chats.put(1, ID, &written("t", "x", revision)).unwrap();
        assert!(matches!(put(0), Change::Made { revision: 1, .. }));
        assert_eq!(put(0), Change::Late(1));
        assert!(matches!(put(1), Change::Made { revision: 2, .. }));
        chats.remove(1, ID).unwrap();
        assert_eq!(put(2), Change::Late(0));
        assert_eq!(chats.get(1, ID).unwrap(), None);
    }

    #[test]
    fn an_owner_has_no_way_to_what_is_anothers() {
        let (_home, chats) = chats();
        chats.put(1, ID, &written("mine", "secret", 0)).unwrap();
        assert_eq!(chats.get(2, ID).unwrap(), None);
        assert_eq!(
            chats.put(2, ID, &written("x", "y", 1)).unwrap(),
            Change::Late(0)
        );
        chats.remove(2, ID).unwrap();
        chats.put(2, ID, &written("yours", "open", 0)).unwrap();
        let mine: Value = serde_json::from_str(&chats.get(1, ID).unwrap().unwrap()).unwrap();
        assert_eq!(mine["title"], "mine");
        assert_eq!(mine["document"]["nodes"]["a"]["content"], "secret");
        assert_eq!(found(&chats, "open"), [""; 0]);
        assert_eq!(found(&chats, "secret"), ["mine"]);
    }

    #[test]
    fn words_are_found_in_any_case_and_wildcards_are_letters() {
        let (_home, chats) = chats();
        for (n, (title, said)) in [
            ("Größe", "wie groß"),
            ("percent", "100% sure"),
            ("under", "snake_case"),
            ("slash", "a\\b"),
            ("zero", "nul\0byte and after"),
        ]
        .into_iter()
        .enumerate()
        {
            chats.put(1, &id(n), &written(title, said, 0)).unwrap();
        }
        for (text, expected) in [
            ("GRÖSSE", vec![]),
            ("GRÖßE", vec!["Größe"]),
            ("%", vec!["percent"]),
            ("e_c", vec!["under"]),
            ("_", vec!["under"]),
            ("\\", vec!["slash"]),
            ("AND AFTER", vec!["zero"]),
            ("PERCENT", vec!["percent"]),
            ("nowhere", vec![]),
        ] {
            assert_eq!(found(&chats, text), expected, "{text}");
        }
        let asked = Asked {
            q: Some("x".repeat(SEARCH_CHARS + 1)),
            ..Asked::default()
        };
        assert_eq!(
            chats.list(1, &asked).unwrap_err().param.as_deref(),
            Some("q")
        );
    }

    #[test]
    fn lists_go_on_where_they_ended() {
        let (_home, chats) = chats();
        for n in 0..5 {
            chats
                .put(1, &id(n), &written(&n.to_string(), "x", 0))
                .unwrap();
        }
        let mut asked = Asked {
            limit: Some(2),
            ..Asked::default()
        };
        let mut titles = Vec::new();
        loop {
            let list = chats.list(1, &asked).unwrap();
            for chat in list["data"].as_array().unwrap() {
                titles.push(chat["title"].as_str().unwrap().to_owned());
            }
            match list["next"].as_str() {
                Some(next) => asked.before = Some(next.to_owned()),
                None => break,
            }
        }
        assert_eq!(titles, ["4", "3", "2", "1", "0"]);
        for before in ["", "x", "1", "1.x", &format!("x.{ID}")] {
            asked.before = Some(before.to_owned());
            assert_eq!(chats.list(1, &asked).unwrap_err().kind, Kind::Invalid);
        }
    }

    #[test]
    fn what_is_no_conversation_is_refused() {
        let good = json!({ "version": 1, "nodes": {} });
        for (body, param) in [
            (json!({ "revision": 0, "document": {} }), "document"),
            (json!({ "revision": 0 }), "document"),
            (
                json!({ "revision": 0, "document": { "version": 2, "nodes": {} } }),
                "document",
            ),
            (
                json!({ "revision": 0, "document": { "version": 1, "nodes": [] } }),
                "document",
            ),
            (json!({ "document": good }), "revision"),
            (json!({ "revision": -1, "document": good }), "revision"),
            (
                json!({ "revision": 0, "document": good, "title": "x".repeat(201) }),
                "title",
            ),
        ] {
            let fault = Written::read(body.clone()).unwrap_err();
            assert_eq!(fault.param.as_deref(), Some(param), "{body}");
        }
        let large =
            json!({ "version": 1, "nodes": { "a": { "content": "x".repeat(DOCUMENT_BYTES) } } });
        let fault = Written::read(json!({ "revision": 0, "document": large })).unwrap_err();
        assert_eq!(fault.kind, Kind::TooLarge);
        for id in [
            "",
            "x",
            "0B8F5D1E-7A52-4C9D-9F0E-3C1A2B4D5E6F",
            &format!("{ID}0"),
        ] {
            assert!(read_id(id).is_err(), "{id}");
        }
        assert_eq!(read_id(ID).unwrap(), ID);
    }
}
