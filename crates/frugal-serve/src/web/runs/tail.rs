//! The growing end of a file of lines, read from a byte offset on.
//!
//! Only whole lines that are JSON are given out: a line that is being written is left for the next
//! time. A file that was cut back (a run that was resumed) or exchanged is told as [`Read::Reset`],
//! and read from its start again. Where that is not visible in its length, the bytes before the
//! offset tell, which must be those that were read.

use std::fs::{File, Metadata};
use std::io::{self, Read as _, Seek, SeekFrom};
use std::time::SystemTime;

use frugal_run::inside::Inside;
use serde::de::IgnoredAny;

/// Bytes that are read at a time.
const CHUNK_BYTES: u64 = 128 << 10;
/// Longest line that is read, as long as a journal's may be.
const MOST_LINE_BYTES: u64 = 4 << 20;
/// Bytes before the offset that are compared.
const WITNESS_BYTES: usize = 64;

/// A file that is followed.
#[derive(Debug)]
pub(super) struct Tail {
    name: &'static str,
    offset: u64,
    /// The last bytes before the offset, as they were read.
    witness: Vec<u8>,
    /// The file as it was when all of it had been read.
    seen: Option<Stamp>,
    is_damaged: bool,
    identity: Option<Identity>,
}

/// What reading brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// Nothing new.
    Nothing,
    /// The file is not the one that was read so far: all that came of it is void.
    Reset,
    /// Lines, and there may be more.
    Lines(News),
    /// A line that is longer than any; nothing after it is read.
    Damaged,
}

/// What is new.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct News {
    /// Whole lines, each of them one JSON value.
    pub(super) lines: Vec<String>,
    /// Lines among them that were none, and are left out.
    pub(super) skipped: usize,
    /// Where the next one begins.
    pub(super) offset: u64,
}

/// What changes when a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    bytes: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    fn of(about: &Metadata) -> Self {
        Self {
            bytes: about.len(),
            modified: about.modified().ok(),
        }
    }
}

type Identity = (u64, u64);

#[cfg(unix)]
fn identity(about: &Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt;
    (about.dev(), about.ino())
}

#[cfg(not(unix))]
fn identity(_: &Metadata) -> Identity {
    (0, 0)
}

impl Tail {
    /// Follows a file from an offset on, at which a line is said to begin.
    pub(super) const fn at(name: &'static str, offset: u64) -> Self {
        Self {
            name,
            offset,
            witness: Vec::new(),
            seen: None,
            is_damaged: false,
            identity: None,
        }
    }

