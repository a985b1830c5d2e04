//! Where in a template's source one is: text, code, a string in code, or a comment.
//!
//! Sees what minijinja's lexer sees, without the meaning: code ends at its closing mark where all
//! brackets are closed. Blocks of `raw` are taken for code, too.

use crate::{Error, Result};

/// The most tokens of one expression or statement; published templates have up to 47. The
/// parser and what it makes go as deep as an expression has operators, on the stack.
const MAX_EXPRESSION_TOKENS: usize = 500;
/// The most branches of one kind that a template may have, each as deep as those before it.
const MAX_BRANCHES: usize = 200;

/// Where in a template's source a scan is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Text,
    Code(Code),
    Comment,
    Literal { quote: char, within: Code },
}

/// Code, with the mark that ends it and how many brackets are open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Code {
    end: &'static str,
    n_open: i32,
}

impl Place {
    /// The place after the next step, the bytes it takes, and whether a control token may stand here.
    pub(super) fn step(self, rest: &str) -> (Self, usize, bool) {
        let first = rest.chars().next().unwrap_or_default();
        let one = first.len_utf8();
        let code = |end| Self::Code(Code { end, n_open: 0 });
        match (self, rest.get(..2).unwrap_or_default()) {
            (Self::Text, "{{") => (code("}}"), 2, false),
            (Self::Text, "{%") => (code("%}"), 2, false),
            (Self::Text, "{#") => (Self::Comment, 2, false),
            (Self::Comment, "#}") => (Self::Text, 2, false),
            (Self::Code(Code { end, n_open: 0 }), two) if two == end => (Self::Text, 2, false),
            (Self::Code(within), _) => (within.step(first), one, false),
            (Self::Literal { quote, within }, _) if first == quote => {
                (Self::Code(within), one, false)
            }
            (Self::Literal { .. }, _) if first == '\\' => {
                let escaped = rest.chars().nth(1).map_or(0, char::len_utf8);
                (self, one + escaped, false)
            }
            (Self::Text | Self::Literal { .. }, _) => (self, one, true),
            (Self::Comment, _) => (self, one, false),
        }
    }
}

impl Code {
    fn step(self, c: char) -> Place {
        let Self { end, n_open } = self;
        match c {
            '\'' | '"' => Place::Literal {
                quote: c,
                within: self,
            },
            '(' | '[' | '{' => Place::Code(Self {
                end,
                n_open: n_open + 1,
            }),
            ')' | ']' | '}' => Place::Code(Self {
                end,
                n_open: n_open - 1,
            }),
            _ => Place::Code(self),
        }
    }
}

/// Refuses templates that name others: there are none, and the engine panics on some ways to do it.
/// Looks at every place, also in comments and literals, so that nothing can hide.
pub(super) fn check_alone(source: &str) -> Result<()> {
    const NAMING: [&str; 4] = ["import", "from", "include", "extends"];
    for statement in source.split("{%").skip(1) {
        let statement = statement.strip_prefix(['-', '+']).unwrap_or(statement);
        let statement = statement.trim_start();
        let is_in_word = |c: char| c.is_alphanumeric() || c == '_';
        let word = statement.split(|c| !is_in_word(c)).next();
        if let Some(word) = word.filter(|word| NAMING.contains(word)) {
            return Err(Error::Chat(format!(
                "expected a template that stands alone, got one with {word:?}"
            )));
        }
    }
    Ok(())
}

/// Refuses templates on which the parser would run out of stack.
pub(super) fn check_depth(source: &str) -> Result<()> {
    let (mut place, mut rest) = (Place::Text, source);
    let (mut n_tokens, mut n_branches) = (0, 0);
    let mut is_in_word = false;
    while !rest.is_empty() {
        let (next, step, _) = place.step(rest);
        let (taken, left) = rest.split_at(step);
        let c = taken.chars().next().unwrap_or_default();
        match place {
            Place::Code(_) => {
                let is_word = c.is_alphanumeric() || c == '_';
                let begins = !(c.is_whitespace() || is_word && is_in_word);
                n_tokens += usize::from(begins);
                n_branches += usize::from(begins && rest.starts_with("elif"));
                is_in_word = is_word;
            }
            Place::Text => (n_tokens, is_in_word) = (0, false),
            Place::Literal { .. } | Place::Comment => is_in_word = false,
        }
        within(
            "tokens of one expression of a chat template",
            MAX_EXPRESSION_TOKENS,
            n_tokens,
        )?;
        within(
            "branches (elif) of a chat template",
            MAX_BRANCHES,
            n_branches,
        )?;
        (place, rest) = (next, left);
    }
    Ok(())
}

fn within(what: &'static str, limit: usize, got: usize) -> Result<()> {
    if got > limit {
        return Err(Error::TooLarge { what, limit, got });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_templates_are_named_by_statements_only() {
        for alone in [
            "import {{ import }}",
            "{% if importance %}{% endif %}",
            "{% set from = 1 %}",
        ] {
            assert!(check_alone(alone).is_ok(), "{alone}");
        }
        for naming in ["{%import 'a' as b%}", "x{%-  from 'a' import b %}"] {
            assert!(check_alone(naming).is_err(), "{naming}");
        }
    }

    #[test]
    fn tokens_are_counted_within_one_expression() {
        let sum = |n: usize| format!("{{{{ 'a b' {} }}}}", "+ long_name ".repeat(n));
        // Two tokens a term, and a literal is one.
        assert!(check_depth(&sum(240)).is_ok());
        assert!(matches!(
            check_depth(&sum(250)),
            Err(Error::TooLarge {
                limit: MAX_EXPRESSION_TOKENS,
                ..
            })
        ));
        assert!(check_depth(&sum(240).repeat(20)).is_ok());
        assert!(
            check_depth(&format!(
                "{}{{# {} #}}",
                "- ".repeat(9999),
                "- ".repeat(9999)
            ))
            .is_ok()
        );
        // Brackets keep an expression open over what looks like its end.
        assert!(check_depth(&format!("{{{{ {}1 }}}}", "{'a': {}} + ".repeat(99))).is_err());
        assert!(check_depth(&"{% elif x %}".repeat(200)).is_ok());
        assert!(check_depth(&"{% elif x %}".repeat(201)).is_err());
    }
}
