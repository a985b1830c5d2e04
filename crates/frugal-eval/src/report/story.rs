//! The story of a run in a few sentences with its numbers, and what was expected of it. What did
//! not come out as expected is said as plainly as what did.
//!
//! Writing to a `String` cannot fail, so its results are dropped here.

use std::fmt::{self, Write as _};

use frugal_core::rng::{Rng, key};

use super::numbers::{compact, duration, estimate, money, percent, percent_to, points, with_unit};
use super::{Checkpoint, Report, controls};
use crate::stats::{self, Estimate, RESAMPLES};

/// Checkpoints by the names that recipes give them.
pub(super) const BASE: &str = "base";
pub(super) const ZERO: &str = "r1-zero";
pub(super) const R1: &str = "r1";
pub(super) const DISTILLED: &str = "distilled";
pub(super) const STUDENT_RL: &str = "student-rl";

/// Where the base should start: able, but mostly failing. Below it few groups carry a signal, above
/// it little is left to learn.
const BASE_RANGE: (f64, f64) = (0.05, 0.30);
/// How often as accurate as the base R1-Zero should be.
const LEAST_FACTOR: f64 = 2.5;
/// How accurate it should be.
const LEAST_ACCURACY: f64 = 0.75;
/// Share of R1's answers that should be in form.
const LEAST_IN_FORM: f64 = 0.99;

/// How a sentence stands to what was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing was expected.
    Told,
    /// It came out.
    AsExpected,
    /// It did not.
    NotAsExpected,
    /// Nobody looked.
    NotMeasured,
}

impl Standing {
    /// In words; empty where nothing was expected.
    pub fn label(self) -> &'static str {
        match self {
            Self::Told => "",
            Self::AsExpected => "as expected",
            Self::NotAsExpected => "not as expected",
            Self::NotMeasured => "not measured",
        }
    }

    fn of(is_met: bool) -> Self {
        if is_met {
            Self::AsExpected
        } else {
            Self::NotAsExpected
        }
    }
}

/// One sentence or two of the story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sentence {
    /// How it stands to what was expected.
    pub standing: Standing,
    /// What it says.
    pub text: String,
}

impl Sentence {
    pub(super) fn new(standing: Standing, text: impl Into<String>) -> Self {
        Self {
            standing,
            text: text.into(),
        }
    }

    /// A statement that either comes out as expected or is followed by what was expected.
    pub(super) fn expecting(is_met: bool, text: String, expected: &str) -> Self {
        let text = if is_met {
            text
        } else {
            format!("{text} {expected}")
        };
        Self::new(Standing::of(is_met), text)
    }
}

/// As a line for a terminal.
impl fmt::Display for Sentence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.standing {
            Standing::Told => write!(f, "{}", self.text),
            standing => write!(f, "{} [{}]", self.text, standing.label()),
        }
    }
}

/// The story of a run. Stages that it does not have are passed over.
pub fn story(report: &Report) -> Vec<Sentence> {
    told_with(report, controls::sentences(report))
}

/// The story without what the section on controls says and what came out as expected there.
pub(super) fn in_short(report: &Report) -> Vec<Sentence> {
    told_with(report, controls::headline(report))
}

fn told_with(report: &Report, controls: Vec<Sentence>) -> Vec<Sentence> {
    let parts = [
        base(report),
        zero(report),
        thinking(report),
        r1(report),
        students(report),
    ];
    parts
        .into_iter()
        .flatten()
        .chain(controls)
        .chain(cost(report))
        .collect()
}

/// The paired difference `left - right`; nothing where the problems' pass rates were not kept.
pub(super) fn difference(
    report: &Report,
    left: &Checkpoint,
    right: &Checkpoint,
) -> Option<Estimate> {
    let seed = report.bill.run.seed;
    let mut rng = Rng::derive(&[seed, key("report"), key(&left.name), key(&right.name)]);
    stats::bootstrap_difference(&left.pass_rates, &right.pass_rates, RESAMPLES, &mut rng).ok()
}

fn base(report: &Report) -> Option<Sentence> {
    let score = &report.checkpoint(BASE)?.score;
    let text = format!(
        "Before any reward the base answers {} of {} held-out problems, {} when it is allowed \
         eight tries.",
        estimate(&score.pass_at_1),
        score.problems,
        percent(score.pass_at_8.value),
    );
    let (low, high) = BASE_RANGE;
    let expected = format!(
        "Expected was a start between {} and {}, so the step from here to R1-Zero says less.",
        percent_to(low, 0),
        percent_to(high, 0),
    );
    let is_met = (low..=high).contains(&score.pass_at_1.value);
    Some(Sentence::expecting(is_met, text, &expected))
}

fn zero(report: &Report) -> Option<Sentence> {
    let score = &report.checkpoint(ZERO)?.score;
    let reached = score.pass_at_1.value;
    let mut text = format!(
        "Reinforcement learning straight on the base, told only right or wrong (R1-Zero), brings \
         it to {}",
        estimate(&score.pass_at_1),
    );
    let Some(base) = report.checkpoint(BASE) else {
        text.push('.');
        return Some(Sentence::new(Standing::Told, text));
    };
    let start = base.score.pass_at_1.value;
    if start > 0.0 {
        let _ = write!(text, ": {:.1} times the base.", reached / start);
    } else {
        text.push_str(", from nothing.");
    }
    let (enough_factor, enough) = (reached >= LEAST_FACTOR * start, reached >= LEAST_ACCURACY);
    let expected = format!(
        "Expected was at least {LEAST_FACTOR} times the base and at least {}; {}.",
        percent_to(LEAST_ACCURACY, 0),
        match (enough_factor, enough) {
            (false, false) => "it reached neither",
            (false, true) => "the factor was not reached",
            (true, _) => "the accuracy was not reached",
        },
    );
    Some(Sentence::expecting(
        enough_factor && enough,
        text,
        &expected,
    ))
}

