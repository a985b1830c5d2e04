//! The tape's gradients against central differences, on small composed graphs over `Reference`.
//!
//! Each check moves one leaf along a direction u that has a large part along the gradient g, and
//! compares <g, u> with (L(p + h u) - L(p - h u)) / 2h. In f32 the difference carries an error of
//! about epsilon |L| / h from rounding and h² L''' from the step; with h = 1/64 and values near 1 both
//! stay below the 4e-3 |g| allowed.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

use std::rc::Rc;

use frugal_core::backend::{
    Attention, Backend, Context, Divergence, DivergenceKind, GroupScore, Head, HeadDirection,
    HeadProduct, Keys, Linear, Pages, Product, RopeColumns, RopePairs, Router, Sampling, Scoring,
};
use frugal_core::dtype::{DType, Data};
use frugal_core::error::{Error, Result};
use frugal_core::meter::Meter;
use frugal_core::reference::Reference;
use frugal_core::rng::Rng;
use frugal_core::shape::{Rows, Shape};
use frugal_train::tape::{Grads, Policy, SequenceBalance, Tape, Var};

type V = Var<<Reference as Backend>::Tensor>;
type T<'b> = Tape<'b, Reference>;

const STEP: f32 = 1.0 / 64.0;

/// A differentiable graph: leaves of the given shapes to any number of outputs.
struct Graph<F> {
    name: &'static str,
    shapes: Vec<Shape>,
    policy: Policy,
    forward: F,
}

