//! What a base model can do before it is rewarded: is it right when made to think, does it ever
//! think by itself, and which single skill is missing.
//!
//! Reinforcement learning chooses among habits that are there; where careful thinking does not
//! work yet it makes things worse. [`Gate`] says so before the first step. All probes use training
//! problems, so that looking at them tunes nothing on the held-out ones.

use std::collections::BTreeMap;

use frugal_core::rng::{Rng, key};
use serde::{Deserialize, Serialize};

use crate::encode::Codec;
use crate::evaluate::{EvalError, SampleRequest, Sampler, ask, prompts};
use crate::judge::judge;
use crate::knobs::{Level, Mix};
use crate::split::{self, Side};
use crate::stats::{self, Estimate};
use crate::task::{Probe, Skill, Task};

/// How to probe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Training problems asked.
    pub problems: usize,
    /// Free samples per problem, for the think-rate.
    pub samples: usize,
    /// Where an answer is cut off.
    pub max_new_tokens: usize,
    /// What all random numbers follow from.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            problems: 128,
            samples: 4,
            max_new_tokens: 224,
            seed: 0,
        }
    }
}

/// What the probes found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Accuracy at temperature 1 when the response is made to begin as a careful thought does.
    pub forced_accuracy: Estimate,
    /// Accuracy at temperature 1 without being made to do anything.
    pub free_accuracy: Estimate,
    /// Share of free samples that think.
    pub think_rate: Estimate,
    /// Share of free samples that begin as a careful thought does.
    pub careful_rate: Estimate,
    /// Per skill the share of probes continued exactly as expected, greedily.
    pub skills: BTreeMap<Skill, Estimate>,
}

/// What must hold before reinforcement learning starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gate {
    /// Least accuracy when made to think.
    pub forced_accuracy: f64,
    /// Least share of samples that begin as a careful thought does: what is never tried is never
    /// rewarded.
    pub careful_rate: f64,
    /// Least accuracy without being made to think.
    pub free_accuracy: f64,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            forced_accuracy: 0.9,
            careful_rate: 0.03,
            free_accuracy: 0.05,
        }
    }
}

impl Gate {
    /// The reasons against starting, each a sentence with its numbers; none means go.
    pub fn objections(&self, report: &Report) -> Vec<String> {
        let mut objections = Vec::new();
        let rules = [
            (
                "accuracy when made to think",
                report.forced_accuracy,
                self.forced_accuracy,
            ),
            (
                "share of samples that set out to think carefully",
                report.careful_rate,
                self.careful_rate,
            ),
            (
                "accuracy without being made to think",
                report.free_accuracy,
                self.free_accuracy,
            ),
        ];
        for (what, got, least) in rules {
            if got.value < least {
                objections.push(format!(
                    "{what}: expected at least {least:.2}, got {:.2}",
                    got.value
                ));
            }
        }
        let weakest = report
            .skills
            .iter()
            .min_by(|a, b| a.1.value.total_cmp(&b.1.value));
        if let Some((skill, share)) = weakest
            && !objections.is_empty()
        {
            let (skill, share) = (skill.name(), share.value);
            objections.push(format!(
                "the weakest skill is {skill}: {share:.2} of its probes"
            ));
        }
        objections
    }
}

