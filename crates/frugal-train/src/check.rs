//! A model against values that an independent implementation recorded: `frugal check DIR`.
//!
//! The recording is a safetensors file beside the checkpoint: `input_ids [B, S]`, `logits [B, S, V]`,
//! `loss` (the mean cross-entropy of the next token), `grad.<tensor name>` of that loss, `greedy [B, 2P]`
//! (P tokens of prompt and P chosen greedily, without a stop token), and, where the model has the extra
//! prediction layer, `mtp_logits [B, S - 1, V]`.
//!
//! # Tolerance
//!
//! [`TOLERANCE`] is relative to the largest value of each tensor. Both sides compute in f32, but sum in
//! different orders: a product of inner width K differs by about sqrt(K) epsilon of its largest value,
//! and the differences of the roughly 30 products on the way to a logit, and as many back to a gradient,
//! add up. With K up to a few hundred that is 30 * 16 * 6e-8 = 3e-5; about three times that is allowed.
//! `Reference` stays below 2e-6 on the recordings in this repository, a wrong formula shows at 1e-2
//! and more. Greedy tokens must be equal. A back-end that multiplies in
//! bf16 cannot meet this; check it in f32.

use core::ops::ControlFlow;

use frugal_core::backend::{Backend, Head, KeyBits, Sampling, TrainBackend};
use frugal_core::dtype::Data;
use frugal_core::shape::{Rows, Shape};
use frugal_model::cache::{CacheKind, CacheSettings};
use frugal_model::checkpoint::Leaf;
use frugal_model::config::{AttentionConfig, ModelConfig};
use frugal_model::generate::{Batch, Drafting, Generator, GeneratorSettings, Request};
use frugal_model::params::{Params, Spec};
use frugal_model::transformer::{self, Model, Step};
use frugal_model::{checkpoint, mtp};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::tape::{Grads, Policy, Tape};

/// The largest error allowed, relative to the largest recorded value of a tensor; see the module.
pub const TOLERANCE: f64 = 1e-4;

/// A checkpoint with recorded values.
#[derive(Debug, Clone, Copy)]
pub struct Recorded<'a> {
    /// What it is, as its files say.
    pub config: &'a ModelConfig,
    /// Its parameters where they lie.
    pub leaves: &'a Params<Leaf>,
    /// `golden.safetensors`.
    pub golden: &'a [u8],
}

/// How closely a back-end is to agree.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Closeness {
    /// As products in f32 do: errors up to this, see [`TOLERANCE`].
    F32(f64),
    /// Products in bf16 may be twice as far from the recording as those that were recorded beside it
    /// (`logits_bf16`), or 2 % where none were. Neither gradients nor tokens are compared.
    Bf16,
}

/// Allowed in bf16 where the recording does not say how far bf16 is from it.
const BF16_TOLERANCE: f64 = 2e-2;

/// One comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CheckLine {
    /// What was compared: `logits`, `loss`, `grad.<tensor>`, `greedy <kind of cache>`, `mtp_logits`.
    pub name: String,
    /// The largest difference, relative to the largest recorded value; for tokens the share that
    /// differs.
    pub error: f64,
    /// What is allowed.
    pub tolerance: f64,
}

impl CheckLine {
    /// Whether the error is within the tolerance; one that is no number is not.
    #[must_use]
    pub fn is_passed(&self) -> bool {
        self.error <= self.tolerance
    }
}

/// All comparisons of a folder.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CheckReport {
    /// In the order logits, loss, gradients, tokens, extra layer.
    pub lines: Vec<CheckLine>,
}

impl CheckReport {
    /// Whether all comparisons passed.
    #[must_use]
    pub fn is_passed(&self) -> bool {
        self.lines.iter().all(CheckLine::is_passed)
    }

    /// The gradient with the largest error.
    #[must_use]
    pub fn worst_gradient(&self) -> Option<&CheckLine> {
        let gradients = self.lines.iter().filter(|l| l.name.starts_with("grad."));
        gradients.max_by(|a, b| a.error.total_cmp(&b.error))
    }

    fn compare(&mut self, name: &str, got: &[f32], expected: &[f32]) -> Result<()> {
        if got.len() != expected.len() {
            let (expected, got) = (expected.len(), got.len());
            return Err(refuse(format!(
                "{name} has {expected} values, the model gives {got}"
            )));
        }
        self.lines.push(CheckLine {
            name: name.into(),
            error: relative_error(got, expected),
            tolerance: TOLERANCE,
        });
        Ok(())
    }
}

fn refuse(reason: String) -> Error {
    Error::Golden { reason }
}

