//! Times every operation at the shapes of small models: `cargo run --release -p frugal-kernels
//! --example ops_bench [threads] [f32|bf16] [part of a name] [amx|avx512bf16|avx512|avx2|portable]`.
//!
//! A line: microseconds, nanoseconds a number of the main operand, and the gigabytes a second that
//! reading the inputs and writing the results once would be. With one thread on Linux the time is
//! the mean of the thread's own time on a core, which other programs hardly disturb; else it is the
//! fastest of several runs.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a table for people, from fixed shapes"
)]

use std::time::Instant;

use frugal_core::backend::{
    AdamW, Attention, Backend, Balance, Context, GroupScore, Head, KeyBits, KeyStore, Keys, Linear,
    Muon, Pages, Product, RopeColumns, RopePairs, Router, Sampling, Scoring, TrainBackend,
};
use frugal_core::dtype::{DType, Data};
use frugal_core::quant::BlockFormat;
use frugal_core::rng::Rng;
use frugal_core::shape::{Rows, Shape};
use frugal_core::stored::Stored;
use frugal_kernels::cpu::backend::{Cpu, CpuSettings};
use frugal_kernels::cpu::detect::Isa;
use frugal_kernels::cpu::gemm::{BlockProducts, Precision};
use frugal_kernels::cpu::tensor::Tensor;

struct Bench {
    cpu: Cpu,
    part: String,
}

impl Bench {
    fn tensor(&self, rows: usize, cols: usize) -> Tensor {
        let mut rng = Rng::derive(&[rows as u64, cols as u64]);
        let values: Vec<f32> = (0..rows * cols)
            .map(|_| 3.0 * rng.uniform() - 1.5)
            .collect();
        let shape = Shape::matrix(rows, cols);
        self.cpu.put(shape, Data::F32(&values)).unwrap()
    }

    /// Times `run`, which works on `numbers` and moves `moved` of them.
    fn line(&self, name: &str, numbers: usize, moved: usize, mut run: impl FnMut()) {
        if !name.contains(&self.part) {
            return;
        }
        run();
        let mut best = f64::INFINITY;
        let (start, on_core) = (Instant::now(), seconds_on_core());
        let mut count = 0;
        while count < 5 || start.elapsed().as_secs_f64() < 0.25 {
            let begin = Instant::now();
            run();
            best = best.min(begin.elapsed().as_secs_f64());
            count += 1;
        }
        if let (1, Some(before), Some(after)) = (self.cpu.threads(), on_core, seconds_on_core()) {
            best = (after - before) / f64::from(count);
        }
        println!(
            "{name:32} {:10.1} us {:8.3} ns/number {:8.1} GB/s",
            best * 1e6,
            best * 1e9 / numbers as f64,
            moved as f64 * 4.0 / best / 1e9
        );
    }
}

/// Time this thread has spent on a core.
fn seconds_on_core() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(text.split(' ').next()?.parse::<f64>().ok()? * 1e-9)
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let threads = arguments.next().and_then(|n| n.parse().ok()).unwrap_or(2);
    let precision = match arguments.next().as_deref() {
        Some("f32") => Precision::F32,
        _ => Precision::Bf16,
    };
    let part = arguments.next().unwrap_or_default();
    let isa = arguments.next().map(|name| {
        let all = [
            Isa::Amx,
            Isa::Avx512Bf16,
            Isa::Avx512,
            Isa::Avx2,
            Isa::Portable,
        ];
        let is_it = |isa: &Isa| format!("{isa:?}").to_lowercase() == name;
        all.into_iter().find(is_it).unwrap()
    });
    let settings = CpuSettings {
        threads,
        precision,
        blocks: BlockProducts::Integer,
        isa,
    };
    let bench = Bench {
        cpu: Cpu::new(settings).unwrap(),
        part,
    };
    println!("{:?}, {threads} threads, {precision:?}", bench.cpu.isa());
    rowwise(&bench);
    attention(&bench);
    decode(&bench);
    decode_long(&bench);
    decode_tiny(&bench);
    experts(&bench);
    heads(&bench);
    updates(&bench);
    kept(&bench);
}

