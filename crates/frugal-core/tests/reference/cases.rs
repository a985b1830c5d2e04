//! Small cases done by hand, edges, and refusals.

use frugal_core::backend::{
    AdamW, Attention, Backend, Context, GroupScore, Head, HeadDirection, HeadProduct, Keys, Muon,
    Pages, RopeColumns, RopePairs, Route, Router, Sampling, Scoring, TrainBackend,
};
use frugal_core::dtype::{DType, round_bf16};
use frugal_core::error::Error;
use frugal_core::ops::{check, optim, pick, route};
use frugal_core::reference::{HostTensor, Reference};
use frugal_core::shape::{Rows, Shape};

use crate::tensors::{assert_near, matrix, plain, values, vector};

#[test]
fn linear_by_hand() {
    let x = matrix(1, 2, &[1.0, 2.0]);
    let w = matrix(3, 2, &[1.0, 0.0, 0.0, 1.0, 3.0, -1.0]);
    let y = Reference.linear(&x, plain(&w)).unwrap();
    assert_eq!(values(&y), [1.0, 2.0, 1.0]);
}

#[test]
fn rms_norm_by_hand() {
    // mean square of (3, 4) is 12.5.
    let x = matrix(1, 4, &[3.0, 4.0, 0.0, 0.0]);
    let w = vector(&[1.0, 2.0]);
    let y = Reference.rms_norm(&x, &w, 0.5).unwrap();
    let r = 13f64.sqrt();
    assert_near("y", &values(&y), &[3.0 / r, 8.0 / r, 0.0, 0.0], 1e-7);
}

#[test]
fn rope_turns_pairs_by_a_right_angle() {
    // cos 0, sin 1: (a, b) becomes (-b, a).
    let table = matrix(2, 4, &[1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0]);
    let x = matrix(1, 5, &[9.0, 1.0, 2.0, 3.0, 4.0]);
    for (pairs, expected) in [
        (RopePairs::Interleaved, [9.0, -2.0, 1.0, -4.0, 3.0]),
        (RopePairs::Halves, [9.0, -3.0, -4.0, 1.0, 2.0]),
    ] {
        let columns = RopeColumns {
            n_heads: 1,
            head_width: 5,
            offset: 1,
            width: 4,
            pairs,
        };
        let y = Reference.rope(&x, &table, &[1], columns).unwrap();
        assert_eq!(values(&y), expected);
        let y = Reference.rope(&x, &table, &[0], columns).unwrap();
        assert_eq!(values(&y), values(&x));
    }
}

#[test]
fn the_head_that_a_per_head_product_uses() {
    // Two heads of three rows, of which the last two take part; C = 1.
    let weight = matrix(6, 1, &[100.0, 1.0, 2.0, 100.0, 3.0, 4.0]);
    let mut product = HeadProduct {
        n_heads: 2,
        block: 3,
        rows: 1..3,
        direction: HeadDirection::IntoLatent,
        passed: 0,
    };
    let x = matrix(1, 4, &[1.0, 10.0, 1.0, 10.0]);
    let y = Reference.per_head_linear(&x, &weight, &product).unwrap();
    assert_eq!(values(&y), [21.0, 43.0]);
    product.direction = HeadDirection::FromLatent;
    let x = matrix(1, 2, &[1.0, 2.0]);
    let y = Reference.per_head_linear(&x, &weight, &product).unwrap();
    assert_eq!(values(&y), [1.0, 2.0, 6.0, 8.0]);
    product.passed = 1;
    let x = matrix(1, 4, &[1.0, 7.0, 2.0, 8.0]);
    let y = Reference.per_head_linear(&x, &weight, &product).unwrap();
    assert_eq!(values(&y), [1.0, 2.0, 7.0, 6.0, 8.0, 8.0]);
}

#[test]
fn split_and_join_are_inverse() {
    let x = matrix(1, 6, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let parts = Reference.split(&x, 2, &[1, 0, 2]).unwrap();
    assert_eq!(values(&parts[0]), [1.0, 4.0]);
    assert_eq!(parts[1].shape(), Shape::matrix(1, 0));
    assert_eq!(values(&parts[2]), [2.0, 3.0, 5.0, 6.0]);
    let parts: Vec<&HostTensor> = parts.iter().collect();
    assert_eq!(Reference.join(&parts, 2).unwrap(), x);
}

fn one_head(rows: &Rows) -> Attention<'_> {
    Attention {
        n_heads: 1,
        scale: 1.0,
        rows,
        context: Context::Packed,
    }
}

