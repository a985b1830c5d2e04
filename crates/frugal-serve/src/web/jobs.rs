//! Long work with models: fetching and checking, one after the other, watched and called off.
//!
//! A job runs on a thread that may wait and tells how far it is; who watches is told a few times a
//! second. Jobs that have ended are kept in mind for a while. None outlives the server; a pull that
//! was cut goes on with the next pull of the same name.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{Json, Response};
use frugal_run::Stop;
use frugal_run::consumption::unix_seconds;
use frugal_run::hub::{Progress, Watch};
use futures_util::stream;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::{Mutex as TurnMutex, watch};
use tokio::time::sleep;

use super::{Manager, Web};
use crate::server::stream::{Ending, Event, events};
use crate::server::{Shutdown, Stage};
use crate::wire::error::{Fault, Kind};

/// Jobs that wait or run.
const MOST_UNDER_WAY: usize = 8;
/// Jobs that have ended and are kept in mind.
const MOST_ENDED: usize = 32;
/// Between two events of one job.
const PAUSE: Duration = Duration::from_millis(200);

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Work {
    /// Fetches a model.
    Pull,
    /// Holds a model's files against their digests.
    Verify,
}

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Phase {
    Waiting,
    Running,
    Done,
    Failed,
    Cancelled,
}

impl Phase {
    const fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }
}

/// How far a job is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Seen {
    state: Phase,
    done_bytes: u64,
    /// None before it is known.
    total_bytes: Option<u64>,
    file: Option<String>,
    /// What became of it, or why it waits.
    message: Option<String>,
}

#[derive(Debug)]
struct Job {
    work: Work,
    name: String,
    began: i64,
    stop: Stop,
    /// Whether a thread works on it: also for a while after it was called off.
    is_at_work: AtomicBool,
    seen: watch::Sender<Seen>,
}

impl Job {
    fn phase(&self) -> Phase {
        self.seen.borrow().state
    }

    fn shown(&self, id: u64) -> Value {
        let mut value = json!({
            "id": id.to_string(),
            "kind": self.work,
            "name": self.name,
            "started_at": self.began,
        });
        if let (Value::Object(fields), Value::Object(seen)) =
            (&mut value, json!(*self.seen.borrow()))
        {
            fields.extend(seen);
        }
        value
    }

    /// Whether it touches a model of this name, or will. A pull's name says more than the repository:
    /// which revision and which file.
    fn touches(&self, name: &str) -> bool {
        let is_open = !self.phase().is_over() || self.is_at_work.load(Ordering::Acquire);
        let is_it = match self.work {
            Work::Pull => repository_of(&self.name) == repository_of(name),
            Work::Verify => self.name == name,
        };
        is_open && is_it
    }

    /// Ends it in the eyes of those who watch, unless it has ended.
    fn end(&self, state: Phase, message: Option<String>) {
        self.seen.send_if_modified(|seen| {
            let is_first = !seen.state.is_over();
            if is_first {
                seen.state = state;
                seen.message = message;
                seen.file = None;
            }
            is_first
        });
    }

    /// Whether it has not been called off meanwhile.
    fn begin(&self) -> bool {
        self.is_at_work.store(true, Ordering::Release);
        let is_wanted = self.seen.send_if_modified(|seen| {
            let is_waiting = seen.state == Phase::Waiting;
            if is_waiting {
                seen.state = Phase::Running;
            }
            is_waiting
        });
        self.is_at_work.store(is_wanted, Ordering::Release);
        is_wanted
    }

    /// Waits until it is called off.
    async fn is_called_off(&self) {
        let mut seen = self.seen.subscribe();
        // The sender is its own.
        let _ = seen.wait_for(|seen| seen.state.is_over()).await;
    }
}

fn repository_of(name: &str) -> &str {
    name.split(['@', ':']).next().unwrap_or_default()
}

/// All jobs of a server.
#[derive(Debug, Clone, Default)]
pub struct Jobs {
    board: Arc<Mutex<Board>>,
    /// One works at a time: they want the same disk and the same wire.
    turn: Arc<TurnMutex<()>>,
}