/// The largest difference relative to the largest expected value. Where all expected values are 0
/// (an expert that saw no token), any difference is infinitely wrong; so is one that is no number.
fn relative_error(got: &[f32], expected: &[f32]) -> f64 {
    let largest = expected
        .iter()
        .fold(0.0f64, |m, x| m.max(f64::from(x.abs())));
    let worst = got.iter().zip(expected).fold(0.0f64, |worst, (g, e)| {
        let difference = (f64::from(*g) - f64::from(*e)).abs();
        if difference.is_nan() {
            f64::INFINITY
        } else {
            worst.max(difference)
        }
    });
    if worst > 0.0 { worst / largest } else { 0.0 }
}

/// Compares a model on `backend` with its recorded values. Where gradients are recorded the weights
/// are put on the back-end as numbers to train, else they are used as they are stored.
///
/// # Errors
/// If a file is not what it should be, or values are recorded for tensors that the model does not
/// have or are missing for those it has. Values that differ are no error; the report says so.
pub fn check_golden<B: TrainBackend>(
    backend: &B,
    recorded: &Recorded<'_>,
    closeness: Closeness,
) -> Result<CheckReport> {
    let golden = Golden::read(recorded.golden)?;
    let ids = golden.ids("input_ids")?;
    let greedy = golden.ids("greedy")?;
    let n_positions = ids.width.max(greedy.width);
    let has_gradients = !golden.gradients().is_empty();
    let bring = if has_gradients {
        checkpoint::put
    } else {
        checkpoint::keep
    };
    let config = recorded.config.clone();
    let model = bring(backend, config, recorded.leaves, n_positions)?;
    let check = Check {
        b: backend,
        model: &model,
        golden: &golden,
        ids: &ids,
        n_positions,
    };
    let mut report = CheckReport { lines: Vec::new() };
    let Closeness::F32(tolerance) = closeness else {
        check.roughly(&mut report)?;
        return Ok(report);
    };
    let hidden = if has_gradients {
        check.gradients(&mut report)?
    } else {
        check.forward(&mut report)?
    };
    check.greedy(&greedy, &mut report)?;
    if golden.has("mtp_logits") {
        check.extra_layer(&hidden, &mut report)?;
    }
    for line in &mut report.lines {
        // Tokens are equal or they are not.
        line.tolerance = if line.tolerance > 0.0 { tolerance } else { 0.0 };
    }
    Ok(report)
}

struct Check<'a, B: TrainBackend> {
    b: &'a B,
    model: &'a Model<B::Tensor>,
    golden: &'a Golden<'a>,
    ids: &'a Sequences,
    n_positions: usize,
}

