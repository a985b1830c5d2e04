use super::settings::is_loopback;
use super::*;
use crate::answer::Limits;
use crate::keys::Entry;

fn problems(text: &str) -> String {
    Config::parse(text).resolve().unwrap_err().to_string()
}

#[test]
fn the_example_says_what_holds_without_it() {
    let example = Config::example();
    let read = Config::parse(&example);
    assert_eq!(read.problems, []);
    assert_eq!(
        read.resolve().unwrap(),
        Config::default().resolve().unwrap()
    );
    // Settings without a default are read, too, as they are shown.
    let is_shown = |line: &&str| line.starts_with('#') && !line.starts_with("# ");
    let n_shown = example.lines().filter(is_shown).count();
    assert_eq!(n_shown, 14, "{example}");
    let whole = example
        .lines()
        .map(|line| if is_shown(&line) { &line[1..] } else { line });
    let whole = Config::parse(&whole.collect::<Vec<_>>().join("\n"));
    assert_eq!(whole.problems, []);
    assert_eq!(whole.models.served.value.len(), 2);
    assert_eq!(whole.models.memory.value, Some(Bytes(12 << 30)));
    for (section, fields) in sections::FIELDS {
        let (_, rest) = example.split_once(&format!("\n[{section}]\n")).unwrap();
        for field in *fields {
            let is_there = [
                format!("\n{field} = "),
                format!("#{field} = "),
                format!("[[{section}.{field}]]"),
            ];
            assert!(
                is_there.iter().any(|text| rest.contains(text)),
                "{section}.{field}"
            );
        }
    }
}

#[test]
fn what_holds_without_a_file_is_safe() {
    let settings = Config::default().resolve().unwrap();
    assert!(settings.server.bind.iter().all(is_loopback));
    assert_eq!(settings.entry, Entry::Anyone);
    assert_eq!(settings.limits, Limits::USUAL);
    assert!(settings.models.whole_store && !settings.server.log_prompts);
    assert_eq!(settings.notes, [""; 0]);
}

