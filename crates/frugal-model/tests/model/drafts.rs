//! Drafts change nothing: tokens and log-probabilities are those of plain decoding, bit for bit.

use core::ops::ControlFlow;

use frugal_core::backend::{Backend, KeyBits, Sampling};
use frugal_core::reference::Reference;
use frugal_model::cache::{CacheKind, CacheSettings};
use frugal_model::config::{AttentionConfig, ModelConfig};
use frugal_model::error::Error;
use frugal_model::generate::{
    Batch, Drafted, Drafting, Generator, GeneratorSettings, Lookup, Request, Sample,
};
use frugal_model::stream::{Drawing, Stream, StreamSettings};
use frugal_model::transformer::Model;
use proptest::prelude::*;

use crate::support::{Tensor, golden, model, small_qwen3, small_v3};

const WARM: Sampling = Sampling {
    temperature: 0.3,
    ..Sampling::PLAIN
};
const LOOKUP: Drafting = Drafting::Lookup(Lookup {
    shortest: 1,
    longest: 3,
    most: 7,
});

fn mtp(config: &ModelConfig) -> ModelConfig {
    ModelConfig {
        num_nextn_predict_layers: 1,
        ..config.clone()
    }
}

fn kinds(config: &ModelConfig) -> &'static [CacheKind] {
    match config.attention {
        AttentionConfig::Mla(_) => &[CacheKind::Latent, CacheKind::Expanded],
        AttentionConfig::Gqa(_) => &[CacheKind::Grouped],
    }
}

fn settings(cache: CacheSettings, drafting: Drafting) -> GeneratorSettings {
    GeneratorSettings {
        cache,
        max_sequences: 6,
        prefill_rows: 24,
        drafting,
    }
}

fn draw(
    model: &Model<Tensor>,
    batch: &Batch<'_>,
    settings: GeneratorSettings,
) -> Result<(Vec<Vec<Sample>>, Drafted), Error> {
    let mut generator = Generator::new(&Reference, &model.config, settings)?;
    let go_on = &mut |_| ControlFlow::Continue(());
    let samples = generator.generate(&Reference, model, batch, go_on)?;
    Ok((samples, generator.drafted()))
}

/// All kinds of drafts against none; what was drafted and accepted in all.
fn check(model: &Model<Tensor>, batch: &Batch<'_>, page_rows: usize) -> Drafted {
    let mut sum = Drafted::default();
    for kind in kinds(&model.config) {
        let cache = CacheSettings {
            bits: KeyBits::AsProducts,
            kind: *kind,
            page_rows,
            max_pages: 200,
        };
        let (plain, counts) = draw(model, batch, settings(cache, Drafting::None)).unwrap();
        assert_eq!((counts.drafted, counts.accepted), (0, 0));
        let n_tokens: usize = plain.iter().flatten().map(|s| s.ids.len()).sum();
        assert_eq!(counts.steps, n_tokens as u64);
        let mut all = vec![LOOKUP, Drafting::Lookup(Lookup::USUAL)];
        if model.params.mtp.is_some() {
            all.extend([Drafting::Mtp { most: 1 }, Drafting::Mtp { most: 3 }]);
        }
        for drafting in all {
            let (drafted, counts) = draw(model, batch, settings(cache, drafting)).unwrap();
            assert_eq!(drafted, plain, "{drafting:?} over a {kind:?} cache");
            assert!(counts.accepted <= counts.drafted);
            assert_eq!(counts.steps + counts.accepted, n_tokens as u64);
            sum.drafted += counts.drafted;
            sum.accepted += counts.accepted;
            sum.steps += counts.steps;
        }
    }
    sum
}

fn requests<'a>(prompts: &'a [Vec<u32>], n_samples: usize) -> Vec<Request<'a>> {
    let request = |(ids, seed): (&'a Vec<u32>, u64)| Request {
        ids,
        n_samples,
        seed,
    };
    prompts.iter().zip(40..).map(request).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_draft_decides_nothing(
        seed in any::<u64>(),
        is_v3 in any::<bool>(),
        prompts in prop::collection::vec(prop::collection::vec(0u32..23, 1..9), 1..5),
        n_samples in 1usize..4,
        temperature in prop::sample::select(vec![0.0f32, 0.2, 0.9]),
        max_new_tokens in 1usize..24,
        page_rows in 1usize..7,
        stop in prop::collection::vec(0u32..23, 0..3),
    ) {
        let config = if is_v3 { mtp(&small_v3()) } else { small_qwen3() };
        let model = model(&config, seed);
        let batch = Batch {
            requests: &requests(&prompts, n_samples),
            sampling: Sampling { temperature, ..Sampling::PLAIN },
            max_new_tokens,
            stop: &stop,
        };
        check(&model, &batch, page_rows);
    }
}

