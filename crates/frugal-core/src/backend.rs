//! The one small trait between the model and the chips, and its training half.
//!
//! Everything the model does is said in these operations; a reading of the model is an
//! implementation of them: [`Reference`](crate::reference::Reference) is its meaning,
//! [`Meter`](crate::meter::Meter) its price, `Cpu` its speed and `Tape` its derivative.
//!
//! All tokens of a step are rows `[T, D]`, sequences one after another, described by
//! [`Rows`]. Weights are `[N, K]`, stacked experts `[E, N, K]`. Tensors are f32 to the caller; what
//! a back-end stores or multiplies in is its own policy. The letters are those of
//! [`crate::shape`]. The meaning of each operation is the plain loop in [`crate::ops`].
//!
//! To add a method: its reference in `ops/`, a derived tolerance, a conformance test, a count in
//! the meter. To remove one: it has one caller and a composition that is no slower.

mod feed_forward;
mod key_store;

pub use self::feed_forward::{FeedForward, FeedForwardSaved};
pub use self::key_store::{KeyBits, KeyStore};

use alloc::vec::Vec;
use core::fmt::Debug;
use core::ops::Range;

use crate::dtype::{DType, Data};
use crate::error::Result;
use crate::shape::{Rows, Shape};
use crate::stored::{Stored, decode_parts};

/// In which precision a product is formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Product {
    /// As the back-end's policy says (bf16 with f32 sums, or f32).
    Policy,
    /// In f32 whatever the policy: the router, whose choices must not flip with rounding.
    Exact,
}

/// A weight matrix and what is added after the product.
#[derive(Debug)]
pub struct Linear<'a, T> {
    /// `[N, K]`.
    pub weight: &'a T,
    /// `[N]`.
    pub bias: Option<&'a T>,
    /// Precision of the product.
    pub product: Product,
}

impl<'a, T> Linear<'a, T> {
    /// A product without bias, in the back-end's precision.
    pub const fn by_policy(weight: &'a T) -> Self {
        Self {
            weight,
            bias: None,
            product: Product::Policy,
        }
    }
}

impl<T> Clone for Linear<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Linear<'_, T> {}

/// A product with one small matrix for each head: the two absorbed halves of MLA's `kv_b_proj`.
///
/// The weight is `[H * block, C]`; head h uses rows `h * block + rows.start .. h * block + rows.end`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadProduct {
    /// H.
    pub n_heads: usize,
    /// Rows of the weight that belong to one head.
    pub block: usize,
    /// Rows of the block that take part.
    pub rows: Range<usize>,
    /// Which way the matrix is applied.
    pub direction: HeadDirection,
    /// Columns of each head, after those that are multiplied, that go through as they are.
    pub passed: usize,
}

/// Which way a [`HeadProduct`] applies its matrix W_h `[rows, C]`; shapes without what is passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadDirection {
    /// `[T, H * rows] -> [T, H * C]`: y_h = W_hᵀ x_h (a query into the latent space).
    IntoLatent,
    /// `[T, H * C] -> [T, H * rows]`: y_h = W_h x_h (a latent sum into values).
    FromLatent,
}

/// Which columns of a head rotate together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopePairs {
    /// (0, 1), (2, 3), ...: DeepSeek.
    Interleaved,
    /// (0, R/2), (1, R/2 + 1), ...: Llama and Qwen.
    Halves,
}

/// Which columns of a row a rope touches: in each of `n_heads` heads of `head_width` columns,
/// those from `offset` on for `width`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RopeColumns {
    /// Heads in a row.
    pub n_heads: usize,
    /// Columns of one head.
    pub head_width: usize,
    /// First rotated column of a head.
    pub offset: usize,
    /// R, even.
    pub width: usize,
    /// How columns pair up.
    pub pairs: RopePairs,
}

