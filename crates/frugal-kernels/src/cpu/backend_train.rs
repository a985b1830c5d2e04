//! The training half of the CPU back-end: backward, updates, norm.
//!
//! Gradients of weights are products summed straight into the accumulators. Every sum has a fixed
//! order, so that a step gives the same bits at any number of threads.

use frugal_core::backend::{
    AdamW, Attention, AttentionGrads, AttentionSaved, Balance, Divergence, FeedForward,
    FeedForwardSaved, Head, Keys, Linear, Muon, RopeColumns, Route, Router, TrainBackend,
};
use frugal_core::error::Result;
use frugal_core::ops::check::{self, LinearGradShapes};

use super::backend::Cpu;
use super::gemm::{Finish, MatMut, StackMut, StackShape, Update};
use super::rope::Turn;
use super::tensor::{Tensor, WeightPart};
use super::{
    activation, attention, attention_backward, divergence, feed_forward, head, layout, moe, norm,
    optim, rope, route,
};

/// Numbers of a piece of clearing.
const CLEARED: usize = 64 * 1024;

impl Cpu {
    /// Room for dx, or the sum so far that it is added to.
    fn room_for(&self, x: &Tensor, so_far: Option<Tensor>) -> Result<(Tensor, Finish<'static>)> {
        Ok(match so_far {
            Some(so_far) => (so_far, Finish::ADD),
            None => (self.blank(x.shape())?.done(), Finish::SET),
        })
    }

    /// dx of a product, added to `so_far`; adds to the gradients of weight and bias.
    fn through_linear(
        &self,
        so_far: Option<Tensor>,
        (x, w): (&Tensor, Linear<'_, Tensor>),
        dy: &Tensor,
        (d_weight, d_bias): (&mut Tensor, Option<&mut Tensor>),
    ) -> Result<Tensor> {
        const OP: &str = "linear_backward";
        let gradients = LinearGradShapes {
            dy: dy.shape(),
            d_weight: d_weight.shape(),
            d_bias: d_bias.as_ref().map(|d_bias| d_bias.shape()),
        };
        let bias = w.bias.map(Tensor::shape);
        let dims = check::linear_backward(x.shape(), w.weight.shape(), bias, gradients)?;
        let (precision, _) = self.product(w.product);
        let packed = w
            .weight
            .packed(self.gemm(), precision, &WeightPart::Whole)?;
        let (x_numbers, dy_numbers) = (x.numbers(OP)?, dy.numbers(OP)?);
        let refused = self.refused(OP);
        let from = x_numbers.matrix(dims.rows, dims.k).map_err(&refused)?;
        let back = dy_numbers.matrix(dims.rows, dims.n).map_err(&refused)?;
        let (mut dx, finish) = self.room_for(x, so_far)?;
        dx.change(OP, |dx| {
            let to = MatMut::dense(dx, dims.rows, dims.k)?;
            self.gemm().nn(back, &packed, to, finish)
        })?
        .map_err(&refused)?;
        d_weight
            .change(OP, |d_weight| {
                let to = MatMut::dense(d_weight, dims.n, dims.k)?;
                self.gemm().tn(back, from, to, (precision, Update::Add))
            })?
            .map_err(&refused)?;
        if let Some(d_bias) = d_bias {
            let dy = dy.floats(OP)?;
            d_bias.change(OP, |d_bias| norm::add_columns(self, &dy, d_bias))?;
        }
        Ok(dx)
    }

    /// As [`Self::through_linear`] by experts.
    fn through_experts(
        &self,
        so_far: Option<Tensor>,
        (xs, weight, route): (&Tensor, &Tensor, &Route<Tensor>),
        dy: &Tensor,
        d_weight: &mut Tensor,
    ) -> Result<Tensor> {
        const OP: &str = "grouped_linear_backward";
        let dims = check::grouped_linear_backward(
            xs.shape(),
            weight.shape(),
            &moe::shapes(route),
            dy.shape(),
            d_weight.shape(),
        )?;
        let (_, offsets) = moe::followed(OP, dims.route, route)?;
        let packed = weight.packed(self.gemm(), self.precision, &WeightPart::Whole)?;
        let slots = dims.route.slots();
        let (x_numbers, dy_numbers) = (xs.numbers(OP)?, dy.numbers(OP)?);
        let refused = self.refused(OP);
        let from = x_numbers.matrix(slots, dims.k).map_err(&refused)?;
        let back = dy_numbers.matrix(slots, dims.n).map_err(&refused)?;
        let (mut dx, finish) = self.room_for(xs, so_far)?;
        dx.change(OP, |dx| {
            let to = MatMut::dense(dx, slots, dims.k)?;
            self.gemm().grouped_nn(back, offsets, &packed, to, finish)
        })?
        .map_err(&refused)?;
        let shape = StackShape::dense(dims.route.n_experts, dims.n, dims.k);
        d_weight
            .change(OP, |d_weight| {
                let to = StackMut::new(d_weight, shape)?;
                let update = (self.precision, Update::Add);
                self.gemm().grouped_tn(back, from, offsets, to, update)
            })?
            .map_err(&refused)?;
        Ok(dx)
    }
}

impl TrainBackend for Cpu {
    fn linear_backward(
        &self,
        x: &Tensor,
        w: Linear<'_, Tensor>,
        dy: &Tensor,
        d_weight: &mut Tensor,
        d_bias: Option<&mut Tensor>,
    ) -> Result<Tensor> {
        self.through_linear(None, (x, w), dy, (d_weight, d_bias))
    }

