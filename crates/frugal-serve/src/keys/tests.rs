use tempfile::TempDir;

use super::secret::DIGESTS;
use super::*;

const NOW: i64 = 1_000_000;

#[expect(clippy::cast_possible_truncation, reason = "a few thousand")]
fn at(seconds: f64) -> Now {
    Now {
        unix: NOW + seconds as i64,
        seconds,
    }
}

fn grant(name: &str) -> Grant {
    Grant {
        name: name.into(),
        ..Grant::default()
    }
}

fn home() -> (TempDir, Keys) {
    let home = tempfile::tempdir().unwrap();
    let keys = Keys::open(home.path()).unwrap();
    (home, keys)
}

/// What another program might do to the records.
fn break_into(home: &TempDir, sql: &str) {
    let mut records = Records::open(home.path()).unwrap();
    records
        .change("break", |change| change.execute_batch(sql))
        .unwrap();
}

#[test]
fn a_key_opens_and_carries_what_was_granted() {
    let (home, mut keys) = home();
    let granted = Grant {
        name: "Ada's laptop".into(),
        expires: Some(NOW + 100),
        models: Some(vec!["r1-tiny".into()]),
        limits: KeyLimits {
            requests_per_minute: Some(60),
            tokens_per_day: Some(u64::MAX),
            concurrent: Some(4),
            money_per_day: Some(2.5),
        },
        may_manage: true,
    };
    let (key, secret) = keys.add(&granted, NOW).unwrap();
    assert!(secret.expose().starts_with(&key.begins));
    let ring = Keyring::open(home.path(), Entry::WithKey, at(0.0)).unwrap();
    assert_eq!(ring.count_live(NOW), 1);
    let holder = ring.admit(Some(secret.expose()), at(0.0)).unwrap();
    assert_eq!((holder.id, holder.name.as_str()), (key.id, "Ada's laptop"));
    assert_eq!(holder.limits.money_per_day, Some(2.5));
    assert!(holder.may_manage);
    // Beyond what SQLite can count.
    assert_eq!(holder.limits.tokens_per_day, Some(i64::MAX as u64));
    assert!(holder.may_use("deepseek-chat", "r1-tiny").is_ok());
    assert_eq!(holder.may_use("x", "y").unwrap_err().kind, Kind::Permission);
    let late = ring.admit(Some(secret.expose()), at(100.0)).unwrap_err();
    assert_eq!(late.message, "this API key has expired");
    assert_eq!(keys.list().unwrap(), [key]);
}

#[test]
fn keys_of_an_older_program_open_and_may_not_manage() {
    let (home, mut keys) = home();
    let (_, secret) = keys.add(&grant("old"), NOW).unwrap();
    drop(keys);
    // As the first version of the tables left it.
    break_into(
        &home,
        "DROP TABLE web_sessions; DROP TABLE web_chats;
         ALTER TABLE keys DROP COLUMN may_manage;
         UPDATE key_state SET version = 1",
    );
    let mut keys = Keys::open(home.path()).unwrap();
    let ring = Keyring::open(home.path(), Entry::WithKey, at(0.0)).unwrap();
    let holder = ring.admit(Some(secret.expose()), at(0.0)).unwrap();
    assert!(!holder.may_manage);
    let may = Grant {
        may_manage: true,
        ..grant("new")
    };
    assert!(keys.add(&may, NOW).unwrap().0.may_manage);
}

#[test]
fn every_wrong_key_is_refused_with_the_same_words_and_the_same_work() {
    let (home, mut keys) = home();
    let (_, secret) = keys.add(&grant("a"), NOW).unwrap();
    let (_, other) = keys.add(&grant("b"), NOW).unwrap();
    let ring = Keyring::open(home.path(), Entry::WithKey, at(0.0)).unwrap();
    let good = secret.expose();
    let mixed = format!("{}{}", &good[..11], &other.expose()[11..]);
    let unknown = format!("fr-{}", "0".repeat(51));
    let long = "x".repeat(10_000);
    let longer = format!("{good}0");
    let rows = [
        mixed.as_str(),
        &unknown,
        &long,
        &longer,
        "sk-1",
        &good[..53],
        "fr-é",
        good,
    ];
    for text in rows {
        DIGESTS.set(0);
        let said = ring
            .admit(Some(text), at(0.1))
            .map_err(|fault| fault.message);
        assert_eq!(DIGESTS.get(), 1, "{text}");
        if text == good {
            assert!(said.is_ok());
        } else {
            assert_eq!(said.unwrap_err(), "this API key is not known here");
        }
    }
    for nothing in [None, Some("")] {
        let fault = ring.admit(nothing, at(0.1)).unwrap_err();
        assert_eq!(fault.kind, Kind::Authentication);
    }
}

#[test]
fn a_revoked_key_is_noticed_by_a_server_that_runs() {
    let (home, mut keys) = home();
    let (key, secret) = keys.add(&grant("a"), NOW).unwrap();
    let ring = Keyring::open(home.path(), Entry::WithKey, at(0.0)).unwrap();
    assert!(ring.admit(Some(secret.expose()), at(0.0)).is_ok());
    keys.revoke(&key.begins, NOW).unwrap();
    let fault = ring.admit(Some(secret.expose()), at(1.1)).unwrap_err();
    assert_eq!(fault.message, "this API key was revoked");
    assert_eq!(ring.count_live(NOW), 0);
    // The name is free again, and so is a new key for those who wait.
    let (_, again) = keys.add(&grant("a"), NOW).unwrap();
    assert!(ring.admit(Some(again.expose()), at(2.2)).is_ok());
    let gone = keys.revoke(&key.begins, NOW).unwrap_err();
    assert!(matches!(gone, KeysError::Revoked(_)), "{gone}");
}