#[test]
fn drafts_are_accepted_and_rejected_on_the_golden_models() {
    for name in ["deepseek_v3_mtp", "qwen2", "llama3"] {
        let golden = golden(name);
        let model = golden.load();
        let ids = golden.ids("input_ids");
        let prompts: Vec<Vec<u32>> = ids.chunks(5).take(2).map(<[u32]>::to_vec).collect();
        for sampling in [Sampling::GREEDY, WARM] {
            let batch = Batch {
                requests: &requests(&prompts, 1),
                sampling,
                max_new_tokens: 16,
                stop: &[3, 4],
            };
            let sum = check(&model, &batch, 5);
            assert!(sum.accepted < sum.drafted, "{name}: {sum:?}");
        }
    }
}

#[test]
fn what_repeats_itself_takes_few_steps() {
    let model = model(&small_qwen3(), 3);
    let prompt = [vec![5, 6, 7, 8]];
    let batch = Batch {
        requests: &requests(&prompt, 1),
        sampling: Sampling::GREEDY,
        max_new_tokens: 58,
        stop: &[],
    };
    let cache = CacheSettings {
        bits: KeyBits::AsProducts,
        kind: CacheKind::Grouped,
        page_rows: 4,
        max_pages: 16,
    };
    let drafting = Drafting::Lookup(Lookup::USUAL);
    let (samples, counts) = draw(&model, &batch, settings(cache, drafting)).unwrap();
    assert_eq!(samples[0][0].ids.len(), 58);
    // A greedy model of 23 tokens soon runs in circles.
    assert!(counts.tokens_per_step().unwrap() > 1.3, "{counts:?}");
}

#[test]
fn drafts_need_no_pages_beyond_those_of_full_sequences() {
    let config = mtp(&small_v3());
    let model = model(&config, 21);
    let prompts = vec![vec![5, 6, 5, 6, 5, 6], vec![7, 8, 9, 7, 8, 9]];
    let batch = Batch {
        requests: &requests(&prompts, 3),
        sampling: WARM,
        max_new_tokens: 20,
        stop: &[1, 2, 3, 4],
    };
    for kind in [CacheKind::Latent, CacheKind::Expanded] {
        for page_rows in [1, 2, 3, 5] {
            let cache = |max_pages| CacheSettings {
                bits: KeyBits::AsProducts,
                kind,
                page_rows,
                max_pages,
            };
            // All sequences at their full length, of which the last token is never computed.
            let max_pages = 6 * 25usize.div_ceil(page_rows);
            let plain = draw(&model, &batch, settings(cache(max_pages), Drafting::None));
            let (plain, _) = plain.unwrap();
            for drafting in [LOOKUP, Drafting::Mtp { most: 1 }, Drafting::Mtp { most: 4 }] {
                let (drafted, _) = draw(&model, &batch, settings(cache(max_pages), drafting))
                    .unwrap_or_else(|error| panic!("{drafting:?}, {max_pages} pages: {error}"));
                assert_eq!(drafted, plain);
            }
        }
    }
}

#[test]
fn a_model_without_the_extra_layer_cannot_draft_with_it() {
    let config = small_v3();
    let cache = CacheSettings {
        bits: KeyBits::AsProducts,
        kind: CacheKind::Latent,
        page_rows: 4,
        max_pages: 4,
    };
    let settings = settings(cache, Drafting::Mtp { most: 1 });
    let refused = Generator::new(&Reference, &config, settings);
    assert!(matches!(refused, Err(Error::Config { .. })));
}

/// Tokens, and the bits of their log-probabilities.
type Answer = (Vec<u32>, Vec<u32>);

