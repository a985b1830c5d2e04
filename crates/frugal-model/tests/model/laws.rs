//! Laws: the cache changes nothing, absorbed is naive, experts have no order, a sample does not
//! depend on its batch.

use core::ops::ControlFlow;

use frugal_core::backend::{Backend, KeyBits, Sampling};
use frugal_core::reference::Reference;
use frugal_core::shape::Rows;
use frugal_model::cache::{Cache, CacheKind, CacheSettings, Cached};
use frugal_model::config::{AttentionConfig, ModelConfig, MoeConfig, TopkMethod};
use frugal_model::error::Error;
use frugal_model::generate::{
    Batch, Drafting, Generator, GeneratorSettings, Progress, Request, Sample,
};
use frugal_model::params::{FeedForward, Params};
use frugal_model::transformer::{Model, Step, hidden, logits};
use proptest::prelude::*;

use crate::support::{Tensor, model, put, relative_error, small_qwen3, small_v3, values, whole};

/// Equal sums in another order: f32 rounding of a few dozen products of width under 32, each
/// sqrt(32) * 6e-8, with room for the norms to enlarge them.
const ROUNDING: f32 = 2e-5;

/// The same through a cache, in the given pieces.
fn in_pieces(
    model: &Model<Tensor>,
    ids: &[u32],
    cuts: &[usize],
    settings: CacheSettings,
) -> Vec<f32> {
    let mut cache = Cache::new(&Reference, &model.config, settings).unwrap();
    let sequence = cache.open().unwrap();
    let mut out = Vec::new();
    let mut rest = ids;
    for cut in cuts.iter().chain([&usize::MAX]) {
        let (piece, after) = rest.split_at((*cut).min(rest.len()));
        rest = after;
        if piece.is_empty() {
            continue;
        }
        let start = cache.length(sequence).unwrap();
        let rows = Rows::new(&[u32::try_from(piece.len()).unwrap()], &[start]).unwrap();
        let step = Step {
            ids: piece,
            rows: &rows,
        };
        let cached = Cached {
            cache: &mut cache,
            sequences: &[sequence],
        };
        let hidden = hidden(&Reference, model, &step, Some(cached)).unwrap();
        out.extend(
            Reference
                .get(&logits(&Reference, model, &hidden).unwrap())
                .unwrap(),
        );
    }
    cache.free(sequence).unwrap();
    assert_eq!(cache.pool().in_use(), 0);
    out
}

