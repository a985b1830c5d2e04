//! The engine's thread.
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Receiver;

use super::TokenModel;
use super::job::{EngineSettings, Gauges, Submitted};

/// An engine at work.
#[derive(Debug)]
pub(super) struct Run {
    model: Box<dyn TokenModel>,
    settings: EngineSettings,
    gauges: Arc<Gauges>,
}

impl Run {
    pub(super) fn new(
        model: Box<dyn TokenModel>,
        settings: EngineSettings,
        gauges: Arc<Gauges>,
    ) -> Self {
        Self {
            model,
            settings,
            gauges,
        }
    }

    pub(super) fn serve(self, jobs: &Receiver<Submitted>, is_stopped: &AtomicBool) {
        let _ = (&self.model, &self.settings, &self.gauges, jobs, is_stopped);
    }
}
