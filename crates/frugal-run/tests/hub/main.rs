//! Fetching models from a hub that cuts, stalls, lies and loops.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests, which the lints' exceptions for tests do not see"
)]

mod faults;
mod server;
mod trust;

use std::path::Path;
use std::time::Duration;

use frugal_run::hub::{Hub, HubError, Progress, Settings};
use frugal_run::models::{Added, BoxError, Facts, Loader, Model, ModelsError, Pull, Store};
use server::{Reply, Repository, Request, Server};

/// Knows an architecture by its config, and a GGUF file by being there.
struct Plain;

impl Loader for Plain {
    fn accepts(&self, folder: &Path) -> Result<(), BoxError> {
        let config = std::fs::read_to_string(folder.join("config.json"))?;
        if config.contains("Unheard") {
            return Err("expected an architecture that is known, got Unheard".into());
        }
        Ok(())
    }

    fn facts(&self, path: &Path) -> Result<Facts, BoxError> {
        let is_folder = path.is_dir();
        assert!(
            is_folder || path.extension().unwrap() == "gguf",
            "{}",
            path.display()
        );
        Ok(Facts {
            architecture: "Qwen2ForCausalLM".into(),
            parameters: Some(1_777_088_000),
            active_parameters: None,
            format: if is_folder { "BF16" } else { "Q4_K_M" }.into(),
        })
    }
}

/// Bytes that are not all alike.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2) | 1;
    let step = |state: &mut u64| {
        *state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| step(&mut state)).collect()
}

const README: &[u8] = b"---\nlicense: mit\nbase_model: Qwen/Qwen2.5-Math-1.5B\n---\n# Model\n";
const NAME: &str = "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B";
const WEIGHTS: usize = 300_000;

/// A checkpoint as the hub has them, with things beside it that nobody wants.
fn checkpoint() -> Repository {
    let weights = noise(7, WEIGHTS);
    Repository::new(
        NAME,
        &[
            (".gitattributes", b"* text"),
            ("LICENSE", b"MIT License"),
            ("README.md", README),
            ("config.json", br#"{"architectures":["Qwen2ForCausalLM"]}"#),
            ("figures/benchmark.jpg", b"jpg"),
            ("model.safetensors", &weights),
            ("modeling_evil.py", b"import os"),
            ("pytorch_model.bin", b"pickle"),
            ("tokenizer.json", br#"{"version":"1.0"}"#),
        ],
    )
}

/// Short pauses; patience for a machine that does other things too.
fn settings(server: &Server) -> Settings {
    Settings {
        connect: Duration::from_secs(10),
        stall: Duration::from_secs(10),
        attempts: 4,
        pause: Duration::from_millis(1),
        longest_pause: Duration::from_secs(2),
        ..Settings::of(&server.url())
    }
}

struct Home {
    folder: tempfile::TempDir,
}

/// What a pull came to, and the sentences told on the way.
struct Told {
    result: Result<Added, ModelsError>,
    lines: Vec<String>,
}

impl Told {
    fn model(self) -> Model {
        match self.result.unwrap() {
            Added::New(model) => model,
            Added::Already(model) => panic!("{} was there already", model.name),
        }
    }

    fn error(self) -> String {
        self.result.unwrap_err().to_string()
    }

    fn hub_error(self) -> HubError {
        match self.result.unwrap_err() {
            ModelsError::Hub(error) => error,
            other => panic!("{other}"),
        }
    }
}

impl Home {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn store(&self) -> Store {
        Store::open(self.folder.path()).unwrap()
    }

    fn pull(&self, settings: Settings, name: &str) -> Told {
        let hub = Hub::new(settings).unwrap();
        let wanted = name.parse().unwrap();
        let pull = Pull {
            wanted: &wanted,
            name: None,
        };
        let mut lines = Vec::new();
        let mut watch = |progress: &Progress<'_>| {
            lines.push(match progress {
                Progress::Begin { file, have, .. } => format!("begin {file} {have}"),
                Progress::Retry {
                    what,
                    attempt,
                    pause,
                    ..
                } => format!("retry {what} {attempt} {} ms", pause.as_millis()),
                Progress::End { file, bytes } => format!("end {file} {bytes}"),
                _ => return,
            });
        };
        let result = self.store().pull(&hub, pull, &Plain, &mut watch);
        Told { result, lines }
    }

    /// Every file under `models`, those of the store's own use excepted.
    fn files(&self) -> Vec<String> {
        fn walk(folder: &Path, root: &Path, found: &mut Vec<String>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, root, found);
                } else {
                    let name = path.strip_prefix(root).unwrap().to_string_lossy();
                    found.push(name.into_owned());
                }
            }
        }
        let root = self.folder.path().join("models");
        let mut found = Vec::new();
        walk(&root, &root, &mut found);
        found.retain(|name| !name.starts_with(".incoming/.locks/"));
        found.sort();
        found
    }

    /// Nothing is listed, and no file is outside the place where models are built.
    fn expect_nothing(&self) {
        assert_eq!(self.store().list().unwrap(), []);
        let outside = |name: &String| !name.starts_with(".incoming/");
        assert_eq!(self.files().into_iter().find(outside), None);
        let tops = std::fs::read_dir(self.folder.path()).unwrap();
        for top in tops.map(|entry| entry.unwrap().file_name()) {
            let top = top.to_string_lossy().into_owned();
            assert!(top == "models" || top.starts_with("frugal.db"), "{top}");
        }
    }
}

