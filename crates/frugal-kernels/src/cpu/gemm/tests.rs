//! Products against plain loops in f64, with the tolerance their format and length give.

use super::*;
use crate::cpu::detect::Isa;

/// Repeatable numbers in [-1, 1).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 40) as f32) / 8_388_608.0 - 1.0
    }

    fn vec(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.next()).collect()
    }
}

/// What a number of a product should be, and how far off it may be.
#[derive(Clone, Copy, Default)]
struct Want {
    value: f64,
    size: f64,
    terms: usize,
}

impl Want {
    fn term(&mut self, a: f32, b: f32) {
        let product = f64::from(a) * f64::from(b);
        self.value += product;
        self.size += product.abs();
        self.terms += 1;
    }

    /// gamma_n = n u / (1 - n u) bounds a sum of n products (Higham, Accuracy and Stability of
    /// Numerical Algorithms, 3.1), u = 2^-24; rounding to bf16 (8 bits) changes each operand by a relative 2^-8 at most.
    fn check(&self, got: f32, precision: Precision, place: &str) {
        let n = (self.terms + 4) as f64 * 2_f64.powi(-24);
        let gamma = n / (1.0 - n);
        let rounding = match precision {
            Precision::F32 => 0.0,
            Precision::Bf16 => 2.0 * 2_f64.powi(-8) + 2_f64.powi(-16),
        };
        let bound = (gamma + rounding) * self.size * (1.0 + gamma) + 1e-36;
        let error = (f64::from(got) - self.value).abs();
        assert!(
            error <= bound,
            "{place}: expected {}, got {got}, error {error:e} > {bound:e}",
            self.value
        );
    }
}

