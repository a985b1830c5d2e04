//! What holds bit for bit: threads, neighbours, caches; and memory that is used again.

use frugal_core::backend::{
    Attention, Backend, Context, KeyBits, KeyStore, Keys, Pages, TrainBackend,
};
use frugal_core::dtype::DType;
use frugal_core::shape::{Rows, Shape};
use frugal_kernels::cpu::backend::Cpu;
use frugal_kernels::cpu::gemm::Precision;
use frugal_kernels::cpu::tensor::Tensor;

use crate::program::{everything, rows, tensor};
use crate::{cpu, isas};

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    for isa in isas() {
        for precision in [Precision::F32, Precision::Bf16] {
            let alone = everything(&cpu(1, precision, isa));
            for threads in [2, 3] {
                let together = everything(&cpu(threads, precision, isa));
                for ((name, a), (_, b)) in alone.iter().zip(&together) {
                    assert_eq!(bits(a), bits(b), "{isa:?} {precision:?} {name}");
                }
            }
        }
    }
}

/// Keys in the form under test.
fn keys(form: usize, tensors: &[Tensor; 2]) -> Keys<'_, Tensor> {
    let [first, second] = tensors;
    match form {
        0 => Keys::Grouped {
            k: first,
            v: second,
            n_kv_heads: 2,
        },
        1..=3 => Keys::Expanded {
            kv: first,
            k_rope: second,
            nope: NOPE[form - 1],
        },
        _ => Keys::Latent {
            latent: first,
            rank: 36,
        },
    }
}

/// Columns of a key of its own before those it shares: part of a vector, and a
/// whole one, before part of one and before a whole one.
const NOPE: [usize; 3] = [20, 16, 16];

/// Widths of a query head and of the two key tensors.
const WIDTHS: [[usize; 3]; 5] = [
    [24, 48, 40],
    [28, 4 * 36, 8],
    [24, 4 * 32, 8],
    [32, 4 * 32, 16],
    [44, 44, 1],
];

/// Attention of packed sequences, of pages filled row by row and read by one query at a time, and
/// of a prefill in two halves: the same bits.
#[test]
fn a_row_of_attention_is_the_same_in_training_prefill_and_decode() {
    for isa in isas() {
        for form in 0..WIDTHS.len() {
            for kept in [Kept::As(DType::F32), Kept::As(DType::Bf16), Kept::EightBits] {
                for precision in [Precision::F32, Precision::Bf16] {
                    // One thread takes all heads of a sequence together, two share them.
                    for threads in [1, 2] {
                        check_attention(&cpu(threads, precision, isa), form, kept);
                    }
                }
            }
        }
    }
}

fn ask(b: &Cpu, q: &Tensor, keys: Keys<'_, Tensor>, rows: &Rows, context: Context<'_>) -> Vec<f32> {
    let attention = Attention {
        n_heads: 4,
        scale: 0.3,
        rows,
        context,
    };
    b.get(&b.attention(q, keys, &attention).unwrap()).unwrap()
}

/// How the stores under test keep numbers.
#[derive(Clone, Copy)]
enum Kept {
    As(DType),
    EightBits,
}

impl Kept {
    fn store(self, b: &Cpu, rows: usize, width: usize) -> Tensor {
        match self {
            Self::As(dtype) => {
                let zeros = b.zeros(Shape::matrix(rows, width)).unwrap();
                b.cast(&zeros, dtype).unwrap()
            }
            Self::EightBits => {
                let first = width.min(36);
                let parts = [first, width - first];
                let bits = KeyBits::Eight;
                b.key_store(&KeyStore { rows, parts, bits }).unwrap()
            }
        }
    }

    /// The numbers that are read back of rows written to a store of 8 bits; of the others, whose
    /// numbers are ones that bf16 holds, the same.
    fn read_back(self, b: &Cpu, rows: Tensor) -> Tensor {
        if let Self::As(_) = self {
            return rows;
        }
        let shape = b.shape(&rows);
        let mut store = self.store(b, shape.rows(), shape.cols());
        let slots: Vec<u32> = (0..shape.rows() as u32).collect();
        b.append(&mut store, &rows, &slots).unwrap();
        b.cast(&store, DType::F32).unwrap()
    }
}