#[derive(Debug, Default)]
struct Board {
    made: u64,
    all: BTreeMap<u64, Arc<Job>>,
}

impl Jobs {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a job, or finds the one that does the same already; its number.
    ///
    /// # Errors
    /// If too many wait.
    pub(super) fn begin(
        &self,
        (work, name): (Work, &str),
        total_bytes: Option<u64>,
        run: impl FnOnce(&Stop, &mut Watch<'_>) -> Result<String, String> + Send + 'static,
    ) -> Result<u64, Fault> {
        let mut board = self.board();
        let under_way = || board.all.iter().filter(|(_, job)| !job.phase().is_over());
        let is_same = |job: &Arc<Job>| job.work == work && job.name == name;
        if let Some((id, _)) = under_way().find(|(_, job)| is_same(job)) {
            return Ok(*id);
        }
        if under_way().count() >= MOST_UNDER_WAY {
            let message = "too many jobs wait already; try again when some are done";
            return Err(Fault::new(Kind::Busy, message).again_after(10));
        }
        board.forget();
        board.made += 1;
        let id = board.made;
        let seen = Seen {
            state: Phase::Waiting,
            done_bytes: 0,
            total_bytes,
            file: None,
            message: None,
        };
        let job = Arc::new(Job {
            work,
            name: name.to_owned(),
            began: unix_seconds(),
            stop: Stop::default(),
            is_at_work: AtomicBool::new(false),
            seen: watch::Sender::new(seen),
        });
        board.all.insert(id, Arc::clone(&job));
        drop(board);
        let turn = Arc::clone(&self.turn);
        tokio::spawn(async move {
            let turn = tokio::select! {
                biased;
                () = job.is_called_off() => return,
                turn = turn.lock_owned() => turn,
            };
            if !job.begin() {
                return;
            }
            let of_thread = Arc::clone(&job);
            let done = tokio::task::spawn_blocking(move || {
                let _turn = turn;
                let job = of_thread;
                let mut tally = Tally::default();
                run(&job.stop, &mut |progress| tally.hear(progress, &job.seen))
            });
            let done = done.await;
            job.is_at_work.store(false, Ordering::Release);
            match done {
                Ok(Ok(message)) => job.end(Phase::Done, Some(message)),
                Ok(Err(message)) if !job.stop.is_asked() => {
                    job.end(Phase::Failed, Some(message));
                }
                Ok(Err(_)) => job.end(Phase::Cancelled, None),
                Err(error) => {
                    tracing::error!(%error, "a job panicked");
                    job.end(Phase::Failed, None);
                }
            }
        });
        Ok(id)
    }

    /// Whether some job works with a model of this name, or waits to.
    pub(super) fn works_with(&self, name: &str) -> bool {
        self.board().all.values().any(|job| job.touches(name))
    }

    fn find(&self, id: &str) -> Result<Arc<Job>, Fault> {
        let none = || Fault::new(Kind::NoRoute, "there is no job of this id").at("id");
        let id: u64 = id.parse().map_err(|_| none())?;
        self.board().all.get(&id).cloned().ok_or_else(none)
    }
}

impl Board {
    /// Forgets the oldest of those that have ended, beyond so many.
    fn forget(&mut self) {
        let is_over = |job: &Job| job.phase().is_over() && !job.is_at_work.load(Ordering::Acquire);
        let ended = self.all.iter().filter(|(_, job)| is_over(job));
        let ended: Vec<u64> = ended.map(|(id, _)| *id).collect();
        let too_many = ended.len().saturating_sub(MOST_ENDED);
        for id in ended.iter().take(too_many) {
            self.all.remove(id);
        }
    }
}

/// Adds up the files of a job.
#[derive(Debug, Default)]
struct Tally {
    /// Bytes of the files that are whole.
    whole: u64,
}

impl Tally {
    fn hear(&mut self, progress: &Progress<'_>, seen: &watch::Sender<Seen>) {
        seen.send_modify(|seen| match progress {
            Progress::Listed { bytes, .. } => seen.total_bytes = Some(*bytes),
            Progress::Begin { file, have, .. } => {
                seen.file = Some((*file).to_owned());
                seen.done_bytes = self.whole + have;
            }
            Progress::Bytes { have, .. } => {
                seen.done_bytes = self.whole + have;
                if seen.state == Phase::Running {
                    seen.message = None;
                }
            }
            Progress::Retry {
                attempt,
                pause,
                reason,
                ..
            } => {
                let seconds = pause.as_secs_f64().ceil();
                let words = format!("attempt {attempt} failed, next in {seconds} s: {reason}");
                if seen.state == Phase::Running {
                    seen.message = Some(words);
                }
            }
            Progress::End { bytes, .. } => {
                self.whole += bytes;
                seen.done_bytes = self.whole;
            }
            _ => {}
        });
    }
}

pub(super) async fn list(State(web): State<Web>, _: Manager) -> Json<Value> {
    let board = web.jobs.board();
    let newest_first = board.all.iter().rev();
    let data: Vec<Value> = newest_first.map(|(id, job)| job.shown(*id)).collect();
    Json(json!({ "data": data }))
}

pub(super) async fn follow(
    State(web): State<Web>,
    _: Manager,
    Path(id): Path<String>,
) -> Result<Response, Fault> {
    let job = web.jobs.find(&id)?;
    let watched = Watched {
        seen: job.seen.subscribe(),
        shutdown: web.shutdown.clone(),
        next: Next::First,
    };
    let told = stream::unfold(watched, Watched::next);
    Ok(events(told, Ending::Plain, web.keep_alive))
}

pub(super) async fn cancel(
    State(web): State<Web>,
    _: Manager,
    Path(id): Path<String>,
) -> Result<StatusCode, Fault> {
    let job = web.jobs.find(&id)?;
    job.stop.ask();
    job.end(Phase::Cancelled, None);
    Ok(StatusCode::NO_CONTENT)
}

/// A job as one client watches it.
struct Watched {
    seen: watch::Receiver<Seen>,
    shutdown: Shutdown,
    next: Next,
}

/// Which event is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// How far it is already.
    First,
    /// How far it is when that changes.
    Changed,
    /// None.
    Over,
}