/// T and D of the row-wise lines.
const ROWS: usize = 4096;
const WIDTH: usize = 192;

fn rowwise(b: &Bench) {
    let cpu = &b.cpu;
    let n = ROWS * WIDTH;
    let (x, dy) = (b.tensor(ROWS, WIDTH), b.tensor(ROWS, WIDTH));
    for width in [WIDTH, 32] {
        let w = b.tensor(1, width);
        let w = cpu
            .put(Shape::vector(width), Data::F32(&cpu.get(&w).unwrap()))
            .unwrap();
        let mut dw = cpu.zeros(Shape::vector(width)).unwrap();
        b.line(&format!("rms_norm {width}"), n, 2 * n, || {
            cpu.rms_norm(&x, &w, 1e-6).unwrap();
        });
        b.line(&format!("rms_norm_backward {width}"), n, 3 * n, || {
            cpu.rms_norm_backward(&x, &w, 1e-6, &dy, &mut dw).unwrap();
        });
    }
    b.line("swiglu", n, 3 * n, || {
        cpu.swiglu(&x, &dy).unwrap();
    });
    b.line("swiglu_backward", n, 5 * n, || {
        cpu.swiglu_backward(&x, &dy, &x).unwrap();
    });
    b.line("add", n, 3 * n, || {
        cpu.add(&x, &dy).unwrap();
    });
    let mut sum = b.tensor(ROWS, WIDTH);
    b.line("accumulate", n, 3 * n, || {
        cpu.accumulate(&mut sum, &x).unwrap();
    });
    b.line("cast to bf16", n, n * 3 / 2, || {
        cpu.cast(&x, DType::Bf16).unwrap();
    });
    b.line("split 6 x [16, 16]", n, 2 * n, || {
        cpu.split(&x, 6, &[16, 16]).unwrap();
    });
    let parts = cpu.split(&x, 6, &[16, 16]).unwrap();
    let parts: Vec<&Tensor> = parts.iter().collect();
    b.line("join 6 x [16, 16]", n, 2 * n, || {
        cpu.join(&parts, 6).unwrap();
    });
    let wide = cpu.split(&x, 1, &[64, 128]).unwrap();
    let wide: Vec<&Tensor> = wide.iter().collect();
    b.line("split 1 x [64, 128]", n, 2 * n, || {
        cpu.split(&x, 1, &[64, 128]).unwrap();
    });
    b.line("join 1 x [64, 128]", n, 2 * n, || {
        cpu.join(&wide, 1).unwrap();
    });
    let table = b.tensor(256, 16);
    let positions: Vec<u32> = (0..ROWS as u32).map(|i| i % 100).collect();
    for pairs in [RopePairs::Interleaved, RopePairs::Halves] {
        let columns = RopeColumns {
            n_heads: 4,
            head_width: 48,
            offset: 32,
            width: 16,
            pairs,
        };
        b.line(&format!("rope {pairs:?}"), n, 2 * n, || {
            cpu.rope(&x, &table, &positions, columns).unwrap();
        });
    }
    let table = b.tensor(512, WIDTH);
    let ids: Vec<u32> = (0..ROWS as u32).map(|i| i * 31 % 512).collect();
    b.line("gather", n, 2 * n, || {
        cpu.gather(&table, &ids).unwrap();
    });
    let mut d_table = b.tensor(512, WIDTH);
    b.line("gather_backward", n, 2 * n, || {
        cpu.gather_backward(&ids, &dy, &mut d_table).unwrap();
    });
    let weight = b.tensor(WIDTH, WIDTH);
    let mut d_weight = b.tensor(WIDTH, WIDTH);
    for product in [Product::Policy, Product::Exact] {
        let w = Linear {
            weight: &weight,
            bias: None,
            product,
        };
        b.line(&format!("linear 192x192 {product:?}"), n, 2 * n, || {
            cpu.linear(&x, w).unwrap();
        });
        b.line(&format!("linear_backward {product:?}"), n, 3 * n, || {
            cpu.linear_backward(&x, w, &dy, &mut d_weight, None)
                .unwrap();
        });
    }
}

