use std::fs;
use std::path::{Path, PathBuf};

use super::*;

/// Knows any model; refuses those whose config says so.
struct Any;

impl Loader for Any {
    fn accepts(&self, folder: &Path) -> Result<(), BoxError> {
        let config = fs::read_to_string(folder.join("config.json"))?;
        if config.contains("refuse") {
            return Err("expected another architecture".into());
        }
        Ok(())
    }

    fn facts(&self, path: &Path) -> Result<Facts, BoxError> {
        if path.join("refuse").exists() {
            return Err("expected another model".into());
        }
        Ok(Facts {
            architecture: "DeepseekV3ForCausalLM".into(),
            parameters: Some(671),
            active_parameters: Some(37),
            format: "F8_E4M3".into(),
        })
    }
}

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    fn store(&self) -> Store {
        Store::open(&self.home()).unwrap()
    }

    /// A checkpoint outside the store.
    fn source(&self, name: &str) -> PathBuf {
        let folder = self.folder.path().join("sources").join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("config.json"), "{}").unwrap();
        fs::write(folder.join("model.safetensors"), vec![7; 5000]).unwrap();
        fs::write(
            folder.join("README.md"),
            "---\nlicense: mit\nbase_model: a/b\n---\n",
        )
        .unwrap();
        fs::write(folder.join("notes.txt"), "not part of it").unwrap();
        folder
    }

    fn import(&self, path: &Path, name: Option<&str>, take: Take) -> Result<Added, ModelsError> {
        let name = name.map(|name| name.parse().unwrap());
        let import = Import {
            path,
            name: name.as_ref(),
            take,
        };
        self.store().import(import, &Any, &mut |_| {})
    }

    fn add(&self, name: &str) -> Model {
        let source = self.source("any");
        match self.import(&source, Some(name), Take::Copy).unwrap() {
            Added::New(model) => model,
            Added::Already(model) => panic!("{} was there", model.name),
        }
    }

    fn differences(&self, name: &str) -> Vec<String> {
        let found = self.store().verify(name, &mut |_| {}).unwrap();
        found.iter().map(ToString::to_string).collect()
    }
}

#[test]
fn a_folder_is_imported_with_its_card_and_without_the_rest() {
    let place = Place::new();
    let source = place.source("r1-tiny");
    let Added::New(model) = place.import(&source, None, Take::Copy).unwrap() else {
        panic!("it was not there before");
    };
    assert_eq!(model.name, "r1-tiny");
    assert_eq!(model.licence.as_deref(), Some("mit"));
    assert_eq!(model.base_model.as_deref(), Some("a/b"));
    assert_eq!(model.method, None);
    assert_eq!(
        model.origin,
        fs::canonicalize(&source).unwrap().to_string_lossy()
    );
    assert_eq!(model.facts.active_parameters, Some(37));
    let names: Vec<&str> = model.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["README.md", "config.json", "model.safetensors"]);
    assert_eq!(
        model.bytes,
        model.files.iter().map(|file| file.bytes).sum::<u64>()
    );
    assert_eq!(place.store().list().unwrap(), std::slice::from_ref(&model));
    let (_, path) = place.store().locate("r1-tiny").unwrap();
    assert_eq!(path, place.home().join("models/r1-tiny"));
    assert!(!path.join("notes.txt").exists());
    assert_eq!(place.differences("r1-tiny"), Vec::<String>::new());
    // What happens to the source no longer matters.
    fs::write(source.join("model.safetensors"), "other").unwrap();
    assert_eq!(place.differences("r1-tiny"), Vec::<String>::new());
    assert_eq!(
        place.import(&source, None, Take::Copy).unwrap(),
        Added::Already(model)
    );
}

#[test]
fn a_gguf_file_is_imported_alone_under_its_full_name() {
    let place = Place::new();
    let file = place
        .source("x")
        .join("DeepSeek-R1-Distill-Qwen-1.5B-Q4_K_M.gguf");
    fs::write(&file, "GGUF").unwrap();
    place.import(&file, None, Take::Copy).unwrap();
    let (model, path) = place
        .store()
        .locate("DeepSeek-R1-Distill-Qwen-1.5B-Q4_K_M")
        .unwrap();
    assert_eq!(model.files.len(), 1);
    assert_eq!(model.licence, None);
    assert_eq!(fs::read(path).unwrap(), b"GGUF");
    let error = place
        .import(&file, Some("DeepSeek-R1"), Take::Copy)
        .unwrap_err();
    assert!(matches!(error, ModelsError::Name { .. }), "{error}");
}