#[test]
fn the_example_reads_well() {
    let example = Config::example();
    let start: Vec<&str> = example.lines().take(16).collect();
    insta::assert_snapshot!(start.join("\n"), @r##"
        # The configuration of `frugal serve`: every setting with its default.
        # Lines that begin with `#` and no space show settings that have no default.

        # Where it listens and how it treats connections.
        [server]
        # Addresses it listens on. Anything beyond loopback needs keys.
        bind = ["127.0.0.1:8080"]
        # Names it is reached by, beside `localhost` and its addresses. Requests on loopback for
        # another host are refused: they come from web pages that point their own name here.
        host_names = []
        # The certificate chain and its key, PEM files. Both or none.
        #tls_certificate = "/etc/frugal/cert.pem"
        # See tls_certificate.
        #tls_key = "/etc/frugal/key.pem"
        # Web pages that may ask, as `https://chat.example.org`; `*` is any, where keys are required.
        cors_origins = []
    "##);
    let (_, models) = example.split_once("[models]\n").unwrap();
    let models: Vec<&str> = models.lines().skip(6).take(15).collect();
    insta::assert_snapshot!(models.join("\n"), @r##"
        # Tokens of a sequence at most; as many as a model has positions if not given.
        #context = 32768
        # Whether every model of the store can be asked for by its full name: true, false, or
        # "auto", which is true if none are listed below.
        whole_store = "auto"
        # The models, one such part each, with either a path (a folder or a GGUF file) or a name of
        # the store. Aliases are other names that clients may use; there are none but these.
        #[[models.served]]
        #name = "r1-tiny"
        #path = "runs/r1-tiny"
        #aliases = ["deepseek-chat"]
        #[[models.served]]
        #store = "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"

        # How they are computed.
    "##);
}

#[test]
fn everything_wrong_is_told_with_its_line() {
    let text = r#"
[server]
bnd = ["127.0.0.1:8080"]
bind = ["0.0.0.0:80", "nowhere", 7]
drain_seconds = -1
max_sequences = 3
tls_key = "missing.pem"
cors_origins = ["https://a.example/path"]
[engine]
max_sequences = 0
cache_bits = 7
[keys]
required = "maybe"
[limits]
body_bytes = "12 apples"
n = 5000
[reasoning]
field = "thoughts"
effort_low = 10
[modles]
x = 1
[[models.served]]
name = "a"
[[models.served]]
name = "b"
store = "org/b"
path = "c"
colour = "red"
"#;
    insta::assert_snapshot!(problems(text), @r##"
        the configuration cannot be used:
          line 3: server.bnd: there is no such setting; did you mean `bind`
          line 4: server.bind: expected a text in quotes, got 7
          line 4: server.bind: expected an address and a port as "127.0.0.1:8080", got "nowhere"
          line 5: server.drain_seconds: expected a whole number from 0, got -1
          line 6: server.max_sequences: there is no such setting; did you mean `engine.max_sequences`
          line 7: server.tls_key: expected its certificate beside it, got none
          line 8: server.cors_origins: expected an origin as "https://chat.example.org", without a path, got "https://a.example/path"
          line 10: engine.max_sequences: expected 1 to 4096, got 0
          line 11: engine.cache_bits: expected 8, 16 or 32, got 7
          line 13: keys.required: expected true, false or "auto", got "maybe"
          line 15: limits.body_bytes: expected bytes as a whole number or as "12 GiB", got "12 apples"
          line 16: limits.n: expected 1 to 1024, got 5000
          line 18: reasoning.field: expected "reasoning_content", "reasoning" or "both", got "thoughts"
          line 19: reasoning.effort_low: expected at least 512, as for minimal, got 10
          line 20: modles: there is no such section; did you mean `models`
          line 22: models.served: expected either a path or a store
          line 28: models.served.colour: there is no such setting, expected name, path, store, aliases
    "##);
}

#[test]
fn broken_toml_is_told_once_a_line() {
    let text = "[server]\nbind = [\n\"127.0.0.1:1\"\n]\ndrain_seconds = = 3\nhead_seconds = \"x\"\nbody_seconds = 1\nbody_seconds = 2\n";
    insta::assert_snapshot!(problems(text), @r##"
        the configuration cannot be used:
          line 5: TOML: extra `=`, expected nothing
          line 6: server.head_seconds: expected a whole number from 0, got "x"
          line 8: TOML: duplicate key
    "##);
}

#[test]
fn what_does_not_go_together_is_refused() {
    let rows = [
        (
            "[server]\nbind = ['0.0.0.0:80']\n[keys]\nrequired = false",
            "line 4: keys.required: expected true, as 0.0.0.0:80 is reached from beyond this machine, got false",
        ),
        (
            "[server]\nbind = ['[::]:80']\n[keys]\nrequired = false",
            "as [::]:80 is reached",
        ),
        (
            "[server]\ntls_certificate = 'a'",
            "line 2: server.tls_certificate: expected its key beside it",
        ),
        (
            "[server]\ntls_certificate = '/'\ntls_key = '/nowhere'",
            "line 3: server.tls_key: expected a file, got /nowhere",
        ),
        (
            "[server]\ncors_origins = ['*']",
            "line 2: server.cors_origins: expected named origins",
        ),
        (
            "[server]\nbind = []",
            "expected at least one address, got none",
        ),
        (
            "[server]\nbind = ['localhost:1', '127.0.0.1:1']",
            "got 127.0.0.1:1 again",
        ),
        (
            "[server]\nhost_names = ['http://x']",
            "expected a name without scheme",
        ),
        (
            "[models]\nwhole_store = false",
            "expected true where no model is listed",
        ),
        (
            "[models]\ndefault = 'c'\n[[models.served]]\nstore = 'a'\naliases = ['cc']",
            "no model \"c\" is listed; did you mean `a`",
        ),
        (
            "[[models.served]]\nstore = 'a'\n[[models.served]]\nstore = 'b'\naliases = ['A']",
            "line 3: models.served: expected each name and alias once, got A again",
        ),
        (
            "[[models.served]]\nname = 'a'\npath = '/nowhere/a'",
            "line 1: models.served: expected a folder or a GGUF file, got /nowhere/a",
        ),
        (
            "[[models.served]]\npath = '/'",
            "expected a name for clients",
        ),
        (
            "[reasoning]\neffort_high = 100",
            "expected at least 8192, as for medium, got 100",
        ),
        (
            "[price]\nper_core_hour = nan",
            "expected 0 to 1000000, got NaN",
        ),
        ("[price]\ncurrency = ''", "expected 1 to 8 letters"),
        (
            "bind = 3",
            "bind: there is no such section; did you mean `server.bind`",
        ),
        ("server = 3", "line 1: server: expected a section, got 3"),
    ];
    for (text, expected) in rows {
        let told = problems(text);
        assert!(told.contains(expected), "{told}\n{expected}");
        assert_eq!(
            told.lines().count(),
            1 + usize::from(expected.contains("tls_key: ")) + 1,
            "{told}"
        );
    }
}

#[test]
fn beyond_loopback_keys_are_required_and_the_lack_of_tls_is_told() {
    let settings =
        Config::parse("[server]\nbind = ['127.0.0.1:1', '10.0.0.1:1']\ncors_origins = ['*']");
    let settings = settings.resolve().unwrap();
    assert_eq!(settings.entry, Entry::WithKey);
    assert!(!settings.server.bind.iter().all(is_loopback));
    assert!(
        settings.notes[0].starts_with("10.0.0.1:1 is reached"),
        "{:?}",
        settings.notes
    );
    let mapped = Config::parse("[server]\nbind = ['[::ffff:127.0.0.1]:1', '[::1]:1']");
    assert_eq!(mapped.resolve().unwrap().entry, Entry::Anyone);
}

#[test]
fn flags_win_and_are_named_when_they_are_wrong() {
    let text =
        "[server]\nbind = ['0.0.0.0:1']\n[engine]\nmax_waiting = 0\n[[models.served]]\nstore = 'a'";
    let flags = Flags {
        bind: Some(vec!["localhost:9".into()]),
        max_waiting: Some(7),
        keys_required: Some(true),
        served: Some(vec![Served::by_flag("r1-tiny", Source::Path("/".into()))]),
        aliases: Some(vec![("deepseek-chat".into(), "r1-tiny".into())]),
        default_model: Some("deepseek-chat".into()),
        memory: "1.5 GiB".parse().ok(),
        ..Flags::default()
    };
    let settings = Config::parse(text).with(flags).resolve().unwrap();
    assert_eq!(settings.server.bind, ["127.0.0.1:9".parse().unwrap()]);
    assert_eq!(
        (settings.engine.max_waiting, settings.entry),
        (7, Entry::WithKey)
    );
    assert_eq!(settings.models.default.as_deref(), Some("r1-tiny"));
    assert_eq!(settings.models.aliases["deepseek-chat"], "r1-tiny");
    assert_eq!(settings.models.memory_bytes, Some(3 << 29));
    let wrong = Flags {
        max_sequences: Some(0),
        drain_seconds: Some(1 << 40),
        served: Some(vec![Served::by_flag("a", Source::Path("/nowhere".into()))]),
        aliases: Some(vec![("x".into(), "b".into())]),
        ..Flags::default()
    };
    insta::assert_snapshot!(Config::default().with(wrong).resolve().unwrap_err(), @r##"
        the configuration cannot be used:
          --drain-seconds: expected 0 to 86400, got 1099511627776
          MODEL: expected a folder or a GGUF file, got /nowhere: No such file or directory (os error 2)
          --alias: no model "b" is listed; did you mean `a`
          --max-sequences: expected 1 to 4096, got 0
    "##);
}

#[test]
fn paths_of_a_file_start_from_its_folder() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("frugal.toml");
    for name in ["cert.pem", "key.pem"] {
        std::fs::write(home.path().join(name), "").unwrap();
    }
    let text = "[server]\ntls_certificate = 'cert.pem'\ntls_key = 'key.pem'\n[[models.served]]\nname = 'a'\npath = '.'";
    std::fs::write(&file, text).unwrap();
    let settings = Config::from_file(&file).resolve().unwrap();
    assert_eq!(
        settings.server.tls.unwrap().key,
        home.path().join("key.pem")
    );
    assert!(!settings.models.whole_store);
    let missing = Config::from_file(&home.path().join("none.toml"))
        .resolve()
        .unwrap_err();
    assert!(
        missing.to_string().contains("the file: cannot be read"),
        "{missing}"
    );
    std::fs::write(&file, " ".repeat(2 << 20)).unwrap();
    let large = Config::from_file(&file).resolve().unwrap_err();
    assert!(
        large.to_string().contains("expected at most 1048576 bytes"),
        "{large}"
    );
}

#[test]
fn bytes_are_read_and_written() {
    let rows = [
        ("12 GiB", Some(12 << 30), "12 GiB"),
        ("0.5KiB", Some(512), "512 B"),
        ("16GB", Some(16_000_000_000), "16 GB"),
        ("7", Some(7), "7 B"),
        ("1.1 kB", Some(1100), "1100 B"),
        ("", None, ""),
        ("GiB", None, ""),
        ("-1", None, ""),
        ("1e3", None, ""),
        ("1.2.3", None, ""),
        ("99999999999999999999", None, ""),
        ("18446744073709551615 TiB", None, ""),
    ];
    for (text, expected, written) in rows {
        let read = text.parse::<Bytes>().ok();
        assert_eq!(read, expected.map(Bytes), "{text}");
        if let Some(read) = read {
            assert_eq!(read.to_string(), written);
        }
    }
}

#[test]
fn efforts_are_budgets() {
    let limits = Config::default().resolve().unwrap().limits;
    assert_eq!(limits.efforts, Limits::USUAL.efforts);
    let config = Config::parse("[reasoning]\neffort_low = 1000");
    assert_eq!(config.resolve().unwrap().limits.efforts[1], 1000);
}
