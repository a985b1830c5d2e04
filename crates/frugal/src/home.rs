//! Where Frugal keeps its things and how it reaches the hub: the one reader of the environment.

use std::env;
use std::path::{Path, PathBuf};

use frugal_run::hub::Settings;

use crate::cli::Common;
use crate::output::Usage;

/// `--home`, else `frugal` in the platform's folder for data.
pub(crate) fn of(common: &Common) -> Result<PathBuf, Usage> {
    if let Some(home) = &common.home {
        return Ok(home.clone());
    }
    let variable = |name: &str| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let data = if cfg!(windows) {
        variable("APPDATA")
    } else if cfg!(target_os = "macos") {
        variable("HOME").map(|home| home.join("Library/Application Support"))
    } else {
        let under_home = || variable("HOME").map(|home| home.join(".local/share"));
        variable("XDG_DATA_HOME").or_else(under_home)
    };
    data.map(|data| data.join("frugal")).ok_or_else(|| {
        Usage("expected a home folder, but the environment names none; give one with --home".into())
    })
}

/// As [`of`], for those who only look: a name that was mistyped must not become a home.
pub(crate) fn to_read(common: &Common) -> Result<PathBuf, Usage> {
    let home = of(common)?;
    if common.home.is_some() && !home.is_dir() {
        return Err(Usage(format!("there is no home at {}", home.display())));
    }
    Ok(home)
}

/// Where the hub is when nobody says otherwise.
const HUB: &str = "https://huggingface.co";

/// The hub as the variables of its own tools say: `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_CACHE`,
/// `HF_HOME`, and those of proxies.
pub(crate) fn hub() -> Settings {
    let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| HUB.to_owned());
    let cache = variable("HF_HUB_CACHE")
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(&variable("HF_HOME")?).join("hub")))
        .or_else(|| Some(Path::new(&variable("HOME")?).join(".cache/huggingface/hub")));
    let without = ["NO_PROXY", "no_proxy"]
        .iter()
        .find_map(|name| variable(name));
    let names = if endpoint.starts_with("https:") {
        ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]
    } else {
        ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]
    };
    let proxy = names.iter().find_map(|name| variable(name));
    Settings {
        token: variable("HF_TOKEN").map(|token| token.trim().to_owned()),
        cache: cache.filter(|cache| cache.is_dir()),
        proxy: proxy.filter(|_| !is_without(&endpoint, without.as_deref().unwrap_or_default())),
        ..Settings::of(&endpoint)
    }
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// Whether a list of hosts says that this endpoint needs no proxy. This machine never does.
fn is_without(endpoint: &str, list: &str) -> bool {
    let after = endpoint
        .split_once("://")
        .map_or(endpoint, |(_, after)| after);
    let authority = after.split('/').next().unwrap_or_default();
    let host = match authority.split_once(']') {
        Some((address, _)) => address.trim_start_matches('['),
        None => authority.split(':').next().unwrap_or_default(),
    };
    let own = ["localhost", "127.0.0.1", "::1"];
    let mut listed = list.split(',').map(str::trim).filter(|l| !l.is_empty());
    own.contains(&host)
        || listed.any(|listed| {
            let listed = listed.trim_start_matches("*.").trim_start_matches('.');
            let before = host.strip_suffix(listed);
            listed == "*" || before.is_some_and(|b| b.is_empty() || b.ends_with('.'))
        })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{is_without, of, to_read};
    use crate::cli::Cli;

    #[test]
    fn a_home_that_is_only_looked_at_must_be_there() {
        let place = tempfile::tempdir().unwrap();
        let home = place.path().join("mistyped");
        let words = ["frugal", "cost", "--home", home.to_str().unwrap()];
        let common = Cli::try_parse_from(words).unwrap().common;
        assert_eq!(of(&common).unwrap(), home);
        let error = to_read(&common).unwrap_err().to_string();
        assert!(error.starts_with("there is no home at"), "{error}");
        std::fs::create_dir(&home).unwrap();
        assert_eq!(to_read(&common).unwrap(), home);
    }

    #[test]
    fn hosts_without_proxy_are_found_by_whole_names() {
        for (endpoint, list, expected) in [
            ("https://huggingface.co", "", false),
            ("https://huggingface.co", "huggingface.co", true),
            ("https://hub.corp.example:8443/x", "a, .corp.example", true),
            ("https://hub.corp.example", "*.corp.example", true),
            ("https://notcorp.example", "corp.example", false),
            ("https://huggingface.co", "*", true),
            ("http://127.0.0.1:80", "", true),
            ("http://[::1]:80/", "", true),
        ] {
            assert_eq!(is_without(endpoint, list), expected, "{endpoint} {list}");
        }
    }
}
