//! A program of every operation, to be run on any back-end and compared.

use frugal_core::backend::{
    AdamW, Attention, Balance, Context, Divergence, DivergenceKind, GroupScore, Head,
    HeadDirection, HeadProduct, Keys, Linear, Muon, Pages, Product, RopeColumns, RopePairs, Router,
    Sampling, Scoring, TrainBackend,
};
use frugal_core::dtype::{Data, round_bf16};
use frugal_core::rng::Rng;
use frugal_core::shape::{Rows, Shape};

/// Results by name.
pub(crate) type Results = Vec<(&'static str, Vec<f32>)>;

/// Numbers that bf16 holds, so that operands put in directly are the same under both policies.
pub(crate) fn tensor<B: TrainBackend>(b: &B, seed: u64, shape: Shape, size: f32) -> B::Tensor {
    let mut rng = Rng::derive(&[seed]);
    let values: Vec<f32> = (0..shape.elements())
        .map(|_| round_bf16(rng.normal() * size))
        .collect();
    b.put(shape, Data::F32(&values)).unwrap()
}

/// Sequences shorter and longer than tiles, one of them empty.
pub(crate) fn rows() -> Rows {
    Rows::packed(&[1, 37, 0, 64, 130, 5, 66]).unwrap()
}

pub(crate) fn everything<B: TrainBackend>(b: &B) -> Results {
    let mut results = Vec::new();
    rowwise(b, &mut results);
    products(b, &mut results);
    for n_kv_heads in [1, 2, 4] {
        grouped_attention(b, n_kv_heads, &mut results);
    }
    expanded_attention(b, &mut results);
    latent_attention(b, &mut results);
    experts(b, &mut results);
    heads(b, &mut results);
    updates(b, &mut results);
    crate::learning::learning(b, &mut results);
    results
}

fn rowwise<B: TrainBackend>(b: &B, out: &mut Results) {
    let rows = rows();
    let t = rows.n_rows();
    let x = tensor(b, 1, Shape::matrix(t, 120), 1.0);
    let dy = tensor(b, 2, Shape::matrix(t, 120), 1.0);
    for (name, width) in [("norm", 120), ("head norm", 20), ("narrow norm", 8)] {
        let w = tensor(b, 3, Shape::vector(width), 1.0);
        let y = b.rms_norm(&x, &w, 1e-6).unwrap();
        let mut dw = tensor(b, 4, Shape::vector(width), 1.0);
        let dx = b.rms_norm_backward(&x, &w, 1e-6, &dy, &mut dw).unwrap();
        out.push((name, b.get(&y).unwrap()));
        out.push((name, b.get(&dx).unwrap()));
        out.push((name, b.get(&dw).unwrap()));
    }
    out.push(("swiglu", b.get(&b.swiglu(&x, &dy).unwrap()).unwrap()));
    let (dg, du) = b.swiglu_backward(&x, &dy, &x).unwrap();
    out.push(("d gate", b.get(&dg).unwrap()));
    out.push(("d up", b.get(&du).unwrap()));
    out.push(("add", b.get(&b.add(&x, &dy).unwrap()).unwrap()));
    let parts = b.split(&x, 4, &[7, 16, 7]).unwrap();
    for part in &parts {
        out.push(("split", b.get(part).unwrap()));
    }
    let parts: Vec<&B::Tensor> = parts.iter().collect();
    out.push(("join", b.get(&b.join(&parts, 4).unwrap()).unwrap()));
    let table = tensor(b, 5, Shape::matrix(200, 12), 1.0);
    for pairs in [RopePairs::Interleaved, RopePairs::Halves] {
        let columns = RopeColumns {
            n_heads: 4,
            head_width: 30,
            offset: 18,
            width: 12,
            pairs,
        };
        let y = b.rope(&x, &table, rows.positions(), columns).unwrap();
        let dx = b.rope_backward(&dy, &table, rows.positions(), columns);
        out.push(("rope", b.get(&y).unwrap()));
        out.push(("rope back", b.get(&dx.unwrap()).unwrap()));
    }
    let ids: Vec<u32> = (0..t as u32).map(|i| i * 7 % 50).collect();
    let table = tensor(b, 6, Shape::matrix(50, 120), 1.0);
    out.push(("gather", b.get(&b.gather(&table, &ids).unwrap()).unwrap()));
    let mut d_table = tensor(b, 7, Shape::matrix(50, 120), 1.0);
    b.gather_backward(&ids, &dy, &mut d_table).unwrap();
    out.push(("d table", b.get(&d_table).unwrap()));
    b.accumulate(&mut d_table, &table).unwrap();
    out.push(("accumulate", b.get(&d_table).unwrap()));
    let sum = b.norm_squared(&[&x, &dy]).unwrap();
    out.push(("norm squared", vec![sum as f32]));
}

fn products<B: TrainBackend>(b: &B, out: &mut Results) {
    let x = tensor(b, 10, Shape::matrix(300, 48), 1.0);
    let weight = tensor(b, 11, Shape::matrix(40, 48), 0.2);
    let bias = tensor(b, 12, Shape::vector(40), 1.0);
    for product in [Product::Policy, Product::Exact] {
        let w = Linear {
            weight: &weight,
            bias: Some(&bias),
            product,
        };
        let y = b.linear(&x, w).unwrap();
        let dy = tensor(b, 13, Shape::matrix(300, 40), 1.0);
        let mut dw = tensor(b, 14, Shape::matrix(40, 48), 1.0);
        let mut db = tensor(b, 15, Shape::vector(40), 1.0);
        let dx = b.linear_backward(&x, w, &dy, &mut dw, Some(&mut db));
        out.push(("linear", b.get(&y).unwrap()));
        out.push(("linear dx", b.get(&dx.unwrap()).unwrap()));
        out.push(("linear dw", b.get(&dw).unwrap()));
        out.push(("linear db", b.get(&db).unwrap()));
    }
    let weight = tensor(b, 16, Shape::matrix(4 * 20, 24), 0.2);
    for (rows, direction, input) in [
        (0..12, HeadDirection::IntoLatent, 12),
        (12..20, HeadDirection::FromLatent, 24),
    ] {
        let x = tensor(b, 17, Shape::matrix(50, 4 * input), 1.0);
        let product = HeadProduct {
            n_heads: 4,
            block: 20,
            rows,
            direction,
            passed: 0,
        };
        let y = b.per_head_linear(&x, &weight, &product).unwrap();
        out.push(("per head", b.get(&y).unwrap()));
    }
}

fn grouped_attention<B: TrainBackend>(b: &B, n_kv_heads: usize, out: &mut Results) {
    let rows = rows();
    let t = rows.n_rows();
    let q = tensor(b, 20, Shape::matrix(t, 4 * 24), 1.0);
    let k = tensor(b, 21, Shape::matrix(t, n_kv_heads * 24), 1.0);
    let v = tensor(b, 22, Shape::matrix(t, n_kv_heads * 72), 1.0);
    let dy = tensor(b, 23, Shape::matrix(t, 4 * 72), 1.0);
    let keys = Keys::Grouped {
        k: &k,
        v: &v,
        n_kv_heads,
    };
    trained(b, (&q, keys, &dy), &rows, out);
}

fn expanded_attention<B: TrainBackend>(b: &B, out: &mut Results) {
    let rows = rows();
    let t = rows.n_rows();
    let q = tensor(b, 24, Shape::matrix(t, 4 * 34), 1.0);
    let kv = tensor(b, 25, Shape::matrix(t, 4 * (26 + 16)), 1.0);
    let k_rope = tensor(b, 26, Shape::matrix(t, 8), 1.0);
    let dy = tensor(b, 27, Shape::matrix(t, 4 * 16), 1.0);
    let keys = Keys::Expanded {
        kv: &kv,
        k_rope: &k_rope,
        nope: 26,
    };
    trained(b, (&q, keys, &dy), &rows, out);
}

fn trained<B: TrainBackend>(
    b: &B,
    (q, keys, dy): (&B::Tensor, Keys<'_, B::Tensor>, &B::Tensor),
    rows: &Rows,
    out: &mut Results,
) {
    let attention = Attention {
        n_heads: 4,
        scale: 0.2,
        rows,
        context: Context::Packed,
    };
    let y = b.attention(q, keys, &attention).unwrap();
    let saved = b.attention_saved(q, keys, &attention).unwrap();
    let grads = b.attention_backward(q, keys, &attention, &saved, dy);
    let grads = grads.unwrap();
    for (name, tensor) in [
        ("attention", &y),
        ("attention saved", &saved.output),
        ("log sum", &saved.log_sum),
        ("attention dq", &grads.q),
        ("attention first", &grads.first),
        ("attention second", &grads.second),
    ] {
        out.push((name, b.get(tensor).unwrap()));
    }
}

fn latent_attention<B: TrainBackend>(b: &B, out: &mut Results) {
    // Two sequences in pages of 8: a prefill with a prefix, and one decoded row.
    let rows = Rows::new(&[30, 1], &[50, 90]).unwrap();
    let pages = Pages {
        page_rows: 8,
        tables: vec![(0..10).rev().collect(), (8..20).collect()],
        lengths: vec![80, 91],
    };
    let q = tensor(b, 28, Shape::matrix(31, 4 * 88), 1.0);
    let latent = tensor(b, 29, Shape::matrix(20 * 8, 88), 1.0);
    let attention = Attention {
        n_heads: 4,
        scale: 0.1,
        rows: &rows,
        context: Context::Paged(&pages),
    };
    let keys = Keys::Latent {
        latent: &latent,
        rank: 80,
    };
    let y = b.attention(&q, keys, &attention).unwrap();
    out.push(("latent attention", b.get(&y).unwrap()));
}

fn experts<B: TrainBackend>(b: &B, out: &mut Results) {
    let rows = rows();
    let t = rows.n_rows();
    let logits = tensor(b, 30, Shape::matrix(t, 12), 1.0);
    let bias = tensor(b, 31, Shape::vector(12), 0.1);
    for (scoring, group_score, normalise) in [
        (Scoring::Sigmoid, GroupScore::TopTwo, true),
        (Scoring::Softmax, GroupScore::Max, false),
    ] {
        let router = Router {
            top_k: 3,
            n_group: 4,
            topk_group: 2,
            scoring,
            group_score,
            normalise,
            scale: 2.5,
        };
        let route = b.route(&logits, Some(&bias), &router).unwrap();
        for indices in [&route.experts, &route.order, &route.offsets] {
            let indices = b.get_indices(indices).unwrap();
            out.push(("route", indices.into_iter().map(|i| i as f32).collect()));
        }
        out.push(("route weights", b.get(&route.weights).unwrap()));
        let x = tensor(b, 32, Shape::matrix(t, 40), 1.0);
        let weight = tensor(b, 33, Shape::stack(12, 24, 40), 0.2);
        let xs = b.dispatch(&x, &route).unwrap();
        let ys = b.grouped_linear(&xs, &weight, &route).unwrap();
        let y = b.combine(&ys, &route).unwrap();
        let dy = tensor(b, 34, Shape::matrix(t, 24), 1.0);
        let (d_ys, d_weights) = b.combine_backward(&ys, &route, &dy).unwrap();
        let mut d_weight = tensor(b, 35, Shape::stack(12, 24, 40), 1.0);
        let dxs = b.grouped_linear_backward(&xs, &weight, &route, &d_ys, &mut d_weight);
        let dxs = dxs.unwrap();
        let dx = b.dispatch_backward(&dxs, &route).unwrap();
        let balance = Balance {
            alpha: 0.5,
            rows: &rows,
        };
        let d_logits = b.route_backward(&logits, &router, &route, &d_weights, Some(balance));
        let loss = b.balance_loss(&logits, &router, &route, balance).unwrap();
        out.push(("balance loss", vec![loss]));
        for (name, tensor) in [
            ("dispatch", &xs),
            ("grouped", &ys),
            ("combine", &y),
            ("d ys", &d_ys),
            ("d weights", &d_weights),
            ("d expert weights", &d_weight),
            ("dx", &dx),
            ("d logits", &d_logits.unwrap()),
        ] {
            out.push((name, b.get(tensor).unwrap()));
        }
    }
}

fn heads<B: TrainBackend>(b: &B, out: &mut Results) {
    let (t, vocabulary) = (700, 530);
    let hidden = tensor(b, 40, Shape::matrix(t, 32), 1.0);
    let weight = tensor(b, 41, Shape::matrix(vocabulary, 32), 0.3);
    let head = Head {
        hidden: &hidden,
        weight: &weight,
    };
    let targets: Vec<u32> = (0..t as u32).map(|i| i * 13 % vocabulary as u32).collect();
    let d = tensor(b, 42, Shape::vector(t), 1.0);
    for temperature in [1.0, 0.7] {
        let y = b.log_prob(head, &targets, temperature).unwrap();
        let mut dw = tensor(b, 43, Shape::matrix(vocabulary, 32), 1.0);
        let dx = b.log_prob_backward(head, &targets, temperature, &d, &mut dw);
        out.push(("log prob", b.get(&y.log_prob).unwrap()));
        out.push(("entropy", b.get(&y.entropy).unwrap()));
        out.push(("log prob dx", b.get(&dx.unwrap()).unwrap()));
        out.push(("log prob dw", b.get(&dw).unwrap()));
    }
    let other_hidden = tensor(b, 44, Shape::matrix(t, 20), 1.0);
    let other_weight = tensor(b, 45, Shape::matrix(vocabulary, 20), 0.3);
    let teacher = Head {
        hidden: &other_hidden,
        weight: &other_weight,
    };
    for kind in [
        DivergenceKind::Forward,
        DivergenceKind::Reverse,
        DivergenceKind::JensenShannon { beta: 0.3 },
    ] {
        let divergence = Divergence {
            kind,
            temperature: 1.5,
        };
        let y = b.divergence(head, teacher, divergence).unwrap();
        let mut dw = tensor(b, 46, Shape::matrix(vocabulary, 32), 1.0);
        let dx = b.divergence_backward(head, teacher, divergence, &d, &mut dw);
        out.push(("divergence", b.get(&y).unwrap()));
        out.push(("divergence dx", b.get(&dx.unwrap()).unwrap()));
        out.push(("divergence dw", b.get(&dw).unwrap()));
    }
    let logits = tensor(b, 47, Shape::matrix(200, vocabulary), 2.0);
    let mut rng = Rng::derive(&[48]);
    let uniforms: Vec<f32> = (0..200).map(|_| rng.uniform()).collect();
    let limited = Sampling {
        temperature: 0.8,
        top_k: 40,
        top_p: 0.9,
        min_p: 0.02,
    };
    for sampling in [Sampling::PLAIN, Sampling::GREEDY, limited] {
        let picked = b.pick(&logits, &sampling, &uniforms).unwrap();
        out.push(("picked", picked.ids.iter().map(|id| *id as f32).collect()));
        out.push(("picked log prob", picked.log_probs));
    }
}

fn updates<B: TrainBackend>(b: &B, out: &mut Results) {
    let shape = Shape::stack(3, 50, 131);
    let mut p = tensor(b, 50, shape, 1.0);
    let g = tensor(b, 51, shape, 1.0);
    let [mut m, mut v] = [0.0, 0.0].map(|size| tensor(b, 52, shape, size));
    for step in 1..4 {
        let adamw = AdamW {
            learning_rate: 0.01,
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.1,
            step,
            gradient_scale: 0.5,
        };
        b.adamw(&mut p, &g, [&mut m, &mut v], &adamw).unwrap();
    }
    for tensor in [&p, &m, &v] {
        out.push(("adamw", b.get(tensor).unwrap()));
    }
    let muon = Muon {
        learning_rate: 0.05,
        momentum: 0.9,
        weight_decay: 0.1,
        gradient_scale: 0.5,
    };
    for shape in [Shape::matrix(30, 70), Shape::stack(2, 40, 24)] {
        let mut p = tensor(b, 53, shape, 1.0);
        let g = tensor(b, 54, shape, 1.0);
        let mut momentum = tensor(b, 55, shape, 1.0);
        b.muon(&mut p, &g, &mut momentum, &muon).unwrap();
        out.push(("muon", b.get(&p).unwrap()));
        out.push(("muon momentum", b.get(&momentum).unwrap()));
    }
}
