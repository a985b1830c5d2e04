//! One pool of threads, owned by the back-end and used by every operation.
//!
//! A call hands out task indices one by one; the caller works too. Which thread runs which index
//! is a matter of timing, so tasks write disjoint outputs and results never depend on it. Workers
//! wait actively for a short while after each call, since the next operation of a step follows
//! within microseconds, then sleep. A worker that wakes too late finds the call closed and misses
//! nothing: the caller never waits for a thread that has not begun.
//!
//! It does not schedule, balance by cost or nest: a call from inside a task runs in line.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::hint::spin_loop;
use std::marker::PhantomData;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, TryLockError};
use std::thread::JoinHandle;

/// Why a pool could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// The number of threads is out of range.
    #[error("expected 1 to {most} threads, got {got}")]
    Threads {
        /// Threads asked for.
        got: usize,
        /// Most that are allowed.
        most: usize,
    },
    /// The system refused a thread.
    #[error("could not start worker thread {index}")]
    Start {
        /// Which worker.
        index: usize,
        /// Why.
        source: std::io::Error,
    },
}

/// Upper limit on threads; a larger request is a mistake on any machine this is meant for.
const MOST_THREADS: usize = 1024;
/// Looks at the state before a worker sleeps. One look with its pause takes about 40 ns here, so
/// this is about 80 microseconds: longer than the serial gaps between operations of a step.
const LOOKS_BEFORE_SLEEP: u32 = 2_000;
/// Looks before the caller, waiting for the last task, offers its core to others: on a busy machine
/// the thread that it waits for may be one that has none.
const LOOKS_BEFORE_YIELD: u32 = 2_000;

/// Low half: workers inside the current call. Bit 31: the call is open. High half: its number.
const OPEN: u64 = 1 << 31;
const INSIDE: u64 = OPEN - 1;
const NUMBER: u32 = 32;

thread_local! {
    /// Set while this thread runs a task: calls made from there run in line.
    static IN_TASK: Cell<bool> = const { Cell::new(false) };
}

/// A borrowed task with its type erased, for the length of one call.
#[derive(Clone, Copy)]
struct Task {
    data: *const (),
    call: unsafe fn(*const (), usize),
    count: usize,
}

struct Shared {
    state: AtomicU64,
    next: AtomicUsize,
    task: UnsafeCell<Task>,
    payload: Mutex<Option<Box<dyn Any + Send>>>,
    stop: AtomicBool,
    sleepers: AtomicUsize,
    bed: Mutex<()>,
    bell: Condvar,
}

// SAFETY: everything but `task` is Sync by itself. `task` is written only by the thread that holds
// the pool's `turn`, and only while the call is closed and nobody is inside; it is read only by
// workers that have entered the open call, which happens after the write through `state`
// (release by the opener, acquire by the one who enters). The pointer in it is to a closure that is
// `Sync` (a bound of `Pool::run`) and lives until the caller has seen the last worker leave.
unsafe impl Sync for Shared {}
// SAFETY: as above; nothing in it is tied to the thread that made it.
unsafe impl Send for Shared {}

/// A pool of threads, the caller's among them.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    turn: Mutex<()>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool")
            .field("threads", &self.threads())
            .finish_non_exhaustive()
    }
}