/// Packed sequences of 20 to 150 rows.
fn sequences() -> Rows {
    let mut rng = Rng::derive(&[7]);
    let lengths: Vec<u32> = (0..48).map(|_| 20 + rng.below(131)).collect();
    Rows::packed(&lengths).unwrap()
}

fn attention(b: &Bench) {
    let cpu = &b.cpu;
    let rows = sequences();
    let t = rows.n_rows();
    let attention = Attention {
        n_heads: 4,
        scale: 0.15,
        rows: &rows,
        context: Context::Packed,
    };
    let (q, dy) = (b.tensor(t, 4 * 48), b.tensor(t, 4 * 32));
    let (kv, k_rope) = (b.tensor(t, 4 * 64), b.tensor(t, 16));
    let expanded = Keys::Expanded {
        kv: &kv,
        k_rope: &k_rope,
        nope: 32,
    };
    let (k, v) = (b.tensor(t, 2 * 48), b.tensor(t, 2 * 32));
    let grouped = Keys::Grouped {
        k: &k,
        v: &v,
        n_kv_heads: 2,
    };
    // Pairs of a query and a key it sees, over heads.
    let pairs: usize = 4 * rows
        .ranges()
        .map(|r| r.len() * (r.len() + 1) / 2)
        .sum::<usize>();
    for (name, keys) in [("expanded", expanded), ("grouped", grouped)] {
        b.line(&format!("attention {name}"), pairs, t * 4 * 144, || {
            cpu.attention(&q, keys, &attention).unwrap();
        });
        let saved = cpu.attention_saved(&q, keys, &attention).unwrap();
        b.line(
            &format!("attention_backward {name}"),
            pairs,
            t * 4 * 320,
            || {
                cpu.attention_backward(&q, keys, &attention, &saved, &dy)
                    .unwrap();
            },
        );
    }
}

fn decode(b: &Bench) {
    let cpu = &b.cpu;
    let n: u32 = 256;
    let mut rng = Rng::derive(&[8]);
    let lengths: Vec<u32> = (0..n).map(|_| 20 + rng.below(181)).collect();
    let pages: Vec<u32> = lengths.iter().map(|l| l.div_ceil(16)).collect();
    let mut next = 0;
    let tables = pages
        .iter()
        .map(|count| {
            next += count;
            (next - count..next).collect()
        })
        .collect();
    let ones = vec![1; n as usize];
    let starts: Vec<u32> = lengths.iter().map(|l| l - 1).collect();
    let rows = Rows::new(&ones, &starts).unwrap();
    let store = |width| b.tensor(next as usize * 16, width);
    let narrow = |x: &Tensor| cpu.cast(x, DType::Bf16).unwrap();
    let pages = Pages {
        page_rows: 16,
        tables,
        lengths,
    };
    let attention = Attention {
        n_heads: 4,
        scale: 0.15,
        rows: &rows,
        context: Context::Paged(&pages),
    };
    let pairs = 4 * pages.lengths.iter().sum::<u32>() as usize;
    let q = b.tensor(n as usize, 4 * 48);
    let (kv, k_rope) = (store(4 * 64), store(16));
    let (kv16, k_rope16) = (narrow(&kv), narrow(&k_rope));
    for (name, kv, k_rope) in [("f32", &kv, &k_rope), ("bf16", &kv16, &k_rope16)] {
        let keys = Keys::Expanded {
            kv,
            k_rope,
            nope: 32,
        };
        b.line(
            &format!("decode expanded {name}"),
            pairs,
            pairs * 68,
            || {
                cpu.attention(&q, keys, &attention).unwrap();
            },
        );
    }
    let (k, v) = (store(2 * 48), store(2 * 32));
    let keys = Keys::Grouped {
        k: &k,
        v: &v,
        n_kv_heads: 2,
    };
    b.line("decode grouped", pairs, pairs / 2 * 80, || {
        cpu.attention(&q, keys, &attention).unwrap();
    });
    let q = b.tensor(n as usize, 4 * 64);
    let latent = store(64);
    let keys = Keys::Latent {
        latent: &latent,
        rank: 48,
    };
    b.line("decode latent", pairs, pairs / 4 * 64, || {
        cpu.attention(&q, keys, &attention).unwrap();
    });
}

