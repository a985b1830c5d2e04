//! Arithmetic expressions from hostile text: integer literals, `+ - * /` and parentheses; no
//! unary minus, no other sign. Parsed to postfix order with an explicit stack (Dijkstra's
//! shunting yard), so that depth costs memory within a limit and never the call stack.

use super::rational::Rational;

/// Longest accepted text in bytes.
pub const MAX_BYTES: usize = 1_024;
/// Most literals.
pub const MAX_LITERALS: usize = 64;
/// Deepest nesting of parentheses.
pub const MAX_DEPTH: usize = 64;
/// Most digits of one literal.
pub const MAX_DIGITS: usize = 18;

/// A binary operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
}

impl Operation {
    const fn binds(self) -> u8 {
        match self {
            Self::Add | Self::Subtract => 1,
            Self::Multiply | Self::Divide => 2,
        }
    }

    /// The sign as written.
    pub const fn sign(self) -> char {
        match self {
            Self::Add => '+',
            Self::Subtract => '-',
            Self::Multiply => '*',
            Self::Divide => '/',
        }
    }
}

/// One element of the postfix order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Item {
    Literal(i128),
    Apply(Operation),
}

/// A parsed expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expression {
    postfix: Vec<Item>,
}

/// What waits on the shunting yard's stack.
enum Waiting {
    Open,
    Apply(Operation),
}

impl Expression {
    /// The expression `text` spells, or nothing if it is none or exceeds a limit.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_BYTES {
            return None;
        }
        let mut yard = Yard::default();
        let mut rest = text.trim_start_matches(is_space).chars();
        while let Some(first) = rest.clone().next() {
            if first.is_ascii_digit() {
                let digits: String = rest.clone().take_while(char::is_ascii_digit).collect();
                yard.literal(&digits)?;
                rest.nth(digits.len() - 1);
            } else {
                rest.next();
                match first {
                    '(' => yard.open()?,
                    ')' => yard.close()?,
                    '+' => yard.operation(Operation::Add)?,
                    '-' => yard.operation(Operation::Subtract)?,
                    '*' => yard.operation(Operation::Multiply)?,
                    '/' => yard.operation(Operation::Divide)?,
                    space if is_space(space) => {}
                    _ => return None,
                }
            }
        }
        yard.finish()
    }

    /// The literals in the order of the text.
    pub fn literals(&self) -> Vec<i128> {
        let literal = |item: &Item| match item {
            Item::Literal(value) => Some(*value),
            Item::Apply(_) => None,
        };
        self.postfix.iter().filter_map(literal).collect()
    }

    /// The exact value, or nothing on division by zero or overflow.
    pub fn value(&self) -> Option<Rational> {
        self.fold(
            |value| Some(Rational::whole(value)),
            |operation, left, right| match operation {
                Operation::Add => left.plus(right),
                Operation::Subtract => left.minus(right),
                Operation::Multiply => left.times(right),
                Operation::Divide => left.over(right),
            },
        )
    }

    /// A text that is equal for expressions that differ only in the order or grouping of a sum or
    /// of a product: `3 + 4 - 5` and `( 4 - 5 ) + 3` give the same, `7 - 5` another one.
    pub fn canonical(&self) -> Option<String> {
        let normal = self.fold(
            |value| Some(Normal::Literal(value)),
            |operation, left, right| Some(left.join(operation, right)),
        )?;
        Some(normal.text())
    }

    /// Reduces the postfix order with a value stack; at most [`MAX_LITERALS`] values live.
    fn fold<T>(
        &self,
        literal: impl Fn(i128) -> Option<T>,
        apply: impl Fn(Operation, T, T) -> Option<T>,
    ) -> Option<T> {
        let mut values = Vec::new();
        for item in &self.postfix {
            let value = match *item {
                Item::Literal(value) => literal(value)?,
                Item::Apply(operation) => {
                    let (right, left) = (values.pop()?, values.pop()?);
                    apply(operation, left, right)?
                }
            };
            values.push(value);
        }
        values.pop()
    }
}

/// Python's `str.isspace` for ASCII, which the reference verdicts were made with.
fn is_space(character: char) -> bool {
    character.is_ascii_whitespace() || character == '\u{b}'
}

#[derive(Default)]
struct Yard {
    postfix: Vec<Item>,
    waiting: Vec<Waiting>,
    depth: usize,
    n_literals: usize,
    after_operand: bool,
}

impl Yard {
    fn literal(&mut self, digits: &str) -> Option<()> {
        let has_leading_zero = digits.len() > 1 && digits.starts_with('0');
        self.n_literals += 1;
        if self.after_operand
            || has_leading_zero
            || digits.len() > MAX_DIGITS
            || self.n_literals > MAX_LITERALS
        {
            return None;
        }
        self.postfix.push(Item::Literal(digits.parse().ok()?));
        self.after_operand = true;
        Some(())
    }

    fn open(&mut self) -> Option<()> {
        self.depth += 1;
        if self.after_operand || self.depth > MAX_DEPTH {
            return None;
        }
        self.waiting.push(Waiting::Open);
        Some(())
    }

