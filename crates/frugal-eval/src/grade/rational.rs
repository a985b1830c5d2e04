//! Exact fractions that refuse to overflow.

/// A fraction in lowest terms with a positive denominator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rational {
    numerator: i128,
    denominator: i128,
}

fn gcd(a: i128, b: i128) -> i128 {
    let (mut a, mut b) = (a.unsigned_abs(), b.unsigned_abs());
    while b != 0 {
        (a, b) = (b, a % b);
    }
    // The greatest common divisor of two i128 is at most 2^127; that one case becomes 1, which
    // leaves a fraction unreduced and lets the checked steps refuse it.
    i128::try_from(a).unwrap_or(1)
}

impl Rational {
    /// A whole number.
    pub const fn whole(value: i128) -> Self {
        Self {
            numerator: value,
            denominator: 1,
        }
    }

    /// `numerator / denominator`, or nothing if the denominator is zero or the numbers too large.
    pub fn new(numerator: i128, denominator: i128) -> Option<Self> {
        if denominator == 0 {
            return None;
        }
        let divisor = gcd(numerator, denominator).max(1);
        let (numerator, denominator) = (
            numerator.checked_div(divisor)?,
            denominator.checked_div(divisor)?,
        );
        if denominator < 0 {
            let (numerator, denominator) = (numerator.checked_neg()?, denominator.checked_neg()?);
            return Some(Self {
                numerator,
                denominator,
            });
        }
        Some(Self {
            numerator,
            denominator,
        })
    }

    /// The part above the line.
    pub const fn numerator(self) -> i128 {
        self.numerator
    }

    /// The part below the line, always positive.
    pub const fn denominator(self) -> i128 {
        self.denominator
    }

    /// The sum, or nothing on overflow.
    pub fn plus(self, other: Self) -> Option<Self> {
        let left = self.numerator.checked_mul(other.denominator)?;
        let right = other.numerator.checked_mul(self.denominator)?;
        Self::new(
            left.checked_add(right)?,
            self.denominator.checked_mul(other.denominator)?,
        )
    }

    /// The difference, or nothing on overflow.
    pub fn minus(self, other: Self) -> Option<Self> {
        let numerator = other.numerator.checked_neg()?;
        self.plus(Self {
            numerator,
            denominator: other.denominator,
        })
    }

    /// The product, or nothing on overflow.
    pub fn times(self, other: Self) -> Option<Self> {
        Self::new(
            self.numerator.checked_mul(other.numerator)?,
            self.denominator.checked_mul(other.denominator)?,
        )
    }

    /// The quotient, or nothing on overflow or division by zero.
    pub fn over(self, other: Self) -> Option<Self> {
        Self::new(
            self.numerator.checked_mul(other.denominator)?,
            self.denominator.checked_mul(other.numerator)?,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn extremes_are_refused_not_wrapped() {
        let huge = Rational::whole(i128::MAX);
        let least = Rational::whole(i128::MIN);
        assert_eq!(huge.plus(Rational::whole(1)), None);
        assert_eq!(huge.times(huge), None);
        assert_eq!(Rational::whole(0).minus(least), None);
        assert_eq!(Rational::new(1, 0), None);
        assert_eq!(Rational::new(i128::MIN, -1), None);
        assert_eq!(Rational::whole(1).over(Rational::whole(0)), None);
        // The common divisor is 2^127 here.
        assert!(Rational::new(i128::MIN, i128::MIN).is_none_or(|one| one == Rational::whole(1)));
    }

    proptest! {
        #[test]
        fn the_field_laws_hold(a in -99_i128..99, b in 1_i128..99, c in -99_i128..99, d in 1_i128..99) {
            let (x, y) = (Rational::new(a, b).unwrap(), Rational::new(c, d).unwrap());
            prop_assert_eq!(x.plus(y), y.plus(x));
            prop_assert_eq!(x.plus(y).unwrap().minus(y), Some(x));
            if c != 0 {
                prop_assert_eq!(x.times(y).unwrap().over(y), Some(x));
            }
            prop_assert_eq!(gcd(x.numerator(), x.denominator()), 1);
        }
    }
}