/// Keys and values of an attention, in the three forms they come in. S is T where the context is
/// [`Context::Packed`], else the rows of the page store.
#[derive(Debug)]
pub enum Keys<'a, T> {
    /// Grouped-query attention: head h reads key head `h / (H / Hkv)`.
    Grouped {
        /// `[S, Hkv * width]`.
        k: &'a T,
        /// `[S, Hkv * value_width]`.
        v: &'a T,
        /// Hkv, a divisor of H.
        n_kv_heads: usize,
    },
    /// Naive MLA: each head has its own part of the key and its value, all share the roped part.
    /// A query head is `[nope | rope]`.
    Expanded {
        /// `[S, H * (nope + value)]`, in each head `[nope | value]`: the output of `kv_b_proj`.
        kv: &'a T,
        /// `[S, R]`.
        k_rope: &'a T,
        /// Columns of a head of `kv` that are key.
        nope: usize,
    },
    /// Absorbed MLA: all heads share one key `[latent | rope]` whose latent part is also the value.
    /// A query head is `[latent | rope]`.
    Latent {
        /// `[S, C + R]`.
        latent: &'a T,
        /// C.
        rank: usize,
    },
}

impl<T> Clone for Keys<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Keys<'_, T> {}

/// Where the keys of each sequence lie.
#[derive(Debug, Clone, Copy)]
pub enum Context<'a> {
    /// The keys are the step's own rows: row i of a sequence sees rows `0..=i` of it.
    Packed,
    /// The keys are in a page store. The last query row of a sequence sees all its keys, the one
    /// before one key less, and so on.
    Paged(&'a Pages),
}

/// Page tables of a step's sequences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pages {
    /// Rows of one page.
    pub page_rows: usize,
    /// For each sequence its pages in order; page p is rows `p * page_rows ..` of the store.
    pub tables: Vec<Vec<u32>>,
    /// For each sequence how many keys it sees, the step's own rows included.
    pub lengths: Vec<u32>,
}

/// An attention over ragged sequences.
#[derive(Debug, Clone, Copy)]
pub struct Attention<'a> {
    /// H.
    pub n_heads: usize,
    /// Factor on the scores before the softmax.
    pub scale: f32,
    /// The step's query rows.
    pub rows: &'a Rows,
    /// Where the keys lie.
    pub context: Context<'a>,
}

/// How router scores are made of logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scoring {
    /// 1 / (1 + e^-x): V3.
    Sigmoid,
    /// e^x / sum e^x: V2.
    Softmax,
}

/// How a group of experts is ranked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupScore {
    /// The sum of its two best selection scores: V3.
    TopTwo,
    /// Its best selection score: V2.
    Max,
}

/// A router's rule. *Source*: DeepSeek-V3 report, section 2.1.2; V2 section 2.2.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Router {
    /// k.
    pub top_k: usize,
    /// Groups of consecutive experts; 1 for no group limit.
    pub n_group: usize,
    /// Groups kept.
    pub topk_group: usize,
    /// Scores from logits.
    pub scoring: Scoring,
    /// How groups are ranked.
    pub group_score: GroupScore,
    /// Whether the k weights are divided by their sum (plus 1e-20).
    pub normalise: bool,
    /// Factor on the weights, after normalisation.
    pub scale: f32,
}

/// Where the rows of a step go: the result of routing, and the plan of the expert products.
///
/// "Expert order" is a list of T * k slots sorted by expert; within an expert by row.
#[derive(Debug, Clone)]
pub struct Route<T> {
    /// `[T, k]`, indices: the chosen experts of each row, best selection score first.
    pub experts: T,
    /// `[T, k]`: their weights.
    pub weights: T,
    /// `[T * k]`, indices: slot s holds the flat position `row * k + choice` it serves.
    pub order: T,
    /// `[E + 1]`, indices: expert e owns slots `offsets[e]..offsets[e + 1]`.
    pub offsets: T,
}

/// A hidden state and the output matrix it is read with.
#[derive(Debug)]
pub struct Head<'a, T> {
    /// `[T, D]`, after the final norm.
    pub hidden: &'a T,
    /// `[V, D]`.
    pub weight: &'a T,
}

impl<T> Clone for Head<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Head<'_, T> {}

/// Log-probabilities of targets, with what one wants to watch beside them.
#[derive(Debug, Clone)]
pub struct LogProbs<T> {
    /// `[T]`: ln p(target).
    pub log_prob: T,
    /// `[T]`: -sum p ln p of each row, in nats. Carries no gradient.
    pub entropy: T,
}

