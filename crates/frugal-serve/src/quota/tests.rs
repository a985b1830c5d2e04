use super::*;
use crate::keys::KeyLimits;

const DAY: i64 = 86_400;

/// 100 seconds before midnight of day 11.
const BASE: i64 = 12 * DAY - 100;

#[expect(clippy::cast_possible_truncation, reason = "a few thousand")]
fn at(seconds: f64) -> Now {
    Now {
        unix: BASE + seconds as i64,
        seconds,
    }
}

fn holder(limits: KeyLimits) -> Holder {
    Holder {
        id: 7,
        name: "a".into(),
        models: None,
        limits,
        may_manage: false,
    }
}

fn wanted(prompt_tokens: usize, max_tokens: usize) -> Wanted {
    Wanted {
        prompt_tokens,
        max_tokens: Some(max_tokens),
        n: 1,
    }
}

fn spend(quotas: &Arc<Quotas>, holder: &Holder, tokens: u64, now: Now) {
    let mut pass = quotas.enter(holder, now).unwrap();
    pass.spent(Spent { tokens, money: 0.5 });
}

fn written(home: &tempfile::TempDir, now: Now) -> Vec<Used> {
    used_on(home.path(), now.unix).unwrap()
}

#[test]
fn no_sixty_seconds_have_more_requests_than_allowed() {
    let holder = holder(KeyLimits {
        requests_per_minute: Some(5),
        ..KeyLimits::default()
    });
    let quotas = Arc::new(Quotas::in_memory());
    let mut entered: Vec<f64> = Vec::new();
    let mut step = 0_u32;
    let mut now = 0.0;
    while now < 400.0 {
        // Uneven steps from 0.1 to 3 seconds, in bursts.
        step = step.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        now += f64::from(step >> 24) / 255.0 * 2.9 + 0.1;
        match quotas.enter(&holder, at(now)) {
            Ok(_) => entered.push(now),
            Err(fault) => {
                assert_eq!(fault.kind, Kind::RateLimit);
                let wait = f64::from(fault.retry_after.unwrap());
                assert!((1.0..=61.0).contains(&wait), "{wait}");
                // Whoever waits as told is let in, if nobody else comes.
                now += wait;
                let mut state = quotas.state();
                let account = state.account(7, at(now));
                assert_eq!(account.seconds_to_wait(5, at(now)), None);
            }
        }
    }
    assert!(entered.len() > 25, "{}", entered.len());
    for (first, last) in entered.iter().zip(entered.iter().skip(5)) {
        assert!(last - first >= 60.0, "six within {}", last - first);
    }
}

#[test]
fn a_place_is_free_again_when_a_request_ends() {
    let holder = holder(KeyLimits {
        concurrent: Some(2),
        ..KeyLimits::default()
    });
    let quotas = Arc::new(Quotas::in_memory());
    let first = quotas.enter(&holder, at(0.0)).unwrap();
    let _second = quotas.enter(&holder, at(0.0)).unwrap();
    let fault = quotas.enter(&holder, at(0.0)).unwrap_err();
    assert_eq!((fault.kind, fault.retry_after), (Kind::RateLimit, Some(1)));
    drop(first);
    assert!(quotas.enter(&holder, at(0.0)).is_ok());
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _pass = quotas.enter(&holder, at(0.0)).unwrap();
        std::panic::resume_unwind(Box::new("a request fails"));
    }));
    assert!(panicked.is_err());
    let _third = quotas.enter(&holder, at(0.0)).unwrap();
    assert!(quotas.enter(&holder, at(0.0)).is_err());
}

#[test]
fn tokens_are_reserved_settled_and_given_anew_at_midnight() {
    let holder = holder(KeyLimits {
        tokens_per_day: Some(10_000),
        ..KeyLimits::default()
    });
    let quotas = Arc::new(Quotas::in_memory());
    let mut first = quotas.enter(&holder, at(0.0)).unwrap();
    // A limit far beyond what answers take reserves no more than usual ones.
    first.reserve(wanted(1000, 1_000_000), at(0.0)).unwrap();
    let mut second = quotas.enter(&holder, at(0.0)).unwrap();
    let fault = second.reserve(wanted(5000, 100), at(0.0)).unwrap_err();
    assert_eq!((fault.kind, fault.retry_after), (Kind::RateLimit, Some(1)));
    let fault = second.reserve(wanted(10_000, 1), at(0.0)).unwrap_err();
    assert_eq!((fault.kind, fault.retry_after), (Kind::Balance, Some(100)));
    first.spent(Spent {
        tokens: 1200,
        money: 0.0,
    });
    drop(first);
    second.reserve(wanted(5000, 100), at(1.0)).unwrap();
    second.spent(Spent {
        tokens: 9000,
        money: 0.0,
    });
    drop(second);
    let fault = quotas.enter(&holder, at(40.0)).unwrap_err();
    assert_eq!((fault.kind, fault.retry_after), (Kind::Balance, Some(60)));
    assert!(quotas.enter(&holder, at(100.0)).is_ok());
    assert_eq!(quotas.today(at(100.0))[0].spent.tokens, 0);
    // A clock that goes back gives no second day and takes none away.
    assert!(quotas.enter(&holder, at(50.0)).is_ok());
}

