//! The server's engine on the kernels: an answer is its own request's affair, whatever the precision,
//! the instructions, the threads, and whoever else is served.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests, which the lint's exception for tests does not see"
)]

#[path = "support/device.rs"]
mod device;

use std::sync::Arc;

use frugal_core::backend::{Backend, KeyBits, Sampling};
use frugal_kernels::cpu::backend::Cpu;
use frugal_kernels::cpu::gemm::Precision;
use frugal_model::cache::{CacheKind, CacheSettings};
use frugal_model::generate::Lookup;
use frugal_model::transformer::Model;
use frugal_serve::engine::loaded::{Loaded, Memory};
use frugal_serve::engine::{Asked, Drawn, Engine, EngineSettings, Event, Handle, Job};
use frugal_serve::steer::Steering;

use device::{ALL, POSITIONS, cpu, in_blocks, model};

fn engine(
    b: Cpu,
    model: Model<<Cpu as Backend>::Tensor>,
    (max_pages, prefill_rows, bits): (usize, usize, KeyBits),
) -> Engine {
    let memory = Memory {
        cache: CacheSettings {
            kind: CacheKind::for_company(&model.config),
            page_rows: 4,
            max_pages,
            bits,
        },
        page_bytes: 1,
        weight_bytes: 1,
    };
    let settings = EngineSettings {
        max_sequences: 8,
        prefill_rows,
        max_waiting: 100,
        threads: 2,
        drafting: Some(Lookup::USUAL),
    };
    let loaded = Loaded::new(Arc::new(b), model, memory).unwrap();
    Engine::start(Box::new(loaded), settings).unwrap()
}

/// Prompts that begin alike, of several lengths, one of them with three samples.
fn jobs() -> Vec<Job> {
    let prompts: [&[u32]; 7] = [
        &[7, 8, 9, 10, 7, 8, 9, 11, 7, 8, 9],
        &[7, 8, 9, 10, 7, 8, 9, 11, 7, 8, 12, 13, 14],
        &[5],
        &[7, 8, 9, 10, 7, 8, 9, 11],
        &[
            20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40,
        ],
        &[7, 8],
        &[7, 8, 9, 10, 7, 8, 9, 11, 7, 8, 9],
    ];
    let job = |(index, prompt): (u64, &&[u32])| Job {
        prompt: Arc::from(*prompt),
        steering: (0..if index == 3 { 3 } else { 1 })
            .map(|_| Steering::default())
            .collect(),
        max_tokens: 14,
        sampling: Sampling {
            temperature: 0.7,
            ..Sampling::PLAIN
        },
        seed: index % 5,
        stop: Arc::from([3]),
        likeliest: Some(1),
        prompt_likeliest: None,
        owner: index % 2,
        space: 0,
    };
    (0..).zip(&prompts).map(job).collect()
}

fn tokens(mut asked: Asked) -> Vec<Vec<Drawn>> {
    let mut samples = vec![Vec::new(); 3];
    while let Some(event) = asked.events.blocking_recv() {
        match event {
            Event::Token(token) => samples.get_mut(token.sample).unwrap().push(token.drawn),
            Event::Failed { why } => panic!("{why}"),
            Event::Started | Event::Begun { .. } | Event::Ended { .. } => {}
        }
    }
    samples
}

/// All at once, in little room, against one after another with an empty cache each.
fn check(load: &dyn Fn() -> Option<(Cpu, Model<<Cpu as Backend>::Tensor>)>, what: &str) {
    for bits in [KeyBits::AsProducts, KeyBits::Eight] {
        check_with(load, bits, what);
    }
}

fn check_with(
    load: &dyn Fn() -> Option<(Cpu, Model<<Cpu as Backend>::Tensor>)>,
    bits: KeyBits,
    what: &str,
) {
    let start = |prefill| load().map(|(b, model)| engine(b, model, (24, prefill, bits)));
    let Some(together) = start(5) else {
        return;
    };
    let handle: Handle = together.handle().unwrap();
    let asked: Vec<Asked> = jobs()
        .into_iter()
        .map(|job| handle.ask(job).unwrap())
        .collect();
    let together: Vec<_> = asked.into_iter().map(tokens).collect();
    for (index, (job, together)) in jobs().into_iter().zip(together).enumerate() {
        let alone = start(POSITIONS).unwrap();
        let alone = tokens(alone.handle().unwrap().ask(job).unwrap());
        assert_eq!(together, alone, "{what}, {bits:?}, job {index}");
    }
}

#[test]
fn an_answer_is_its_own_requests_affair() {
    for isa in ALL {
        for precision in [Precision::F32, Precision::Bf16] {
            for name in ["deepseek_v3", "qwen2"] {
                let load = || {
                    let b = cpu(isa, precision, 2)?;
                    let model = model(&b, name);
                    Some((b, model))
                };
                check(&load, &format!("{name}, {isa:?}, {precision:?}"));
            }
            let load = || {
                let b = cpu(isa, precision, 2)?;
                let model = in_blocks(&b, "qwen3");
                Some((b, model))
            };
            check(&load, &format!("in blocks, {isa:?}, {precision:?}"));
        }
    }
}
