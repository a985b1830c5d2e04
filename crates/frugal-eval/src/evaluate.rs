//! A model examined: pass@1 over samples, greedy, pass@8, majority@8, with intervals, and what the
//! thinking looks like.
//!
//! The model is whoever implements [`Sampler`]; this room never sees weights. Every random number
//! follows from the seed in [`Settings`], so an evaluation can be repeated.

use frugal_core::rng::{Rng, key};
use serde::{Deserialize, Serialize};

use crate::encode::{Codec, EncodeError};
use crate::judge::{Judged, judge};
use crate::stats::{self, Estimate, RESAMPLES, StatsError};
use crate::task::{Problem, Reason, Task};

/// Any error, for what a sampler may run into.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The k of pass@k and majority@k in a [`Score`].
pub const K: usize = 8;

/// How to sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SampleRequest {
    /// Continuations per prompt.
    pub n: usize,
    /// 0 means greedy.
    pub temperature: f32,
    /// Where a continuation is cut off.
    pub max_new_tokens: usize,
    /// What all random numbers follow from.
    pub seed: u64,
}

/// One continuation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sampled {
    /// The ids after the prompt, `<eos>` included if it came.
    pub ids: Vec<u32>,
    /// Whether it ended by itself rather than by being cut off.
    pub finished: bool,
}

/// A model that continues prompts, whatever it is made of.
pub trait Sampler {
    /// For each prompt, in order, `request.n` continuations. Stops each after `<eos>`.
    fn sample(
        &mut self,
        prompts: &[Vec<u32>],
        request: &SampleRequest,
    ) -> Result<Vec<Vec<Sampled>>, BoxError>;
}

/// What can stop an evaluation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// A task could not make its part.
    #[error(transparent)]
    Task(#[from] crate::task::TaskError),
    /// Words and ids do not fit.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// Counts that give no statistic.
    #[error(transparent)]
    Stats(#[from] StatsError),
    /// The sampler failed.
    #[error("sampling failed: {0}")]
    Sampler(#[source] BoxError),
    /// The sampler returned another number of lists or continuations than asked for.
    #[error("expected {expected} {what} from the sampler, got {got}")]
    Count {
        /// What was counted.
        what: &'static str,
        /// How many were asked for.
        expected: usize,
        /// How many came.
        got: usize,
    },
    /// Settings that cannot give a score.
    #[error("expected at least {K} samples per problem, got {0}")]
    TooFewSamples(usize),
}

/// How to examine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Samples per problem, at least [`K`].
    pub samples: usize,
    /// Their temperature.
    pub temperature: f32,
    /// Where an answer is cut off.
    pub max_new_tokens: usize,
    /// What all random numbers follow from.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            samples: K,
            temperature: 1.0,
            max_new_tokens: 224,
            seed: 0,
        }
    }
}

/// What an examination found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Problems asked.
    pub problems: usize,
    /// Mean accuracy of the samples; the interval is a bootstrap over problems, since samples of
    /// one problem are not independent.
    pub pass_at_1: Estimate,
    /// Accuracy of the most likely continuation.
    pub greedy: Estimate,
    /// Chance that one of [`K`] samples is right.
    pub pass_at_8: Estimate,
    /// Accuracy of the answer most of [`K`] samples give.
    pub majority_at_8: Estimate,
    /// Mean tokens of thinking per sample, none counting as 0.
    pub mean_thinking_tokens: f64,
    /// Mean generated tokens per sample.
    pub mean_tokens: f64,
    /// Share of samples that think at all.
    pub think_rate: f64,
    /// Mean self-checks per sample.
    pub self_checks: f64,
    /// Share of samples in form.
    pub in_form: f64,
    /// Mean consistency of the thinking, over samples that think; 0 if none does.
    pub consistency: f64,
}

/// One answer for the record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnswerRecord {
    /// The whole continuation in words.
    pub text: String,
    /// Whether it counts.
    pub correct: bool,
    /// Whether it is in form.
    pub in_form: bool,
    /// The grader's reason.
    pub reason: Reason,
    /// Tokens of thinking.
    pub thinking_tokens: usize,
}