impl<F> Graph<F>
where
    F: Fn(&T<'_>, &[V]) -> Result<Vec<V>>,
{
    fn new(name: &'static str, shapes: &[Shape], forward: F) -> Self {
        Self {
            name,
            shapes: shapes.to_vec(),
            policy: Policy::default(),
            forward,
        }
    }

    /// sum_i <c_i, output_i> with fixed c, plus the balance losses; and the gradients of all leaves.
    fn run(&self, leaves: &[Vec<f32>]) -> (f64, Vec<Option<Vec<f32>>>) {
        let b = Reference;
        let tape = Tape::new(&b, self.policy.clone());
        let vars: Vec<V> = leaves
            .iter()
            .zip(&self.shapes)
            .map(|(values, shape)| tape.leaf(b.put(*shape, Data::F32(values)).unwrap()))
            .collect();
        let outputs = (self.forward)(&tape, &vars).unwrap();
        let mut rng = Rng::derive(&[99]);
        let mut loss: f64 = tape.balance_losses().iter().map(|l| f64::from(*l)).sum();
        let mut seeds = Vec::new();
        for output in &outputs {
            let values = tape.get(output).unwrap();
            let weights = rng.normals(values.len(), 1.0);
            let terms = values.iter().zip(&weights);
            loss += terms
                .map(|(v, w)| f64::from(*v) * f64::from(*w))
                .sum::<f64>();
            let seed = b.put(tape.shape(output), Data::F32(&weights)).unwrap();
            seeds.push((output, seed));
        }
        let mut grads = Grads::new(leaves.len());
        tape.backward(&seeds, &mut grads).unwrap();
        let values = (0..leaves.len())
            .map(|leaf| grads.get(leaf).map(|g| b.get(g).unwrap()))
            .collect();
        (loss, values)
    }

    fn check(&self) {
        let mut rng = Rng::derive(&[7, frugal_core::rng::key(self.name)]);
        let leaves: Vec<Vec<f32>> = self
            .shapes
            .iter()
            .map(|shape| rng.normals(shape.elements(), 0.7))
            .collect();
        let (_, grads) = self.run(&leaves);
        for (leaf, gradient) in grads.iter().enumerate() {
            let gradient = gradient.as_ref().unwrap_or_else(|| {
                panic!("{}: no gradient reached leaf {leaf}", self.name);
            });
            let norm = length(gradient);
            assert!(
                norm > 1e-3,
                "{}: leaf {leaf} has gradient {norm}",
                self.name
            );
            let noise = rng.normals(gradient.len(), 1.0);
            let noise_norm = length(&noise);
            let direction: Vec<f32> = gradient
                .iter()
                .zip(&noise)
                .map(|(g, n)| g / norm + n / noise_norm)
                .collect();
            let at = |step: f32| {
                let mut moved = leaves.clone();
                for (value, along) in moved[leaf].iter_mut().zip(&direction) {
                    *value += step * along;
                }
                self.run(&moved).0
            };
            let numeric = (at(STEP) - at(-STEP)) / f64::from(2.0 * STEP);
            let pairs = gradient.iter().zip(&direction);
            let analytic: f64 = pairs.map(|(g, u)| f64::from(*g) * f64::from(*u)).sum();
            assert!(
                (analytic - numeric).abs() < 4e-3 * f64::from(norm),
                "{}: leaf {leaf}: {analytic} is not {numeric} (norm {norm})",
                self.name
            );
        }
    }
}

fn length(values: &[f32]) -> f32 {
    values.iter().map(|v| v * v).sum::<f32>().sqrt()
}

fn linear(t: &T<'_>, x: &V, weight: &V) -> Result<V> {
    let w = Linear {
        weight,
        bias: None,
        product: Product::Policy,
    };
    t.linear(x, w)
}

#[test]
fn fan_in_of_values_and_weights() {
    let m = Shape::matrix;
    let shapes = [m(3, 4), m(4, 4), Shape::vector(4), m(4, 4)];
    Graph::new("fan-in", &shapes, |t, leaves| {
        let [x, w, bias, w2] = leaves else {
            unreachable!()
        };
        let biased = Linear {
            weight: w,
            bias: Some(bias),
            product: Product::Exact,
        };
        let y = t.linear(x, biased)?;
        let again = linear(t, &y, w)?;
        let z = t.add(&y, &again)?;
        let z = t.add(&z, &z)?;
        let gated = t.swiglu(&linear(t, &z, w2)?, &y)?;
        // Rows of a value that is read elsewhere too, one of them twice.
        let rows = t.gather(&y, &[2, 0, 2])?;
        let rounded = t.cast(&rows, DType::F32)?;
        Ok(vec![gated, rounded])
    })
    .check();
}

#[test]
fn norms_splits_joins_and_ropes() {
    let columns = RopeColumns {
        n_heads: 2,
        head_width: 6,
        offset: 2,
        width: 4,
        pairs: RopePairs::Interleaved,
    };
    let shapes = [Shape::matrix(3, 14), Shape::vector(7)];
    Graph::new("rows", &shapes, move |t, leaves| {
        let [x, gain] = leaves else { unreachable!() };
        let normed = t.rms_norm(x, gain, 1e-6)?;
        // The part of one column is not read at all.
        let parts = t.split(&normed, 2, &[4, 1, 2])?;
        let [wide, _, narrow] = &parts[..] else {
            unreachable!()
        };
        let joined = t.join(&[narrow, wide], 2)?;
        let angles: Vec<f32> = (0..20).map(|i| i as f32 * 0.1).collect();
        let table: Vec<f32> = angles
            .chunks(2)
            .flat_map(|a| [a[0].cos(), a[1].cos(), a[0].sin(), a[1].sin()])
            .collect();
        let table = t.put(Shape::matrix(10, 4), Data::F32(&table))?;
        let roped = t.rope(&joined, &table, &[0, 9, 4], columns)?;
        Ok(vec![roped, t.swiglu(narrow, narrow)?])
    })
    .check();
}

fn packed(rows: &Rows, n_heads: usize) -> Attention<'_> {
    Attention {
        n_heads,
        scale: 0.5,
        rows,
        context: Context::Packed,
    }
}

