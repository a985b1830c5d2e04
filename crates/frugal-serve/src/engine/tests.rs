//! The engine on tiny models, over the plain back-end.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use frugal_core::backend::{KeyBits, Sampling};
use frugal_core::reference::Reference;
use frugal_model::cache::{CacheKind, CacheSettings, SequenceId};
use frugal_model::config::ModelConfig;
use frugal_model::generate::Lookup;
use frugal_text::reasoning::{Markup, Start};
use proptest::prelude::*;

use super::loaded::{Loaded, Memory};
use super::*;
use crate::steer::{Rules, Steering, Thoughts, Watch, Weights};

fn folder(name: &str) -> PathBuf {
    let goldens = "../frugal-model/tests/golden";
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join(goldens)
        .join(name)
}

fn config_of(name: &str) -> ModelConfig {
    let text = std::fs::read_to_string(folder(name).join("config.json")).unwrap();
    ModelConfig::from_json(&text).unwrap()
}

pub(super) fn config() -> ModelConfig {
    config_of("qwen2")
}

/// A golden model with so many pages of four tokens.
fn loaded(name: &str, max_pages: usize) -> Loaded<Reference> {
    let config = config_of(name);
    let weights = std::fs::read(folder(name).join("model.safetensors")).unwrap();
    let files = [weights.into()];
    let model = frugal_model::checkpoint::load(&Reference, &config, &files, 64).unwrap();
    let memory = Memory {
        cache: CacheSettings {
            kind: CacheKind::for_company(&config),
            page_rows: 4,
            max_pages,
            bits: KeyBits::AsProducts,
        },
        page_bytes: 1,
        weight_bytes: 1,
    };
    Loaded::new(Arc::new(Reference), model, memory).unwrap()
}

const SETTINGS: EngineSettings = EngineSettings {
    max_sequences: 6,
    prefill_rows: 7,
    max_waiting: 100,
    threads: 1,
    drafting: Some(Lookup::USUAL),
};

fn engine(name: &str, max_pages: usize, settings: EngineSettings) -> Engine {
    Engine::start(Box::new(loaded(name, max_pages)), settings).unwrap()
}

fn job(prompt: &[u32], n: usize, seed: u64) -> Job {
    Job {
        prompt: Arc::from(prompt),
        steering: (0..n).map(|_| Steering::default()).collect(),
        max_tokens: 12,
        sampling: Sampling::PLAIN,
        seed,
        stop: Arc::from([7, 9]),
        likeliest: Some(2),
        prompt_likeliest: None,
        owner: seed % 3,
        space: 0,
    }
}

/// What came of a job.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    cached: usize,
    prompt: Vec<Drawn>,
    samples: Vec<(Vec<Drawn>, Option<End>)>,
    costs: Costs,
}

fn wait(mut asked: Asked) -> Outcome {
    let mut outcome = Outcome::default();
    while let Some(event) = asked.events.blocking_recv() {
        match event {
            Event::Started => {}
            Event::Begun { cached, prompt } => {
                outcome.cached = cached;
                outcome.prompt = prompt;
            }
            Event::Token(token) => {
                let n = outcome.samples.len().max(token.sample + 1);
                outcome.samples.resize(n, (Vec::new(), None));
                outcome.samples[token.sample].0.push(token.drawn);
            }
            Event::Ended { sample, why, costs } => {
                let n = outcome.samples.len().max(sample + 1);
                outcome.samples.resize(n, (Vec::new(), None));
                outcome.samples[sample].1 = Some(why);
                outcome.costs.add(&costs);
            }
            Event::Failed { why } => panic!("{why}"),
        }
    }
    outcome
}

/// Alone, and token by token.
fn alone(name: &str, job: Job) -> Outcome {
    let settings = EngineSettings {
        drafting: None,
        ..SETTINGS
    };
    let engine = engine(name, 100, settings);
    wait(engine.handle().unwrap().ask(job).unwrap())
}

