//! Control tokens as private-use characters, while a template runs.
//!
//! One character per control token: no string operation of a template can cut it in two, and none
//! can join two of them into a third.

use std::collections::{BTreeMap, BTreeSet};

use super::scan::Place;
use crate::tokenizer::Segment;

/// The characters that marks are chosen from: Unicode's plane 15, for private use.
const PRIVATE: std::ops::RangeInclusive<char> = '\u{F0000}'..='\u{FFFFD}';

pub(super) fn is_private(c: char) -> bool {
    PRIVATE.contains(&c)
}

/// White space is left as it is: the template engine trims it.
pub(super) fn can_be_marked(name: &str) -> bool {
    !name.trim().is_empty()
}

/// A template's source with its control tokens taken out.
#[derive(Debug, Clone)]
pub(super) struct Marked {
    pieces: Vec<Piece>,
    names: BTreeSet<String>,
}

#[derive(Debug, Clone)]
enum Piece {
    Source(String),
    Control(String),
}

impl Marked {
    /// Finds the control tokens in the text and the string literals of a template, the longest
    /// first. In code outside literals a name is a name, whatever the tokenizer adds. The names in
    /// `always` that are control tokens get a mark even if the template does not spell them.
    pub(super) fn new(source: &str, controls: &BTreeMap<String, u32>, always: &[&str]) -> Self {
        let markable: BTreeSet<&str> = controls
            .keys()
            .map(String::as_str)
            .filter(|name| can_be_marked(name))
            .collect();
        let lengths: BTreeSet<usize> = markable.iter().map(|name| name.len()).collect();
        let control_at = |rest: &str| {
            lengths
                .iter()
                .rev()
                .find_map(|n| markable.get(rest.get(..*n)?))
                .map(|name| name.len())
        };
        let mut pieces = Vec::new();
        let mut names: BTreeSet<String> = always
            .iter()
            .filter(|name| markable.contains(**name))
            .map(ToString::to_string)
            .collect();
        let mut plain = String::new();
        let mut place = Place::Text;
        let mut rest = source;
        while !rest.is_empty() {
            let (next, step, may_mark) = place.step(rest);
            let control = if may_mark { control_at(rest) } else { None };
            let (taken, left) = rest.split_at(control.unwrap_or(step));
            if control.is_some() {
                pieces.push(Piece::Source(std::mem::take(&mut plain)));
                pieces.push(Piece::Control(taken.to_string()));
                names.insert(taken.to_string());
            } else {
                plain.push_str(taken);
                place = next;
            }
            rest = left;
        }
        pieces.push(Piece::Source(plain));
        Self { pieces, names }
    }

    /// The control tokens that need a mark.
    pub(super) fn names(&self) -> &BTreeSet<String> {
        &self.names
    }

    /// The private characters that the template itself uses.
    pub(super) fn private_chars(&self) -> BTreeSet<char> {
        let text = |piece| match piece {
            &Piece::Source(ref text) | &Piece::Control(ref text) => text.as_str(),
        };
        self.pieces
            .iter()
            .flat_map(|piece| text(piece).chars())
            .filter(|c| is_private(*c))
            .collect()
    }

    /// The template's source with marks.
    pub(super) fn with(&self, marks: &Marks) -> String {
        let mut source = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Source(text) => source.push_str(text),
                Piece::Control(name) => source.extend(marks.of(name)),
            }
        }
        source
    }
}

/// The marks of one rendering.
#[derive(Debug)]
pub(super) struct Marks {
    by_name: BTreeMap<String, char>,
}

impl Marks {
    /// Gives each name a private character that is not taken; none if there are too few.
    pub(super) fn choose(names: &BTreeSet<String>, taken: &BTreeSet<char>) -> Option<Self> {
        let free = PRIVATE.filter(|c| !taken.contains(c));
        let by_name: BTreeMap<String, char> = names.iter().cloned().zip(free).collect();
        (by_name.len() == names.len()).then_some(Self { by_name })
    }

    /// The mark of a control token.
    pub(super) fn of(&self, name: &str) -> Option<char> {
        self.by_name.get(name).copied()
    }

    /// Cuts a rendered text at its marks.
    pub(super) fn cut(&self, text: &str, id_of: impl Fn(&str) -> Option<u32>) -> Vec<Segment> {
        let ids: BTreeMap<char, u32> = self
            .by_name
            .iter()
            .filter_map(|(name, mark)| Some((*mark, id_of(name)?)))
            .collect();
        let mut segments = Vec::new();
        let mut start = 0;
        let push_text = |segments: &mut Vec<Segment>, text: &str| {
            if !text.is_empty() {
                segments.push(Segment::Text(text.to_string()));
            }
        };
        for (at, c) in text.char_indices().filter(|(_, c)| is_private(*c)) {
            if let Some(id) = ids.get(&c) {
                push_text(&mut segments, text.get(start..at).unwrap_or_default());
                segments.push(Segment::Control(*id));
                start = at + c.len_utf8();
            }
        }
        push_text(&mut segments, text.get(start..).unwrap_or_default());
        segments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_are_found_in_text_and_literals_only() {
        let controls: BTreeMap<String, u32> = [("<t>", 1), ("<t><u>", 2), ("if", 3), ("\n", 4)]
            .map(|(name, id)| (name.to_string(), id))
            .into();
        let rows = [
            ("a<t>b", "a[1]b"),
            ("<t><u><t>", "[2][1]"),
            ("{% if x %}if{% endif %}", "{% if x %}[3]{% endif %}"),
            (
                "{{ 'if' if if else \"<t>\" }}",
                "{{ '[3]' if if else \"[1]\" }}",
            ),
            (r"{{ '\'<t>' + if }}<t>", r"{{ '\'[1]' + if }}[1]"),
            ("{# <t> ' #}<t>", "{# <t> ' #}[1]"),
            (
                "{{ {'a': {'<t>': 1}} | if }}if",
                "{{ {'a': {'[1]': 1}} | if }}[3]",
            ),
            ("\n<t>\n", "\n[1]\n"),
        ];
        for (source, expected) in rows {
            let marked = Marked::new(source, &controls, &[]);
            let marks = Marks::choose(marked.names(), &BTreeSet::new()).unwrap();
            let shown: String = marks
                .cut(&marked.with(&marks), |name| controls.get(name).copied())
                .into_iter()
                .map(|segment| match segment {
                    Segment::Control(id) => format!("[{id}]"),
                    Segment::Text(text) => text,
                })
                .collect();
            assert_eq!(shown, expected);
        }
    }

    #[test]
    fn marks_avoid_characters_in_use() {
        let names = BTreeSet::from(["a".to_string(), "b".to_string()]);
        let taken = BTreeSet::from(['\u{F0000}', '\u{F0002}']);
        let marks = Marks::choose(&names, &taken).unwrap();
        assert_eq!(
            (marks.of("a"), marks.of("b")),
            (Some('\u{F0001}'), Some('\u{F0003}'))
        );
        assert!(Marks::choose(&names, &PRIVATE.collect()).is_none());
    }
}
