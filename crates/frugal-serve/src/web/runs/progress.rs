//! How far a run is and how it did, from its journal and timings as far as they were read. Both grow,
//! so what was read once is not read again.

use std::borrow::Cow;
use std::collections::BTreeMap;

use frugal_run::inside::Inside;
use serde::{Deserialize, Serialize};

use super::tail::{News, Read, Tail};

/// The files that are followed.
pub(super) const JOURNAL: &str = "journal.jsonl";
/// See [`JOURNAL`].
pub(super) const TIMINGS: &str = "timings.jsonl";
/// See [`JOURNAL`].
pub(super) const SAMPLES: &str = "samples.jsonl";

/// Points of the small curve of a run.
const MOST_POINTS: usize = 48;
/// Stages that a journal may speak of; those of a recipe are fewer.
const MOST_STAGES: usize = 256;
/// Letters of a checkpoint's name.
const MOST_NAME: usize = 128;
/// Accuracies that are kept before they are thinned.
const MOST_KEPT: usize = 4096;

/// What was read of a run.
#[derive(Debug)]
pub(super) struct Progress {
    journal: Tail,
    timings: Tail,
    stages: BTreeMap<String, OfStage>,
    used: BTreeMap<String, Used>,
    accuracies: Vec<f32>,
    /// The best checkpoint of each evaluation.
    best: BTreeMap<String, Best>,
}

/// A checkpoint that was examined.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Best {
    pub(super) checkpoint: String,
    /// Share of right samples.
    pub(super) pass_at_1: f64,
}

/// How far a stage is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct OfStage {
    /// Steps that were journaled.
    pub(super) steps: u64,
    /// Its place among those that wrote.
    order: usize,
}

/// What a stage used by its timings, steps made twice counted twice.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Used {
    /// On the wall.
    pub(super) seconds: f64,
    /// Learned from.
    pub(super) tokens_trained: u64,
    /// Sampled.
    pub(super) tokens_generated: u64,
}

/// What is looked at of a journal's line.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    stage: Cow<'a, str>,
    step: u64,
    #[serde(default)]
    accuracy: Option<f64>,
    #[serde(borrow, default)]
    checkpoint: Option<Cow<'a, str>>,
    #[serde(default)]
    score: Option<Score>,
}

#[derive(Deserialize)]
struct Score {
    pass_at_1: Estimate,
}

#[derive(Deserialize)]
struct Estimate {
    value: f64,
}