#[test]
fn what_is_no_model_is_not_imported() {
    let place = Place::new();
    let empty = place.folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    fs::write(empty.join("pytorch_model.bin"), "pickle").unwrap();
    let error = place
        .import(&empty, None, Take::Copy)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("expected safetensors or one GGUF file, got neither"),
        "{error}"
    );
    let error = place.import(&empty.join("pytorch_model.bin"), None, Take::Copy);
    assert!(
        error
            .unwrap_err()
            .to_string()
            .ends_with("expected a folder or a .gguf file")
    );
    let error = place
        .import(&empty.join("none"), None, Take::Copy)
        .unwrap_err();
    assert!(error.to_string().starts_with("cannot read "), "{error}");
    let source = place.source("odd name");
    let error = place.import(&source, None, Take::Copy).unwrap_err();
    assert!(matches!(error, ModelsError::Name { .. }), "{error}");
    fs::write(source.join("config.json"), "refuse").unwrap();
    let error = place.import(&source, Some("odd"), Take::Copy).unwrap_err();
    assert!(matches!(error, ModelsError::Refused { .. }), "{error}");
    assert_eq!(place.store().list().unwrap(), []);
    assert_eq!(place.store().unfinished().unwrap(), []);
    let inside = place.add("whole");
    let again = place.import(
        &place.home().join("models/whole"),
        Some("twice"),
        Take::Copy,
    );
    assert!(matches!(again.unwrap_err(), ModelsError::Source { .. }));
    assert_eq!(place.store().list().unwrap(), [inside]);
}

#[cfg(unix)]
#[test]
fn links_take_no_room_and_caches_of_links_are_followed() {
    use std::os::unix::fs::{MetadataExt, symlink};
    let place = Place::new();
    let source = place.source("linked");
    let snapshot = place.folder.path().join("snapshot");
    fs::create_dir(&snapshot).unwrap();
    for name in ["config.json", "model.safetensors"] {
        symlink(source.join(name), snapshot.join(name)).unwrap();
    }
    place
        .import(&snapshot, Some("o/linked"), Take::Link)
        .unwrap();
    let inside = place.home().join("models/o/linked/model.safetensors");
    let (a, b) = (
        inside.metadata().unwrap(),
        source.join("model.safetensors").metadata().unwrap(),
    );
    assert_eq!(a.ino(), b.ino());
    assert!(!inside.is_symlink());
    place.store().remove("o/linked").unwrap();
    assert_eq!(
        fs::read(source.join("model.safetensors")).unwrap().len(),
        5000
    );
    assert!(!place.home().join("models/o").exists());
}

#[test]
fn names_are_found_in_full_or_by_their_whole_last_part() {
    let place = Place::new();
    let distilled = "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B";
    for name in [
        distilled,
        "deepseek-ai/DeepSeek-V2-Lite",
        "me/DeepSeek-V2-Lite",
    ] {
        place.add(name);
    }
    let store = place.store();
    for name in [
        distilled,
        "DeepSeek-R1-Distill-Qwen-1.5B",
        "deepseek-r1-distill-qwen-1.5b",
    ] {
        assert_eq!(store.find(name).unwrap().name, distilled);
    }
    let short = [
        "DeepSeek-R1",
        "deepseek-r1",
        "DeepSeek-R1-Distill",
        "DeepSeek-R1-Distill-Qwen",
        "Qwen-1.5B",
        "1.5B",
        "deepseek-ai",
        "deepseek-ai/",
        "deepseek-ai/DeepSeek-R1",
        "deepseek-ai/DeepSeek-R1-Distill-Qwen-1",
        "",
    ];
    for name in short {
        let error = store.find(name).unwrap_err();
        assert!(
            matches!(error, ModelsError::Unknown { .. }),
            "{name}: {error}"
        );
    }
    let error = store.find("DeepSeek-V2-Lite").unwrap_err().to_string();
    let both = "DeepSeek-V2-Lite could be deepseek-ai/DeepSeek-V2-Lite, me/DeepSeek-V2-Lite, \
                expected a full name";
    assert_eq!(error, both);
}

