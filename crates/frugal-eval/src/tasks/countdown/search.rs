//! Attempts at a countdown problem: one at random, or all of them in a fixed order.
//!
//! An attempt combines two numbers at a time until one is left. Differences and quotients are
//! taken larger first, so every intermediate result is a whole number from 0 up. For three
//! numbers the order is by the pair that is combined first (first and second, first and third,
//! second and third) and then by the two operations; an attempt whose value another one has by
//! law (the sum of three in another order, `(p - q) + r` which is `(p + r) - q`, ...) is left out.
//! With `+ - *` that leaves 17 attempts, which reach every positive whole target that any
//! expression in whole numbers reaches.

use core::ops::ControlFlow;

use frugal_core::rng::Rng;

use crate::grade::expression::Operation;

/// One combination of two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The first operand.
    pub left: i64,
    /// What is done.
    pub operation: Operation,
    /// The second operand.
    pub right: i64,
    /// The result.
    pub value: i64,
}

/// A way to use all numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The combinations in order.
    pub steps: Vec<Step>,
    /// The same as one expression, `( 3 + 4 ) * 5`, every compound operand in parentheses.
    pub expression: String,
    /// What it comes to.
    pub value: i64,
}

/// The operations of a search.
pub fn operations(with_division: bool) -> &'static [Operation] {
    use Operation::{Add, Divide, Multiply, Subtract};
    const ALL: [Operation; 4] = [Add, Subtract, Multiply, Divide];
    if with_division {
        &ALL
    } else {
        ALL.split_last().map_or(&[], |(_, rest)| rest)
    }
}

/// A number at hand and the expression it came from.
#[derive(Debug, Clone)]
struct Item {
    value: i64,
    text: String,
    is_compound: bool,
}

impl Item {
    fn given(value: i64) -> Self {
        Self {
            value,
            text: value.to_string(),
            is_compound: false,
        }
    }

    fn operand(&self) -> String {
        if self.is_compound {
            format!("( {} )", self.text)
        } else {
            self.text.clone()
        }
    }
}

/// Combines two items, larger first where order matters; nothing if it is inexact or too large.
fn combine(a: &Item, operation: Operation, b: &Item) -> Option<(Step, Item)> {
    let keeps_order = matches!(operation, Operation::Add | Operation::Multiply);
    let (a, b) = if keeps_order || a.value >= b.value {
        (a, b)
    } else {
        (b, a)
    };
    let value = match operation {
        Operation::Add => a.value.checked_add(b.value)?,
        Operation::Subtract => a.value.checked_sub(b.value)?,
        Operation::Multiply => a.value.checked_mul(b.value)?,
        Operation::Divide if a.value.checked_rem(b.value)? == 0 => a.value.checked_div(b.value)?,
        Operation::Divide => return None,
    };
    let text = format!("{} {} {}", a.operand(), operation.sign(), b.operand());
    let step = Step {
        left: a.value,
        operation,
        right: b.value,
        value,
    };
    Some((
        step,
        Item {
            value,
            text,
            is_compound: true,
        },
    ))
}

/// A random attempt: a random pair and a random operation until one number is left. An inexact
/// quotient or an overflow becomes a difference.
pub fn random_attempt(numbers: &[i64], operations: &[Operation], rng: &mut Rng) -> Attempt {
    let mut items: Vec<Item> = numbers.iter().copied().map(Item::given).collect();
    let mut steps = Vec::new();
    while items.len() > 1 {
        rng.shuffle(&mut items);
        let (Some(a), Some(b)) = (items.pop(), items.pop()) else {
            break;
        };
        let operation = rng.choose(operations).copied().unwrap_or(Operation::Add);
        let combined = combine(&a, operation, &b).or_else(|| combine(&a, Operation::Subtract, &b));
        if let Some((step, item)) = combined {
            steps.push(step);
            items.push(item);
        }
    }
    items.pop().map_or_else(
        || Attempt {
            steps: Vec::new(),
            expression: String::new(),
            value: 0,
        },
        |item| Attempt {
            steps,
            expression: item.text,
            value: item.value,
        },
    )
}

