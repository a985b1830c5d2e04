//! Counters, histograms and the text format of Prometheus.
//!
//! *Source*: Prometheus documentation, "Exposition formats", text format 0.0.4.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Begins every name of ours.
const PREFIX: &str = "frugal_";

/// The text as it grows.
#[derive(Debug, Default)]
pub(super) struct Text(String);

impl Text {
    pub(super) fn into_string(self) -> String {
        self.0
    }

    /// What is said before a family's lines.
    pub(super) fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.put(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    /// One line.
    pub(super) fn line<'a>(
        &mut self,
        name: &str,
        suffix: &str,
        labels: impl Iterator<Item = (&'a str, &'a str)>,
        value: f64,
    ) {
        self.put(format_args!("{name}{suffix}"));
        let mut before = '{';
        for (label, value) in labels {
            self.put(format_args!("{before}{label}=\"{}\"", Escaped(value)));
            before = ',';
        }
        let end = if before == ',' { "}" } else { "" };
        self.put(format_args!("{end} {}\n", Number(value)));
    }

    fn put(&mut self, text: fmt::Arguments<'_>) {
        // Writing to a string does not fail, unless a value's own text does.
        if self.0.write_fmt(text).is_err() {
            tracing::error!("a number was not written");
        }
    }
}

/// A label's value.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '\\' => out.write_str("\\\\")?,
                '"' => out.write_str("\\\"")?,
                '\n' => out.write_str("\\n")?,
                // Allowed, but no reader of lines is grateful.
                c if c.is_control() => out.write_char(' ')?,
                c => out.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// A value or a bound.
struct Number(f64);

impl fmt::Display for Number {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            x if x == f64::INFINITY => out.write_str("+Inf"),
            x if x == f64::NEG_INFINITY => out.write_str("-Inf"),
            x => write!(out, "{x}"),
        }
    }
}

/// What all series of a name have in common.
#[derive(Debug)]
struct Family<T> {
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    series: Mutex<BTreeMap<Vec<String>, T>>,
}

impl<T> Family<T> {
    const fn new(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Self {
        Self {
            name,
            help,
            labels,
            series: Mutex::new(BTreeMap::new()),
        }
    }

    fn series(&self) -> MutexGuard<'_, BTreeMap<Vec<String>, T>> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the series of these values, which have the order of the labels.
    fn change(&self, values: &[&str], begin: impl FnOnce() -> T, change: impl FnOnce(&mut T)) {
        debug_assert_eq!(values.len(), self.labels.len(), "{}", self.name);
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        change(self.series().entry(values).or_insert_with(begin));
    }

    fn write(
        &self,
        text: &mut Text,
        kind: &str,
        mut line: impl FnMut(&mut Text, &str, &[String], &T),
    ) {
        let name = format!("{PREFIX}{}", self.name);
        text.head(&name, kind, self.help.trim());
        for (values, series) in self.series().iter() {
            line(text, &name, values, series);
        }
    }

    fn labelled<'a>(
        &self,
        values: &'a [String],
    ) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a, T> {
        let values = values.iter().map(String::as_str);
        let labels = self.labels.iter().map(|label| -> &'a str { label });
        labels.zip(values)
    }
}

/// Only grows.
#[derive(Debug)]
pub(super) struct Counter(Family<f64>);

impl Counter {
    pub(super) const fn new(
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
    ) -> Self {
        Self(Family::new(name, help, labels))
    }

    /// Adds to the series of these labels. What is no amount is left out.
    pub(super) fn add(&self, labels: &[&str], amount: f64) {
        if amount.is_finite() && amount >= 0.0 {
            self.0.change(labels, || 0.0, |sum| *sum += amount);
        }
    }

    pub(super) fn write(&self, text: &mut Text) {
        self.0.write(text, "counter", |text, name, values, sum| {
            text.line(name, "", self.0.labelled(values), *sum);
        });
    }
}

/// How often values were within bounds.
#[derive(Debug)]
pub(super) struct Histogram {
    family: Family<Buckets>,
    bounds: &'static [f64],
}

#[derive(Debug)]
struct Buckets {
    /// For each bound, those at or below it and above the one before; then those above all.
    counts: Vec<u64>,
    sum: f64,
}

impl Histogram {
    pub(super) const fn new(
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
        bounds: &'static [f64],
    ) -> Self {
        let family = Family::new(name, help, labels);
        Self { family, bounds }
    }

    /// Counts a value. What is no value is left out.
    pub(super) fn observe(&self, labels: &[&str], value: f64) {
        if !value.is_finite() {
            return;
        }
        let begin = || Buckets {
            counts: vec![0; self.bounds.len() + 1],
            sum: 0.0,
        };
        let at = self.bounds.partition_point(|bound| *bound < value);
        self.family.change(labels, begin, |buckets| {
            if let Some(count) = buckets.counts.get_mut(at) {
                *count += 1;
            }
            buckets.sum += value;
        });
    }

    /// The mean of what was seen with these labels.
    pub(super) fn mean(&self, labels: &[&str]) -> Option<f64> {
        let series = self.family.series();
        let is_it = |values: &&Vec<String>| values.iter().eq(labels.iter());
        let (_, buckets) = series.iter().find(|(values, _)| is_it(values))?;
        let count: u64 = buckets.counts.iter().sum();
        (count > 0).then(|| buckets.sum / count as f64)
    }

    pub(super) fn write(&self, text: &mut Text) {
        let bounds = self.bounds.iter().chain([&f64::INFINITY]);
        let bounds: Vec<String> = bounds.map(|bound| Number(*bound).to_string()).collect();
        self.family
            .write(text, "histogram", |text, name, values, buckets| {
                let labels = || self.family.labelled(values);
                let mut sum = 0;
                for (count, bound) in buckets.counts.iter().zip(&bounds) {
                    sum += count;
                    let labels = labels().chain([("le", bound.as_str())]);
                    text.line(name, "_bucket", labels, sum as f64);
                }
                text.line(name, "_sum", labels(), buckets.sum);
                text.line(name, "_count", labels(), sum as f64);
            });
    }
}

/// A number that is read when it is asked for.
#[derive(Debug)]
pub(super) struct Gauge {
    name: &'static str,
    help: &'static str,
    kind: &'static str,
}

impl Gauge {
    /// One that goes up and down.
    pub(super) const fn now(name: &'static str, help: &'static str) -> Self {
        let kind = "gauge";
        Self { name, help, kind }
    }

    /// One that only goes up, counted elsewhere.
    pub(super) const fn ever(name: &'static str, help: &'static str) -> Self {
        let kind = "counter";
        Self { name, help, kind }
    }

    pub(super) fn write<'a>(
        &self,
        text: &mut Text,
        label: &'a str,
        values: impl Iterator<Item = (&'a str, f64)>,
    ) {
        let name = format!("{PREFIX}{}", self.name);
        text.head(&name, self.kind, self.help);
        for (of, value) in values {
            text.line(&name, "", [(label, of)].into_iter(), value);
        }
    }
}
