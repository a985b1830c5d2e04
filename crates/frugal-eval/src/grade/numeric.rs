//! The numeric grader: the same number, exactly, however it is written: `1,234.50`, `-3/4`,
//! `2.5e3`, `50%`.

use super::rational::Rational;

/// Longest accepted text in bytes.
pub const MAX_BYTES: usize = 64;
/// Largest accepted power of ten.
pub const MAX_EXPONENT: u32 = 30;

/// The number that `text` writes, or nothing: an optional sign, digits with an optional decimal
/// part or thousands separators, an optional power of ten, then optionally `/` and a second such
/// number, or `%`.
pub fn read(text: &str) -> Option<Rational> {
    let text = text.trim();
    if text.len() > MAX_BYTES {
        return None;
    }
    if let Some(percent) = text.strip_suffix('%') {
        return decimal(percent.trim_end())?.over(Rational::whole(100));
    }
    match text.split_once('/') {
        Some((above, below)) => decimal(above.trim_end())?.over(decimal(below.trim_start())?),
        None => decimal(text),
    }
}

/// Whether both texts write the same number.
pub fn is_same(answer: &str, truth: &str) -> bool {
    matches!((read(answer), read(truth)), (Some(a), Some(b)) if a == b)
}

fn decimal(text: &str) -> Option<Rational> {
    let (sign, digits) = match text.strip_prefix(['-', '+']) {
        Some(rest) if text.starts_with('-') => (-1, rest),
        Some(rest) => (1, rest),
        None => (1, text),
    };
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (digits, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let whole = without_separators(whole)?;
    let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_digits(&whole) || !is_digits(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let number: i128 = format!("{whole}{fraction}").parse().ok()?;
    let exponent = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    if exponent.unsigned_abs() > MAX_EXPONENT {
        return None;
    }
    let power = Rational::whole(10_i128.checked_pow(exponent.unsigned_abs())?);
    let number = Rational::whole(number.checked_mul(sign)?);
    if exponent < 0 {
        number.over(power)
    } else {
        number.times(power)
    }
}

/// Removes commas that stand between groups of three digits; others make the text no number.
fn without_separators(whole: &str) -> Option<String> {
    if !whole.contains(',') {
        return Some(whole.to_owned());
    }
    let mut groups = whole.split(',');
    let is_head = groups
        .next()
        .is_some_and(|head| (1..=3).contains(&head.len()));
    let are_groups = groups.all(|group| group.len() == 3);
    (is_head && are_groups).then(|| whole.replace(',', ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_has_many_spellings() {
        let rows = [
            ("1,234.50", "1234.5"),
            ("3/4", "0.75"),
            ("-6 / 8", "-.75"),
            ("50%", "1/2"),
            ("2.5e3", "2500"),
            ("+7.", "7"),
            ("-0", "0"),
            ("1e-2", "0.01"),
        ];
        for (a, b) in rows {
            assert!(is_same(a, b), "{a} {b}");
        }
        assert!(!is_same("1", "2"));
        assert!(!is_same("0.333", "1/3"));
    }

    #[test]
    fn hostile_text_is_no_number() {
        let long = "1".repeat(65);
        let digits = "9".repeat(50);
        let rows = [
            "",
            "-",
            ".",
            "1,23",
            ",123",
            "1,,234",
            "--1",
            "1/0",
            "1/2/3",
            "1e99",
            "1e-99",
            "1e999999999999",
            "0x1",
            "NaN",
            "inf",
            "1 2",
            "%",
            "e5",
            "½",
            "٣",
            &long,
            &digits,
        ];
        for text in rows {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