/// The attempts in their fixed order, up to and including the first that reaches `target` (all of
/// them without one), at most `limit`.
///
/// *Cost*: one short list per attempt; for five numbers and more only `limit` bounds it.
pub fn search(
    numbers: &[i64],
    operations: &[Operation],
    target: Option<i64>,
    limit: usize,
) -> Vec<Attempt> {
    let items: Vec<Item> = numbers.iter().copied().map(Item::given).collect();
    let mut found = Vec::new();
    let mut visit = |attempt: Attempt| {
        if found.len() >= limit {
            return ControlFlow::Break(());
        }
        let is_hit = target == Some(attempt.value);
        found.push(attempt);
        if is_hit {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    // Breaking off is how the search ends early; there is nothing left to do with it.
    let _ = explore(&items, &[], operations, &mut visit);
    found
}

fn explore(
    items: &[Item],
    before: &[Step],
    operations: &[Operation],
    visit: &mut dyn FnMut(Attempt) -> ControlFlow<()>,
) -> ControlFlow<()> {
    if let [only] = items {
        let steps = before.to_vec();
        return visit(Attempt {
            steps,
            expression: only.text.clone(),
            value: only.value,
        });
    }
    for (pair, (i, j)) in pairs(items.len()).enumerate() {
        let (Some(a), Some(b)) = (items.get(i), items.get(j)) else {
            continue;
        };
        let others = items
            .iter()
            .enumerate()
            .filter(|(at, _)| *at != i && *at != j);
        let others: Vec<Item> = others.map(|(_, item)| item.clone()).collect();
        for operation in operations {
            let Some((step, item)) = combine(a, *operation, b) else {
                continue;
            };
            let steps: Vec<Step> = before.iter().copied().chain([step]).collect();
            if let [other] = others.as_slice() {
                for second in operations {
                    if is_repeat(*operation, *second, pair) {
                        continue;
                    }
                    let Some((last, whole)) = combine(&item, *second, other) else {
                        continue;
                    };
                    let steps = steps.iter().copied().chain([last]).collect();
                    visit(Attempt {
                        steps,
                        expression: whole.text,
                        value: whole.value,
                    })?;
                }
            } else {
                let rest: Vec<Item> = [item].into_iter().chain(others.iter().cloned()).collect();
                explore(&rest, &steps, operations, visit)?;
            }
        }
    }
    ControlFlow::Continue(())
}

/// Pairs of positions in the order (0,1), (0,2), ..., (1,2), ...
fn pairs(n: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..n).flat_map(move |i| (i + 1..n).map(move |j| (i, j)))
}

/// Whether another attempt with the same three numbers has this value by law.
fn is_repeat(first: Operation, second: Operation, pair: usize) -> bool {
    use Operation::{Add, Divide, Multiply, Subtract};
    match (first, second) {
        // One sum and one product of all three, whichever pair comes first.
        (Add, Add) | (Multiply, Multiply) => pair > 0,
        // |(p - q) +- r| is |(p + r) - q| or |(q + r) - p|; (p / q) * r and the like are a product
        // divided, by another pair.
        (Subtract, Add | Subtract) | (Divide, Multiply | Divide) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grade::expression::Expression;
    use crate::grade::rational::Rational;
    use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};
    use std::collections::BTreeSet;

    /// All whole values that any expression over all `numbers` has, intermediate results being
    /// whole numbers of either sign.
    fn reachable(numbers: &[i64], with_division: bool) -> BTreeSet<i64> {
        if let [only] = numbers {
            return BTreeSet::from([*only]);
        }
        let mut values = BTreeSet::new();
        for i in 0..numbers.len() {
            for j in (0..numbers.len()).filter(|j| *j != i) {
                let (a, b) = (numbers[i], numbers[j]);
                let mut results = vec![a + b, a - b, a * b];
                if with_division && b != 0 && a % b == 0 {
                    results.push(a / b);
                }
                for result in results {
                    let mut rest = vec![result];
                    rest.extend(
                        (0..numbers.len())
                            .filter(|k| ![i, j].contains(k))
                            .map(|k| numbers[k]),
                    );
                    values.extend(reachable(&rest, with_division));
                }
            }
        }
        values
    }

    #[test]
    fn the_search_misses_no_positive_target() {
        for with_division in [false, true] {
            for a in 1..=9 {
                for b in a + 1..=10 {
                    for c in [1, 5, 11, 12] {
                        let numbers = [b, c, a];
                        let attempts = search(&numbers, operations(with_division), None, 99);
                        let found: BTreeSet<i64> = attempts.iter().map(|t| t.value).collect();
                        let all = reachable(&numbers, with_division);
                        let missed: Vec<_> = all
                            .iter()
                            .filter(|v| **v > 0 && !found.contains(v))
                            .collect();
                        assert!(missed.is_empty(), "{numbers:?} {missed:?}");
                        assert!(with_division || attempts.len() == 17);
                    }
                }
            }
        }
    }

    #[test]
    fn the_order_is_fixed() {
        let attempts = search(&[3, 12, 7], operations(false), Some(8), 17);
        let texts: Vec<&str> = attempts.iter().map(|a| a.expression.as_str()).collect();
        let expected = ["( 3 + 12 ) + 7", "( 3 + 12 ) - 7"];
        assert_eq!(texts, expected);
        let all = search(&[3, 12, 7], operations(false), None, 17);
        assert_eq!(all[3].expression, "( 12 - 3 ) * 7");
        assert_eq!(all[7].expression, "12 - ( 3 + 7 )");
    }

    proptest! {
        #[test]
        fn every_attempt_is_a_true_expression(
            numbers in prop::collection::vec(1_i64..100, 2..6),
            seed in any::<u64>(),
            with_division in any::<bool>(),
        ) {
            let mut attempts = search(&numbers, operations(with_division), None, 50);
            prop_assert!(!attempts.is_empty());
            let mut rng = Rng::derive(&[seed]);
            attempts.push(random_attempt(&numbers, operations(with_division), &mut rng));
            for attempt in attempts {
                let expression = Expression::parse(&attempt.expression).unwrap();
                prop_assert_eq!(expression.value(), Some(Rational::whole(attempt.value.into())));
                prop_assert_eq!(expression.literals().len(), numbers.len());
                prop_assert_eq!(attempt.steps.len(), numbers.len() - 1);
                prop_assert_eq!(attempt.steps.last().unwrap().value, attempt.value);
            }
        }
    }
}
