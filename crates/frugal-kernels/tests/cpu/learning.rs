//! The operations that only training asks for: what products read, kept as they take it.

use frugal_core::backend::{Backend, FeedForward, Linear, Route, TrainBackend};
use frugal_core::shape::Shape;

use crate::program::{Results, rows, tensor};
use crate::{cpu, isas, plain_router};
use frugal_kernels::cpu::gemm::Precision;

pub(crate) fn learning<B: TrainBackend>(b: &B, out: &mut Results) {
    let t = rows().n_rows();
    let logits = tensor(b, 60, Shape::matrix(t, 6), 1.0);
    let router = plain_router(2);
    let route = b.route(&logits, None, &router).unwrap();
    // Whole tiles, and none.
    for (k, n, d) in [(64, 96, 32), (40, 27, 52)] {
        onto(b, k, out);
        feed_forward(b, [k, n, d], None, out);
        feed_forward(b, [k, n, d], Some(&route), out);
    }
}

/// A norm into a product, and both backward onto a sum.
fn onto<B: TrainBackend>(b: &B, k: usize, out: &mut Results) {
    let t = rows().n_rows();
    let x = tensor(b, 61, Shape::matrix(t, k), 1.0);
    let norm = tensor(b, 62, Shape::vector(k), 1.0);
    let weight = tensor(b, 63, Shape::matrix(33, k), 0.2);
    let dy = tensor(b, 64, Shape::matrix(t, 33), 1.0);
    let so_far = || tensor(b, 65, Shape::matrix(t, k), 1.0);
    let normed = b.rms_norm_to_learn(&x, &norm, 1e-6).unwrap();
    let w = Linear::by_policy(&weight);
    out.push(("normed", b.get(&b.linear(&normed, w).unwrap()).unwrap()));
    let mut dw = tensor(b, 66, Shape::matrix(33, k), 1.0);
    let dx = b.linear_backward_onto(so_far(), (&normed, w), &dy, (&mut dw, None));
    let dx = dx.unwrap();
    out.push(("linear onto", b.get(&dx).unwrap()));
    out.push(("linear onto dw", b.get(&dw).unwrap()));
    let mut d_norm = tensor(b, 67, Shape::vector(k), 1.0);
    let of = (&x, &norm, 1e-6);
    let dx = b.rms_norm_backward_onto(so_far(), of, &dx, &mut d_norm);
    out.push(("norm onto", b.get(&dx.unwrap()).unwrap()));
    out.push(("norm onto dw", b.get(&d_norm).unwrap()));
}

fn feed_forward<B: TrainBackend>(
    b: &B,
    [k, n, d]: [usize; 3],
    route: Option<&Route<B::Tensor>>,
    out: &mut Results,
) {
    let t = rows().n_rows();
    let mut x = tensor(b, 70, Shape::matrix(t, k), 1.0);
    let shape = |rows, cols| match route {
        Some(_) => Shape::stack(6, rows, cols),
        None => Shape::matrix(rows, cols),
    };
    if let Some(route) = route {
        x = b.dispatch_to_learn(&x, route).unwrap();
    }
    let gate = tensor(b, 71, shape(n, k), 0.2);
    let up = tensor(b, 72, shape(n, k), 0.2);
    let down = tensor(b, 73, shape(d, n), 0.2);
    let of = FeedForward {
        x: &x,
        gate: &gate,
        up: &up,
        down: &down,
        route,
    };
    let saved = b.feed_forward_saved(&of).unwrap();
    out.push(("feed-forward", b.get(&saved.output).unwrap()));
    let mut dy = tensor(b, 74, Shape::matrix(t, d), 1.0);
    if let Some(route) = route {
        let (d_ys, d_weights) = b
            .combine_backward_for_products(&saved.output, route, &dy)
            .unwrap();
        out.push(("d weights", b.get(&d_weights).unwrap()));
        dy = d_ys;
    }
    let mut d_gate = tensor(b, 75, shape(n, k), 1.0);
    let mut d_up = tensor(b, 76, shape(n, k), 1.0);
    let mut d_down = tensor(b, 77, shape(d, n), 1.0);
    let to = [&mut d_gate, &mut d_up, &mut d_down];
    let dx = b.feed_forward_backward(&of, &saved, &dy, to).unwrap();
    for (name, tensor) in [
        ("feed-forward dx", &dx),
        ("d gate weight", &d_gate),
        ("d up weight", &d_up),
        ("d down weight", &d_down),
    ] {
        out.push((name, b.get(tensor).unwrap()));
    }
}

/// What training computes has the bits of what inference computes: log-probabilities of answers are
/// compared between them.
#[test]
fn operations_to_learn_give_what_inference_gives() {
    for (isa, precision) in isas()
        .into_iter()
        .flat_map(|isa| [(isa, Precision::F32), (isa, Precision::Bf16)])
    {
        let b = &cpu(2, precision, isa);
        for (k, n, d) in [(64, 96, 32), (40, 27, 52), (256, 768, 256)] {
            let t = rows().n_rows();
            let x = tensor(b, 80, Shape::matrix(t, k), 1.0);
            let norm = tensor(b, 81, Shape::vector(k), 1.0);
            let [gate, up] = [82, 83].map(|seed| tensor(b, seed, Shape::matrix(n, k), 0.2));
            let down = tensor(b, 84, Shape::matrix(d, n), 0.2);
            let forward = |x| FeedForward {
                x,
                gate: &gate,
                up: &up,
                down: &down,
                route: None,
            };
            let learnt = b.rms_norm_to_learn(&x, &norm, 1e-6).unwrap();
            let learnt = b.feed_forward_saved(&forward(&learnt)).unwrap().output;
            let normed = b.rms_norm_for_products(&x, &norm, 1e-6).unwrap();
            let asked = b.feed_forward(&forward(&normed)).unwrap();
            assert_eq!(
                b.get(&learnt).unwrap(),
                b.get(&asked).unwrap(),
                "{isa:?} {precision:?} {k} {n} {d}"
            );
        }
    }
}
