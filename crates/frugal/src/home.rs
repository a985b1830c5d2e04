//! Where Frugal keeps its things: the one reader of the environment.

use std::env;
use std::path::PathBuf;

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