#[test]
fn attention_grouped_and_expanded() {
    let rows = Rows::packed(&[3, 0, 1, 2]).unwrap();
    let m = |cols| Shape::matrix(6, cols);
    Graph::new("grouped", &[m(12), m(6), m(4)], |t, leaves| {
        let [q, k, v] = leaves else { unreachable!() };
        let keys = Keys::Grouped {
            k,
            v,
            n_kv_heads: 2,
        };
        Ok(vec![t.attention(q, keys, &packed(&rows, 4))?])
    })
    .check();
    Graph::new("expanded", &[m(10), m(14), m(2)], |t, leaves| {
        let [q, kv, k_rope] = leaves else {
            unreachable!()
        };
        let keys = Keys::Expanded {
            kv,
            k_rope,
            nope: 3,
        };
        Ok(vec![t.attention(q, keys, &packed(&rows, 2))?])
    })
    .check();
}

const T_ROWS: usize = 7;

fn router(scoring: Scoring, normalise: bool) -> Router {
    Router {
        top_k: 2,
        n_group: 2,
        topk_group: 1,
        scoring,
        group_score: match scoring {
            Scoring::Sigmoid => GroupScore::TopTwo,
            Scoring::Softmax => GroupScore::Max,
        },
        normalise,
        scale: 2.5,
    }
}

/// A layer of four experts with a residual stream around it. The router's logits come mostly from a
/// constant, so that small steps never change a choice.
fn experts(t: &T<'_>, leaves: &[V], router: &Router) -> Result<Vec<V>> {
    let [x, gate, up, down, route_by] = leaves else {
        unreachable!()
    };
    let choices = Rng::derive(&[5]).normals(T_ROWS * 4, 4.0);
    let choices = t.put(Shape::matrix(T_ROWS, 4), Data::F32(&choices))?;
    let logits = t.add(&linear(t, x, route_by)?, &choices)?;
    let bias = t.put(Shape::vector(4), Data::F32(&[0.1, 0.0, -0.1, 0.05]))?;
    let route = t.route(&logits, Some(&bias), router)?;
    let xs = t.dispatch(x, &route)?;
    let gated = t.swiglu(
        &t.grouped_linear(&xs, gate, &route)?,
        &t.grouped_linear(&xs, up, &route)?,
    )?;
    let ys = t.grouped_linear(&gated, down, &route)?;
    Ok(vec![t.add(x, &t.combine(&ys, &route)?)?])
}

fn expert_shapes() -> [Shape; 5] {
    [
        Shape::matrix(T_ROWS, 3),
        Shape::stack(4, 5, 3),
        Shape::stack(4, 5, 3),
        Shape::stack(4, 3, 5),
        Shape::matrix(4, 3),
    ]
}

#[test]
fn experts_and_their_router() {
    for (scoring, normalise) in [(Scoring::Sigmoid, true), (Scoring::Softmax, false)] {
        let router = router(scoring, normalise);
        Graph::new("experts", &expert_shapes(), |t, leaves| {
            let outputs = experts(t, leaves, &router)?;
            let loads = t.loads()?;
            assert_eq!(loads.len(), 1);
            assert_eq!(loads[0].iter().sum::<u32>(), 14);
            assert!(t.balance_losses().is_empty());
            Ok(outputs)
        })
        .check();
    }
}

#[test]
fn the_balance_loss_pulls_on_the_router() {
    let balance = SequenceBalance {
        alpha: 3.0,
        rows: Rc::new(Rows::packed(&[4, 3]).unwrap()),
    };
    let policy = Policy {
        balance: Some(balance),
    };
    let router = router(Scoring::Sigmoid, true);
    let balanced = Graph {
        policy: policy.clone(),
        ..Graph::new("experts", &expert_shapes(), |t, leaves| {
            experts(t, leaves, &router)
        })
    };
    balanced.check();
    // Also where nothing reads the weights.
    let alone = Graph {
        policy,
        ..Graph::new("alone", &[Shape::matrix(T_ROWS, 4)], |t, leaves| {
            t.route(&leaves[0], None, &router)?;
            assert_eq!(t.balance_losses().len(), 1);
            Ok(vec![])
        })
    };
    let (_, grads) = alone.run(&[Rng::derive(&[3]).normals(T_ROWS * 4, 1.0)]);
    assert!(length(grads[0].as_ref().unwrap()) > 1e-3);
}

