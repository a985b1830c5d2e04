//! A report of made-up numbers that look like a run's.

use std::collections::BTreeMap;

use frugal_core::rng::{Rng, key};
use frugal_eval::evaluate::{PassCurve, Score};
use frugal_eval::report::{
    Checkpoint, Controls, Followed, FollowedAnswer, HomeTotal, ModelLine, Report, Timing,
};
use frugal_eval::stats::{Estimate, bootstrap_mean, pass_at_k, wilson};
use frugal_run::consumption::{EnergyMethod, Used};
use frugal_run::ledger::{Bill, Entry, Outcome, Price, Run, Total, Work};
use serde_json::{Map, Value, json};

/// Few, and few resamples, so that a report is quickly made.
const PROBLEMS: usize = 200;
const RESAMPLES: usize = 200;

/// How a made-up checkpoint answers: accuracy, thinking tokens, think rate, self-checks, form.
pub(crate) type Look = (f64, f64, f64, f64, f64);

/// A checkpoint that looks so.
pub(crate) fn checkpoint(name: &str, look: Look) -> Checkpoint {
    let (accuracy, thinking, think_rate, self_checks, in_form) = look;
    let mut rng = Rng::derive(&[key(name)]);
    let mut counts = Vec::new();
    for _ in 0..PROBLEMS {
        // Some problems are easier than others.
        let ease = f64::from(rng.uniform());
        let chance = accuracy.powf(0.4 + 1.2 * ease);
        counts.push((0..8).filter(|_| f64::from(rng.uniform()) < chance).count());
    }
    let pass_rates: Vec<f64> = counts.iter().map(|count| *count as f64 / 8.0).collect();
    let any: Vec<f64> = counts
        .iter()
        .map(|c| pass_at_k(8, *c, 8).unwrap_or(0.0))
        .collect();
    let count = |test: &dyn Fn(usize) -> bool| counts.iter().filter(|c| test(**c)).count();
    let share = |n| {
        wilson(n, PROBLEMS).unwrap_or(Estimate {
            value: 0.0,
            low: 0.0,
            high: 0.0,
        })
    };
    let mean =
        |scores: &[f64], rng: &mut Rng| bootstrap_mean(scores, RESAMPLES, rng).unwrap_or(share(0));
    let score = Score {
        problems: PROBLEMS,
        pass_at_1: mean(&pass_rates, &mut rng),
        greedy: share(count(&|c| c > 3)),
        pass_at_8: mean(&any, &mut rng),
        majority_at_8: share(count(&|c| c > 2)),
        mean_thinking_tokens: thinking,
        mean_tokens: thinking + 8.0,
        think_rate,
        self_checks,
        in_form,
        consistency: 0.97,
    };
    Checkpoint {
        name: name.into(),
        score,
        pass_rates,
    }
}

struct Course {
    stage: &'static str,
    kind: &'static str,
    steps: u64,
    accuracy: (f64, f64),
    thinking: (f64, f64),
}

const COURSES: &[Course] = &[
    Course {
        stage: "base",
        kind: "pretrain",
        steps: 900,
        accuracy: (0.0, 0.13),
        thinking: (0.0, 19.0),
    },
    Course {
        stage: "r1-zero",
        kind: "grpo",
        steps: 60,
        accuracy: (0.13, 0.88),
        thinking: (19.0, 71.0),
    },
    Course {
        stage: "cold-start",
        kind: "sft",
        steps: 40,
        accuracy: (0.13, 0.55),
        thinking: (19.0, 60.0),
    },
    Course {
        stage: "reasoning-rl",
        kind: "grpo",
        steps: 30,
        accuracy: (0.55, 0.86),
        thinking: (60.0, 68.0),
    },
    Course {
        stage: "sft",
        kind: "sft",
        steps: 120,
        accuracy: (0.13, 0.82),
        thinking: (19.0, 64.0),
    },
    Course {
        stage: "r1",
        kind: "grpo",
        steps: 25,
        accuracy: (0.82, 0.91),
        thinking: (64.0, 66.0),
    },
    Course {
        stage: "student-base",
        kind: "pretrain",
        steps: 700,
        accuracy: (0.0, 0.09),
        thinking: (0.0, 17.0),
    },
    Course {
        stage: "distilled",
        kind: "distill",
        steps: 220,
        accuracy: (0.09, 0.72),
        thinking: (17.0, 62.0),
    },
    Course {
        stage: "student-rl",
        kind: "grpo",
        steps: 90,
        accuracy: (0.09, 0.35),
        thinking: (17.0, 30.0),
    },
];

