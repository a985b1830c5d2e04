//! Numbers as people read them: shares, intervals, times, sizes, money.

use crate::stats::Estimate;

/// Between a number and its unit: narrow, and no line breaks there.
const GAP: char = '\u{202f}';

/// A share in percent with one decimal: `12.4 %`.
pub(super) fn percent(share: f64) -> String {
    percent_to(share, 1)
}

/// A share in percent with so many decimals, none where it is exactly all or nothing.
pub(super) fn percent_to(share: f64, decimals: usize) -> String {
    let percent = share * 100.0;
    let is_whole = percent.abs() < 1e-9 || (percent - 100.0).abs() < 1e-9;
    let decimals = if is_whole { 0 } else { decimals };
    format!("{percent:.decimals$}{GAP}%")
}

/// The interval of a share: `10.9–14.0`.
pub(super) fn interval(of: &Estimate) -> String {
    format!("{:.1}–{:.1}", of.low * 100.0, of.high * 100.0)
}

/// A share with its interval: `12.4 % (10.9–14.0)`.
pub(super) fn estimate(of: &Estimate) -> String {
    format!("{} ({})", percent(of.value), interval(of))
}

/// A difference of shares in points, with its interval.
pub(super) fn points(of: &Estimate) -> String {
    let signed = |share: f64| {
        let points = share * 100.0;
        let sign = if points <= -0.05 { "−" } else { "+" };
        format!("{sign}{:.1}", points.abs())
    };
    format!(
        "{} points ({} to {})",
        signed(of.value),
        signed(of.low),
        signed(of.high)
    )
}

/// A number with at most three telling digits: `0.42`, `61.5`, `12.3k`, `3e-4`.
pub(super) fn compact(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        return "–".to_owned();
    }
    let body = match size {
        s if s < 1e-12 => "0".to_owned(),
        s if s < 0.001 => format!("{s:.0e}"),
        s if s < 0.1 => trimmed(s, 3),
        s if s < 10.0 => trimmed(s, 2),
        s if s < 100.0 => trimmed(s, 1),
        s if s < 1e4 => format!("{s:.0}"),
        s => {
            let (scaled, prefix) = prefixed(s);
            format!("{}{prefix}", trimmed(scaled, usize::from(scaled < 100.0)))
        }
    };
    if value < 0.0 && body != "0" {
        format!("−{body}")
    } else {
        body
    }
}

/// So many decimals, without zeros at the end.
fn trimmed(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// A number below a thousand and the prefix that makes it the given one.
fn prefixed(value: f64) -> (f64, &'static str) {
    let mut scaled = value;
    for prefix in ["", "k", "M", "G", "T", "P", "E"] {
        // What rounds to a thousand takes the next prefix.
        if scaled.abs() < 999.5 {
            return (scaled, prefix);
        }
        scaled /= 1000.0;
    }
    (scaled, "Z")
}

/// Three digits with a prefix and a unit: `312 TFLOP`.
pub(super) fn with_unit(value: f64, unit: &str) -> String {
    if !(value.is_finite() && value > 0.0) {
        return "–".to_owned();
    }
    let (scaled, prefix) = prefixed(value);
    let decimals = match scaled {
        s if s >= 100.0 => 0,
        s if s >= 10.0 => 1,
        _ => 2,
    };
    format!("{scaled:.decimals$}{GAP}{prefix}{unit}")
}

/// A count of tokens: `940`, `5.61 M`.
pub(super) fn tokens(count: u64) -> String {
    match count {
        0 => "–".to_owned(),
        1..=9_999 => count.to_string(),
        _ => with_unit(count as f64, ""),
    }
}

/// Seconds: `4.2 s`, `7 min 52 s`, `3 h 05 min`.
pub(super) fn duration(seconds: f64) -> String {
    let whole = seconds.round();
    let (minutes, hours) = ((whole / 60.0).floor(), (whole / 3600.0).floor());
    if seconds < 59.95 {
        format!("{seconds:.1}{GAP}s")
    } else if whole < 3600.0 {
        format!("{minutes:.0}{GAP}min {:02.0}{GAP}s", whole - minutes * 60.0)
    } else {
        format!("{hours:.0}{GAP}h {:02.0}{GAP}min", minutes - hours * 60.0)
    }
}

/// Money: cents where there are any, else four digits.
pub(super) fn money(amount: f64, currency: &str) -> String {
    let decimals = if amount >= 1.0 || amount.abs() < 1e-9 {
        2
    } else {
        4
    };
    format!("{amount:.decimals$}{GAP}{currency}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_people_write_them() {
        let plain = |text: String| text.replace(GAP, " ");
        let rows = [
            (percent(0.1238), "12.4 %"),
            (percent(1.0), "100 %"),
            (percent(0.0), "0 %"),
            (percent(0.9997), "100.0 %"),
            (compact(0.000_31), "3e-4"),
            (compact(0.05), "0.05"),
            (compact(61.5), "61.5"),
            (compact(-3.0), "−3"),
            (compact(12_340.0), "12.3k"),
            (compact(2_000_000.0), "2M"),
            (compact(f64::NAN), "–"),
            (with_unit(3.124e14, "FLOP"), "312 TFLOP"),
            (with_unit(999_999.0, "B"), "1.00 MB"),
            (with_unit(0.0, "B"), "–"),
            (tokens(940), "940"),
            (tokens(5_610_000), "5.61 M"),
            (duration(4.21), "4.2 s"),
            (duration(472.1), "7 min 52 s"),
            (duration(59.97), "1 min 00 s"),
            (duration(11_100.0), "3 h 05 min"),
            (money(0.00421, "EUR"), "0.0042 EUR"),
            (money(12.5, "EUR"), "12.50 EUR"),
        ];
        for (got, expected) in rows {
            assert_eq!(plain(got), expected);
        }
        let gain = Estimate {
            value: 0.027,
            low: -0.004,
            high: 0.05,
        };
        assert_eq!(points(&gain), "+2.7 points (−0.4 to +5.0)");
        assert_eq!(plain(estimate(&gain)), "2.7 % (-0.4–5.0)");
    }
}
