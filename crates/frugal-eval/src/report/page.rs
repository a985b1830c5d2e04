//! The page around the sections: head, title, key figures, story, how it was made.

use frugal_run::ledger::Outcome;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::numbers::{compact, duration, money, percent_to};
use super::story::{BASE, DISTILLED, R1, STUDENT_RL, Sentence, Standing, ZERO, in_short};
use super::{Report, bill, controls, curves, follow, load, results, series};

const STYLE: &str = include_str!("style.css");
/// Nothing but the page's own style: no script and no network, whatever a sample says.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

pub(super) fn page(report: &Report) -> Markup {
    let run = &report.bill.run;
    let stages = series::stages(report);
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (run.recipe) ", seed " (run.seed) ": report" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (header(report))
                main {
                    section #story {
                        (figures(report))
                        div.opening {
                            div {
                                (told(&in_short(report)))
                                p.note aria-hidden="true" {
                                    "✓ came out as was expected beforehand, ✗ did not, ? was not "
                                    "measured, · nothing was expected."
                                }
                            }
                            (curves::turn(&stages))
                        }
                    }
                    (results::section(report))
                    (follow::section(report))
                    (controls::section(report))
                    (curves::section(&stages))
                    (load::section(&stages))
                    (bill::section(report))
                    (made(report))
                }
                footer { "Frugal, run " (run.id) ". This page needs no network and runs no script." }
            }
        }
    }
}

fn header(report: &Report) -> Markup {
    let run = &report.bill.run;
    html! {
        header {
            p.kicker { "Frugal · run " (run.id) }
            h1 { (run.recipe) }
            p.about { (report.about) }
            dl.facts {
                div { dt { "Task" } dd { (report.task) } }
                div { dt { "Seed" } dd { (run.seed) } }
                div { dt { "Budget" } dd { (compact(run.budget_minutes)) " min" } }
                div { dt { "Machine" } dd { (report.machine) } }
                @if matches!(run.outcome, Outcome::Failed | Outcome::Stopped | Outcome::Interrupted) {
                    div { dt { "Outcome" } dd.wrong { (run.outcome.label()) } }
                }
            }
        }
    }
}

/// The few numbers to remember.
fn figures(report: &Report) -> Markup {
    let score = |name| report.checkpoint(name).map(|checkpoint| &checkpoint.score);
    let accuracy = |name| score(name).map(|score| percent_to(score.pass_at_1.value, 0));
    let mut tiles: Vec<(&str, Option<String>, String)> = vec![];
    if let Some(reached) = accuracy(ZERO) {
        tiles.push(("right, base to R1-Zero", accuracy(BASE), reached));
    }
    if let Some(zero) = score(ZERO) {
        let before = score(BASE).map(|base| compact(base.mean_thinking_tokens.round()));
        let after = compact(zero.mean_thinking_tokens.round());
        tiles.push(("tokens of thinking", before, after));
    }
    if let Some(r1) = score(R1) {
        tiles.push(("right, R1", None, percent_to(r1.pass_at_1.value, 0)));
    }
    if let Some(reached) = accuracy(DISTILLED) {
        let label = match accuracy(STUDENT_RL) {
            Some(_) => "right, student by RL alone and distilled",
            None => "right, distilled student",
        };
        tiles.push((label, accuracy(STUDENT_RL), reached));
    }
    let total = &report.bill.total;
    if let Some(used) = &total.used {
        let cost = total
            .money
            .iter()
            .next()
            .map(|(currency, amount)| money(*amount, currency));
        let label = cost.map_or("in all".to_owned(), |cost| format!("in all, for {cost}"));
        return html! {
            div.figures {
                @for (label, before, after) in &tiles { (tile(label, before.as_deref(), after)) }
                (tile(&label, None, &duration(used.wall_seconds)))
            }
        };
    }
    html! {
        div.figures {
            @for (label, before, after) in &tiles { (tile(label, before.as_deref(), after)) }
        }
    }
}

fn tile(label: &str, before: Option<&str>, after: &str) -> Markup {
    html! {
        div.figure {
            p.number {
                @if let Some(before) = before { span.soft { (before) " → " } }
                (after)
            }
            p.label { (label) }
        }
    }
}

/// Sentences as a list, each with how it stands.
pub(super) fn told(sentences: &[Sentence]) -> Markup {
    let mark = |standing| match standing {
        Standing::Told => ("told", "·"),
        Standing::AsExpected => ("right", "✓"),
        Standing::NotAsExpected => ("wrong", "✗"),
        Standing::NotMeasured => ("open", "?"),
    };
    html! {
        ul.told {
            @for sentence in sentences {
                @let (class, sign) = mark(sentence.standing);
                li {
                    span class={ "sign " (class) } aria-hidden="true" { (sign) }
                    div {
                        (sentence.text)
                        @match sentence.standing {
                            Standing::Told => {}
                            Standing::AsExpected => {
                                " " span.hidden { "(" (sentence.standing.label()) ")" }
                            }
                            standing => {
                                " " span class={ "badge " (class) } { (standing.label()) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn made(report: &Report) -> Markup {
    html! {
        section #made {
            h2 { "How it was made" }
            @if !report.models.is_empty() {
                dl.models {
                    @for model in &report.models { dt { (model.name) } dd { (model.description) } }
                }
            }
            @if !report.recipe_text.is_empty() {
                details.more {
                    summary { "The resolved recipe: every number of this run" }
                    pre { code { (report.recipe_text) } }
                }
            }
        }
    }
}
