//! The report as a whole: what it says, that it stands alone, and that hostile text stays text.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "what is missing fails the test that looks for it"
)]

#[path = "../examples/report_demo/data.rs"]
mod data;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use frugal_eval::report::{Report, Standing, render, story};
use serde_json::json;

/// Made once: the intervals of its scores take most of the time.
static REPORT: LazyLock<Report> = LazyLock::new(data::report);

/// The story's sentences with how they stand, thin gaps as spaces.
fn told(report: &Report) -> Vec<(Standing, String)> {
    let plain = |text: String| text.replace('\u{202f}', " ");
    story(report)
        .into_iter()
        .map(|said| (said.standing, plain(said.text)))
        .collect()
}

fn set(report: &mut Report, name: &str, look: data::Look) {
    let found = report
        .checkpoints
        .iter_mut()
        .find(|checkpoint| checkpoint.name == name);
    *found.unwrap() = data::checkpoint(name, look);
}

/// The standing of the sentence that contains `words`.
fn standing(report: &Report, words: &str) -> (Standing, String) {
    let found: Vec<_> = told(report)
        .into_iter()
        .filter(|(_, text)| text.contains(words))
        .collect();
    assert_eq!(found.len(), 1, "sentences with {words}");
    found[0].clone()
}

#[test]
fn a_run_that_came_out_says_so() {
    let report = REPORT.clone();
    let standings: Vec<Standing> = told(&report)
        .iter()
        .map(|(standing, _)| *standing)
        .collect();
    let expected = vec![Standing::AsExpected; 7];
    assert_eq!(standings[..7], expected, "{:#?}", told(&report));
    assert!(
        standings[7..]
            .iter()
            .all(|standing| *standing == Standing::Told)
    );
    let lines: Vec<String> = story(&report).iter().map(ToString::to_string).collect();
    assert!(lines[0].ends_with("[as expected]"), "{}", lines[0]);
}

#[test]
fn what_did_not_come_out_is_said_plainly() {
    use Standing::NotAsExpected;
    let rows: [(&str, data::Look, &str, &str); 8] = [
        (
            "base",
            (0.6, 20.0, 0.4, 2.0, 0.9),
            "Before any reward",
            "Expected was a start between",
        ),
        (
            "base",
            (0.6, 20.0, 0.4, 2.0, 0.9),
            "R1-Zero), brings",
            "the factor was not reached",
        ),
        (
            "r1-zero",
            (0.5, 70.0, 0.9, 7.0, 0.9),
            "R1-Zero), brings",
            "the accuracy was not reached",
        ),
        (
            "r1-zero",
            (0.12, 70.0, 0.9, 7.0, 0.9),
            "R1-Zero), brings",
            "it reached neither",
        ),
        (
            "r1-zero",
            (0.8, 70.0, 0.9, 1.0, 0.9),
            "Nobody asked",
            "went from 1.9 to 1 an answer",
        ),
        (
            "r1",
            (0.6, 66.0, 1.0, 7.0, 0.999),
            "R1 answers",
            "it is below",
        ),
        (
            "r1",
            (0.95, 66.0, 1.0, 7.0, 0.95),
            "R1 answers",
            "form in at least 99 %",
        ),
        (
            "student-rl",
            (0.8, 66.0, 1.0, 7.0, 0.95),
            "same student",
            "it is not better",
        ),
    ];
    for (name, look, words, complaint) in rows {
        let mut report = REPORT.clone();
        set(&mut report, name, look);
        let (standing, text) = standing(&report, words);
        assert_eq!(standing, NotAsExpected, "{text}");
        assert!(text.contains(complaint), "{text}");
    }
}

#[test]
fn a_lead_within_chance_is_not_called_better() {
    let mut report = REPORT.clone();
    set(&mut report, "distilled", (0.705, 60.0, 1.0, 6.0, 0.99));
    set(&mut report, "student-rl", (0.70, 60.0, 1.0, 6.0, 0.99));
    let (standing, text) = standing(&report, "same student");
    assert_eq!(standing, Standing::NotAsExpected, "{text}");
}

#[test]
fn controls_that_were_not_run_are_missed() {
    let mut report = REPORT.clone();
    report.controls = None;
    let (open, text) = standing(&report, "controls were not run");
    assert_eq!(open, Standing::NotMeasured);
    assert!(text.contains("--controls"));
    assert!(!render(&report).contains("elicited more"));
}

#[test]
fn elicited_and_created_are_told_apart() {
    let mut report = REPORT.clone();
    let n = report.checkpoints[1].pass_rates.len();
    let rows = [
        (1, "elicited more than it created"),
        (0, "created a good part"),
    ];
    for (count, verdict) in rows {
        let controls = report.controls.as_mut().unwrap();
        controls.base_curve.as_mut().unwrap().correct = vec![count; n];
        let (_, text) = standing(&report, "every second try");
        assert!(text.contains(verdict), "{text}");
    }
}

