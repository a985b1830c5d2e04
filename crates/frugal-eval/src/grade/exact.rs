//! The exact grader: the same words.

/// Longest compared text in bytes.
pub const MAX_BYTES: usize = 1 << 16;

/// Whether both texts are the same words; how they are spaced does not matter. Overlong texts
/// are equal to nothing.
pub fn is_same(answer: &str, truth: &str) -> bool {
    answer.len() <= MAX_BYTES
        && truth.len() <= MAX_BYTES
        && answer.split_whitespace().eq(truth.split_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_count_and_spaces_do_not() {
        assert!(is_same(" answer  c3\n", "answer c3"));
        assert!(!is_same("answerc3", "answer c3"));
        assert!(!is_same("Answer c3", "answer c3"));
        assert!(is_same("", " "));
        let long = "a".repeat(MAX_BYTES + 1);
        assert!(!is_same(&long, &long));
    }
}