#[test]
fn a_distilled_model_is_listed_by_its_full_name_and_cannot_be_renamed_to_its_teacher() {
    let place = Place::new();
    let source = place.source("DeepSeek-R1-Distill-Llama-8B");
    for name in ["DeepSeek-R1", "me/deepseek-r1", "DeepSeek-R1-8B"] {
        let error = place.import(&source, Some(name), Take::Copy).unwrap_err();
        assert!(matches!(error, ModelsError::Name { .. }), "{name}: {error}");
    }
    place.import(&source, None, Take::Copy).unwrap();
    let listed = place.store().list().unwrap();
    let names: Vec<&str> = listed.iter().map(|model| model.name.as_str()).collect();
    assert_eq!(names, ["DeepSeek-R1-Distill-Llama-8B"]);
}

#[test]
fn verify_names_every_difference() {
    let place = Place::new();
    place.add("o/m");
    let folder = place.home().join("models/o/m");
    let mut bytes = fs::read(folder.join("model.safetensors")).unwrap();
    bytes[4321] ^= 1;
    fs::write(folder.join("model.safetensors"), bytes).unwrap();
    fs::write(folder.join("config.json"), "{ }").unwrap();
    fs::remove_file(folder.join("README.md")).unwrap();
    fs::write(folder.join("modeling.py"), "import os").unwrap();
    fs::create_dir(folder.join("folder")).unwrap();
    fs::write(folder.join(CARD), "{}").unwrap();
    let found = place.differences("o/m");
    assert_eq!(found.len(), 6, "{found:#?}");
    assert_eq!(found[0], "README.md: expected a file, found none");
    assert_eq!(found[1], "config.json: expected 2 bytes, found 3");
    assert!(
        found[2].starts_with("model.safetensors: expected sha256 "),
        "{}",
        found[2]
    );
    assert_eq!(found[3], "folder: expected no such file");
    assert_eq!(found[4], "modeling.py: expected no such file");
    assert!(found[5].starts_with("frugal.json: "), "{}", found[5]);
    let error = place.store().locate("o/m").unwrap_err().to_string();
    assert_eq!(
        error,
        "o/m is damaged: expected README.md, found no such file; remove it and fetch it again"
    );
    fs::remove_dir_all(&folder).unwrap();
    let error = place.store().verify("o/m", &mut |_| {}).unwrap_err();
    assert!(matches!(error, ModelsError::Damaged { .. }), "{error}");
    // What is gone can still be forgotten.
    place.store().remove("o/m").unwrap();
    assert_eq!(place.store().list().unwrap(), []);
}

#[test]
fn only_models_are_removed() {
    let place = Place::new();
    place.add("o/a");
    place.add("o/b");
    let beside = place.home().join("models/o/notes");
    fs::create_dir(&beside).unwrap();
    for name in [
        "o",
        "o/notes",
        "..",
        "../home",
        "o/..",
        "",
        "/",
        "none",
        ".incoming",
    ] {
        let error = place.store().remove(name).unwrap_err();
        assert!(
            matches!(error, ModelsError::Unknown { .. }),
            "{name}: {error}"
        );
    }
    place.store().remove("a").unwrap();
    assert!(!place.home().join("models/o/a").exists());
    assert!(place.home().join("models/o/b").exists());
    assert!(beside.exists());
    let error = place.store().remove("o/a").unwrap_err();
    assert!(matches!(error, ModelsError::Unknown { .. }), "{error}");
    assert_eq!(place.store().list().unwrap().len(), 1);
}

#[cfg(unix)]
#[test]
fn nothing_is_removed_or_loaded_through_a_link() {
    use std::os::unix::fs::symlink;
    let place = Place::new();
    place.add("o/m");
    let (owner, elsewhere) = (
        place.home().join("models/o"),
        place.folder.path().join("away"),
    );
    fs::rename(&owner, &elsewhere).unwrap();
    symlink(&elsewhere, &owner).unwrap();
    for error in [
        place.store().remove("o/m").unwrap_err(),
        place.store().locate("o/m").unwrap_err(),
        place.store().verify("o/m", &mut |_| {}).unwrap_err(),
    ] {
        assert!(matches!(error, ModelsError::InTheWay { .. }), "{error}");
    }
    assert!(elsewhere.join("m/model.safetensors").exists());
    // A link in place of a file is not that file.
    fs::remove_file(&owner).unwrap();
    fs::rename(&elsewhere, &owner).unwrap();
    let weights = owner.join("m/model.safetensors");
    let away = place.folder.path().join("weights");
    fs::rename(&weights, &away).unwrap();
    symlink(&away, &weights).unwrap();
    let error = place.store().locate("o/m").unwrap_err().to_string();
    assert!(error.contains("found something that is no file"), "{error}");
    let found = place.differences("o/m");
    assert_eq!(found, ["model.safetensors: expected a file, found none"]);
}

