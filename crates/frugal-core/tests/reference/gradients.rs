//! Every backward against central differences of its forward.
//!
//! The loss is the sum of output times a fixed dy, in f64. With steps of 1/128 the truncation is of
//! the order 1e-5 times the third derivative and the rounding of f32 outputs 1e-5, both well below
//! the tolerance; a wrong term is of the order of the gradient itself.

use frugal_core::backend::{
    Attention, Backend, Balance, Context, Divergence, DivergenceKind, GroupScore, Head, Keys,
    Linear, Product, RopeColumns, RopePairs, Route, Router, Scoring, TrainBackend,
};
use frugal_core::reference::{HostTensor, Reference};
use frugal_core::rng::{Rng, key};
use frugal_core::shape::{Rows, Shape};

use crate::tensors::{plain, random, tensor, values};

const STEP: f32 = 1.0 / 128.0;
const TOLERANCE: f64 = 2e-3;

/// Compares `gradient` with the differences of `loss` around `x`.
fn check(what: &str, x: &HostTensor, gradient: &HostTensor, loss: impl Fn(&HostTensor) -> f64) {
    assert_eq!(x.shape(), gradient.shape(), "{what}");
    let (numbers, gradient) = (values(x), values(gradient));
    let mut largest = 0.0f64;
    for i in 0..numbers.len() {
        let moved = |by: f32| {
            let mut moved = numbers.clone();
            moved[i] += by;
            loss(&tensor(x.shape(), &moved))
        };
        let slope = (moved(STEP) - moved(-STEP)) / f64::from(2.0 * STEP);
        let error = (slope - f64::from(gradient[i])).abs();
        assert!(
            error <= TOLERANCE * (1.0 + slope.abs()),
            "{what}[{i}]: differences say {slope}, backward says {}",
            gradient[i]
        );
        largest = largest.max(slope.abs());
    }
    assert!(
        largest > 0.0,
        "{what}: no number mattered, the test shows nothing"
    );
}

fn weighed(y: &HostTensor, dy: &HostTensor) -> f64 {
    let pairs = values(y).into_iter().zip(values(dy));
    pairs.map(|(y, dy)| f64::from(y) * f64::from(dy)).sum()
}

fn rng(name: &str) -> Rng {
    Rng::derive(&[key("gradients"), key(name)])
}

fn zeros_like(x: &HostTensor) -> HostTensor {
    Reference.zeros(x.shape()).unwrap()
}

#[test]
fn linear() {
    let r = &mut rng("linear");
    let x = random(r, Shape::matrix(3, 5));
    let w = random(r, Shape::matrix(4, 5));
    let bias = random(r, Shape::vector(4));
    let dy = random(r, Shape::matrix(3, 4));
    let (mut dw, mut db) = (zeros_like(&w), zeros_like(&bias));
    let with = |x: &HostTensor, weight: &HostTensor, bias: &HostTensor| {
        let w = Linear {
            weight,
            bias: Some(bias),
            product: Product::Exact,
        };
        weighed(&Reference.linear(x, w).unwrap(), &dy)
    };
    let layer = Linear {
        bias: Some(&bias),
        ..plain(&w)
    };
    let dx = Reference
        .linear_backward(&x, layer, &dy, &mut dw, Some(&mut db))
        .unwrap();
    check("dx", &x, &dx, |x| with(x, &w, &bias));
    check("dw", &w, &dw, |w| with(&x, w, &bias));
    check("db", &bias, &db, |bias| with(&x, &w, bias));
}

/// Five rows over four experts, one of which gets none.
fn some_route(r: &mut Rng) -> Route<HostTensor> {
    let logits = random(r, Shape::matrix(5, 4));
    let bias = crate::tensors::vector(&[0.0, 0.0, -9.0, 0.0]);
    Reference.route(&logits, Some(&bias), &router()).unwrap()
}

fn router() -> Router {
    Router {
        top_k: 2,
        n_group: 1,
        topk_group: 1,
        scoring: Scoring::Sigmoid,
        group_score: GroupScore::TopTwo,
        normalise: true,
        scale: 1.5,
    }
}

#[test]
fn grouped_linear() {
    let r = &mut rng("grouped_linear");
    let route = some_route(r);
    let xs = random(r, Shape::matrix(10, 3));
    let w = random(r, Shape::stack(4, 2, 3));
    let dy = random(r, Shape::matrix(10, 2));
    let mut dw = zeros_like(&w);
    let dxs = Reference
        .grouped_linear_backward(&xs, &w, &route, &dy, &mut dw)
        .unwrap();
    let loss = |xs: &HostTensor, w: &HostTensor| {
        weighed(&Reference.grouped_linear(xs, w, &route).unwrap(), &dy)
    };
    check("dxs", &xs, &dxs, |xs| loss(xs, &w));
    check("dw", &w, &dw, |w| loss(&xs, w));
}