impl<B: TrainBackend> Check<'_, B> {
    fn hidden(&self) -> Result<B::Tensor> {
        let rows = self.ids.rows(self.ids.width)?;
        let step = Step {
            ids: &self.ids.ids,
            rows: &rows,
        };
        Ok(transformer::hidden(self.b, self.model, &step, None)?)
    }

    /// Compares logits as closely as bf16 allows.
    fn roughly(&self, report: &mut CheckReport) -> Result<()> {
        let exact = self.golden.f32("logits")?;
        let tolerance = if self.golden.has("logits_bf16") {
            2.0 * relative_error(&self.golden.f32("logits_bf16")?, &exact)
        } else {
            BF16_TOLERANCE
        };
        let logits = transformer::logits(self.b, self.model, &self.hidden()?)?;
        report.compare("logits", &self.b.get(&logits)?, &exact)?;
        if let Some(line) = report.lines.last_mut() {
            line.tolerance = tolerance;
        }
        Ok(())
    }

    /// Compares logits and loss; returns the hidden states.
    fn forward(&self, report: &mut CheckReport) -> Result<B::Tensor> {
        let hidden = self.hidden()?;
        let logits = transformer::logits(self.b, self.model, &hidden)?;
        report.compare("logits", &self.b.get(&logits)?, &self.golden.f32("logits")?)?;
        let (targets, weights) = self.ids.next_tokens();
        let head = Head {
            hidden: &hidden,
            weight: transformer::head(self.model),
        };
        let log_probs = self.b.log_prob(head, &targets, 1.0)?.log_prob;
        self.loss(&self.b.get(&log_probs)?, &weights, report)?;
        Ok(hidden)
    }

    /// Compares the mean cross-entropy of the next token.
    fn loss(&self, values: &[f32], weights: &[f32], report: &mut CheckReport) -> Result<()> {
        let terms = values.iter().zip(weights);
        let loss: f64 = terms.map(|(v, w)| f64::from(*v) * f64::from(*w)).sum();
        #[expect(clippy::cast_possible_truncation, reason = "the recording is f32")]
        report.compare("loss", &[loss as f32], &self.golden.f32("loss")?)
    }

    /// Compares logits, loss and gradients; returns the hidden states.
    fn gradients(&self, report: &mut CheckReport) -> Result<B::Tensor> {
        let tape = Tape::new(self.b, Policy::default());
        let params = self.model.params.map(|param| tape.leaf(param.clone()));
        let specs = Params::<Spec>::spec(&self.model.config)?;
        let mut grads = Grads::new(specs.leaves().len());
        let recorded = Model::new(&tape, self.model.config.clone(), params, self.n_positions)?;
        let rows = self.ids.rows(self.ids.width)?;
        let step = Step {
            ids: &self.ids.ids,
            rows: &rows,
        };
        let hidden = transformer::hidden(&tape, &recorded, &step, None)?;
        let logits = transformer::logits(self.b, self.model, hidden.value())?;
        report.compare("logits", &self.b.get(&logits)?, &self.golden.f32("logits")?)?;

        let (targets, weights) = self.ids.next_tokens();
        let head = Head {
            hidden: &hidden,
            weight: transformer::head(&recorded),
        };
        let log_probs = tape.log_prob(head, &targets, 1.0)?.log_prob;
        self.loss(&self.b.get(log_probs.value())?, &weights, report)?;

        let seed = self
            .b
            .put(Shape::vector(weights.len()), Data::F32(&weights))?;
        tape.backward(&[(&log_probs, seed)], &mut grads)?;
        let mut names = self.golden.gradients();
        for (leaf, spec) in specs.leaves().into_iter().enumerate() {
            let gradient = grads.get(leaf).map(|grad| self.b.get(grad)).transpose()?;
            self.gradient(spec, gradient.as_deref(), &mut names, report)?;
        }
        match names.first() {
            Some(name) => Err(refuse(format!(
                "{name} is of a tensor that the model does not have"
            ))),
            None => Ok(hidden.into_value()),
        }
    }

    /// Compares the gradient of one parameter, file tensor by file tensor, and strikes their names.
    fn gradient(
        &self,
        spec: &Spec,
        gradient: Option<&[f32]>,
        names: &mut Vec<String>,
        report: &mut CheckReport,
    ) -> Result<()> {
        let size = spec.file_shape().elements();
        for (part, file) in spec.files().enumerate() {
            let name = format!("grad.{file}");
            let place = names.iter().position(|recorded| *recorded == name);
            let part = gradient.map(|values| {
                let values = values.iter().skip(part * size).take(size);
                values.copied().collect::<Vec<f32>>()
            });
            match (place, part) {
                (Some(place), part) => {
                    names.remove(place);
                    let got = part.unwrap_or_else(|| vec![0.0; size]);
                    report.compare(&name, &got, &self.golden.f32(&name)?)?;
                }
                // The router's bias and the extra layer have none on either side.
                (None, None) => {}
                (None, Some(_)) => return Err(refuse(format!("{name} is missing"))),
            }
        }
        Ok(())
    }

    /// Compares what is generated over each kind of cache that the model can have.
    fn greedy(&self, greedy: &Sequences, report: &mut CheckReport) -> Result<()> {
        let kinds: &[(CacheKind, &str)] = match self.model.config.attention {
            AttentionConfig::Mla(_) => &[
                (CacheKind::Latent, "greedy latent"),
                (CacheKind::Expanded, "greedy expanded"),
            ],
            AttentionConfig::Gqa(_) => &[(CacheKind::Grouped, "greedy grouped")],
        };
        for (kind, name) in kinds {
            report.lines.push(CheckLine {
                name: (*name).into(),
                error: self.share_of_other_tokens(greedy, *kind)?,
                tolerance: 0.0,
            });
        }
        Ok(())
    }

    fn share_of_other_tokens(&self, greedy: &Sequences, kind: CacheKind) -> Result<f64> {
        let n_prompt = greedy.width / 2;
        let n_new = greedy.width - n_prompt;
        let sequences: Vec<_> = greedy
            .sequences()
            .map(|ids| ids.split_at(n_prompt))
            .collect();
        let requests: Vec<Request<'_>> = sequences
            .iter()
            .map(|(prompt, _)| Request {
                ids: prompt,
                n_samples: 1,
                seed: 0,
            })
            .collect();
        let page_rows = 16;
        let settings = GeneratorSettings {
            cache: CacheSettings {
                bits: KeyBits::AsProducts,
                kind,
                page_rows,
                max_pages: requests.len() * greedy.width.div_ceil(page_rows),
            },
            max_sequences: requests.len(),
            prefill_rows: greedy.ids.len(),
            drafting: Drafting::None,
        };
        let batch = Batch {
            requests: &requests,
            sampling: Sampling::GREEDY,
            max_new_tokens: n_new,
            stop: &[],
        };
        let mut generator = Generator::new(self.b, &self.model.config, settings)?;
        let go_on = &mut |_| ControlFlow::Continue(());
        let samples = generator.generate(self.b, self.model, &batch, go_on)?;
        let pairs = samples.iter().flatten().zip(&sequences);
        let equal: usize = pairs
            .map(|(sample, (_, expected))| {
                let pairs = sample.ids.iter().zip(*expected);
                pairs.filter(|(got, expected)| got == expected).count()
            })
            .sum();
        let all = requests.len() * n_new;
        Ok((all - equal) as f64 / all.max(1) as f64)
    }

    /// Compares the extra layer: row i reads hidden state i and token i + 1.
    fn extra_layer(&self, hidden: &B::Tensor, report: &mut CheckReport) -> Result<()> {
        let (targets, weights) = self.ids.next_tokens();
        let kept = |row: &u32| weights.get(*row as usize).is_some_and(|w| *w < 0.0);
        let rows: Vec<u32> = (0..).take(weights.len()).filter(kept).collect();
        let next_ids: Vec<u32> = rows
            .iter()
            .filter_map(|row| targets.get(*row as usize).copied())
            .collect();
        let hidden = self.b.gather(hidden, &rows)?;
        let rows = self.ids.rows(self.ids.width.saturating_sub(1))?;
        let hidden = mtp::hidden(self.b, self.model, &hidden, &next_ids, &rows)?;
        let logits = transformer::logits(self.b, self.model, &hidden)?;
        let expected = self.golden.f32("mtp_logits")?;
        report.compare("mtp_logits", &self.b.get(&logits)?, &expected)
    }
}

