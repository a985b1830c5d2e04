//! What the sceptics ask: does any reward do, would more training without rewards do as well, and
//! could the base do it all along if only it may try often enough?

use maud::{Markup, html};

use super::numbers::{estimate, percent, percent_to, points};
use super::plot::{self, Across, Chart, Line, Rule, Unit};
use super::series::Point;
use super::story::{BASE, Sentence, Standing, ZERO, difference};
use super::{Checkpoint, Controls, Report, results};
use crate::evaluate::PassCurve;
use crate::stats;

/// A problem counts as solved by R1-Zero from this share of right samples.
const SOLVED: f64 = 0.5;
/// Up to this share of solved problems beyond the base's reach, RL elicited what was there.
const ELICITED: f64 = 0.05;
/// From this share on it created.
const CREATED: f64 = 0.25;

/// The sentences of the story that the controls decide.
pub(super) fn sentences(report: &Report) -> Vec<Sentence> {
    let (Some(base), Some(zero)) = (report.checkpoint(BASE), report.checkpoint(ZERO)) else {
        return vec![];
    };
    let Some(controls) = &report.controls else {
        let text = "Whether the reward made the difference, and whether reinforcement learning \
                    elicited or created, was not tested: the controls were not run. `--controls` \
                    adds them (random reward, further training at equal FLOPs, many tries of the \
                    base).";
        return vec![Sentence::new(Standing::NotMeasured, text)];
    };
    let mut said = vec![];
    said.extend(
        controls
            .random_reward
            .as_ref()
            .map(|control| random(report, base, control)),
    );
    said.extend(
        controls
            .continued_sft
            .as_ref()
            .map(|control| continued(report, zero, control)),
    );
    if let Some(curve) = &controls.base_curve {
        said.extend(reach(zero, curve));
        said.extend(price(controls, zero, curve));
    }
    said
}

/// What of it belongs into the story on the page: the verdict, and what speaks against the claim.
pub(super) fn headline(report: &Report) -> Vec<Sentence> {
    let mut said = sentences(report);
    said.retain(|sentence| {
        matches!(
            sentence.standing,
            Standing::NotAsExpected | Standing::NotMeasured
        )
    });
    let curve = report
        .controls
        .as_ref()
        .and_then(|controls| controls.base_curve.as_ref());
    said.extend(
        report
            .checkpoint(ZERO)
            .zip(curve)
            .and_then(|(zero, curve)| reach(zero, curve)),
    );
    said
}

fn random(report: &Report, base: &Checkpoint, control: &Checkpoint) -> Sentence {
    let gain = difference(report, control, base);
    let reached = estimate(&control.score.pass_at_1);
    let text = match &gain {
        Some(gain) => format!(
            "With random rewards, all else equal, the base comes to {reached}: {} against where \
             it was.",
            points(gain)
        ),
        None => format!("With random rewards, all else equal, the base comes to {reached}."),
    };
    let has_gained = gain.map_or(
        control.score.pass_at_1.low > base.score.pass_at_1.high,
        |gain| gain.low > 0.0,
    );
    let expected =
        "Expected was no gain: a part of what R1-Zero gained owes nothing to the checker.";
    Sentence::expecting(!has_gained, text, expected)
}

fn continued(report: &Report, zero: &Checkpoint, control: &Checkpoint) -> Sentence {
    let gap = difference(report, zero, control);
    let reached = estimate(&control.score.pass_at_1);
    let text = match &gap {
        Some(gap) => format!(
            "The same FLOPs spent on further training without rewards bring the base to \
             {reached}: {} for R1-Zero.",
            points(gap)
        ),
        None => format!(
            "The same FLOPs spent on further training without rewards bring the base to {reached}."
        ),
    };
    let is_ahead = gap.map_or(
        zero.score.pass_at_1.low > control.score.pass_at_1.high,
        |gap| gap.low > 0.0,
    );
    Sentence::expecting(is_ahead, text, "Expected was R1-Zero clearly ahead of it.")
}

