//! One file: into `NAME.DIGEST.partial` beside its place, on from where it was cut, and renamed
//! only when length and digest are right. The partial file's name holds the digest, so what is left
//! of another version is never gone on with.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use ureq::http::StatusCode;

use super::web::{Answer, Fault, Tries, Web, cut};
use super::{Digest, HubError, Progress, RemoteFile, Watch};
use crate::store::{At, Stop, StoreError, hex, replace_file};

/// Bytes read and written at a time.
const CHUNK: usize = 256 << 10;
/// An attempt that brought this much was no failure of the network's doing.
const MUCH: u64 = 16 << 20;
/// Fewer bytes than this in the time of a stall are a stall.
const TRICKLE: u64 = 1 << 10;
const MOST_TAG_BYTES: usize = 256;

/// What to bring where.
pub(super) struct Target<'a> {
    pub(super) file: &'a RemoteFile,
    pub(super) url: String,
    pub(super) path: PathBuf,
    /// The same file in the cache of other tools.
    pub(super) cached: Option<PathBuf>,
    /// Ends it.
    pub(super) stop: &'a Stop,
}

/// The digests of a file, as it grows.
#[derive(Clone)]
pub(crate) struct Hashes {
    sha256: Sha256,
    git: Option<Sha1>,
}

/// The digests of a whole file.
pub(crate) struct Hashed {
    pub(crate) sha256: String,
    git: Option<String>,
}

impl Hashes {
    /// SHA-256 alone.
    pub(crate) fn plain() -> Self {
        Self {
            sha256: Sha256::new(),
            git: None,
        }
    }

    /// SHA-256, and what else `digest` needs for a file of `bytes`.
    pub(crate) fn of(digest: &Digest, bytes: u64) -> Self {
        let mut hashes = Self::plain();
        if matches!(digest, Digest::GitBlob(_)) {
            hashes.git = Some(Sha1::new_with_prefix(format!("blob {bytes}\0")));
        }
        hashes
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        if let Some(git) = &mut self.git {
            git.update(bytes);
        }
    }

    pub(crate) fn finish(self) -> Hashed {
        Hashed {
            sha256: hex(&self.sha256.finalize()),
            git: self.git.map(|git| hex(&git.finalize())),
        }
    }
}

impl Hashed {
    /// Refuses bytes that are not those of `file`.
    pub(crate) fn expect(&self, file: &RemoteFile) -> Result<(), HubError> {
        let got = match &file.digest {
            Digest::Sha256(_) => Digest::Sha256(self.sha256.clone()),
            Digest::GitBlob(_) => Digest::GitBlob(self.git.clone().unwrap_or_default()),
        };
        if got == file.digest {
            return Ok(());
        }
        Err(HubError::Digest {
            file: file.name.clone(),
            expected: file.digest.to_string(),
            got: got.to_string(),
        })
    }
}

/// Bytes of a file that need not be fetched again, if they turn out right.
pub(super) fn bytes_there(path: &Path, file: &RemoteFile) -> u64 {
    let length = |path: &Path| path.metadata().map_or(0, |found| found.len());
    length(path)
        .max(length(&partial_path(path, file)))
        .min(file.bytes)
}

fn partial_path(path: &Path, file: &RemoteFile) -> PathBuf {
    let (Digest::Sha256(digest) | Digest::GitBlob(digest)) = &file.digest;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.partial", digest.get(..12).unwrap_or(digest)));
    path.with_file_name(name)
}