#[test]
fn gather() {
    let r = &mut rng("gather");
    let table = random(r, Shape::matrix(4, 3));
    let ids = [2, 0, 2];
    let dy = random(r, Shape::matrix(3, 3));
    let mut d_table = zeros_like(&table);
    Reference.gather_backward(&ids, &dy, &mut d_table).unwrap();
    check("d_table", &table, &d_table, |table| {
        weighed(&Reference.gather(table, &ids).unwrap(), &dy)
    });
}

#[test]
fn rms_norm() {
    let r = &mut rng("rms_norm");
    let x = random(r, Shape::matrix(2, 10));
    let w = random(r, Shape::vector(5));
    let dy = random(r, Shape::matrix(2, 10));
    let mut dw = zeros_like(&w);
    let eps = 1e-2;
    let dx = Reference
        .rms_norm_backward(&x, &w, eps, &dy, &mut dw)
        .unwrap();
    let loss =
        |x: &HostTensor, w: &HostTensor| weighed(&Reference.rms_norm(x, w, eps).unwrap(), &dy);
    check("dx", &x, &dx, |x| loss(x, &w));
    check("dw", &w, &dw, |w| loss(&x, w));
}

#[test]
fn swiglu() {
    let r = &mut rng("swiglu");
    let shape = Shape::matrix(2, 4);
    let (gate, up, dy) = (random(r, shape), random(r, shape), random(r, shape));
    let (dg, du) = Reference.swiglu_backward(&gate, &up, &dy).unwrap();
    let loss =
        |gate: &HostTensor, up: &HostTensor| weighed(&Reference.swiglu(gate, up).unwrap(), &dy);
    check("dg", &gate, &dg, |gate| loss(gate, &up));
    check("du", &up, &du, |up| loss(&gate, up));
}

#[test]
fn rope() {
    let r = &mut rng("rope");
    let x = random(r, Shape::matrix(3, 14));
    let dy = random(r, Shape::matrix(3, 14));
    let table = random(r, Shape::matrix(6, 4));
    let positions = [5, 0, 3];
    for pairs in [RopePairs::Interleaved, RopePairs::Halves] {
        let columns = RopeColumns {
            n_heads: 2,
            head_width: 7,
            offset: 2,
            width: 4,
            pairs,
        };
        let dx = Reference
            .rope_backward(&dy, &table, &positions, columns)
            .unwrap();
        check("dx", &x, &dx, |x| {
            weighed(
                &Reference.rope(x, &table, &positions, columns).unwrap(),
                &dy,
            )
        });
    }
}

/// Checks q and both key tensors of `keys`, which builds a [`Keys`] from two tensors.
fn check_attention(
    inputs: [&HostTensor; 3],
    value_width: usize,
    keys: impl for<'a> Fn(&'a HostTensor, &'a HostTensor) -> Keys<'a, HostTensor>,
) {
    let [q, first, second] = inputs;
    let rows = Rows::packed(&[3, 0, 1, 2]).unwrap();
    let attention = Attention {
        n_heads: 4,
        scale: 0.6,
        rows: &rows,
        context: Context::Packed,
    };
    let dy = random(&mut rng("dy"), Shape::matrix(6, 4 * value_width));
    let saved = Reference
        .attention_saved(q, keys(first, second), &attention)
        .unwrap();
    let grads = Reference
        .attention_backward(q, keys(first, second), &attention, &saved, &dy)
        .unwrap();
    let loss = |q: &HostTensor, first: &HostTensor, second: &HostTensor| {
        let y = Reference.attention(q, keys(first, second), &attention);
        weighed(&y.unwrap(), &dy)
    };
    check("dq", q, &grads.q, |q| loss(q, first, second));
    check("dfirst", first, &grads.first, |x| loss(q, x, second));
    check("dsecond", second, &grads.second, |x| loss(q, first, x));
}

#[test]
fn grouped_attention() {
    let r = &mut rng("grouped_attention");
    let q = random(r, Shape::matrix(6, 4 * 3));
    let k = random(r, Shape::matrix(6, 2 * 3));
    let v = random(r, Shape::matrix(6, 2 * 2));
    check_attention([&q, &k, &v], 2, |k, v| Keys::Grouped {
        k,
        v,
        n_kv_heads: 2,
    });
}

#[test]
fn expanded_attention() {
    let r = &mut rng("expanded_attention");
    let q = random(r, Shape::matrix(6, 4 * (3 + 2)));
    let kv = random(r, Shape::matrix(6, 4 * (3 + 2)));
    let k_rope = random(r, Shape::matrix(6, 2));
    check_attention([&q, &kv, &k_rope], 2, |kv, k_rope| Keys::Expanded {
        kv,
        k_rope,
        nope: 3,
    });
}