#[test]
fn heads_tied_to_the_embedding() {
    let shapes = [Shape::matrix(5, 4), Shape::vector(4)];
    Graph::new("tied", &shapes, |t, leaves| {
        let [table, gain] = leaves else {
            unreachable!()
        };
        let x = t.gather(table, &[0, 3, 3, 1])?;
        let hidden = t.rms_norm(&x, gain, 1e-5)?;
        let head = Head {
            hidden: &hidden,
            weight: table,
        };
        Ok(vec![t.log_prob(head, &[1, 2, 0, 4], 0.8)?.log_prob])
    })
    .check();
}

#[test]
fn divergences_teach_the_student_alone() {
    for kind in [
        DivergenceKind::Forward,
        DivergenceKind::Reverse,
        DivergenceKind::JensenShannon { beta: 0.3 },
    ] {
        let m = Shape::matrix;
        let forward = |t: &T<'_>, leaves: &[V]| {
            let [hidden, weight, teacher_hidden, teacher_weight] = leaves else {
                unreachable!()
            };
            let student = Head { hidden, weight };
            let teacher = Head {
                hidden: teacher_hidden,
                weight: teacher_weight,
            };
            let divergence = Divergence {
                kind,
                temperature: 1.5,
            };
            Ok(vec![t.divergence(student, teacher, divergence)?])
        };
        let shapes = [m(3, 4), m(6, 4), m(3, 2), m(6, 2)];
        let teacher = [
            Rng::derive(&[1]).normals(6, 1.0),
            Rng::derive(&[2]).normals(12, 1.0),
        ];
        let student_only = |t: &T<'_>, leaves: &[V]| {
            let mut leaves = leaves.to_vec();
            for (shape, values) in shapes[2..].iter().zip(&teacher) {
                leaves.push(t.put(*shape, Data::F32(values))?);
            }
            forward(t, &leaves)
        };
        Graph::new("divergence", &shapes[..2], student_only).check();

        let mut rng = Rng::derive(&[4]);
        let all: Vec<_> = shapes
            .iter()
            .map(|shape| rng.normals(shape.elements(), 1.0))
            .collect();
        let (_, grads) = Graph::new("divergence", &shapes, forward).run(&all);
        assert!(grads[1].is_some() && grads[2].is_none() && grads[3].is_none());
    }
}

#[test]
fn gradients_of_several_tapes_add_up_and_are_cleared() {
    let b = Reference;
    let weight = b.put(Shape::matrix(1, 2), Data::F32(&[0.5, -1.0])).unwrap();
    let mut grads = Grads::new(2);
    let pass = |x: [f32; 2], grads: &mut Grads<_>| {
        let tape = Tape::new(&b, Policy::default());
        let (weight, _) = (tape.leaf(weight.clone()), tape.leaf(weight.clone()));
        let x = tape.put(Shape::matrix(1, 2), Data::F32(&x)).unwrap();
        let y = linear(&tape, &x, &weight).unwrap();
        let one = b.put(Shape::matrix(1, 1), Data::F32(&[1.0])).unwrap();
        tape.backward(&[(&y, one)], grads).unwrap();
    };
    pass([1.0, 2.0], &mut grads);
    pass([10.0, 20.0], &mut grads);
    assert_eq!(b.get(grads.get(0).unwrap()).unwrap(), [11.0, 22.0]);
    assert!(grads.get(1).is_none());
    grads.clear(&b).unwrap();
    assert!(grads.get(0).is_none());
    pass([3.0, 4.0], &mut grads);
    assert_eq!(b.get(grads.get(0).unwrap()).unwrap(), [3.0, 4.0]);
}

