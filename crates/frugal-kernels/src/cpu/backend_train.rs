//! The training half of the CPU back-end: backward, updates, norm.
//!
//! Gradients of weights are products summed straight into the accumulators. Every sum has a fixed
//! order, so that a step gives the same bits at any number of threads.

use frugal_core::backend::{
    AdamW, Attention, AttentionGrads, AttentionSaved, Balance, Divergence, Head, Keys, Linear,
    Muon, RopeColumns, Route, Router, TrainBackend,
};
use frugal_core::error::Result;
use frugal_core::ops::check::{self, LinearGradShapes};

use super::backend::Cpu;
use super::gemm::{Finish, Mat, MatMut, StackMut, StackShape, Update};
use super::rope::Turn;
use super::tensor::{Tensor, WeightPart};
use super::{
    activation, attention, attention_backward, divergence, head, layout, moe, norm, optim, rope,
    route,
};

impl TrainBackend for Cpu {
    fn linear_backward(
        &self,
        x: &Tensor,
        w: Linear<'_, Tensor>,
        dy: &Tensor,
        d_weight: &mut Tensor,
        d_bias: Option<&mut Tensor>,
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
        let (x_values, dy_values) = (x.floats(OP)?, dy.floats(OP)?);
        let from = Mat::dense(&x_values, dims.rows, dims.k).map_err(self.refused(OP))?;
        let dy = Mat::dense(&dy_values, dims.rows, dims.n).map_err(self.refused(OP))?;
        let mut dx = self.blank(x.shape())?;
        let to = MatMut::dense(dx.values(), dims.rows, dims.k).map_err(self.refused(OP))?;
        self.gemm()
            .nn(dy, &packed, to, Finish::SET)
            .map_err(self.refused(OP))?;
        d_weight.change(OP, |d_weight| {
            let to = MatMut::dense(d_weight, dims.n, dims.k).map_err(self.refused(OP))?;
            self.gemm()
                .tn(dy, from, to, (precision, Update::Add))
                .map_err(self.refused(OP))
        })??;
        if let Some(d_bias) = d_bias {
            d_bias.change(OP, |d_bias| norm::add_columns(self, &dy_values, d_bias))?;
        }
        Ok(dx.done())
    }

    fn grouped_linear_backward(
        &self,
        xs: &Tensor,
        weight: &Tensor,
        route: &Route<Tensor>,
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
        let (x_values, dy_values) = (xs.floats(OP)?, dy.floats(OP)?);
        let from = Mat::dense(&x_values, slots, dims.k).map_err(self.refused(OP))?;
        let dy = Mat::dense(&dy_values, slots, dims.n).map_err(self.refused(OP))?;
        let mut dx = self.blank(xs.shape())?;
        let to = MatMut::dense(dx.values(), slots, dims.k).map_err(self.refused(OP))?;
        self.gemm()
            .grouped_nn(dy, offsets, &packed, to, Finish::SET)
            .map_err(self.refused(OP))?;
        let shape = StackShape::dense(dims.route.n_experts, dims.n, dims.k);
        d_weight.change(OP, |d_weight| {
            let to = StackMut::new(d_weight, shape).map_err(self.refused(OP))?;
            self.gemm()
                .grouped_tn(dy, from, offsets, to, (self.precision, Update::Add))
                .map_err(self.refused(OP))
        })??;
        Ok(dx.done())
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
        norm::rms_norm_backward(self, (x, weight), eps, dy, d_weight)
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

    fn dispatch_backward(&self, dxs: &Tensor, route: &Route<Tensor>) -> Result<Tensor> {
        moe::dispatch_backward(self, dxs, route)
    }

    fn combine_backward(
        &self,
        ys: &Tensor,
        route: &Route<Tensor>,
        dy: &Tensor,
    ) -> Result<(Tensor, Tensor)> {
        moe::combine_backward(self, ys, route, dy)
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
        x.change("clear", |values| values.fill(0.0))
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