/// Probes a model with training problems of `level`, in the form of thinking `mix` teaches.
pub fn probe(
    task: &dyn Task,
    corpus: (&Level, &Mix),
    model: (&Codec, &mut dyn Sampler),
    settings: &Settings,
) -> Result<Report, EvalError> {
    let ((level, mix), (codec, sampler)) = (corpus, model);
    let seed = settings.seed;
    let problems = split::problems(task, level, Side::Training, seed, settings.problems)?;
    let opening = codec.encode(task.opening())?;
    let request = SampleRequest {
        n: 1,
        temperature: 1.0,
        max_new_tokens: settings.max_new_tokens,
        seed,
    };
    let forced = ask(
        sampler,
        &prompts(&problems, codec, task.opening())?,
        &request,
    )?;
    let mut n_forced = 0;
    for (problem, samples) in problems.iter().zip(forced) {
        for sample in samples {
            let ids = [opening.as_slice(), &sample.ids].concat();
            n_forced += usize::from(judge(task, problem, &ids, codec)?.correct);
        }
    }
    let free_request = SampleRequest {
        n: settings.samples,
        ..request
    };
    let free = ask(sampler, &prompts(&problems, codec, "")?, &free_request)?;
    let (mut n_right, mut n_thinking, mut n_careful) = (0, 0, 0);
    for (problem, samples) in problems.iter().zip(free) {
        for sample in samples {
            let judged = judge(task, problem, &sample.ids, codec)?;
            n_right += usize::from(judged.correct);
            n_thinking += usize::from(judged.has_thinking);
            n_careful += usize::from(sample.ids.starts_with(&opening));
        }
    }
    let n_free = problems.len() * settings.samples;
    let mut rng = Rng::derive(&[seed, key("probe")]);
    let mut probes = Vec::new();
    for problem in &problems {
        probes.extend(task.probes(problem, &mut rng, mix)?);
    }
    Ok(Report {
        forced_accuracy: stats::wilson(n_forced, problems.len())?,
        free_accuracy: stats::wilson(n_right, n_free)?,
        think_rate: stats::wilson(n_thinking, n_free)?,
        careful_rate: stats::wilson(n_careful, n_free)?,
        skills: skills(&probes, codec, sampler, seed)?,
    })
}

/// The share of probes continued exactly as expected, per skill.
fn skills(
    probes: &[Probe],
    codec: &Codec,
    sampler: &mut dyn Sampler,
    seed: u64,
) -> Result<BTreeMap<Skill, Estimate>, EvalError> {
    // One request per length, since a request has one limit.
    let mut by_length: BTreeMap<usize, Vec<&Probe>> = BTreeMap::new();
    for probe in probes {
        let length = codec.encode(&probe.expected)?.len();
        by_length.entry(length).or_default().push(probe);
    }
    let mut counts: BTreeMap<Skill, (usize, usize)> = BTreeMap::new();
    for (max_new_tokens, probes) in by_length {
        let prompts: Result<Vec<_>, _> = probes
            .iter()
            .map(|probe| codec.with_bos(&probe.prompt))
            .collect();
        let request = SampleRequest {
            n: 1,
            temperature: 0.0,
            max_new_tokens,
            seed,
        };
        let answers = ask(sampler, &prompts?, &request)?;
        for (probe, samples) in probes.iter().zip(answers) {
            let expected = codec.encode(&probe.expected)?;
            let (n_right, n) = counts.entry(probe.skill).or_default();
            *n += 1;
            *n_right += usize::from(samples.iter().all(|sample| sample.ids == expected));
        }
    }
    let share = |(skill, (n_right, n))| Ok((skill, stats::wilson(n_right, n)?));
    counts.into_iter().map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Scripted;
    use crate::tasks::Countdown;

    #[test]
    fn a_sampler_that_speaks_the_corpus_passes_the_gate() {
        let task = Countdown::default();
        let (_, codec) = Codec::for_task(&task).unwrap();
        let (level, mix) = (task.level(), task.mix());
        let mut sampler = Scripted::new(&task, &codec, mix.clone());
        let settings = Settings {
            problems: 60,
            ..Settings::default()
        };
        let report = probe(&task, (&level, &mix), (&codec, &mut sampler), &settings).unwrap();
        assert!(
            (report.forced_accuracy.value - 1.0).abs() < 1e-12,
            "{report:?}"
        );
        assert!((0.12..0.4).contains(&report.think_rate.value), "{report:?}");
        assert!(
            report.careful_rate.value < report.think_rate.value,
            "{report:?}"
        );
        assert_eq!(report.skills.len(), 5);
        assert!(
            report.skills.values().all(|share| share.value > 0.999),
            "{report:?}"
        );
        assert_eq!(Gate::default().objections(&report), Vec::<String>::new());

        let mut poor = report;
        poor.forced_accuracy.value = 0.14;
        poor.skills
            .insert(Skill::Comparing, stats::wilson(20, 60).unwrap());
        let objections = Gate::default().objections(&poor);
        assert_eq!(objections.len(), 2, "{objections:?}");
        assert!(objections[0].contains("0.90") && objections[0].contains("0.14"));
        assert!(objections[1].contains("comparing"));
    }
}