/// Brings a file to its place and returns the SHA-256 of its bytes.
pub(super) fn bring(
    web: &Web,
    target: &Target<'_>,
    watch: &mut Watch<'_>,
) -> Result<String, HubError> {
    let file = target.file;
    if target.path.is_file() {
        // From an earlier pull that was cut at a later file. Looked at again: disks err.
        let mut hashes = Hashes::of(&file.digest, file.bytes);
        read_into(&target.path, &mut hashes)?;
        let hashed = hashes.finish();
        if hashed.expect(file).is_ok() {
            watch(&Progress::Begin {
                file: &file.name,
                have: file.bytes,
                bytes: file.bytes,
            });
            return Ok(end(file, hashed.sha256, watch));
        }
        fs::remove_file(&target.path).at("remove", &target.path)?;
    }
    let mut partial = Partial::open(target)?;
    let mut is_from_before = partial.bytes > 0;
    watch(&Progress::Begin {
        file: &file.name,
        have: partial.bytes,
        bytes: file.bytes,
    });
    if let Some(cached) = target.cached.as_ref().filter(|_| partial.bytes == 0)
        && !partial.copy(cached, watch)?
    {
        tracing::warn!(
            file = file.name,
            "the cache holds other bytes than the hub lists"
        );
    }
    loop {
        partial.complete(web, target, watch)?;
        match partial.finish(&target.path) {
            Ok(sha256) => return Ok(end(file, sha256, watch)),
            // The fault may lie in what an earlier process left; what comes now is all new.
            Err(HubError::Digest { .. }) if is_from_before => {
                is_from_before = false;
                partial = Partial::open(target)?;
            }
            Err(error) => return Err(error),
        }
    }
}

fn end(file: &RemoteFile, sha256: String, watch: &mut Watch<'_>) -> String {
    watch(&Progress::End {
        file: &file.name,
        bytes: file.bytes,
    });
    sha256
}

fn read_into(path: &Path, hashes: &mut Hashes) -> Result<u64, StoreError> {
    let mut file = File::open(path).at("read", path)?;
    let mut chunk = vec![0; CHUNK];
    let mut bytes = 0;
    loop {
        let read = file.read(&mut chunk).at("read", path)?;
        let got = chunk.get(..read).unwrap_or_default();
        if got.is_empty() {
            return Ok(bytes);
        }
        hashes.update(got);
        bytes += got.len() as u64;
    }
}

/// A file on its way.
struct Partial<'a> {
    file: &'a RemoteFile,
    path: PathBuf,
    open: File,
    bytes: u64,
    hashes: Hashes,
    /// What the server calls this version, so that it can say whether it still has it.
    version: Option<String>,
    stop: &'a Stop,
}

impl<'a> Partial<'a> {
    /// Opens what an earlier attempt left, or begins.
    fn open(target: &Target<'a>) -> Result<Self, HubError> {
        let file = target.file;
        let path = partial_path(&target.path, file);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let open = options.open(&path).at("write", &path)?;
        let mut partial = Self {
            file,
            open,
            bytes: 0,
            hashes: Hashes::of(&file.digest, file.bytes),
            version: None,
            path,
            stop: target.stop,
        };
        if partial.open.metadata().at("read", &partial.path)?.len() > file.bytes {
            partial.restart()?;
            return Ok(partial);
        }
        partial.bytes = read_into(&partial.path, &mut partial.hashes)?;
        let end = SeekFrom::Start(partial.bytes);
        partial.open.seek(end).at("read", &partial.path)?;
        let version = crate::store::read_text(&partial.version_path(), MOST_TAG_BYTES);
        partial.version = version.ok().filter(|tag| is_strong(tag));
        Ok(partial)
    }

    fn version_path(&self) -> PathBuf {
        self.path.with_extension("partial-version")
    }

    /// Throws away what is there.
    fn restart(&mut self) -> Result<(), HubError> {
        self.open.set_len(0).at("write", &self.path)?;
        self.open.seek(SeekFrom::Start(0)).at("write", &self.path)?;
        self.bytes = 0;
        self.hashes = Hashes::of(&self.file.digest, self.file.bytes);
        self.version = None;
        Ok(())
    }