/// An honest server of a repository, except where `fault` says otherwise.
fn serve(
    repository: Repository,
    fault: impl Fn(&Request, usize) -> Option<Reply> + Send + Sync + 'static,
) -> Server {
    let counts = std::sync::Mutex::new(std::collections::BTreeMap::<String, usize>::new());
    Server::start(move |request| {
        let n_before = {
            let mut counts = counts.lock().unwrap();
            let count = counts.entry(request.path.clone()).or_default();
            *count += 1;
            *count - 1
        };
        fault(request, n_before).unwrap_or_else(|| repository.answer(request))
    })
}

fn is_weights(request: &Request) -> bool {
    request.path.ends_with("/model.safetensors")
}

#[test]
fn a_checkpoint_is_fetched_checked_and_recorded() {
    let server = serve(checkpoint(), |_, _| None);
    let home = Home::new();
    let model = home.pull(settings(&server), NAME).model();
    assert_eq!(model.name, NAME);
    assert_eq!(model.licence.as_deref(), Some("mit"));
    assert_eq!(model.base_model.as_deref(), Some("Qwen/Qwen2.5-Math-1.5B"));
    assert_eq!(model.method, None);
    let commit = &checkpoint().commit;
    assert_eq!(model.origin, format!("{}/{NAME}@{commit}", server.url()));
    assert_eq!(home.store().list().unwrap(), std::slice::from_ref(&model));
    let expected = [
        "LICENSE",
        "README.md",
        "config.json",
        "frugal.json",
        "model.safetensors",
        "tokenizer.json",
    ];
    let expected: Vec<String> = expected
        .iter()
        .map(|file| format!("{NAME}/{file}"))
        .collect();
    assert_eq!(home.files(), expected);
    let (found, path) = home
        .store()
        .locate("DeepSeek-R1-Distill-Qwen-1.5B")
        .unwrap();
    assert_eq!(found, model);
    let weights = std::fs::read(path.join("model.safetensors")).unwrap();
    assert_eq!(weights, checkpoint().files["model.safetensors"]);
    assert_eq!(home.store().verify(NAME, &mut |_| {}).unwrap(), []);
    // The config is there before the weights are asked for, and no program or pickle ever is.
    let paths: Vec<String> = server
        .log()
        .into_iter()
        .map(|request| request.path)
        .collect();
    let place = |name: &str| paths.iter().position(|path| path.ends_with(name));
    assert!(place("config.json").unwrap() < place("model.safetensors").unwrap());
    assert_eq!((place(".py"), place(".bin")), (None, None));
    // A second pull asks for the listing and nothing else.
    let before = server.log().len();
    let again = home.pull(settings(&server), NAME).result.unwrap();
    assert_eq!(again, Added::Already(model));
    assert_eq!(server.log().len(), before + 1);
}