/// Runs `check` on every level of this machine in both precisions, on one and on three threads.
fn everywhere(check: impl Fn(Gemm<'_>, Precision)) {
    for threads in [1, 3] {
        let pool = Pool::new(threads).unwrap();
        for features in CpuFeatures::detect().available() {
            for precision in [Precision::F32, Precision::Bf16] {
                check(Gemm::new(&pool, features), precision);
            }
        }
    }
}

/// (M, N, K): zeros, ones, primes, the edges of tiles and blocks.
const SHAPES: [(usize, usize, usize); 19] = [
    (0, 5, 3),
    (3, 0, 5),
    (3, 5, 0),
    (1, 1, 1),
    (1, 16, 32),
    (2, 3, 5),
    (7, 13, 31),
    (8, 48, 33),
    (9, 49, 2),
    (15, 17, 64),
    (16, 16, 16),
    (17, 33, 65),
    (31, 95, 127),
    (32, 32, 32),
    (33, 47, 1),
    (47, 64, 63),
    (64, 97, 96),
    (129, 128, 40),
    (200, 31, 101),
];

const SENTINEL: f32 = 77.0;

#[test]
fn forward_is_the_plain_product_on_odd_shapes_and_strides() {
    everywhere(|gemm, precision| {
        for (m, n, k) in SHAPES {
            let mut numbers = Numbers(1);
            let (lda, ldc) = (k + 3, n + 5);
            let (a, w) = (numbers.vec(m * lda + 1), numbers.vec(n * k));
            let bias = numbers.vec(n);
            let mut c = vec![SENTINEL; m * ldc + 1];
            let packed = gemm.pack(Mat::dense(&w, n, k).unwrap().into(), precision);
            let finish = Finish {
                bias: Some(&bias),
                scale: 0.5,
                update: Update::Set,
            };
            let view = Mat::new(&a[1..], m, k, lda).unwrap();
            let out = MatMut::new(&mut c[1..], m, n, ldc).unwrap();
            gemm.nt(view, &packed, out, finish).unwrap();
            for (i, row) in c[1..].chunks(ldc).take(m).enumerate() {
                for j in 0..n {
                    let mut want = Want::default();
                    want.term(1.0, bias[j]);
                    // The bias is exact; only products are rounded.
                    for l in 0..k {
                        want.term(0.5 * a[1 + i * lda + l], w[j * k + l]);
                    }
                    want.check(row[j], precision, &format!("{m} {n} {k} at {i} {j}"));
                }
                assert!(row[n..].iter().all(|&x| x == SENTINEL), "beyond the row");
            }
            assert_eq!(c[0].to_bits(), SENTINEL.to_bits());
        }
    });
}

#[test]
fn input_gradient_is_the_plain_product_and_adds() {
    everywhere(|gemm, precision| {
        for (m, n, k) in SHAPES {
            let mut numbers = Numbers(2);
            let (dy, w) = (numbers.vec(m * n), numbers.vec(n * k));
            let old = numbers.vec(m * k);
            let mut dx = old.clone();
            let packed = gemm.pack(Mat::dense(&w, n, k).unwrap().into(), precision);
            let view = Mat::dense(&dy, m, n).unwrap();
            let out = MatMut::dense(&mut dx, m, k).unwrap();
            gemm.nn(view, &packed, out, Finish::ADD).unwrap();
            for i in 0..m {
                for l in 0..k {
                    let mut want = Want::default();
                    want.term(1.0, old[i * k + l]);
                    for j in 0..n {
                        want.term(dy[i * n + j], w[j * k + l]);
                    }
                    want.check(dx[i * k + l], precision, &format!("{m} {n} {k} at {i} {l}"));
                }
            }
        }
    });
}

#[test]
fn weight_gradient_is_the_plain_product_set_or_added() {
    everywhere(|gemm, precision| {
        for (m, n, k) in SHAPES {
            for update in [Update::Set, Update::Add] {
                let mut numbers = Numbers(3);
                let (dy, x) = (numbers.vec(m * (n + 1)), numbers.vec(m * (k + 2)));
                let old = numbers.vec(n * k);
                let mut dw = old.clone();
                gemm.tn(
                    Mat::new(&dy, m, n, n + 1).unwrap(),
                    Mat::new(&x, m, k, k + 2).unwrap(),
                    MatMut::dense(&mut dw, n, k).unwrap(),
                    (precision, update),
                )
                .unwrap();
                for j in 0..n {
                    for l in 0..k {
                        let mut want = Want::default();
                        if update == Update::Add {
                            want.term(1.0, old[j * k + l]);
                        }
                        for i in 0..m {
                            want.term(dy[i * (n + 1) + j], x[i * (k + 2) + l]);
                        }
                        want.check(dw[j * k + l], precision, &format!("{m} {n} {k} {j} {l}"));
                    }
                }
            }
        }
    });
}

#[test]
fn long_weight_gradients_are_cut_into_pieces_that_add_up() {
    everywhere(|gemm, precision| {
        if gemm.features.isa() == Isa::Portable {
            return;
        }
        for m in [1023, 1025, 2500, 9001] {
            let (n, k) = (5, 18);
            let mut numbers = Numbers(4);
            let (dy, x) = (numbers.vec(m * n), numbers.vec(m * k));
            let mut dw = vec![0.0; n * k];
            gemm.tn(
                Mat::dense(&dy, m, n).unwrap(),
                Mat::dense(&x, m, k).unwrap(),
                MatMut::dense(&mut dw, n, k).unwrap(),
                (precision, Update::Add),
            )
            .unwrap();
            for j in 0..n {
                for l in 0..k {
                    let mut want = Want::default();
                    (0..m).for_each(|i| want.term(dy[i * n + j], x[i * k + l]));
                    want.check(dw[j * k + l], precision, &format!("{m} at {j} {l}"));
                }
            }
        }
    });
}

/// (offsets, N, K): empty groups at every place, one row, many rows.
const GROUPS: [(&[u32], usize, usize); 5] = [
    (&[0, 0, 1, 1, 18, 18], 20, 33),
    (&[0, 40, 41, 75], 64, 32),
    (&[0], 7, 9),
    (&[0, 0], 7, 9),
    (&[2, 3, 5, 5, 70], 17, 130),
];

#[test]
fn groups_use_their_own_weights_and_leave_other_rows_alone() {
    everywhere(|gemm, precision| {
        for (offsets, n, k) in GROUPS {
            let groups = offsets.len() - 1;
            let rows = 2 + *offsets.last().unwrap() as usize;
            let mut numbers = Numbers(5);
            let (x, w) = (numbers.vec(rows * k), numbers.vec(groups * n * k));
            let (dy, bias) = (numbers.vec(rows * n), numbers.vec(groups * n));
            let shape = StackShape::dense(groups, n, k);
            let packed = gemm.pack(Stack::new(&w, shape).unwrap(), precision);
            let mut y = vec![SENTINEL; rows * n];
            let mut dx = vec![SENTINEL; rows * k];
            let mut dw = vec![SENTINEL; groups * n * k];
            let x_view = Mat::dense(&x, rows, k).unwrap();
            let dy_view = Mat::dense(&dy, rows, n).unwrap();
            let finish = Finish {
                bias: Some(&bias),
                ..Finish::SET
            };
            let out = MatMut::dense(&mut y, rows, n).unwrap();
            gemm.grouped_nt(x_view, offsets, &packed, out, finish)
                .unwrap();
            let out = MatMut::dense(&mut dx, rows, k).unwrap();
            gemm.grouped_nn(dy_view, offsets, &packed, out, Finish::SET)
                .unwrap();
            let out = StackMut::new(&mut dw, shape).unwrap();
            gemm.grouped_tn(dy_view, x_view, offsets, out, (precision, Update::Set))
                .unwrap();
            for r in 0..rows {
                let group = offsets
                    .windows(2)
                    .position(|o| (o[0]..o[1]).contains(&u32::try_from(r).unwrap()));
                let Some(g) = group else {
                    assert!(y[r * n..][..n].iter().all(|&v| v == SENTINEL));
                    assert!(dx[r * k..][..k].iter().all(|&v| v == SENTINEL));
                    continue;
                };
                for j in 0..n {
                    let mut want = Want::default();
                    want.term(1.0, bias[g * n + j]);
                    (0..k).for_each(|l| want.term(x[r * k + l], w[(g * n + j) * k + l]));
                    want.check(y[r * n + j], precision, &format!("y {r} {j}"));
                }
                for l in 0..k {
                    let mut want = Want::default();
                    (0..n).for_each(|j| want.term(dy[r * n + j], w[(g * n + j) * k + l]));
                    want.check(dx[r * k + l], precision, &format!("dx {r} {l}"));
                }
            }
            for g in 0..groups {
                for (j, l) in (0..n).flat_map(|j| (0..k).map(move |l| (j, l))) {
                    let mut want = Want::default();
                    (offsets[g] as usize..offsets[g + 1] as usize)
                        .for_each(|r| want.term(dy[r * n + j], x[r * k + l]));
                    want.check(
                        dw[(g * n + j) * k + l],
                        precision,
                        &format!("dw {g} {j} {l}"),
                    );
                }
            }
        }
    });
}

#[test]
fn heads_use_their_own_weights_in_both_directions() {
    everywhere(|gemm, precision| {
        for (rows, heads, b, a) in [(1, 1, 1, 1), (5, 3, 7, 20), (40, 2, 33, 16), (0, 2, 4, 4)] {
            let mut numbers = Numbers(6);
            let shape = |cols, gap| HeadShape {
                rows,
                heads,
                cols,
                row_stride: heads * (cols + gap) + 1,
                head_stride: cols + gap,
            };
            let (xs, ys) = (shape(a, 2), shape(b, 0));
            let x = numbers.vec(rows * xs.row_stride);
            let dy = numbers.vec(rows * ys.row_stride);
            // Heads in a larger matrix, as the halves of kv_b_proj are.
            let stack = StackShape {
                groups: heads,
                rows: b,
                cols: a,
                row_stride: a,
                group_stride: (b + 3) * a,
            };
            let w = numbers.vec(heads * (b + 3) * a);
            let packed = gemm.pack(Stack::new(&w, stack).unwrap(), precision);
            let mut y = vec![SENTINEL; dy.len()];
            let mut dx = vec![SENTINEL; x.len()];
            let mut dw = vec![0.0; w.len()];
            let x_view = HeadMat::new(&x, xs).unwrap();
            let dy_view = HeadMat::new(&dy, ys).unwrap();
            let out = HeadMatMut::new(&mut y, ys).unwrap();
            gemm.heads_nt(x_view, &packed, out, Finish::SET).unwrap();
            let out = HeadMatMut::new(&mut dx, xs).unwrap();
            gemm.heads_nn(dy_view, &packed, out, Finish::SET).unwrap();
            let out = StackMut::new(&mut dw, stack).unwrap();
            gemm.heads_tn(dy_view, x_view, out, (precision, Update::Add))
                .unwrap();
            let at_x = |r, h, i| r * xs.row_stride + h * xs.head_stride + i;
            let at_y = |r, h, j| r * ys.row_stride + h * ys.head_stride + j;
            let at_w = |h, j, i| h * (b + 3) * a + j * a + i;
            for h in 0..heads {
                for r in 0..rows {
                    for j in 0..b {
                        let mut want = Want::default();
                        (0..a).for_each(|i| want.term(x[at_x(r, h, i)], w[at_w(h, j, i)]));
                        want.check(y[at_y(r, h, j)], precision, &format!("y {r} {h} {j}"));
                    }
                    for i in 0..a {
                        let mut want = Want::default();
                        (0..b).for_each(|j| want.term(dy[at_y(r, h, j)], w[at_w(h, j, i)]));
                        want.check(dx[at_x(r, h, i)], precision, &format!("dx {r} {h} {i}"));
                    }
                    assert!(dx[at_x(r, h, a)..][..2].iter().all(|&v| v == SENTINEL));
                }
                for (j, i) in (0..b).flat_map(|j| (0..a).map(move |i| (j, i))) {
                    let mut want = Want::default();
                    (0..rows).for_each(|r| want.term(dy[at_y(r, h, j)], x[at_x(r, h, i)]));
                    want.check(dw[at_w(h, j, i)], precision, &format!("dw {h} {j} {i}"));
                }
            }
        }
    });
}

#[test]
fn a_row_alone_is_bit_for_bit_the_row_in_company() {
    everywhere(|gemm, precision| {
        for (m, n, k) in [(67, 49, 70), (300, 16, 128)] {
            let mut numbers = Numbers(7);
            let (a, w) = (numbers.vec(m * k), numbers.vec(n * k));
            let packed = gemm.pack(Mat::dense(&w, n, k).unwrap().into(), precision);
            let product = |rows: Range<usize>, is_forward: bool| {
                let (from, to) = if is_forward { (k, n) } else { (n, k) };
                let view = Mat::dense(&a[rows.start * from..], rows.len(), from).unwrap();
                let mut out = vec![0.0; rows.len() * to];
                let into = MatMut::dense(&mut out, rows.len(), to).unwrap();
                if is_forward {
                    gemm.nt(view, &packed, into, Finish::SET).unwrap();
                } else {
                    gemm.nn(view, &packed, into, Finish::SET).unwrap();
                }
                out
            };
            for is_forward in [true, false] {
                let rows = if is_forward {
                    m
                } else {
                    m * k.min(n) / n.max(k)
                };
                let all = product(0..rows, is_forward);
                let width = all.len() / rows;
                for part in [0..1, 5..6, 3..19, rows - 1..rows, 1..rows] {
                    let some = product(part.clone(), is_forward);
                    let same = &all[part.start * width..part.end * width];
                    assert!(
                        some.iter()
                            .zip(same)
                            .all(|(x, y)| x.to_bits() == y.to_bits())
                    );
                }
            }
        }
    });
}

#[test]
fn a_group_is_bit_for_bit_the_dense_product_of_its_rows() {
    everywhere(|gemm, precision| {
        let (n, k, offsets) = (40, 72, [0_u32, 3, 50]);
        let mut numbers = Numbers(8);
        let (x, w) = (numbers.vec(50 * k), numbers.vec(2 * n * k));
        let stack = Stack::new(&w, StackShape::dense(2, n, k)).unwrap();
        let packed = gemm.pack(stack, precision);
        let mut grouped = vec![0.0; 50 * n];
        let view = Mat::dense(&x, 50, k).unwrap();
        let out = MatMut::dense(&mut grouped, 50, n).unwrap();
        gemm.grouped_nt(view, &offsets, &packed, out, Finish::SET)
            .unwrap();
        for g in 0..2 {
            let (start, end) = (offsets[g] as usize, offsets[g + 1] as usize);
            let one = gemm.pack(Mat::dense(&w[g * n * k..], n, k).unwrap().into(), precision);
            let mut dense = vec![0.0; (end - start) * n];
            let view = Mat::dense(&x[start * k..], end - start, k).unwrap();
            let out = MatMut::dense(&mut dense, end - start, n).unwrap();
            gemm.nt(view, &one, out, Finish::SET).unwrap();
            assert_eq!(dense, grouped[start * n..end * n]);
        }
    });
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let pools: Vec<Pool> = [1, 2, 5].map(|n| Pool::new(n).unwrap()).into();
    for features in CpuFeatures::detect().available() {
        for precision in [Precision::F32, Precision::Bf16] {
            for (m, n, k) in [(1100, 64, 80), (300, 130, 70), (40, 300, 64)] {
                let mut numbers = Numbers(9);
                let (x, w, dy) = (numbers.vec(m * k), numbers.vec(n * k), numbers.vec(m * n));
                let run = |pool: &Pool| {
                    let gemm = Gemm::new(pool, features);
                    let packed = gemm.pack(Mat::dense(&w, n, k).unwrap().into(), precision);
                    let (mut y, mut dx) = (vec![0.0; m * n], vec![0.0; m * k]);
                    let mut dw = vec![0.25; n * k];
                    let x = Mat::dense(&x, m, k).unwrap();
                    let dy = Mat::dense(&dy, m, n).unwrap();
                    let out = MatMut::dense(&mut y, m, n).unwrap();
                    gemm.nt(x, &packed, out, Finish::SET).unwrap();
                    let out = MatMut::dense(&mut dx, m, k).unwrap();
                    gemm.nn(dy, &packed, out, Finish::SET).unwrap();
                    let out = MatMut::dense(&mut dw, n, k).unwrap();
                    gemm.tn(dy, x, out, (precision, Update::Add)).unwrap();
                    [y, dx, dw].map(|v| v.into_iter().map(f32::to_bits).collect::<Vec<_>>())
                };
                let [first, rest @ ..] = &pools[..] else {
                    unreachable!()
                };
                let want = run(first);
                assert!(rest.iter().all(|pool| run(pool) == want), "{m} {n} {k}");
            }
        }
    }
}

#[test]
fn repacking_replaces_the_weight_in_both_directions() {
    everywhere(|gemm, precision| {
        let (m, n, k) = (3, 21, 37);
        let mut numbers = Numbers(10);
        let (x, dy) = (numbers.vec(m * k), numbers.vec(m * n));
        let (old, new) = (numbers.vec(2 * n * k), numbers.vec(n * k));
        let both = |packed: &PackedWeight| {
            let (mut y, mut dx) = (vec![0.0; m * n], vec![0.0; m * k]);
            let out = MatMut::dense(&mut y, m, n).unwrap();
            gemm.nt(Mat::dense(&x, m, k).unwrap(), packed, out, Finish::SET)
                .unwrap();
            let out = MatMut::dense(&mut dx, m, k).unwrap();
            gemm.nn(Mat::dense(&dy, m, n).unwrap(), packed, out, Finish::SET)
                .unwrap();
            (y, dx)
        };
        // The old one is larger, so that leftovers would show.
        let mut packed = gemm.pack(Mat::dense(&old, n, 2 * k).unwrap().into(), precision);
        let mut wide = vec![0.0; m * 2 * k];
        let out = MatMut::dense(&mut wide, m, 2 * k).unwrap();
        gemm.nn(Mat::dense(&dy, m, n).unwrap(), &packed, out, Finish::SET)
            .unwrap();
        gemm.repack(&mut packed, Mat::dense(&new, n, k).unwrap().into());
        let fresh = gemm.pack(Mat::dense(&new, n, k).unwrap().into(), precision);
        assert_eq!(both(&packed), both(&fresh));
    });
}

#[test]
fn rounding_to_bf16_is_to_nearest_even_as_the_half_crate_has_it() {
    let mut numbers = Numbers(11);
    let cases = [
        0.0,
        -0.0,
        257.0 / 256.0,
        259.0 / 256.0,
        3.4e38,
        f32::INFINITY,
        1e-3,
    ];
    for x in cases.into_iter().chain((0..1000).map(|_| numbers.next())) {
        let want = half::bf16::from_f32(x).to_f32();
        assert_eq!(operands::round_bf16(x).to_bits(), want.to_bits(), "{x}");
    }
    assert!(operands::round_bf16(f32::NAN).is_nan());
}

#[test]
fn bf16_kernels_agree_with_rounded_operands_far_better_than_with_exact_ones() {
    let pool = Pool::new(1).unwrap();
    let (m, n, k) = (5, 19, 64);
    let mut numbers = Numbers(12);
    let round = |v: Vec<f32>| -> Vec<f32> { v.into_iter().map(operands::round_bf16).collect() };
    let (a, w) = (round(numbers.vec(m * k)), round(numbers.vec(n * k)));
    for features in CpuFeatures::detect().available() {
        let gemm = Gemm::new(&pool, features);
        let packed = gemm.pack(Mat::dense(&w, n, k).unwrap().into(), Precision::Bf16);
        let mut y = vec![0.0; m * n];
        let out = MatMut::dense(&mut y, m, n).unwrap();
        gemm.nt(Mat::dense(&a, m, k).unwrap(), &packed, out, Finish::SET)
            .unwrap();
        for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
            let mut want = Want::default();
            (0..k).for_each(|l| want.term(a[i * k + l], w[j * k + l]));
            // Operands are bf16 already: only the f32 sums may differ.
            want.check(
                y[i * n + j],
                Precision::F32,
                &format!("{features:?} {i} {j}"),
            );
        }
    }
}

