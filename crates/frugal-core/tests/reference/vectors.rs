//! Independent vectors, computed in f64 from the published formulas.

use frugal_core::backend::{
    Attention, Backend, Context, Divergence, DivergenceKind, GroupScore, Head, HeadDirection,
    HeadProduct, Keys, Pages, RopeColumns, RopePairs, Router, Sampling, Scoring, TrainBackend,
};
use frugal_core::ops::pick;
use frugal_core::reference::{HostTensor, Reference};
use frugal_core::shape::{Rows, Shape};
use serde_json::Value;

use crate::tensors::{assert_near, matrix, plain, values, vector};

/// Rows of a file of vectors, none (with a visible line) where the data is not there.
fn rows(name: &str) -> Vec<Value> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/data/rl-vectors")
        .join(name);
    let Ok(text) = std::fs::read_to_string(&path) else {
        eprintln!("skipped: no vectors at {}", path.display());
        return Vec::new();
    };
    let rows: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(!rows.is_empty(), "{name} holds no rows");
    rows
}

fn doubles(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(doubles).collect(),
        number => vec![number.as_f64().unwrap()],
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "vectors are compared in f32"
)]
fn floats(value: &Value) -> Vec<f32> {
    doubles(value).into_iter().map(|x| x as f32).collect()
}

fn count(row: &Value, name: &str) -> usize {
    usize::try_from(row[name].as_u64().unwrap()).unwrap()
}

fn float(row: &Value, name: &str, default: f32) -> f32 {
    row.get(name).map_or(default, |value| floats(value)[0])
}

/// A head whose logits are the given ones: hidden rows are units, the weight is the logits' column.
fn head_of(logits: &[f32]) -> (HostTensor, HostTensor) {
    (matrix(1, 1, &[1.0]), matrix(logits.len(), 1, logits))
}

#[test]
fn softmax_and_entropy() {
    for row in rows("softmax.jsonl") {
        let logits = floats(&row["logits"]);
        let (unit, weight) = head_of(&logits);
        let hidden = matrix(logits.len(), 1, &vec![1.0; logits.len()]);
        let targets: Vec<u32> = (0..).take(logits.len()).collect();
        let head = Head {
            hidden: &hidden,
            weight: &weight,
        };
        let got = Reference.log_prob(head, &targets, 1.0).unwrap();
        let expected = doubles(&row["log_softmax"]);
        assert_near("log_softmax", &values(&got.log_prob), &expected, 1e-6);
        let head = Head {
            hidden: &unit,
            weight: &weight,
        };
        let got = Reference.log_prob(head, &[0], 1.0).unwrap();
        assert_near(
            "entropy",
            &values(&got.entropy),
            &doubles(&row["entropy"]),
            1e-6,
        );
    }
}

#[test]
fn distillation() {
    for row in rows("distill.jsonl") {
        let (teacher_logits, student_logits) = (
            floats(&row["teacher_logits"]),
            floats(&row["student_logits"]),
        );
        let (unit, student_weight) = head_of(&student_logits);
        let (_, teacher_weight) = head_of(&teacher_logits);
        let student = Head {
            hidden: &unit,
            weight: &student_weight,
        };
        let teacher = Head {
            hidden: &unit,
            weight: &teacher_weight,
        };
        let temperature = float(&row, "temperature", 1.0);
        for (kind, name) in [
            (DivergenceKind::Forward, "forward_kl"),
            (DivergenceKind::Reverse, "reverse_kl"),
            (DivergenceKind::JensenShannon { beta: 0.5 }, "jsd_beta0.5"),
        ] {
            let setting = Divergence { kind, temperature };
            let got = Reference.divergence(student, teacher, setting).unwrap();
            assert_near(name, &values(&got), &doubles(&row[name]), 1e-6);
        }
        let setting = Divergence {
            kind: DivergenceKind::Forward,
            temperature,
        };
        // With a hidden row of 1 the gradient of the weight is that of the logits.
        let mut gradient = Reference.zeros(student_weight.shape()).unwrap();
        Reference
            .divergence_backward(student, teacher, setting, &vector(&[1.0]), &mut gradient)
            .unwrap();
        let expected = doubles(&row["grad_forward_kl_wrt_student_logits"]);
        assert_near("gradient", &values(&gradient), &expected, 1e-6);
    }
}

