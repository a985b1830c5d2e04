//! The bill: what every stage cost, and all of them together.

use frugal_run::consumption::EnergyMethod;
use frugal_run::ledger::{Entry, Total, Work};
use maud::{Markup, html};

use super::Report;
use super::numbers::{duration, money, percent_to, tokens, with_unit};

/// The section of the page.
pub(super) fn section(report: &Report) -> Markup {
    let bill = &report.bill;
    let total = &bill.total;
    let Some(used) = &total.used else {
        return html! {};
    };
    let longest = bill
        .stages
        .iter()
        .map(|(_, e)| e.used.wall_seconds)
        .fold(0.0, f64::max);
    html! {
        section #bill {
            h2 { "The bill" }
            div.scroll role="region" aria-label="The bill" tabindex="0" {
                table.bill {
                    (head())
                    tbody {
                        @for (stage, entry) in &bill.stages { (line(stage, entry, longest)) }
                    }
                    tfoot { (sum("Total", total)) }
                }
            }
            (notes(report, used.energy_method))
        }
    }
}

fn head() -> Markup {
    html! {
        thead {
            tr {
                th rowspan="2" scope="col" { "Stage" }
                th colspan="2" scope="colgroup" { "Time" }
                th colspan="2" scope="colgroup" { "Tokens" }
                th colspan="3" scope="colgroup" { "FLOPs of the model" }
                th colspan="2" scope="colgroup" { "Rate" }
                th rowspan="2" scope="col" { "Peak memory" }
                th rowspan="2" scope="col" { "Energy" }
                th rowspan="2" scope="col" { "Money" }
            }
            tr {
                th scope="col" { "wall" }
                th scope="col" { "cores" }
                th scope="col" { "trained" }
                th scope="col" { "generated" }
                th scope="col" { "forward" }
                th scope="col" { "backward" }
                th scope="col" { "rollouts" }
                th scope="col" { "FLOP/s" }
                th scope="col" { "of peak" }
            }
        }
    }
}

fn work(work: &Work) -> Markup {
    html! {
        td { (tokens(work.tokens_trained)) }
        td { (tokens(work.tokens_generated)) }
        td { (with_unit(work.flops_forward, "")) }
        td { (with_unit(work.flops_backward, "")) }
        td { (with_unit(work.flops_rollout, "")) }
    }
}

fn memory(bytes: Option<u64>) -> String {
    bytes.map_or("not told".to_owned(), |bytes| with_unit(bytes as f64, "B"))
}

fn line(stage: &str, entry: &Entry, longest: f64) -> Markup {
    let used = &entry.used;
    let width = if longest > 0.0 {
        100.0 * used.wall_seconds / longest
    } else {
        0.0
    };
    html! {
        tr {
            th scope="row" { (stage) }
            td {
                (duration(used.wall_seconds))
                span.track aria-hidden="true" { span.filled style={ "width:" (format!("{width:.1}%")) } {} }
            }
            td { (duration(used.core_seconds)) }
            (work(&entry.work))
            td { (with_unit(entry.flops_per_second(), "")) }
            td {
                @if let Some(share) = entry.share_of_peak() { (percent_to(share, 1)) } @else { "–" }
            }
            td { (memory(used.peak_memory_bytes)) }
            td { (with_unit(used.joules, "J")) small { (used.energy_method.label()) } }
            td { (money(entry.money, &entry.price.currency)) }
        }
    }
}

fn sum(name: &str, total: &Total) -> Markup {
    let Some(used) = &total.used else {
        return html! {};
    };
    html! {
        tr {
            th scope="row" { (name) }
            td { (duration(used.wall_seconds)) }
            td { (duration(used.core_seconds)) }
            (work(&total.work))
            td { (with_unit(total.flops_per_second(), "")) }
            td {}
            td { (memory(used.peak_memory_bytes)) small { "largest" } }
            td { (with_unit(used.joules, "J")) small { (used.energy_method.label()) } }
            td { (all_money(total)) }
        }
    }
}

fn all_money(total: &Total) -> String {
    let parts: Vec<String> = total
        .money
        .iter()
        .map(|(currency, amount)| money(*amount, currency))
        .collect();
    parts.join(" + ")
}

fn notes(report: &Report, method: EnergyMethod) -> Markup {
    let entries = || report.bill.stages.iter().map(|(_, entry)| entry);
    let price = entries().next_back().map(|entry| &entry.price);
    let peak = entries()
        .map(|entry| entry.peak_flops_per_second)
        .fold(0.0, f64::max);
    html! {
        p.note {
            @if let Some(price) = price {
                "Money: core time at " (money(price.per_core_hour, &price.currency))
                " a core-hour. "
            }
            @match method {
                EnergyMethod::Measured => {
                    "Energy: the processor's own counters, so other programs of the time are in it. "
                }
                EnergyMethod::Estimated => {
                    "Energy: an estimate, core seconds times " (report.watts_per_core)
                    " W, which may be off by a factor of two. "
                }
                EnergyMethod::Mixed => {
                    "Energy: counters where readable, else core seconds times "
                    (report.watts_per_core) " W. "
                }
            }
            "FLOPs are the model's as counted from its shapes, so the rate contains sampling, \
             grading and waiting. "
            @if peak > 0.0 {
                "Peak: " (with_unit(peak, "FLOP/s")) ", the rate of large products measured on this \
                 machine."
            } @else { "The machine's peak was not measured." }
        }
        @if let Some(home) = &report.home && let Some(used) = &home.total.used {
            p.note {
                "The final run is only the tip: the " (home.runs)
                @if home.runs == 1 { " run" } @else { " runs" }
                " of this home, failed and interrupted ones included, took "
                (duration(used.wall_seconds)) ", "
                (with_unit(home.total.work.flops(), "FLOP")) ", "
                (with_unit(used.joules, "J")) " and " (all_money(&home.total)) "."
            }
        }
    }
}