    fn linear_backward_onto(
        &self,
        so_far: Tensor,
        of: (&Tensor, Linear<'_, Tensor>),
        dy: &Tensor,
        to: (&mut Tensor, Option<&mut Tensor>),
    ) -> Result<Tensor> {
        self.through_linear(Some(so_far), of, dy, to)
    }

    fn grouped_linear_backward(
        &self,
        xs: &Tensor,
        weight: &Tensor,
        route: &Route<Tensor>,
        dy: &Tensor,
        d_weight: &mut Tensor,
    ) -> Result<Tensor> {
        self.through_experts(None, (xs, weight, route), dy, d_weight)
    }

    fn rms_norm_to_learn(&self, x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
        norm::rms_norm_for_products(self, x, weight, eps)
    }

    fn feed_forward_saved(&self, of: &FeedForward<'_, Tensor>) -> Result<FeedForwardSaved<Tensor>> {
        feed_forward::feed_forward_saved(self, of)
    }

    fn feed_forward_backward(
        &self,
        of: &FeedForward<'_, Tensor>,
        saved: &FeedForwardSaved<Tensor>,
        dy: &Tensor,
        to: [&mut Tensor; 3],
    ) -> Result<Tensor> {
        feed_forward::feed_forward_backward(self, of, saved, dy, to)
    }

    fn gather_backward(&self, ids: &[u32], dy: &Tensor, d_table: &mut Tensor) -> Result<()> {
        layout::gather_backward(self, ids, dy, d_table)
    }

    fn rms_norm_backward(
        &self,
        x: &Tensor,
        weight: &Tensor,
        eps: f32,
        dy: &Tensor,
        d_weight: &mut Tensor,
    ) -> Result<Tensor> {
        norm::rms_norm_backward(self, (x, weight, eps), None, dy, d_weight)
    }

    fn rms_norm_backward_onto(
        &self,
        so_far: Tensor,
        of: (&Tensor, &Tensor, f32),
        dy: &Tensor,
        d_weight: &mut Tensor,
    ) -> Result<Tensor> {
        norm::rms_norm_backward(self, of, Some(so_far), dy, d_weight)
    }

    fn swiglu_backward(&self, gate: &Tensor, up: &Tensor, dy: &Tensor) -> Result<(Tensor, Tensor)> {
        activation::swiglu_backward(self, gate, up, dy)
    }

    fn rope_backward(
        &self,
        dy: &Tensor,
        table: &Tensor,
        positions: &[u32],
        columns: RopeColumns,
    ) -> Result<Tensor> {
        rope::rope(self, dy, table, positions, (columns, Turn::Back))
    }

    fn attention_saved(
        &self,
        q: &Tensor,
        keys: Keys<'_, Tensor>,
        attention: &Attention<'_>,
    ) -> Result<AttentionSaved<Tensor>> {
        attention::attention_saved(self, q, keys, attention)
    }

    fn attention_backward(
        &self,
        q: &Tensor,
        keys: Keys<'_, Tensor>,
        attention: &Attention<'_>,
        saved: &AttentionSaved<Tensor>,
        dy: &Tensor,
    ) -> Result<AttentionGrads<Tensor>> {
        attention_backward::attention_backward(self, (q, keys), attention, saved, dy)
    }

    fn route_backward(
        &self,
        logits: &Tensor,
        router: &Router,
        route: &Route<Tensor>,
        d_weights: &Tensor,
        balance: Option<Balance<'_>>,
    ) -> Result<Tensor> {
        route::route_backward(self, (logits, router), route, d_weights, balance)
    }

    fn balance_loss(
        &self,
        logits: &Tensor,
        router: &Router,
        route: &Route<Tensor>,
        balance: Balance<'_>,
    ) -> Result<f32> {
        route::balance_loss(self, (logits, router), route, balance)
    }

    fn dispatch_to_learn(&self, x: &Tensor, route: &Route<Tensor>) -> Result<Tensor> {
        moe::dispatch_for_products(self, x, route)
    }

    fn dispatch_backward(&self, dxs: &Tensor, route: &Route<Tensor>) -> Result<Tensor> {
        moe::dispatch_backward(self, dxs, route)
    }

    fn combine_backward(
        &self,
        ys: &Tensor,
        route: &Route<Tensor>,
        dy: &Tensor,
    ) -> Result<(Tensor, Tensor)> {
        moe::combine_backward(self, (ys, false), route, dy)
    }

    fn combine_backward_for_products(
        &self,
        ys: &Tensor,
        route: &Route<Tensor>,
        dy: &Tensor,
    ) -> Result<(Tensor, Tensor)> {
        moe::combine_backward(self, (ys, true), route, dy)
    }

    fn log_prob_backward(
        &self,
        head: Head<'_, Tensor>,
        targets: &[u32],
        temperature: f32,
        d_log_prob: &Tensor,
        d_weight: &mut Tensor,
    ) -> Result<Tensor> {
        head::log_prob_backward(self, head, (targets, temperature), d_log_prob, d_weight)
    }

    fn divergence_backward(
        &self,
        student: Head<'_, Tensor>,
        teacher: Head<'_, Tensor>,
        divergence: Divergence,
        d: &Tensor,
        d_weight: &mut Tensor,
    ) -> Result<Tensor> {
        divergence::divergence_backward(self, [student, teacher], divergence, d, d_weight)
    }

    fn accumulate(&self, dst: &mut Tensor, src: &Tensor) -> Result<()> {
        activation::accumulate(self, dst, src)
    }

    fn clear(&self, x: &mut Tensor) -> Result<()> {
        x.change("clear", |values| {
            self.pool
                .for_each_chunk(values, CLEARED, |_, values| values.fill(0.0));
        })
    }

    fn norm_squared(&self, tensors: &[&Tensor]) -> Result<f64> {
        optim::norm_squared(self, tensors)
    }

    fn adamw(
        &self,
        param: &mut Tensor,
        gradient: &Tensor,
        moments: [&mut Tensor; 2],
        step: &AdamW,
    ) -> Result<()> {
        optim::adamw(self, param, gradient, moments, step)
    }

    fn muon(
        &self,
        param: &mut Tensor,
        gradient: &Tensor,
        momentum: &mut Tensor,
        step: &Muon,
    ) -> Result<()> {
        optim::muon(self, param, gradient, momentum, step)
    }
}