#[derive(Deserialize)]
struct Timing<'a> {
    #[serde(borrow)]
    stage: Cow<'a, str>,
    seconds: f64,
    #[serde(default)]
    tokens_trained: u64,
    #[serde(default)]
    tokens_generated: u64,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self {
            journal: Tail::at(JOURNAL, 0),
            timings: Tail::at(TIMINGS, 0),
            stages: BTreeMap::new(),
            used: BTreeMap::new(),
            accuracies: Vec::new(),
            best: BTreeMap::new(),
        }
    }

    /// Reads on, taking what it reads off `budget`; the rest comes the next time.
    pub(super) fn read_on(&mut self, inside: &Inside, budget: &mut u64) {
        while *budget > 0 {
            match self.journal.read(inside) {
                Read::Lines(news) => {
                    spend(budget, &news);
                    news.lines.iter().for_each(|line| self.note(line));
                }
                Read::Reset => {
                    self.stages.clear();
                    self.accuracies.clear();
                    self.best.clear();
                }
                Read::Nothing | Read::Damaged => break,
            }
        }
        while *budget > 0 {
            match self.timings.read(inside) {
                Read::Lines(news) => {
                    spend(budget, &news);
                    news.lines.iter().for_each(|line| self.time(line));
                }
                Read::Reset => self.used.clear(),
                Read::Nothing | Read::Damaged => break,
            }
        }
    }

    fn note(&mut self, line: &str) {
        let Ok(line) = serde_json::from_str::<Line<'_>>(line) else {
            return;
        };
        let order = self.stages.len();
        if let Some(stage) = entry(&mut self.stages, &line.stage, order) {
            stage.steps = stage.steps.max(line.step.saturating_add(1));
            if let (Some(checkpoint), Some(score)) = (&line.checkpoint, &line.score) {
                self.examine(&line.stage, checkpoint, score.pass_at_1.value);
            }
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a small picture is drawn of it"
        )]
        if let Some(accuracy) = line.accuracy.filter(|a| a.is_finite()) {
            self.accuracies.push(accuracy as f32);
        }
        if self.accuracies.len() > MOST_KEPT {
            self.accuracies = thinned(&self.accuracies, MOST_KEPT / 2);
        }
    }

    /// Keeps the better of two checkpoints, of stages that are known.
    fn examine(&mut self, stage: &str, checkpoint: &str, pass_at_1: f64) {
        let before = self.best.get(stage).map(|best| best.pass_at_1);
        if pass_at_1.is_finite() && before.is_none_or(|before| before < pass_at_1) {
            let checkpoint = checkpoint.chars().take(MOST_NAME).collect();
            let best = Best {
                checkpoint,
                pass_at_1,
            };
            self.best.insert(stage.to_owned(), best);
        }
    }

    fn time(&mut self, line: &str) {
        let Ok(line) = serde_json::from_str::<Timing<'_>>(line) else {
            return;
        };
        if !(line.seconds.is_finite() && line.seconds >= 0.0) {
            return;
        }
        if !self.used.contains_key(&*line.stage) {
            if self.used.len() >= MOST_STAGES {
                return;
            }
            self.used.insert(line.stage.to_string(), Used::default());
        }
        if let Some(used) = self.used.get_mut(&*line.stage) {
            used.seconds += line.seconds;
            used.tokens_trained = used.tokens_trained.saturating_add(line.tokens_trained);
            used.tokens_generated = used.tokens_generated.saturating_add(line.tokens_generated);
        }
    }

    /// Steps of a stage.
    pub(super) fn steps(&self, stage: &str) -> u64 {
        self.stages.get(stage).map_or(0, |stage| stage.steps)
    }

    /// The stage that wrote last.
    pub(super) fn latest(&self) -> Option<&str> {
        let latest = self.stages.iter().max_by_key(|(_, stage)| stage.order);
        latest.map(|(name, _)| name.as_str())
    }

    /// What a stage used.
    pub(super) fn used(&self, stage: &str) -> Option<Used> {
        self.used.get(stage).copied()
    }

    /// What all stages used.
    pub(super) fn used_in_all(&self) -> Used {
        let mut all = Used::default();
        for used in self.used.values() {
            all.seconds += used.seconds;
            all.tokens_trained = all.tokens_trained.saturating_add(used.tokens_trained);
            all.tokens_generated = all.tokens_generated.saturating_add(used.tokens_generated);
        }
        all
    }

    /// The accuracies over the whole run, few enough for a small picture, the last one exact.
    pub(super) fn curve(&self) -> Vec<f32> {
        thinned(&self.accuracies, MOST_POINTS)
    }

    /// The best checkpoint of the evaluations that count.
    pub(super) fn best(&self, counts: impl Fn(&str) -> bool) -> Option<Best> {
        let all = self.best.iter().filter(|(stage, _)| counts(stage));
        let best = all.max_by(|(_, a), (_, b)| a.pass_at_1.total_cmp(&b.pass_at_1));
        best.map(|(_, best)| best.clone())
    }

    /// The last accuracy.
    pub(super) fn accuracy(&self) -> Option<f32> {
        self.accuracies.last().copied()
    }
}

fn spend(budget: &mut u64, news: &News) {
    let bytes: usize = news.lines.iter().map(|line| line.len() + 1).sum();
    *budget = budget.saturating_sub(bytes.max(1) as u64);
}

fn entry<'a>(
    stages: &'a mut BTreeMap<String, OfStage>,
    name: &str,
    order: usize,
) -> Option<&'a mut OfStage> {
    if !stages.contains_key(name) {
        if stages.len() >= MOST_STAGES {
            return None;
        }
        stages.insert(name.to_owned(), OfStage { steps: 0, order });
    }
    stages.get_mut(name)
}

