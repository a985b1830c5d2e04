//! Learning rates over a run, as pure functions of the step.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What follows the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decay {
    /// The peak to the end.
    Constant,
    /// A straight line down to the floor.
    Linear,
    /// Half a cosine down to the floor.
    Cosine,
    /// The peak, then a straight line down to the floor over the last share of all steps: warm-up,
    /// stable, decay. *Source*: MiniCPM, 2404.06395.
    Wsd {
        /// Share of all steps, in (0, 1].
        decay_share: f64,
    },
}

/// A learning rate schedule.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// The largest rate.
    pub peak: f64,
    /// The last rate as a share of the peak, in [0, 1].
    pub floor_share: f64,
    /// Steps of the linear warm-up; its last step is at the peak.
    pub warmup_steps: u64,
    /// All steps, warm-up included.
    pub total_steps: u64,
    /// What follows the warm-up.
    pub decay: Decay,
}

impl Schedule {
    /// Refuses a schedule that no run can follow.
    ///
    /// # Errors
    /// If the peak is negative or not finite, a share lies outside its range, or the warm-up is longer
    /// than the run.
    pub fn check(&self) -> Result<()> {
        let refuse = |reason: String| {
            Err(Error::Setting {
                place: "schedule",
                reason,
            })
        };
        if !(self.peak.is_finite() && self.peak >= 0.0) {
            return refuse(format!("expected a peak of at least 0, got {}", self.peak));
        }
        if !(0.0..=1.0).contains(&self.floor_share) {
            let got = self.floor_share;
            return refuse(format!("expected a floor share in 0..=1, got {got}"));
        }
        if self.warmup_steps > self.total_steps {
            let (warmup, total) = (self.warmup_steps, self.total_steps);
            return refuse(format!(
                "expected a warm-up of at most the {total} steps of the run, got {warmup}"
            ));
        }
        match self.decay {
            Decay::Wsd { decay_share } if !(decay_share > 0.0 && decay_share <= 1.0) => refuse(
                format!("expected a decay share above 0 and up to 1, got {decay_share}"),
            ),
            _ => Ok(()),
        }
    }

    /// The rate of step `step`, counted from 0. The first step of a warm-up is not 0 but one part of
    /// it, and the last step of a run is one part above the floor: no step is spent on a rate of 0.
    #[must_use]
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.peak * (step + 1) as f64 / self.warmup_steps as f64;
        }
        let (step, total) = (step as f64, self.total_steps as f64);
        // How far through the decay, when it begins at step `from`.
        let progress = |from: f64| ((step - from) / (total - from).max(1.0)).clamp(0.0, 1.0);
        let warmup = self.warmup_steps as f64;
        let left = match self.decay {
            Decay::Constant => 1.0,
            Decay::Linear => 1.0 - progress(warmup),
            Decay::Cosine => 0.5 * (1.0 + (core::f64::consts::PI * progress(warmup)).cos()),
            Decay::Wsd { decay_share } => {
                1.0 - progress(warmup.max((total * (1.0 - decay_share)).floor()))
            }
        };
        self.peak * (self.floor_share + (1.0 - self.floor_share) * left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(decay: Decay) -> Schedule {
        Schedule {
            peak: 2.0,
            floor_share: 0.1,
            warmup_steps: 4,
            total_steps: 24,
            decay,
        }
    }

    #[test]
    fn rates_at_the_turning_points() {
        let wsd = Decay::Wsd { decay_share: 0.5 };
        for (decay, step, expected) in [
            (Decay::Constant, 0, 0.5),
            (Decay::Constant, 3, 2.0),
            (Decay::Constant, 4, 2.0),
            (Decay::Constant, 24, 2.0),
            (Decay::Linear, 4, 2.0),
            (Decay::Linear, 14, 1.1),
            (Decay::Linear, 24, 0.2),
            (Decay::Linear, 99, 0.2),
            (Decay::Cosine, 4, 2.0),
            (Decay::Cosine, 14, 1.1),
            (Decay::Cosine, 24, 0.2),
            (wsd, 4, 2.0),
            (wsd, 12, 2.0),
            (wsd, 18, 1.1),
            (wsd, 24, 0.2),
        ] {
            let got = schedule(decay).at(step);
            assert!((got - expected).abs() < 1e-12, "{decay:?} {step}: {got}");
        }
    }

    #[test]
    fn a_schedule_without_warm_up_starts_at_its_peak() {
        let schedule = Schedule {
            warmup_steps: 0,
            ..schedule(Decay::Linear)
        };
        assert!((schedule.at(0) - 2.0).abs() < 1e-12);
        let last = schedule.at(23);
        assert!(last > 0.2 && last < 0.3, "{last}");
    }

    #[test]
    fn impossible_schedules_are_refused() {
        assert!(schedule(Decay::Cosine).check().is_ok());
        for wrong in [
            schedule(Decay::Wsd { decay_share: 0.0 }),
            Schedule {
                peak: f64::NAN,
                ..schedule(Decay::Linear)
            },
            Schedule {
                floor_share: 1.5,
                ..schedule(Decay::Linear)
            },
            Schedule {
                warmup_steps: 25,
                ..schedule(Decay::Linear)
            },
        ] {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
    }
}