impl Watched {
    async fn next(mut self) -> Option<(Event, Self)> {
        match self.next {
            Next::First => {}
            Next::Over => return None,
            Next::Changed => {
                tokio::select! {
                    () = self.shutdown.reached(Stage::Draining) => return None,
                    changed = async { sleep(PAUSE).await; self.seen.changed().await } => changed.ok()?,
                }
            }
        }
        let seen = self.seen.borrow_and_update().clone();
        self.next = if seen.state.is_over() {
            Next::Over
        } else {
            Next::Changed
        };
        Some((Event::new(json!(seen).to_string()), self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    async fn until(jobs: &Jobs, id: u64, phase: Phase) -> Seen {
        let job = jobs.find(&id.to_string()).unwrap();
        let mut seen = job.seen.subscribe();
        seen.wait_for(|seen| seen.state == phase)
            .await
            .unwrap()
            .clone()
    }

    #[tokio::test]
    async fn jobs_run_one_by_one_and_add_up_their_files() {
        let jobs = Jobs::default();
        let (go, wait) = mpsc::channel::<()>();
        let first = jobs.begin((Work::Pull, "a"), None, move |_, watch| {
            wait.recv().unwrap();
            watch(&Progress::Listed {
                name: "a",
                revision: "1",
                n_files: 2,
                bytes: 30,
            });
            for (file, bytes) in [("x", 10), ("y", 20)] {
                watch(&Progress::Begin {
                    file,
                    have: 0,
                    bytes,
                });
                watch(&Progress::End { file, bytes });
            }
            Ok("a".into())
        });
        let first = first.unwrap();
        until(&jobs, first, Phase::Running).await;
        let again = jobs.begin((Work::Pull, "a"), None, |_, _| Ok("never".into()));
        assert_eq!(again.unwrap(), first);
        let second = jobs.begin((Work::Verify, "a"), Some(5), |_, _| Err("bad".into()));
        let second = second.unwrap();
        assert!(jobs.works_with("a") && !jobs.works_with("b"));
        assert_eq!(
            until(&jobs, second, Phase::Waiting).await.total_bytes,
            Some(5)
        );
        go.send(()).unwrap();
        let done = until(&jobs, first, Phase::Done).await;
        assert_eq!((done.done_bytes, done.total_bytes), (30, Some(30)));
        let failed = until(&jobs, second, Phase::Failed).await;
        assert_eq!(failed.message.as_deref(), Some("bad"));
        assert!(!jobs.works_with("a"));
    }

    #[tokio::test]
    async fn what_is_called_off_while_it_waits_never_begins() {
        let jobs = Jobs::default();
        let (go, wait) = mpsc::channel::<()>();
        let first = jobs.begin((Work::Pull, "a"), None, move |stop, _| {
            wait.recv().unwrap();
            if stop.is_asked() {
                return Err("stopped".into());
            }
            Ok("a".into())
        });
        let first = first.unwrap();
        until(&jobs, first, Phase::Running).await;
        let never = |_: &Stop, _: &mut Watch<'_>| -> Result<String, String> { panic!("it began") };
        let second = jobs.begin((Work::Pull, "b"), None, never).unwrap();
        for id in [second, first] {
            let job = jobs.find(&id.to_string()).unwrap();
            job.stop.ask();
            job.end(Phase::Cancelled, None);
        }
        go.send(()).unwrap();
        let third = jobs.begin((Work::Pull, "c"), None, |_, _| Ok("c".into()));
        until(&jobs, third.unwrap(), Phase::Done).await;
        until(&jobs, first, Phase::Cancelled).await;
        until(&jobs, second, Phase::Cancelled).await;
    }

    #[tokio::test]
    async fn what_was_called_off_is_worked_with_until_its_thread_has_ended() {
        let jobs = Jobs::default();
        let (go, wait) = mpsc::channel::<()>();
        let first = jobs.begin((Work::Pull, "o/a@main"), None, move |_, _| {
            wait.recv().unwrap();
            Err("stopped".into())
        });
        let first = first.unwrap();
        until(&jobs, first, Phase::Running).await;
        let cancel = |id: u64| {
            let job = jobs.find(&id.to_string()).unwrap();
            job.stop.ask();
            job.end(Phase::Cancelled, None);
        };
        // What waits and is called off leaves nothing behind that waits on.
        let kept = Arc::new(());
        for n in 0..100 {
            let own = Arc::clone(&kept);
            let next = jobs.begin((Work::Pull, &format!("o/{n}")), None, move |_, _| {
                drop(own);
                Ok(String::new())
            });
            cancel(next.unwrap());
        }
        while Arc::strong_count(&kept) > 1 {
            tokio::task::yield_now().await;
        }
        cancel(first);
        assert!(jobs.works_with("o/a") && jobs.works_with("o/a:Q4"));
        assert!(!jobs.works_with("o/b"));
        go.send(()).unwrap();
        while jobs.works_with("o/a") {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn the_queue_and_the_memory_of_jobs_are_bounded() {
        let jobs = Jobs::default();
        let (go, wait) = mpsc::channel::<()>();
        let first = jobs.begin((Work::Pull, "0"), None, move |_, _| {
            wait.recv().unwrap();
            Ok(String::new())
        });
        let mut last = first.unwrap();
        for n in 1..MOST_UNDER_WAY {
            let next = jobs.begin((Work::Pull, &n.to_string()), None, |_, _| Ok(String::new()));
            last = next.unwrap();
        }
        let full = jobs.begin((Work::Pull, "x"), None, |_, _| Ok(String::new()));
        assert_eq!(full.unwrap_err().kind, Kind::Busy);
        go.send(()).unwrap();
        until(&jobs, last, Phase::Done).await;
        for n in 0..2 * MOST_ENDED {
            let next = jobs.begin((Work::Verify, &n.to_string()), None, |_, _| {
                Ok(String::new())
            });
            until(&jobs, next.unwrap(), Phase::Done).await;
        }
        assert!(jobs.board().all.len() <= MOST_ENDED + 1);
        assert_eq!(
            jobs.find(&last.to_string()).unwrap_err().kind,
            Kind::NoRoute
        );
        assert_eq!(jobs.find("x").unwrap_err().kind, Kind::NoRoute);
    }
}
