//! The price of the training half. A product's backward forms two products of the same size, one
//! for each operand; attention's recomputes the scores and forms four more.

use crate::backend::{
    AdamW, Attention, AttentionGrads, AttentionSaved, Balance, Divergence, Head, Keys, Linear,
    Muon, RopeColumns, Route, Router, TrainBackend,
};
use crate::dtype::DType;
use crate::error::Result;
use crate::meter::{Ghost, Meter, key_tensors, route_shapes, shape_of, visible_pairs};
use crate::ops::check::{self, AttentionGradShapes, HeadShapes, KeyShapes, LinearGradShapes};
use crate::shape::Shape;

impl Meter {
    fn count_elementwise(&self, flops: usize) {
        self.count(|price| price.elementwise_flops += flops as u64);
    }
}

impl TrainBackend for Meter {
    fn linear_backward(
        &self,
        x: &Ghost,
        w: Linear<'_, Ghost>,
        dy: &Ghost,
        d_weight: &mut Ghost,
        d_bias: Option<&mut Ghost>,
    ) -> Result<Ghost> {
        let gradients = LinearGradShapes {
            dy: shape_of(dy),
            d_weight: shape_of(d_weight),
            d_bias: d_bias.map(|d| shape_of(d)),
        };
        let bias = w.bias.map(shape_of);
        let dims = check::linear_backward(shape_of(x), shape_of(w.weight), bias, gradients)?;
        let multiply_adds = 2 * dims.rows * dims.n * dims.k;
        self.traffic(&[dy, d_weight], &[d_weight]);
        self.product(shape_of(x), multiply_adds, &[x, w.weight, dy])
    }

    fn grouped_linear_backward(
        &self,
        xs: &Ghost,
        weight: &Ghost,
        route: &Route<Ghost>,
        dy: &Ghost,
        d_weight: &mut Ghost,
    ) -> Result<Ghost> {
        let dims = check::grouped_linear_backward(
            shape_of(xs),
            shape_of(weight),
            &route_shapes(route),
            shape_of(dy),
            shape_of(d_weight),
        )?;
        let multiply_adds = 2 * dims.route.slots() * dims.n * dims.k;
        self.traffic(&[dy, d_weight], &[d_weight]);
        self.product(shape_of(xs), multiply_adds, &[xs, weight, dy])
    }

    fn gather_backward(&self, ids: &[u32], dy: &Ghost, d_table: &mut Ghost) -> Result<()> {
        let dims = check::gather_backward(ids, shape_of(dy), shape_of(d_table))?;
        self.count_elementwise(dims.rows * dims.width);
        self.traffic(&[dy, dy], &[dy]);
        Ok(())
    }

    fn rms_norm_backward(
        &self,
        x: &Ghost,
        weight: &Ghost,
        eps: f32,
        dy: &Ghost,
        d_weight: &mut Ghost,
    ) -> Result<Ghost> {
        let shapes = [
            shape_of(x),
            shape_of(weight),
            shape_of(dy),
            shape_of(d_weight),
        ];
        check::rms_norm_backward(shapes[0], shapes[1], eps, shapes[2], shapes[3])?;
        self.elementwise(shape_of(x), 10 * shape_of(x).elements(), &[x, dy])
    }

    fn swiglu_backward(&self, gate: &Ghost, up: &Ghost, dy: &Ghost) -> Result<(Ghost, Ghost)> {
        let n = check::swiglu_backward(shape_of(gate), shape_of(up), shape_of(dy))?;
        let d_gate = self.elementwise(shape_of(gate), 9 * n, &[gate, up, dy])?;
        Ok((d_gate, self.elementwise(shape_of(up), n, &[])?))
    }

    fn rope_backward(
        &self,
        dy: &Ghost,
        table: &Ghost,
        positions: &[u32],
        columns: RopeColumns,
    ) -> Result<Ghost> {
        let dims = check::rope_backward(shape_of(dy), shape_of(table), positions, columns)?;
        self.elementwise(
            shape_of(dy),
            3 * dims.rows * columns.n_heads * columns.width,
            &[dy],
        )
    }

    fn attention_saved(
        &self,
        q: &Ghost,
        keys: Keys<'_, Ghost>,
        attention: &Attention<'_>,
    ) -> Result<AttentionSaved<Ghost>> {
        let dims = check::attention_saved(shape_of(q), KeyShapes::of(keys, shape_of), attention)?;
        let output = self.attend(q, keys, attention, &dims)?;
        let log_sum = self.make(Shape::matrix(dims.rows, dims.n_heads), DType::F32)?;
        Ok(AttentionSaved { output, log_sum })
    }

    fn attention_backward(
        &self,
        q: &Ghost,
        keys: Keys<'_, Ghost>,
        attention: &Attention<'_>,
        saved: &AttentionSaved<Ghost>,
        dy: &Ghost,
    ) -> Result<AttentionGrads<Ghost>> {
        let gradients = AttentionGradShapes {
            output: shape_of(&saved.output),
            log_sum: shape_of(&saved.log_sum),
            dy: shape_of(dy),
        };
        let dims = check::attention_backward(
            shape_of(q),
            KeyShapes::of(keys, shape_of),
            attention,
            gradients,
        )?;
        let pairs = dims.n_heads * visible_pairs(&dims, attention);
        // Scores again, d query and d key over the key's width; d weight and d value over the value's.
        self.count(|price| {
            price.attention_flops += 2 * (pairs * (3 * dims.q_width + 2 * dims.value_width)) as u64;
            price.elementwise_flops += 6 * pairs as u64;
        });
        let tensors = key_tensors(keys);
        let first = tensors.first().map_or(Shape::vector(0), |x| shape_of(x));
        let second = tensors.get(1).map_or(Shape::matrix(0, 0), |x| shape_of(x));
        self.traffic(&tensors, &tensors);
        self.traffic(&[q, dy, &saved.output], &[q]);
        Ok(AttentionGrads {
            q: self.make(shape_of(q), DType::F32)?,
            first: self.make(first, DType::F32)?,
            second: self.make(second, DType::F32)?,
        })
    }

