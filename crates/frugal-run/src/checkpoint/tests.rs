use super::*;

fn at(step: u64) -> Position {
    Position {
        step,
        journal_bytes: step * 10,
        samples_bytes: step,
    }
}

fn files(step: u64) -> Vec<CheckpointFile<'static>> {
    vec![
        CheckpointFile {
            name: "model.safetensors".into(),
            content: Content::Writer(Box::new(move |out| {
                (0..5_000_u64).try_for_each(|word| out.write_all(&(word ^ step).to_le_bytes()))
            })),
        },
        CheckpointFile {
            name: "rng.json".into(),
            content: Content::Bytes(b"[1,2]".to_vec()),
        },
    ]
}

fn three() -> (tempfile::TempDir, Checkpoints) {
    let home = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints::new(home.path(), 3);
    for step in [10, 20, 30] {
        checkpoints
            .write_step("base", at(step), files(step))
            .unwrap();
    }
    (home, checkpoints)
}

fn flip(path: &Path, byte: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[byte] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn found_step(checkpoints: &Checkpoints) -> (Option<u64>, Vec<String>) {
    let found = checkpoints.latest_good("base").unwrap();
    (
        found
            .checkpoint
            .map(|checkpoint| checkpoint.position().step),
        found.warnings,
    )
}

#[test]
fn what_was_written_is_read() {
    let (_home, checkpoints) = three();
    let found = checkpoints.latest_good("base").unwrap();
    let checkpoint = found.checkpoint.unwrap();
    assert_eq!(checkpoint.position(), at(30));
    assert!(!checkpoint.is_final());
    assert_eq!(
        checkpoint.names().collect::<Vec<_>>(),
        ["model.safetensors", "rng.json"]
    );
    assert_eq!(checkpoint.read("rng.json").unwrap(), b"[1,2]");
    assert_eq!(checkpoint.read("model.safetensors").unwrap().len(), 40_000);
    let error = checkpoint.read("other").unwrap_err().to_string();
    assert!(
        error.ends_with("expected one of model.safetensors, rng.json, got `other`"),
        "{error}"
    );
}

#[test]
fn any_flipped_byte_sends_back_to_the_one_before() {
    let (home, checkpoints) = three();
    let newest = home.path().join("base/step-0000000030");
    for name in ["model.safetensors", "rng.json", MANIFEST] {
        let path = newest.join(name);
        let size = fs::read(&path).unwrap().len();
        for byte in (0..size).step_by((size / 13).max(1)) {
            flip(&path, byte);
            let (step, warnings) = found_step(&checkpoints);
            assert_eq!(step, Some(20), "{name} byte {byte}");
            assert_eq!(warnings.len(), 1);
            assert!(
                warnings[0].contains("step-0000000030 is damaged: "),
                "{warnings:?}"
            );
            assert!(
                warnings[0].ends_with("; the one before it is used"),
                "{warnings:?}"
            );
            flip(&path, byte);
        }
    }
    assert_eq!(found_step(&checkpoints), (Some(30), Vec::new()));
}

#[test]
fn cut_and_missing_files_send_back_too() {
    for damage in 0..5 {
        let (home, checkpoints) = three();
        let newest = home.path().join("base/step-0000000030");
        let cut = |name: &str, bytes: u64| {
            File::options()
                .write(true)
                .open(newest.join(name))
                .unwrap()
                .set_len(bytes)
                .unwrap();
        };
        match damage {
            0 => cut(MANIFEST, 100),
            1 => cut(MANIFEST, 0),
            2 => fs::remove_file(newest.join(MANIFEST)).unwrap(),
            3 => cut("model.safetensors", 39_999),
            _ => fs::remove_file(newest.join("rng.json")).unwrap(),
        }
        let (step, warnings) = found_step(&checkpoints);
        assert_eq!(
            (step, warnings.len()),
            (Some(20), 1),
            "damage {damage}: {warnings:?}"
        );
    }
}

#[test]
fn when_all_are_damaged_the_stage_starts_again_and_says_so() {
    let (home, checkpoints) = three();
    for step in [10, 20, 30] {
        flip(
            &home
                .path()
                .join(format!("base/step-{step:010}/model.safetensors")),
            77,
        );
    }
    let (step, warnings) = found_step(&checkpoints);
    assert_eq!((step, warnings.len()), (None, 3));
    assert!(
        warnings[0].ends_with("the one before it is used"),
        "{warnings:?}"
    );
    assert!(
        warnings[2].ends_with(
            "the bytes of model.safetensors do not match their digest; none is left, so stage \
             `base` starts again"
        ),
        "{warnings:?}"
    );
    assert_eq!(
        Checkpoints::new(home.path(), 2)
            .latest_good("other")
            .unwrap()
            .warnings
            .len(),
        0
    );
}

#[test]
fn a_kill_while_writing_leaves_the_last_one_in_use() {
    let (home, checkpoints) = three();
    // As a kill leaves it: half the files, no manifest, the temporary name.
    let half = home.path().join("base/.tmp-step-0000000040");
    fs::create_dir(&half).unwrap();
    fs::write(half.join("model.safetensors"), b"half").unwrap();
    fs::create_dir(home.path().join("base/.old-step-0000000005")).unwrap();
    assert_eq!(found_step(&checkpoints), (Some(30), Vec::new()));
    checkpoints.write_step("base", at(40), files(40)).unwrap();
    assert_eq!(found_step(&checkpoints), (Some(40), Vec::new()));
    let mut names: Vec<_> = listed(&home.path().join("base"))
        .unwrap()
        .into_iter()
        .map(|p| p.file_name().unwrap().to_owned())
        .collect();
    names.sort();
    assert_eq!(
        names,
        ["step-0000000020", "step-0000000030", "step-0000000040"]
    );
}

#[test]
fn a_failed_write_changes_nothing() {
    let (home, checkpoints) = three();
    let failing = CheckpointFile {
        name: "model.safetensors".into(),
        content: Content::Writer(Box::new(|out| {
            out.write_all(b"part")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        })),
    };
    let error = checkpoints
        .write_step("base", at(40), [failing])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("the disk is full, expected room for it"),
        "{error}"
    );
    assert_eq!(listed(&home.path().join("base")).unwrap().len(), 3);
    assert_eq!(found_step(&checkpoints), (Some(30), Vec::new()));
}