/// One problem for the record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProblemRecord {
    /// The question.
    pub question: String,
    /// The key.
    pub key: String,
    /// The most likely continuation.
    pub greedy: AnswerRecord,
    /// The samples.
    pub samples: Vec<AnswerRecord>,
    /// The answer that most of the first [`K`] samples give, in canonical form.
    pub majority: Option<String>,
}

/// A score and the answers behind it.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// The numbers.
    pub score: Score,
    /// One per problem, in order.
    pub records: Vec<ProblemRecord>,
    /// Share of right samples per problem, in order: what a paired comparison of two models takes.
    pub pass_rates: Vec<f64>,
}

/// Examines a model on `problems`.
pub fn evaluate(
    task: &dyn Task,
    problems: &[Problem],
    codec: &Codec,
    sampler: &mut dyn Sampler,
    settings: &Settings,
) -> Result<Evaluation, EvalError> {
    if settings.samples < K {
        return Err(EvalError::TooFewSamples(settings.samples));
    }
    let prompts = prompts(problems, codec, "")?;
    let request = SampleRequest {
        n: settings.samples,
        temperature: settings.temperature,
        max_new_tokens: settings.max_new_tokens,
        seed: settings.seed,
    };
    let sampled = ask(sampler, &prompts, &request)?;
    let greedy = ask(
        sampler,
        &prompts,
        &SampleRequest {
            n: 1,
            temperature: 0.0,
            ..request
        },
    )?;
    let mut tally = Tally::default();
    let mut records = Vec::with_capacity(problems.len());
    for ((problem, samples), greedy) in problems.iter().zip(&sampled).zip(&greedy) {
        let judged = judge_all(task, problem, samples, codec)?;
        let best = judge_all(task, problem, greedy, codec)?;
        let majority = tally.add(&judged, &best)?;
        let answers = records_of(&judged, samples, codec)?;
        let Some(greedy) = records_of(&best, greedy, codec)?.pop() else {
            continue;
        };
        records.push(ProblemRecord {
            question: problem.question.clone(),
            key: problem.key.clone(),
            greedy,
            samples: answers,
            majority,
        });
    }
    let score = tally.score(settings.seed)?;
    Ok(Evaluation {
        score,
        records,
        pass_rates: tally.pass_rates,
    })
}

/// pass@k for several k from the same samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PassCurve {
    /// Samples per problem.
    pub samples: usize,
    /// k and pass@k, its interval a bootstrap over problems.
    pub points: Vec<(usize, Estimate)>,
    /// Right samples per problem, in order.
    pub correct: Vec<usize>,
    /// Mean generated tokens per sample: the price of one draw.
    pub mean_tokens: f64,
}

/// pass@k of a model for every `ks`, from `request.n` samples per problem.
pub fn pass_at(
    task: &dyn Task,
    problems: &[Problem],
    model: (&Codec, &mut dyn Sampler),
    request: &SampleRequest,
    ks: &[usize],
) -> Result<PassCurve, EvalError> {
    let (codec, sampler) = model;
    let prompts = prompts(problems, codec, "")?;
    let sampled = ask(sampler, &prompts, request)?;
    let (mut correct, mut n_tokens) = (Vec::with_capacity(problems.len()), 0);
    for (problem, samples) in problems.iter().zip(&sampled) {
        let judged = judge_all(task, problem, samples, codec)?;
        correct.push(judged.iter().filter(|sample| sample.correct).count());
        n_tokens += judged.iter().map(|sample| sample.n_tokens).sum::<usize>();
    }
    let mut points = Vec::with_capacity(ks.len());
    for k in ks {
        let chances: Result<Vec<f64>, _> = correct
            .iter()
            .map(|c| stats::pass_at_k(request.n, *c, *k))
            .collect();
        let mut rng = Rng::derive(&[request.seed, key("pass_at"), *k as u64]);
        points.push((*k, stats::bootstrap_mean(&chances?, RESAMPLES, &mut rng)?));
    }
    let mean_tokens = n_tokens as f64 / (problems.len() * request.n).max(1) as f64;
    Ok(PassCurve {
        samples: request.n,
        points,
        correct,
        mean_tokens,
    })
}

