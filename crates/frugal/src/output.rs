//! Words for people and lines for machines. The only place that prints.

use std::io::{self, Write};

use serde::Serialize;

/// Prints a line to standard output. A reader that went away is no error.
pub(crate) fn say(line: impl std::fmt::Display) {
    let mut out = io::stdout().lock();
    drop(writeln!(out, "{line}").and_then(|()| out.flush()));
}

/// Prints one JSON object on one line.
pub(crate) fn say_json(value: &impl Serialize) -> anyhow::Result<()> {
    say(serde_json::to_string(value)?);
    Ok(())
}

/// Prints to standard error.
pub(crate) fn tell(line: impl std::fmt::Display) {
    drop(writeln!(io::stderr().lock(), "{line}"));
}

/// Says what went wrong, with its causes, each once.
pub(crate) fn complain(is_json: bool, error: &anyhow::Error) {
    let mut sentences: Vec<String> = Vec::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        // A transparent error repeats the words of its source.
        if !sentences.iter().any(|said| said.contains(&cause)) {
            sentences.push(cause);
        }
    }
    let message = sentences.join(": ");
    if is_json {
        say(serde_json::json!({ "event": "error", "message": message }));
    }
    tell(format!("frugal: {message}"));
}

/// A request that cannot be understood, as against one that failed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// 130 for an interruption, 2 for wrong usage, else 1.
pub(crate) fn exit_code_of(error: &anyhow::Error) -> u8 {
    let is_interrupted = |cause: &(dyn std::error::Error + 'static)| {
        matches!(
            cause.downcast_ref::<frugal_train::error::Error>(),
            Some(
                frugal_train::error::Error::Interrupted { .. }
                    | frugal_train::error::Error::Stopped { .. }
            )
        )
    };
    let is_usage = |cause: &(dyn std::error::Error + 'static)| {
        cause.is::<Usage>() || cause.is::<frugal_run::recipe::RecipeError>()
    };
    if error.chain().any(is_interrupted) {
        130
    } else if error.chain().any(is_usage) {
        2
    } else {
        1
    }
}

/// A count with thousands marked: 1 234 567.
pub(crate) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

/// A quantity with a metric prefix: 1.23 T.
pub(crate) fn metric(value: f64) -> String {
    let prefixes = [(1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    prefixes
        .iter()
        .find(|(scale, _)| value.abs() >= *scale)
        .map_or_else(
            || format!("{value:.0} "),
            |(scale, prefix)| format!("{:.2} {prefix}", value / scale),
        )
}

/// Seconds as a person says them.
pub(crate) fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 60.0 => format!("{s:.1} s"),
        s if s < 3600.0 => format!("{} min {:02.0} s", (s / 60.0).floor(), s % 60.0),
        s => format!("{} h {:02.0} min", (s / 3600.0).floor(), s % 3600.0 / 60.0),
    }
}

/// Rows under a head, columns as wide as their widest cell, the first left, the others right.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count());
        cells
            .chain(head.get(column).map(|h| h.chars().count()))
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let mut out = String::new();
        for (index, (cell, width)) in cells.into_iter().zip(&widths).enumerate() {
            let pad = " ".repeat(width.saturating_sub(cell.chars().count()));
            let parts = if index == 0 {
                ["", cell, &pad]
            } else {
                ["  ", &pad, cell]
            };
            out.extend(parts);
        }
        out.trim_end().to_owned()
    };
    let body = rows
        .iter()
        .map(|row| line(row.iter().map(String::as_str).collect()));
    std::iter::once(line(head.to_vec()))
        .chain(body)
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_a_person_writes_them() {
        assert_eq!(grouped(1_234_567), "1 234 567");
        assert_eq!(grouped(12), "12");
        assert_eq!(metric(1.234e12), "1.23 T");
        assert_eq!(metric(12.0), "12 ");
        assert_eq!(duration(75.0), "1 min 15 s");
        assert_eq!(duration(3.21), "3.2 s");
    }

    #[test]
    fn a_table_lines_up() {
        let rows = vec![
            vec!["base".into(), "7".into()],
            vec!["r1".into(), "100".into()],
        ];
        assert_eq!(
            table(&["stage", "n"], &rows),
            "stage    n\nbase     7\nr1     100"
        );
    }

    #[test]
    fn exit_codes_follow_the_cause() {
        let interrupted = frugal_train::error::Error::Interrupted {
            stage: "base".into(),
            step: 3,
        };
        let error = anyhow::Error::from(interrupted).context("run r1-tiny");
        assert_eq!(exit_code_of(&error), 130);
        assert_eq!(exit_code_of(&Usage("no".into()).into()), 2);
        assert_eq!(exit_code_of(&anyhow::anyhow!("disk")), 1);
    }
}