fn thinking(report: &Report) -> Option<Sentence> {
    let (base, zero) = (
        &report.checkpoint(BASE)?.score,
        &report.checkpoint(ZERO)?.score,
    );
    let text = format!(
        "Nobody asked it to think longer: the mean thought {} from {} to {} tokens (it thinks in \
         {} of its answers, the base in {}), and self-checks {} from {} to {} an answer.",
        moved(base.mean_thinking_tokens, zero.mean_thinking_tokens),
        compact(base.mean_thinking_tokens),
        compact(zero.mean_thinking_tokens),
        percent_to(zero.think_rate, 0),
        percent_to(base.think_rate, 0),
        moved(base.self_checks, zero.self_checks),
        compact(base.self_checks),
        compact(zero.self_checks),
    );
    let is_met = zero.mean_thinking_tokens > base.mean_thinking_tokens
        && zero.self_checks > base.self_checks;
    let expected = "Expected were longer thoughts with more frequent self-checks.";
    Some(Sentence::expecting(is_met, text, expected))
}

fn moved(from: f64, to: f64) -> &'static str {
    if to > from { "grew" } else { "went" }
}

fn r1(report: &Report) -> Option<Sentence> {
    let r1 = report.checkpoint(R1)?;
    let in_form = r1.score.in_form;
    let mut text = format!(
        "After cold start, reasoning RL, rejection sampling and a final RL, R1 answers {}",
        estimate(&r1.score.pass_at_1),
    );
    let zero = report.checkpoint(ZERO);
    let gap = zero.and_then(|zero| difference(report, r1, zero));
    match (&gap, zero) {
        (Some(gap), _) => {
            let _ = write!(text, ", {} against R1-Zero", points(gap));
        }
        (None, Some(zero)) => {
            let _ = write!(text, ", R1-Zero {}", percent(zero.score.pass_at_1.value));
        }
        (None, None) => {}
    }
    let _ = write!(text, "; {} of its answers are in form", percent(in_form));
    if let Some(zero) = zero {
        let _ = write!(text, " (R1-Zero: {})", percent(zero.score.in_form));
    }
    text.push('.');
    let behind = match (&gap, zero) {
        (Some(gap), _) => gap.high < 0.0,
        (None, Some(zero)) => r1.score.pass_at_1.high < zero.score.pass_at_1.low,
        (None, None) => false,
    };
    let lax = in_form < LEAST_IN_FORM;
    let expected = match (behind, lax) {
        (true, true) => "Expected was at least R1-Zero's accuracy, and form in 99 %: neither came.",
        (true, false) => "Expected was at least R1-Zero's accuracy: it is below.",
        _ => "Expected was form in at least 99 % of the answers.",
    };
    Some(Sentence::expecting(!behind && !lax, text, expected))
}

fn students(report: &Report) -> Option<Sentence> {
    let distilled = report.checkpoint(DISTILLED)?;
    let reached = estimate(&distilled.score.pass_at_1);
    let Some(alone) = report.checkpoint(STUDENT_RL) else {
        let text = format!("The small dense student that R1 taught answers {reached}.");
        return Some(Sentence::new(Standing::Told, text));
    };
    let gap = difference(report, distilled, alone);
    let text = format!(
        "The small dense student that R1 taught answers {reached}; the same student trained by \
         reinforcement learning alone, for the same compute, {}{}.",
        estimate(&alone.score.pass_at_1),
        gap.map_or(String::new(), |gap| format!(
            ": {} for distillation",
            points(&gap)
        )),
    );
    let value = distilled.score.pass_at_1.value - alone.score.pass_at_1.value;
    let is_sure = gap.map_or(
        distilled.score.pass_at_1.low > alone.score.pass_at_1.high,
        |gap| gap.low > 0.0,
    );
    let expected = if value > 0.0 {
        "Expected was a better distilled student; it is ahead, but by less than chance explains."
    } else {
        "Expected was a better distilled student: it is not better."
    };
    Some(Sentence::expecting(is_sure, text, expected))
}

fn cost(report: &Report) -> Option<Sentence> {
    let total = &report.bill.total;
    let used = total.used.as_ref()?;
    let money: Vec<String> = total
        .money
        .iter()
        .map(|(currency, amount)| money(*amount, currency))
        .collect();
    let mut text = format!(
        "All of it took {} on the wall, {} of model arithmetic and {} of energy ({})",
        duration(used.wall_seconds),
        with_unit(total.work.flops(), "FLOP"),
        with_unit(used.joules, "J"),
        used.energy_method.label(),
    );
    if !money.is_empty() {
        let _ = write!(text, ": {}", money.join(" and "));
    }
    text.push('.');
    Some(Sentence::new(Standing::Told, text))
}