/// The prompts of problems, each followed by the words of `start`.
pub(crate) fn prompts(
    problems: &[Problem],
    codec: &Codec,
    start: &str,
) -> Result<Vec<Vec<u32>>, EvalError> {
    let start = codec.encode(start)?;
    let prompt = |problem: &Problem| {
        let mut ids = codec.prompt(problem)?;
        ids.extend(&start);
        Ok(ids)
    };
    problems.iter().map(prompt).collect()
}

/// Asks the sampler and checks that it gave what was asked for.
pub(crate) fn ask(
    sampler: &mut dyn Sampler,
    prompts: &[Vec<u32>],
    request: &SampleRequest,
) -> Result<Vec<Vec<Sampled>>, EvalError> {
    let answers = sampler
        .sample(prompts, request)
        .map_err(EvalError::Sampler)?;
    let count = |what, expected, got| EvalError::Count {
        what,
        expected,
        got,
    };
    if answers.len() != prompts.len() {
        return Err(count("lists", prompts.len(), answers.len()));
    }
    match answers.iter().find(|list| list.len() != request.n) {
        Some(list) => Err(count("continuations", request.n, list.len())),
        None => Ok(answers),
    }
}

fn judge_all(
    task: &dyn Task,
    problem: &Problem,
    samples: &[Sampled],
    codec: &Codec,
) -> Result<Vec<Judged>, EvalError> {
    let one = |sample: &Sampled| Ok(judge(task, problem, &sample.ids, codec)?);
    samples.iter().map(one).collect()
}

fn records_of(
    judged: &[Judged],
    samples: &[Sampled],
    codec: &Codec,
) -> Result<Vec<AnswerRecord>, EvalError> {
    let record = |(judged, sample): (&Judged, &Sampled)| {
        Ok(AnswerRecord {
            text: codec.decode(&sample.ids)?,
            correct: judged.correct,
            in_form: judged.in_form,
            reason: judged.reason,
            thinking_tokens: judged.thinking_tokens,
        })
    };
    judged.iter().zip(samples).map(record).collect()
}

/// Sums over problems, in their order.
#[derive(Default)]
struct Tally {
    pass_rates: Vec<f64>,
    pass_at_k: Vec<f64>,
    n_greedy: usize,
    n_majority: usize,
    n_samples: usize,
    n_in_form: usize,
    n_thinking: usize,
    thinking_tokens: usize,
    tokens: usize,
    self_checks: usize,
    consistency: f64,
}

impl Tally {
    /// Adds one problem and returns its majority answer.
    fn add(&mut self, samples: &[Judged], greedy: &[Judged]) -> Result<Option<String>, EvalError> {
        let n_correct = samples.iter().filter(|sample| sample.correct).count();
        self.pass_rates
            .push(n_correct as f64 / samples.len() as f64);
        self.pass_at_k
            .push(stats::pass_at_k(samples.len(), n_correct, K)?);
        self.n_greedy += greedy.iter().filter(|best| best.correct).count();
        for sample in samples {
            self.n_samples += 1;
            self.n_in_form += usize::from(sample.in_form);
            self.n_thinking += usize::from(sample.has_thinking);
            self.thinking_tokens += sample.thinking_tokens;
            self.tokens += sample.n_tokens;
            self.self_checks += sample.self_checks;
            self.consistency += sample.consistency;
        }
        let voters = || samples.iter().take(K);
        let votes: Vec<&str> = voters()
            .filter_map(|voter| voter.canonical.as_deref())
            .collect();
        let majority = stats::majority(&votes).map(str::to_owned);
        let is_right = majority.is_some()
            && voters().any(|voter| voter.canonical == majority && voter.correct);
        self.n_majority += usize::from(is_right);
        Ok(majority)
    }

