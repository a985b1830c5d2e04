//! On the kernels as on the reference: a draft changes no token and no log-probability, whatever the
//! precision, the instructions, the threads, the cache and the number of sequences.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, which the lint's exception for tests does not see"
)]

#[path = "support/device.rs"]
mod device;

use std::ops::ControlFlow;

use frugal_core::backend::{Backend, KeyBits, Sampling};
use frugal_kernels::cpu::backend::Cpu;
use frugal_kernels::cpu::gemm::Precision;
use frugal_model::cache::{CacheKind, CacheSettings};
use frugal_model::config::AttentionConfig;
use frugal_model::generate::{
    Batch, Drafted, Drafting, Generator, GeneratorSettings, Lookup, Request, Sample,
};
use frugal_model::stream::{Drawing, Stream, StreamSettings};
use frugal_model::transformer::Model;

use device::{ALL, POSITIONS, cpu, in_blocks, model};

const PROMPT: [u32; 11] = [7, 8, 9, 10, 7, 8, 9, 11, 7, 8, 9];

fn samples(
    b: &Cpu,
    model: &Model<<Cpu as Backend>::Tensor>,
    (kind, n_samples): (CacheKind, usize),
    (sampling, drafting): (Sampling, Drafting),
) -> (Vec<Sample>, Drafted) {
    let settings = GeneratorSettings {
        cache: CacheSettings {
            bits: KeyBits::AsProducts,
            kind,
            page_rows: 16,
            max_pages: 200,
        },
        max_sequences: 16,
        prefill_rows: 64,
        drafting,
    };
    let mut generator = Generator::new(b, &model.config, settings).unwrap();
    let request = Request {
        ids: &PROMPT,
        n_samples,
        seed: 9,
    };
    let batch = Batch {
        requests: &[request],
        sampling,
        max_new_tokens: POSITIONS - PROMPT.len(),
        stop: &[3],
    };
    let go_on = &mut |_| ControlFlow::Continue(());
    let mut samples = generator.generate(b, model, &batch, go_on).unwrap();
    (samples.remove(0), generator.drafted())
}

fn check(b: &Cpu, name: &str, model: &Model<<Cpu as Backend>::Tensor>) -> u64 {
    let kinds: &[CacheKind] = match model.config.attention {
        AttentionConfig::Mla(_) => &[CacheKind::Latent, CacheKind::Expanded],
        AttentionConfig::Gqa(_) => &[CacheKind::Grouped],
    };
    let mut drafters = vec![Drafting::Lookup(Lookup::USUAL)];
    if model.params.mtp.is_some() {
        drafters.push(Drafting::Mtp { most: 3 });
    }
    let warm = Sampling {
        temperature: 0.1,
        ..Sampling::PLAIN
    };
    let mut accepted = 0;
    for kind in kinds {
        for (sampling, n_samples) in [(Sampling::GREEDY, 1), (warm, 5)] {
            let run = |drafting| samples(b, model, (*kind, n_samples), (sampling, drafting));
            let (plain, _) = run(Drafting::None);
            for drafting in &drafters {
                let (drafted, counts) = run(*drafting);
                let what = format!("{name}, {drafting:?}, {kind:?}, {:?}", b.isa());
                assert_eq!(drafted, plain, "{what}");
                accepted += counts.accepted;
            }
        }
    }
    accepted
}

#[test]
fn a_prompt_that_is_said_again_is_answered_alike() {
    for isa in ALL {
        let Some(b) = cpu(isa, Precision::Bf16, 2) else {
            continue;
        };
        let model = in_blocks(&b, "qwen3");
        let settings = StreamSettings {
            cache: CacheSettings {
                bits: KeyBits::AsProducts,
                kind: CacheKind::Grouped,
                page_rows: 16,
                max_pages: 8,
            },
            prefill_rows: 64,
            drafting: Drafting::Lookup(Lookup::USUAL),
        };
        let mut stream = Stream::new(&b, &model.config, settings).unwrap();
        let drawing = Drawing {
            sampling: Sampling::PLAIN,
            stop: &[],
            words: [1, 2, 3],
        };
        let mut answer = || {
            let (mut ids, mut bits) = (PROMPT.to_vec(), Vec::new());
            while ids.len() < POSITIONS {
                let at_most = (&*ids, POSITIONS - ids.len());
                let by = (&b, &model);
                let picked = stream.extend(by, at_most, &drawing, &mut |_| true).unwrap();
                bits.extend(picked.log_probs.iter().map(|x| x.to_bits()));
                ids.extend(picked.ids);
            }
            (ids, bits)
        };
        // The second time all but the last token of the prompt is in the cache.
        let first = answer();
        assert_eq!(answer(), first, "{isa:?}");
    }
}

#[test]
fn drafts_change_nothing_on_the_kernels() {
    // Some seconds: whole models speak, on every kind of instructions.
    let mut accepted = 0;
    for isa in ALL {
        for (precision, threads) in [(Precision::Bf16, 2), (Precision::F32, 1)] {
            let Some(b) = cpu(isa, precision, threads) else {
                continue;
            };
            for name in ["deepseek_v3_mtp", "deepseek_v3_fp8", "qwen3"] {
                accepted += check(&b, name, &model(&b, name));
            }
            accepted += check(&b, "qwen3 in blocks", &in_blocks(&b, "qwen3"));
        }
    }
    assert!(accepted > 0, "drafts that are never right show nothing");
}