    fn route_backward(
        &self,
        logits: &Ghost,
        router: &Router,
        route: &Route<Ghost>,
        d_weights: &Ghost,
        balance: Option<Balance<'_>>,
    ) -> Result<Ghost> {
        let shapes = route_shapes(route);
        let (logits_shape, d_weights) = (shape_of(logits), shape_of(d_weights));
        check::route_backward(logits_shape, router, &shapes, d_weights, balance.as_ref())?;
        self.elementwise(logits_shape, 10 * logits_shape.elements(), &[logits])
    }

    fn balance_loss(
        &self,
        logits: &Ghost,
        router: &Router,
        route: &Route<Ghost>,
        balance: Balance<'_>,
    ) -> Result<f32> {
        check::balance_loss(shape_of(logits), router, &route_shapes(route), &balance)?;
        self.count_elementwise(5 * shape_of(logits).elements());
        Ok(0.0)
    }

    fn dispatch_backward(&self, dxs: &Ghost, route: &Route<Ghost>) -> Result<Ghost> {
        let dims = check::dispatch_backward(shape_of(dxs), &route_shapes(route))?;
        let out = Shape::matrix(dims.route.rows, dims.width);
        self.elementwise(out, shape_of(dxs).elements(), &[dxs])
    }

    fn combine_backward(
        &self,
        ys: &Ghost,
        route: &Route<Ghost>,
        dy: &Ghost,
    ) -> Result<(Ghost, Ghost)> {
        check::combine_backward(shape_of(ys), &route_shapes(route), shape_of(dy))?;
        let elements = shape_of(ys).elements();
        let d_ys = self.elementwise(shape_of(ys), elements, &[ys, dy])?;
        Ok((
            d_ys,
            self.elementwise(shape_of(&route.weights), 2 * elements, &[])?,
        ))
    }

    fn log_prob_backward(
        &self,
        head: Head<'_, Ghost>,
        targets: &[u32],
        temperature: f32,
        d_log_prob: &Ghost,
        d_weight: &mut Ghost,
    ) -> Result<Ghost> {
        let shapes = HeadShapes::of(head, shape_of);
        let d = shape_of(d_log_prob);
        let dims = check::log_prob_backward(shapes, targets, temperature, d, shape_of(d_weight))?;
        // The logits are formed again, then one product for each operand.
        let logits = dims.rows * dims.n;
        self.count_elementwise(4 * logits);
        self.product(
            shapes.hidden,
            3 * logits * dims.k,
            &[head.hidden, head.weight, d_weight],
        )
    }

    fn divergence_backward(
        &self,
        student: Head<'_, Ghost>,
        teacher: Head<'_, Ghost>,
        divergence: Divergence,
        d: &Ghost,
        d_weight: &mut Ghost,
    ) -> Result<Ghost> {
        let shapes = [
            HeadShapes::of(student, shape_of),
            HeadShapes::of(teacher, shape_of),
        ];
        let dims = check::divergence_backward(
            shapes[0],
            shapes[1],
            divergence,
            shape_of(d),
            shape_of(d_weight),
        )?;
        let logits = dims.rows * dims.vocabulary;
        self.count_elementwise(15 * logits);
        let read = [
            student.hidden,
            student.weight,
            teacher.hidden,
            teacher.weight,
            d_weight,
        ];
        self.product(
            shapes[0].hidden,
            logits * (3 * dims.student + dims.teacher),
            &read,
        )
    }

    fn accumulate(&self, dst: &mut Ghost, src: &Ghost) -> Result<()> {
        self.count_elementwise(check::accumulate(shape_of(dst), shape_of(src))?);
        self.traffic(&[dst, src], &[dst]);
        Ok(())
    }

    fn clear(&self, x: &mut Ghost) -> Result<()> {
        self.traffic(&[], &[x]);
        Ok(())
    }

    fn norm_squared(&self, tensors: &[&Ghost]) -> Result<f64> {
        self.count_elementwise(tensors.iter().map(|x| 2 * shape_of(x).elements()).sum());
        self.traffic(tensors, &[]);
        Ok(0.0)
    }

    fn adamw(
        &self,
        param: &mut Ghost,
        gradient: &Ghost,
        moments: [&mut Ghost; 2],
        step: &AdamW,
    ) -> Result<()> {
        let [first, second] = moments;
        let shapes = [shape_of(first), shape_of(second)];
        let n = check::adamw(shape_of(param), shape_of(gradient), shapes, step)?;
        self.count_elementwise(14 * n);
        self.traffic(&[param, gradient, first, second], &[param, first, second]);
        Ok(())
    }

    fn muon(
        &self,
        param: &mut Ghost,
        gradient: &Ghost,
        momentum: &mut Ghost,
        step: &Muon,
    ) -> Result<()> {
        let dims = check::muon(
            shape_of(param),
            shape_of(gradient),
            shape_of(momentum),
            step,
        )?;
        let (small, large) = (dims.n.min(dims.k), dims.n.max(dims.k));
        // Five iterations of X Xᵀ, its square, and their sum times X.
        let multiply_adds = 5 * dims.stacked * (2 * small * small * large + small * small * small);
        self.count(|price| price.product_flops += 2 * multiply_adds as u64);
        self.count_elementwise(8 * shape_of(param).elements());
        self.traffic(&[param, gradient, momentum], &[param, momentum]);
        Ok(())
    }
}
