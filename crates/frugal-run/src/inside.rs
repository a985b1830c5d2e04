//! Files of a folder that somebody else may have filled: opened without following any link, and only
//! when they are plain files. So what is read lies in the folder, whatever its owner put there, and
//! nothing that blocks (a pipe) or acts when it is opened (a device) is ever read.
//!
//! What the bytes mean, and how many of them are wanted, is the reader's business.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// A folder whose files are read with care.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Inside {
    root: PathBuf,
}

impl Inside {
    /// The folder of that path. It is named by the operator, so it may be a link itself.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.into() }
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Opens a plain file for reading. The parts of its name are those of its folders, then its own.
    ///
    /// # Errors
    /// A file that is not there, anything that is no plain file, a link on the way, a name that is
    /// none.
    pub fn open(&self, parts: &[&str]) -> io::Result<File> {
        if !parts.iter().all(|part| is_name(part)) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "expected the names of folders and of a file",
            ));
        }
        let file = open_below(&self.root, parts)?;
        if file.metadata()?.is_file() {
            Ok(file)
        } else {
            Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "expected a plain file",
            ))
        }
    }

    /// The bytes of a file, of which there may be at most `limit`.
    ///
    /// # Errors
    /// As [`Self::open`], and more bytes.
    pub fn read(&self, parts: &[&str], limit: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let more = limit.saturating_add(1);
        self.open(parts)?.take(more).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            let message = format!("expected at most {limit} bytes, got more");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
        }
        Ok(bytes)
    }

    /// A text of at most `limit` bytes.
    ///
    /// # Errors
    /// As [`Self::read`], and bytes that are no UTF-8.
    pub fn read_text(&self, parts: &[&str], limit: u64) -> io::Result<String> {
        let bytes = self.read(parts, limit)?;
        String::from_utf8(bytes)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "expected text in UTF-8"))
    }

    /// Whether there is such a plain file.
    #[must_use]
    pub fn has(&self, parts: &[&str]) -> bool {
        self.open(parts).is_ok()
    }

    /// The last `limit` bytes of a file as text, from a whole line on; bytes that are no text are
    /// marked.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn read_end(&self, parts: &[&str], limit: u64) -> io::Result<String> {
        use std::io::{Seek, SeekFrom};
        let mut file = self.open(parts)?;
        let from = file.metadata()?.len().saturating_sub(limit);
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(limit).read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        let whole = match text.split_once('\n') {
            Some((_, rest)) if from > 0 => rest,
            _ => &text,
        };
        Ok(whole.to_owned())
    }

    /// Makes an empty file where nothing of the name is, not even a link.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] where something is; a folder that cannot be written.
    pub fn create_new(&self, name: &str) -> io::Result<File> {
        if !is_name(name) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "expected the name of a file",
            ));
        }
        File::create_new(self.root.join(name))
    }

    /// The folders in it, in order, at most `limit` of them; links are none.
    #[must_use]
    pub fn folders(&self, limit: usize) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(&self.root) else {
            return Vec::new();
        };
        let is_folder = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
        let mut found: Vec<PathBuf> = entries
            .filter_map(Result::ok)
            // A folder may hold more than anybody would list.
            .take(limit.saturating_mul(8))
            .filter(is_folder)
            .map(|entry| entry.path())
            .collect();
        found.sort();
        found.truncate(limit);
        found
    }
}

/// A plain name: one part of a path, and neither `.` nor `..`.
fn is_name(part: &str) -> bool {
    !part.is_empty() && part.len() <= 255 && ![".", ".."].contains(&part) && {
        !part.contains(['/', '\\', '\0', ':'])
    }
}

/// Opens from folder to folder, so that no part of the way can be exchanged for a link in between.
#[cfg(unix)]
fn open_below(root: &Path, parts: &[&str]) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags, open, openat};

    let Some((name, folders)) = parts.split_last() else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let folder = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at = open(root, folder, Mode::empty())?;
    for part in folders {
        at = openat(&at, *part, folder | OFlags::NOFOLLOW, Mode::empty())?;
    }
    // Without waiting: opening a pipe would wait for who writes to it.
    let file = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(File::from(openat(&at, *name, file, Mode::empty())?))
}

#[cfg(not(unix))]
fn open_below(root: &Path, parts: &[&str]) -> io::Result<File> {
    let mut path = root.to_owned();
    for part in parts {
        path.push(part);
        if fs::symlink_metadata(&path)?.file_type().is_symlink() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
    }
    File::open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_the_folder_are_none() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("in")).unwrap();
        fs::write(home.path().join("secret"), "s").unwrap();
        fs::write(home.path().join("in/own"), "o").unwrap();
        let inside = Inside::new(&home.path().join("in"));
        assert_eq!(inside.read_text(&["own"], 10).unwrap(), "o");
        for parts in [
            &["..", "secret"][..],
            &["../secret"],
            &["/etc/hostname"],
            &["."],
            &[""],
            &[],
            &["own", "deeper"],
            &["a\0b"],
        ] {
            assert!(inside.open(parts).is_err(), "{parts:?}");
        }
        assert!(inside.create_new("../new").is_err());
        assert!(!home.path().join("new").exists());
    }

    #[cfg(unix)]
    #[test]
    fn links_pipes_and_folders_are_not_read() {
        use std::os::unix::fs::symlink;
        let home = tempfile::tempdir().unwrap();
        let root = home.path().join("in");
        fs::create_dir_all(root.join("folder")).unwrap();
        fs::create_dir_all(home.path().join("out")).unwrap();
        fs::write(home.path().join("out/file"), "secret").unwrap();
        symlink("../out/file", root.join("file")).unwrap();
        symlink("../out", root.join("linked")).unwrap();
        rustix::fs::mkfifoat(
            rustix::fs::CWD,
            root.join("pipe"),
            rustix::fs::Mode::from_raw_mode(0o600),
        )
        .unwrap();
        let inside = Inside::new(&root);
        for parts in [
            &["file"][..],
            &["linked", "file"],
            &["pipe"],
            &["folder"],
            &["none"],
        ] {
            assert!(inside.open(parts).is_err(), "{parts:?}");
            assert!(!inside.has(parts));
        }
        assert_eq!(inside.folders(9), [root.join("folder")]);
        // Neither is a link written through.
        symlink("../out/new", root.join("new")).unwrap();
        let error = inside.create_new("new").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert!(!home.path().join("out/new").exists());
    }

    #[test]
    fn sizes_are_bounded() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("a"), "first\nsecond\nthird\n").unwrap();
        let inside = Inside::new(home.path());
        assert_eq!(inside.read(&["a"], 19).unwrap().len(), 19);
        let error = inside.read(&["a"], 18).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(inside.read_end(&["a"], 9).unwrap(), "third\n");
        assert_eq!(
            inside.read_end(&["a"], 90).unwrap(),
            "first\nsecond\nthird\n"
        );
        (0..5).for_each(|at| fs::create_dir(home.path().join(format!("d{at}"))).unwrap());
        assert_eq!(inside.folders(2).len(), 2);
    }
}