    /// The file's name.
    pub(super) const fn name(&self) -> &'static str {
        self.name
    }

    /// Reads on, at most some bytes (or one long line).
    pub(super) fn read(&mut self, inside: &Inside) -> Read {
        let Ok(mut file) = inside.open(&[self.name]) else {
            return if self.offset > 0 {
                self.reset()
            } else {
                Read::Nothing
            };
        };
        self.read_file(&mut file).unwrap_or(Read::Nothing)
    }

    fn reset(&mut self) -> Read {
        *self = Self::at(self.name, 0);
        Read::Reset
    }

    fn read_file(&mut self, file: &mut File) -> io::Result<Read> {
        let about = file.metadata()?;
        let stamp = Stamp::of(&about);
        if self.seen == Some(stamp) {
            return Ok(Read::Nothing);
        }
        let is_other = self.identity.is_some_and(|own| own != identity(&about));
        if is_other || stamp.bytes < self.offset || !self.is_where_it_was(file)? {
            return Ok(self.reset());
        }
        if self.is_damaged {
            return Ok(Read::Nothing);
        }
        self.identity = Some(identity(&about));
        file.seek(SeekFrom::Start(self.offset))?;
        let mut bytes = Vec::new();
        loop {
            let before = bytes.len();
            file.by_ref().take(CHUNK_BYTES).read_to_end(&mut bytes)?;
            let is_over = ((bytes.len() - before) as u64) < CHUNK_BYTES;
            let end = bytes.iter().rposition(|byte| *byte == b'\n');
            if let Some(end) = end {
                if is_over && end + 1 == bytes.len() {
                    self.seen = Some(stamp);
                }
                bytes.truncate(end + 1);
                return Ok(Read::Lines(self.take(&bytes)));
            }
            if bytes.len() as u64 > MOST_LINE_BYTES {
                self.is_damaged = true;
                return Ok(Read::Damaged);
            }
            if is_over {
                // A line that is being written, or none.
                self.seen = Some(stamp);
                return Ok(Read::Nothing);
            }
        }
    }

    /// Whether the bytes before the offset are those that were read, or, where none were, whether a
    /// line ends there.
    fn is_where_it_was(&self, file: &mut File) -> io::Result<bool> {
        let n = if self.witness.is_empty() {
            usize::from(self.offset > 0)
        } else {
            self.witness.len()
        };
        file.seek(SeekFrom::Start(self.offset.saturating_sub(n as u64)))?;
        let mut before = vec![0; n];
        file.read_exact(&mut before)?;
        Ok(if self.witness.is_empty() {
            before.iter().all(|byte| *byte == b'\n')
        } else {
            before == self.witness
        })
    }

    /// Takes whole lines.
    fn take(&mut self, bytes: &[u8]) -> News {
        let (mut lines, mut skipped) = (Vec::new(), 0);
        let all = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        for line in all.split(|byte| *byte == b'\n') {
            let text = std::str::from_utf8(line).ok();
            let text = text.filter(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
            match text {
                Some(text) => lines.push(text.to_owned()),
                None => skipped += 1,
            }
        }
        self.offset += bytes.len() as u64;
        self.witness.extend_from_slice(bytes);
        let surplus = self.witness.len().saturating_sub(WITNESS_BYTES);
        self.witness.drain(..surplus);
        News {
            lines,
            skipped,
            offset: self.offset,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::path::Path;

    use super::*;

    fn append(folder: &Path, text: &str) {
        let mut options = fs::OpenOptions::new();
        let mut file = options
            .append(true)
            .create(true)
            .open(folder.join("j"))
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn lines(read: Read) -> (Vec<String>, u64) {
        match read {
            Read::Lines(lines) => (lines.lines, lines.offset),
            other => panic!("expected lines, got {other:?}"),
        }
    }

    #[test]
    fn whole_lines_come_once_and_torn_ones_never() {
        let home = tempfile::tempdir().unwrap();
        let inside = Inside::new(home.path());
        let mut tail = Tail::at("j", 0);
        assert_eq!(tail.read(&inside), Read::Nothing);
        append(home.path(), "{\"a\":1}\n{\"a\":2}\n{\"a\"");
        assert_eq!(
            lines(tail.read(&inside)),
            (vec!["{\"a\":1}".to_owned(), "{\"a\":2}".to_owned()], 16)
        );
        assert_eq!(tail.read(&inside), Read::Nothing);
        append(home.path(), ":3}\n");
        assert_eq!(
            lines(tail.read(&inside)),
            (vec!["{\"a\":3}".to_owned()], 24)
        );
        assert_eq!(tail.read(&inside), Read::Nothing);
        // Another reader goes on from the offset that was told.
        let mut other = Tail::at("j", 16);
        assert_eq!(lines(other.read(&inside)).0, ["{\"a\":3}"]);
    }

    #[test]
    fn a_file_that_was_cut_back_is_read_anew() {
        let home = tempfile::tempdir().unwrap();
        let inside = Inside::new(home.path());
        let path = home.path().join("j");
        let mut tail = Tail::at("j", 0);
        append(home.path(), "1\n2\n3\n");
        lines(tail.read(&inside));
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(2).unwrap();
        assert_eq!(tail.read(&inside), Read::Reset);
        assert_eq!(lines(tail.read(&inside)), (vec!["1".to_owned()], 2));
        // Cut, and grown again past the offset before anybody looked, to other lines.
        append(home.path(), "22\n");
        lines(tail.read(&inside));
        file.set_len(2).unwrap();
        append(home.path(), "33\n44\n");
        assert_eq!(tail.read(&inside), Read::Reset);
        assert_eq!(lines(tail.read(&inside)).0, ["1", "33", "44"]);
        // Removed, and one of the name made again.
        fs::remove_file(&path).unwrap();
        assert_eq!(tail.read(&inside), Read::Reset);
        assert_eq!(tail.read(&inside), Read::Nothing);
    }

    #[test]
    fn offsets_of_clients_are_not_believed() {
        let home = tempfile::tempdir().unwrap();
        let inside = Inside::new(home.path());
        append(home.path(), "{\"a\":1}\n{\"a\":2}\n");
        for offset in [1, 7, 9, 17, u64::MAX] {
            let mut tail = Tail::at("j", offset);
            assert_eq!(tail.read(&inside), Read::Reset, "{offset}");
            assert_eq!(lines(tail.read(&inside)).1, 16, "{offset}");
        }
    }

    #[test]
    fn what_is_no_json_is_left_out_and_counted() {
        let home = tempfile::tempdir().unwrap();
        let inside = Inside::new(home.path());
        let deep = "[".repeat(100_000);
        append(home.path(), &format!("1\nno\n\n{deep}\n{{\"a\":1}} x\n2\n"));
        let read = Tail::at("j", 0).read(&inside);
        let Read::Lines(read) = read else { panic!() };
        assert_eq!(
            (read.lines, read.skipped),
            (vec!["1".into(), "2".into()], 4)
        );
        let mut bytes = fs::OpenOptions::new();
        let mut file = bytes.append(true).open(home.path().join("j")).unwrap();
        file.write_all(b"\"\xff\"\n3\n").unwrap();
        let mut tail = Tail::at("j", 0);
        let (mut all, mut n_skipped) = (Vec::new(), 0);
        while let Read::Lines(read) = tail.read(&inside) {
            all.extend(read.lines);
            n_skipped += read.skipped;
        }
        assert_eq!(
            (all, n_skipped),
            (vec!["1".into(), "2".into(), "3".into()], 5)
        );
    }

    #[test]
    fn a_line_without_end_is_given_up() {
        let home = tempfile::tempdir().unwrap();
        let inside = Inside::new(home.path());
        let long = format!("\"{}\"\n", "a".repeat(1 << 20));
        append(home.path(), &long);
        let mut tail = Tail::at("j", 0);
        assert_eq!(lines(tail.read(&inside)).0[0].len(), long.len() - 1);
        append(home.path(), &"a".repeat(5 << 20));
        assert_eq!(tail.read(&inside), Read::Damaged);
        append(home.path(), "a");
        assert_eq!(tail.read(&inside), Read::Nothing);
        fs::write(home.path().join("j"), "1\n").unwrap();
        assert_eq!(tail.read(&inside), Read::Reset);
        assert_eq!(lines(tail.read(&inside)).0, ["1"]);
    }

    #[test]
    fn much_comes_in_parts_without_losing_any() {
        let home = tempfile::tempdir().unwrap();
        let inside = Inside::new(home.path());
        let text: Vec<String> = (0..60_000).map(|at| format!("{at}\n")).collect();
        append(home.path(), &text.concat());
        let mut tail = Tail::at("j", 0);
        let (mut all, mut n_parts) = (Vec::new(), 0);
        while let Read::Lines(read) = tail.read(&inside) {
            all.extend(read.lines);
            n_parts += 1;
        }
        assert_eq!(
            all,
            (0..60_000).map(|at| at.to_string()).collect::<Vec<_>>()
        );
        assert!(n_parts > 2, "{n_parts}");
    }
}