fn line(course: &Course, step: u64, rng: &mut Rng) -> Value {
    let mut noise = |size: f64| size * f64::from(rng.normal());
    let done = (step + 1) as f64 / course.steps as f64;
    let turn = 1.0 / (1.0 + (-(done - 0.4) * 9.0).exp());
    let between = |(from, to): (f64, f64)| from + (to - from) * turn;
    let mut line = Map::new();
    let mut put = |name: &str, value: Value| line.insert(name.into(), value);
    put("stage", json!(course.stage));
    put("kind", json!(course.kind));
    put("step", json!(step));
    let is_rl = course.kind == "grpo";
    let accuracy = (between(course.accuracy) + noise(0.025)).clamp(0.0, 1.0);
    let thinking = (between(course.thinking) + noise(2.0)).max(0.0);
    if is_rl || (step + 1).is_multiple_of((course.steps / 8).max(1)) {
        put("accuracy", json!(accuracy));
        put(
            "in_form",
            json!((0.93 + 0.06 * turn + noise(0.005)).min(1.0)),
        );
        put("thinking_tokens", json!(thinking));
    }
    if is_rl {
        put("self_checks", json!(thinking / 9.0));
        put("reward", json!(accuracy));
        put("response_tokens", json!(thinking + 8.0));
        put(
            "groups_without_signal",
            json!((0.18 + 0.5 * turn * turn + noise(0.05)).clamp(0.0, 1.0)),
        );
        put("kl", json!(0.09 * turn + noise(0.002).abs()));
        put("clip_fraction", json!(noise(0.001).abs()));
        put("largest_log_ratio", json!(noise(0.004).abs()));
        put(
            "truncated",
            json!((0.05 * (1.0 - turn) + noise(0.003)).max(0.0)),
        );
    } else {
        let loss = 0.62 + 3.4 * (-(done * 14.0)).exp() + noise(0.02);
        put("loss", json!(loss));
        if course.kind == "pretrain" && course.stage == "base" {
            put("mtp_loss", json!(loss * 1.25 + 0.15));
        }
    }
    put("entropy", json!(0.62 - 0.35 * turn + noise(0.01)));
    put("gradient_norm", json!(0.4 + noise(0.08).abs()));
    put("learning_rate", json!(3e-4 * (1.0 - done)));
    if !course.stage.contains("student") && course.kind != "distill" {
        put(
            "max_violation",
            json!(1.6 * (-(done * 6.0)).exp() + 0.2 + noise(0.05).abs()),
        );
        if step.is_multiple_of(10) {
            put("expert_load", load(done, &mut noise));
        }
    }
    Value::Object(line)
}

/// Three layers of eight experts that begin unevenly and end nearly even.
fn load(done: f64, noise: &mut dyn FnMut(f64) -> f64) -> Value {
    let unevenness = 0.8 * (-(done * 5.0)).exp();
    let mut layers = Vec::new();
    for layer in 0..4_u32 {
        let raw: Vec<f64> = (0..8_u32)
            .map(|e| {
                let wave = f64::from((e * 5 + layer * 3) % 8) / 3.5 - 1.0;
                (1.0 + unevenness * wave + noise(0.06)).max(0.0)
            })
            .collect();
        let sum: f64 = raw.iter().sum();
        layers.push(
            raw.into_iter()
                .map(|share| share / sum)
                .collect::<Vec<f64>>(),
        );
    }
    json!(layers)
}

fn entry(course: &Course) -> Entry {
    let is_rl = course.kind == "grpo";
    let seconds = course.steps as f64 * if is_rl { 0.9 } else { 0.06 };
    let trained = course.steps * if is_rl { 17_000 } else { 2_800 };
    let flops = trained as f64 * 2.4e6;
    let used = Used {
        wall_seconds: seconds,
        core_seconds: seconds * 1.93,
        peak_memory_bytes: Some(640_000_000 + course.steps * 100_000),
        joules: seconds * 1.93 * 8.0,
        energy_method: EnergyMethod::Estimated,
    };
    let work = Work {
        tokens_trained: trained,
        tokens_generated: if is_rl { trained + 40_000 } else { 9_600 },
        flops_forward: flops,
        flops_backward: 2.0 * flops,
        flops_rollout: if is_rl { 1.1 * flops } else { 4e10 },
    };
    Entry::new(
        used,
        work,
        1.6e12,
        Price {
            per_core_hour: 0.04,
            currency: "EUR".into(),
        },
    )
}

fn bill() -> Bill {
    let stages: Vec<(String, Entry)> = COURSES
        .iter()
        .map(|course| (course.stage.to_owned(), entry(course)))
        .collect();
    let mut total = Total::default();
    for (_, entry) in &stages {
        total.add(entry);
    }
    let run = Run {
        id: 12,
        recipe: "r1-tiny".into(),
        seed: 1,
        budget_minutes: 8.0,
        folder: "runs/r1-tiny".into(),
        started: 0,
        ended: None,
        outcome: Outcome::Running,
    };
    Bill { run, stages, total }
}