#[test]
fn shapes_that_disagree_are_refused() {
    let pool = Pool::new(1).unwrap();
    let gemm = Gemm::new(&pool, CpuFeatures::detect());
    let data = vec![0.0; 64];
    let mat = |rows, cols| Mat::dense(&data, rows, cols).unwrap();
    let packed = gemm.pack(mat(4, 5).into(), Precision::F32);
    let mut out = vec![0.0; 64];
    let into = MatMut::dense(&mut out, 3, 4).unwrap();
    assert_eq!(
        gemm.nt(mat(3, 6), &packed, into, Finish::SET)
            .unwrap_err()
            .to_string(),
        "nt: expected input columns 5, got 6"
    );
    let into = MatMut::dense(&mut out, 3, 4).unwrap();
    let offsets = [0, 2, 1];
    let two = gemm.pack(
        Stack::new(&data, StackShape::dense(2, 4, 5)).unwrap(),
        Precision::F32,
    );
    assert!(
        gemm.grouped_nt(mat(3, 5), &offsets, &two, into, Finish::SET)
            .is_err()
    );
    let into = MatMut::dense(&mut out, 3, 4).unwrap();
    assert!(
        gemm.grouped_nt(mat(3, 5), &[0, 2, 4], &two, into, Finish::SET)
            .is_err()
    );
    let into = MatMut::dense(&mut out, 3, 4).unwrap();
    let bias = [0.0; 3];
    let finish = Finish {
        bias: Some(&bias),
        ..Finish::SET
    };
    assert!(gemm.nt(mat(3, 5), &packed, into, finish).is_err());
    if gemm.features.supports(Isa::Avx512Bf16) {
        let narrow = Gemm::new(&pool, gemm.features.capped(Isa::Avx2).unwrap());
        let packed = gemm.pack(mat(4, 5).into(), Precision::Bf16);
        let into = MatMut::dense(&mut out, 3, 4).unwrap();
        assert!(narrow.nt(mat(3, 5), &packed, into, Finish::SET).is_err());
    }
}

#[test]
fn the_peak_is_a_number_of_flops() {
    let pool = Pool::new(2).unwrap();
    let peak = measure_peak(&pool, CpuFeatures::detect(), Precision::F32);
    assert!(peak > 1e8 && peak.is_finite(), "{peak}");
}