#[test]
fn attention_is_causal_and_keeps_sequences_apart() {
    // Equal scores: every row is the mean of the values it sees.
    let q = matrix(4, 1, &[0.0; 4]);
    let v = matrix(4, 1, &[1.0, 3.0, 10.0, 20.0]);
    let keys = Keys::Grouped {
        k: &q,
        v: &v,
        n_kv_heads: 1,
    };
    let rows = Rows::packed(&[2, 2]).unwrap();
    let y = Reference.attention(&q, keys, &one_head(&rows)).unwrap();
    assert_eq!(values(&y), [1.0, 2.0, 10.0, 15.0]);
    let saved = Reference
        .attention_saved(&q, keys, &one_head(&rows))
        .unwrap();
    let ln2 = 2f64.ln();
    assert_near(
        "log_sum",
        &values(&saved.log_sum),
        &[0.0, ln2, 0.0, ln2],
        1e-7,
    );
}

#[test]
fn paged_rows_before_the_first_key_give_zeros() {
    let store = matrix(4, 1, &[5.0, 7.0, 0.0, 0.0]);
    let q = matrix(3, 1, &[0.0; 3]);
    let rows = Rows::packed(&[3, 0]).unwrap();
    let pages = Pages {
        page_rows: 1,
        tables: vec![vec![1, 0], vec![]],
        lengths: vec![2, 0],
    };
    let attention = Attention {
        context: Context::Paged(&pages),
        ..one_head(&rows)
    };
    let keys = Keys::Latent {
        latent: &store,
        rank: 1,
    };
    let y = Reference.attention(&q, keys, &attention).unwrap();
    assert_eq!(values(&y), [0.0, 7.0, 6.0]);
    let short = Pages {
        lengths: vec![3, 0],
        ..pages.clone()
    };
    let attention = Attention {
        context: Context::Paged(&short),
        ..attention
    };
    assert!(Reference.attention(&q, keys, &attention).is_err());
}

#[test]
fn equal_scores_choose_lower_indices_and_nan_comes_last() {
    let router = Router {
        top_k: 2,
        n_group: 2,
        topk_group: 1,
        scoring: Scoring::Sigmoid,
        group_score: GroupScore::TopTwo,
        normalise: false,
        scale: 1.0,
    };
    let logits = matrix(2, 4, &[0.0, 0.0, 0.0, 0.0, f32::NAN, 1.0, 0.0, 0.0]);
    let route = Reference.route(&logits, None, &router).unwrap();
    assert_eq!(Reference.get_indices(&route.experts).unwrap(), [0, 1, 2, 3]);
    assert_eq!(Reference.get_indices(&route.order).unwrap(), [0, 1, 2, 3]);
    assert_eq!(
        Reference.get_indices(&route.offsets).unwrap(),
        [0, 1, 2, 3, 4]
    );
}

#[test]
fn a_plan_is_sorted_by_expert_then_row() {
    let (order, offsets) = route::plan(&[2, 0, 0, 2, 2, 0], 4).unwrap();
    assert_eq!(order, [1, 2, 5, 0, 3, 4]);
    assert_eq!(offsets, [0, 3, 3, 6, 6]);
    assert!(route::plan(&[4], 4).is_err());
}

#[test]
fn balanced_choices_with_even_scores_cost_alpha() {
    // f_i = 1 and sum P_i = 1 give alpha, whatever the number of sequences.
    let router = Router {
        top_k: 1,
        n_group: 1,
        topk_group: 1,
        scoring: Scoring::Softmax,
        group_score: GroupScore::Max,
        normalise: false,
        scale: 1.0,
    };
    let logits = matrix(4, 2, &[0.1, 0.0, 0.0, 0.1, 0.1, 0.0, 0.0, 0.1]);
    let route = Reference.route(&logits, None, &router).unwrap();
    let rows = Rows::packed(&[2, 0, 2]).unwrap();
    let balance = frugal_core::backend::Balance {
        alpha: 0.25,
        rows: &rows,
    };
    let loss = Reference
        .balance_loss(&logits, &router, &route, balance)
        .unwrap();
    assert!((loss - 0.25).abs() < 1e-6, "{loss}");
}