fn any_v3() -> impl Strategy<Value = ModelConfig> {
    let widths = (1usize..5, 1usize..9, 1usize..7, 1usize..4, 1usize..7);
    (widths, any::<bool>(), any::<bool>()).prop_map(
        |((heads, rank, nope, rope, value), plain_q, dense)| {
            let mut config = small_v3();
            config.num_attention_heads = heads;
            if let AttentionConfig::Mla(mla) = &mut config.attention {
                mla.kv_lora_rank = rank;
                mla.qk_nope_head_dim = nope;
                mla.qk_rope_head_dim = 2 * rope;
                mla.v_head_dim = value;
                mla.q_lora_rank = (!plain_q).then_some(5);
            }
            if dense {
                config.moe = None;
            }
            config
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn absorbed_is_naive_and_a_cache_changes_nothing(
        config in any_v3(),
        seed in any::<u64>(),
        ids in prop::collection::vec(0u32..23, 1..20),
        cuts in prop::collection::vec(1usize..7, 0..6),
        page_rows in 1usize..7,
    ) {
        let model = model(&config, seed);
        let naive = whole(&model, &ids);
        let settings = |kind| CacheSettings { bits: KeyBits::AsProducts, kind, page_rows, max_pages: 32 };
        let expanded = in_pieces(&model, &ids, &cuts, settings(CacheKind::Expanded));
        prop_assert_eq!(&expanded, &naive, "an expanded cache repeats training bit for bit");
        let absorbed = in_pieces(&model, &ids, &cuts, settings(CacheKind::Latent));
        let error = relative_error(&absorbed, &naive);
        prop_assert!(error < ROUNDING, "absorbed differs by {}", error);
    }

    #[test]
    fn a_grouped_cache_changes_nothing(
        seed in any::<u64>(),
        ids in prop::collection::vec(0u32..23, 1..20),
        cuts in prop::collection::vec(1usize..7, 0..6),
        page_rows in 1usize..7,
    ) {
        let model = model(&small_qwen3(), seed);
        let settings = CacheSettings { bits: KeyBits::AsProducts, kind: CacheKind::Grouped, page_rows, max_pages: 32 };
        prop_assert_eq!(in_pieces(&model, &ids, &cuts, settings), whole(&model, &ids));
    }

    #[test]
    fn experts_have_no_order(
        seed in any::<u64>(),
        ids in prop::collection::vec(0u32..23, 1..12),
        order in Just((0usize..6).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let mut config = small_v3();
        // Groups are runs of experts; without them any order is the same model.
        let moe = MoeConfig { n_group: 1, topk_group: 1, ..config.moe.unwrap() };
        config.moe = Some(moe);
        let values = values(&config, seed);
        let mut permuted = values.clone();
        permute_experts(&mut permuted, &order);
        let error = relative_error(&whole(&put(&config, &permuted), &ids), &whole(&put(&config, &values), &ids));
        prop_assert!(error < ROUNDING, "differs by {}", error);
    }
}

fn permute_experts(params: &mut Params<Vec<f32>>, order: &[usize]) {
    for layer in &mut params.layers {
        let FeedForward::Moe(moe) = &mut layer.feed_forward else {
            continue;
        };
        let experts = &mut moe.experts;
        let stacks = [
            &mut experts.gate,
            &mut experts.up,
            &mut experts.down,
            &mut moe.router,
        ];
        for stack in stacks.into_iter().chain(moe.router_bias.as_mut()) {
            let each = stack.len() / order.len();
            let parts: Vec<&[f32]> = stack.chunks(each).collect();
            *stack = order
                .iter()
                .flat_map(|expert| parts[*expert].to_vec())
                .collect();
        }
    }
}

#[test]
fn sequences_of_a_step_do_not_see_each_other() {
    let model = model(&small_v3(), 8);
    let [a, b] = [[3u32, 5, 7, 9].as_slice(), [2u32, 4, 6].as_slice()];
    let rows = Rows::packed(&[4, 3]).unwrap();
    let ids = [a, b].concat();
    let both = hidden(
        &Reference,
        &model,
        &Step {
            ids: &ids,
            rows: &rows,
        },
        None,
    )
    .unwrap();
    let both = Reference
        .get(&logits(&Reference, &model, &both).unwrap())
        .unwrap();
    assert_eq!(both, [whole(&model, a), whole(&model, b)].concat());
}

#[test]
fn forks_share_pages_until_they_write() {
    let model = model(&small_v3(), 9);
    let settings = CacheSettings {
        bits: KeyBits::AsProducts,
        kind: CacheKind::Latent,
        page_rows: 4,
        max_pages: 64,
    };
    let mut cache = Cache::new(&Reference, &model.config, settings).unwrap();
    let step = |cache: &mut Cache<Tensor>, sequence, ids: &[u32]| {
        let start = cache.length(sequence).unwrap();
        let rows = Rows::new(&[u32::try_from(ids.len()).unwrap()], &[start]).unwrap();
        let cached = Cached {
            cache,
            sequences: &[sequence],
        };
        let hidden = hidden(&Reference, &model, &Step { ids, rows: &rows }, Some(cached)).unwrap();
        Reference
            .get(&logits(&Reference, &model, &hidden).unwrap())
            .unwrap()
    };
    let prompt = [1, 2, 3, 4, 5, 6];
    let first = cache.open().unwrap();
    step(&mut cache, first, &prompt);
    assert_eq!(cache.pool().in_use(), 2);
    let forks: Vec<_> = (0..3).map(|_| cache.fork(first).unwrap()).collect();
    assert_eq!(cache.pool().in_use(), 2);
    for (token, fork) in (10u32..).zip(&forks) {
        let got = step(&mut cache, *fork, &[token]);
        let expected = whole(&model, &[&prompt[..], &[token]].concat());
        assert!(relative_error(&got, &expected[6 * 23..]) < ROUNDING);
    }
    assert_eq!(
        cache.pool().in_use(),
        2 + 3,
        "each fork copied the half-full page"
    );
    for fork in forks {
        cache.free(fork).unwrap();
    }
    assert!(cache.free(first).is_ok() && cache.free(first).is_err());
    assert_eq!(cache.pool().in_use(), 0);
}

#[test]
fn pages_left_by_a_failed_step_are_not_shared() {
    let model = model(&small_v3(), 15);
    let settings = CacheSettings {
        bits: KeyBits::AsProducts,
        kind: CacheKind::Latent,
        page_rows: 2,
        max_pages: 16,
    };
    let mut cache = Cache::new(&Reference, &model.config, settings).unwrap();
    let step = |cache: &mut Cache<Tensor>, sequence, ids: &[u32]| {
        let start = cache.length(sequence).unwrap();
        let rows = Rows::new(&[u32::try_from(ids.len()).unwrap()], &[start]).unwrap();
        let cached = Cached {
            cache,
            sequences: &[sequence],
        };
        let hidden = hidden(&Reference, &model, &Step { ids, rows: &rows }, Some(cached))?;
        Reference
            .get(&logits(&Reference, &model, &hidden)?)
            .map_err(Error::from)
    };
    let first = cache.open().unwrap();
    step(&mut cache, first, &[4, 5]).unwrap();
    assert!(step(&mut cache, first, &[6, 99, 6, 6]).is_err());
    assert_eq!(cache.length(first).unwrap(), 2);
    let second = cache.fork(first).unwrap();
    step(&mut cache, first, &[6, 7, 8]).unwrap();
    step(&mut cache, second, &[16, 17, 18]).unwrap();
    let got = step(&mut cache, first, &[9]).unwrap();
    let expected = whole(&model, &[4, 5, 6, 7, 8, 9]);
    assert!(relative_error(&got, &expected[5 * 23..]) < ROUNDING);
}

#[test]
fn a_cache_refuses_what_it_cannot_hold() {
    let v3 = small_v3();
    let model = model(&v3, 10);
    let settings = CacheSettings {
        bits: KeyBits::AsProducts,
        kind: CacheKind::Grouped,
        page_rows: 4,
        max_pages: 2,
    };
    assert!(matches!(
        Cache::new(&Reference, &v3, settings),
        Err(Error::CacheKind { .. })
    ));
    let settings = CacheSettings {
        bits: KeyBits::AsProducts,
        kind: CacheKind::Latent,
        ..settings
    };
    assert!(
        Cache::new(
            &Reference,
            &v3,
            CacheSettings {
                page_rows: 0,
                ..settings
            }
        )
        .is_err()
    );
    let mut cache = Cache::new(&Reference, &v3, settings).unwrap();
    let sequence = cache.open().unwrap();
    let mut step = |lengths: &[u32], starts: &[u32], sequences: &[_]| {
        let rows = Rows::new(lengths, starts).unwrap();
        let ids = vec![2; rows.n_rows()];
        let cached = Cached {
            cache: &mut cache,
            sequences,
        };
        hidden(
            &Reference,
            &model,
            &Step {
                ids: &ids,
                rows: &rows,
            },
            Some(cached),
        )
        .map(|_| ())
    };
    assert!(matches!(
        step(&[1], &[3], &[sequence]),
        Err(Error::Cache { .. })
    ));
    assert!(matches!(
        step(&[1, 1], &[0, 0], &[sequence; 2]),
        Err(Error::Cache { .. })
    ));
    assert!(matches!(
        step(&[1, 1], &[0, 0], &[sequence]),
        Err(Error::Cache { .. })
    ));
    assert_eq!(step(&[8], &[0], &[sequence]), Ok(()));
    assert_eq!(
        step(&[1], &[8], &[sequence]),
        Err(Error::CacheFull {
            max_pages: 2,
            page_rows: 4
        })
    );
}

fn settings(config: &ModelConfig, max_sequences: usize, page_rows: usize) -> GeneratorSettings {
    GeneratorSettings {
        cache: CacheSettings {
            bits: KeyBits::AsProducts,
            kind: CacheKind::as_trained(config),
            page_rows,
            max_pages: 1_000,
        },
        max_sequences,
        prefill_rows: 16,
        drafting: Drafting::None,
    }
}

fn sample(
    model: &Model<Tensor>,
    requests: &[Request<'_>],
    settings: GeneratorSettings,
) -> Vec<Vec<Sample>> {
    let batch = Batch {
        requests,
        sampling: Sampling {
            temperature: 0.9,
            ..Sampling::PLAIN
        },
        max_new_tokens: 12,
        stop: &[1, 2, 3],
    };
    let mut generator = Generator::new(&Reference, &model.config, settings).unwrap();
    generator
        .generate(
            &Reference,
            model,
            &batch,
            &mut |_| ControlFlow::Continue(()),
        )
        .unwrap()
}

#[test]
fn a_sample_does_not_depend_on_its_batch() {
    for config in [small_v3(), small_qwen3()] {
        let model = model(&config, 11);
        let prompts: [&[u32]; 4] = [&[4, 5, 6], &[7], &[8, 9, 10, 11, 12], &[4, 5, 6]];
        let requests: Vec<Request<'_>> = prompts
            .iter()
            .zip(20..)
            .map(|(ids, seed)| Request {
                ids,
                n_samples: 5,
                seed,
            })
            .collect();
        let together = sample(&model, &requests, settings(&config, 64, 4));
        assert_eq!(
            together,
            sample(&model, &requests, settings(&config, 5, 3)),
            "few at a time"
        );
        for (request, expected) in requests.iter().zip(&together) {
            let alone = sample(&model, &[*request], settings(&config, 7, 1));
            assert_eq!(&alone[0], expected);
        }
        assert_ne!(together[0], together[3], "another seed, other samples");
        let samples: Vec<&Sample> = together.iter().flatten().collect();
        assert!(samples.iter().any(|s| s.is_finished && s.ids.len() < 12));
        for sample in samples {
            let ends = sample.ids.last().is_some_and(|id| [1, 2, 3].contains(id));
            assert_eq!(sample.is_finished, ends);
            assert!(sample.is_finished || sample.ids.len() == 12);
        }
    }
}

#[test]
fn sampled_log_probs_are_those_of_the_forward_without_cache() {
    let config = small_v3();
    let model = model(&config, 12);
    let request = Request {
        ids: &[4, 5, 6],
        n_samples: 6,
        seed: 1,
    };
    for sample in &sample(&model, &[request], settings(&config, 8, 4))[0] {
        let ids = [&[4, 5, 6][..], &sample.ids].concat();
        let logits = whole(&model, &ids);
        for (row, (id, got)) in sample.ids.iter().zip(&sample.log_probs).enumerate() {
            let scaled: Vec<f64> = logits[(row + 2) * 23..(row + 3) * 23]
                .iter()
                .map(|x| f64::from(*x) / 0.9)
                .collect();
            let sum: f64 = scaled.iter().map(|x| x.exp()).sum();
            let expected = scaled[*id as usize] - sum.ln();
            assert!(
                (f64::from(*got) - expected).abs() < 1e-5,
                "{got} instead of {expected}"
            );
        }
    }
}

#[test]
fn generation_stops_when_asked_and_refuses_what_cannot_be() {
    let config = small_v3();
    let model = model(&config, 13);
    let mut generator = Generator::new(&Reference, &config, settings(&config, 4, 4)).unwrap();
    let request = Request {
        ids: &[4, 5, 6],
        n_samples: 4,
        seed: 1,
    };
    let batch = Batch {
        requests: &[request],
        sampling: Sampling::PLAIN,
        max_new_tokens: 9,
        stop: &[],
    };
    let mut run = |batch: &Batch<'_>, limit: usize| {
        let mut hook = |progress: Progress| {
            if progress.tokens >= limit {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        generator.generate(&Reference, &model, batch, &mut hook)
    };
    assert_eq!(run(&batch, 8), Err(Error::Interrupted));
    assert_eq!(
        run(&batch, 1_000).unwrap()[0].len(),
        4,
        "usable after an interrupt"
    );
    for (request, max_new_tokens) in [
        (
            Request {
                ids: &[],
                ..request
            },
            9,
        ),
        (
            Request {
                n_samples: 0,
                ..request
            },
            9,
        ),
        (
            Request {
                n_samples: 5,
                ..request
            },
            9,
        ),
        (request, 0),
        (request, 62),
        (request, usize::MAX),
    ] {
        let batch = Batch {
            requests: &[request],
            max_new_tokens,
            ..batch
        };
        assert!(matches!(run(&batch, 1_000), Err(Error::Request { .. })));
    }
    let outside = Request {
        ids: &[4, 99],
        ..request
    };
    assert!(matches!(
        run(
            &Batch {
                requests: &[outside],
                ..batch
            },
            1_000
        ),
        Err(Error::Core(_))
    ));
}

#[test]
fn v2_routers_run() {
    for method in [TopkMethod::Greedy, TopkMethod::GroupLimitedGreedy] {
        let mut config = small_v3();
        config.architecture = frugal_model::config::Architecture::DeepseekV2;
        let moe = config.moe.unwrap();
        config.moe = Some(MoeConfig {
            topk_method: method,
            norm_topk_prob: false,
            ..moe
        });
        let model = model(&config, 14);
        assert!(whole(&model, &[1, 2, 3]).iter().all(|x| x.is_finite()));
    }
}