/// Long conversations with a model of Qwen2-1.5B's heads, keys and values in bf16 and in 8 bits.
fn decode_long(b: &Bench) {
    let cpu = &b.cpu;
    for (n, length) in [(1_u32, 8192_u32), (8, 2048)] {
        let each = length.div_ceil(16);
        let tables = (0..n)
            .map(|i| (i * each..(i + 1) * each).collect())
            .collect();
        let rows = Rows::new(&vec![1; n as usize], &vec![length - 1; n as usize]).unwrap();
        let pages = Pages {
            page_rows: 16,
            tables,
            lengths: vec![length; n as usize],
        };
        let attention = Attention {
            n_heads: 12,
            scale: 0.09,
            rows: &rows,
            context: Context::Paged(&pages),
        };
        let n_rows = (n * each * 16) as usize;
        let q = b.tensor(n as usize, 12 * 128);
        let slots: Vec<u32> = (0..n_rows as u32).collect();
        let store = |bits| {
            let parts = [2 * 128, 0];
            let rows = n_rows;
            let mut store = cpu.key_store(&KeyStore { rows, parts, bits }).unwrap();
            cpu.append(&mut store, &b.tensor(n_rows, 2 * 128), &slots)
                .unwrap();
            store
        };
        for (name, bits, bytes) in [
            ("full", KeyBits::AsProducts, 512),
            ("8 bits", KeyBits::Eight, 272),
        ] {
            let (k, v) = (store(bits), store(bits));
            let keys = Keys::Grouped {
                k: &k,
                v: &v,
                n_kv_heads: 2,
            };
            let name = format!("decode long {n} x {length} {name}");
            b.line(&name, 12 * n_rows, n_rows * 2 * bytes / 4, || {
                cpu.attention(&q, keys, &attention).unwrap();
            });
        }
    }
}

/// Short answers of a tiny model: sequences that fit the second cache, and many.
fn decode_tiny(b: &Bench) {
    let cpu = &b.cpu;
    for n in [8_u32, 128] {
        let lengths: Vec<u32> = (0..n).map(|i| 40 + i * 197 % 200).collect();
        let pages: Vec<u32> = lengths.iter().map(|l| l.div_ceil(16)).collect();
        let mut next = 0;
        let tables = pages
            .iter()
            .map(|count| {
                next += count;
                (next - count..next).collect()
            })
            .collect();
        let ones = vec![1; n as usize];
        let starts: Vec<u32> = lengths.iter().map(|l| l - 1).collect();
        let rows = Rows::new(&ones, &starts).unwrap();
        let pages = Pages {
            page_rows: 16,
            tables,
            lengths,
        };
        let attention = Attention {
            n_heads: 4,
            scale: 0.15,
            rows: &rows,
            context: Context::Paged(&pages),
        };
        let pairs = 4 * pages.lengths.iter().sum::<u32>() as usize;
        let store = |width| {
            let x = b.tensor(next as usize * 16, width);
            cpu.cast(&x, DType::Bf16).unwrap()
        };
        let q = b.tensor(n as usize, 4 * 32);
        let (kv, k_rope) = (store(4 * 32), store(16));
        let keys = Keys::Expanded {
            kv: &kv,
            k_rope: &k_rope,
            nope: 16,
        };
        let name = format!("decode tiny {n}");
        b.line(&name, pairs, pairs * 18, || {
            cpu.attention(&q, keys, &attention).unwrap();
        });
    }
}

