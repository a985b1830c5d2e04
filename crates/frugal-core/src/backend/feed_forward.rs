//! The feed-forward as one operation, and operation by operation for back-ends that have no better.

use super::{Backend, Linear, Route, TrainBackend};
use crate::error::Result;

/// A feed-forward, dense or of experts: down(silu(gate x) * up x).
#[derive(Debug)]
pub struct FeedForward<'a, T> {
    /// `[T, K]`; in expert order where there is a route.
    pub x: &'a T,
    /// `[N, K]`, or `[E, N, K]`.
    pub gate: &'a T,
    /// As the gate.
    pub up: &'a T,
    /// `[D, N]`, or `[E, D, N]`.
    pub down: &'a T,
    /// The experts that own the rows; none for one weight.
    pub route: Option<&'a Route<T>>,
}

impl<T> FeedForward<'_, T> {
    /// `x weightᵀ`, by experts where there is a route.
    fn product<B: Backend<Tensor = T> + ?Sized>(&self, b: &B, x: &T, weight: &T) -> Result<T> {
        match self.route {
            None => b.linear(x, Linear::by_policy(weight)),
            Some(route) => b.grouped_linear(x, weight, route),
        }
    }

    /// The backward, operation by operation.
    ///
    /// # Errors
    /// As the operations.
    pub fn back_by_parts<B: TrainBackend<Tensor = T> + ?Sized>(
        &self,
        b: &B,
        saved: &FeedForwardSaved<T>,
        dy: &T,
        [d_gate_weight, d_up_weight, d_down_weight]: [&mut T; 3],
    ) -> Result<T> {
        let back = |x, weight, dy, d_weight| match self.route {
            None => b.linear_backward(x, Linear::by_policy(weight), dy, d_weight, None),
            Some(route) => b.grouped_linear_backward(x, weight, route, dy, d_weight),
        };
        let d_gated = back(&saved.gated, self.down, dy, d_down_weight)?;
        let (d_gate, d_up) = b.swiglu_backward(&saved.gate, &saved.up, &d_gated)?;
        let mut dx = back(self.x, self.gate, &d_gate, d_gate_weight)?;
        let more = back(self.x, self.up, &d_up, d_up_weight)?;
        b.accumulate(&mut dx, &more)?;
        Ok(dx)
    }

    /// The forward, operation by operation.
    ///
    /// # Errors
    /// As the operations.
    pub fn by_parts<B: Backend<Tensor = T> + ?Sized>(&self, b: &B) -> Result<FeedForwardSaved<T>> {
        let gate = self.product(b, self.x, self.gate)?;
        let up = self.product(b, self.x, self.up)?;
        let gated = b.swiglu(&gate, &up)?;
        let output = self.product(b, &gated, self.down)?;
        Ok(FeedForwardSaved {
            output,
            gate,
            up,
            gated,
        })
    }
}

/// What [`TrainBackend::feed_forward_saved`] returns.
#[derive(Debug, Clone)]
pub struct FeedForwardSaved<T> {
    /// `[T, D]`.
    pub output: T,
    /// gate x.
    pub gate: T,
    /// up x.
    pub up: T,
    /// silu(gate x) * up x.
    pub gated: T,
}
