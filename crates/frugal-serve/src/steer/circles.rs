//! Notices a thought that goes in circles.
//!
//! A model that is stuck says the same over and over, for ever. For each lag from 1 to [`LONGEST`]
//! tokens a sum is kept: it rises when the last [`GRAM`] tokens are those of that lag ago, and falls
//! when they are not, never below nothing (a CUSUM). When a sum passes its lag's limit, the text has
//! repeated itself with that period for at least `LEAST + 2 × lag` tokens.
//!
//! What must not be noticed, and why it is not:
//! - *lists, tables, traces of arithmetic*: their lines are alike but hold something new every few
//!   tokens, and each new token spoils the [`GRAM`] runs it is in;
//! - *a passage said twice*, as in checking one's work: two periods and more must follow the first;
//! - *short runs of one token*, such as rules, zeros, indentation: [`LEAST`] tokens of them are let
//!   pass.
//!
//! Loops that change a little (a counter, a word) are noticed where most runs of [`GRAM`] tokens
//! stay the same: later, as one spoilt run weighs half of a good one.
//!
//! FALSE_ALARMS
//!
//! *Cost*: [`LONGEST`] comparisons a token, which the compiler makes vectors of, and 6 KiB a sample.

/// The longest period noticed, in tokens.
const LONGEST: usize = 512;
/// Tokens that are compared together.
const GRAM: usize = 8;
/// What a run that is new takes off a sum; one that is repeated adds its number of different tokens,
/// at most [`GRAM`].
const MISS: i32 = 4;
/// Repeated runs, beside two periods of them, until a loop is noticed.
const LEAST: i32 = 160;

/// Watches one thought.
#[derive(Debug)]
pub(super) struct Circles {
    /// The last tokens.
    tokens: [u32; GRAM],
    /// How many came.
    n_tokens: usize,
    /// Digests of the runs before, twice over, so that the last ones always lie in a row.
    runs: Box<[u32; 2 * LONGEST]>,
    /// The place of the oldest.
    oldest: usize,
    /// The sum of each lag, longest lag first.
    sums: Box<[i32; LONGEST]>,
}

impl Circles {
    pub(super) fn new() -> Self {
        Self {
            tokens: [0; GRAM],
            n_tokens: 0,
            runs: Box::new([0; 2 * LONGEST]),
            oldest: 0,
            sums: Box::new([0; LONGEST]),
        }
    }

    /// The next token is this one. Whether the thought goes in circles.
    pub(super) fn took(&mut self, id: u32) -> bool {
        self.tokens.rotate_left(1);
        if let Some(last) = self.tokens.last_mut() {
            *last = id;
        }
        self.n_tokens += 1;
        if self.n_tokens < GRAM {
            return false;
        }
        let run = self.digest();
        let excess = self.compare(run, self.kinds());
        self.keep(run);
        excess >= 0
    }

    /// By how much a sum passes its limit.
    fn compare(&mut self, run: u32, kinds: i32) -> i32 {
        let before = self.runs.get(self.oldest..).unwrap_or_default();
        let mut excess = i32::MIN;
        for ((sum, earlier), limit) in self.sums.iter_mut().zip(before).zip(&LIMITS) {
            let change = if *earlier == run { kinds } else { -MISS };
            *sum = (*sum + change).clamp(0, i32::MAX / 2);
            excess = excess.max(*sum - limit);
        }
        excess
    }

    fn keep(&mut self, run: u32) {
        for place in [self.oldest, self.oldest + LONGEST] {
            if let Some(place) = self.runs.get_mut(place) {
                *place = run;
            }
        }
        self.oldest = (self.oldest + 1) % LONGEST;
    }

    /// How many different tokens are among the last.
    fn kinds(&self) -> i32 {
        let mut tokens = self.tokens;
        tokens.sort_unstable();
        1 + tokens.windows(2).map(|pair| i32::from(pair.first() != pair.last())).sum::<i32>()
    }