#[test]
fn a_rotated_key_keeps_its_number_and_the_old_text_ends() {
    let (home, mut keys) = home();
    let (key, first) = keys.add(&grant("a"), NOW).unwrap();
    let (rotated, second) = keys.rotate("a", 10, NOW).unwrap();
    assert_eq!(rotated.id, key.id);
    assert!(second.expose().starts_with(&rotated.begins));
    let ring = Keyring::open(home.path(), Entry::WithKey, at(0.0)).unwrap();
    assert_eq!(ring.count_live(NOW), 1);
    assert_eq!(
        ring.admit(Some(first.expose()), at(9.0)).unwrap().id,
        key.id
    );
    assert_eq!(
        ring.admit(Some(second.expose()), at(9.0)).unwrap().id,
        key.id
    );
    let fault = ring.admit(Some(first.expose()), at(10.0)).unwrap_err();
    assert_eq!(fault.message, "this API key was replaced by another");
    // A second rotation does not lengthen the first text's life.
    let (_, third) = keys.rotate(&rotated.begins, 1000, NOW + 11).unwrap();
    assert!(ring.admit(Some(first.expose()), at(12.5)).is_err());
    assert!(ring.admit(Some(third.expose()), at(12.5)).is_ok());
}

#[test]
fn where_anyone_enters_a_key_of_ours_must_still_be_good() {
    let (home, mut keys) = home();
    let (key, secret) = keys.add(&grant("a"), NOW).unwrap();
    let ring = Keyring::open(home.path(), Entry::Anyone, at(0.0)).unwrap();
    for text in [None, Some(""), Some("sk-none"), Some("fr-")] {
        assert_eq!(ring.admit(text, at(0.0)).unwrap(), Holder::anyone());
    }
    assert_eq!(
        ring.admit(Some(secret.expose()), at(0.0)).unwrap().id,
        key.id
    );
    let unknown = format!("fr-{}", "0".repeat(51));
    assert!(ring.admit(Some(&unknown), at(0.0)).is_err());
}

#[test]
fn keys_that_cannot_be_read_again_are_believed_for_a_minute() {
    let (home, mut keys) = home();
    let (_, secret) = keys.add(&grant("a"), NOW).unwrap();
    let ring = Keyring::open(home.path(), Entry::WithKey, at(0.0)).unwrap();
    break_into(&home, "DROP TABLE key_state");
    assert!(ring.admit(Some(secret.expose()), at(59.0)).is_ok());
    let fault = ring.admit(Some(secret.expose()), at(61.0)).unwrap_err();
    assert_eq!(fault.kind, Kind::Unavailable);
}

#[test]
fn no_secret_is_in_the_file_or_in_what_is_printed_for_debugging() {
    let (home, mut keys) = home();
    let (key, secret) = keys.add(&grant("a"), NOW).unwrap();
    let ring = Keyring::open(home.path(), Entry::WithKey, at(0.0)).unwrap();
    let hidden = &secret.expose()[11..];
    let sealed = format!("{:?}", Sealed::of(&secret).unwrap());
    assert_eq!(sealed, "Sealed(..)");
    let printed = format!("{secret:?} {key:?} {keys:?} {ring:?}");
    assert!(
        !printed.contains(hidden) && printed.contains("Secret(..)"),
        "{printed}"
    );
    let wrong = keys.revoke(&format!("{}x", secret.expose()), NOW).unwrap();
    assert_eq!(wrong.name, "a", "a pasted key is known by how it begins");
    let unknown = keys
        .revoke(&secret.expose().replace("fr-", "fr-0"), NOW)
        .unwrap_err();
    assert!(!unknown.to_string().contains(hidden), "{unknown}");
    drop((keys, ring));
    for file in std::fs::read_dir(home.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(
            !bytes
                .windows(hidden.len())
                .any(|part| part == hidden.as_bytes())
        );
    }
}

#[test]
fn grants_that_make_no_sense_are_refused() {
    let (_home, mut keys) = home();
    keys.add(&grant("a"), NOW).unwrap();
    let long = "é".repeat(65);
    for name in ["", "  ", "a\nb", "fr-12345678", "a", &long] {
        assert!(keys.add(&grant(name), NOW).is_err(), "{name}");
    }
    let spoils: [fn(&mut Grant); 6] = [
        |grant| grant.expires = Some(NOW),
        |grant| grant.models = Some(vec![]),
        |grant| grant.limits.concurrent = Some(0),
        |grant| grant.limits.tokens_per_day = Some(0),
        |grant| grant.limits.money_per_day = Some(f64::NAN),
        |grant| grant.limits.requests_per_minute = Some(0),
    ];
    for spoil in spoils {
        let mut spoiled = grant("b");
        spoil(&mut spoiled);
        assert!(keys.add(&spoiled, NOW).is_err(), "{spoiled:?}");
    }
    assert_eq!(keys.list().unwrap().len(), 1);
}

#[test]
fn records_of_a_newer_program_are_refused_and_the_ledger_does_not_mind_ours() {
    let (home, mut keys) = home();
    keys.add(&grant("a"), NOW).unwrap();
    assert!(frugal_run::ledger::Ledger::open(home.path()).is_ok());
    break_into(&home, "UPDATE key_state SET version = 99");
    let error = Keys::open(home.path()).unwrap_err();
    assert!(matches!(error, KeysError::Newer { got: 99, .. }), "{error}");
}
