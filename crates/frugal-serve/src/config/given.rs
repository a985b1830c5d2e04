//! Values with where they come from, and what is wrong with them.

use std::fmt;
use std::path::PathBuf;

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said otherwise.
    Usual,
    /// This line of the file.
    Line(usize),
    /// This flag.
    Flag(&'static str),
}

/// A value, its name and where it comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Given<T> {
    /// The value.
    pub value: T,
    /// Where it comes from.
    pub origin: Origin,
    /// Its section and name.
    pub(super) name: &'static str,
}

impl<T> Given<T> {
    pub(super) const fn usual(name: &'static str, value: T) -> Self {
        Self {
            value,
            origin: Origin::Usual,
            name,
        }
    }

    /// Lays what a flag says over it, if it says something.
    pub(super) fn flag(&mut self, flag: &'static str, value: Option<T>) {
        if let Some(value) = value {
            self.value = value;
            self.origin = Origin::Flag(flag);
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line or flag.
    pub origin: Origin,
    /// The setting.
    pub place: String,
    /// What was expected and what came.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            origin,
            place,
            message,
        } = self;
        match origin {
            Origin::Usual => write!(out, "{place}: {message}"),
            Origin::Line(line) => write!(out, "line {line}: {place}: {message}"),
            Origin::Flag(flag) => write!(out, "{flag}: {message}"),
        }
    }
}

/// Everything that is wrong with a configuration, by lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    /// The file, if there is one.
    pub file: Option<PathBuf>,
    /// At least one.
    pub problems: Vec<Problem>,
}

impl Problems {
    pub(super) fn new(file: Option<PathBuf>, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| match problem.origin {
            Origin::Line(line) => (0, line),
            Origin::Usual => (1, 0),
            Origin::Flag(_) => (2, 0),
        });
        Self { file, problems }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(out, "{}", file.display())?,
            None => out.write_str("the configuration")?,
        }
        out.write_str(" cannot be used:")?;
        self.problems
            .iter()
            .try_for_each(|problem| write!(out, "\n  {problem}"))
    }
}

impl std::error::Error for Problems {}

/// The name among those known that was probably meant: few letters away.
pub(super) fn closest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let n_letters = name.chars().count();
    // A third of the letters may differ; names of hostile length are not compared.
    let most = (n_letters / 3).max(1);
    known
        .filter(|_| n_letters <= 64)
        .map(|known| (distance(name, known), known))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, known)| known)
}

/// Letters to insert, remove or replace to make one of the other (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    // For each prefix of `other`, its distance from what is read of `one`.
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (i, letter) in one.chars().enumerate() {
        let mut above_left = i;
        let mut left = i + 1;
        let mut others = other.chars();
        for (j, cell) in row.iter_mut().enumerate() {
            let above = *cell;
            if j > 0 {
                let replace = above_left + usize::from(others.next() != Some(letter));
                left = replace.min(above + 1).min(left + 1);
            }
            *cell = left;
            above_left = above;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_a_few_letters_away_are_found() {
        let known = ["bind", "max_waiting", "max_loaded"];
        let rows = [
            ("bnid", None),
            ("bin", Some("bind")),
            ("max_wating", Some("max_waiting")),
            ("maxwaiting", Some("max_waiting")),
            ("max_load", Some("max_loaded")),
            ("something", None),
            ("", None),
        ];
        for (name, expected) in rows {
            assert_eq!(closest(name, known.into_iter()), expected, "{name}");
        }
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
    }
}