impl Pool {
    /// A pool of `threads`, of which the caller of [`Self::run`] is one: with 1 all work runs in line.
    ///
    /// # Errors
    /// If `threads` is 0 or beyond reason, or the system refuses a thread.
    pub fn new(threads: usize) -> Result<Self, PoolError> {
        if threads == 0 || threads > MOST_THREADS {
            return Err(PoolError::Threads {
                got: threads,
                most: MOST_THREADS,
            });
        }
        let mut pool = Self {
            shared: Arc::new(Shared::new()),
            workers: Vec::with_capacity(threads - 1),
            turn: Mutex::new(()),
        };
        for index in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let worker = std::thread::Builder::new()
                .name(format!("frugal-{index}"))
                .spawn(move || shared.work())
                .map_err(|source| PoolError::Start { index, source })?;
            pool.workers.push(worker);
        }
        Ok(pool)
    }

    /// Threads that take part in a call, the caller included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// As [`Self::threads`] for calls from here: inside a task there is one.
    pub fn threads_here(&self) -> usize {
        if IN_TASK.get() { 1 } else { self.threads() }
    }

    /// Runs `task(i)` once for each `i < count`, in no particular order, and returns when all have
    /// ended. A panic in a task reaches the caller after the others have stopped. A call from
    /// inside a task, or while another thread's call is under way, runs in line.
    ///
    /// *Cost*: about a microsecond on top of the tasks while the workers are awake; no allocation.
    pub fn run<F: Fn(usize) + Sync>(&self, count: usize, task: F) {
        if self.workers.is_empty() || count < 2 || IN_TASK.get() {
            (0..count).for_each(task);
            return;
        }
        let _turn = match self.turn.try_lock() {
            Ok(turn) => turn,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                (0..count).for_each(task);
                return;
            }
        };
        let erased = Task {
            data: (&raw const task).cast(),
            call: call_erased::<F>,
            count,
        };
        // SAFETY: we hold the turn, and the last call left the state closed with nobody inside, so
        // no other thread reads or writes the cell.
        unsafe { *self.shared.task.get() = erased };
        self.shared.open();
        let own = self.shared.take_tasks(erased);
        self.shared.close();
        let theirs = self
            .shared
            .payload
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Err(payload) = own {
            resume_unwind(payload);
        }
        if let Some(payload) = theirs {
            resume_unwind(payload);
        }
    }

    /// Cuts `data` into pieces of `chunk_len` (the last may be shorter) and runs `f(index, piece)`
    /// on each.
    pub fn for_each_chunk<T: Send>(
        &self,
        data: &mut [T],
        chunk_len: usize,
        f: impl Fn(usize, &mut [T]) + Sync,
    ) {
        let step = chunk_len.max(1);
        let count = data.len().div_ceil(step);
        let shared = DisjointMut::new(data);
        self.run(count, |i| {
            let range = i * step..((i + 1) * step).min(shared.len());
            // SAFETY: pieces of different indices do not overlap, and each index is run once.
            f(i, unsafe { shared.slice(range) });
        });
    }

    /// As [`Self::for_each_chunk`] over two slices cut alike into the same number of pieces; pieces
    /// of the longer list that have no partner are left alone.
    pub fn for_each_chunk_pair<T: Send, U: Send>(
        &self,
        (a, a_len): (&mut [T], usize),
        (b, b_len): (&mut [U], usize),
        f: impl Fn(usize, &mut [T], &mut [U]) + Sync,
    ) {
        let (a_step, b_step) = (a_len.max(1), b_len.max(1));
        let count = a.len().div_ceil(a_step).min(b.len().div_ceil(b_step));
        let (a, b) = (DisjointMut::new(a), DisjointMut::new(b));
        self.run(count, |i| {
            let a_range = i * a_step..((i + 1) * a_step).min(a.len());
            let b_range = i * b_step..((i + 1) * b_step).min(b.len());
            // SAFETY: pieces of different indices do not overlap, and each index is run once.
            let a_piece = unsafe { a.slice(a_range) };
            // SAFETY: as above.
            let b_piece = unsafe { b.slice(b_range) };
            f(i, a_piece, b_piece);
        });
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.wake();
        for worker in self.workers.drain(..) {
            // A worker catches the panics of tasks and has none of its own to report.
            drop(worker.join());
        }
    }
}

/// Calls the closure behind `data`.
///
/// # Safety
/// `data` points to a live `F`.
unsafe fn call_erased<F: Fn(usize)>(data: *const (), index: usize) {
    // SAFETY: the caller vouches for the pointer.
    let task = unsafe { &*data.cast::<F>() };
    task(index);
}

/// What taking part in a call came to: nothing, or the payload of a panic.
type Outcome = Result<(), Box<dyn Any + Send>>;

