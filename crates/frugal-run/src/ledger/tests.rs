#![expect(
    clippy::float_cmp,
    reason = "the sums are of numbers that floats hold exactly"
)]

use super::*;
use crate::consumption::{EnergyMethod, Used};

fn start(folder: &str) -> RunStart {
    RunStart {
        recipe: "r1-tiny".into(),
        seed: 7,
        budget_minutes: 8.0,
        folder: folder.into(),
    }
}

fn entry(hours: f64, currency: &str) -> Entry {
    let used = Used {
        wall_seconds: hours * 1800.0,
        core_seconds: hours * 3600.0,
        peak_memory_bytes: Some(1000),
        joules: 10.0,
        energy_method: EnergyMethod::Estimated,
    };
    let work = Work {
        tokens_trained: 100,
        tokens_generated: 10,
        flops_forward: 1e9,
        flops_backward: 2e9,
        flops_rollout: 6e8,
    };
    Entry::new(
        used,
        work,
        1e8,
        Price {
            per_core_hour: 0.5,
            currency: currency.into(),
        },
    )
}

#[test]
fn an_entry_is_replaced_in_place_and_read_as_written() {
    let home = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(home.path()).unwrap();
    let run = ledger.begin(&start("/runs/a")).unwrap();
    ledger.record(run, "base", &entry(1.0, "USD")).unwrap();
    ledger.record(run, "zero", &entry(2.0, "USD")).unwrap();
    ledger.record(run, "base", &entry(3.0, "USD")).unwrap();
    assert_eq!(ledger.entry(run, "base").unwrap(), Some(entry(3.0, "USD")));
    assert_eq!(ledger.entry(run, "sft").unwrap(), None);
    let bill = ledger.bill(run).unwrap();
    let names: Vec<&str> = bill.stages.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["base", "zero"]);
    let used = bill.total.used.unwrap();
    assert_eq!((used.core_seconds, used.joules), (18_000.0, 20.0));
    assert_eq!(used.peak_memory_bytes, Some(1000));
    assert_eq!(bill.total.work.flops(), 7.2e9);
    assert_eq!(bill.total.money["USD"], 2.5);
    assert_eq!(entry(1.0, "USD").flops_per_second(), 2e6);
    assert_eq!(entry(1.0, "USD").share_of_peak(), Some(0.02));
    assert!(matches!(
        ledger.record(99, "base", &entry(1.0, "USD")),
        Err(LedgerError::NoRun(99))
    ));
}

#[test]
fn a_resumed_stage_adds_to_what_it_had_cost() {
    let (mut later, before) = (entry(1.0, "USD"), entry(2.0, "USD"));
    later.used.energy_method = EnergyMethod::Measured;
    later.used.peak_memory_bytes = None;
    let sum = before.plus(&later).unwrap();
    assert_eq!(sum.used.core_seconds, 3.0 * 3600.0);
    assert_eq!(sum.used.energy_method, EnergyMethod::Mixed);
    assert_eq!(sum.used.peak_memory_bytes, Some(1000));
    assert_eq!((sum.work.tokens_trained, sum.money), (200, 1.5));
    let error = before.plus(&entry(1.0, "EUR")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a stage billed in USD cannot go on in EUR"
    );
}

#[test]
fn everything_ever_run_is_summed_by_currency_with_all_outcomes() {
    let home = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(home.path()).unwrap();
    for (at, (currency, outcome)) in [
        ("USD", Outcome::Done),
        ("EUR", Outcome::Failed),
        ("USD", Outcome::Interrupted),
        ("USD", Outcome::Stopped),
    ]
    .into_iter()
    .enumerate()
    {
        let run = ledger.begin(&start(&format!("/runs/{at}"))).unwrap();
        ledger.record(run, "base", &entry(1.0, currency)).unwrap();
        ledger.finish(run, outcome).unwrap();
    }
    let empty = ledger.begin(&start("/runs/new")).unwrap();
    let (bills, total) = ledger.everything().unwrap();
    assert_eq!(bills.len(), 5);
    assert_eq!(bills[3].run.outcome, Outcome::Stopped);
    assert_eq!(
        total.money,
        [("EUR".to_owned(), 0.5), ("USD".to_owned(), 1.5)].into()
    );
    assert_eq!(total.work.tokens_trained, 400);
    let outcomes: Vec<&str> = bills.iter().map(|bill| bill.run.outcome.label()).collect();
    assert_eq!(
        outcomes,
        ["done", "failed", "interrupted", "stopped", "running"]
    );
    assert!(bills[0].run.ended >= Some(bills[0].run.started));
    assert_eq!(ledger.bill(empty).unwrap().total, Total::default());
    assert!(matches!(
        ledger.finish(99, Outcome::Done),
        Err(LedgerError::NoRun(99))
    ));
}

#[cfg(target_os = "linux")]
#[test]
fn runs_of_dead_processes_are_interrupted_and_can_be_resumed() {
    let home = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(home.path()).unwrap();
    let run = ledger.begin(&start("/runs/a")).unwrap();
    assert_eq!(ledger.run(run).unwrap().outcome, Outcome::Running);
    ledger.record(run, "base", &entry(1.0, "USD")).unwrap();
    // The same number with another start is another process; so is a number nobody has.
    for process in [
        format!("{} boot 1", std::process::id()),
        "4000000000 boot 1".into(),
    ] {
        ledger
            .database
            .execute("UPDATE runs SET process = ?1", [&process])
            .unwrap();
        let seen = ledger.run(run).unwrap();
        assert_eq!(seen.outcome, Outcome::Interrupted, "{process}");
        assert!(seen.ended.unwrap() >= seen.started);
    }
    assert_eq!(ledger.resume("/runs/a").unwrap(), Some(run));
    assert_eq!(ledger.run(run).unwrap().outcome, Outcome::Running);
    assert_eq!(ledger.resume("/runs/b").unwrap(), None);
}

#[test]
fn two_processes_share_a_ledger() {
    let home = tempfile::tempdir().unwrap();
    let write = |at: u64| {
        let ledger = Ledger::open(home.path()).unwrap();
        let run = ledger.begin(&start(&format!("/runs/{at}"))).unwrap();
        for _ in 0..10 {
            ledger.record(run, "base", &entry(1.0, "USD")).unwrap();
        }
    };
    std::thread::scope(|scope| {
        for at in 0..4 {
            scope.spawn(move || write(at));
        }
    });
    let ledger = Ledger::open(home.path()).unwrap();
    assert_eq!(ledger.everything().unwrap().1.work.tokens_trained, 400);
}

#[test]
fn ledgers_that_are_none_or_newer_are_refused() {
    let home = tempfile::tempdir().unwrap();
    Ledger::open(home.path())
        .unwrap()
        .database
        .pragma_update(None, "user_version", 3)
        .unwrap();
    let error = Ledger::open(home.path()).unwrap_err().to_string();
    assert!(
        error.ends_with("is of version 3, expected at most 2: a newer program wrote it"),
        "{error}"
    );
    std::fs::write(
        home.path().join("frugal.db"),
        "not a database, but a text that is long enough",
    )
    .unwrap();
    let error = Ledger::open(home.path()).unwrap_err().to_string();
    assert!(error.starts_with("cannot open the ledger "), "{error}");
    let file = home.path().join("frugal.db");
    let error = Ledger::open(&file).unwrap_err().to_string();
    assert!(
        error.ends_with("expected a folder this user may write to"),
        "{error}"
    );
}