#[test]
fn routes_that_lie_are_refused() {
    let indices = |list: &[u32]| Reference.put_indices(list).unwrap();
    let weights = matrix(2, 1, &[1.0, 1.0]);
    let x = matrix(2, 1, &[1.0, 2.0]);
    let router = Router {
        top_k: 1,
        n_group: 1,
        topk_group: 1,
        scoring: Scoring::Sigmoid,
        group_score: GroupScore::Max,
        normalise: false,
        scale: 1.0,
    };
    let honest = Reference.route(&weights, None, &router).unwrap();
    assert!(Reference.combine(&x, &honest).is_ok());
    for (order, offsets) in [
        (vec![0, 0], vec![0, 2]),
        (vec![0, 2], vec![0, 2]),
        (vec![0, 1], vec![0, 1]),
        (vec![0, 1], vec![1, 2]),
        (vec![0], vec![0, 2]),
    ] {
        let route = Route {
            order: indices(&order),
            offsets: indices(&offsets),
            ..honest.clone()
        };
        assert!(
            Reference.combine(&x, &route).is_err(),
            "{order:?} {offsets:?}"
        );
    }
    let swapped = Route {
        order: honest.weights.clone(),
        ..honest
    };
    assert!(Reference.dispatch(&x, &swapped).is_err());
}

#[test]
fn picking() {
    let nucleus = Sampling {
        top_p: 0.7,
        ..Sampling::PLAIN
    };
    // Probabilities 0.2, 0.5, 0.3.
    let logits: Vec<f32> = [0.2f32, 0.5, 0.3].iter().map(|p| p.ln()).collect();
    for (sampling, uniform, expected) in [
        (Sampling::GREEDY, 0.99, 1),
        (Sampling::PLAIN, 0.0, 0),
        (Sampling::PLAIN, 0.199, 0),
        (Sampling::PLAIN, 0.201, 1),
        (Sampling::PLAIN, 0.999_999, 2),
        (nucleus, 0.0, 1),
        (nucleus, 0.64, 2),
    ] {
        let (id, log_prob) = pick::row(&logits, &sampling, uniform).unwrap();
        assert_eq!(id, expected, "{sampling:?} at {uniform}");
        assert!((log_prob - logits[id as usize]).abs() < 1e-6);
    }
    let masked = [f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY];
    assert_eq!(
        pick::row(&masked, &Sampling::PLAIN, 0.999_999).unwrap(),
        (1, 0.0)
    );
    for bad in [f32::NAN, f32::INFINITY] {
        assert!(pick::row(&[0.0, bad], &Sampling::PLAIN, 0.5).is_err());
    }
    assert!(pick::row(&[f32::NEG_INFINITY], &Sampling::GREEDY, 0.5).is_err());
}

#[test]
fn picked_log_probs_are_those_of_log_prob() {
    let hidden = matrix(2, 3, &[0.3, -1.0, 0.7, 2.0, 0.1, -0.4]);
    let head = matrix(
        4,
        3,
        &[1.0, 0.5, -0.2, 0.3, 0.3, 0.3, -1.0, 2.0, 0.1, 0.9, 0.8, 0.7],
    );
    let logits = Reference.linear(&hidden, plain(&head)).unwrap();
    let sampling = Sampling {
        temperature: 0.7,
        top_k: 3,
        ..Sampling::PLAIN
    };
    let picked = Reference.pick(&logits, &sampling, &[0.2, 0.9]).unwrap();
    let head = Head {
        hidden: &hidden,
        weight: &head,
    };
    let again = Reference.log_prob(head, &picked.ids, 0.7).unwrap();
    assert_eq!(values(&again.log_prob), picked.log_probs);
}

#[test]
fn the_first_adamw_step_goes_by_the_learning_rate() {
    // Bias correction makes m / sqrt(v) the sign of the gradient; decay acts beside it.
    let mut p = vector(&[1.0, -1.0]);
    let (mut m, mut v) = (vector(&[0.0, 0.0]), vector(&[0.0, 0.0]));
    let step = AdamW {
        learning_rate: 0.1,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 0.0,
        weight_decay: 0.5,
        step: 1,
        gradient_scale: 0.5,
    };
    let g = vector(&[4.0, 2.0]);
    Reference
        .adamw(&mut p, &g, [&mut m, &mut v], &step)
        .unwrap();
    assert_near(
        "p",
        &values(&p),
        &[1.0 - 0.1 - 0.05, -1.0 - 0.1 + 0.05],
        1e-6,
    );
    assert_near("m", &values(&m), &[0.2, 0.1], 1e-6);
    assert_near("v", &values(&v), &[0.2, 0.05], 1e-6);
}