/// A divergence between two next-token distributions, teacher P and student Q.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum DivergenceKind {
    /// KL(P || Q): covers the teacher.
    Forward,
    /// KL(Q || P): seeks the teacher's mode.
    Reverse,
    /// beta KL(P || M) + (1 - beta) KL(Q || M) with M = beta P + (1 - beta) Q.
    JensenShannon {
        /// Share of the teacher in the mixture, in (0, 1).
        beta: f32,
    },
}

/// A divergence and the temperature both sides are divided by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Divergence {
    /// Which one.
    pub kind: DivergenceKind,
    /// Divides the logits of both.
    pub temperature: f32,
}

/// How a token is drawn from logits: temperature first, then top-k, then top-p (the smallest prefix
/// whose mass reaches p), then min-p relative to the likeliest, renormalising after each.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 takes the likeliest token (the first of equals).
    pub temperature: f32,
    /// Keep this many tokens; 0 keeps all.
    pub top_k: usize,
    /// Keep the likeliest tokens up to this mass; 1 keeps all.
    pub top_p: f32,
    /// Keep tokens at least this likely relative to the likeliest; 0 keeps all.
    pub min_p: f32,
}

impl Sampling {
    /// The model's own distribution: temperature 1, full support.
    pub const PLAIN: Self = Self {
        temperature: 1.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
    };
    /// The likeliest token.
    pub const GREEDY: Self = Self {
        temperature: 0.0,
        ..Self::PLAIN
    };
}

/// Drawn tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Picked {
    /// `[T]`.
    pub ids: Vec<u32>,
    /// `[T]`: ln p of each under the tempered distribution before any truncation; at temperature 0
    /// under temperature 1. Computed exactly as [`Backend::log_prob`] computes it.
    pub log_probs: Vec<f32>,
}

/// What the model needs of a chip.
///
/// Every method checks its shapes and refuses with an [`Error`](crate::error::Error) that names
/// them; none panics on data. An empty step (T = 0) is valid everywhere.
pub trait Backend {
    /// A handle on a tensor: cheap to clone, the data is shared.
    type Tensor: Clone + Debug;