#[test]
fn sampler() {
    for row in rows("sampler.jsonl") {
        let logits = floats(&row["logits"]);
        let sampling = Sampling {
            temperature: float(&row, "temperature", 1.0),
            top_k: row.get("top_k").map_or(0, |_| count(&row, "top_k")),
            top_p: float(&row, "top_p", 1.0),
            min_p: float(&row, "min_p", 0.0),
        };
        let expected = doubles(&row["probs"]);
        let mut got = vec![0.0f64; logits.len()];
        for (id, p) in pick::support(&logits, &sampling) {
            got[id] = p;
        }
        let mut below = 0.0;
        for (id, (got, expected)) in got.iter().zip(&expected).enumerate() {
            assert!((got - expected).abs() < 1e-6, "{row}: {got} for {expected}");
            // A uniform in the middle of a token's share draws it.
            #[expect(clippy::cast_possible_truncation, reason = "uniforms are f32")]
            let uniform = (below + expected / 2.0) as f32;
            if *expected > 0.0 {
                let picked = pick::row(&logits, &sampling, uniform).unwrap();
                assert_eq!(picked.0 as usize, id);
            }
            below += expected;
        }
    }
}

#[test]
fn gates() {
    for row in rows("moe_gate.jsonl") {
        let is_v3 = row["gate"].as_str().unwrap().starts_with("deepseek-v3");
        let logits = floats(&row["logits"]);
        let bias = row.get("bias").map(|bias| vector(&floats(bias)));
        let router = Router {
            top_k: count(&row, "top_k"),
            n_group: count(&row, "n_group"),
            topk_group: count(&row, "topk_group"),
            scoring: if is_v3 {
                Scoring::Sigmoid
            } else {
                Scoring::Softmax
            },
            group_score: if is_v3 {
                GroupScore::TopTwo
            } else {
                GroupScore::Max
            },
            normalise: is_v3,
            scale: float(&row, "routed_scaling", 1.0),
        };
        let logits = matrix(1, logits.len(), &logits);
        let route = Reference.route(&logits, bias.as_ref(), &router).unwrap();
        let experts: Vec<u64> = (Reference.get_indices(&route.experts).unwrap().iter())
            .map(|expert| u64::from(*expert))
            .collect();
        assert_eq!(row["experts"], Value::from(experts));
        assert_near(
            "weights",
            &values(&route.weights),
            &doubles(&row["weights"]),
            2e-6,
        );
    }
}

/// The sizes of a row of `mla.jsonl`.
struct Mla {
    heads: usize,
    nope: usize,
    rope: usize,
    value: usize,
    rank: usize,
    dim: usize,
    eps: f32,
    tokens: usize,
}

impl Mla {
    fn of(row: &Value) -> Self {
        Self {
            heads: count(row, "heads"),
            nope: count(row, "qk_nope"),
            rope: count(row, "qk_rope"),
            value: count(row, "v_dim"),
            rank: count(row, "kv_rank"),
            dim: count(row, "dim"),
            eps: float(row, "norm_eps", 0.0),
            tokens: row["x"].as_array().unwrap().len(),
        }
    }

    /// Cosines, then sines.
    #[expect(clippy::cast_possible_truncation, reason = "tables are f32")]
    fn table(&self, base: f64) -> HostTensor {
        let half = self.rope / 2;
        let angle = |p: usize, i: usize| p as f64 * base.powf(-(2.0 * i as f64) / self.rope as f64);
        let table: Vec<f32> = (0..self.tokens)
            .flat_map(|p| {
                let cosines = (0..half).map(move |i| angle(p, i).cos() as f32);
                cosines.chain((0..half).map(move |i| angle(p, i).sin() as f32))
            })
            .collect();
        matrix(self.tokens, self.rope, &table)
    }

    fn columns(&self, n_heads: usize, offset: usize) -> RopeColumns {
        RopeColumns {
            n_heads,
            head_width: offset + self.rope,
            offset,
            width: self.rope,
            pairs: RopePairs::Interleaved,
        }
    }
}

fn param(row: &Value, name: &str) -> HostTensor {
    let value = &row["params"][name];
    let numbers = floats(value);
    match value[0].as_array() {
        Some(columns) => matrix(numbers.len() / columns.len(), columns.len(), &numbers),
        None => vector(&numbers),
    }
}

fn project(x: &HostTensor, row: &Value, name: &str) -> HostTensor {
    Reference.linear(x, plain(&param(row, name))).unwrap()
}

fn queries(x: &HostTensor, row: &Value, sizes: &Mla) -> HostTensor {
    if count(row, "q_rank") == 0 {
        return project(x, row, "wq");
    }
    let low = project(x, row, "wq_a");
    let low = Reference
        .rms_norm(&low, &param(row, "q_norm"), sizes.eps)
        .unwrap();
    project(&low, row, "wq_b")
}