impl Shared {
    fn new() -> Self {
        Self {
            state: AtomicU64::new(0),
            next: AtomicUsize::new(0),
            task: UnsafeCell::new(Task {
                data: std::ptr::null(),
                call: call_erased::<fn(usize)>,
                count: 0,
            }),
            payload: Mutex::new(None),
            stop: AtomicBool::new(false),
            sleepers: AtomicUsize::new(0),
            bed: Mutex::new(()),
            bell: Condvar::new(),
        }
    }

    /// Opens the next call to the workers.
    fn open(&self) {
        self.next.store(0, Ordering::Relaxed);
        let number = (self.state.load(Ordering::Relaxed) >> NUMBER).wrapping_add(1);
        // Sequentially consistent against `sleep`: either this thread sees the sleeper, or the
        // sleeper sees the open call.
        self.state
            .store((number << NUMBER) | OPEN, Ordering::SeqCst);
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            self.wake();
        }
    }

    /// Lets nobody else in and waits for those inside.
    fn close(&self) {
        let mut state = self.state.fetch_and(!OPEN, Ordering::AcqRel);
        let mut looks = 0;
        while state & INSIDE != 0 {
            looks += 1;
            if looks < LOOKS_BEFORE_YIELD {
                spin_loop();
            } else {
                std::thread::yield_now();
            }
            state = self.state.load(Ordering::Acquire);
        }
    }

    /// Runs tasks until none is left. After a panic no further task is begun.
    fn take_tasks(&self, task: Task) -> Outcome {
        let outer = IN_TASK.replace(true);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let index = self.next.fetch_add(1, Ordering::Relaxed);
                if index >= task.count {
                    break;
                }
                // SAFETY: the closure lives until `close` has returned, which waits for us.
                unsafe { (task.call)(task.data, index) };
            }
        }));
        IN_TASK.set(outer);
        if outcome.is_err() {
            self.next.store(task.count, Ordering::Relaxed);
        }
        outcome
    }

    /// The life of a worker.
    fn work(&self) {
        let mut seen = 0;
        let mut looks = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let state = self.state.load(Ordering::Relaxed);
            let number = state >> NUMBER;
            if state & OPEN != 0 && number != seen {
                if self.enter(state) {
                    seen = number;
                    self.take_part();
                }
                looks = 0;
            } else if looks < LOOKS_BEFORE_SLEEP {
                looks += 1;
                spin_loop();
            } else {
                self.sleep(seen);
                looks = 0;
            }
        }
    }

    /// Enters the call seen in `state`, unless it has changed since.
    fn enter(&self, state: u64) -> bool {
        self.state
            .compare_exchange(state, state + 1, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    fn take_part(&self) {
        // SAFETY: we have entered an open call, so the cell was written before and is not written
        // again until we leave.
        let task = unsafe { *self.task.get() };
        if let Err(payload) = self.take_tasks(task) {
            let mut slot = self.payload.lock().unwrap_or_else(PoisonError::into_inner);
            slot.get_or_insert(payload);
        }
        self.state.fetch_sub(1, Ordering::Release);
    }

    /// Sleeps until a call other than `seen` is open or the pool ends.
    fn sleep(&self, seen: u64) {
        let mut guard = self.bed.lock().unwrap_or_else(PoisonError::into_inner);
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        loop {
            let state = self.state.load(Ordering::SeqCst);
            let is_called = state & OPEN != 0 && state >> NUMBER != seen;
            if is_called || self.stop.load(Ordering::SeqCst) {
                break;
            }
            guard = self
                .bell
                .wait(guard)
                .unwrap_or_else(PoisonError::into_inner);
            // Woken for a call that may be over by now: stay awake, the next one is near.
            if state >> NUMBER != self.state.load(Ordering::SeqCst) >> NUMBER {
                break;
            }
        }
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }

    fn wake(&self) {
        // The lock orders this after a sleeper's last look, so that the bell is not lost.
        drop(self.bed.lock().unwrap_or_else(PoisonError::into_inner));
        self.bell.notify_all();
    }
}

/// A slice that several tasks write at once, each its own part.
#[derive(Debug)]
pub struct DisjointMut<'a, T> {
    start: *mut T,
    len: usize,
    life: PhantomData<&'a mut [T]>,
}