fn experts(b: &Bench) {
    let cpu = &b.cpu;
    let (e, k, inner) = (16, 4, 64);
    let logits = b.tensor(ROWS, e);
    let bias = cpu.zeros(Shape::vector(e)).unwrap();
    let router = Router {
        top_k: k,
        n_group: 4,
        topk_group: 2,
        scoring: Scoring::Sigmoid,
        group_score: GroupScore::TopTwo,
        normalise: true,
        scale: 2.5,
    };
    b.line("route", ROWS * e, ROWS * e, || {
        cpu.route(&logits, Some(&bias), &router).unwrap();
    });
    let route = cpu.route(&logits, Some(&bias), &router).unwrap();
    let (x, dy) = (b.tensor(ROWS, WIDTH), b.tensor(ROWS, WIDTH));
    let n = ROWS * k * WIDTH;
    let d_weights = b.tensor(ROWS, k);
    let lengths = vec![64; ROWS / 64];
    let rows = Rows::packed(&lengths).unwrap();
    let balance = Balance {
        alpha: 1e-3,
        rows: &rows,
    };
    b.line("route_backward", ROWS * e, 2 * ROWS * e, || {
        cpu.route_backward(&logits, &router, &route, &d_weights, Some(balance))
            .unwrap();
    });
    b.line("dispatch", n, 2 * n, || {
        cpu.dispatch(&x, &route).unwrap();
    });
    let xs = cpu.dispatch(&x, &route).unwrap();
    b.line("dispatch_backward", n, n * 5 / 4, || {
        cpu.dispatch_backward(&xs, &route).unwrap();
    });
    b.line("combine", n, n * 5 / 4, || {
        cpu.combine(&xs, &route).unwrap();
    });
    b.line("combine_backward", n, n * 9 / 4, || {
        cpu.combine_backward(&xs, &route, &dy).unwrap();
    });
    let weight = cpu.zeros(Shape::stack(e, inner, WIDTH)).unwrap();
    let mut d_weight = cpu.zeros(Shape::stack(e, inner, WIDTH)).unwrap();
    b.line("grouped_linear", n, n * 4 / 3, || {
        cpu.grouped_linear(&xs, &weight, &route).unwrap();
    });
    let ys = cpu.grouped_linear(&xs, &weight, &route).unwrap();
    b.line("grouped_linear_backward", n, n * 7 / 3, || {
        cpu.grouped_linear_backward(&xs, &weight, &route, &ys, &mut d_weight)
            .unwrap();
    });
}

fn heads(b: &Bench) {
    let cpu = &b.cpu;
    let vocabulary = 512;
    let n = ROWS * vocabulary;
    let (hidden, weight) = (b.tensor(ROWS, WIDTH), b.tensor(vocabulary, WIDTH));
    let mut d_weight = b.tensor(vocabulary, WIDTH);
    let targets: Vec<u32> = (0..ROWS as u32).map(|i| i % 512).collect();
    let head = Head {
        hidden: &hidden,
        weight: &weight,
    };
    let d = cpu
        .put(Shape::vector(ROWS), Data::F32(&[1.0; ROWS]))
        .unwrap();
    b.line("log_prob", n, n, || {
        cpu.log_prob(head, &targets, 1.0).unwrap();
    });
    b.line("log_prob_backward", n, n, || {
        cpu.log_prob_backward(head, &targets, 1.0, &d, &mut d_weight)
            .unwrap();
    });
    let divergence = frugal_core::backend::Divergence {
        kind: frugal_core::backend::DivergenceKind::Forward,
        temperature: 1.0,
    };
    b.line("divergence", n, n, || {
        cpu.divergence(head, head, divergence).unwrap();
    });
    b.line("divergence_backward", n, n, || {
        cpu.divergence_backward(head, head, divergence, &d, &mut d_weight)
            .unwrap();
    });
    let logits = b.tensor(256, vocabulary);
    let uniforms = vec![0.37; 256];
    let limited = Sampling {
        top_p: 0.9,
        ..Sampling::PLAIN
    };
    let kinds = [
        ("plain", Sampling::PLAIN),
        ("greedy", Sampling::GREEDY),
        ("top_p", limited),
    ];
    for (name, sampling) in kinds {
        b.line(
            &format!("pick {name}"),
            256 * vocabulary,
            256 * vocabulary,
            || {
                cpu.pick(&logits, &sampling, &uniforms).unwrap();
            },
        );
    }
}