#[test]
fn newton_schulz_brings_singular_values_near_one() {
    // A rotation times diag(3, 0.5): singular values 3 and 0.5 both land in [0.6, 1.3].
    let (c, s) = (0.8, 0.6);
    let x = optim::orthogonal(&[3.0 * c, -0.5 * s, 3.0 * s, 0.5 * c], 2, 2);
    let first = (x[0] * x[0] + x[2] * x[2]).sqrt();
    let second = (x[1] * x[1] + x[3] * x[3]).sqrt();
    for value in [first, second] {
        assert!((0.6..1.3).contains(&value), "{value}");
    }
    let across = x[0] * x[1] + x[2] * x[3];
    assert!(across.abs() < 1e-9, "{across}");
    assert!(x[0] > 0.0 && (x[2] / x[0] - s / c).abs() < 1e-9);
}

#[test]
fn muon_updates_each_matrix_of_a_stack_by_itself() {
    let step = Muon {
        learning_rate: 0.1,
        momentum: 0.9,
        weight_decay: 0.0,
        gradient_scale: 1.0,
    };
    let run = |shape: Shape, g: &[f32]| {
        let mut p = Reference.zeros(shape).unwrap();
        let mut m = Reference.zeros(shape).unwrap();
        let g = crate::tensors::tensor(shape, g);
        Reference.muon(&mut p, &g, &mut m, &step).unwrap();
        assert_eq!(values(&m), values(&g));
        values(&p)
    };
    let (a, b) = (
        [1.0, 2.0, 3.0, 4.0, 5.0, 7.0],
        [9.0, 0.0, 0.0, 0.0, 0.0, 0.0],
    );
    let both = run(Shape::stack(2, 3, 2), &[a, b].concat());
    let apart = [run(Shape::matrix(3, 2), &a), run(Shape::matrix(3, 2), &b)].concat();
    assert_eq!(both, apart);
    // A wide matrix and its transpose get transposed updates.
    let wide = run(Shape::matrix(2, 3), &[1.0, 3.0, 5.0, 2.0, 4.0, 7.0]);
    let tall = run(Shape::matrix(3, 2), &a);
    for (i, w) in wide.iter().enumerate() {
        assert!((w - tall[i % 3 * 2 + i / 3]).abs() < 1e-7);
    }
    assert_eq!(run(Shape::matrix(2, 2), &[0.0; 4]), [0.0; 4]);
}

#[test]
fn bf16_tensors_round_what_is_written() {
    let value = 1.0 + 1.0 / 512.0;
    let x = vector(&[value]);
    let mut narrow = Reference.cast(&x, DType::Bf16).unwrap();
    assert_eq!(values(&narrow), [round_bf16(value)]);
    Reference.accumulate(&mut narrow, &x).unwrap();
    assert_eq!(values(&narrow), [round_bf16(round_bf16(value) + value)]);
    assert_eq!(narrow.dtype(), DType::Bf16);
    assert!(Reference.cast(&x, DType::F8E4M3).is_err());
}

#[test]
fn clones_do_not_see_writes() {
    let first = vector(&[1.0]);
    let mut second = first.clone();
    Reference.clear(&mut second).unwrap();
    assert_eq!(values(&first), [1.0]);
    assert_eq!(values(&second), [0.0]);
}