/// Whether what the tuned model solves was within the base's reach.
fn reach(zero: &Checkpoint, curve: &PassCurve) -> Option<Sentence> {
    if zero.pass_rates.len() != curve.correct.len() {
        return None;
    }
    let base_counts = zero.pass_rates.iter().zip(&curve.correct);
    let solved: Vec<usize> = base_counts
        .filter(|(rate, _)| **rate >= SOLVED)
        .map(|(_, count)| *count)
        .collect();
    if solved.is_empty() {
        let text = "Elicited or created? R1-Zero solves no problem reliably enough to ask.";
        return Some(Sentence::new(Standing::Told, text));
    }
    let beyond = solved.iter().filter(|count| **count == 0).count();
    let share = beyond as f64 / solved.len() as f64;
    let verdict = match share {
        s if s <= ELICITED => "Reinforcement learning elicited more than it created",
        s if s < CREATED => "Reinforcement learning mostly elicited and created a part",
        _ => "Reinforcement learning created a good part of what it can",
    };
    let text = format!(
        "{verdict}: of the {} problems that R1-Zero solves in at least every second try, {beyond} \
         ({}) are ones the base does not solve once in {} tries. (A lucky guess counts as \
         solving; more tries would find more.)",
        solved.len(),
        percent(share),
        curve.samples,
    );
    Some(Sentence::new(Standing::Told, text))
}

/// The base's tries that cost as much as one answer of the tuned model, at least one.
fn tries_at_equal_cost(controls: &Controls) -> Option<f64> {
    let (base, tuned) = (
        controls.base_flops_per_answer,
        controls.tuned_flops_per_answer,
    );
    (base > 0.0 && tuned > 0.0).then(|| (tuned / base).max(1.0))
}

/// pass@k from the counts of a curve.
fn pass_at(curve: &PassCurve, k: usize) -> Option<f64> {
    let chances: Result<Vec<f64>, _> = curve
        .correct
        .iter()
        .map(|c| stats::pass_at_k(curve.samples, *c, k))
        .collect();
    let chances = chances.ok().filter(|chances| !chances.is_empty())?;
    Some(chances.iter().sum::<f64>() / chances.len() as f64)
}

fn price(controls: &Controls, zero: &Checkpoint, curve: &PassCurve) -> Option<Sentence> {
    let tries = tries_at_equal_cost(controls)?;
    let k = (1..=curve.samples)
        .rev()
        .find(|k| *k as f64 <= tries.round())?;
    let reached = pass_at(curve, k)?;
    let text = format!(
        "One answer of R1-Zero costs as much as {tries:.1} of the base. With {k} {} and a perfect \
         judge to pick among them, the base comes to {}; R1-Zero comes to {} with one and no judge.",
        if k == 1 { "try" } else { "tries" },
        percent(reached),
        percent(zero.score.pass_at_1.value),
    );
    Some(Sentence::new(Standing::Told, text))
}

/// The section of the page.
pub(super) fn section(report: &Report) -> Markup {
    let sentences = sentences(report);
    if sentences.is_empty() {
        return html! {};
    }
    let rows: Vec<&Checkpoint> = report.controls.iter().flat_map(compared).collect();
    html! {
        section #controls {
            h2 { "What the sceptics ask" }
            (super::page::told(&sentences))
            @if let Some(controls) = &report.controls {
                @if let Some(figure) = curve(report, controls) { div.wide { (figure) } }
                @if !rows.is_empty() {
                    @let names = [BASE, ZERO];
                    @let with = names.iter().filter_map(|name| report.checkpoint(name)).chain(rows);
                    (results::table(&with.collect::<Vec<_>>()))
                }
            }
        }
    }
}

fn compared(controls: &Controls) -> impl Iterator<Item = &Checkpoint> {
    controls.random_reward.iter().chain(&controls.continued_sft)
}

/// pass@k of the base over k, with the tuned model's single try to compare.
fn curve(report: &Report, controls: &Controls) -> Option<Markup> {
    let curve = controls.base_curve.as_ref()?;
    let point = |(k, at): &(usize, stats::Estimate)| Point {
        x: (*k as f64).log2(),
        y: at.value,
        low: at.low,
        high: at.high,
    };
    let mut points: Vec<Point> = curve
        .points
        .iter()
        .filter(|(k, _)| *k > 0)
        .map(point)
        .collect();
    points.sort_by(|a, b| a.x.total_cmp(&b.x));
    let zero = report.checkpoint(ZERO)?;
    let level = zero.score.pass_at_1.value;
    let end = points.last()?.x;
    let equal = tries_at_equal_cost(controls)
        .map(f64::log2)
        .filter(|x| *x <= end);
    plot::figure(&Chart {
        title: "The base, if it may try k times and a perfect judge picks".into(),
        place: format!("pass@k on {} held-out problems", curve.correct.len()),
        unit: Unit::WholeShare,
        across: Across::Draws,
        lines: vec![Line {
            name: "base".into(),
            points,
        }],
        level: Some(Rule {
            at: level,
            label: format!("R1-Zero, one try: {}", percent_to(level, 0)),
        }),
        upright: equal.map(|at| Rule {
            at,
            label: "same cost as R1-Zero".into(),
        }),
    })
}