fn check_attention(b: &Cpu, form: usize, kept: Kept) {
    let rows = rows();
    let t = rows.n_rows();
    let [q_width, first, second] = WIDTHS[form];
    let q = tensor(b, 1, Shape::matrix(t, 4 * q_width), 1.0);
    let packed = [first, second].map(|w| tensor(b, 2, Shape::matrix(t, w), 1.0));
    let packed = packed.map(|rows| kept.read_back(b, rows));
    let expected = ask(b, &q, keys(form, &packed), &rows, Context::Packed);
    let width = expected.len() / t;

    // Every sequence in pages of 7 rows of its own, pages in scattered order.
    let page_rows = 7;
    let mut n_pages = 0;
    let mut tables = Vec::new();
    for range in rows.ranges() {
        let pages = range.len().div_ceil(page_rows) as u32;
        tables.push((n_pages..n_pages + pages).rev().collect::<Vec<u32>>());
        n_pages += pages;
    }
    let store = |width| kept.store(b, n_pages as usize * page_rows, width);
    let mut stores = [store(first), store(second)];
    for (range, table) in rows.ranges().zip(&tables) {
        let slots: Vec<u32> = (0..range.len())
            .map(|i| table[i / page_rows] * page_rows as u32 + (i % page_rows) as u32)
            .collect();
        let ids: Vec<u32> = range.map(|i| i as u32).collect();
        for (store, packed) in stores.iter_mut().zip(&packed) {
            let part = b.gather(packed, &ids).unwrap();
            b.append(store, &part, &slots).unwrap();
        }
    }
    let paged = |lengths: Vec<u32>| Pages {
        page_rows,
        tables: tables.clone(),
        lengths,
    };
    let full: Vec<u32> = rows.ranges().map(|range| range.len() as u32).collect();

    // All rows at once, then the rows of the second half of each sequence, then each row alone.
    let got = ask(
        b,
        &q,
        keys(form, &stores),
        &rows,
        Context::Paged(&paged(full.clone())),
    );
    assert_eq!(bits(&got), bits(&expected), "prefill, form {form}");
    let halves: Vec<u32> = full.iter().map(|n| n / 2).collect();
    let starts: Vec<u32> = full.iter().zip(&halves).map(|(n, half)| n - half).collect();
    check_rows(b, (&rows, &halves, &starts), &q, |q, part, ids| {
        let got = ask(
            b,
            q,
            keys(form, &stores),
            part,
            Context::Paged(&paged(full.clone())),
        );
        compare(&got, &expected, ids, width, "half a prefill");
    });
    for position in [0, 1, 36, 63, 64, 65, 129] {
        let lengths: Vec<u32> = full.iter().map(|n| u32::from(position < *n)).collect();
        let starts = vec![position; lengths.len()];
        let seen = full.iter().map(|n| (position + 1).min(*n)).collect();
        let pages = paged(seen);
        check_rows(b, (&rows, &lengths, &starts), &q, |q, part, ids| {
            let got = ask(b, q, keys(form, &stores), part, Context::Paged(&pages));
            compare(&got, &expected, ids, width, "decode");
        });
    }
}

/// Hands out the query rows `starts..starts + lengths` of each sequence.
fn check_rows(
    b: &Cpu,
    (rows, lengths, starts): (&Rows, &[u32], &[u32]),
    q: &Tensor,
    check: impl Fn(&Tensor, &Rows, &[u32]),
) {
    let mut ids = Vec::new();
    for (range, (start, length)) in rows.ranges().zip(starts.iter().zip(lengths)) {
        ids.extend((0..*length).map(|i| range.start as u32 + start + i));
    }
    let part = Rows::new(lengths, starts).unwrap();
    check(&b.gather(q, &ids).unwrap(), &part, &ids);
}

fn compare(got: &[f32], expected: &[f32], ids: &[u32], width: usize, what: &str) {
    for (row, id) in got.chunks(width).zip(ids) {
        let start = *id as usize * width;
        let expected = &expected[start..start + width];
        assert_eq!(bits(row), bits(expected), "{what}, row {id}");
    }
}