/// Recorded values by name.
struct Golden<'a> {
    file: SafeTensors<'a>,
}

impl<'a> Golden<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self> {
        let file = SafeTensors::deserialize(bytes)
            .map_err(|error| refuse(format!("expected a safetensors file: {error}")))?;
        Ok(Self { file })
    }

    fn has(&self, name: &str) -> bool {
        self.file.tensor(name).is_ok()
    }

    /// The names of all gradients.
    fn gradients(&self) -> Vec<String> {
        let names = self.file.names().into_iter().map(ToString::to_string);
        let mut names: Vec<_> = names.filter(|name| name.starts_with("grad.")).collect();
        names.sort();
        names
    }

    fn view(&self, name: &str, dtype: Dtype) -> Result<TensorView<'_>> {
        let view = self
            .file
            .tensor(name)
            .map_err(|_| refuse(format!("{name} is missing")))?;
        if view.dtype() != dtype {
            let got = view.dtype();
            return Err(refuse(format!("{name}: expected {dtype:?}, got {got:?}")));
        }
        Ok(view)
    }

    fn f32(&self, name: &str) -> Result<Vec<f32>> {
        let view = self.view(name, Dtype::F32)?;
        let (values, _) = view.data().as_chunks();
        Ok(values.iter().map(|b| f32::from_le_bytes(*b)).collect())
    }

    fn ids(&self, name: &str) -> Result<Sequences> {
        let view = self.view(name, Dtype::I64)?;
        let (values, _) = view.data().as_chunks();
        let ids = values
            .iter()
            .map(|b| u32::try_from(i64::from_le_bytes(*b)))
            .collect::<core::result::Result<_, _>>()
            .map_err(|_| {
                refuse(format!(
                    "{name}: expected token ids, got a negative or huge one"
                ))
            })?;
        match *view.shape() {
            [count, width] if width > 1 => Ok(Sequences { ids, count, width }),
            ref shape => Err(refuse(format!(
                "{name}: expected sequences of at least 2 tokens, got shape {shape:?}"
            ))),
        }
    }
}

/// Sequences of one length.
struct Sequences {
    ids: Vec<u32>,
    count: usize,
    width: usize,
}

impl Sequences {
    fn sequences(&self) -> impl Iterator<Item = &[u32]> {
        self.ids.chunks(self.width)
    }

    /// The first `width` rows of each sequence.
    fn rows(&self, width: usize) -> Result<Rows> {
        let width = u32::try_from(width).unwrap_or(u32::MAX);
        Ok(Rows::packed(&vec![width; self.count])?)
    }

    /// For each row the next token and d loss / d log-prob of it; 0 and 0 at the end of a sequence.
    fn next_tokens(&self) -> (Vec<u32>, Vec<f32>) {
        let weight = -1.0 / (self.count * (self.width - 1)) as f32;
        let (mut targets, mut weights) = (Vec::new(), Vec::new());
        for sequence in self.sequences() {
            targets.extend(sequence.iter().skip(1));
            targets.push(0);
            weights.resize(weights.len() + self.width - 1, weight);
            weights.push(0.0);
        }
        (targets, weights)
    }
}
