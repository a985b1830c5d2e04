//! The training half of [`Reference`].

use alloc::vec::Vec;

use super::{HostTensor, Plan, Reference, heads, operands, shapes};
use crate::backend::{
    AdamW, Attention, AttentionGrads, AttentionSaved, Balance, Divergence, Head, Keys, Linear,
    Muon, RopeColumns, Route, Router, TrainBackend,
};
use crate::error::{Result, expect_indices};
use crate::ops::check::{self, HeadShapes, KeyShapes};
use crate::ops::grouped_linear::{self, GroupedBackward};
use crate::ops::linear::{self, LinearGrads};
use crate::ops::log_prob::{self, LogProbBackward};
use crate::ops::rms_norm::{self, NormBackward};
use crate::ops::route::{self, Routed};
use crate::ops::{attention, dispatch_combine, divergence, elementwise, gather, norm, optim, rope};
use crate::shape::Shape;

impl TrainBackend for Reference {
    fn linear_backward(
        &self,
        x: &HostTensor,
        w: Linear<'_, HostTensor>,
        dy: &HostTensor,
        d_weight: &mut HostTensor,
        d_bias: Option<&mut HostTensor>,
    ) -> Result<HostTensor> {
        let gradient_shapes = check::LinearGradShapes {
            dy: dy.shape,
            d_weight: d_weight.shape,
            d_bias: d_bias.as_deref().map(HostTensor::shape),
        };
        let bias = w.bias.map(HostTensor::shape);
        let dims = check::linear_backward(x.shape, w.weight.shape, bias, gradient_shapes)?;
        let (input, weight, dy) = (x.numbers()?, w.weight.numbers()?, dy.numbers()?);
        let mut d_bias = d_bias;
        let gradients = LinearGrads {
            d_weight: d_weight.numbers_mut()?,
            d_bias: d_bias
                .as_deref_mut()
                .map(HostTensor::numbers_mut)
                .transpose()?,
        };
        let dx = linear::backward(input, weight, dy, dims, gradients);
        d_weight.settle();
        if let Some(d_bias) = d_bias {
            d_bias.settle();
        }
        Ok(HostTensor::new(x.shape, dx))
    }

    fn grouped_linear_backward(
        &self,
        xs: &HostTensor,
        weight: &HostTensor,
        route: &Route<HostTensor>,
        dy: &HostTensor,
        d_weight: &mut HostTensor,
    ) -> Result<HostTensor> {
        let dims = check::grouped_linear_backward(
            xs.shape,
            weight.shape,
            &shapes(route),
            dy.shape,
            d_weight.shape,
        )?;
        let plan = Plan::of("grouped_linear_backward", route, dims.route)?;
        let input = GroupedBackward {
            xs: xs.numbers()?,
            weight: weight.numbers()?,
            offsets: plan.offsets,
            dy: dy.numbers()?,
        };
        let dxs = d_weight.write(|d_weight| grouped_linear::backward(input, dims, d_weight))?;
        Ok(HostTensor::new(xs.shape, dxs))
    }

    fn gather_backward(
        &self,
        ids: &[u32],
        dy: &HostTensor,
        d_table: &mut HostTensor,
    ) -> Result<()> {
        let dims = check::gather_backward(ids, dy.shape, d_table.shape)?;
        let dy = dy.numbers()?;
        d_table.write(|d_table| gather::backward(ids, dy, dims, d_table))
    }

    fn rms_norm_backward(
        &self,
        x: &HostTensor,
        weight: &HostTensor,
        eps: f32,
        dy: &HostTensor,
        d_weight: &mut HostTensor,
    ) -> Result<HostTensor> {
        let dims = check::rms_norm_backward(x.shape, weight.shape, eps, dy.shape, d_weight.shape)?;
        let input = NormBackward {
            x: x.numbers()?,
            weight: weight.numbers()?,
            eps,
            dy: dy.numbers()?,
        };
        let dx = d_weight.write(|d_weight| rms_norm::backward(input, dims, d_weight))?;
        Ok(HostTensor::new(x.shape, dx))
    }

