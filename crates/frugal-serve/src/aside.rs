//! Work that takes a thread for a while: done beside the threads that serve.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::wire::error::Fault;

/// Does what computes or waits for a disk off the async threads, a bounded number at a time.
#[derive(Debug, Clone)]
pub struct Aside(Arc<Semaphore>);

impl Aside {
    /// At most so many at a time, and at least one.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Semaphore::new(most.max(1))))
    }

    /// Does the work. Once begun it is done, and has its place until then, also where nobody waits for
    /// it any more.
    ///
    /// # Errors
    /// Of the work, and if it panics.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let turn = Arc::clone(&self.0).acquire_owned().await;
        let turn = turn.map_err(|_| Fault::ours())?;
        let work = move || {
            let _turn = turn;
            work()
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|error| {
            tracing::error!(%error, "work beside the server panicked");
            Err(Fault::ours())
        })
    }
}
