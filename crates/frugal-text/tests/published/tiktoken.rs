//! A vocabulary of ranked byte strings, as tiktoken keeps it, with the merges that lead to it.

use std::collections::HashMap;

use frugal_text::byte_level::letter_of;

/// Tokens in the alphabet of bytes by id, and merges as GGUF files write them.
pub(super) struct Ranked {
    pub(super) tokens: Vec<String>,
    pub(super) merges: Vec<String>,
}

/// Reads lines of base64 and rank. A token's merge is the pair that is left when stronger pairs have
/// been merged.
pub(super) fn read(text: &str) -> Ranked {
    let mut by_rank = Vec::new();
    for line in text.lines() {
        let (token, rank) = line.split_once(' ').unwrap();
        assert_eq!(rank.parse::<usize>().unwrap(), by_rank.len());
        by_rank.push(from_base64(token));
    }
    let ranks: HashMap<&[u8], usize> = by_rank
        .iter()
        .enumerate()
        .map(|(rank, token)| (token.as_slice(), rank))
        .collect();
    let merges = by_rank
        .iter()
        .enumerate()
        .filter(|(_, token)| token.len() > 1)
        .map(|(rank, token)| {
            let at = last_cut(token, rank, &ranks);
            format!("{} {}", letters(&token[..at]), letters(&token[at..]))
        });
    Ranked {
        merges: merges.collect(),
        tokens: by_rank.iter().map(|token| letters(token)).collect(),
    }
}

/// Merges the parts of a token, the lowest rank first, until two are left, and tells where they meet.
fn last_cut(token: &[u8], rank: usize, ranks: &HashMap<&[u8], usize>) -> usize {
    // Where parts begin, and the end; the rank of each part joined with the next.
    let mut cuts: Vec<usize> = (0..=token.len()).collect();
    let joined = |cuts: &[usize], at: usize| {
        let end = cuts.get(at + 2)?;
        ranks
            .get(&token[cuts[at]..*end])
            .copied()
            .filter(|r| *r < rank)
    };
    let mut pairs: Vec<Option<usize>> = (0..token.len()).map(|at| joined(&cuts, at)).collect();
    while cuts.len() > 3 {
        let strongest = pairs
            .iter()
            .enumerate()
            .filter_map(|(at, pair)| Some((pair.as_ref()?, at)))
            .min();
        let (_, at) = strongest.unwrap();
        cuts.remove(at + 1);
        pairs.remove(at + 1);
        pairs[at] = joined(&cuts, at);
        if at > 0 {
            pairs[at - 1] = joined(&cuts, at - 1);
        }
    }
    cuts[1]
}

fn letters(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| letter_of(*byte)).collect()
}

fn from_base64(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (mut bits, mut n_bits) = (0_u32, 0);
    for digit in text.bytes().filter(|c| *c != b'=') {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            _ => 63,
        };
        bits = bits << 6 | u32::from(value);
        n_bits += 6;
        if n_bits >= 8 {
            n_bits -= 8;
            bytes.push((bits >> n_bits & 0xFF) as u8);
        }
    }
    bytes
}