    fn swiglu_backward(
        &self,
        gate: &HostTensor,
        up: &HostTensor,
        dy: &HostTensor,
    ) -> Result<(HostTensor, HostTensor)> {
        check::swiglu_backward(gate.shape, up.shape, dy.shape)?;
        let (d_gate, d_up) =
            elementwise::swiglu_backward(gate.numbers()?, up.numbers()?, dy.numbers()?);
        Ok((
            HostTensor::new(gate.shape, d_gate),
            HostTensor::new(gate.shape, d_up),
        ))
    }

    fn rope_backward(
        &self,
        dy: &HostTensor,
        table: &HostTensor,
        positions: &[u32],
        columns: RopeColumns,
    ) -> Result<HostTensor> {
        check::rope_backward(dy.shape, table.shape, positions, columns)?;
        let dx = rope::backward(dy.numbers()?, table.numbers()?, positions, columns);
        Ok(HostTensor::new(dy.shape, dx))
    }

    fn attention_saved(
        &self,
        q: &HostTensor,
        keys: Keys<'_, HostTensor>,
        attention: &Attention<'_>,
    ) -> Result<AttentionSaved<HostTensor>> {
        let key_shapes = KeyShapes::of(keys, HostTensor::shape);
        let dims = check::attention_saved(q.shape, key_shapes, attention)?;
        let (output, log_sum) = attention::forward(&operands(q, keys)?, &dims, attention);
        let shape = Shape::matrix(dims.rows, dims.n_heads * dims.value_width);
        Ok(AttentionSaved {
            output: HostTensor::new(shape, output),
            log_sum: HostTensor::new(Shape::matrix(dims.rows, dims.n_heads), log_sum),
        })
    }

    /// What was saved is only checked: the loop forms the scores again in f64.
    fn attention_backward(
        &self,
        q: &HostTensor,
        keys: Keys<'_, HostTensor>,
        attention: &Attention<'_>,
        saved: &AttentionSaved<HostTensor>,
        dy: &HostTensor,
    ) -> Result<AttentionGrads<HostTensor>> {
        let key_shapes = KeyShapes::of(keys, HostTensor::shape);
        let gradient_shapes = check::AttentionGradShapes {
            output: saved.output.shape,
            log_sum: saved.log_sum.shape,
            dy: dy.shape,
        };
        let dims = check::attention_backward(q.shape, key_shapes, attention, gradient_shapes)?;
        let grads = attention::backward(&operands(q, keys)?, &dims, attention, dy.numbers()?);
        let second = key_shapes.second().unwrap_or(Shape::vector(0));
        Ok(AttentionGrads {
            q: HostTensor::new(q.shape, grads.q),
            first: HostTensor::new(key_shapes.first(), grads.first),
            second: HostTensor::new(second, grads.second),
        })
    }

    fn route_backward(
        &self,
        logits: &HostTensor,
        router: &Router,
        route: &Route<HostTensor>,
        d_weights: &HostTensor,
        balance: Option<Balance<'_>>,
    ) -> Result<HostTensor> {
        let dims = check::route_backward(
            logits.shape,
            router,
            &shapes(route),
            d_weights.shape,
            balance.as_ref(),
        )?;
        let routed = routed("route_backward", logits, router, route)?;
        let d_logits = route::backward(routed, d_weights.numbers()?, balance, dims);
        Ok(HostTensor::new(logits.shape, d_logits))
    }

    fn balance_loss(
        &self,
        logits: &HostTensor,
        router: &Router,
        route: &Route<HostTensor>,
        balance: Balance<'_>,
    ) -> Result<f32> {
        let dims = check::balance_loss(logits.shape, router, &shapes(route), &balance)?;
        let routed = routed("balance_loss", logits, router, route)?;
        Ok(route::balance_loss(routed, balance, dims))
    }

    fn dispatch_backward(&self, dxs: &HostTensor, route: &Route<HostTensor>) -> Result<HostTensor> {
        let dims = check::dispatch_backward(dxs.shape, &shapes(route))?;
        let plan = Plan::of("dispatch_backward", route, dims.route)?;
        let dx = dispatch_combine::dispatch_backward(dxs.numbers()?, plan.order, dims);
        Ok(HostTensor::new(
            Shape::matrix(dims.route.rows, dims.width),
            dx,
        ))
    }