/// With one thread the third step asks for nothing. With two, which thread holds which scratch when
/// is a matter of timing, so that a few more steps may pass before three in a row ask for nothing.
#[test]
fn memory_is_asked_for_in_the_first_steps_only() {
    let isa = isas()[isas().len() - 1];
    let b = cpu(1, Precision::Bf16, isa);
    everything(&b);
    everything(&b);
    let after_two = b.allocations();
    everything(&b);
    assert_eq!(b.allocations(), after_two);

    let b = cpu(2, Precision::Bf16, isa);
    let mut quiet = 0;
    for _ in 0..15 {
        let before = b.allocations();
        everything(&b);
        quiet = if b.allocations() == before {
            quiet + 1
        } else {
            0
        };
        if quiet == 3 {
            return;
        }
    }
    panic!("{} blocks after 15 steps and still asking", b.allocations());
}

#[test]
fn a_weight_that_changed_is_packed_again() {
    let b = cpu(2, Precision::F32, isas()[0]);
    let x = tensor(&b, 1, Shape::matrix(5, 8), 1.0);
    let mut weight = tensor(&b, 2, Shape::matrix(3, 8), 1.0);
    let linear = |weight: &Tensor| {
        let w = frugal_core::backend::Linear {
            weight,
            bias: None,
            product: frugal_core::backend::Product::Policy,
        };
        b.get(&b.linear(&x, w).unwrap()).unwrap()
    };
    let before = linear(&weight);
    let kept = weight.clone();
    let more = weight.clone();
    b.accumulate(&mut weight, &more).unwrap();
    let doubled: Vec<f32> = before.iter().map(|y| y + y).collect();
    assert_eq!(bits(&linear(&weight)), bits(&doubled));
    assert_eq!(bits(&linear(&kept)), bits(&before));
}

#[test]
fn a_causal_row_is_not_touched_by_what_comes_after_it() {
    let b = cpu(1, Precision::F32, isas()[isas().len() - 1]);
    let rows = Rows::packed(&[6]).unwrap();
    let mut values = vec![0.5; 6 * 16];
    values[5 * 16..].fill(f32::NAN);
    let shape = Shape::matrix(6, 16);
    let k = b
        .put(shape, frugal_core::dtype::Data::F32(&values))
        .unwrap();
    let keys = Keys::Grouped {
        k: &k,
        v: &k,
        n_kv_heads: 1,
    };
    let attention = Attention {
        n_heads: 1,
        scale: 1.0,
        rows: &rows,
        context: Context::Packed,
    };
    let y = b.get(&b.attention(&k, keys, &attention).unwrap()).unwrap();
    assert!(y[..5 * 16].iter().all(|y| (y - 0.5).abs() < 1e-6));
    assert!(y[5 * 16..].iter().all(|y| y.is_nan()));
}

/// A long sequence among short ones: what a unit needs of memory does not only grow with its queries,
/// since several short ones meet a tile together.
#[test]
fn short_sequences_beside_a_longer_one_get_what_they_get_alone() {
    let (n_heads, n_kv_heads, width) = (4, 2, 64);
    let mut lengths = vec![10_u32];
    lengths.extend([1, 3, 8, 2, 15, 9, 7, 1, 1, 4, 12]);
    let all = Rows::packed(&lengths).unwrap();
    let n: usize = lengths.iter().map(|length| *length as usize).sum();
    for isa in isas() {
        for precision in [Precision::F32, Precision::Bf16] {
            let b = cpu(1, precision, isa);
            let q = tensor(&b, 1, Shape::matrix(n, n_heads * width), 1.0);
            let k = tensor(&b, 2, Shape::matrix(n, n_kv_heads * width), 1.0);
            let v = tensor(&b, 3, Shape::matrix(n, n_kv_heads * width), 1.0);
            let ask = |which: &[u32], rows: &Rows| {
                let [q, k, v] = [&q, &k, &v].map(|all| b.gather(all, which).unwrap());
                let keys = Keys::Grouped {
                    k: &k,
                    v: &v,
                    n_kv_heads,
                };
                let attention = Attention {
                    n_heads,
                    scale: 0.125,
                    rows,
                    context: Context::Packed,
                };
                b.get(&b.attention(&q, keys, &attention).unwrap()).unwrap()
            };
            let numbers: Vec<u32> = (0..u32::try_from(n).unwrap()).collect();
            let together = ask(&numbers, &all);
            for range in all.ranges() {
                let length = [u32::try_from(range.len()).unwrap()];
                let alone = ask(&numbers[range.clone()], &Rows::packed(&length).unwrap());
                let own = &together[range.start * n_heads * width..range.end * n_heads * width];
                assert_eq!(bits(own), bits(&alone), "{isa:?} {precision:?} {range:?}");
            }
        }
    }
}
