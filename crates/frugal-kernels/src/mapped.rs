//! Files as memory: read by the system when touched, dropped by it when memory is short.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use frugal_core::stored::SharedBytes;
use memmap2::Mmap;

/// A file mapped for reading.
struct MappedFile {
    map: Mmap,
}

impl fmt::Debug for MappedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} mapped bytes", self.map.len())
    }
}

impl AsRef<[u8]> for MappedFile {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}

/// The bytes of a file, mapped. The file must stay as it is while they are in use: a process that
/// shortens it stops this one, and one that writes to it changes the numbers.
///
/// # Errors
/// If it cannot be opened or is no regular file.
pub fn map(path: &Path) -> io::Result<SharedBytes> {
    let file = File::open(path)?;
    let about = file.metadata()?;
    if !about.is_file() {
        let message = "expected a regular file";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    if about.len() == 0 {
        // The system maps no empty file.
        return Ok(SharedBytes::from(Vec::new()));
    }
    // SAFETY: the map is read-only and private to this process. That nobody changes the file
    // meanwhile cannot be enforced on Unix; it is the duty stated above, as of every program that
    // maps its weights.
    let map = unsafe { Mmap::map(&file)? };
    Ok(SharedBytes::new(Arc::new(MappedFile { map })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_file_reads_as_written() {
        let path = std::env::temp_dir().join(format!("frugal-map-{}", std::process::id()));
        std::fs::write(&path, b"some weights").unwrap();
        let bytes = map(&path).unwrap();
        assert_eq!(&*bytes, b"some weights");
        std::fs::write(&path, b"").unwrap();
        assert!(map(&path).unwrap().is_empty());
        std::fs::remove_file(&path).unwrap();
        assert!(map(&path).is_err());
        assert!(map(&std::env::temp_dir()).is_err());
    }
}