#[test]
fn page_rows_are_copied_and_appended() {
    let mut store = matrix(3, 2, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    Reference.copy_rows(&mut store, &[2], &[0]).unwrap();
    assert_eq!(values(&store), [5.0, 6.0, 3.0, 4.0, 5.0, 6.0]);
    let row = matrix(1, 2, &[7.0, 8.0]);
    Reference.append(&mut store, &row, &[1]).unwrap();
    assert_eq!(values(&store), [5.0, 6.0, 7.0, 8.0, 5.0, 6.0]);
    assert!(Reference.append(&mut store, &row, &[3]).is_err());
}

#[test]
fn steps_without_rows_are_valid() {
    let empty = matrix(0, 4, &[]);
    let weight = matrix(3, 4, &[0.5; 12]);
    let rows = Rows::packed(&[]).unwrap();
    assert_eq!(
        Reference.linear(&empty, plain(&weight)).unwrap().shape(),
        Shape::matrix(0, 3)
    );
    let keys = Keys::Grouped {
        k: &empty,
        v: &empty,
        n_kv_heads: 1,
    };
    let y = Reference.attention(&empty, keys, &one_head(&rows)).unwrap();
    assert_eq!(y.shape(), empty.shape());
    let router = Router {
        top_k: 2,
        n_group: 1,
        topk_group: 1,
        scoring: Scoring::Softmax,
        group_score: GroupScore::Max,
        normalise: true,
        scale: 1.0,
    };
    let route = Reference.route(&empty, None, &router).unwrap();
    let xs = Reference.dispatch(&empty, &route).unwrap();
    assert_eq!(values(&Reference.combine(&xs, &route).unwrap()), [0.0; 0]);
    let balance = frugal_core::backend::Balance {
        alpha: 1.0,
        rows: &rows,
    };
    let loss = Reference.balance_loss(&empty, &router, &route, balance);
    assert_eq!(loss, Ok(0.0));
    let head = Head {
        hidden: &empty,
        weight: &weight,
    };
    assert!(Reference.log_prob(head, &[], 1.0).is_ok());
    let picked = Reference.pick(&empty, &Sampling::PLAIN, &[]).unwrap();
    assert!(picked.ids.is_empty());
    // Nothing to sum over leaves zeros, not garbage.
    let narrow = matrix(2, 0, &[]);
    let none = matrix(3, 0, &[]);
    assert_eq!(
        values(&Reference.linear(&narrow, plain(&none)).unwrap()),
        [0.0; 6]
    );
}

#[test]
fn refusals_name_the_argument() {
    let m = Shape::matrix;
    let v = Shape::vector;
    let error = check::linear(m(2, 3), m(4, 5), None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "linear: expected x of shape [2, 5], got [2, 3]"
    );
    assert!(check::linear(v(3), m(4, 3), None).is_err());
    assert!(check::linear(m(2, 3), m(4, 3), Some(v(3))).is_err());
    assert!(check::rms_norm(m(2, 6), v(4), 1e-6).is_err());
    assert!(check::rms_norm(m(2, 6), v(0), 1e-6).is_err());
    assert!(check::rms_norm(m(2, 6), v(3), -1.0).is_err());
    assert!(check::split(m(2, 6), 2, &[usize::MAX, 4]).is_err());
    assert!(check::join(&[m(2, 3), m(3, 3)], 1).is_err());
    assert!(check::gather(m(2, 3), &[2]).is_err());
    let head = check::HeadShapes {
        hidden: m(1, 2),
        weight: m(3, 2),
    };
    assert!(check::log_prob(head, &[3], 1.0).is_err());
    assert!(check::log_prob(head, &[2], 0.0).is_err());
    assert!(check::pick(m(1, 3), &Sampling::PLAIN, &[1.0]).is_err());
    let gradients = check::LinearGradShapes {
        dy: m(2, 4),
        d_weight: m(4, 3),
        d_bias: None,
    };
    let error = check::linear_backward(m(2, 3), m(4, 3), Some(v(4)), gradients).unwrap_err();
    assert!(matches!(
        error,
        Error::Count {
            expected: 1,
            got: 0,
            ..
        }
    ));
}

#[test]
fn attention_refuses_what_does_not_fit() {
    let rows = Rows::packed(&[2]).unwrap();
    let attention = Attention {
        n_heads: 4,
        scale: 1.0,
        rows: &rows,
        context: Context::Packed,
    };
    let m = Shape::matrix;
    let grouped = |k, v, n_kv_heads| check::KeyShapes::Grouped { k, v, n_kv_heads };
    let good = grouped(m(2, 6), m(2, 4), 2);
    assert!(check::attention(m(2, 12), good, &attention).is_ok());
    for (q, keys) in [
        (m(2, 16), good),
        (m(3, 12), good),
        (m(2, 12), grouped(m(2, 6), m(3, 4), 2)),
        (m(2, 12), grouped(m(3, 6), m(3, 4), 2)),
        (m(2, 12), grouped(m(2, 9), m(2, 6), 3)),
        (m(2, 12), grouped(m(2, 6), m(2, 4), 0)),
    ] {
        assert!(
            check::attention(q, keys, &attention).is_err(),
            "{q} {keys:?}"
        );
    }
    let latent = check::KeyShapes::Latent {
        latent: m(2, 3),
        rank: 2,
    };
    assert!(check::attention(m(2, 12), latent, &attention).is_ok());
    assert!(check::attention_saved(m(2, 12), latent, &attention).is_err());
}
