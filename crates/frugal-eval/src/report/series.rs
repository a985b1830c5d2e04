//! Curves out of journal and timings: which stages there were, which numbers they wrote, thinned to
//! what a small picture can show.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::Report;

/// Most points of a drawn line.
pub(super) const MOST_POINTS: usize = 120;

/// A point of a line, with the range of what it stands for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

#[cfg(test)]
impl Point {
    pub(super) fn bare(x: f64, y: f64) -> Self {
        Self {
            x,
            y,
            low: y,
            high: y,
        }
    }
}

/// The lines that one stage wrote.
pub(super) struct StageLog<'a> {
    pub(super) name: &'a str,
    pub(super) kind: &'a str,
    lines: Vec<(f64, &'a Map<String, Value>)>,
    timings: BTreeMap<u64, (f64, u64)>,
}

/// The stages in the order in which they began to write. Lines that are none are left out.
pub(super) fn stages(report: &Report) -> Vec<StageLog<'_>> {
    let mut stages: Vec<StageLog<'_>> = Vec::new();
    for line in report.journal.iter().filter_map(Value::as_object) {
        let text = |field| line.get(field).and_then(Value::as_str);
        let step = line.get("step").and_then(Value::as_u64);
        let (Some(name), Some(step)) = (text("stage"), step) else {
            continue;
        };
        let at = stages
            .iter()
            .position(|stage| stage.name == name)
            .unwrap_or_else(|| {
                let kind = text("kind").unwrap_or_default();
                stages.push(StageLog {
                    name,
                    kind,
                    lines: vec![],
                    timings: BTreeMap::new(),
                });
                stages.len() - 1
            });
        if let Some(stage) = stages.get_mut(at) {
            stage.lines.push((step as f64 + 1.0, line));
        }
    }
    for timing in &report.timings {
        if let Some(stage) = stages.iter_mut().find(|stage| stage.name == timing.stage) {
            // A step that was made again after a kill counts as it went the last time.
            let tokens = timing
                .tokens_trained
                .saturating_add(timing.tokens_generated);
            stage.timings.insert(timing.step, (timing.seconds, tokens));
        }
    }
    stages
}

impl<'a> StageLog<'a> {
    /// Steps that were journaled.
    pub(super) fn n_steps(&self) -> usize {
        self.lines.len()
    }

    /// A number after every step that has it: (steps done, value).
    pub(super) fn metric(&self, name: &str) -> Vec<(f64, f64)> {
        let value = |line: &Map<String, Value>| line.get(name).and_then(Value::as_f64);
        self.lines
            .iter()
            .filter_map(|(step, line)| Some((*step, value(line)?)))
            .collect()
    }

    /// Tokens trained and generated per second of every step.
    pub(super) fn tokens_per_second(&self) -> Vec<(f64, f64)> {
        let rate = |(step, (seconds, tokens)): (&u64, &(f64, u64))| {
            (*seconds > 0.0 && *tokens > 0).then(|| (*step as f64 + 1.0, *tokens as f64 / *seconds))
        };
        self.timings.iter().filter_map(rate).collect()
    }

    /// The shares of every expert, layer by layer, at the steps that have them.
    pub(super) fn expert_load(&self) -> Vec<(f64, Vec<Vec<f64>>)> {
        let layer = |value: &'a Value| -> Option<Vec<f64>> {
            value.as_array()?.iter().map(Value::as_f64).collect()
        };
        let read = |line: &'a Map<String, Value>| -> Option<Vec<Vec<f64>>> {
            line.get("expert_load")?
                .as_array()?
                .iter()
                .map(layer)
                .collect()
        };
        self.lines
            .iter()
            .filter_map(|(step, line)| Some((*step, read(line)?)))
            .collect()
    }
}

/// Splits a list into at most `most` runs of nearly equal length, in order.
pub(super) fn runs<T>(list: &[T], most: usize) -> Vec<&[T]> {
    let n_runs = list.len().min(most);
    let edge = |index: usize| index * list.len() / n_runs.max(1);
    (0..n_runs)
        .filter_map(|index| list.get(edge(index)..edge(index + 1)))
        .collect()
}

/// At most [`MOST_POINTS`] points: means over runs of steps, with the smallest and largest value.
pub(super) fn thinned(values: &[(f64, f64)]) -> Vec<Point> {
    let mean = |run: &[(f64, f64)], of: fn(&(f64, f64)) -> f64| {
        run.iter().map(of).sum::<f64>() / run.len().max(1) as f64
    };
    let point = |run: &[(f64, f64)]| {
        // The last step of a run is where it ends, so the line ends where the stage does.
        let x = run.last().map_or(0.0, |last| last.0);
        let y = mean(run, |value| value.1);
        let low = run
            .iter()
            .map(|value| value.1)
            .fold(f64::INFINITY, f64::min);
        let high = run
            .iter()
            .map(|value| value.1)
            .fold(f64::NEG_INFINITY, f64::max);
        Point { x, y, low, high }
    };
    runs(values, MOST_POINTS).into_iter().map(point).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_the_end_the_mean_and_the_range() {
        let few = [(1.0, 4.0), (2.0, 6.0)];
        assert_eq!(
            thinned(&few),
            [Point::bare(1.0, 4.0), Point::bare(2.0, 6.0)]
        );
        let many: Vec<(f64, f64)> = (0..1_001)
            .map(|i| (f64::from(i), f64::from(i % 2)))
            .collect();
        let points = thinned(&many);
        assert_eq!(points.len(), MOST_POINTS);
        assert!(
            points
                .iter()
                .all(|p| p.low.abs() < 1e-12 && (p.high - 1.0).abs() < 1e-12)
        );
        assert!(points.iter().all(|p| (0.4..=0.6).contains(&p.y)));
        assert!((points[MOST_POINTS - 1].x - 1_000.0).abs() < 1e-12);
        assert!(thinned(&[]).is_empty());
    }

    #[test]
    fn runs_cover_a_list_once() {
        for (length, most) in [(0, 3), (2, 3), (3, 3), (7, 3), (100, 7)] {
            let list: Vec<usize> = (0..length).collect();
            let runs = runs(&list, most);
            assert!(runs.len() <= most && runs.iter().all(|run| !run.is_empty()));
            assert_eq!(runs.concat(), list);
        }
    }
}
