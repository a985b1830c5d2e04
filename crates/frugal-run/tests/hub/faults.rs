//! Connections that break: cut, stalled, refused for a while.

use std::time::Duration;

use frugal_run::hub::{HubError, Settings};

use crate::server::{Reply, Request, ranged};
use crate::{Home, NAME, WEIGHTS, checkpoint, is_weights, noise, serve, settings};

/// The part of the weights that is there between two attempts.
fn partial(home: &Home) -> Vec<u8> {
    let files = home.files();
    let name = files
        .iter()
        .find(|name| name.ends_with(".partial"))
        .unwrap();
    std::fs::read(home.folder.path().join("models").join(name)).unwrap()
}

#[test]
fn a_cut_download_asks_for_the_rest_only() {
    let server = serve(checkpoint(), |request, n_before| {
        let reply = ranged(request, &noise(7, WEIGHTS));
        match (is_weights(request), n_before) {
            (true, 0) => Some(reply.cut_after(100_000)),
            (true, 1) => Some(reply.cut_after(50_000)),
            _ => None,
        }
    });
    let home = Home::new();
    let told = home.pull(settings(&server), NAME);
    let retries: Vec<&String> = told
        .lines
        .iter()
        .filter(|l| l.starts_with("retry"))
        .collect();
    assert_eq!(
        retries,
        [
            "retry model.safetensors 1 1 ms",
            "retry model.safetensors 2 2 ms"
        ]
    );
    told.model();
    let asked = server.asked("model.safetensors");
    let from: Vec<Option<usize>> = asked.iter().map(Request::from).collect();
    assert_eq!(from, [None, Some(100_000), Some(150_000)]);
    // The rest of that version, or all of another.
    let tag = asked[1].header("if-range").unwrap();
    assert!(tag.starts_with('"') && tag.len() == 66, "{tag}");
    assert_eq!(home.store().verify(NAME, &mut |_| {}).unwrap(), []);
}

#[test]
fn a_later_process_goes_on_where_one_was_killed() {
    let server = serve(checkpoint(), |request, n_before| {
        (is_weights(request) && n_before == 0)
            .then(|| ranged(request, &noise(7, WEIGHTS)).cut_after(200_000))
    });
    let home = Home::new();
    let hasty = Settings {
        attempts: 1,
        ..settings(&server)
    };
    let error = home.pull(hasty, NAME).error();
    assert!(
        error.starts_with("gave up after 1 attempts; a later pull goes on"),
        "{error}"
    );
    home.expect_nothing();
    assert_eq!(partial(&home), &noise(7, WEIGHTS)[..200_000]);
    let unfinished = home.store().unfinished().unwrap();
    assert_eq!(unfinished.len(), 1);
    assert_eq!(unfinished[0].name, NAME);
    assert!(unfinished[0].bytes > 200_000);
    let n_before = server.log().len();
    let told = home.pull(settings(&server), NAME);
    assert!(
        told.lines
            .contains(&"begin model.safetensors 200000".to_owned()),
        "{:?}",
        told.lines
    );
    told.model();
    // The listing, and the rest of one file: what was whole is not asked for again.
    let asked = &server.log()[n_before..];
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[1].from(), Some(200_000));
    assert!(asked[1].header("if-range").is_some());
    assert_eq!(home.store().unfinished().unwrap(), []);
    assert!(!home.files().iter().any(|name| name.contains("partial")));
}

#[test]
fn a_server_without_ranges_starts_over_cleanly() {
    let server = serve(checkpoint(), |request, n_before| {
        // Whole, whatever was asked for.
        let reply = Reply::ok(noise(7, WEIGHTS));
        is_weights(request).then(|| match n_before {
            0 => reply.cut_after(123_456),
            _ => reply,
        })
    });
    let home = Home::new();
    home.pull(settings(&server), NAME).model();
    assert_eq!(server.asked("model.safetensors")[1].from(), Some(123_456));
    assert_eq!(home.store().verify(NAME, &mut |_| {}).unwrap(), []);
}

#[test]
fn a_part_that_is_not_the_one_asked_for_is_refused() {
    for range in [
        "bytes 0-299999/300000",
        "bytes 1000-299999/400000",
        "bytes */300000",
        "",
    ] {
        let server = serve(checkpoint(), move |request, n_before| {
            let is_first = n_before == 0;
            is_weights(request).then(|| {
                if is_first {
                    return Reply::ok(noise(7, WEIGHTS)).cut_after(1000);
                }
                let mut reply = Reply::ok(&noise(7, WEIGHTS)[1000..]);
                reply.status = 206;
                reply.with("Content-Range", range)
            })
        });
        let home = Home::new();
        let error = home.pull(settings(&server), NAME).error();
        assert!(
            error.contains("in place of `bytes 1000-299999/300000`"),
            "{error}"
        );
        home.expect_nothing();
    }
}