fn updates(b: &Bench) {
    let cpu = &b.cpu;
    let n = 1 << 20;
    let mut p = b.tensor(1024, 1024);
    let g = b.tensor(1024, 1024);
    let [mut m, mut v] = [(); 2].map(|()| cpu.zeros(Shape::matrix(1024, 1024)).unwrap());
    let step = AdamW {
        learning_rate: 1e-6,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.1,
        step: 3,
        gradient_scale: 1.0,
    };
    b.line("adamw", n, 7 * n, || {
        cpu.adamw(&mut p, &g, [&mut m, &mut v], &step).unwrap();
    });
    b.line("norm_squared", n, n, || {
        cpu.norm_squared(&[&g]).unwrap();
    });
    let mut p = b.tensor(512, 192);
    let (g, mut m) = (b.tensor(512, 192), b.tensor(512, 192));
    let step = Muon {
        learning_rate: 1e-6,
        momentum: 0.9,
        weight_decay: 0.1,
        gradient_scale: 1.0,
    };
    b.line("muon 512x192", 512 * 192, 512 * 192, || {
        cpu.muon(&mut p, &g, &mut m, &step).unwrap();
    });
}

/// Products of a few rows with weights in the form of their file, so many of them in turn that they
/// come from memory; the rate is that of the weight's bytes.
fn kept(b: &Bench) {
    let cpu = &b.cpu;
    let shape = Shape::matrix(8960, 1536);
    let copies = 12;
    let mut rng = Rng::derive(&[9]);
    let numbers: Vec<f32> = (0..shape.elements())
        .map(|_| 3.0 * rng.uniform() - 1.5)
        .collect();
    let blocks = |format: BlockFormat| Stored::Blocks {
        format,
        bytes: format.encode(&numbers).unwrap().into(),
    };
    // Every byte but the two that are no number.
    let bytes: Vec<u8> = (0..shape.elements())
        .map(|_| rng.below(256) as u8)
        .map(|byte| if byte & 0x7F == 0x7F { 0 } else { byte })
        .collect();
    let fp8 = || Stored::Fp8Blocks {
        bytes: bytes.clone().into(),
        scales: (1..=shape.elements() / (128 * 128))
            .map(|i| 1.0 / i as f32)
            .collect(),
        block: [128, 128],
    };
    let mut forms: Vec<(String, Option<BlockFormat>)> = vec![("fp8".into(), None)];
    forms.extend(BlockFormat::ALL.map(|format| (format.to_string(), Some(format))));
    for (name, format) in forms {
        if !format!("kept {name} x 1").contains(&b.part) {
            continue;
        }
        let stored = format.map_or_else(fp8, blocks);
        let bytes = stored.bytes().len();
        // Each a copy of its own.
        let copy = |_| match &stored {
            Stored::Blocks { format, bytes } => Stored::Blocks {
                format: *format,
                bytes: bytes.to_vec().into(),
            },
            _ => fp8(),
        };
        let weights: Vec<Tensor> = (0..copies)
            .map(|i| cpu.keep(shape, &[copy(i)]).unwrap())
            .collect();
        for rows in [1, 2, 4, 8, 16] {
            let x = b.tensor(rows, shape.cols());
            let mut turn = 0;
            let name = format!("kept {name} x {rows}");
            b.line(&name, shape.elements(), bytes / 4, || {
                turn = (turn + 1) % weights.len();
                let linear = Linear {
                    weight: weights.get(turn).unwrap(),
                    bias: None,
                    product: Product::Policy,
                };
                cpu.linear(&x, linear).unwrap();
            });
        }
    }
}
