//! `frugal cost`: the bill of one run, or of everything ever run in this home.

use std::process::ExitCode;

use anyhow::Context;
use frugal_run::consumption::Used;
use frugal_run::ledger::{Bill, Ledger, Total, Work};
use serde_json::json;

use crate::cli::{Common, Cost};
use crate::home;
use crate::output::{duration, grouped, metric, say, say_json, table};

const HEAD: [&str; 10] = [
    "stage",
    "wall",
    "core-s",
    "trained",
    "generated",
    "FLOP",
    "FLOP/s",
    "of peak",
    "energy",
    "money",
];

pub(crate) fn run(common: &Common, arguments: &Cost) -> anyhow::Result<ExitCode> {
    let ledger = Ledger::open(&home::to_read(common)?)?;
    let Some(folder) = &arguments.run else {
        return everything(common, &ledger);
    };
    let folder = folder
        .canonicalize()
        .with_context(|| format!("expected the folder of a run, got {}", folder.display()))?;
    let run = ledger
        .runs()?
        .into_iter()
        .rev()
        .find(|run| std::path::Path::new(&run.folder) == folder);
    let run = run.with_context(|| {
        format!(
            "expected a run of this home, got {}; was it run with another --home?",
            folder.display()
        )
    })?;
    let bill = ledger.bill(run.id)?;
    if common.json {
        say_json(&json!({ "event": "cost", "bill": bill }))?;
    } else {
        say(of_run(&bill));
    }
    Ok(ExitCode::SUCCESS)
}

/// The bill of a run, a line a stage and the sum.
pub(crate) fn of_run(bill: &Bill) -> String {
    let mut rows: Vec<Vec<String>> = bill
        .stages
        .iter()
        .map(|(stage, entry)| {
            let money = format!("{:.5} {}", entry.money, entry.price.currency);
            let share = entry
                .share_of_peak()
                .map_or("-".into(), |s| format!("{:.1} %", 100.0 * s));
            row(stage, &entry.used, &entry.work, share, money)
        })
        .collect();
    rows.push(sum("total", &bill.total));
    let mut notes = Vec::new();
    if let Some((_, entry)) = bill.stages.first() {
        notes.push(format!(
            "energy {}: {}; money at {} {} per core-hour",
            entry.used.energy_method.label(),
            match entry.used.energy_method.label() {
                "measured" => "from the machine's counters",
                _ => "core seconds times the watts of a busy core",
            },
            entry.price.per_core_hour,
            entry.price.currency
        ));
    }
    if let Some(bytes) = bill
        .total
        .used
        .as_ref()
        .and_then(|used| used.peak_memory_bytes)
    {
        notes.push(format!("peak memory {} MB", grouped(bytes / 1_000_000)));
    }
    format!("{}\n{}", table(&HEAD, &rows), notes.join("; "))
}

fn row(stage: &str, used: &Used, work: &Work, share: String, money: String) -> Vec<String> {
    let rate = if used.wall_seconds > 0.0 {
        work.flops() / used.wall_seconds
    } else {
        0.0
    };
    vec![
        stage.to_owned(),
        duration(used.wall_seconds),
        format!("{:.1}", used.core_seconds),
        grouped(work.tokens_trained),
        grouped(work.tokens_generated),
        metric(work.flops()),
        metric(rate),
        share,
        format!("{:.0} J", used.joules),
        money,
    ]
}

fn sum(name: &str, total: &Total) -> Vec<String> {
    let money: Vec<String> = total
        .money
        .iter()
        .map(|(currency, sum)| format!("{sum:.5} {currency}"))
        .collect();
    match &total.used {
        Some(used) => row(name, used, &total.work, "-".into(), money.join(" + ")),
        None => vec![name.to_owned()],
    }
}

/// Every run of this home, failed and interrupted ones included: the final run is only the tip of
/// what development cost.
fn everything(common: &Common, ledger: &Ledger) -> anyhow::Result<ExitCode> {
    let (bills, total) = ledger.everything()?;
    if common.json {
        say_json(&json!({ "event": "cost", "runs": bills, "total": total }))?;
        return Ok(ExitCode::SUCCESS);
    }
    if bills.is_empty() {
        say("nothing has been run in this home yet");
        return Ok(ExitCode::SUCCESS);
    }
    let mut head = HEAD.to_vec();
    head.splice(0..1, ["run", "recipe", "seed", "outcome"]);
    let mut rows: Vec<Vec<String>> = bills
        .iter()
        .map(|bill| {
            let run = &bill.run;
            let names = [
                run.id.to_string(),
                run.recipe.clone(),
                run.seed.to_string(),
                run.outcome.label().to_owned(),
            ];
            names
                .into_iter()
                .chain(sum("", &bill.total).into_iter().skip(1))
                .collect()
        })
        .collect();
    let names = [
        "all".to_owned(),
        String::new(),
        String::new(),
        String::new(),
    ];
    rows.push(
        names
            .into_iter()
            .chain(sum("", &total).into_iter().skip(1))
            .collect(),
    );
    say(table(&head, &rows));
    Ok(ExitCode::SUCCESS)
}
