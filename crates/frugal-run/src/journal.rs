//! The journal: one line of JSON per record, only ever appended to, cut back to a checkpoint's
//! position on resume. It holds no dates and no durations, so that the journal of a run that was
//! killed and continued is bit for bit that of one that was not; those go to `timings.jsonl`.
//!
//! Numbers are printed with the fewest digits that read back as the same bits, f32 as f32 and f64
//! as f64. A number that is not finite becomes `null`, JSON having no word for it, so a field that
//! may be none is read back as an `Option`.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::store::{At, StoreError};

/// Longest line that is read back.
const MAX_LINE_BYTES: u64 = 4 << 20;

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Journal {
    /// Opens or makes the journal. A last line that a kill left half-written is cut off.
    ///
    /// # Errors
    /// A file that cannot be opened or written.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(path).at("open", path)?;
        let mut journal = Self {
            path: path.into(),
            file,
            bytes: 0,
        };
        journal.bytes = journal.end_of_last_line()?;
        journal.cut(journal.bytes)?;
        Ok(journal)
    }

    /// The position after the last line break.
    fn end_of_last_line(&mut self) -> Result<u64, StoreError> {
        let mut end = self.file.seek(SeekFrom::End(0)).at("read", &self.path)?;
        let mut block = [0; 4096];
        while end > 0 {
            let start = end.saturating_sub(block.len() as u64);
            let length = usize::try_from(end - start).unwrap_or(block.len());
            let Some(part) = block.get_mut(..length) else {
                break;
            };
            self.file
                .seek(SeekFrom::Start(start))
                .at("read", &self.path)?;
            self.file.read_exact(part).at("read", &self.path)?;
            if let Some(at) = part.iter().rposition(|byte| *byte == b'\n') {
                return Ok(start + at as u64 + 1);
            }
            end = start;
        }
        Ok(0)
    }

    fn cut(&mut self, bytes: u64) -> Result<(), StoreError> {
        self.file.set_len(bytes).at("write", &self.path)?;
        self.file
            .seek(SeekFrom::Start(bytes))
            .at("write", &self.path)?;
        self.bytes = bytes;
        Ok(())
    }

    /// Appends one record as one line. A line that could not be written whole is taken back.
    ///
    /// # Errors
    /// A record that is no JSON, or a disk that is full.
    pub fn append<T: Serialize>(&mut self, record: &T) -> Result<(), StoreError> {
        let mut line = serde_json::to_vec(record).map_err(|error| StoreError::Line {
            path: self.path.clone(),
            message: error.to_string(),
        })?;
        line.push(b'\n');
        if let Err(error) = self.file.write_all(&line) {
            let kept = self.bytes;
            // The first error is the one to tell; opening the journal again cuts a half line too.
            if let Err(second) = self.cut(kept) {
                tracing::debug!(%second, "a half-written line was left behind");
            }
            return Err(error).at("write", &self.path);
        }
        self.bytes += line.len() as u64;
        Ok(())
    }

    /// Bytes written so far.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.bytes
    }

    /// Makes all lines durable and returns the position for a checkpoint's manifest. Call it
    /// before the checkpoint is written: a checkpoint must not know lines that a power cut takes.
    ///
    /// # Errors
    /// A disk that fails.
    pub fn sync(&mut self) -> Result<u64, StoreError> {
        self.file.sync_data().at("sync", &self.path)?;
        Ok(self.bytes)
    }

    /// Cuts the journal back to a checkpoint's position.
    ///
    /// # Errors
    /// A position past the end or inside a line: then the journal is not that of the checkpoint.
    pub fn truncate_to(&mut self, position: u64) -> Result<(), StoreError> {
        let damaged = |message: String| {
            Err(StoreError::Damaged {
                path: self.path.clone(),
                message,
            })
        };
        if position > self.bytes {
            return damaged(format!(
                "expected at least the {position} bytes of the checkpoint, got {}",
                self.bytes
            ));
        }
        if let Some(before) = position.checked_sub(1) {
            let mut byte = [0];
            self.file
                .seek(SeekFrom::Start(before))
                .at("read", &self.path)?;
            self.file.read_exact(&mut byte).at("read", &self.path)?;
            if byte != *b"\n" {
                return damaged(format!(
                    "expected a line to end at byte {position}, got none"
                ));
            }
        }
        self.cut(position)
    }

    /// Where the journal lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Reads the records of a journal in order.
