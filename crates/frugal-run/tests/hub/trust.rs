//! Hubs that lie, refuse, and send elsewhere.

use frugal_run::hub::{HubError, Settings};
use frugal_run::models::ModelsError;

use crate::server::{Reply, Request, Server, ranged};
use crate::{Home, NAME, WEIGHTS, checkpoint, is_weights, noise, serve, settings};

/// What a server answers, and a part of the sentence that comes of it.
type Case<T> = (fn(T) -> Reply, &'static str);

fn with_token(server: &Server) -> Settings {
    Settings {
        token: Some("hf_secret".into()),
        ..settings(server)
    }
}

#[test]
fn wrong_bytes_are_removed_and_named() {
    let server = serve(checkpoint(), |request, _| {
        is_weights(request).then(|| Reply::ok(noise(8, WEIGHTS)))
    });
    let home = Home::new();
    let error = home.pull(settings(&server), NAME).error();
    assert!(
        error.starts_with("model.safetensors: expected sha256 "),
        "{error}"
    );
    assert!(error.contains(" as listed, got sha256 "), "{error}");
    assert_eq!(server.asked("model.safetensors").len(), 1);
    home.expect_nothing();
    let left = home.files();
    assert!(
        !left.iter().any(|name| name.contains("safetensors")),
        "{left:?}"
    );
    // Small files go by git's name for them.
    let server = serve(checkpoint(), |request, _| {
        let is_config = request.path.ends_with("/config.json");
        is_config.then(|| Reply::ok(r#"{"architectures":["Qwen3ForCausalLM"]}"#))
    });
    let home = Home::new();
    let error = home.pull(settings(&server), NAME).error();
    assert!(
        error.starts_with("config.json: expected git blob "),
        "{error}"
    );
    home.expect_nothing();
}

#[test]
fn other_lengths_than_listed_are_refused() {
    let cases: [Case<()>; 5] = [
        (|()| Reply::ok(noise(7, WEIGHTS - 1)), "got 299999"),
        (|()| Reply::ok(noise(7, WEIGHTS + 1)), "got 300001"),
        (|()| Reply::ok(noise(7, WEIGHTS + 1)).chunked(), "got more"),
        (|()| Reply::ok(noise(7, 2 * WEIGHTS)).chunked(), "got more"),
        (
            |()| Reply::ok(noise(7, WEIGHTS)).with("Content-Encoding", "gzip"),
            "packed as \"gzip\"",
        ),
    ];
    for (reply, expected) in cases {
        let server = serve(checkpoint(), move |request, _| {
            is_weights(request).then(|| reply(()))
        });
        let home = Home::new();
        let error = home.pull(settings(&server), NAME).error();
        assert!(error.contains("expected 300000 bytes as listed"), "{error}");
        assert!(error.contains(expected), "{error}");
        home.expect_nothing();
        assert!(!home.files().iter().any(|name| name.contains("safetensors")));
    }
    // Fewer in chunks look like a cut, again and again.
    let server = serve(checkpoint(), |request, _| {
        is_weights(request).then(|| Reply::ok(&noise(7, WEIGHTS)[..1000]).chunked())
    });
    let home = Home::new();
    let error = home.pull(settings(&server), NAME).error();
    assert!(error.starts_with("gave up after 4 attempts"), "{error}");
    home.expect_nothing();
}

#[test]
fn what_is_not_there_is_named() {
    let server = serve(checkpoint(), |_, _| None);
    let home = Home::new();
    let error = home.pull(settings(&server), "o/none").error();
    assert_eq!(error, "the hub has no model o/none at revision main");
    let error = home.pull(settings(&server), &format!("{NAME}@v2")).error();
    assert_eq!(error, format!("the hub has no model {NAME} at revision v2"));
    let error = home
        .pull(settings(&server), &format!("{NAME}:Q4_K_M"))
        .error();
    assert!(
        error.contains("expected safetensors or one GGUF file with `Q4_K_M`"),
        "{error}"
    );
    let server = serve(checkpoint(), |request, _| {
        is_weights(request).then(|| Reply::status(404))
    });
    let error = home.pull(settings(&server), NAME).error();
    assert_eq!(error, "the hub has no model.safetensors");
    home.expect_nothing();
}

#[test]
fn a_refusal_says_what_to_do() {
    for status in [401, 403] {
        let server = serve(checkpoint(), move |_, _| Some(Reply::status(status)));
        let home = Home::new();
        let error = home.pull(settings(&server), NAME).error();
        assert!(
            error.starts_with("the hub refuses model deepseek-ai/"),
            "{error}"
        );
        assert!(
            error.contains("set HF_TOKEN to a token that may read it"),
            "{error}"
        );
        let error = home.pull(with_token(&server), NAME).error();
        assert!(
            error.contains("the token in HF_TOKEN may not read it"),
            "{error}"
        );
        assert!(!error.contains("hf_secret"), "{error}");
        assert_eq!(server.log().len(), 2);
        home.expect_nothing();
    }
}

#[test]
fn the_token_stays_at_home() {
    let cdn = Server::start(|request| match request.path.as_str() {
        "/blob" => ranged(request, &noise(7, WEIGHTS)),
        _ => Reply::status(404),
    });
    let to = format!("{}/blob?signature=s", cdn.url());
    let server = serve(checkpoint(), move |request, _| {
        is_weights(request).then(|| Reply::redirect(to.clone()))
    });
    let home = Home::new();
    home.pull(with_token(&server), NAME).model();
    for request in server.log() {
        assert_eq!(request.header("authorization"), Some("Bearer hf_secret"));
    }
    let elsewhere = cdn.log();
    assert_eq!(elsewhere.len(), 1);
    assert_eq!(elsewhere[0].header("authorization"), None);
    assert_eq!(elsewhere[0].query, "signature=s");
    // In no other header either.
    assert!(!format!("{elsewhere:?}").contains("hf_secret"));
}

#[test]
fn a_download_from_elsewhere_resumes_and_renews_its_signature() {
    let cdn = Server::start(|request| match request.query.as_str() {
        "signature=1" => ranged(request, &noise(7, WEIGHTS)).cut_after(70_000),
        "signature=2" => Reply::status(403),
        _ => ranged(request, &noise(7, WEIGHTS)),
    });
    let at = cdn.url();
    let server = serve(checkpoint(), move |request, n_before| {
        is_weights(request)
            .then(|| Reply::redirect(format!("{at}/blob?signature={}", n_before + 1)))
    });
    let home = Home::new();
    home.pull(settings(&server), NAME).model();
    let from: Vec<Option<usize>> = cdn.log().iter().map(Request::from).collect();
    assert_eq!(from, [None, Some(70_000), Some(70_000)]);
}

#[test]
fn redirects_that_lead_nowhere_end() {
    let cases: [Case<usize>; 5] = [
        (|_| Reply::redirect("?again"), "without an address"),
        (
            |_| Reply::redirect(format!("/{NAME}/resolve/x")),
            "in a circle",
        ),
        (|_| Reply::status(302), "without an address"),
        (
            |_| Reply::redirect("file:///etc/passwd"),
            "without an address",
        ),
        (
            |n| Reply::redirect(format!("/{NAME}/resolve/{n}")),
            "more than 8 times",
        ),
    ];
    for (reply, expected) in cases {
        let count = std::sync::atomic::AtomicUsize::new(0);
        let server = serve(checkpoint(), move |request, _| {
            let n = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            request.path.contains("/resolve/").then(|| reply(n))
        });
        let home = Home::new();
        let error = home.pull(settings(&server), NAME).hub_error();
        assert!(matches!(error, HubError::Redirect { .. }), "{error}");
        let error = error.to_string();
        assert!(error.contains(expected), "{error}");
        assert!(server.log().len() <= 10, "{}", server.log().len());
        home.expect_nothing();
    }
    // The listing too.
    let server = serve(checkpoint(), |request, _| {
        Some(Reply::redirect(request.path.clone()))
    });
    let error = Home::new().pull(settings(&server), NAME).error();
    assert!(
        error.contains(" redirects in a circle by way of "),
        "{error}"
    );
}

#[test]
fn a_listing_with_names_that_leave_the_folder_writes_nothing() {
    for name in [
        "../../../escaped",
        "/tmp/escaped",
        "a\\..\\b",
        "x/../../y",
        "nul\u{0}",
        "esc\u{1b}[2J",
    ] {
        let mut listing = checkpoint().listing();
        let files = listing["siblings"].as_array_mut().unwrap();
        let mut file = files.last().unwrap().clone();
        file["rfilename"] = name.into();
        files.push(file);
        let body = listing.to_string();
        let server = serve(checkpoint(), move |request, _| {
            request
                .path
                .starts_with("/api/")
                .then(|| Reply::ok(body.clone()))
        });
        let home = Home::new();
        let error = home.pull(settings(&server), NAME).hub_error();
        assert!(matches!(error, HubError::Listing { .. }), "{error}");
        assert!(!error.to_string().contains('\u{1b}'), "{error}");
        home.expect_nothing();
        assert_eq!(home.files(), Vec::<String>::new());
    }
}

#[test]
fn an_index_cannot_name_files_outside() {
    let mut repository = checkpoint();
    repository.files.insert(
        "model.safetensors.index.json".into(),
        br#"{"weight_map":{"a":"../../../model.safetensors"}}"#.to_vec(),
    );
    let server = serve(repository, |_, _| None);
    let home = Home::new();
    let error = home.pull(settings(&server), NAME).error();
    assert!(
        error.contains("expected plain names of safetensors"),
        "{error}"
    );
    home.expect_nothing();
}

#[test]
fn an_endless_listing_is_not_read() {
    let server = serve(checkpoint(), |request, _| {
        request
            .path
            .starts_with("/api/")
            .then(|| Reply::ok(vec![b' '; (16 << 20) + 1]))
    });
    let error = Home::new().pull(settings(&server), NAME).error();
    assert!(
        error.contains("expected at most 16777216 bytes of model deepseek-ai/"),
        "{error}"
    );
    let server = serve(checkpoint(), |request, _| {
        request
            .path
            .starts_with("/api/")
            .then(|| Reply::ok("<html>sign in</html>"))
    });
    let error = Home::new().pull(settings(&server), NAME).error();
    assert!(error.contains("expected a list of files, got "), "{error}");
}

#[test]
fn what_has_no_room_is_refused_before_it_is_asked_for() {
    let listed = |bytes: u64| {
        let mut listing = checkpoint().listing();
        for file in listing["siblings"].as_array_mut().unwrap() {
            if file["rfilename"] == "model.safetensors" {
                file["size"] = bytes.into();
                file["lfs"]["size"] = bytes.into();
            }
        }
        let body = listing.to_string();
        serve(checkpoint(), move |request, _| {
            request
                .path
                .starts_with("/api/")
                .then(|| Reply::ok(body.clone()))
        })
    };
    for bytes in [1 << 41, 1 << 50, u64::MAX] {
        let server = listed(bytes);
        let home = Home::new();
        let error = home.pull(settings(&server), NAME).hub_error();
        assert!(matches!(error, HubError::Room { .. }), "{error}");
        assert_eq!(server.log().len(), 1);
        home.expect_nothing();
    }
    let server = serve(checkpoint(), |_, _| None);
    let small = Settings {
        most_bytes: 299_999,
        ..settings(&server)
    };
    let error = Home::new().pull(small, NAME).error();
    assert!(
        error.ends_with("expected at most 299999 (the largest model that is fetched)"),
        "{error}"
    );
}

#[test]
fn a_file_without_a_digest_is_not_taken() {
    let mut listing = checkpoint().listing();
    for file in listing["siblings"].as_array_mut().unwrap() {
        file.as_object_mut().unwrap().remove("lfs");
        file.as_object_mut().unwrap().remove("blobId");
    }
    let body = listing.to_string();
    let server = serve(checkpoint(), move |request, _| {
        request
            .path
            .starts_with("/api/")
            .then(|| Reply::ok(body.clone()))
    });
    let home = Home::new();
    let error = home.pull(settings(&server), NAME).error();
    assert!(
        error.contains("expected size and digest of config.json"),
        "{error}"
    );
    home.expect_nothing();
}

#[test]
fn a_small_file_that_is_listed_huge_is_refused() {
    let mut listing = checkpoint().listing();
    for file in listing["siblings"].as_array_mut().unwrap() {
        if file["rfilename"] == "tokenizer.json" {
            file["size"] = (1_u64 << 30).into();
        }
    }
    let body = listing.to_string();
    let server = serve(checkpoint(), move |request, _| {
        request
            .path
            .starts_with("/api/")
            .then(|| Reply::ok(body.clone()))
    });
    let error = Home::new().pull(settings(&server), NAME).error();
    assert!(
        error.contains("bytes of tokenizer.json, got more"),
        "{error}"
    );
    assert_eq!(server.log().len(), 1);
}

#[test]
fn https_means_tls() {
    let server = serve(checkpoint(), |_, _| None);
    let secure = Settings {
        endpoint: server.url().replace("http:", "https:"),
        token: Some("hf_secret".into()),
        ..settings(&server)
    };
    let error = Home::new().pull(secure, NAME).error();
    assert!(error.contains("cannot read model "), "{error}");
    // Nothing that could be read came through, least of all the token.
    assert!(!format!("{:?}", server.log()).contains("hf_secret"));
}

#[test]
fn a_name_that_is_taken_by_another_commit_stays_what_it_is() {
    let server = serve(checkpoint(), |_, _| None);
    let home = Home::new();
    home.pull(settings(&server), NAME).model();
    let mut newer = checkpoint();
    newer.commit = "f".repeat(40);
    let server = serve(newer, |_, _| None);
    let error = home.pull(settings(&server), NAME).result.unwrap_err();
    assert!(matches!(error, ModelsError::Exists { .. }), "{error}");
    assert_eq!(home.store().verify(NAME, &mut |_| {}).unwrap(), []);
}
