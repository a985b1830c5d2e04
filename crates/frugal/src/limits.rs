//! What the system lets this process have.

use std::fs;

/// Bytes of memory that are free, or could be; a modest machine's where the system does not tell.
pub(crate) fn free_memory() -> u64 {
    const MODEST: u64 = 4 << 30;
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kilobytes =
        line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kilobytes.map_or(MODEST, |kilobytes| kilobytes << 10)
}

/// Raises the number of files that may be open as far as it goes: a thousand clients are a thousand.
pub(crate) fn raise_open_files() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "the limit of open files could not be raised");
        }
    }
}