    fn close(&mut self) -> Option<()> {
        if !self.after_operand {
            return None;
        }
        loop {
            match self.waiting.pop()? {
                Waiting::Open => break,
                Waiting::Apply(operation) => self.postfix.push(Item::Apply(operation)),
            }
        }
        self.depth -= 1;
        Some(())
    }

    fn operation(&mut self, operation: Operation) -> Option<()> {
        if !self.after_operand {
            return None;
        }
        while let Some(Waiting::Apply(before)) = self.waiting.last()
            && before.binds() >= operation.binds()
        {
            self.postfix.push(Item::Apply(*before));
            self.waiting.pop();
        }
        self.waiting.push(Waiting::Apply(operation));
        self.after_operand = false;
        Some(())
    }

    fn finish(mut self) -> Option<Expression> {
        if !self.after_operand {
            return None;
        }
        while let Some(waiting) = self.waiting.pop() {
            match waiting {
                Waiting::Open => return None,
                Waiting::Apply(operation) => self.postfix.push(Item::Apply(operation)),
            }
        }
        Some(Expression {
            postfix: self.postfix,
        })
    }
}

/// A sum or product flattened into sorted texts of its members with their signs.
enum Normal {
    Literal(i128),
    Chain {
        additive: bool,
        members: Vec<(String, bool)>,
    },
}

impl Normal {
    fn join(self, operation: Operation, right: Self) -> Self {
        let additive = operation.binds() == 1;
        let is_inverse = matches!(operation, Operation::Subtract | Operation::Divide);
        let mut members = self.members(additive);
        let others = right.members(additive);
        members.extend(
            others
                .into_iter()
                .map(|(text, inverse)| (text, inverse ^ is_inverse)),
        );
        members.sort();
        Self::Chain { additive, members }
    }

    fn members(self, in_sum: bool) -> Vec<(String, bool)> {
        match self {
            Self::Chain { additive, members } if additive == in_sum => members,
            other => vec![(other.text(), false)],
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Literal(value) => value.to_string(),
            Self::Chain { additive, members } => {
                let signs = if *additive { ['+', '-'] } else { ['*', '/'] };
                let member = |(text, inverse): &(String, bool)| {
                    let [plain, inverted] = signs;
                    format!("{}{text}", if *inverse { inverted } else { plain })
                };
                format!("({})", members.iter().map(member).collect::<String>())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn precedence_and_grouping_are_the_usual_ones() {
        let rows = [
            ("1 + 2 * 3", 7, 1),
            ("(1+2)*3", 9, 1),
            ("8 - 3 - 2", 3, 1),
            ("8 / 4 / 2", 1, 1),
            ("8 / (3 - 8 / 3)", 24, 1),
            ("2 / 4", 1, 2),
            ("3 - 5 * 2", -7, 1),
            ("((7))", 7, 1),
        ];
        for (text, numerator, denominator) in rows {
            let value = Expression::parse(text).and_then(|e| e.value());
            assert_eq!(value, Rational::new(numerator, denominator), "{text}");
        }
    }

    #[test]
    fn hostile_text_is_no_expression() {
        let deep = "(".repeat(1_000_000);
        let nested = format!("{}1{}", "(".repeat(65), ")".repeat(65));
        let many = vec!["1"; 65].join("+");
        let long = "1".repeat(19);
        let rows = [
            "",
            " ",
            "-1",
            "+1",
            "1 +",
            "1 2",
            "1 = 1",
            "(1",
            "1)",
            "()",
            "2(3)",
            "(2)3",
            "1 ** 2",
            "1 // 2",
            "1.5",
            "1e3",
            "0x10",
            "007",
            "1_000",
            "٣",
            "\\frac{1}{2}",
            "1 × 2",
            "1 − 2",
            "__import__('os')",
            "1\u{0}",
            &deep,
            &nested,
            &many,
            &long,
        ];
        for text in rows {
            assert_eq!(Expression::parse(text), None, "{text:.40}");
        }
        assert_eq!(
            Expression::parse("1 / (2 - 2)").and_then(|e| e.value()),
            None
        );
        let overflow = ["999999999999999999"; 10].join("*");
        assert_eq!(Expression::parse(&overflow).and_then(|e| e.value()), None);
    }

    #[test]
    fn canonical_texts_ignore_order_and_nothing_else() {
        let canonical = |text: &str| Expression::parse(text).unwrap().canonical().unwrap();
        assert_eq!(canonical("(3 + 4) * 5"), canonical("5 * (4 + 3)"));
        assert_eq!(canonical("3 + 4 - 5"), canonical("(4 - 5) + 3"));
        assert_eq!(canonical("8 - (3 - 2)"), canonical("2 + 8 - 3"));
        assert_ne!(canonical("(3 + 4) * 5"), canonical("3 + 4 * 5"));
        assert_ne!(canonical("5 - 3"), canonical("3 - 5"));
    }

    proptest! {
        #[test]
        fn any_text_is_handled(text in "[0-9+*/() \\-]{0,80}|\\PC{0,40}") {
            if let Some(expression) = Expression::parse(&text) {
                prop_assert!(expression.literals().len() <= MAX_LITERALS);
                let _ = expression.value();
                prop_assert!(expression.canonical().is_some());
            }
        }
    }
}