#[test]
fn a_control_that_gains_speaks_against_the_reward() {
    let mut report = REPORT.clone();
    let controls = report.controls.as_mut().unwrap();
    controls.random_reward = Some(data::checkpoint(
        "random-reward",
        (0.5, 30.0, 0.5, 2.0, 0.9),
    ));
    controls.continued_sft = Some(data::checkpoint(
        "continued-sft",
        (0.93, 30.0, 0.5, 2.0, 0.9),
    ));
    for words in [
        "random rewards, all else equal",
        "further training without rewards",
    ] {
        assert_eq!(standing(&report, words).0, Standing::NotAsExpected);
    }
}

#[test]
fn hostile_text_stays_text() {
    let evil = "<script>alert(1)</script><img src=x onerror=alert(1)> \" ' & </title></svg>";
    let mut report = REPORT.clone();
    report.about = evil.into();
    report.task = evil.into();
    report.machine = evil.into();
    report.recipe_text = evil.into();
    report.bill.run.recipe = evil.into();
    report.bill.stages[0].0 = evil.into();
    report.bill.stages[0].1.price.currency = evil.into();
    report.bill.total.money = BTreeMap::from([(evil.into(), 1.0)]);
    report.models[0].name = evil.into();
    report.models[0].description = evil.into();
    report.checkpoints[0].name = evil.into();
    report.followed[0].question = evil.into();
    report.followed[0].answers[0].checkpoint = evil.into();
    report.followed[0].answers[0].text = format!("<think> {evil} </think> {evil}");
    report.followed[0].answers[1].text = evil.into();
    report.self_check_words = vec!["<script>alert(1)</script><img".into()];
    for line in &mut report.journal[..900] {
        line["stage"] = json!(evil);
        line["kind"] = json!(evil);
    }
    let page = render(&report);
    assert!(
        !page.contains("<script") && !page.contains("<img"),
        "markup got through"
    );
    assert!(page.contains("&lt;script&gt;"));
    check_nesting(&page);
}

#[test]
fn the_page_stands_alone() {
    let page = render(&REPORT);
    for foreign in [
        "http:", "https:", "//", "src=", "href=", "url(", "@import", "<script", "<link",
    ] {
        assert!(!page.contains(foreign), "{foreign} in the page");
    }
    assert!(!page.contains("NaN") && !page.contains(">inf"));
    assert!(page.len() < 1_000_000, "{} bytes", page.len());
    check_nesting(&page);
    assert_eq!(page, render(&REPORT), "the same report gives the same page");
}

#[test]
fn every_picture_is_told_in_words() {
    let page = render(&REPORT);
    let pictures: Vec<&str> = page.split("<svg").skip(1).collect();
    assert!(pictures.len() > 60, "{}", pictures.len());
    for picture in pictures {
        assert!(picture.contains("role=\"img\" aria-label=\"") && picture.contains("<title>"));
    }
    for title in [
        "Loss",
        "Thinking length",
        "Entropy",
        "Groups without signal",
        "KL",
        "Speed",
    ] {
        assert!(page.contains(&format!("<b>{title}")), "{title}");
    }
}

#[test]
fn a_run_with_nothing_to_show_is_still_a_page() {
    let mut report = REPORT.clone();
    report.journal = vec![
        json!(3),
        json!({"stage": "base"}),
        json!({"stage": "base", "step": 0}),
    ];
    report.timings.clear();
    report.checkpoints.clear();
    report.followed.clear();
    report.controls = None;
    report.models.clear();
    report.bill.stages.clear();
    report.bill.total = frugal_run::ledger::Total::default();
    report.home = None;
    assert!(story(&report).is_empty());
    let page = render(&report);
    assert!(page.contains("r1-tiny"));
    check_nesting(&page);
}

#[test]
fn numbers_that_are_none_do_not_reach_the_curves() {
    let mut report = REPORT.clone();
    for line in &mut report.journal {
        line["entropy"] = json!(null);
        line["loss"] = json!("high");
        line["mtp_loss"] = json!({});
        line["expert_load"] = json!([[], ["a"], [0.5, 0.5]]);
    }
    let page = render(&report);
    assert!(!page.contains("<b>Entropy") && !page.contains("<b>Loss"));
    check_nesting(&page);
}

/// Every element that is opened is closed, in order.
fn check_nesting(page: &str) {
    let mut open: Vec<&str> = vec![];
    let body = page.split_once("</style>").unwrap().1;
    let mut rest = body;
    open.push("html");
    open.push("head");
    while let Some((_, after)) = rest.split_once('<') {
        let (tag, after) = after.split_once('>').unwrap();
        rest = after;
        let name = tag
            .trim_start_matches('/')
            .split_whitespace()
            .next()
            .unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "</{name}> closes another element");
        } else if !["meta", "br"].contains(&name) {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "left open: {open:?}");
}