#[test]
fn the_meter_prices_the_tape_and_saved_tensors_are_freed_on_the_way() {
    const DEPTH: usize = 12;
    let meter = Meter::new();
    let mut grads = Grads::new(DEPTH);
    let width = Shape::matrix(32, 32);
    let weights: Vec<_> = (0..DEPTH).map(|_| meter.zeros(width).unwrap()).collect();
    let tape = Tape::new(&meter, Policy::default());
    let mut x = tape.zeros(Shape::matrix(64, 32)).unwrap();
    for weight in &weights {
        let weight = tape.leaf(weight.clone());
        let linear = Linear {
            weight: &weight,
            bias: None,
            product: Product::Policy,
        };
        x = tape.linear(&x, linear).unwrap();
    }
    let forward = meter.price();
    let seed = meter.zeros(Shape::matrix(64, 32)).unwrap();
    tape.backward(&[(&x, seed)], &mut grads).unwrap();
    let both = meter.price();
    assert_eq!(forward.product_flops, DEPTH as u64 * 2 * 64 * 32 * 32);
    assert_eq!(both.product_flops, 3 * forward.product_flops);
    // Weights, their gradients and the saved inputs are never all there at once: an input goes when
    // the gradient of its weight comes, beside three gradients of activations at the most.
    let (weight, activation) = (32 * 32 * 4, 64 * 32 * 4);
    let saved = DEPTH as u64 * (weight + activation) + activation;
    assert!(both.peak_bytes > forward.peak_bytes);
    assert!(
        both.peak_bytes <= saved + weight + 4 * activation,
        "{both:?}"
    );
}

#[test]
fn inference_is_refused_with_its_reason() {
    fn refused<T: std::fmt::Debug>(what: &str, result: Result<T>) {
        match result {
            Err(Error::Unsupported { reason, .. }) => assert!(!reason.is_empty()),
            other => panic!("{what}: {other:?}"),
        }
    }
    let b = Reference;
    let t = Tape::new(&b, Policy::default());
    let mut x = t.zeros(Shape::matrix(2, 4)).unwrap();
    let y = x.clone();
    refused("append", t.append(&mut x, &y, &[0, 1]));
    refused("copy_rows", t.copy_rows(&mut x, &[0], &[1]));
    refused("pick", t.pick(&y, &Sampling::GREEDY, &[0.0, 0.0]));
    let product = HeadProduct {
        n_heads: 2,
        block: 2,
        rows: 0..2,
        direction: HeadDirection::IntoLatent,
        passed: 0,
    };
    refused("per_head_linear", t.per_head_linear(&x, &y, &product));
    let rows = Rows::packed(&[2]).unwrap();
    let latent = Keys::Latent {
        latent: &y,
        rank: 2,
    };
    refused("latent", t.attention(&x, latent, &packed(&rows, 1)));
    let pages = Pages {
        page_rows: 2,
        tables: vec![vec![0]],
        lengths: vec![2],
    };
    let paged = Attention {
        context: Context::Paged(&pages),
        ..packed(&rows, 1)
    };
    let keys = Keys::Grouped {
        k: &y,
        v: &y,
        n_kv_heads: 1,
    };
    refused("paged", t.attention(&x, keys, &paged));
}

#[test]
fn seeds_and_leaves_that_do_not_match_are_refused() {
    let b = Reference;
    let leaf = |tape: &T<'_>| tape.leaf(b.zeros(Shape::matrix(2, 2)).unwrap());
    let tape = Tape::new(&b, Policy::default());
    let x = leaf(&tape);
    let seed = b.zeros(Shape::matrix(2, 3)).unwrap();
    assert!(tape.backward(&[(&x, seed)], &mut Grads::new(1)).is_err());
    let tape = Tape::new(&b, Policy::default());
    let x = leaf(&tape);
    let seed = b.zeros(Shape::matrix(2, 2)).unwrap();
    assert!(tape.backward(&[(&x, seed)], &mut Grads::new(0)).is_err());
}