    /// A tensor with the given numbers.
    fn put(&self, shape: Shape, data: Data<'_>) -> Result<Self::Tensor>;
    /// A weight that is only read, from where it lies: `parts` is the tensor, or one matrix for each
    /// of a stack. A back-end that multiplies from stored forms keeps them; others copy.
    fn keep(&self, shape: Shape, parts: &[Stored]) -> Result<Self::Tensor> {
        match parts {
            [whole] => self.put(shape, whole.data()),
            _ => self.put(shape, Data::F32(&decode_parts(shape, parts)?)),
        }
    }
    /// The same weight for products with the tokens of answers, which come one or a few at a time. A
    /// back-end may round their activations more than those of prompts, where that is what keeps up
    /// with memory; a row's result then depends on which of the two it is, but never on its company.
    fn for_answers(&self, weight: &Self::Tensor) -> Self::Tensor {
        weight.clone()
    }
    /// A vector of indices.
    fn put_indices(&self, indices: &[u32]) -> Result<Self::Tensor>;
    /// The numbers of a tensor, row-major, in f32.
    fn get(&self, x: &Self::Tensor) -> Result<Vec<f32>>;
    /// The indices of an index tensor.
    fn get_indices(&self, x: &Self::Tensor) -> Result<Vec<u32>>;
    /// A tensor of zeros.
    fn zeros(&self, shape: Shape) -> Result<Self::Tensor>;
    /// Zeros that keys and values will be written to. A row that is written is rounded as the store
    /// says; moving rows of a store, by [`Self::copy_rows`] or by [`Self::gather`] and
    /// [`Self::append`], changes nothing.
    fn key_store(&self, store: &KeyStore) -> Result<Self::Tensor>;
    /// The shape of a tensor.
    fn shape(&self, x: &Self::Tensor) -> Shape;
    /// The same numbers in another stored format (f32 or bf16).
    fn cast(&self, x: &Self::Tensor, dtype: DType) -> Result<Self::Tensor>;
    /// Writes row i of `rows` `[T, W]` into row `slots[i]` of `store` `[S, W]`.
    fn append(&self, store: &mut Self::Tensor, rows: &Self::Tensor, slots: &[u32]) -> Result<()>;
    /// Copies row `from[i]` of `store` to row `to[i]` of it (a cache page that two owners shared).
    fn copy_rows(&self, store: &mut Self::Tensor, from: &[u32], to: &[u32]) -> Result<()>;
    /// Returns when all work asked for has been done.
    fn sync(&self) -> Result<()>;

    /// `x [T, K] -> [T, N]`: x Wᵀ + bias.
    fn linear(&self, x: &Self::Tensor, w: Linear<'_, Self::Tensor>) -> Result<Self::Tensor>;
    /// One matrix a head; see [`HeadProduct`]. Inference only: training uses naive MLA.
    fn per_head_linear(
        &self,
        x: &Self::Tensor,
        weight: &Self::Tensor,
        product: &HeadProduct,
    ) -> Result<Self::Tensor>;
    /// `xs [T * k, K]` in expert order, `weight [E, N, K] -> [T * k, N]`: each expert its own rows.
    fn grouped_linear(
        &self,
        xs: &Self::Tensor,
        weight: &Self::Tensor,
        route: &Route<Self::Tensor>,
    ) -> Result<Self::Tensor>;

    /// Rows `ids` of `table [V, D]`: `[ids.len(), D]`. Embedding, and picking rows of a step.
    fn gather(&self, table: &Self::Tensor, ids: &[u32]) -> Result<Self::Tensor>;
    /// w x / sqrt(mean(x²) + eps) over each run of `w.len()` columns, so that `[T, H * dh]` with a
    /// weight `[dh]` is a norm for each head.
    fn rms_norm(&self, x: &Self::Tensor, weight: &Self::Tensor, eps: f32) -> Result<Self::Tensor>;
    /// [`Self::rms_norm`] of the first `w.len()` columns of each row; the others pass.
    fn rms_norm_first(
        &self,
        x: &Self::Tensor,
        weight: &Self::Tensor,
        eps: f32,
    ) -> Result<Self::Tensor> {
        let (width, first) = (self.shape(x).cols(), self.shape(weight).elements());
        if first >= width {
            return self.rms_norm(x, weight, eps);
        }
        let parts = self.split(x, 1, &[first, width - first])?;
        let mut parts: Vec<&Self::Tensor> = parts.iter().collect();
        let normed;
        if let Some(part) = parts.first_mut() {
            normed = self.rms_norm(part, weight, eps)?;
            *part = &normed;
        }
        self.join(&parts, 1)
    }
    /// [`Self::rms_norm`] for products by policy alone to read, the result as precise as they take it.
    fn rms_norm_for_products(
        &self,
        x: &Self::Tensor,
        weight: &Self::Tensor,
        eps: f32,
    ) -> Result<Self::Tensor> {
        self.rms_norm(x, weight, eps)
    }
    /// down(silu(gate x) * up x), products by policy.
    fn feed_forward(&self, of: &FeedForward<'_, Self::Tensor>) -> Result<Self::Tensor> {
        Ok(of.by_parts(self)?.output)
    }
    /// silu(gate) * up, silu(x) = x / (1 + e^-x).
    fn swiglu(&self, gate: &Self::Tensor, up: &Self::Tensor) -> Result<Self::Tensor>;
    /// a + b, of the same shape.
    fn add(&self, a: &Self::Tensor, b: &Self::Tensor) -> Result<Self::Tensor>;
    /// Cuts each of `n_heads` heads of a row into runs of `widths` columns: part i is
    /// `[T, n_heads * widths[i]]`.
    fn split(
        &self,
        x: &Self::Tensor,
        n_heads: usize,
        widths: &[usize],
    ) -> Result<Vec<Self::Tensor>>;
    /// The inverse of [`Backend::split`].
    fn join(&self, parts: &[&Self::Tensor], n_heads: usize) -> Result<Self::Tensor>;
    /// Rotates pairs (a, b) of columns by the angle of the row's position:
    /// (a cos - b sin, a sin + b cos). `table [P, R]` holds R/2 cosines, then R/2 sines a position.
    fn rope(
        &self,
        x: &Self::Tensor,
        table: &Self::Tensor,
        positions: &[u32],
        columns: RopeColumns,
    ) -> Result<Self::Tensor>;
    /// softmax(scale q k) v, causal, without keeping the scores.
    /// `q [T, H * width] -> [T, H * value width]`. A row that sees no key gives zeros.
    fn attention(
        &self,
        q: &Self::Tensor,
        keys: Keys<'_, Self::Tensor>,
        attention: &Attention<'_>,
    ) -> Result<Self::Tensor>;

    /// `logits [T, E]`, `bias [E]` (used for selection only) to experts and weights.
    /// Equal selection scores: the lower index first. Groups not kept are never chosen.
    fn route(
        &self,
        logits: &Self::Tensor,
        bias: Option<&Self::Tensor>,
        router: &Router,
    ) -> Result<Route<Self::Tensor>>;
    /// `x [T, D] -> [T * k, D]` in expert order.
    fn dispatch(&self, x: &Self::Tensor, route: &Route<Self::Tensor>) -> Result<Self::Tensor>;
    /// `ys [T * k, D] -> [T, D]`: each row the sum of its k slots times their weights, in the order
    /// of choice.
    fn combine(&self, ys: &Self::Tensor, route: &Route<Self::Tensor>) -> Result<Self::Tensor>;

    /// ln softmax(hidden headᵀ / temperature) of one target a row, and the entropy, without keeping
    /// `[T, V]`. The products follow the policy; the rest is f32.
    fn log_prob(
        &self,
        head: Head<'_, Self::Tensor>,
        targets: &[u32],
        temperature: f32,
    ) -> Result<LogProbs<Self::Tensor>>;
    /// `[T]`: the divergence of each row between two heads over one vocabulary.
    fn divergence(
        &self,
        student: Head<'_, Self::Tensor>,
        teacher: Head<'_, Self::Tensor>,
        divergence: Divergence,
    ) -> Result<Self::Tensor>;
    /// Draws one token a row of `logits [T, V]`; `uniforms [T]` in [0, 1) decide: the first token,
    /// in id order, whose cumulative probability exceeds the uniform.
    fn pick(&self, logits: &Self::Tensor, sampling: &Sampling, uniforms: &[f32]) -> Result<Picked>;
}

/// Gradients of a [`Keys`], in the order of its fields.
#[derive(Debug, Clone)]
pub struct AttentionGrads<T> {
    /// As q.
    pub q: T,
    /// As the first tensor of the keys.
    pub first: T,
    /// As the second tensor of the keys.
    pub second: T,
}

/// An attention's output with what its backward needs.
#[derive(Debug, Clone)]
pub struct AttentionSaved<T> {
    /// `[T, H * value width]`.
    pub output: T,
    /// `[T, H]`: ln sum exp of the scaled scores.
    pub log_sum: T,
}

/// The sequence-wise balance loss, alpha * sum_i f_i P_i averaged over the sequences of the step,
/// with f_i = E / (k T_b) * #{rows that chose i} and P_i the mean normalised score.
/// *Source*: DeepSeek-V3 report, section 2.1.2, equations 17 to 20.
#[derive(Debug, Clone, Copy)]
pub struct Balance<'a> {
    /// Factor on the loss.
    pub alpha: f32,
    /// The step's sequences.
    pub rows: &'a Rows,
}

/// One AdamW update. *Source*: Loshchilov and Hutter, 1711.05101, algorithm 2.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Step size of this step.
    pub learning_rate: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Decoupled decay, multiplied by the learning rate.
    pub weight_decay: f32,
    /// 1 for the first update.
    pub step: u64,
    /// The gradient is multiplied by this first (clipping).
    pub gradient_scale: f32,
}