fn followed() -> Vec<Followed> {
    let short = "<think> guess 7 + 12 19 , 19 - 3 16 57 no </think> ( 7 + 12 ) - 3 <eos>";
    let long = "<think> try 7 + 3 10 , 10 + 12 22 57 no 7 + 3 10 , 10 * 12 big 57 no \
                7 * 3 21 , 21 + 12 33 57 no 7 + 12 19 , 19 + 3 22 57 no 7 + 12 19 , 19 * 3 57 57 yes \
                </think> ( 7 + 12 ) * 3 <eos>";
    let endless = format!("<think> try {}", "7 * 12 84 , 84 - 3 81 57 no ".repeat(14));
    let answers = |rows: &[(&str, &str, bool)]| {
        rows.iter()
            .map(|(checkpoint, text, is_correct)| FollowedAnswer {
                checkpoint: (*checkpoint).into(),
                text: (*text).into(),
                is_correct: *is_correct,
            })
            .collect::<Vec<_>>()
    };
    let rows = [
        ("base", short, false),
        ("r1-zero", long, true),
        ("cold-start", &*endless, false),
        ("reasoning-rl", long, true),
        ("sft", long, true),
        ("r1", long, true),
        ("distilled", long, true),
        ("student-rl", "7 * 12 - 3 <eos>", false),
    ];
    ["7 3 12 make 57", "2 9 4 make 34", "5 5 8 make 48"]
        .iter()
        .map(|question| Followed {
            question: (*question).into(),
            answers: answers(&rows),
        })
        .collect()
}

fn controls() -> Controls {
    let mut rng = Rng::derive(&[key("curve")]);
    let correct: Vec<usize> = (0..PROBLEMS)
        .map(|_| {
            let chance = f64::from(rng.uniform()).powi(3) * 0.5;
            (0..64)
                .filter(|_| f64::from(rng.uniform()) < chance)
                .count()
        })
        .collect();
    let points = [1, 2, 4, 8, 16, 32, 64]
        .into_iter()
        .filter_map(|k| {
            let chances: Vec<f64> = correct
                .iter()
                .filter_map(|c| pass_at_k(64, *c, k).ok())
                .collect();
            Some((k, bootstrap_mean(&chances, RESAMPLES, &mut rng).ok()?))
        })
        .collect();
    Controls {
        random_reward: Some(checkpoint("random-reward", (0.112, 21.0, 0.4, 2.1, 0.93))),
        continued_sft: Some(checkpoint("continued-sft", (0.15, 20.0, 0.41, 2.0, 0.95))),
        base_curve: Some(PassCurve {
            samples: 64,
            points,
            correct,
            mean_tokens: 27.0,
        }),
        base_flops_per_answer: 2.1e7,
        tuned_flops_per_answer: 7.4e7,
    }
}

/// Everything.
pub(crate) fn report() -> Report {
    let mut rng = Rng::derive(&[key("report demo")]);
    let mut journal = Vec::new();
    let mut timings = Vec::new();
    for course in COURSES {
        let bill = entry(course);
        for step in 0..course.steps {
            journal.push(line(course, step, &mut rng));
            let tokens = |all: u64| all / course.steps;
            let seconds = bill.used.wall_seconds / course.steps as f64;
            timings.push(Timing {
                stage: course.stage.into(),
                step,
                seconds: seconds * (1.0 + 0.1 * f64::from(rng.normal()).abs()),
                tokens_trained: tokens(bill.work.tokens_trained),
                tokens_generated: tokens(bill.work.tokens_generated),
            });
        }
    }
    let looks: [(&str, Look); 8] = [
        ("base", (0.11, 19.2, 0.38, 1.9, 0.94)),
        ("r1-zero", (0.86, 71.0, 0.99, 7.4, 0.981)),
        ("cold-start", (0.55, 60.3, 0.97, 6.2, 0.97)),
        ("reasoning-rl", (0.86, 68.0, 1.0, 7.0, 0.996)),
        ("sft", (0.82, 64.4, 1.0, 6.8, 0.99)),
        ("r1", (0.90, 66.0, 1.0, 6.9, 0.999)),
        ("distilled", (0.72, 62.0, 1.0, 6.5, 0.99)),
        ("student-rl", (0.35, 30.0, 0.6, 3.0, 0.96)),
    ];
    let bill = bill();
    let mut all = Total {
        money: BTreeMap::new(),
        ..bill.total.clone()
    };
    for (_, entry) in bill.stages.iter().cycle().take(80) {
        all.add(entry);
    }
    Report {
        about: "MADE-UP NUMBERS to look at the page with. A small V3-style model learns countdown \
                by reinforcement learning, goes through the R1 stages and is distilled."
            .into(),
        task: "countdown".into(),
        machine: "made up: 2 cores, AMX bf16, 2 threads".into(),
        models: vec![
            ModelLine {
                name: "main".into(),
                description: "deepseek_v3: 4 layers, width 128, MLA with 64 latent columns, 8 \
                              experts of which 2 and a shared one are active; 1.2 M parameters, \
                              0.7 M active"
                    .into(),
            },
            ModelLine {
                name: "student".into(),
                description:
                    "qwen3: 3 layers, width 80, grouped-query attention; 0.24 M parameters".into(),
            },
        ],
        journal,
        timings,
        checkpoints: looks
            .into_iter()
            .map(|(name, look)| checkpoint(name, look))
            .collect(),
        followed: followed(),
        self_check_words: vec!["no".into()],
        controls: Some(controls()),
        bill,
        watts_per_core: 8.0,
        home: Some(HomeTotal {
            runs: 9,
            total: all,
        }),
        recipe_text: "name = \"r1-tiny\"\nseed = 1\n\n[[stage]]\nname = \"base\"\nkind = \
                      \"pretrain\"\nsteps = 900\n"
            .into(),
    }
}