#[test]
fn a_model_cannot_lie_inside_another_or_over_a_stranger() {
    let place = Place::new();
    place.add("o");
    let source = place.source("x");
    let error = place.import(&source, Some("o/m"), Take::Copy).unwrap_err();
    assert!(matches!(error, ModelsError::InTheWay { .. }), "{error}");
    place.add("p/m");
    let error = place.import(&source, Some("p"), Take::Copy).unwrap_err();
    assert!(matches!(error, ModelsError::InTheWay { .. }), "{error}");
    assert!(place.store().locate("p/m").is_ok());
    let error = place.import(&source, Some("P/M"), Take::Copy).unwrap_err();
    assert!(matches!(error, ModelsError::Exists { .. }), "{error}");
}

#[test]
fn a_model_whose_record_was_lost_is_recorded_again_if_it_is_whole() {
    let place = Place::new();
    let model = place.add("o/n:Q4_K_M");
    fs::remove_file(place.home().join("frugal.db")).unwrap();
    assert_eq!(place.store().list().unwrap(), std::slice::from_ref(&model));
    // The card travels: a copy of the folder in another home is a model there.
    let other = Place::new();
    let to = other.home().join("models/o/n+Q4_K_M");
    fs::create_dir_all(&to).unwrap();
    for entry in fs::read_dir(place.home().join("models/o/n+Q4_K_M")).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name() != "model.safetensors" {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
    assert_eq!(other.store().list().unwrap(), []);
    fs::write(to.join("model.safetensors"), vec![7; 5000]).unwrap();
    assert_eq!(other.store().list().unwrap(), [model]);
    assert_eq!(other.differences("o/n:Q4_K_M"), Vec::<String>::new());
}

#[test]
fn a_card_cannot_name_files_elsewhere() {
    let place = Place::new();
    place.add("m");
    let path = place.home().join("models/m").join(CARD);
    let card = fs::read_to_string(&path).unwrap();
    fs::write(
        &path,
        card.replace("model.safetensors", "../../../etc/passwd"),
    )
    .unwrap();
    fs::remove_file(place.home().join("frugal.db")).unwrap();
    assert_eq!(place.store().list().unwrap(), []);
}

#[test]
fn one_process_at_a_time_builds_a_model() {
    let place = Place::new();
    let store = place.store();
    let name = "o/m".parse().unwrap();
    let held = incoming::Incoming::open(&store.root, &name).unwrap();
    let error = place
        .import(&place.source("x"), Some("o/m"), Take::Copy)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "o/m is being fetched or imported by another process"
    );
    fs::write(
        held.folder().join("model.safetensors.0123.partial"),
        vec![0; 99],
    )
    .unwrap();
    drop(held);
    let expected = Unfinished {
        name: "o/m".into(),
        bytes: 99,
    };
    assert_eq!(store.unfinished().unwrap(), [expected]);
    assert_eq!(store.list().unwrap(), []);
    store.remove("o/m").unwrap();
    assert_eq!(store.unfinished().unwrap(), []);
    place.add("o/m");
}

#[test]
fn the_ledger_of_an_older_program_gets_the_models_tables() {
    let place = Place::new();
    fs::create_dir_all(place.home()).unwrap();
    let ledger = crate::ledger::Ledger::open(&place.home()).unwrap();
    let (path, database) = ledger.into_parts();
    // As version 1 left it.
    database
        .execute_batch("DROP TABLE model_files; DROP TABLE models; PRAGMA user_version = 1;")
        .unwrap();
    drop(database);
    let model = place.add("m");
    assert_eq!(place.store().list().unwrap(), [model]);
    assert!(
        crate::ledger::Ledger::open(path.parent().unwrap())
            .unwrap()
            .runs()
            .unwrap()
            .is_empty()
    );
}