    fn combine_backward(
        &self,
        ys: &HostTensor,
        route: &Route<HostTensor>,
        dy: &HostTensor,
    ) -> Result<(HostTensor, HostTensor)> {
        let dims = check::combine_backward(ys.shape, &shapes(route), dy.shape)?;
        let plan = Plan::of("combine_backward", route, dims.route)?;
        let (d_ys, d_weights) = dispatch_combine::combine_backward(
            ys.numbers()?,
            plan.order,
            route.weights.numbers()?,
            dy.numbers()?,
            dims,
        );
        Ok((
            HostTensor::new(ys.shape, d_ys),
            HostTensor::new(route.weights.shape, d_weights),
        ))
    }

    fn log_prob_backward(
        &self,
        head: Head<'_, HostTensor>,
        targets: &[u32],
        temperature: f32,
        d_log_prob: &HostTensor,
        d_weight: &mut HostTensor,
    ) -> Result<HostTensor> {
        let dims = check::log_prob_backward(
            HeadShapes::of(head, HostTensor::shape),
            targets,
            temperature,
            d_log_prob.shape,
            d_weight.shape,
        )?;
        let input = LogProbBackward {
            hidden: head.hidden.numbers()?,
            weight: head.weight.numbers()?,
            targets,
            temperature,
            d: d_log_prob.numbers()?,
        };
        let d_hidden = d_weight.write(|d_weight| log_prob::backward(input, dims, d_weight))?;
        Ok(HostTensor::new(head.hidden.shape, d_hidden))
    }

    fn divergence_backward(
        &self,
        student: Head<'_, HostTensor>,
        teacher: Head<'_, HostTensor>,
        divergence: Divergence,
        d: &HostTensor,
        d_weight: &mut HostTensor,
    ) -> Result<HostTensor> {
        let dims = check::divergence_backward(
            HeadShapes::of(student, HostTensor::shape),
            HeadShapes::of(teacher, HostTensor::shape),
            divergence,
            d.shape,
            d_weight.shape,
        )?;
        let (heads, d) = (heads(student, teacher)?, d.numbers()?);
        let d_hidden = d_weight
            .write(|d_weight| divergence::backward(heads, divergence, d, dims, d_weight))?;
        Ok(HostTensor::new(student.hidden.shape, d_hidden))
    }

    fn accumulate(&self, dst: &mut HostTensor, src: &HostTensor) -> Result<()> {
        check::accumulate(dst.shape, src.shape)?;
        let src = src.numbers()?;
        dst.write(|dst| norm::accumulate(dst, src))
    }

    fn clear(&self, x: &mut HostTensor) -> Result<()> {
        x.write(|x| x.fill(0.0))
    }

    fn norm_squared(&self, tensors: &[&HostTensor]) -> Result<f64> {
        let tensors: Vec<&[f32]> = tensors.iter().map(|x| x.numbers()).collect::<Result<_>>()?;
        Ok(norm::norm_squared(&tensors))
    }

    fn adamw(
        &self,
        param: &mut HostTensor,
        gradient: &HostTensor,
        moments: [&mut HostTensor; 2],
        step: &AdamW,
    ) -> Result<()> {
        let [first, second] = moments;
        check::adamw(
            param.shape,
            gradient.shape,
            [first.shape, second.shape],
            step,
        )?;
        let gradient = gradient.numbers()?;
        optim::adamw(
            param.numbers_mut()?,
            gradient,
            [first.numbers_mut()?, second.numbers_mut()?],
            step,
        );
        param.settle();
        first.settle();
        second.settle();
        Ok(())
    }

    fn muon(
        &self,
        param: &mut HostTensor,
        gradient: &HostTensor,
        momentum: &mut HostTensor,
        step: &Muon,
    ) -> Result<()> {
        let dims = check::muon(param.shape, gradient.shape, momentum.shape, step)?;
        let gradient = gradient.numbers()?;
        optim::muon(
            param.numbers_mut()?,
            gradient,
            momentum.numbers_mut()?,
            step,
            dims,
        );
        param.settle();
        momentum.settle();
        Ok(())
    }
}

/// Router operands, the chosen experts checked.
fn routed<'a>(
    op: &'static str,
    logits: &'a HostTensor,
    router: &'a Router,
    route: &'a Route<HostTensor>,
) -> Result<Routed<'a>> {
    let experts = route.experts.indices()?;
    expect_indices(op, "expert", experts, logits.shape.cols())?;
    Ok(Routed {
        logits: logits.numbers()?,
        experts,
        router,
    })
}