    /// Of the last tokens; never 0, which stands for no run. FNV-1a over whole ids, the upper half
    /// folded in: an accidental match of one in 4 billion does no harm to a sum.
    fn digest(&self) -> u32 {
        let mix = |hash: u64, id: &u32| (hash ^ u64::from(*id)).wrapping_mul(0x0100_0000_01B3);
        let hash = self.tokens.iter().fold(0xCBF2_9CE4_8422_2325, mix);
        let [a, b, c, d, e, f, g, h] = hash.to_le_bytes();
        u32::from_le_bytes([a ^ e, b ^ f, c ^ g, d ^ h]) | 1
    }
}

/// What the sums must reach, longest lag first.
const LIMITS: [i32; LONGEST] = {
    let mut limits = [0; LONGEST];
    let mut lag = 1;
    while lag <= LONGEST {
        #[expect(
            clippy::indexing_slicing,
            clippy::cast_possible_truncation,
            clippy::cast_possible_wrap,
            reason = "checked when it is compiled"
        )]
        {
            limits[LONGEST - lag] = GRAM as i32 * (LEAST + 2 * lag as i32);
        }
        lag += 1;
    }
    limits
};

#[cfg(test)]
mod tests {
    use super::*;

    /// The highest part of its limit that a sum reaches, in percent.
    fn worst(ids: impl IntoIterator<Item = u32>) -> i32 {
        let mut circles = Circles::new();
        let mut worst = 0;
        for id in ids {
            circles.took(id);
            let parts = circles.sums.iter().zip(&LIMITS).map(|(s, l)| s * 100 / l);
            worst = worst.max(parts.max().unwrap_or(0));
        }
        worst
    }

    #[test]
    #[ignore]
    fn measure() {
        use std::io::Read;
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/");
        let read = |p: &str| -> String {
            let b = std::fs::read(format!("{root}{p}")).unwrap();
            if p.ends_with("gz") {
                let mut s = String::new();
                flate2::read::GzDecoder::new(&b[..]).read_to_string(&mut s).unwrap();
                s
            } else {
                String::from_utf8(b).unwrap()
            }
        };
        for (p, f) in [
            ("reasoning-traces/think_traces.jsonl", "think"),
            ("reasoning-traces/proof_traces.jsonl.gz", "proof"),
            ("countdown-traces/traces.jsonl.gz", "response"),
            ("game24/traces.jsonl.gz", "response"),
            ("arc-agi-train/training.jsonl.gz", ""),
            ("mbpp-train/mbpp_sanitized_train.jsonl", ""),
            ("reasoning-gym/samples.jsonl.gz", ""),
            ("text-en-wiki/wiki_demo.txt.gz", "-"),
        ] {
            let text = read(p);
            let texts: Vec<String> = if f == "-" {
                vec![text]
            } else {
                text.lines()
                    .map(|l| {
                        let v: serde_json::Value = serde_json::from_str(l).unwrap();
                        if f.is_empty() { l.to_string() } else { v[f].as_str().unwrap().to_string() }
                    })
                    .collect()
            };
            let mut ws: Vec<(i32, usize)> = texts.iter().map(|t| { let i = pieces(t); (worst(i.iter().copied()), i.len()) }).collect();
            let n: usize = ws.iter().map(|w| w.1).sum();
            ws.sort();
            let over = ws.iter().filter(|w| w.0 >= 100).count();
            eprintln!("{p}: {} texts {n} tokens, over {over}, top {:?}", ws.len(), &ws[ws.len().saturating_sub(6)..]);
            let all: Vec<u32> = texts.iter().flat_map(|t| pieces(t)).collect();
            eprintln!("   joined {}", worst(all.into_iter().take(400_000)));
        }
    }

    /// Ids of words, digits and signs.
    fn pieces(text: &str) -> Vec<u32> {
        let mut out = Vec::new();
        let mut word = String::new();
        let id = |w: &str| w.bytes().fold(0x811C_9DC5_u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
        for c in text.chars() {
            if c.is_alphabetic() && c.is_ascii() {
                word.push(c);
                continue;
            }
            if !word.is_empty() {
                out.push(id(&word));
                word.clear();
            }
            if c == ' ' { word.push(' '); if word.len() > 1 { } continue; }
            out.push(id(&c.to_string()));
        }
        if !word.is_empty() { out.push(id(&word)); }
        out
    }
}
