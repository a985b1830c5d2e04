//! The doctor itself: against servers that know nothing, no case passes that should not.

use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::net::TcpListener;

use super::*;

/// A server that answers a few first questions as one that works, and then all with the same.
async fn told(body: fn() -> Response) -> Vec<Finding> {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    ASKED.store(0, Ordering::SeqCst);
    let routes = Router::new().fallback(move || async move {
        if ASKED.fetch_add(1, Ordering::SeqCst) == 0 {
            axum::Json(json!({})).into_response()
        } else {
            body()
        }
    });
    tokio::spawn(async move { axum::serve(listener, routes).await });
    let whom = Whom {
        url,
        key: None,
        model: Some("m".into()),
    };
    let subject = Subject::meet(whom).await.unwrap();
    let mut findings = Vec::new();
    let patience = Duration::from_secs(2);
    examine(&subject, &Area::ALL, patience, &mut |it| {
        findings.push(it.clone());
    })
    .await;
    findings
}

fn named(findings: &[Finding], is: fn(&Verdict) -> bool) -> Vec<String> {
    let found = findings.iter().filter(|finding| is(&finding.verdict));
    found
        .map(|it| format!("{}: {}", it.area.name(), it.case))
        .collect()
}

#[tokio::test]
async fn servers_that_know_nothing_pass_nothing() {
    let findings = told(|| axum::Json(json!({})).into_response()).await;
    assert!(findings.len() >= 100, "{}", findings.len());
    let passed = named(&findings, |it| *it == Verdict::Pass);
    // What asks for a success alone.
    insta::assert_snapshot!(passed.join("\n"), @r"
    operation: /health says that it is well
    operation: /livez says that it lives
    operation: /readyz says that it is ready
    ");
    let findings = told(|| StatusCode::NOT_FOUND.into_response()).await;
    let passed = named(&findings, |it| *it == Verdict::Pass);
    assert_eq!(passed, Vec::<String>::new());
    let failed = named(&findings, |it| matches!(it, Verdict::Fail(_)));
    let of_routes = failed
        .iter()
        .filter(|it| !it.starts_with("errors") && !it.starts_with("tools"));
    // Where the chat route is known to be there, or something else than a route is wanted.
    insta::assert_snapshot!(of_routes.cloned().collect::<Vec<_>>().join("\n"), @r"
    models: a model that there is not is 404
    streaming: what is refused is refused before the stream begins
    forms: a schema that cannot be is refused
    forms: a form that is not known is refused
    forms: a schema without a name is refused
    reasoning: an effort that is not known is refused
    connections: a connection answers one request after another
    ");
}

#[test]
fn cases_have_names_of_their_own() {
    let all = Area::ALL.map(|area| (area, cases::of(area)));
    let mut names = std::collections::BTreeSet::new();
    for (area, cases) in &all {
        assert!(!cases.is_empty(), "{}", area.name());
        for case in cases {
            assert!(names.insert((area, case.name)), "{}", case.name);
        }
    }
}