#[test]
fn the_same_step_replaces_a_damaged_one() {
    let (home, checkpoints) = three();
    flip(
        &home.path().join("base/step-0000000030/model.safetensors"),
        5,
    );
    checkpoints.write_step("base", at(30), files(30)).unwrap();
    assert_eq!(found_step(&checkpoints), (Some(30), Vec::new()));
}

#[test]
fn final_checkpoints_are_written_once_and_used_first() {
    let (home, checkpoints) = three();
    assert!(checkpoints.final_of("base").unwrap().is_none());
    checkpoints.write_final("base", at(33), files(33)).unwrap();
    assert!(checkpoints.final_of("base").unwrap().unwrap().is_final());
    assert_eq!(found_step(&checkpoints), (Some(33), Vec::new()));
    let error = checkpoints
        .write_final("base", at(34), files(34))
        .unwrap_err()
        .to_string();
    assert!(
        error.ends_with("expected to write it once, but a good one is there"),
        "{error}"
    );
    flip(&home.path().join("base/final/rng.json"), 1);
    assert!(checkpoints.final_of("base").is_err());
    assert_eq!(found_step(&checkpoints).0, Some(30));
    checkpoints.write_final("base", at(33), files(33)).unwrap();
    assert_eq!(found_step(&checkpoints), (Some(33), Vec::new()));
}

#[test]
fn names_that_leave_the_folder_are_refused() {
    let (_home, checkpoints) = three();
    for name in [
        "",
        "..",
        "../x",
        "a/b",
        ".hidden",
        "a\\b",
        "a\nb",
        MANIFEST,
        &"a".repeat(129),
    ] {
        let file = CheckpointFile {
            name: name.into(),
            content: Content::Bytes(Vec::new()),
        };
        let error = checkpoints.write_step("base", at(40), [file]).unwrap_err();
        assert!(
            matches!(error, StoreError::Refused { .. }),
            "{name}: {error}"
        );
    }
    assert!(checkpoints.latest_good("../base").is_err());
    let twice = files(1).into_iter().chain(files(1));
    assert!(checkpoints.write_step("base", at(40), twice).is_err());
}
