//! Block formats against vectors of an independent implementation, and their laws.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use frugal_core::dtype::{DType, Data, decode, e4m3_to_f32, e5m2_to_f32, f32_to_e4m3, round_bf16};
use frugal_core::error::Error;
use frugal_core::quant::fp8::{Scales, encode_blocks, f32_to_e5m2};
use frugal_core::quant::{BlockFormat, Format};
use frugal_core::rng::Rng;
use frugal_core::shape::Shape;
use frugal_core::stored::{SharedBytes, Stored, decode_parts};
use half::{bf16, f16};
use proptest::prelude::*;
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/quant-vectors")
}

/// Rows of a file of vectors, none (with a visible line) where the data is not there.
fn rows(name: &str) -> Option<Vec<Value>> {
    let path = folder().join(name);
    let Ok(bytes) = std::fs::read(&path) else {
        eprintln!("skipped: no vectors at {}", path.display());
        return None;
    };
    let mut text = String::new();
    if path.extension().is_some_and(|ending| ending == "gz") {
        let mut reader = flate2::read::GzDecoder::new(bytes.as_slice());
        reader.read_to_string(&mut text).unwrap();
    } else {
        text = String::from_utf8(bytes).unwrap();
    }
    Some(
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect(),
    )
}

fn bytes(row: &Value, name: &str) -> Vec<u8> {
    let text = row[name].as_str().unwrap().as_bytes();
    let digit = |c: u8| u8::try_from(char::from(c).to_digit(16).unwrap()).unwrap();
    text.chunks(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

/// The decimal numbers of the file name an f32 each: they were printed with nine digits.
#[expect(clippy::cast_possible_truncation, reason = "the numbers are of f32")]
fn floats(value: &Value) -> Vec<f32> {
    let numbers = value.as_array().unwrap().iter();
    numbers
        .map(|x| x.as_f64().map_or(f32::NAN, |x| x as f32))
        .collect()
}

fn codes(value: &Value) -> Vec<u16> {
    let numbers = value.as_array().unwrap().iter();
    numbers
        .map(|x| u16::try_from(x.as_u64().unwrap()).unwrap())
        .collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

/// What a name of the file means to us; none for formats that Frugal does not read.
fn format_of(name: &str) -> Option<Format> {
    match name {
        "F16" => Some(Format::Plain(DType::F16)),
        "BF16" => Some(Format::Plain(DType::Bf16)),
        name => BlockFormat::from_name(name).map(Format::Blocks),
    }
}

fn data(format: Format, bytes: &[u8]) -> Data<'_> {
    match format {
        Format::Plain(dtype) => Data::Bytes { dtype, bytes },
        Format::Blocks(format) => Data::Blocks { format, bytes },
        Format::Fp8Blocks(_) => unreachable!("no such rows"),
    }
}

fn encode(format: Format, values: &[f32]) -> Vec<u8> {
    match format {
        Format::Plain(DType::F16) => values
            .iter()
            .flat_map(|x| f16::from_f32(*x).to_le_bytes())
            .collect(),
        Format::Plain(_) => values
            .iter()
            .flat_map(|x| bf16::from_f32(*x).to_le_bytes())
            .collect(),
        Format::Blocks(format) => format.encode(values).unwrap(),
        Format::Fp8Blocks(_) => unreachable!("no such rows"),
    }
}

#[test]
fn blocks_agree_with_the_vectors() {
    let Some(rows) = rows("ggml.jsonl.gz") else {
        return;
    };
    let mut agreed: BTreeMap<String, [usize; 2]> = BTreeMap::new();
    let mut not_ours = 0;
    for row in &rows {
        let name = row["type"].as_str().unwrap();
        let Some(format) = format_of(name) else {
            not_ours += 1;
            continue;
        };
        let counts = agreed.entry(name.into()).or_default();
        let coded = bytes(row, "bytes");
        let written = row["op"] == "quantize";
        let expected = floats(&row[if written { "back" } else { "values" }]);
        let got = decode(Shape::vector(expected.len()), data(format, &coded)).unwrap();
        assert_eq!(bits(&got), bits(&expected), "decode of {name}");
        if written {
            assert_eq!(
                encode(format, &floats(&row["x"])),
                coded,
                "encode of {name}"
            );
            counts[0] += 1;
        } else {
            counts[1] += 1;
        }
    }
    let expected = [
        ("BF16", [4, 0]),
        ("F16", [4, 0]),
        ("IQ4_NL", [0, 2]),
        ("Q2_K", [0, 2]),
        ("Q3_K", [0, 2]),
        ("Q4_0", [4, 2]),
        ("Q4_1", [4, 2]),
        ("Q4_K", [0, 2]),
        ("Q5_0", [4, 2]),
        ("Q5_1", [4, 2]),
        ("Q5_K", [0, 2]),
        ("Q6_K", [0, 2]),
        ("Q8_0", [4, 2]),
    ];
    assert_eq!(
        agreed,
        expected.map(|(name, counts)| (name.into(), counts)).into()
    );
    // The other ten formats: IQ1 to IQ4_XS, and the ternary ones.
    assert_eq!((not_ours, rows.len()), (28, 78));
}

/// A decode table or a row of roundings.
fn check_fp8_row(row: &Value) {
    let kind = row["type"].as_str().unwrap_or_default();
    match row["op"].as_str().unwrap() {
        "decode_table" => {
            let of = if kind == "e5m2" {
                e5m2_to_f32
            } else {
                e4m3_to_f32
            };
            for (byte, expected) in (0..=255u8).zip(floats(&row["values"])) {
                let got: f32 = of(byte);
                let infinite = row["values"][usize::from(byte)]
                    .as_str()
                    .is_some_and(|x| x.contains("inf"));
                if infinite {
                    assert!(got.is_infinite(), "{kind} {byte}");
                } else if expected.is_nan() {
                    assert!(got.is_nan(), "{kind} {byte}");
                } else {
                    assert_eq!(got.to_bits(), expected.to_bits(), "{kind} {byte}");
                }
            }
        }
        "encode" => {
            for (x, expected) in floats(&row["x"]).into_iter().zip(codes(&row["bits"])) {
                let got = match kind {
                    "e4m3fn" => u16::from(f32_to_e4m3(x)),
                    "e5m2" => u16::from(f32_to_e5m2(x)),
                    "bf16" => {
                        assert_eq!(round_bf16(x).to_bits() >> 16, u32::from(expected));
                        bf16::from_f32(x).to_bits()
                    }
                    _ => f16::from_f32(x).to_bits(),
                };
                // Ours saturates where the vectors' e4m3 overflows to NaN; see `dtype`.
                let overflow = kind == "e4m3fn" && expected & 0x7F == 0x7F;
                let expected = if overflow { expected - 1 } else { expected };
                assert_eq!(got, expected, "{x} in {kind}");
            }
        }
        op => {
            assert_eq!(op, "block_quant_e4m3fn_128");
            let x = floats(&row["x"]);
            let got = encode_blocks(&x, [1, x.len()], [1, 128], Scales::Float).unwrap();
            let scale = floats(&Value::Array(vec![row["scale"].clone()]));
            assert_eq!(bits(&got.scales), bits(&scale));
            let got: Vec<u16> = got.bytes.into_iter().map(u16::from).collect();
            assert_eq!(got, codes(&row["bits"]));
        }
    }
}

#[test]
fn fp8_agrees_with_the_vectors() {
    let Some(rows) = rows("fp8.jsonl") else {
        return;
    };
    let mut agreed: BTreeMap<&str, usize> = BTreeMap::new();
    for row in &rows {
        check_fp8_row(row);
        *agreed.entry(row["op"].as_str().unwrap()).or_default() += 1;
    }
    let expected = [
        ("block_quant_e4m3fn_128", 3),
        ("decode_table", 2),
        ("encode", 4),
    ];
    assert_eq!(agreed, expected.into());
}

fn coded(format: BlockFormat, values: &[f32]) -> Vec<f32> {
    decoded(format, &format.encode(values).unwrap(), values.len())
}

fn decoded(format: BlockFormat, bytes: &[u8], values: usize) -> Vec<f32> {
    let mut out = vec![f32::NAN; values];
    format.decode(bytes, &mut out).unwrap();
    out
}

/// The root mean square of the differences over that of the values.
fn relative_error(values: &[f32], got: &[f32]) -> f64 {
    let square = |x: f32| f64::from(x) * f64::from(x);
    let error: f64 = values.iter().zip(got).map(|(x, y)| square(x - y)).sum();
    (error / values.iter().map(|x| square(*x)).sum::<f64>()).sqrt()
}

/// Weights of 16,384 numbers as a trained matrix has them.
fn weights() -> Vec<f32> {
    Rng::derive(&[7, 11]).normals(1 << 14, 0.02)
}

/// For each format the most that normal numbers may lose, a few hundredths above what the search
/// reaches, and the most that writing them again may.
const BOUNDS: [(BlockFormat, f64, f64); 11] = [
    (BlockFormat::Q4_0, 0.088, 0.0),
    (BlockFormat::Q4_1, 0.080, 1e-4),
    (BlockFormat::Q5_0, 0.044, 0.0),
    (BlockFormat::Q5_1, 0.039, 1e-4),
    (BlockFormat::Q8_0, 0.0055, 0.0),
    (BlockFormat::Q2K, 0.275, 0.025),
    (BlockFormat::Q3K, 0.149, 0.01),
    (BlockFormat::Q4K, 0.0725, 0.006),
    (BlockFormat::Q5K, 0.0356, 0.005),
    (BlockFormat::Q6K, 0.0171, 0.002),
    (BlockFormat::Iq4Nl, 0.078, 0.02),
];

#[test]
fn normal_numbers_lose_little_and_again_less() {
    let values = weights();
    assert_eq!(BOUNDS.map(|(format, ..)| format), BlockFormat::ALL);
    for (format, bound, again) in BOUNDS {
        let once = coded(format, &values);
        let error = relative_error(&values, &once);
        assert!(error < bound, "{format} loses {error}");
        // A bound far above the error would notice nothing.
        assert!(error > 0.9 * bound, "{format} loses only {error}");
        let twice = coded(format, &once);
        let error = relative_error(&once, &twice);
        assert!(error <= again, "{format} loses {error} again");
    }
}

#[test]
fn the_search_beats_the_plain_way() {
    // Factor and minimum from the least and the largest number of each group, without a search and
    // without rounding factors: what Q4_1 does, for its blocks are groups of Q4_K.
    let values = weights();
    let loss = |format| relative_error(&values, &coded(format, &values));
    assert!(loss(BlockFormat::Q4K) < 0.92 * loss(BlockFormat::Q4_1));
    assert!(loss(BlockFormat::Q5K) < 0.93 * loss(BlockFormat::Q5_1));
    assert!(loss(BlockFormat::Iq4Nl) < 0.9 * loss(BlockFormat::Q4_0));
}

#[test]
fn zeros_ones_and_outliers_are_kept() {
    for format in BlockFormat::ALL {
        let n = format.block_values();
        assert!(
            coded(format, &vec![0.0; n]).iter().all(|x| *x == 0.0),
            "{format} loses zeros"
        );
        // Ones of either sign.
        let ones: Vec<f32> = (0..n)
            .map(|i| if i % 3 == 0 { -1.0 } else { 1.0 })
            .collect();
        let error = relative_error(&ones, &coded(format, &ones));
        assert!(error < 0.15, "{format} loses {error} of ones");
        let mut outlier = vec![0.0; n];
        outlier[n / 2 + 3] = -50.0;
        let error = relative_error(&outlier, &coded(format, &outlier));
        // IQ4_NL has no zero: the others become a 127th each.
        let bound = if format == BlockFormat::Iq4Nl {
            0.05
        } else {
            0.005
        };
        assert!(error < bound, "{format} loses {error} of an outlier");
    }
}

/// Formats with a minimum once made zeros of them: levels that are all the same left the line open.
#[test]
fn numbers_that_are_all_the_same_do_not_vanish() {
    for format in BlockFormat::ALL {
        let n = format.block_values();
        for same in [-1.0f32, -13.25, 92.75] {
            for apart in [0.0, 1e-4] {
                let values: Vec<f32> = (0..n)
                    .map(|i| same * (1.0 + apart * (i % 3) as f32))
                    .collect();
                let error = relative_error(&values, &coded(format, &values));
                assert!(error < 0.01, "{format} loses {error} of {same}");
            }
        }
    }
}

/// Groups of small numbers were once sacrificed for a better fit of large ones beside them.
#[test]
fn small_groups_beside_large_ones_stay_small() {
    let noise = Rng::derive(&[4]).normals(256, 1e-3);
    for format in BlockFormat::ALL {
        if format.block_values() < 256 {
            continue;
        }
        for levels in [[24.59, 15.81, 22.83], [24.59, -15.81, 22.83]] {
            let values: Vec<f32> = (0..256)
                .map(|i| match i / 16 {
                    group @ 13.. => levels[group - 13] + noise[i],
                    _ => -noise[i].abs(),
                })
                .collect();
            let got = coded(format, &values);
            let error = relative_error(&values, &got);
            assert!(error < 0.1, "{format} loses {error}");
            // A factor of a block reaches 15 times as far as that of its smallest group.
            let farthest = farthest(&got[..192]);
            assert!(farthest < 0.9, "{format} makes {farthest} of noise");
        }
    }
}

#[test]
fn numbers_near_the_least_factor_do_not_vanish() {
    // Of deviation 1e-5 a factor of a whole block is below the smallest f16, yet groups can have one.
    let values = Rng::derive(&[3]).normals(1 << 12, 1e-5);
    for (format, bound) in [
        (BlockFormat::Q2K, 0.3),
        (BlockFormat::Q3K, 0.2),
        (BlockFormat::Q4K, 0.1),
        (BlockFormat::Q5K, 0.07),
        (BlockFormat::Q6K, 0.05),
    ] {
        let error = relative_error(&values, &coded(format, &values));
        assert!(error < bound, "{format} loses {error}");
    }
}

#[test]
fn numbers_below_every_factor_become_zero() {
    for format in BlockFormat::ALL {
        for tiny in [f32::from_bits(1), 1e-41, 1e-38, 1e-30, 1e-15] {
            let values: Vec<f32> = (0..format.block_values())
                .map(|i| [0.0, tiny, -tiny, tiny / 2.0][i % 4])
                .collect();
            let got = coded(format, &values);
            assert!(farthest(&got) <= 1e-15, "{format} makes {got:?} of {tiny}");
        }
    }
}

#[test]
fn what_cannot_be_written_is_refused() {
    for format in BlockFormat::ALL {
        assert!(format.is_writable());
        let n = format.block_values();
        for broken in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = vec![0.5; 2 * n];
            values[n + 5] = broken;
            let error = format.encode(&values).unwrap_err().to_string();
            assert!(error.contains(&format!("at index {}", n + 5)), "{error}");
        }
        for large in [1e12, f32::MAX] {
            let mut values = vec![0.5; 2 * n];
            values[n] = large;
            values[n + 1] = -large;
            let error = format.encode(&values).unwrap_err().to_string();
            assert!(error.contains(&format!("from {n} on")), "{format}: {error}");
        }
        let ragged = format.encode(&vec![0.5; n + 1]);
        assert!(matches!(ragged, Err(Error::Ragged { .. })));
    }
}

/// At the end of f32 the next e4m3 number up may lie beyond it.
#[test]
fn finite_numbers_never_become_infinite() {
    for x in [3.383_672e38, -3.383_672e38, f32::MAX] {
        let written = encode_blocks(&[x, 1.0], [1, 2], [1, 2], Scales::PowerOfTwo);
        let error = written.unwrap_err().to_string();
        assert!(error.contains("stay finite when rounded"), "{error}");
        let whole = encode_blocks(&[x], [1, 1], [1, 1], Scales::Float).unwrap();
        let data = Data::Fp8Blocks {
            bytes: &whole.bytes,
            scales: &whole.scales,
            block: [1, 1],
        };
        let got = decode(Shape::matrix(1, 1), data).unwrap()[0];
        assert!((got / x - 1.0).abs() < 1e-6, "{x} became {got}");
    }
}

#[test]
fn a_tensor_decodes_whole_or_in_parts() {
    let values = weights();
    for format in BlockFormat::ALL {
        let all = SharedBytes::from(format.encode(&values[..4 * 512]).unwrap());
        let stored = |range| Stored::Blocks {
            format,
            bytes: all.slice(range).unwrap(),
        };
        let shape = Shape::stack(2, 2, 512);
        let half = all.len() / 2;
        let whole = decode_parts(shape, &[stored(0..all.len())]).unwrap();
        let parts = [stored(0..half), stored(half..all.len())];
        assert_eq!(whole, decode_parts(shape, &parts).unwrap());
        assert_eq!(whole, decoded(format, &all, whole.len()));
        assert!(decode_parts(shape, &parts[..1]).is_err());
        let ragged = decode(Shape::matrix(512, 4), parts[0].data());
        assert!(matches!(ragged, Err(Error::Ragged { cols: 4, .. })));
    }
}

fn farthest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |far, x| far.max(x.abs()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_decode_and_wrong_lengths_do_not(seed: u64, blocks in 0usize..4, off in 1usize..200) {
        let mut rng = Rng::derive(&[seed]);
        for format in BlockFormat::ALL {
            let n = format.bytes_of(blocks * format.block_values()).unwrap();
            let bytes: Vec<u8> = (0..n).map(|_| rng.next_u64().to_le_bytes()[0]).collect();
            let mut out = vec![0.0; blocks * format.block_values()];
            prop_assert!(format.decode(&bytes, &mut out).is_ok());
            prop_assert!(format.decode(&[bytes.as_slice(), &vec![0; off]].concat(), &mut out).is_err());
            out.push(0.0);
            prop_assert!(format.decode(&bytes, &mut out).is_err());
        }
    }

    /// Numbers of any size and spread come back within a step of their format.
    #[test]
    fn numbers_come_back_within_a_step(seed: u64, exponent in -4i32..6, spread in 1i32..4) {
        let mut rng = Rng::derive(&[seed]);
        let values: Vec<f32> = (0..256)
            .map(|_| 2f32.powi(exponent) * rng.normal() * rng.uniform().powi(spread))
            .collect();
        for (format, group, [of_group, of_block]) in STEPS {
            let got = coded(format, &values);
            for (x, y) in values.chunks(group).zip(got.chunks(group)) {
                let bound = of_group * farthest(x) + of_block * farthest(&values);
                for (x, y) in x.iter().zip(y) {
                    prop_assert!((x - y).abs() <= bound, "{} {} {} {}", format, x, y, bound);
                }
            }
        }
    }
}

/// For each format its group and the most a number may be off, as shares of its group's farthest and
/// of its block's. The first five follow from their rules: a step where the end of the range is cut
/// off, or half a step of the whole span. The others are a sixth above the worst of 40,000 draws.
const STEPS: [(BlockFormat, usize, [f32; 2]); 11] = [
    (BlockFormat::Q4_0, 32, [1.005 / 8.0, 0.0]),
    (BlockFormat::Q4_1, 32, [1.02 / 15.0, 0.0]),
    (BlockFormat::Q5_0, 32, [1.01 / 16.0, 0.0]),
    (BlockFormat::Q5_1, 32, [1.04 / 31.0, 0.0]),
    (BlockFormat::Q8_0, 32, [0.56 / 127.0, 0.0]),
    (BlockFormat::Q2K, 16, [0.45, 0.045]),
    (BlockFormat::Q3K, 16, [0.26, 0.026]),
    (BlockFormat::Q4K, 32, [0.113, 0.0113]),
    (BlockFormat::Q5K, 32, [0.052, 0.0052]),
    (BlockFormat::Q6K, 16, [0.025, 0.0025]),
    (BlockFormat::Iq4Nl, 32, [0.151, 0.0]),
];
