//! Shared by tests: recorded data, and a codec over a plain word list.

use std::io::Read;
use std::path::Path;

/// The text of a recorded data file, unzipped if need be; nothing, with a visible line, where the
/// data folder is absent.
pub(crate) fn data(name: &str) -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/data")
        .join(name);
    let Ok(bytes) = std::fs::read(&path) else {
        eprintln!("skipped: {name} is not there");
        return None;
    };
    if path.extension().is_some_and(|extension| extension == "gz") {
        let mut text = String::new();
        flate2::read::GzDecoder::new(bytes.as_slice())
            .read_to_string(&mut text)
            .unwrap();
        return Some(text);
    }
    Some(String::from_utf8(bytes).unwrap())
}