/// One Muon update of a matrix (or of each matrix of a stack): momentum, five Newton-Schulz
/// iterations, decoupled decay. *Source*: Jordan et al. 2024; coefficients 3.4445, -4.7750, 2.0315.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Muon {
    /// Step size of this step; the update is scaled by 0.2 sqrt(max(N, K)) to AdamW's size.
    pub learning_rate: f32,
    /// Decay of the momentum (Nesterov form).
    pub momentum: f32,
    /// Decoupled decay, multiplied by the learning rate.
    pub weight_decay: f32,
    /// The gradient is multiplied by this first (clipping).
    pub gradient_scale: f32,
}

/// What training needs beyond [`Backend`]: the backward of the differentiable operations, the
/// updates and the gradient norm.
///
/// Gradients of weights are added into `&mut` accumulators of the weight's shape; gradients of
/// activations are returned. Attention is differentiated in packed context only.
pub trait TrainBackend: Backend {
    /// Backward of [`Backend::linear`]: dx; adds to `d_weight` and, where the layer has one, `d_bias`.
    fn linear_backward(
        &self,
        x: &Self::Tensor,
        w: Linear<'_, Self::Tensor>,
        dy: &Self::Tensor,
        d_weight: &mut Self::Tensor,
        d_bias: Option<&mut Self::Tensor>,
    ) -> Result<Self::Tensor>;
    /// [`Self::linear_backward`] whose dx is added to the gradient of x so far.
    fn linear_backward_onto(
        &self,
        mut so_far: Self::Tensor,
        (x, w): (&Self::Tensor, Linear<'_, Self::Tensor>),
        dy: &Self::Tensor,
        (d_weight, d_bias): (&mut Self::Tensor, Option<&mut Self::Tensor>),
    ) -> Result<Self::Tensor> {
        let dx = self.linear_backward(x, w, dy, d_weight, d_bias)?;
        self.accumulate(&mut so_far, &dx)?;
        Ok(so_far)
    }
    /// Backward of [`Backend::grouped_linear`].
    fn grouped_linear_backward(
        &self,
        xs: &Self::Tensor,
        weight: &Self::Tensor,
        route: &Route<Self::Tensor>,
        dy: &Self::Tensor,
        d_weight: &mut Self::Tensor,
    ) -> Result<Self::Tensor>;
    /// Backward of [`Backend::gather`]: adds row i of `dy` to row `ids[i]` of `d_table`.
    fn gather_backward(
        &self,
        ids: &[u32],
        dy: &Self::Tensor,
        d_table: &mut Self::Tensor,
    ) -> Result<()>;
    /// Backward of [`Backend::rms_norm`].
    fn rms_norm_backward(
        &self,
        x: &Self::Tensor,
        weight: &Self::Tensor,
        eps: f32,
        dy: &Self::Tensor,
        d_weight: &mut Self::Tensor,
    ) -> Result<Self::Tensor>;
    /// [`Self::rms_norm_backward`] whose dx is added to the gradient of x so far.
    fn rms_norm_backward_onto(
        &self,
        mut so_far: Self::Tensor,
        (x, weight, eps): (&Self::Tensor, &Self::Tensor, f32),
        dy: &Self::Tensor,
        d_weight: &mut Self::Tensor,
    ) -> Result<Self::Tensor> {
        let dx = self.rms_norm_backward(x, weight, eps, dy, d_weight)?;
        self.accumulate(&mut so_far, &dx)?;
        Ok(so_far)
    }
    /// [`Backend::rms_norm_for_products`] where the weights of those products learn.
    fn rms_norm_to_learn(
        &self,
        x: &Self::Tensor,
        weight: &Self::Tensor,
        eps: f32,
    ) -> Result<Self::Tensor> {
        self.rms_norm(x, weight, eps)
    }
    /// [`Backend::feed_forward`] with what its backward needs.
    fn feed_forward_saved(
        &self,
        of: &FeedForward<'_, Self::Tensor>,
    ) -> Result<FeedForwardSaved<Self::Tensor>> {
        of.by_parts(self)
    }
    /// Backward of [`Backend::feed_forward`]: dx; adds to the gradients of gate, up and down.
    fn feed_forward_backward(
        &self,
        of: &FeedForward<'_, Self::Tensor>,
        saved: &FeedForwardSaved<Self::Tensor>,
        dy: &Self::Tensor,
        to: [&mut Self::Tensor; 3],
    ) -> Result<Self::Tensor> {
        of.back_by_parts(self, saved, dy, to)
    }
    /// Backward of [`Backend::swiglu`]: (d gate, d up).
    fn swiglu_backward(
        &self,
        gate: &Self::Tensor,
        up: &Self::Tensor,
        dy: &Self::Tensor,
    ) -> Result<(Self::Tensor, Self::Tensor)>;
    /// Backward of [`Backend::rope`]: the rotation by the opposite angle.
    fn rope_backward(
        &self,
        dy: &Self::Tensor,
        table: &Self::Tensor,
        positions: &[u32],
        columns: RopeColumns,
    ) -> Result<Self::Tensor>;
    /// [`Backend::attention`] in packed context, keeping what the backward needs.
    fn attention_saved(
        &self,
        q: &Self::Tensor,
        keys: Keys<'_, Self::Tensor>,
        attention: &Attention<'_>,
    ) -> Result<AttentionSaved<Self::Tensor>>;
    /// Backward of [`Backend::attention`] in packed context; recomputes the scores.
    fn attention_backward(
        &self,
        q: &Self::Tensor,
        keys: Keys<'_, Self::Tensor>,
        attention: &Attention<'_>,
        saved: &AttentionSaved<Self::Tensor>,
        dy: &Self::Tensor,
    ) -> Result<AttentionGrads<Self::Tensor>>;
    /// Backward of [`Backend::route`]: d logits from d weights `[T, k]` and the balance loss. The
    /// choice itself carries no gradient, nor does the bias.
    fn route_backward(
        &self,
        logits: &Self::Tensor,
        router: &Router,
        route: &Route<Self::Tensor>,
        d_weights: &Self::Tensor,
        balance: Option<Balance<'_>>,
    ) -> Result<Self::Tensor>;
    /// The value of the balance loss.
    fn balance_loss(
        &self,
        logits: &Self::Tensor,
        router: &Router,
        route: &Route<Self::Tensor>,
        balance: Balance<'_>,
    ) -> Result<f32>;
    /// [`Backend::dispatch`] for products by policy alone to read, whose weights learn.
    fn dispatch_to_learn(
        &self,
        x: &Self::Tensor,
        route: &Route<Self::Tensor>,
    ) -> Result<Self::Tensor> {
        self.dispatch(x, route)
    }
    /// Backward of [`Backend::dispatch`]: `[T * k, D] -> [T, D]`, the plain sum of a row's slots.
    fn dispatch_backward(
        &self,
        dxs: &Self::Tensor,
        route: &Route<Self::Tensor>,
    ) -> Result<Self::Tensor>;
    /// Backward of [`Backend::combine`]: (d ys `[T * k, D]`, d weights `[T, k]`).
    fn combine_backward(
        &self,
        ys: &Self::Tensor,
        route: &Route<Self::Tensor>,
        dy: &Self::Tensor,
    ) -> Result<(Self::Tensor, Self::Tensor)>;
    /// [`Self::combine_backward`] whose d ys products by policy alone read.
    fn combine_backward_for_products(
        &self,
        ys: &Self::Tensor,
        route: &Route<Self::Tensor>,
        dy: &Self::Tensor,
    ) -> Result<(Self::Tensor, Self::Tensor)> {
        self.combine_backward(ys, route, dy)
    }
    /// Backward of [`Backend::log_prob`]: d hidden from `d_log_prob [T]`; adds to `d_weight [V, D]`.
    fn log_prob_backward(
        &self,
        head: Head<'_, Self::Tensor>,
        targets: &[u32],
        temperature: f32,
        d_log_prob: &Self::Tensor,
        d_weight: &mut Self::Tensor,
    ) -> Result<Self::Tensor>;
    /// Backward of [`Backend::divergence`] to the student: d hidden from `d [T]`; adds to `d_weight`.
    fn divergence_backward(
        &self,
        student: Head<'_, Self::Tensor>,
        teacher: Head<'_, Self::Tensor>,
        divergence: Divergence,
        d: &Self::Tensor,
        d_weight: &mut Self::Tensor,
    ) -> Result<Self::Tensor>;

    /// dst += src.
    fn accumulate(&self, dst: &mut Self::Tensor, src: &Self::Tensor) -> Result<()>;
    /// Sets all numbers to zero, keeping the storage.
    fn clear(&self, x: &mut Self::Tensor) -> Result<()>;
    /// The sum of squares of all numbers of all tensors, in f64 and in a fixed order.
    fn norm_squared(&self, tensors: &[&Self::Tensor]) -> Result<f64>;
    /// Updates `param` and its two moments `[.., first, second]` by one AdamW step.
    fn adamw(
        &self,
        param: &mut Self::Tensor,
        gradient: &Self::Tensor,
        moments: [&mut Self::Tensor; 2],
        step: &AdamW,
    ) -> Result<()>;
    /// Updates `param` and its momentum by one Muon step.
    fn muon(
        &self,
        param: &mut Self::Tensor,
        gradient: &Self::Tensor,
        momentum: &mut Self::Tensor,
        step: &Muon,
    ) -> Result<()>;
}