    fn score(&self, seed: u64) -> Result<Score, EvalError> {
        let problems = self.pass_rates.len();
        let mut rng = Rng::derive(&[seed, key("evaluate")]);
        let per_sample = |sum: f64| sum / self.n_samples.max(1) as f64;
        Ok(Score {
            problems,
            pass_at_1: stats::bootstrap_mean(&self.pass_rates, RESAMPLES, &mut rng)?,
            greedy: stats::wilson(self.n_greedy, problems)?,
            pass_at_8: stats::bootstrap_mean(&self.pass_at_k, RESAMPLES, &mut rng)?,
            majority_at_8: stats::wilson(self.n_majority, problems)?,
            mean_thinking_tokens: per_sample(self.thinking_tokens as f64),
            mean_tokens: per_sample(self.tokens as f64),
            think_rate: per_sample(self.n_thinking as f64),
            self_checks: per_sample(self.self_checks as f64),
            in_form: per_sample(self.n_in_form as f64),
            consistency: self.consistency / self.n_thinking.max(1) as f64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Scripted;
    use crate::knobs::Mix;
    use crate::split::{Side, problems};
    use crate::tasks::Countdown;

    #[test]
    fn a_corpus_made_sampler_scores_as_its_habits_say() {
        let task = Countdown::default();
        let (_, codec) = Codec::for_task(&task).unwrap();
        let held_out = problems(&task, &task.level(), Side::HeldOut, 1, 100).unwrap();
        let mix = Mix {
            blurt: 0.5,
            hasty: 0.0,
            patient: 0.5,
            ..task.mix()
        };
        let mut sampler = Scripted::new(&task, &codec, mix);
        let settings = Settings::default();
        let made = evaluate(&task, &held_out, &codec, &mut sampler, &settings).unwrap();
        let score = &made.score;
        // Half the samples search and are right, half guess and are right one time in fifteen.
        assert!((0.45..0.62).contains(&score.pass_at_1.value), "{score:?}");
        assert!(score.pass_at_1.low < score.pass_at_1.value);
        assert!(
            (score.greedy.value - 1.0).abs() < 1e-12,
            "greedy is scripted to be patient"
        );
        assert!(
            score.pass_at_8.value > 0.98 && score.majority_at_8.value > 0.8,
            "{score:?}"
        );
        assert!((score.in_form - 1.0).abs() < 1e-12 && (0.4..0.6).contains(&score.think_rate));
        assert!(
            score.self_checks > 2.0 && score.mean_thinking_tokens > 30.0,
            "{score:?}"
        );
        assert!((score.consistency - 1.0).abs() < 1e-12);
        assert_eq!(made.records.len(), 100);
        assert!(made.records.iter().all(|record| record.samples.len() == 8));
        let again = evaluate(&task, &held_out, &codec, &mut sampler, &settings).unwrap();
        assert_eq!(made, again);
    }

    #[test]
    fn pass_at_k_grows_with_k() {
        let task = Countdown::default();
        let (_, codec) = Codec::for_task(&task).unwrap();
        let held_out = problems(&task, &task.level(), Side::HeldOut, 2, 60).unwrap();
        let mix = Mix {
            blurt: 1.0,
            hasty: 0.0,
            patient: 0.0,
            ..task.mix()
        };
        let mut sampler = Scripted::new(&task, &codec, mix);
        let request = SampleRequest {
            n: 32,
            temperature: 1.0,
            max_new_tokens: 16,
            seed: 3,
        };
        let ks = [1, 8, 32];
        let curve = pass_at(&task, &held_out, (&codec, &mut sampler), &request, &ks).unwrap();
        let values: Vec<f64> = curve.points.iter().map(|(_, point)| point.value).collect();
        assert!(
            values[0] < 0.15 && values[1] > values[0] && values[2] > 0.5,
            "{values:?}"
        );
        // Seven words of a bracketed expression and the end.
        assert!(
            (curve.mean_tokens - 8.0).abs() < 1e-12,
            "{}",
            curve.mean_tokens
        );
        let beyond = pass_at(&task, &held_out, (&codec, &mut sampler), &request, &[33]);
        assert!(matches!(beyond, Err(EvalError::Stats(_))));
    }

    #[test]
    fn a_sampler_that_gives_too_little_is_an_error() {
        struct Silent;
        impl Sampler for Silent {
            fn sample(
                &mut self,
                _: &[Vec<u32>],
                _: &SampleRequest,
            ) -> Result<Vec<Vec<Sampled>>, BoxError> {
                Ok(vec![])
            }
        }
        let task = Countdown::default();
        let (_, codec) = Codec::for_task(&task).unwrap();
        let held_out = problems(&task, &task.level(), Side::HeldOut, 1, 3).unwrap();
        let few = Settings {
            samples: 4,
            ..Settings::default()
        };
        for settings in [Settings::default(), few] {
            assert!(evaluate(&task, &held_out, &codec, &mut Silent, &settings).is_err());
        }
    }
}