// SAFETY: sharing it gives access only through `slice`, whose caller vouches that parts in use at
// the same time do not overlap; handing parts to other threads needs `T: Send`.
unsafe impl<T: Send> Sync for DisjointMut<'_, T> {}
// SAFETY: as for a mutable slice.
unsafe impl<T: Send> Send for DisjointMut<'_, T> {}

impl<'a, T> DisjointMut<'a, T> {
    /// First element.
    pub const fn start(&self) -> *mut T {
        self.start
    }

    /// Borrows `data` until the last part is given back.
    pub fn new(data: &'a mut [T]) -> Self {
        Self {
            start: data.as_mut_ptr(),
            len: data.len(),
            life: PhantomData,
        }
    }

    /// Elements in all.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The part `range`.
    ///
    /// # Safety
    /// No other part that overlaps it is in use.
    ///
    /// # Panics
    /// If the range leaves the slice.
    #[expect(
        clippy::mut_from_ref,
        reason = "the caller vouches that parts do not overlap"
    )]
    pub unsafe fn slice(&self, range: Range<usize>) -> &mut [T] {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "part {range:?} of a slice of {}",
            self.len
        );
        // SAFETY: the range was checked to lie inside the borrowed slice.
        let first = unsafe { self.start.add(range.start) };
        // SAFETY: inside the slice; not overlapping another part in use, as the caller vouches.
        unsafe { std::slice::from_raw_parts_mut(first, range.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn every_task_runs_once_at_any_thread_count() {
        for threads in [1, 2, 3, 5] {
            let pool = Pool::new(threads).unwrap();
            for count in [0, 1, 2, 7, 100] {
                let ran: Vec<AtomicU32> = (0..count).map(|_| AtomicU32::new(0)).collect();
                pool.run(count, |i| {
                    ran[i].fetch_add(1, Ordering::Relaxed);
                });
                assert!(ran.iter().all(|n| n.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn many_short_calls_lose_no_task_whether_workers_sleep_or_not() {
        let pool = Pool::new(3).unwrap();
        let total = AtomicUsize::new(0);
        for round in 0..3_000 {
            pool.run(3, |i| {
                total.fetch_add(i + 1, Ordering::Relaxed);
            });
            if round % 500 == 0 {
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
        }
        assert_eq!(total.load(Ordering::Relaxed), 3_000 * 6);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_still_works() {
        let pool = Pool::new(2).unwrap();
        for culprit in [0, 5, 63] {
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                pool.run(64, |i| assert!(i != culprit, "task {i}"));
            }));
            assert!(outcome.is_err());
        }
        let mut data = vec![0_usize; 10];
        pool.for_each_chunk(&mut data, 3, |i, piece| piece.fill(i));
        assert_eq!(data, [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]);
    }

    #[test]
    fn a_call_from_inside_a_task_runs_in_line() {
        let pool = Pool::new(2).unwrap();
        let total = AtomicUsize::new(0);
        pool.run(4, |_| {
            pool.run(4, |i| {
                total.fetch_add(i, Ordering::Relaxed);
            });
        });
        assert_eq!(total.load(Ordering::Relaxed), 24);
    }

    #[test]
    fn pairs_are_cut_alike() {
        let pool = Pool::new(2).unwrap();
        let mut a = vec![0_usize; 7];
        let mut b = vec![0_usize; 3];
        pool.for_each_chunk_pair((&mut a, 2), (&mut b, 1), |i, a, b| {
            a.fill(i + 1);
            b.fill(10 * (i + 1));
        });
        assert_eq!(a, [1, 1, 2, 2, 3, 3, 0]);
        assert_eq!(b, [10, 20, 30]);
    }

    #[test]
    fn no_threads_is_refused() {
        assert!(Pool::new(0).is_err());
        assert!(Pool::new(usize::MAX).is_err());
    }
}
