//! Drafts by looking back: what followed the last few tokens where they stood before.
//!
//! Reasoning and code repeat themselves: numbers, names, lines of a problem, steps that differ in
//! one place. Nothing is computed but a walk over the tokens, newest first.

use alloc::vec::Vec;

/// How alike two places must be, and how far a draft reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lookup {
    /// The fewest last tokens that must have stood together before.
    pub shortest: usize,
    /// A place where this many agree is taken without looking for a better one.
    pub longest: usize,
    /// The most tokens of a draft.
    pub most: usize,
}

impl Lookup {
    /// What did best over records of reasoning, code and prose: 1.3, 1.7 and 1.05 tokens a step.
    pub const USUAL: Self = Self {
        shortest: 2,
        longest: 6,
        most: 16,
    };
}

/// Appends to `draft`, which is empty, up to `most` tokens that may follow `ids`: those that came
/// after the latest of the longest earlier matches of their end. The more tokens match, the more are
/// trusted: two for each but the first.
pub(super) fn look_up(ids: &[u32], rule: Lookup, most: usize, draft: &mut Vec<u32>) {
    let Some((last, before)) = ids.split_last() else {
        return;
    };
    let longest = rule.longest.max(rule.shortest).max(1);
    let (mut length, mut next) = (rule.shortest.max(1) - 1, 0);
    for (index, id) in before.iter().enumerate().rev() {
        if id != last {
            continue;
        }
        let earlier = before.get(..index).unwrap_or(&[]).iter().rev();
        let pairs = earlier.zip(before.iter().rev()).take(longest - 1);
        let same = 1 + pairs.take_while(|(a, b)| a == b).count();
        if same > length {
            (length, next) = (same, index + 1);
        }
        if length == longest {
            break;
        }
    }
    if next == 0 {
        return;
    }
    let most = most.min((2 * length - 2).max(1));
    // A match near the end runs into the draft itself: what repeats goes on repeating.
    let period = ids.len() - next;
    for ahead in 0..most {
        let again = || draft.get(ahead.checked_sub(period)?);
        let Some(id) = ids.get(next + ahead).or_else(again).copied() else {
            break;
        };
        draft.push(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(ids: &[u32], most: usize) -> Vec<u32> {
        let rule = Lookup {
            shortest: 2,
            longest: 3,
            most,
        };
        let mut draft = Vec::new();
        look_up(ids, rule, most, &mut draft);
        draft
    }

    #[test]
    fn the_latest_of_the_longest_matches_is_continued() {
        // 1 2 3 stands at the beginning, 2 3 later.
        assert_eq!(found(&[1, 2, 3, 4, 9, 2, 3, 5, 8, 1, 2, 3], 2), [4, 9]);
        assert_eq!(
            found(&[7, 2, 3, 4, 9, 2, 3, 5, 8, 1, 2, 3], 3),
            [5, 8],
            "of two alike the later"
        );
        assert_eq!(found(&[1, 2, 3, 4, 1, 2, 3, 5, 1, 2, 3], 1), [5]);
    }

    #[test]
    fn what_repeats_goes_on_repeating() {
        assert_eq!(found(&[6, 1, 2, 1, 2, 1], 5), [2, 1, 2, 1]);
        assert_eq!(
            found(&[4, 4, 4, 4], 9),
            [4, 4, 4, 4],
            "two for each but the first"
        );
        assert_eq!(found(&[4, 4, 4], 9), [4, 4]);
    }

    #[test]
    fn one_token_is_no_match_and_nothing_has_no_draft() {
        assert!(found(&[1, 5, 2, 5], 4).is_empty());
        assert!(found(&[], 4).is_empty());
        assert!(found(&[3], 4).is_empty());
        assert!(found(&[4, 4, 4], 0).is_empty());
    }
}