/// Means over runs of nearly equal length; the last value stays as it is.
fn thinned(values: &[f32], most: usize) -> Vec<f32> {
    let Some(last) = values.last().filter(|_| values.len() > most) else {
        return values.to_vec();
    };
    let most = most.max(2) - 1;
    let edge = |index: usize| index * values.len() / most;
    let mean = |run: &[f32]| run.iter().sum::<f32>() / run.len().max(1) as f32;
    let mut means: Vec<f32> = (0..most)
        .filter_map(|index| values.get(edge(index)..edge(index + 1)))
        .map(mean)
        .collect();
    means.push(*last);
    means
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_run_is_read_on_within_a_budget() {
        let home = tempfile::tempdir().unwrap();
        let inside = Inside::new(home.path());
        let line = |step: u64| {
            format!(
                "{{\"stage\":\"base\",\"kind\":\"pretrain\",\"step\":{step},\"accuracy\":0.5}}\n"
            )
        };
        let text: String = (0..9000).map(line).collect();
        fs::write(home.path().join(JOURNAL), &text).unwrap();
        let timing = "{\"stage\":\"base\",\"step\":0,\"seconds\":0.5,\"tokens_trained\":3}\n";
        fs::write(home.path().join(TIMINGS), timing.repeat(2)).unwrap();
        let mut progress = Progress::new();
        progress.read_on(&inside, &mut 1000);
        let first = progress.steps("base");
        assert!((1..9000).contains(&first), "{first}");
        progress.read_on(&inside, &mut (10 << 20));
        assert_eq!(progress.steps("base"), 9000);
        assert_eq!(progress.latest(), Some("base"));
        assert_eq!(progress.used_in_all().tokens_trained, 6);
        assert!((progress.used("base").unwrap().seconds - 1.0).abs() < 1e-9);
        assert_eq!(progress.curve().len(), MOST_POINTS);
        assert_eq!(progress.best(|_| true), None);
        let examined = |checkpoint: &str, value: f64| {
            format!(
                "{{\"stage\":\"exam\",\"step\":0,\"checkpoint\":\"{checkpoint}\",\
                 \"score\":{{\"problems\":9,\"pass_at_1\":{{\"value\":{value},\"low\":0}}}}}}\n"
            )
        };
        let exams = [examined("a", 0.5), examined("b", 0.75), examined("c", 0.25)].concat();
        fs::write(home.path().join(JOURNAL), format!("{text}{exams}")).unwrap();
        progress.read_on(&inside, &mut (10 << 20));
        assert_eq!(progress.best(|_| true).unwrap().checkpoint, "b");
        assert_eq!(progress.best(|stage| stage != "exam"), None);
        // Cut back on resume: steps are counted anew.
        fs::write(home.path().join(JOURNAL), &text[..line(0).len() * 5]).unwrap();
        progress.read_on(&inside, &mut (10 << 20));
        assert_eq!(progress.steps("base"), 5);
    }

    #[test]
    fn hostile_numbers_do_no_harm() {
        let home = tempfile::tempdir().unwrap();
        let inside = Inside::new(home.path());
        let line = |at| format!("{{\"stage\":\"s{at}\",\"step\":18446744073709551615}}\n");
        let mut journal = (0..1000).map(line).collect::<Vec<String>>().concat();
        journal += "{\"stage\":7,\"step\":1}\n[]\n{\"stage\":\"s0\",\"step\":-1}\n";
        fs::write(home.path().join(JOURNAL), journal).unwrap();
        let timing = "{\"stage\":\"a\",\"seconds\":-1e300}\n{\"stage\":\"a\",\"seconds\":1,\
                      \"tokens_trained\":18446744073709551615}\n";
        fs::write(home.path().join(TIMINGS), timing.repeat(2)).unwrap();
        let mut progress = Progress::new();
        progress.read_on(&inside, &mut (10 << 20));
        assert_eq!(progress.stages.len(), MOST_STAGES);
        assert_eq!(progress.steps("s0"), u64::MAX);
        assert_eq!(progress.used_in_all().tokens_trained, u64::MAX);
    }

    #[test]
    fn thinning_keeps_the_last_value() {
        let values: Vec<f32> = (0..1000).map(|at| at as f32).collect();
        let few = thinned(&values, 10);
        assert_eq!(few.len(), 10);
        assert!((few[9] - 999.0).abs() < 1e-6);
        assert!(few.is_sorted());
        assert_eq!(thinned(&values[..3], 10), [0.0, 1.0, 2.0]);
    }
}