    fn remove(&self) {
        for path in [&self.path, &self.version_path()] {
            if let Err(error) = fs::remove_file(path)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(path = %path.display(), %error, "a partial file was left behind");
            }
        }
    }

    fn push(&mut self, bytes: &[u8], watch: &mut Watch<'_>) -> Result<(), HubError> {
        self.stop.check()?;
        self.open.write_all(bytes).at("write", &self.path)?;
        self.hashes.update(bytes);
        self.bytes += bytes.len() as u64;
        watch(&Progress::Bytes {
            file: &self.file.name,
            have: self.bytes,
            bytes: self.file.bytes,
        });
        Ok(())
    }

    /// Takes the bytes of a cache; `false` where they are not the right ones.
    fn copy(&mut self, from: &Path, watch: &mut Watch<'_>) -> Result<bool, HubError> {
        let mut source = File::open(from).at("read", from)?;
        let mut chunk = vec![0; CHUNK];
        loop {
            let read = source.read(&mut chunk).at("read", from)?;
            let got = chunk.get(..read).unwrap_or_default();
            if got.is_empty() {
                break;
            }
            self.push(got, watch)?;
        }
        let is_right =
            self.bytes == self.file.bytes && self.hashes.clone().finish().expect(self.file).is_ok();
        if !is_right {
            self.restart()?;
        }
        Ok(is_right)
    }

    /// Fetches what is missing, however often the connection breaks.
    fn complete(
        &mut self,
        web: &Web,
        target: &Target<'_>,
        watch: &mut Watch<'_>,
    ) -> Result<(), HubError> {
        let mut tries = Tries::new(web, &self.file.name);
        while self.bytes < self.file.bytes {
            let before = self.bytes;
            let Err(fault) = self.attempt(web, &target.url, watch) else {
                continue;
            };
            if let Fault::Final(HubError::Bytes { .. }) = &fault {
                self.remove();
            }
            if self.bytes.saturating_sub(before) >= MUCH {
                tries.forgive();
            }
            tries.failed(fault, watch)?;
        }
        Ok(())
    }

    fn attempt(&mut self, web: &Web, url: &str, watch: &mut Watch<'_>) -> Result<(), Fault> {
        let mut headers = Vec::new();
        if self.bytes > 0 {
            headers.push(("Range", format!("bytes={}-", self.bytes)));
            if let Some(version) = &self.version {
                headers.push(("If-Range", version.clone()));
            }
        }
        let answer = web.get(&self.file.name, url, &headers)?;
        match answer.status {
            StatusCode::PARTIAL_CONTENT if self.bytes > 0 => self.expect_rest(&answer)?,
            StatusCode::OK => {
                if self.bytes > 0 {
                    // No ranges here, or another version since: from the beginning.
                    self.restart()?;
                }
                self.expect_whole(&answer)?;
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                self.restart()?;
                return Err(web.refusal(&self.file.name, &answer));
            }
            _ => return Err(web.refusal(&self.file.name, &answer)),
        }
        if let Some(packed) = answer
            .header("content-encoding")
            .filter(|e| *e != "identity")
        {
            return Err(self.other_length(format!("them packed as {packed:?}")));
        }
        self.remember_version(answer.header("etag"))?;
        self.receive(web, answer, watch)
    }

    fn other_length(&self, got: String) -> Fault {
        Fault::Final(HubError::Bytes {
            file: self.file.name.clone(),
            expected: self.file.bytes,
            got,
        })
    }

    fn expect_whole(&self, answer: &Answer) -> Result<(), Fault> {
        match answer.header("content-length") {
            // Sent in chunks; counted as it comes.
            None => Ok(()),
            Some(length) if length.trim() == self.file.bytes.to_string() => Ok(()),
            Some(length) => Err(self.other_length(length.to_owned())),
        }
    }

    /// A part must be the part that was asked for, of a file as long as listed.
    fn expect_rest(&self, answer: &Answer) -> Result<(), Fault> {
        let range = answer.header("content-range").unwrap_or_default();
        let (from, last, bytes) = (self.bytes, self.file.bytes - 1, self.file.bytes);
        let whole = format!("bytes {from}-{last}/{bytes}");
        if range == whole || range == format!("bytes {from}-{last}/*") {
            return Ok(());
        }
        Err(self.other_length(format!("the part {range:?} in place of `{whole}`")))
    }

    fn remember_version(&mut self, tag: Option<&str>) -> Result<(), HubError> {
        let tag = tag.filter(|tag| is_strong(tag));
        if tag != self.version.as_deref() {
            self.version = tag.map(str::to_owned);
            let path = self.version_path();
            replace_file(&path, tag.unwrap_or_default().as_bytes())?;
        }
        Ok(())
    }

    fn receive(&mut self, web: &Web, answer: Answer, watch: &mut Watch<'_>) -> Result<(), Fault> {
        let (name, place) = (self.file.name.clone(), answer.place.clone());
        let mut reader = answer.reader();
        let mut chunk = vec![0; CHUNK];
        let (mut since, mut had) = (Instant::now(), self.bytes);
        while self.bytes < self.file.bytes {
            let read = reader
                .read(&mut chunk)
                .map_err(|error| cut(&name, &place, &error.to_string()))?;
            let got = chunk.get(..read).unwrap_or_default();
            if got.is_empty() {
                let message = format!(
                    "the connection ended after {} of {} bytes",
                    self.bytes, self.file.bytes
                );
                return Err(cut(&name, &place, &message));
            }
            if got.len() as u64 > self.file.bytes - self.bytes {
                return Err(self.other_length("more".into()));
            }
            self.push(got, watch)?;
            if since.elapsed() >= web.stall {
                if self.bytes - had < TRICKLE {
                    return Err(cut(&name, &place, "the connection brings next to nothing"));
                }
                (since, had) = (Instant::now(), self.bytes);
            }
        }
        // One byte more shows a server that sends more than it lists.
        match reader.read(&mut chunk) {
            Ok(1..) => Err(self.other_length("more".into())),
            // All that was listed is there; how the connection ends does not matter.
            Ok(0) | Err(_) => Ok(()),
        }
    }

    /// Checks the digest and gives the file its name, durably; removes it if it is wrong.
    fn finish(&mut self, path: &Path) -> Result<String, HubError> {
        let hashed = self.hashes.clone().finish();
        if let Err(error) = hashed.expect(self.file) {
            self.remove();
            return Err(error);
        }
        self.open.sync_all().at("sync", &self.path)?;
        fs::rename(&self.path, path).at("rename", &self.path)?;
        self.remove();
        Ok(hashed.sha256)
    }
}

