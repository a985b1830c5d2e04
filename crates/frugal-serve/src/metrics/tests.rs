use super::*;
use crate::answer::{Detail, Finish, Said, Usage};
use crate::wire::error::Kind;

const OF: Of<'_> = Of {
    route: "/v1/chat/completions",
    model: "r1-tiny",
    key: "ada",
};

/// Lines of these families, without comments.
fn lines(metrics: &Metrics, families: &[&str]) -> String {
    let text = metrics.render(&[]);
    let is_wanted = |line: &&str| families.iter().any(|family| line.starts_with(family));
    text.lines()
        .filter(is_wanted)
        .collect::<Vec<_>>()
        .join("\n")
}

fn answer() -> Said {
    Said::Answer {
        index: 0,
        text: "a".into(),
        tokens: Vec::new(),
    }
}

fn usage() -> Usage {
    Usage {
        prompt_tokens: 10,
        cached_tokens: 4,
        completion_tokens: 5,
        reasoning_tokens: 2,
        flops: 1e9,
        core_seconds: 0.5,
        joules: 4.0,
        joules_are: "estimated",
        money: 0.25,
        currency: "EUR".into(),
        ..Usage::default()
    }
}

#[test]
fn a_request_is_seen_from_arrival_to_end() {
    let metrics = Arc::new(Metrics::new("1.0", 0));
    let mut watch = metrics.begin(OF, 100.0);
    watch.left_queue(100.0625);
    let thinking = Said::Thinking {
        index: 0,
        text: "t".into(),
        tokens: Vec::new(),
    };
    watch.said(&thinking, 100.125);
    watch.said(&answer(), 101.0);
    watch.said(&answer(), 102.0);
    let ended = Said::Ended {
        index: 0,
        finish: Finish::Stop,
        detail: Detail {
            thought_closed: Some("budget"),
            ..Detail::default()
        },
    };
    watch.said(&ended, 102.125);
    watch.said(&Said::Done(Box::new(usage())), 102.125);
    watch.took(&usage());
    drop(watch);
    let families = [
        "frugal_time",
        "frugal_request_time",
        "frugal_e2e",
        "frugal_request_queue",
    ];
    let sums = lines(&metrics, &families);
    let sums = sums.lines().filter(|line| !line.contains("_bucket"));
    insta::assert_snapshot!(sums.collect::<Vec<_>>().join("\n"), @r##"
        frugal_time_to_first_token_seconds_sum{model_name="r1-tiny"} 0.125
        frugal_time_to_first_token_seconds_count{model_name="r1-tiny"} 1
        frugal_time_to_first_answer_token_seconds_sum{model_name="r1-tiny"} 1
        frugal_time_to_first_answer_token_seconds_count{model_name="r1-tiny"} 1
        frugal_request_time_per_output_token_seconds_sum{model_name="r1-tiny"} 0.5
        frugal_request_time_per_output_token_seconds_count{model_name="r1-tiny"} 1
        frugal_e2e_request_latency_seconds_sum{model_name="r1-tiny"} 2.125
        frugal_e2e_request_latency_seconds_count{model_name="r1-tiny"} 1
        frugal_request_queue_time_seconds_sum{model_name="r1-tiny"} 0.0625
        frugal_request_queue_time_seconds_count{model_name="r1-tiny"} 1
    "##);
    let counters = [
        "frugal_request_success",
        "frugal_thoughts",
        "frugal_prompt_tokens",
        "frugal_generation",
        "frugal_reasoning",
        "frugal_prefix",
        "frugal_key",
        "frugal_energy",
        "frugal_core",
        "frugal_flops",
        "frugal_money",
    ];
    insta::assert_snapshot!(lines(&metrics, &counters), @r##"
        frugal_request_success_total{model_name="r1-tiny",route="/v1/chat/completions",finished_reason="stop"} 1
        frugal_thoughts_closed_total{model_name="r1-tiny",reason="budget"} 1
        frugal_prompt_tokens_total{model_name="r1-tiny"} 10
        frugal_generation_tokens_total{model_name="r1-tiny"} 5
        frugal_reasoning_tokens_total{model_name="r1-tiny"} 2
        frugal_prefix_cache_queries_total{model_name="r1-tiny"} 10
        frugal_prefix_cache_hits_total{model_name="r1-tiny"} 4
        frugal_key_tokens_total{key="ada",kind="generation"} 5
        frugal_key_tokens_total{key="ada",kind="prompt"} 10
        frugal_energy_joules_total{model_name="r1-tiny",method="estimated"} 4
        frugal_core_seconds_total{model_name="r1-tiny"} 0.5
        frugal_flops_total{model_name="r1-tiny"} 1000000000
        frugal_money_total{model_name="r1-tiny",currency="EUR"} 0.25
    "##);
}

#[test]
fn the_text_has_the_form_that_prometheus_reads() {
    let metrics = Arc::new(Metrics::new("1.0", 1_700_000_000));
    let load = Load {
        waiting: 1,
        reading: 2,
        answering: 3,
        pages_in_use: 25,
        preempted: 4,
        drafted: 8,
        accepted: 5,
        spent: crate::engine::Costs::default(),
    };
    let facts = Facts {
        vocabulary: 0,
        positions: 0,
        page_rows: 16,
        max_pages: 100,
        page_bytes: 0,
        weight_bytes: 7,
        flops_per_token: 0.0,
        flops_per_key: 0.0,
        share_of_choice: 0.0,
    };
    metrics.families.queue.observe(&["m"], 0.0025);
    metrics.families.queue.observe(&["m"], 5000.0);
    let name = "a\\b\"c\nd\te";
    let text = metrics.render(&[Serving { name, load, facts }]);
    let parts = [
        "cache_usage",
        "running",
        "waiting",
        "preempt",
        "build",
        "start",
        r#"queue_time_seconds_bucket{model_name="m",le="0.00"#,
        "Inf",
    ];
    let some = text
        .lines()
        .filter(|line| parts.iter().any(|part| line.contains(part)));
    insta::assert_snapshot!(some.collect::<Vec<_>>().join("\n"), @r##"
        frugal_request_queue_time_seconds_bucket{model_name="m",le="0.001"} 0
        frugal_request_queue_time_seconds_bucket{model_name="m",le="0.0025"} 1
        frugal_request_queue_time_seconds_bucket{model_name="m",le="0.005"} 1
        frugal_request_queue_time_seconds_bucket{model_name="m",le="+Inf"} 2
        # HELP frugal_num_requests_running Requests whose prompts are read and answers under way.
        # TYPE frugal_num_requests_running gauge
        frugal_num_requests_running{model_name="a\\b\"c\nd e"} 5
        # HELP frugal_num_requests_waiting Requests that have not begun.
        # TYPE frugal_num_requests_waiting gauge
        frugal_num_requests_waiting{model_name="a\\b\"c\nd e"} 1
        # HELP frugal_kv_cache_usage_perc Share of the cache's pages in use, 0 to 1.
        # TYPE frugal_kv_cache_usage_perc gauge
        frugal_kv_cache_usage_perc{model_name="a\\b\"c\nd e"} 0.25
        # HELP frugal_num_preemptions_total Answers put back for want of pages since the model was loaded.
        # TYPE frugal_num_preemptions_total counter
        frugal_num_preemptions_total{model_name="a\\b\"c\nd e"} 4
        # HELP frugal_build_info What runs here.
        # TYPE frugal_build_info gauge
        frugal_build_info{version="1.0"} 1
        # HELP process_start_time_seconds Start, in seconds since 1970.
        # TYPE process_start_time_seconds gauge
        process_start_time_seconds 1700000000
    "##);
    // Every family says its type once, and every line ends in a number.
    let mut heads = BTreeSet::new();
    for line in text.lines() {
        match line.strip_prefix("# TYPE ") {
            Some(head) => assert!(heads.insert(head), "{head} twice"),
            None if line.starts_with('#') => {}
            None => {
                let (_, value) = line.rsplit_once(' ').unwrap();
                assert!(value == "+Inf" || value.parse::<f64>().is_ok(), "{line}");
            }
        }
    }
    assert!(text.ends_with('\n'));
}

#[test]
fn clients_that_leave_and_requests_that_fail_are_counted_once() {
    let metrics = Arc::new(Metrics::new("1.0", 0));
    let mut left = metrics.begin(OF, 0.0);
    left.said(&answer(), 1.0);
    left.took(&usage());
    drop(left);
    let mut failed = metrics.begin(OF, 0.0);
    failed.said(
        &Said::Failed(Fault::new(Kind::Internal, "the model stopped")),
        1.0,
    );
    drop(failed);
    metrics.refused("/v1/models", &Fault::new(Kind::Authentication, "x"));
    metrics.refused("/v1/models", &Fault::new(Kind::Invalid, "x"));
    metrics.refused("/v1/models", &Fault::new(Kind::RateLimit, "x"));
    insta::assert_snapshot!(lines(&metrics, &["frugal_request_success", "frugal_requests", "frugal_generation"]), @r##"
        frugal_request_success_total{model_name="r1-tiny",route="/v1/chat/completions",finished_reason="abort"} 1
        frugal_request_success_total{model_name="r1-tiny",route="/v1/chat/completions",finished_reason="error"} 1
        frugal_requests_refused_total{route="/v1/models",reason="invalid_api_key"} 1
        frugal_requests_refused_total{route="/v1/models",reason="invalid_request"} 1
        frugal_requests_refused_total{route="/v1/models",reason="rate_limit_exceeded"} 1
        frugal_generation_tokens_total{model_name="r1-tiny"} 5
    "##);
}

#[test]
fn names_beyond_the_bound_are_counted_together() {
    let metrics = Arc::new(Metrics::new("1.0", 0));
    for i in 0..3 * MOST_NAMES {
        let (key, model) = (format!("key {i}"), format!("model {i}"));
        let of = Of {
            key: &key,
            model: &model,
            ..OF
        };
        metrics.begin(of, 0.0).took(&usage());
    }
    let tokens = lines(&metrics, &["frugal_key_tokens"]);
    assert_eq!(tokens.lines().count(), 2 * (MOST_NAMES + 1));
    let others = format!(
        r#"frugal_key_tokens_total{{key="other",kind="prompt"}} {}"#,
        10 * 2 * MOST_NAMES
    );
    assert!(tokens.contains(&others), "{tokens}");
    assert_eq!(
        lines(&metrics, &["frugal_flops"]).lines().count(),
        MOST_NAMES + 1
    );
}

#[test]
fn what_is_no_number_changes_no_sum() {
    let metrics = Metrics::new("1.0", 0);
    for amount in [f64::NAN, f64::INFINITY, -1.0, 2.0] {
        metrics.families.flops.add(&["m"], amount);
        metrics.families.queue.observe(&["m"], amount);
    }
    assert_eq!(
        lines(&metrics, &["frugal_flops"]),
        r#"frugal_flops_total{model_name="m"} 2"#
    );
    let queue = lines(&metrics, &["frugal_request_queue_time_seconds_sum"]);
    assert!(queue.ends_with(" 1"), "{queue}");
}