///
/// # Errors
/// A line that is too long or not a record of this type, by its number.
pub fn read_records<T: DeserializeOwned>(
    path: &Path,
) -> Result<impl Iterator<Item = Result<T, StoreError>> + use<T>, StoreError> {
    let mut reader = BufReader::new(File::open(path).at("read", path)?);
    let path = path.to_owned();
    let mut number = 0;
    let mut line = Vec::new();
    let mut next_line = move || -> Result<Option<T>, StoreError> {
        line.clear();
        number += 1;
        let read = reader
            .by_ref()
            .take(MAX_LINE_BYTES)
            .read_until(b'\n', &mut line);
        if read.at("read", &path)? == 0 {
            return Ok(None);
        }
        let damaged = |message| StoreError::Damaged {
            path: path.clone(),
            message,
        };
        if line.last() != Some(&b'\n') {
            return Err(damaged(format!(
                "line {number} has no end, or is over {MAX_LINE_BYTES} bytes"
            )));
        }
        let record = serde_json::from_slice(&line);
        record
            .map(Some)
            .map_err(|error| damaged(format!("line {number}: {error}")))
    };
    let mut is_over = false;
    Ok(std::iter::from_fn(move || {
        if is_over {
            return None;
        }
        let record = next_line().transpose();
        is_over = !matches!(record, Some(Ok(_)));
        record
    }))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Step {
        number: u64,
        loss: f32,
        rate: f64,
    }

    fn step(step: u64) -> Step {
        Step {
            number: step,
            loss: 1.0 / (step as f32 + 3.0),
            rate: 1.0 / (step as f64 + 7.0),
        }
    }

    fn read(path: &Path) -> Vec<Step> {
        read_records(path)
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap()
    }

    #[test]
    fn a_killed_and_continued_journal_is_that_of_an_uninterrupted_run() {
        let home = tempfile::tempdir().unwrap();
        let (whole, cut) = (home.path().join("whole"), home.path().join("cut"));
        let mut journal = Journal::open(&whole).unwrap();
        (0..50).for_each(|at| journal.append(&step(at)).unwrap());

        let mut journal = Journal::open(&cut).unwrap();
        (0..20).for_each(|at| journal.append(&step(at)).unwrap());
        let position = journal.sync().unwrap();
        (20..33).for_each(|at| journal.append(&step(at)).unwrap());
        drop(journal);
        // The kill came in the middle of a line.
        let mut file = OpenOptions::new().append(true).open(&cut).unwrap();
        file.write_all(b"{\"step\":33,\"lo").unwrap();
        let mut journal = Journal::open(&cut).unwrap();
        assert_eq!(read(&cut).len(), 33);
        journal.truncate_to(position).unwrap();
        (20..50).for_each(|at| journal.append(&step(at)).unwrap());
        assert_eq!(fs::read(&whole).unwrap(), fs::read(&cut).unwrap());
        assert_eq!(journal.position(), fs::metadata(&cut).unwrap().len());
    }

    #[test]
    fn positions_of_another_journal_are_refused() {
        let home = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(&home.path().join("j")).unwrap();
        journal.append(&1).unwrap();
        journal.append(&2).unwrap();
        let past = journal.truncate_to(5).unwrap_err().to_string();
        assert!(
            past.ends_with("expected at least the 5 bytes of the checkpoint, got 4"),
            "{past}"
        );
        let inside = journal.truncate_to(3).unwrap_err().to_string();
        assert!(
            inside.ends_with("expected a line to end at byte 3, got none"),
            "{inside}"
        );
        journal.truncate_to(2).unwrap();
        journal.append(&3).unwrap();
        assert_eq!(fs::read_to_string(journal.path()).unwrap(), "1\n3\n");
        journal.truncate_to(0).unwrap();
        assert_eq!(journal.position(), 0);
    }

    #[test]
    fn a_long_half_line_without_any_break_is_cut() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("j");
        for (before, kept) in [
            ("a".repeat(10_000), 0),
            (format!("1\n{}", "a".repeat(9_000)), 2),
        ] {
            fs::write(&path, before).unwrap();
            assert_eq!(Journal::open(&path).unwrap().position(), kept);
            assert_eq!(fs::metadata(&path).unwrap().len(), kept);
        }
    }

    #[test]
    fn damaged_lines_are_named() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("j");
        fs::write(
            &path,
            "{\"number\":1,\"loss\":1,\"rate\":1}\n{\"number\":}\n",
        )
        .unwrap();
        let records: Vec<Result<Step, _>> = read_records(&path).unwrap().collect();
        assert_eq!(records.len(), 2);
        let error = records[1].as_ref().unwrap_err().to_string();
        assert!(
            error.contains("is damaged: line 2: expected value"),
            "{error}"
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_said_in_a_sentence_and_the_half_line_taken_back() {
        let mut journal = Journal {
            path: "/dev/full".into(),
            file: OpenOptions::new().write(true).open("/dev/full").unwrap(),
            bytes: 0,
        };
        let error = journal.append(&step(1)).unwrap_err().to_string();
        assert_eq!(
            error,
            "cannot write /dev/full: the disk is full, expected room for it; free some and \
             continue with --resume"
        );
        assert_eq!(journal.position(), 0);
    }

    proptest! {
        #[test]
        fn floats_come_back_bit_for_bit(loss in any::<f32>(), rate in any::<f64>()) {
            prop_assume!(loss.is_finite() && rate.is_finite());
            let line = serde_json::to_string(&Step { number: 0, loss, rate }).unwrap();
            let back: Step = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(back.loss.to_bits(), loss.to_bits());
            prop_assert_eq!(back.rate.to_bits(), rate.to_bits());
        }
    }
}