#[test]
fn shards_are_those_the_index_names() {
    let index = br#"{"metadata":{"total_size":9},"weight_map":{
        "a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}"#;
    let repository = Repository::new(
        "o/sharded",
        &[
            ("config.json", b"{}"),
            ("consolidated.safetensors", b"another form of the same"),
            ("model-00001-of-00002.safetensors", &noise(1, 1000)),
            ("model-00002-of-00002.safetensors", &noise(2, 2000)),
            ("model.safetensors.index.json", index),
        ],
    );
    let server = serve(repository, |_, _| None);
    let home = Home::new();
    let model = home.pull(settings(&server), "o/sharded@main").model();
    let names: Vec<&str> = model.files.iter().map(|file| file.name.as_str()).collect();
    let expected = [
        "config.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    ];
    assert_eq!(names, expected);
    assert_eq!(server.asked("consolidated.safetensors").len(), 0);
}

#[test]
fn one_gguf_file_has_its_tag_in_the_name() {
    let repository = Repository::new(
        "unsloth/DeepSeek-R1-Distill-Qwen-1.5B-GGUF",
        &[
            ("README.md", README),
            ("DeepSeek-R1-Distill-Qwen-1.5B-Q4_K_M.gguf", &noise(3, 5000)),
            ("DeepSeek-R1-Distill-Qwen-1.5B-Q8_0.gguf", &noise(4, 9000)),
        ],
    );
    let server = serve(repository, |_, _| None);
    let home = Home::new();
    let name = "unsloth/DeepSeek-R1-Distill-Qwen-1.5B-GGUF";
    let error = home.pull(settings(&server), name).error();
    assert!(
        error.contains("expected one GGUF file, got DeepSeek-R1-Distill-Qwen-1.5B-Q4_K_M.gguf, "),
        "{error}"
    );
    let model = home
        .pull(settings(&server), &format!("{name}:q4_k_m"))
        .model();
    assert_eq!(model.name, format!("{name}:Q4_K_M"));
    assert_eq!(model.licence.as_deref(), Some("mit"));
    let (_, path) = home
        .store()
        .locate("DeepSeek-R1-Distill-Qwen-1.5B-GGUF:Q4_K_M")
        .unwrap();
    assert_eq!(std::fs::read(path).unwrap(), noise(3, 5000));
    // Neither the file without its tag nor the model it was made from is this one.
    for other in [name, "DeepSeek-R1-Distill-Qwen-1.5B", "DeepSeek-R1"] {
        let error = home.store().locate(other).unwrap_err();
        assert!(matches!(error, ModelsError::Unknown { .. }), "{error}");
    }
    let model = home
        .pull(settings(&server), &format!("{name}:Q8_0"))
        .model();
    assert_eq!(model.name, format!("{name}:Q8_0"));
    assert_eq!(home.store().list().unwrap().len(), 2);
}

#[test]
fn a_moved_repository_has_the_name_it_has_now() {
    let repository = checkpoint();
    let server = serve(repository.clone(), move |request, _| {
        let is_old = request.path.starts_with("/api/models/old/name/");
        is_old.then(|| Reply::redirect(format!("/api/models/{NAME}/revision/main?blobs=true")))
    });
    let home = Home::new();
    assert_eq!(home.pull(settings(&server), "old/name").model().name, NAME);
}

#[test]
fn files_in_the_cache_of_the_hubs_tools_are_not_fetched_again() {
    let server = serve(checkpoint(), |_, _| None);
    let home = Home::new();
    let cache = tempfile::tempdir().unwrap();
    let folder = format!(
        "models--{}/snapshots/{}",
        NAME.replace('/', "--"),
        checkpoint().commit
    );
    let folder = cache.path().join(folder);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("model.safetensors"), noise(7, WEIGHTS)).unwrap();
    // As long as the right one, but another.
    std::fs::write(folder.join("LICENSE"), "GPL License").unwrap();
    let settings = Settings {
        cache: Some(cache.path().to_owned()),
        ..settings(&server)
    };
    home.pull(settings, NAME).model();
    assert_eq!(server.asked("model.safetensors").len(), 0);
    assert_eq!(server.asked("LICENSE").len(), 1);
    assert_eq!(home.store().verify(NAME, &mut |_| {}).unwrap(), []);
}

#[test]
fn a_model_the_loader_cannot_run_is_refused_before_its_weights() {
    let mut repository = checkpoint();
    let config = br#"{"architectures":["UnheardForCausalLM"]}"#.to_vec();
    repository.files.insert("config.json".into(), config);
    let server = serve(repository, |_, _| None);
    let home = Home::new();
    let error = home.pull(settings(&server), NAME).error();
    assert_eq!(error, format!("{NAME} cannot be loaded"));
    assert_eq!(server.asked("model.safetensors").len(), 0);
    home.expect_nothing();
    assert_eq!(home.files(), Vec::<String>::new());
}

#[test]
fn a_name_that_hides_the_distillation_is_refused() {
    let server = serve(checkpoint(), |_, _| None);
    let home = Home::new();
    let hub = Hub::new(settings(&server)).unwrap();
    let (wanted, name) = (NAME.parse().unwrap(), "DeepSeek-R1".parse().unwrap());
    let pull = Pull {
        wanted: &wanted,
        name: Some(&name),
    };
    let error = home
        .store()
        .pull(&hub, pull, &Plain, &mut |_| {})
        .unwrap_err();
    assert!(matches!(error, ModelsError::Name { .. }), "{error}");
    home.expect_nothing();
}
