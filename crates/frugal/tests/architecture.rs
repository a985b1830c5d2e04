//! The floors of ARCHITECTURE.md, held by a test: which crate may lean on which, where unsafe code
//! may stand, how large a file may grow.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, which the lint's exception for tests does not see"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// For each crate the crates of this workspace it may depend on.
const MAY_LEAN_ON: &[(&str, &[&str])] = &[
    ("frugal-core", &[]),
    ("frugal-model", &["frugal-core"]),
    ("frugal-kernels", &["frugal-core"]),
    ("frugal-run", &["frugal-core", "frugal-model"]),
    ("frugal-text", &["frugal-core", "frugal-model"]),
    (
        "frugal-eval",
        &["frugal-core", "frugal-model", "frugal-run", "frugal-text"],
    ),
    (
        "frugal-train",
        &[
            "frugal-core",
            "frugal-model",
            "frugal-run",
            "frugal-text",
            "frugal-eval",
        ],
    ),
    (
        "frugal-serve",
        &["frugal-core", "frugal-model", "frugal-run", "frugal-text"],
    ),
    (
        "frugal",
        &[
            "frugal-core",
            "frugal-model",
            "frugal-kernels",
            "frugal-run",
            "frugal-text",
            "frugal-eval",
            "frugal-train",
            "frugal-serve",
        ],
    ),
];

/// Lines of a source file, tests excluded, that no file may reach.
const MOST_LINES_PER_FILE: usize = 800;

/// Lines of code of the workspace: tests, comments and blank lines excluded. Raised only with an
/// entry in LOG.md.
const MOST_CODE_LINES_IN_ALL: usize = 88_000;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else {
        return files;
    };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Whether a file is compiled for tests alone.
fn is_of_tests(file: &Path) -> bool {
    let name = file.file_stem().unwrap_or_default();
    ["tests", "testing", "samples"]
        .iter()
        .any(|of_tests| name == *of_tests)
}

/// The source files of a crate, those of tests apart.
fn source_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = rust_files(folder);
    files.retain(|file| !is_of_tests(file));
    files
}

/// The lines of a file before its unit tests.
fn lines_without_tests(text: &str) -> usize {
    text.lines()
        .take_while(|line| line.trim() != "#[cfg(test)]")
        .count()
}

/// Those of them that are neither blank nor comment.
fn code_lines(text: &str) -> usize {
    let lines = text.lines().take(lines_without_tests(text));
    lines
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("//"))
        .count()
}

#[test]
fn crates_lean_only_on_floors_below() {
    let metadata = cargo_metadata::MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .other_options(vec!["--offline".into()])
        .exec()
        .expect("the workspace has metadata");
    let rules: BTreeMap<&str, &[&str]> = MAY_LEAN_ON.iter().copied().collect();
    for package in &metadata.packages {
        let name = package.name.as_str();
        let allowed = rules
            .get(name)
            .unwrap_or_else(|| panic!("{name} has no floor; add its rule"));
        for dependency in &package.dependencies {
            let on = dependency.name.as_str();
            if rules.contains_key(on) {
                assert!(allowed.contains(&on), "{name} may not lean on {on}");
            }
        }
    }
}

#[test]
fn only_the_kernels_contain_unsafe_code() {
    for folder in fs::read_dir(root().join("crates")).unwrap() {
        let folder = folder.unwrap().path();
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        if name == "frugal-kernels" {
            continue;
        }
        let head = ["src/lib.rs", "src/main.rs"]
            .iter()
            .filter_map(|file| fs::read_to_string(folder.join(file)).ok())
            .collect::<String>();
        assert!(
            head.contains("#![forbid(unsafe_code)]"),
            "{name} does not forbid unsafe code"
        );
    }
}

#[test]
fn the_model_and_the_core_do_no_input_or_output() {
    for name in ["frugal-core", "frugal-model"] {
        for file in source_files(&root().join("crates").join(name).join("src")) {
            let text = fs::read_to_string(&file).unwrap();
            let code: String = text
                .lines()
                .take(lines_without_tests(&text))
                .collect::<Vec<_>>()
                .join("\n");
            for forbidden in ["std::fs", "std::io", "std::net", "std::env", "std::time"] {
                assert!(
                    !code.contains(forbidden),
                    "{} uses {forbidden}",
                    file.display()
                );
            }
        }
    }
}

#[test]
fn only_the_run_room_reads_the_wall_clock_and_only_the_binary_the_environment() {
    for folder in fs::read_dir(root().join("crates")).unwrap() {
        let folder = folder.unwrap().path();
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        for file in source_files(&folder.join("src")) {
            let text = fs::read_to_string(&file).unwrap();
            let code: String = text
                .lines()
                .take(lines_without_tests(&text))
                .collect::<Vec<_>>()
                .join("\n");
            let place = file.display();
            // The kernels time their own products to find the machine's peak.
            if !["frugal-run", "frugal-kernels"].contains(&name.as_str()) {
                assert!(!code.contains("Instant::now"), "{place} reads the clock");
                assert!(!code.contains("SystemTime::now"), "{place} reads the clock");
            }
            if name != "frugal" {
                assert!(!code.contains("env::var"), "{place} reads the environment");
            }
        }
    }
}

#[test]
fn files_and_the_workspace_keep_their_size() {
    let mut total = 0;
    for folder in fs::read_dir(root().join("crates")).unwrap() {
        for file in source_files(&folder.unwrap().path().join("src")) {
            let text = fs::read_to_string(&file).unwrap();
            let lines = lines_without_tests(&text);
            assert!(
                lines < MOST_LINES_PER_FILE,
                "{} has {lines} lines",
                file.display()
            );
            total += code_lines(&text);
        }
    }
    assert!(
        total < MOST_CODE_LINES_IN_ALL,
        "the workspace has {total} lines of code"
    );
}