#[test]
fn route() {
    // Scores far enough apart that no choice flips within a step.
    let mut logits: Vec<f32> = (0..24u8).map(|i| f32::from(i) * 0.17 - 2.0).collect();
    rng("route").shuffle(&mut logits);
    let logits = crate::tensors::matrix(4, 6, &logits);
    let d_weights = random(&mut rng("d_weights"), Shape::matrix(4, 2));
    let rows = Rows::packed(&[3, 0, 1]).unwrap();
    let balance = Balance {
        alpha: 0.7,
        rows: &rows,
    };
    for scoring in [Scoring::Sigmoid, Scoring::Softmax] {
        for normalise in [true, false] {
            for balance in [None, Some(balance)] {
                let router = Router {
                    scoring,
                    normalise,
                    n_group: 3,
                    topk_group: 2,
                    ..router()
                };
                let loss = |logits: &HostTensor| {
                    let route = Reference.route(logits, None, &router).unwrap();
                    let balance = balance.map_or(0.0, |balance| {
                        Reference
                            .balance_loss(logits, &router, &route, balance)
                            .unwrap()
                    });
                    weighed(&route.weights, &d_weights) + f64::from(balance)
                };
                let route = Reference.route(&logits, None, &router).unwrap();
                let d = Reference
                    .route_backward(&logits, &router, &route, &d_weights, balance)
                    .unwrap();
                let what = format!("{scoring:?} normalise {normalise} {balance:?}");
                check(&what, &logits, &d, loss);
            }
        }
    }
}

#[test]
fn dispatch_and_combine() {
    let r = &mut rng("dispatch_and_combine");
    let route = some_route(r);
    let x = random(r, Shape::matrix(5, 3));
    let slots = random(r, Shape::matrix(10, 3));
    let dy = random(r, Shape::matrix(5, 3));
    let dx = Reference.dispatch_backward(&slots, &route).unwrap();
    check("dispatch dx", &x, &dx, |x| {
        weighed(&Reference.dispatch(x, &route).unwrap(), &slots)
    });
    let (d_ys, d_weights) = Reference.combine_backward(&slots, &route, &dy).unwrap();
    check("combine dys", &slots, &d_ys, |ys| {
        weighed(&Reference.combine(ys, &route).unwrap(), &dy)
    });
    check("combine dweights", &route.weights, &d_weights, |weights| {
        let route = Route {
            weights: weights.clone(),
            ..route.clone()
        };
        weighed(&Reference.combine(&slots, &route).unwrap(), &dy)
    });
}

#[test]
fn log_prob() {
    let r = &mut rng("log_prob");
    let hidden = random(r, Shape::matrix(3, 4));
    let weight = random(r, Shape::matrix(5, 4));
    let d = random(r, Shape::vector(3));
    let targets = [4, 0, 2];
    let mut dw = zeros_like(&weight);
    let head = Head {
        hidden: &hidden,
        weight: &weight,
    };
    let dh = Reference
        .log_prob_backward(head, &targets, 0.8, &d, &mut dw)
        .unwrap();
    let loss = |hidden: &HostTensor, weight: &HostTensor| {
        let out = Reference.log_prob(Head { hidden, weight }, &targets, 0.8);
        weighed(&out.unwrap().log_prob, &d)
    };
    check("dhidden", &hidden, &dh, |h| loss(h, &weight));
    check("dweight", &weight, &dw, |w| loss(&hidden, w));
}

#[test]
fn divergence() {
    let r = &mut rng("divergence");
    let (hidden, weight) = (
        random(r, Shape::matrix(3, 4)),
        random(r, Shape::matrix(5, 4)),
    );
    let (other, other_weight) = (
        random(r, Shape::matrix(3, 2)),
        random(r, Shape::matrix(5, 2)),
    );
    let d = random(r, Shape::vector(3));
    let teacher = Head {
        hidden: &other,
        weight: &other_weight,
    };
    for kind in [
        DivergenceKind::Forward,
        DivergenceKind::Reverse,
        DivergenceKind::JensenShannon { beta: 0.3 },
    ] {
        let setting = Divergence {
            kind,
            temperature: 1.3,
        };
        let student = Head {
            hidden: &hidden,
            weight: &weight,
        };
        let mut dw = zeros_like(&weight);
        let dh = Reference
            .divergence_backward(student, teacher, setting, &d, &mut dw)
            .unwrap();
        let loss = |hidden: &HostTensor, weight: &HostTensor| {
            let y = Reference.divergence(Head { hidden, weight }, teacher, setting);
            weighed(&y.unwrap(), &d)
        };
        check(&format!("{kind:?} dhidden"), &hidden, &dh, |h| {
            loss(h, &weight)
        });
        check(&format!("{kind:?} dweight"), &weight, &dw, |w| {
            loss(&hidden, w)
        });
    }
}

#[test]
fn backwards_add_to_what_the_accumulators_hold() {
    let r = &mut rng("accumulators");
    let x = random(r, Shape::matrix(3, 2));
    let w = random(r, Shape::matrix(2, 2));
    let mut dw = zeros_like(&w);
    Reference
        .linear_backward(&x, plain(&w), &x, &mut dw, None)
        .unwrap();
    let once = values(&dw);
    Reference
        .linear_backward(&x, plain(&w), &x, &mut dw, None)
        .unwrap();
    for (once, twice) in once.iter().zip(values(&dw)) {
        assert!((2.0 * once - twice).abs() <= 1e-6 * twice.abs());
    }
}
