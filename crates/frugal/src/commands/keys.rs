//! `frugal keys`: who may use the server.

use std::process::ExitCode;

use frugal_run::consumption::unix_seconds;
use frugal_serve::keys::{Grant, Key, KeyLimits, Keys as Records, Secret};
use frugal_serve::quota::{Used, used_on};
use serde_json::json;

use crate::cli::{AddKey, Common, Keys, KeysOf};
use crate::home;
use crate::output::{say, say_json, table, tell};

const SECONDS_OF_A_DAY: i64 = 86_400;

pub(crate) fn run(common: &Common, arguments: &Keys) -> anyhow::Result<ExitCode> {
    let home = home::of(common)?;
    let now = unix_seconds();
    if !home.is_dir() && !matches!(arguments.what, Some(KeysOf::Add(_))) {
        // A name that was mistyped must not look like a home without keys, nor become one.
        anyhow::ensure!(
            common.home.is_none() && matches!(arguments.what, None | Some(KeysOf::List)),
            "there is no home at {}; `frugal keys add NAME` makes one with its first key",
            home.display()
        );
        list(common, &[], &[], now)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut records = Records::open(&home)?;
    match &arguments.what {
        None | Some(KeysOf::List) => {
            list(common, &records.list()?, &used_on(&home, now)?, now)?;
        }
        Some(KeysOf::Add(wanted)) => {
            let (key, secret) = records.add(&grant(wanted, now), now)?;
            show(common, &key, &secret)?;
        }
        Some(KeysOf::Rotate { key, grace }) => {
            let (key, secret) = records.rotate(key, *grace, now)?;
            show(common, &key, &secret)?;
        }
        Some(KeysOf::Revoke { key }) => {
            let key = records.revoke(key, now)?;
            if common.json {
                say_json(&json!({ "event": "revoked", "key": key }))?;
            } else {
                say(format!(
                    "{} ({}…) lets nobody in any more",
                    key.name, key.begins
                ));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn grant(wanted: &AddKey, now: i64) -> Grant {
    Grant {
        name: wanted.name.clone(),
        expires: (wanted.days).map(|days| now + i64::from(days) * SECONDS_OF_A_DAY),
        models: (!wanted.model.is_empty()).then(|| wanted.model.clone()),
        limits: KeyLimits {
            requests_per_minute: wanted.requests_per_minute,
            tokens_per_day: wanted.tokens_per_day,
            concurrent: wanted.concurrent,
            money_per_day: wanted.money_per_day,
        },
        may_manage: wanted.may_manage,
    }
}

/// The one time that a key's text is shown: alone on standard output, for pipes.
fn show(common: &Common, key: &Key, secret: &Secret) -> anyhow::Result<()> {
    if common.json {
        return say_json(&json!({ "event": "key", "key": key, "secret": secret.expose() }));
    }
    if !common.quiet {
        tell(format!(
            "key {}: it is shown this once, and only its digest is kept",
            key.name
        ));
    }
    say(secret.expose());
    Ok(())
}

fn list(common: &Common, keys: &[Key], today: &[Used], now: i64) -> anyhow::Result<()> {
    if common.json {
        return say_json(&json!({ "event": "keys", "keys": keys, "today": today }));
    }
    if keys.is_empty() {
        say("no keys in this home yet; make one with `frugal keys add NAME`");
        return Ok(());
    }
    let number = |limit: Option<String>| limit.unwrap_or_else(|| "-".to_owned());
    let row = |key: &Key| {
        let state = match (key.revoked, key.is_live(now)) {
            (Some(_), _) => "revoked",
            (None, true) => "live",
            (None, false) => "expired",
        };
        let limits = &key.limits;
        let used = today.iter().find(|today| today.key == key.id);
        vec![
            key.name.clone(),
            format!("{}…", key.begins),
            state.to_owned(),
            key.models
                .as_ref()
                .map_or_else(|| "all".to_owned(), |models| models.join(" ")),
            number(limits.requests_per_minute.map(|n| n.to_string())),
            number(limits.tokens_per_day.map(|n| n.to_string())),
            used.map_or(0, |today| today.spent.tokens).to_string(),
            number(limits.concurrent.map(|n| n.to_string())),
            if key.may_manage { "yes" } else { "-" }.to_owned(),
        ]
    };
    let head = [
        "name",
        "key",
        "state",
        "models",
        "per minute",
        "tokens a day",
        "used today",
        "at a time",
        "manages",
    ];
    say(table(&head, &keys.iter().map(row).collect::<Vec<_>>()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Verb};

    fn keys(home: &Path, words: &[&str]) -> anyhow::Result<ExitCode> {
        let words = ["frugal", "keys"].iter().chain(words);
        let cli = Cli::try_parse_from(words).unwrap();
        let common = Common {
            home: Some(home.to_owned()),
            ..cli.common
        };
        let Verb::Keys(arguments) = cli.verb else {
            panic!("expected keys");
        };
        run(&common, &arguments)
    }

    #[test]
    fn a_home_that_is_mistyped_is_told_and_not_made() {
        let place = tempfile::tempdir().unwrap();
        let home = place.path().join("mistyped");
        for words in [&["list"][..], &[], &["revoke", "ada"], &["rotate", "ada"]] {
            let error = keys(&home, words).unwrap_err().to_string();
            assert!(error.contains("there is no home at"), "{words:?}: {error}");
            assert!(!home.exists(), "{words:?}");
        }
        keys(&home, &["add", "ada"]).unwrap();
        keys(&home, &["list"]).unwrap();
    }
}
