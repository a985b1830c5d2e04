//! What the system lets this process have.

use std::fs;
use std::path::Path;

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

/// Bytes that may still be written where a path is or will be, where the system tells.
pub(crate) fn free_disk(path: &Path) -> Option<u64> {
    let there = path.ancestors().find(|path| path.exists())?;
    #[cfg(unix)]
    {
        let disk = rustix::fs::statvfs(there).ok()?;
        Some(disk.f_bavail.saturating_mul(disk.f_frsize))
    }
    #[cfg(not(unix))]
    {
        let _ = there;
        None
    }
}

/// Files that may be open, now and at most, where the system limits them.
pub(crate) fn open_files() -> Option<(u64, Option<u64>)> {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit};
        let limit = getrlimit(Resource::Nofile);
        limit.current.map(|current| (current, limit.maximum))
    }
    #[cfg(not(unix))]
    {
        None
    }
}
