//! The handle that ends the server: politely first, at once when asked again.

use tokio::sync::watch;

/// How far the end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Not at all.
    Running,
    /// What runs may finish; nothing new is begun.
    Draining,
    /// Everything ends now.
    Cut,
}

/// Ends a server, from anywhere.
#[derive(Debug, Clone)]
pub struct Shutdown {
    stage: watch::Sender<Stage>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl Shutdown {
    /// A server that runs.
    pub fn new() -> Self {
        Self {
            stage: watch::Sender::new(Stage::Running),
        }
    }

    /// How far the end has come.
    pub fn stage(&self) -> Stage {
        *self.stage.borrow()
    }

    /// Lets what runs finish and begins nothing new.
    pub fn drain(&self) {
        self.go_to(Stage::Draining);
    }

    /// Ends everything now.
    pub fn cut(&self) {
        self.go_to(Stage::Cut);
    }

    /// What a signal asks for: to drain, or, where that is under way, to cut.
    pub fn advance(&self) {
        if self.stage() == Stage::Running {
            self.drain();
        } else {
            self.cut();
        }
    }

    fn go_to(&self, stage: Stage) {
        self.stage.send_if_modified(|now| {
            let is_later = stage > *now;
            *now = stage.max(*now);
            is_later
        });
    }

    /// Waits until the end has come so far.
    pub async fn reached(&self, stage: Stage) {
        let mut watch = self.stage.subscribe();
        // The sender is `self`, so the channel is open.
        let _ = watch.wait_for(|now| *now >= stage).await;
    }

    /// Advances on SIGTERM and SIGINT and calls `reload` on SIGHUP, until the server is cut. On
    /// systems without these signals, advances on Ctrl-C.
    ///
    /// # Errors
    /// If the system lets no signal be watched.
    #[cfg(unix)]
    pub async fn obey_signals(&self, reload: impl Fn() + Send) -> std::io::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        loop {
            tokio::select! {
                () = self.reached(Stage::Cut) => return Ok(()),
                _ = terminate.recv() => self.advance(),
                _ = interrupt.recv() => self.advance(),
                _ = hang_up.recv() => reload(),
            }
        }
    }

    /// Advances on Ctrl-C, until the server is cut.
    ///
    /// # Errors
    /// If the system lets no signal be watched.
    #[cfg(not(unix))]
    pub async fn obey_signals(&self, _reload: impl Fn() + Send) -> std::io::Result<()> {
        loop {
            tokio::select! {
                () = self.reached(Stage::Cut) => return Ok(()),
                pressed = tokio::signal::ctrl_c() => pressed.map(|()| self.advance())?,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_only_advance() {
        let shutdown = Shutdown::new();
        let mut stages = vec![shutdown.stage()];
        shutdown.advance();
        stages.push(shutdown.stage());
        shutdown.advance();
        stages.push(shutdown.stage());
        shutdown.drain();
        stages.push(shutdown.stage());
        assert_eq!(
            stages,
            [Stage::Running, Stage::Draining, Stage::Cut, Stage::Cut]
        );
    }
}
