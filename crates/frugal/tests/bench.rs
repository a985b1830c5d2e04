//! What `frugal bench` says for machines: one line a row, with the rate, its spread, the share of the
//! roofline and the memory. A test takes seconds, since each verb measures the machine before it.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests, which the lints' exceptions for tests do not see"
)]

mod support;

use serde_json::Value;
use support::Place;

/// The lines of a verb, each checked for what all have.
fn rows(place: &Place, unit: &str, arguments: &[&str]) -> Vec<Value> {
    let all = [&["bench"], arguments, &["--json", "--repetitions=1"]].concat();
    let told = place.run(&all);
    let rows: Vec<Value> = told
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(!rows.is_empty(), "{arguments:?}");
    for row in &rows {
        assert_eq!(row["event"], "bench", "{row}");
        assert_eq!(row["what"], arguments[0], "{row}");
        let rate = row[unit].as_f64().unwrap();
        let spread = |end: &str| row["spread"][end].as_f64().unwrap();
        assert!(spread("min") > 0.0 && spread("min") <= rate, "{row}");
        assert!(rate <= spread("max"), "{row}");
        assert_eq!(row[unit], row["spread"]["median"], "{row}");
        assert_eq!(row["repetitions"], 1, "{row}");
        assert!(row["share_of_roofline"].as_f64().unwrap() > 0.0, "{row}");
        assert!(row["isa"].is_string() && row["threads"].as_u64() > Some(0));
        if cfg!(target_os = "linux") {
            assert!(row["peak_memory_bytes"].as_u64().unwrap() > 0, "{row}");
        }
    }
    rows
}

#[test]
fn products_have_a_row_for_each_form_and_direction() {
    let place = Place::new();
    let rows = rows(&place, "gflops", &["gemm", "--size=32x256", "--rows=3"]);
    let has = |key: &str, value: &str| rows.iter().any(|row| row[key] == value);
    for format in [
        "f32 packed",
        "bf16 packed",
        "bf16 kept",
        "fp8",
        "Q8_0",
        "Q4_K",
        "Q4_K answers",
    ] {
        assert!(has("format", format), "{format}");
    }
    for direction in ["forward", "input gradient", "weight gradient"] {
        assert!(has("direction", direction), "{direction}");
    }
    assert!(
        rows.iter()
            .all(|row| row["rows"] == 3 && row["size"] == "32x256")
    );
    // Packed, backward, stored, and blocks for answers.
    assert_eq!(rows.len(), 2 + 2 + 7 + 5);
}

#[test]
fn memory_is_read_by_one_core_and_by_all() {
    let place = Place::new();
    let rows = rows(
        &place,
        "gigabytes_per_second",
        &["bandwidth", "--threads=2"],
    );
    let cores: Vec<_> = rows.iter().map(|row| row["cores"].as_u64()).collect();
    assert_eq!(cores, [Some(1), Some(2)]);
}

#[test]
fn training_says_what_it_needs_beside_what_it_took() {
    let place = Place::new();
    let small = ["--sequences=2", "--length=8", "--steps=1"];
    for subject in [
        &["train", "--shape=r1-tiny"][..],
        &["train", "--model=model", "--f32"],
        &["train", "--config=model/config.json"],
    ] {
        let rows = rows(&place, "tokens_per_second", &[subject, &small].concat());
        let forecast = rows[0]["forecast_memory_bytes"].as_u64().unwrap();
        assert!(forecast > 100_000, "{rows:?}");
    }
    let small = ["--prompts=2", "--samples=2", "--prompt=4", "--tokens=3"];
    let rows = rows(
        &place,
        "samples_per_second",
        &[&["grpo", "--shape=r1-tiny"], &small[..]].concat(),
    );
    assert_eq!(rows[0]["model"], "r1-tiny");
    assert!(rows[0]["forecast_memory_bytes"].as_u64().unwrap() > 100_000);
}

#[test]
fn generation_is_measured_on_files_and_on_shapes_in_any_form() {
    let place = Place::new();
    let unit = "tokens_per_second";
    let decode = ["decode", "--tokens=4", "--streams=2", "--prompt=3"];
    let file = rows(&place, unit, &[&decode[..], &["--model=model"]].concat());
    assert_eq!(file[0]["format"], "bf16");
    assert_eq!(file[0]["streams"], 2);
    let shape = ["--shape=r1-tiny", "--format=q8_0"];
    let shaped = rows(&place, unit, &[&decode[..], &shape].concat());
    assert_eq!(shaped[0]["format"], "Q8_0");
    let prefill = rows(
        &place,
        unit,
        &[&["prefill", "--tokens=9"], &shape[..]].concat(),
    );
    assert_eq!(prefill[0]["tokens"], 9);
    assert!(prefill[0]["forecast_memory_bytes"].as_u64() > Some(100_000));
}

#[test]
fn a_text_is_followed_with_drafts_and_without() {
    let place = Place::new();
    let ids: Vec<u32> = (0..60).map(|i| 5 + i % 4).collect();
    std::fs::write(
        place.path("text.json"),
        serde_json::to_string(&ids).unwrap(),
    )
    .unwrap();
    let rows = rows(
        &place,
        "tokens_per_second",
        &[
            "decode",
            "--shape=r1-tiny",
            "--text=text.json",
            "--draft=lookup",
            "--prompt=20",
            "--tokens=30",
        ],
    );
    let a_step = |draft: &str| {
        let row = rows.iter().find(|row| row["draft"] == draft).unwrap();
        row["tokens_per_step"].as_f64().unwrap()
    };
    // The model never says this text by itself: what is counted are the text's own repeats.
    assert!((a_step("none") - 1.0).abs() < 1e-9);
    assert!(a_step("lookup") > 2.0, "{}", a_step("lookup"));
}

#[test]
fn a_written_shape_is_the_shape_again() {
    let place = Place::new();
    for (out, format) in [("tiny.gguf", "q8_0"), ("tiny", "f32")] {
        place.run(&["bench", "model", "--shape=r1-tiny", "--format", format, out]);
        assert!(place.path(out).exists());
        let model = format!("--model={out}");
        let arguments = ["decode", "--tokens=2", "--prompt=2", &model];
        let rows = rows(&place, "tokens_per_second", &arguments);
        let stored = rows[0]["format"].as_str().unwrap();
        assert!(stored.eq_ignore_ascii_case(format), "{stored}");
    }
    // Others load the folder by its config.
    let config: Value = serde_json::from_slice(&place.bytes("tiny/config.json")).unwrap();
    assert_eq!(config["model_type"], "deepseek_v3");
}

#[test]
fn what_cannot_be_measured_is_said() {
    let place = Place::new();
    for (arguments, reason) in [
        (&["decode"][..], "--shape"),
        (&["decode", "--shape=huge"], "tiny-dense"),
        (&["decode", "--shape=r1-tiny", "--format=q9"], "got q9"),
        (&["train", "--shape=r1-tiny", "--repetitions=0"], "got 0"),
        (&["gemm", "--size=12"], "got 12"),
    ] {
        let told = place.refusal(&[&["bench"], arguments].concat());
        assert!(told.contains(reason), "{arguments:?}: {told}");
    }
}