#[test]
fn latent_attention_naive_absorbed_and_paged() {
    for row in rows("mla.jsonl") {
        let sizes = Mla::of(&row);
        let Mla { heads, nope, .. } = sizes;
        let table = sizes.table(row["rope_base"].as_f64().unwrap());
        let steps = Rows::packed(&[u32::try_from(sizes.tokens).unwrap()]).unwrap();
        let x = matrix(sizes.tokens, sizes.dim, &floats(&row["x"]));
        let rope = |x: &HostTensor, columns| {
            Reference
                .rope(x, &table, steps.positions(), columns)
                .unwrap()
        };
        let q = rope(&queries(&x, &row, &sizes), sizes.columns(heads, nope));
        let down = project(&x, &row, "wkv_a");
        let parts = Reference
            .split(&down, 1, &[sizes.rank, sizes.rope])
            .unwrap();
        let latent = Reference
            .rms_norm(&parts[0], &param(&row, "kv_norm"), sizes.eps)
            .unwrap();
        let k_rope = rope(&parts[1], sizes.columns(1, 0));
        assert_near(
            "latent",
            &values(&latent),
            &doubles(&row["cache_latent"]),
            1e-5,
        );
        let expected = doubles(&row["cache_rope_key"]);
        assert_near("rope key", &values(&k_rope), &expected, 1e-5);

        let attention = Attention {
            n_heads: heads,
            scale: 1.0 / ((nope + sizes.rope) as f32).sqrt(),
            rows: &steps,
            context: Context::Packed,
        };
        let kv = project(&latent, &row, "wkv_b");
        let keys = Keys::Expanded {
            kv: &kv,
            k_rope: &k_rope,
            nope,
        };
        let naive = Reference.attention(&q, keys, &attention).unwrap();
        let out = values(&project(&naive, &row, "wo"));
        assert_near("naive", &out, &doubles(&row["out"]), 1e-5);

        let cached = Reference.join(&[&latent, &k_rope], 1).unwrap();
        for paged in [false, true] {
            let out = absorbed(&row, &sizes, (&q, &cached), &attention, paged);
            assert_near("absorbed", &values(&out), &doubles(&row["out"]), 1e-5);
        }
    }
}

fn absorbed(
    row: &Value,
    sizes: &Mla,
    (q, cached): (&HostTensor, &HostTensor),
    attention: &Attention<'_>,
    is_paged: bool,
) -> HostTensor {
    let weight = param(row, "wkv_b");
    let into = HeadProduct {
        n_heads: sizes.heads,
        block: sizes.nope + sizes.value,
        rows: 0..sizes.nope,
        direction: HeadDirection::IntoLatent,
        passed: 0,
    };
    let parts = Reference
        .split(q, sizes.heads, &[sizes.nope, sizes.rope])
        .unwrap();
    let inner = Reference
        .per_head_linear(&parts[0], &weight, &into)
        .unwrap();
    let q = Reference.join(&[&inner, &parts[1]], sizes.heads).unwrap();
    // Pages of two rows, handed out back to front.
    let n_pages = sizes.tokens.div_ceil(2);
    let table: Vec<u32> = (0..u32::try_from(n_pages).unwrap()).rev().collect();
    let slots: Vec<u32> = (0..sizes.tokens)
        .map(|i| table[i / 2] * 2 + u32::from(i % 2 == 1))
        .collect();
    let width = sizes.rank + sizes.rope;
    let mut store = Reference.zeros(Shape::matrix(n_pages * 2, width)).unwrap();
    Reference.append(&mut store, cached, &slots).unwrap();
    let pages = Pages {
        page_rows: 2,
        tables: vec![table],
        lengths: vec![u32::try_from(sizes.tokens).unwrap()],
    };
    let (latent, context) = if is_paged {
        (&store, Context::Paged(&pages))
    } else {
        (cached, Context::Packed)
    };
    let keys = Keys::Latent {
        latent,
        rank: sizes.rank,
    };
    let attention = Attention {
        context,
        ..*attention
    };
    let sums = Reference.attention(&q, keys, &attention).unwrap();
    let out_of = HeadProduct {
        rows: sizes.nope..sizes.nope + sizes.value,
        direction: HeadDirection::FromLatent,
        ..into
    };
    let y = Reference.per_head_linear(&sums, &weight, &out_of).unwrap();
    project(&y, row, "wo")
}
