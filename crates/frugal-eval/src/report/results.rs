//! The results table: every checkpoint on the same held-out problems, with intervals.

use maud::{Markup, html};

use super::numbers::{compact, interval, percent, percent_to};
use super::{Checkpoint, Report, story};
use crate::stats::Estimate;

/// What a stage of the R1 recipe is, for those who do not know the names.
pub(super) fn meaning(name: &str) -> Option<&'static str> {
    Some(match name {
        story::BASE => "pretrained on mixed habits, no rewards yet",
        story::ZERO => "reinforcement learning straight on the base",
        "cold-start-traces" => "a few of R1-Zero's right answers, kept",
        "cold-start" => "the base, shown a few clean R1-Zero traces",
        "reasoning-rl" => "reinforcement learning from the cold start",
        "sft-traces" => "right answers of that, kept",
        "sft" => "the base, taught with the kept answers",
        story::R1 => "a final reinforcement learning on top",
        "student-base" => "the small dense model, pretrained",
        "student-traces" => "R1's right answers, kept",
        story::DISTILLED => "the small dense model, taught by R1",
        story::STUDENT_RL => "the same small model, rewards alone, equal compute",
        "random-reward" => "rewards that say nothing",
        "continued-sft" => "more corpus instead of rewards, equal FLOPs",
        _ => return None,
    })
}

/// The section of the page.
pub(super) fn section(report: &Report) -> Markup {
    let rows: Vec<&Checkpoint> = report.checkpoints.iter().collect();
    let Some(first) = rows.first() else {
        return html! {};
    };
    html! {
        section #results {
            h2 { "Results" }
            (table(&rows))
            p.note {
                "The same " (first.score.problems) " problems for all, none of them seen in \
                 training, in this order of its words or another. pass@1 and pass@8 are of samples \
                 at the evaluation's temperature, with a bootstrap over problems for 95 % \
                 intervals; greedy and majority of eight carry Wilson intervals. The intervals \
                 speak about problems, not about seeds: another seed is another run."
            }
        }
    }
}

/// A table of checkpoints, its first column staying in sight when it is scrolled.
pub(super) fn table(rows: &[&Checkpoint]) -> Markup {
    html! {
        div.scroll role="region" aria-label="Results table" tabindex="0" {
            table {
                thead {
                    tr {
                        th scope="col" { "Checkpoint" }
                        th.bar scope="col" { "pass@1" }
                        th scope="col" { "Greedy" }
                        th scope="col" { "pass@8" }
                        th scope="col" { "Majority of\u{a0}8" }
                        th scope="col" { "Thinking, tokens" }
                        th scope="col" { "Thinks at all" }
                        th scope="col" { "Self-checks" }
                        th scope="col" { "In\u{a0}form" }
                    }
                }
                tbody { @for row in rows { (line(row)) } }
            }
        }
    }
}

fn line(row: &Checkpoint) -> Markup {
    let score = &row.score;
    html! {
        tr {
            th scope="row" {
                (row.name)
                @if let Some(meaning) = meaning(&row.name) { small { (meaning) } }
            }
            td.bar { (share(&score.pass_at_1)) (track(&score.pass_at_1)) }
            td { (share(&score.greedy)) }
            td { (share(&score.pass_at_8)) }
            td { (share(&score.majority_at_8)) }
            td { (compact(score.mean_thinking_tokens)) }
            td { (percent_to(score.think_rate, 0)) }
            td { (compact(score.self_checks)) }
            td { (percent(score.in_form)) }
        }
    }
}

fn share(of: &Estimate) -> Markup {
    html! { b { (percent(of.value)) } small { (interval(of)) } }
}

/// The value and its interval on a line from 0 to 100 %.
fn track(of: &Estimate) -> Markup {
    let percent = |share: f64| format!("{:.1}%", share.clamp(0.0, 1.0) * 100.0);
    html! {
        span.track aria-hidden="true" {
            span.filled style={ "width:" (percent(of.value)) } {}
            span.range style={ "left:" (percent(of.low)) ";right:" (percent(1.0 - of.high)) } {}
        }
    }
}