/// Whether a tag promises the same bytes, which a weak one does not.
fn is_strong(tag: &str) -> bool {
    tag.len() >= 2
        && tag.len() <= MOST_TAG_BYTES
        && tag.starts_with('"')
        && tag.ends_with('"')
        && tag.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_git_blob_is_named_as_git_names_it() {
        // `printf hello | git hash-object --stdin`
        let file = RemoteFile {
            name: "a".into(),
            bytes: 5,
            digest: Digest::GitBlob("b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0".into()),
        };
        let mut hashes = Hashes::of(&file.digest, 5);
        hashes.update(b"hel");
        hashes.update(b"lo");
        let hashed = hashes.finish();
        hashed.expect(&file).unwrap();
        let sha256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        assert_eq!(hashed.sha256, sha256);
        let mut other = Hashes::of(&file.digest, 5);
        other.update(b"hellp");
        let error = other.finish().expect(&file).unwrap_err().to_string();
        assert!(error.contains("expected git blob b6fc4c62"), "{error}");
        assert!(error.contains("got git blob "), "{error}");
    }

    #[test]
    fn only_strong_tags_vouch_for_bytes() {
        assert!(is_strong("\"abc\""));
        for tag in ["W/\"abc\"", "abc", "\"", "", "\"a\nb\""] {
            assert!(!is_strong(tag), "{tag}");
        }
    }
}