/// Turns of a conversation; each continues the context before it, or goes back in it.
fn converse(
    model: &Model<Tensor>,
    drafting: Drafting,
    turns: &[(usize, &[u32])],
    stop: &[u32],
) -> (Vec<Answer>, Drafted) {
    let settings = StreamSettings {
        cache: CacheSettings {
            bits: KeyBits::AsProducts,
            kind: CacheKind::smallest(&model.config),
            page_rows: 3,
            max_pages: 64usize.div_ceil(3),
        },
        prefill_rows: 4,
        drafting,
    };
    let mut stream = Stream::new(&Reference, &model.config, settings).unwrap();
    let mut context: Vec<u32> = Vec::new();
    let mut drawn = Vec::new();
    for (turn, (kept, said)) in (0..).zip(turns) {
        context.truncate(*kept);
        context.extend_from_slice(said);
        let drawing = Drawing {
            sampling: WARM,
            stop,
            words: [1, 2, turn],
        };
        let (mut ids, mut bits) = (Vec::new(), Vec::new());
        while ids.len() < 17 && ids.last().is_none_or(|id| !stop.contains(id)) {
            let at_most = (&*context, 17 - ids.len());
            let mut go_on = |_| true;
            let picked = stream
                .extend((&Reference, model), at_most, &drawing, &mut go_on)
                .unwrap();
            assert!(!picked.ids.is_empty() && picked.ids.len() <= 17 - ids.len());
            assert_eq!(stream.shared(&context), context.len() - 1);
            context.extend_from_slice(&picked.ids);
            assert_eq!(stream.ids(), &context[..context.len() - 1]);
            ids.extend(picked.ids);
            bits.extend(picked.log_probs.iter().map(|x| x.to_bits()));
        }
        drawn.push((ids, bits));
    }
    (drawn, stream.drafted())
}

#[test]
fn a_conversation_is_the_same_with_drafts() {
    let turns: [(usize, &[u32]); 4] = [
        (0, &[4, 5, 6, 7, 8, 9, 4, 5, 6, 7]),
        (64, &[9, 9]),
        (6, &[11, 12, 4, 5]),
        (6, &[11]),
    ];
    let (mut drafted, mut accepted) = (0, 0);
    for (config, seed) in [
        (mtp(&small_v3()), 5),
        (small_qwen3(), 6),
        (mtp(&small_v3()), 7),
    ] {
        let model = model(&config, seed);
        for stop in [&[][..], &[3, 14, 15]] {
            let (plain, counts) = converse(&model, Drafting::None, &turns, stop);
            assert_eq!(counts.drafted, 0);
            let mut all = vec![LOOKUP];
            if config.num_nextn_predict_layers == 1 {
                all.extend([Drafting::Mtp { most: 1 }, Drafting::Mtp { most: 3 }]);
            }
            for drafting in all {
                let (with_drafts, counts) = converse(&model, drafting, &turns, stop);
                assert_eq!(with_drafts, plain, "{drafting:?}");
                drafted += counts.drafted;
                accepted += counts.accepted;
            }
        }
    }
    assert!(
        0 < accepted && accepted < drafted,
        "{accepted} of {drafted}"
    );
}

#[test]
fn a_stream_refuses_what_cannot_be_and_goes_on_after_an_interruption() {
    let model = model(&small_qwen3(), 4);
    let settings = StreamSettings {
        cache: CacheSettings {
            bits: KeyBits::AsProducts,
            kind: CacheKind::Grouped,
            page_rows: 4,
            max_pages: 16,
        },
        prefill_rows: 3,
        drafting: LOOKUP,
    };
    let mut stream = Stream::new(&Reference, &model.config, settings).unwrap();
    let drawing = Drawing {
        sampling: WARM,
        stop: &[],
        words: [0; 3],
    };
    let mut extend = |context: &[u32], most, go_on: bool| {
        let by = (&Reference, &model);
        let picked = stream.extend(by, (context, most), &drawing, &mut |_| go_on);
        picked.map(|picked| picked.ids.len())
    };
    for (context, most) in [(vec![], 1), (vec![3; 65], 1), (vec![3], 0)] {
        assert!(matches!(
            extend(&context, most, true),
            Err(Error::Request { .. })
        ));
    }
    let context = [3, 4, 5, 3, 4, 5, 3, 4, 5];
    assert_eq!(extend(&context, 9, false), Err(Error::Interrupted));
    assert_eq!(
        extend(&context, 9, true),
        Ok(1),
        "a prompt is computed without draft"
    );
    assert_eq!(extend(&[7; 64], 1, true), Ok(1), "the last position");
    assert_eq!(Reference.shape(&model.rope).rows(), 64);
}
