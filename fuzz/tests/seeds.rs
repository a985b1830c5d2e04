//! Every seed is accepted or refused as its name says, whole and damaged without harm.

use std::path::Path;

use frugal_fuzz::CHECKS;

/// Damaged copies of each seed.
const DAMAGED: u64 = 20;

#[test]
fn seeds_are_judged_as_their_names_say_and_damage_does_no_harm() {
    for (target, check) in CHECKS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("seeds")
            .join(target);
        let mut n_seeds = 0;
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            let seed = std::fs::read(&path).unwrap();
            assert_eq!(check(&seed), name.starts_with("ok"), "{target}/{name}");
            for number in 0..DAMAGED {
                check(&damaged(&seed, number));
            }
            n_seeds += 1;
        }
        assert!(n_seeds >= 2, "{target}");
    }
}

/// A copy with some bytes changed, or cut short.
fn damaged(seed: &[u8], number: u64) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below.max(1) as u64).unwrap()
    };
    let mut bytes = seed.to_vec();
    if number.is_multiple_of(4) {
        bytes.truncate(next(seed.len()));
    }
    for _ in 0..next(4) {
        let at = next(bytes.len());
        let value = u8::try_from(next(256)).unwrap();
        if let Some(byte) = bytes.get_mut(at) {
            *byte = value;
        }
    }
    bytes
}