#[test]
fn money_ends_a_day_too() {
    let holder = holder(KeyLimits {
        money_per_day: Some(1.0),
        ..KeyLimits::default()
    });
    let quotas = Arc::new(Quotas::in_memory());
    spend(&quotas, &holder, 1, at(0.0));
    spend(&quotas, &holder, 1, at(0.0));
    let fault = quotas.enter(&holder, at(0.0)).unwrap_err();
    assert_eq!((fault.kind, fault.retry_after), (Kind::Balance, Some(100)));
}

#[test]
fn a_restart_does_not_grant_a_new_day() {
    let home = tempfile::tempdir().unwrap();
    let holder = holder(KeyLimits {
        tokens_per_day: Some(100),
        ..KeyLimits::default()
    });
    let quotas = Arc::new(Quotas::open(home.path()).unwrap());
    spend(&quotas, &holder, 60, at(0.0));
    // Not yet time, then it is.
    quotas.write_some(at(1.0)).unwrap();
    assert_eq!(written(&home, at(1.0)), []);
    quotas.write_some(at(4.0)).unwrap();
    assert_eq!(written(&home, at(4.0))[0].spent.tokens, 60);
    spend(&quotas, &holder, 60, at(4.5));
    // The end writes the rest.
    drop(quotas);
    let again = Arc::new(Quotas::open(home.path()).unwrap());
    assert_eq!(
        again.enter(&holder, at(5.0)).unwrap_err().kind,
        Kind::Balance
    );
    let day = &again.today(at(5.0))[0];
    assert_eq!(
        (day.requests, day.spent.tokens, day.spent.money),
        (2, 120, 1.0)
    );
    assert!(again.enter(&holder, at(101.0)).is_ok());
    drop(again);
    let day = &written(&home, at(101.0))[0];
    assert_eq!((day.requests, day.spent.tokens), (1, 0));
}

#[test]
fn two_servers_of_a_home_share_a_day() {
    let home = tempfile::tempdir().unwrap();
    let holder = holder(KeyLimits {
        tokens_per_day: Some(100),
        ..KeyLimits::default()
    });
    let open = || Arc::new(Quotas::open(home.path()).unwrap());
    let (one, two) = (open(), open());
    spend(&one, &holder, 60, at(0.0));
    spend(&two, &holder, 60, at(0.0));
    one.write_all().unwrap();
    two.write_all().unwrap();
    assert!(two.enter(&holder, at(1.0)).is_err());
    assert_eq!(two.today(at(1.0))[0].spent.tokens, 120);
}

#[test]
fn what_could_not_be_written_is_written_later() {
    let home = tempfile::tempdir().unwrap();
    let holder = holder(KeyLimits::default());
    let quotas = Arc::new(Quotas::open(home.path()).unwrap());
    spend(&quotas, &holder, 60, at(0.0));
    let change = |text: &str| {
        let mut records = quotas.records.as_ref().unwrap().lock().unwrap();
        records
            .change("change", |change| change.execute_batch(text))
            .unwrap();
    };
    change("ALTER TABLE key_days RENAME TO elsewhere");
    assert!(quotas.write_all().is_err());
    change("ALTER TABLE elsewhere RENAME TO key_days");
    quotas.write_all().unwrap();
    assert_eq!(written(&home, at(1.0))[0].spent.tokens, 60);
}

#[test]
fn accounts_of_days_that_are_over_are_forgotten_and_nobody_is_not_written() {
    let home = tempfile::tempdir().unwrap();
    let quotas = Arc::new(Quotas::open(home.path()).unwrap());
    for id in 0..50 {
        let holder = Holder {
            id,
            ..Holder::anyone()
        };
        spend(&quotas, &holder, 1, at(0.0));
    }
    quotas.write_some(at(10.0)).unwrap();
    assert_eq!(written(&home, at(10.0)).len(), 49);
    let _stays = quotas
        .enter(&holder(KeyLimits::default()), at(50.0))
        .unwrap();
    quotas.write_some(at(200.0)).unwrap();
    assert_eq!(quotas.state().accounts.len(), 1);
}