#[test]
fn wrong_bytes_left_by_an_earlier_process_are_fetched_anew() {
    let server = serve(checkpoint(), |request, n_before| {
        (is_weights(request) && n_before == 0)
            .then(|| ranged(request, &noise(7, WEIGHTS)).cut_after(200_000))
    });
    let home = Home::new();
    let hasty = Settings {
        attempts: 1,
        ..settings(&server)
    };
    home.pull(hasty, NAME).error();
    let files = home.files();
    let name = files
        .iter()
        .find(|name| name.ends_with(".partial"))
        .unwrap();
    let path = home.folder.path().join("models").join(name);
    std::fs::write(path, vec![0; 200_000]).unwrap();
    home.pull(settings(&server), NAME).model();
    let from: Vec<Option<usize>> = server
        .asked("model.safetensors")
        .iter()
        .map(Request::from)
        .collect();
    assert_eq!(from, [None, Some(200_000), None]);
    assert_eq!(home.store().verify(NAME, &mut |_| {}).unwrap(), []);
}

#[test]
fn a_file_damaged_between_two_pulls_is_fetched_anew() {
    let server = serve(checkpoint(), |request, n_before| {
        (is_weights(request) && n_before == 0).then(|| Reply::status(500))
    });
    let home = Home::new();
    let hasty = Settings {
        attempts: 1,
        ..settings(&server)
    };
    home.pull(hasty, NAME).error();
    let config = format!("models/.incoming/{NAME}/config.json");
    std::fs::write(
        home.folder.path().join(config),
        r#"{"architectures":["Qwen3ForCausalLM"]}"#,
    )
    .unwrap();
    home.pull(settings(&server), NAME).model();
    assert_eq!(server.asked("config.json").len(), 2);
    assert_eq!(server.asked("tokenizer.json").len(), 1);
    assert_eq!(home.store().verify(NAME, &mut |_| {}).unwrap(), []);
}

#[test]
fn a_stalled_connection_is_left_and_resumed() {
    let server = serve(checkpoint(), |request, n_before| {
        (is_weights(request) && n_before == 0).then(|| {
            ranged(request, &noise(7, WEIGHTS)).stall_after(40_000, Duration::from_secs(5))
        })
    });
    let home = Home::new();
    let start = std::time::Instant::now();
    let impatient = Settings {
        stall: Duration::from_millis(300),
        ..settings(&server)
    };
    home.pull(impatient, NAME).model();
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(server.asked("model.safetensors")[1].from(), Some(40_000));
}

#[test]
fn a_hub_that_never_answers_is_given_up() {
    let server = serve(checkpoint(), |_, _| {
        std::thread::sleep(Duration::from_secs(3));
        None
    });
    let home = Home::new();
    let hasty = Settings {
        attempts: 2,
        stall: Duration::from_millis(150),
        ..settings(&server)
    };
    let start = std::time::Instant::now();
    let error = home.pull(hasty, NAME).hub_error();
    assert!(
        matches!(error, HubError::GaveUp { attempts: 2, .. }),
        "{error}"
    );
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn nobody_at_the_address_is_said_so() {
    let server = serve(checkpoint(), |_, _| None);
    let gone = settings(&server);
    drop(server);
    let error = Home::new().pull(gone, NAME).error();
    assert!(error.starts_with("gave up after 4 attempts"), "{error}");
    assert!(error.contains("cannot read model deepseek-ai/"), "{error}");
}

#[test]
fn a_busy_hub_is_given_the_time_it_asks_for_within_reason() {
    // A second is the shortest wait that can be asked for.
    for (status, wish, pause) in [(429, "0", "0 ms"), (503, "1", "1000 ms")] {
        let server = serve(checkpoint(), move |request, n_before| {
            let is_busy = is_weights(request) && n_before == 0;
            is_busy.then(|| Reply::status(status).with("Retry-After", wish))
        });
        let told = Home::new().pull(settings(&server), NAME);
        let expected = format!("retry model.safetensors 1 {pause}");
        assert!(told.lines.contains(&expected), "{:?}", told.lines);
        told.model();
    }
    let server = serve(checkpoint(), |_, _| {
        Some(Reply::status(429).with("Retry-After", "3600"))
    });
    let told = Home::new().pull(settings(&server), NAME);
    let error = told.error();
    assert!(
        error.starts_with("the hub asks to wait 3600 s before model"),
        "{error}"
    );
    assert_eq!(server.log().len(), 1);
}

#[test]
fn errors_of_the_server_pass_or_end_the_pull() {
    let server = serve(checkpoint(), |_, n_before| {
        (n_before < 2).then(|| Reply::status(502))
    });
    Home::new().pull(settings(&server), NAME).model();
    let server = serve(checkpoint(), |_, _| Some(Reply::status(500)));
    let error = Home::new().pull(settings(&server), NAME).error();
    assert!(error.starts_with("gave up after 4 attempts"), "{error}");
    assert!(error.ends_with("got status 500"), "{error}");
    assert_eq!(server.log().len(), 4);
    let server = serve(checkpoint(), |_, _| Some(Reply::status(418)));
    let error = Home::new().pull(settings(&server), NAME).error();
    assert!(error.ends_with("got status 418"), "{error}");
    assert_eq!(server.log().len(), 1);
}

#[test]
fn a_refused_range_starts_over() {
    let server = serve(checkpoint(), |request, n_before| {
        is_weights(request).then(|| match n_before {
            0 => ranged(request, &noise(7, WEIGHTS)).cut_after(5000),
            1 => Reply::status(416),
            _ => ranged(request, &noise(7, WEIGHTS)),
        })
    });
    let home = Home::new();
    home.pull(settings(&server), NAME).model();
    let last = server.asked("model.safetensors").pop().unwrap();
    assert_eq!(last.from(), None);
}