fn settle(handle: &Handle, is_settled: impl Fn(Load) -> bool) {
    for _ in 0..2000 {
        if is_settled(handle.load()) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    panic!("never settled: {:?}", handle.load());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    /// Company, prompts kept from before, the size of parts, being put back for want of pages and drafts:
    /// none of it changes a token or a log-probability.
    #[test]
    fn an_answer_depends_on_its_own_request_alone(
        jobs in proptest::collection::vec(
            (proptest::collection::vec(0_u32..2, 1..12), 1_usize..4, 0_u64..5), 1..7),
        name in prop_oneof![Just("deepseek_v3"), Just("qwen2")],
        max_pages in 16_usize..40,
        prefill_rows in 1_usize..12,
    ) {
        let settings = EngineSettings { prefill_rows, ..SETTINGS };
        let engine = engine(name, max_pages, settings);
        let handle = engine.handle().unwrap();
        let asked: Vec<_> = jobs.iter()
            .map(|(prompt, n, seed)| handle.ask(job(prompt, *n, *seed)).unwrap())
            .collect();
        for ((prompt, n, seed), asked) in jobs.iter().zip(asked) {
            let outcome = wait(asked);
            prop_assert_eq!(outcome.samples, alone(name, job(prompt, *n, *seed)).samples);
        }
    }
}

/// What a job comes to with drafts, having been compared with what it comes to without; and how many
/// were right of how many.
fn with_drafts(make: impl Fn() -> Job) -> (Outcome, [usize; 2]) {
    let engine = engine("qwen2", 100, SETTINGS);
    let handle = engine.handle().unwrap();
    let outcome = wait(handle.ask(make()).unwrap());
    let plain = alone("qwen2", make());
    assert_eq!(outcome.samples, plain.samples);
    let load = handle.load();
    assert_eq!(outcome.costs.answer_rows, plain.costs.answer_rows);
    // Drafts in vain were spent on the answer all the same.
    assert!((outcome.costs.flops / load.spent.flops - 1.0).abs() < 1e-9);
    let is_dearer = outcome.costs.flops > plain.costs.flops * (1.0 + 1e-9);
    assert_eq!(is_dearer, load.drafted > load.accepted);
    (outcome, [load.accepted, load.drafted])
}

/// A prompt that the greedy model goes on repeating.
fn repeating() -> Job {
    Job {
        max_tokens: 40,
        sampling: Sampling::GREEDY,
        stop: Arc::from([]),
        ..job(&[1, 2, 3, 4, 1, 2, 3, 4, 1, 2], 2, 0)
    }
}

#[test]
fn what_repeats_itself_is_drafted_and_the_same() {
    let (outcome, [right, all]) = with_drafts(repeating);
    assert!(right > 20 && right < all, "{right} of {all}");
    assert_eq!(outcome.samples[0].0.len(), 40);
    // A drafted token may be the end.
    let last = outcome.samples[0].0[30].id;
    let stopped = || Job {
        stop: Arc::from([last]),
        ..repeating()
    };
    let (outcome, _) = with_drafts(stopped);
    assert_eq!(outcome.samples[0].1, Some(End::Stop(last)));
}

#[test]
fn a_thought_that_is_cut_off_is_cut_off_at_the_same_token() {
    let thoughts = |budget| Thoughts {
        markup: Markup {
            think: 60,
            end_think: 61,
            eos: 62,
        },
        start: Start::Thinking,
        budget: Some(budget),
        after: vec![1, 2],
        ends: vec![62],
        watch: Watch::Nothing,
    };
    for budget in 30..36 {
        let rules = Rules {
            thoughts: Some(thoughts(budget)),
            ..Rules::NONE
        };
        let thinking = || Job {
            steering: rules.steer(&[], 2),
            ..repeating()
        };
        let (outcome, [right, _]) = with_drafts(thinking);
        let mut ids = outcome.samples[0].0.iter().map(|drawn| drawn.id);
        let end = ids.position(|id| id == 61);
        assert!(
            end.is_some_and(|end| (14..=budget).contains(&end)),
            "{end:?}"
        );
        assert!(right > 0);
    }
}

#[test]
fn what_is_steered_is_not_drafted() {
    let (outcome, [right, _]) = with_drafts(repeating);
    assert!(right > 0);
    let often = outcome.samples[0].0[39].id;
    // From its first token on the penalty has something to act on.
    let weights = Weights {
        frequency: 0.1,
        ..Weights::NONE
    };
    let rules = Rules {
        weights,
        ..Rules::NONE
    };
    let steered = || Job {
        steering: rules.steer(&[often], 2),
        ..repeating()
    };
    let (_, [_, all]) = with_drafts(steered);
    assert_eq!(all, 0);
}

#[test]
fn being_put_back_happens_and_changes_nothing() {
    let engine = engine("qwen2", 17, SETTINGS);
    let handle = engine.handle().unwrap();
    let jobs = || {
        (0..6).map(|seed| Job {
            max_tokens: 30,
            stop: Arc::from([]),
            ..job(&[1, 2, 3], 1, seed)
        })
    };
    let asked: Vec<_> = jobs().map(|job| handle.ask(job).unwrap()).collect();
    let outcomes: Vec<_> = asked.into_iter().map(wait).collect();
    assert!(handle.load().preempted > 0);
    let mut billed = Costs::default();
    for (outcome, job) in outcomes.into_iter().zip(jobs()) {
        let alone = alone("qwen2", job);
        assert_eq!(outcome.samples, alone.samples);
        // Nobody pays for what was computed again.
        assert_eq!(outcome.costs.answer_rows, alone.costs.answer_rows);
        assert!(outcome.costs.prompt_rows <= alone.costs.prompt_rows);
        billed.add(&outcome.costs);
    }
    let spent = handle.load().spent;
    assert!(spent.answer_rows > billed.answer_rows && spent.flops > billed.flops);
}

#[test]
fn who_answers_is_not_lost_to_a_prompt_that_is_read_beside_it() {
    let settings = EngineSettings {
        prefill_rows: 1,
        ..SETTINGS
    };
    let engine = engine("qwen2", 10, settings);
    let handle = engine.handle().unwrap();
    let prompt: Vec<u32> = (10..34).collect();
    let jobs = || {
        let answering = Job {
            max_tokens: 30,
            ..job(&[1, 2, 3], 1, 0)
        };
        [answering, job(&prompt, 1, 1)].map(|job| Job {
            stop: Arc::from([]),
            ..job
        })
    };
    let asked = jobs().map(|job| handle.ask(job).unwrap());
    let outcomes = asked.map(wait);
    assert!(handle.load().preempted > 0);
    for (outcome, job) in outcomes.into_iter().zip(jobs()) {
        assert_eq!(outcome.samples, alone("qwen2", job).samples);
    }
}

#[test]
fn a_prompt_that_was_read_is_found_again() {
    let engine = engine("deepseek_v3", 100, SETTINGS);
    let handle = engine.handle().unwrap();
    let prompt: Vec<u32> = (10..30).collect();
    let first = wait(handle.ask(job(&prompt, 2, 1)).unwrap());
    assert_eq!(first.cached, 0);
    assert_eq!(first.costs.prompt_rows, 20);
    let again = wait(handle.ask(job(&prompt, 2, 1)).unwrap());
    assert_eq!((again.cached, again.costs.prompt_rows), (19, 1));
    assert_eq!(first.samples, again.samples);
    let longer = [&prompt[..], &[40, 41]].concat();
    assert_eq!(wait(handle.ask(job(&longer, 1, 1)).unwrap()).cached, 20);
    let other = Job {
        space: 5,
        ..job(&prompt, 1, 1)
    };
    assert_eq!(wait(handle.ask(other).unwrap()).cached, 0);
}

#[test]
fn rows_of_a_prompt_are_shown_with_what_follows_them() {
    let prompt = [3, 4, 5, 6, 8, 10, 11, 12, 13];
    let looking = Job {
        prompt_likeliest: Some(3),
        max_tokens: 0,
        ..job(&prompt, 1, 0)
    };
    let outcome = alone("qwen2", looking);
    assert_eq!(
        outcome
            .prompt
            .iter()
            .map(|drawn| drawn.id)
            .collect::<Vec<_>>(),
        prompt[1..]
    );
    assert!(
        outcome
            .prompt
            .iter()
            .all(|drawn| drawn.likeliest.len() == 3 && drawn.log_prob <= drawn.likeliest[0].1)
    );
    assert_eq!(outcome.samples, [(Vec::new(), Some(End::Length))]);
}

#[test]
fn a_client_that_leaves_frees_its_pages_at_once() {
    let engine = engine("qwen2", 400, SETTINGS);
    let handle = engine.handle().unwrap();
    let endless = Job {
        max_tokens: 50,
        stop: Arc::from([]),
        ..job(&[1, 2], 3, 0)
    };
    let mut asked = handle.ask(endless).unwrap();
    while !matches!(asked.events.blocking_recv().unwrap(), Event::Token(_)) {}
    drop(asked);
    // The prompt's one page is kept. Gauges are of the last round: those before it do not count.
    settle(&handle, |load| {
        load.answering == 0 && load.reading == 0 && load.pages_in_use == 1
    });
}

#[test]
fn an_engine_that_is_full_says_so_beforehand() {
    let settings = EngineSettings {
        max_waiting: 1,
        max_sequences: 1,
        ..SETTINGS
    };
    let engine = engine("qwen2", 100, settings);
    let handle = engine.handle().unwrap();
    assert_eq!(handle.refusal(), None);
    let endless = || Job {
        max_tokens: 80,
        stop: Arc::from([]),
        ..job(&[1, 2], 1, 0)
    };
    let first = handle.ask(endless()).unwrap();
    settle(&handle, |load| load.waiting == 0);
    let second = handle.ask(endless()).unwrap();
    assert_eq!(handle.refusal(), Some(Refusal::Full { waiting: 1 }));
    drop((first, second));
    settle(&handle, |load| load.waiting == 0);
    assert_eq!(handle.refusal(), None);
}

#[test]
fn one_sample_can_end_before_the_others() {
    let engine = engine("qwen2", 400, SETTINGS);
    let handle = engine.handle().unwrap();
    let endless = Job {
        max_tokens: 50,
        stop: Arc::from([]),
        ..job(&[1, 2], 2, 0)
    };
    let asked = handle.ask(endless).unwrap();
    asked.state().end_sample(1);
    let outcome = wait(asked);
    let ends: Vec<_> = outcome.samples.iter().map(|(_, end)| *end).collect();
    assert_eq!(ends, [Some(End::Length), Some(End::Left)]);
    assert_eq!(outcome.samples[0].0.len(), 50);
}

#[test]
fn too_many_that_wait_are_refused() {
    let settings = EngineSettings {
        max_waiting: 2,
        max_sequences: 1,
        ..SETTINGS
    };
    let engine = engine("qwen2", 100, settings);
    let handle = engine.handle().unwrap();
    let slow = || Job {
        max_tokens: 50,
        stop: Arc::from([]),
        ..job(&[1, 2], 1, 0)
    };
    let asked: Vec<_> = (0..20).map(|_| handle.ask(slow())).collect();
    let refused = asked
        .iter()
        .filter(|asked| matches!(asked, Err(Refusal::Full { .. })))
        .count();
    assert!(refused >= 10, "{refused} of 20 refused");
    let served: Vec<_> = asked.into_iter().flatten().map(wait).collect();
    assert!(
        served
            .iter()
            .all(|outcome| outcome.samples[0].1 == Some(End::Length))
    );
    assert_eq!(handle.load().waiting, 0);
}

/// A model that panics or fails on some tokens.
#[derive(Debug)]
struct Faulty {
    inner: Loaded<Reference>,
    steps: Arc<AtomicUsize>,
}

impl TokenModel for Faulty {
    fn facts(&self) -> Facts {
        self.inner.facts()
    }
    fn open(&mut self) -> super::Result<SequenceId> {
        self.inner.open()
    }
    fn fork(&mut self, of: SequenceId, length: usize) -> super::Result<SequenceId> {
        self.inner.fork(of, length)
    }
    fn truncate(&mut self, sequence: SequenceId, length: usize) -> super::Result<()> {
        self.inner.truncate(sequence, length)
    }
    fn free(&mut self, sequence: SequenceId) -> super::Result<()> {
        self.inner.free(sequence)
    }
    fn pages_for(&self, sequence: SequenceId, rows: usize) -> super::Result<usize> {
        self.inner.pages_for(sequence, rows)
    }
    fn vacant_pages(&self) -> usize {
        self.inner.vacant_pages()
    }
    fn step(&mut self, parts: &mut [Part<'_>], rows: Rows) -> super::Result<Vec<Drawn>> {
        self.steps.fetch_add(1, Ordering::Relaxed);
        assert!(!parts.iter().any(|part| part.ids.contains(&13)), "unlucky");
        self.inner.step(parts, rows)
    }
}

#[test]
fn a_fault_in_one_request_is_not_the_others_loss() {
    let steps = Arc::new(AtomicUsize::new(0));
    let model = Faulty {
        inner: loaded("qwen2", 100),
        steps: Arc::clone(&steps),
    };
    let settings = EngineSettings {
        prefill_rows: 64,
        ..SETTINGS
    };
    let engine = Engine::start(Box::new(model), settings).unwrap();
    let handle = engine.handle().unwrap();
    let quiet = |prompt: &[u32]| Job {
        sampling: Sampling::GREEDY,
        max_tokens: 3,
        ..job(prompt, 1, 0)
    };
    let good = [[1, 2, 3], [4, 5, 6]].map(|prompt| handle.ask(quiet(&prompt)).unwrap());
    let mut bad = handle.ask(quiet(&[1, 13])).unwrap();
    let last = std::iter::from_fn(|| bad.events.blocking_recv()).last();
    assert!(matches!(last, Some(Event::Failed { .. })));
    for asked in good {
        assert!(wait(asked).samples[0].1.is_some());
    }
    settle(&handle, |load| load.answering == 0 && load.reading == 0);
    assert!(steps.load(Ordering::Relaxed) > 3);
}

#[test]
fn costs_of_answers_sum_to_what_was_spent() {
    let engine = engine("deepseek_v3", 100, SETTINGS);
    let handle = engine.handle().unwrap();
    let asked: Vec<_> = (0..5)
        .map(|seed| handle.ask(job(&[1, 2, 3, 4], 2, seed)).unwrap())
        .collect();
    let mut sum = Costs::default();
    for asked in asked {
        sum.add(&wait(asked).costs);
    }
    let spent = handle.load().spent;
    assert!((sum.flops - spent.flops).abs() < 1e-6 * spent.flops);
    assert!((sum.core_seconds - spent.core_seconds).abs() < 1e-6 * spent.core_seconds);
    assert_eq!(
        (sum.prompt_rows, sum.answer_rows),
        (spent.prompt_rows, spent.answer_rows)
    );
    assert!(sum.flops > 0.0 && sum.core_seconds > 0.0);
}

#[test]
fn a_stopped_engine_says_so() {
    let engine = engine("qwen2", 100, SETTINGS);
    let handle = engine.handle().unwrap();
    let endless = Job {
        max_tokens: 60,
        stop: Arc::from([]),
        ..job(&[1, 2], 1, 0)
    };
    let mut asked: Vec<_> = (0..30)
        .map(|_| {
            handle
                .ask(Job {
                    steering: vec![Steering::default()],
                    prompt: Arc::from([1, 2]),
                    stop: Arc::from([]),
                    ..job(&[1], 1, 0)
                })
                .unwrap()
        })
        .collect();
    asked.push(handle.ask(endless).unwrap());
    drop(engine);
    let last = asked
        .pop()
        .map(|mut asked| std::iter::from_fn(move || asked.events.blocking_recv()).last());
    assert!(matches!(
        last,
        Some(Some(Event::Failed { .. } | Event::Ended { .. }))
    ));
    assert_eq!(handle.ask(job(&[1], 1, 0)).err(), Some(Refusal::Stopped));
}

#[test]
fn a_step_that_panics_leaves_the_sequences_as_they_were() {
    let mut model = loaded("qwen2", 100);
    let sequence = model.open().unwrap();
    let part = |adjust: Adjust<'static>| Part {
        sequence,
        ids: &[1, 2, 3],
        draft: &[],
        watch: None,
        draws: vec![Draw {
            sampling: Sampling::PLAIN,
            uniform: 0.5,
            adjust: Some(adjust),
            likeliest: None,
        }],
    };
    let vacant = model.vacant_pages();
    let broken = model.step(&mut [part(Box::new(|_| panic!("wanted")))], Rows::OfPrompts);
    assert!(matches!(broken, Err(Error::Panicked)));
    assert_eq!(model.vacant_pages(), vacant);
    let again = model
        .step(&mut [part(Box::new(|_| {}))], Rows::OfPrompts)
        .unwrap();
    let mut fresh = loaded("qwen2", 100);
    fresh.open().unwrap();
    let expected = fresh
        .step(&mut [part(Box::new(|_| {}))], Rows::OfPrompts)
        .unwrap();
    assert_eq!(again, expected);
}
