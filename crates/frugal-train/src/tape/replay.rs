//! The backward: the notes in reverse.
//!
//! A gradient is moved into its slot when it is the first to arrive and added when it is not, so a
//! value read once costs no addition and no zeros. A node whose outputs received nothing is skipped.

use frugal_core::backend::{FeedForward, Head, Linear, TrainBackend};
use frugal_core::error::{Error, Result, expect_shape};
use frugal_core::shape::Shape;

use super::node::{AttentionNode, DivergenceNode, FeedForwardNode, Node, Op, Source};
use super::{Grads, Var};

/// Replays `nodes` from the seeds; see [`super::Tape::backward`].
pub(super) fn run<B: TrainBackend>(
    backend: &B,
    mut nodes: Vec<Node<B::Tensor>>,
    n_slots: usize,
    seeds: &[(&Var<B::Tensor>, B::Tensor)],
    grads: &mut Grads<B::Tensor>,
) -> Result<()> {
    let mut replay = Replay {
        backend,
        slots: std::iter::repeat_with(|| None).take(n_slots).collect(),
        grads,
    };
    for (var, seed) in seeds {
        expect_shape(
            "backward",
            "seed",
            backend.shape(&var.value),
            backend.shape(seed),
        )?;
        replay.deliver(var.source, seed.clone())?;
    }
    while let Some(node) = nodes.pop() {
        replay.node(node)?;
    }
    Ok(())
}

struct Replay<'a, B: TrainBackend> {
    backend: &'a B,
    slots: Vec<Option<B::Tensor>>,
    grads: &'a mut Grads<B::Tensor>,
}

impl<B: TrainBackend> Replay<'_, B> {
    fn slot(&mut self, slot: usize) -> Result<&mut Option<B::Tensor>> {
        self.slots.get_mut(slot).ok_or_else(|| Error::Setting {
            op: "backward",
            reason: "expected values of this tape, got one of another".into(),
        })
    }

    /// Adds a gradient to where it belongs.
    fn deliver(&mut self, to: Source, gradient: B::Tensor) -> Result<()> {
        let backend = self.backend;
        let so_far = match to {
            Source::Constant => return Ok(()),
            Source::Leaf(leaf) => self.grads.take_live(leaf),
            Source::Slot(slot) => self.slot(slot)?.take(),
        };
        let sum = match so_far {
            None => gradient,
            Some(mut sum) => {
                backend.accumulate(&mut sum, &gradient)?;
                sum
            }
        };
        self.put(to, sum)
    }

    fn put(&mut self, to: Source, sum: B::Tensor) -> Result<()> {
        match to {
            Source::Constant => {}
            Source::Leaf(leaf) => self.grads.put(leaf, sum),
            Source::Slot(slot) => *self.slot(slot)? = Some(sum),
        }
        Ok(())
    }

    /// An accumulator for operations that add into one: the sum so far, or zeros.
    fn accumulator(&mut self, to: Source, shape: Shape) -> Result<B::Tensor> {
        let so_far = match to {
            // A frozen weight: the operation wants an accumulator all the same.
            Source::Constant => None,
            Source::Leaf(leaf) => self.grads.take(leaf),
            Source::Slot(slot) => self.slot(slot)?.take(),
        };
        so_far.map_or_else(|| self.backend.zeros(shape), Ok)
    }

    fn accumulator_of(&mut self, weight: &Var<B::Tensor>) -> Result<B::Tensor> {
        self.accumulator(weight.source, self.backend.shape(&weight.value))
    }

    /// Runs one backward that adds into the gradient of `weight` and returns that of `x`.
    fn with_weight(
        &mut self,
        x: Source,
        weight: &Var<B::Tensor>,
        backward: impl FnOnce(&B, &mut B::Tensor) -> Result<B::Tensor>,
    ) -> Result<()> {
        let mut d_weight = self.accumulator_of(weight)?;
        let dx = backward(self.backend, &mut d_weight)?;
        self.put(weight.source, d_weight)?;
        self.deliver(x, dx)
    }

    /// As [`Self::with_weight`], for a backward that adds to the gradient of `x` so far.
    fn onto_with_weight(
        &mut self,
        x: Source,
        weight: &Var<B::Tensor>,
        backward: impl FnOnce(&B, Option<B::Tensor>, &mut B::Tensor) -> Result<B::Tensor>,
    ) -> Result<()> {
        let Source::Slot(slot) = x else {
            return self.with_weight(x, weight, |b, d_weight| backward(b, None, d_weight));
        };
        let mut d_weight = self.accumulator_of(weight)?;
        let so_far = self.slot(slot)?.take();
        let dx = backward(self.backend, so_far, &mut d_weight)?;
        self.put(weight.source, d_weight)?;
        self.put(x, dx)
    }

    fn rms_norm(
        &mut self,
        x: &Var<B::Tensor>,
        weight: &Var<B::Tensor>,
        eps: f32,
        dy: &B::Tensor,
    ) -> Result<()> {
        self.onto_with_weight(x.source, weight, |b, so_far, d_weight| match so_far {
            Some(so_far) => {
                b.rms_norm_backward_onto(so_far, (&x.value, &weight.value, eps), dy, d_weight)
            }
            None => b.rms_norm_backward(&x.value, &weight.value, eps, dy, d_weight),
        })
    }

    fn feed_forward(&mut self, node: &FeedForwardNode<B::Tensor>, dy: &B::Tensor) -> Result<()> {
        let [gate, up, down] = &node.weights;
        let mut d_gate = self.accumulator_of(gate)?;
        let mut d_up = self.accumulator_of(up)?;
        let mut d_down = self.accumulator_of(down)?;
        let of = FeedForward {
            x: &node.x.value,
            gate: &gate.value,
            up: &up.value,
            down: &down.value,
            route: node.route.as_ref(),
        };
        let to = [&mut d_gate, &mut d_up, &mut d_down];
        let b = self.backend;
        let dx = b.feed_forward_backward(&of, &node.saved, dy, to)?;
        self.put(gate.source, d_gate)?;
        self.put(up.source, d_up)?;
        self.put(down.source, d_down)?;
        self.deliver(node.x.source, dx)
    }

    fn node(&mut self, node: Node<B::Tensor>) -> Result<()> {
        let Node { op, first } = node;
        if let Op::Split {
            x,
            n_rows,
            n_heads,
            widths,
        } = op
        {
            return self.split(first, x, n_rows, n_heads, &widths);
        }
        let dy = self.slot(first)?.take();
        if let Op::Route { .. } = op {
            return self.route(op, dy);
        }
        dy.map_or(Ok(()), |dy| self.undo(op, dy))
    }

    fn undo(&mut self, op: Op<B::Tensor>, dy: B::Tensor) -> Result<()> {
        let b = self.backend;
        match op {
            Op::Linear {
                x,
                weight,
                bias,
                product,
            } => {
                let mut d_bias = match &bias {
                    Some(bias) => Some(self.accumulator_of(bias)?),
                    None => None,
                };
                self.onto_with_weight(x.source, &weight, |b, so_far, d_weight| {
                    let w = Linear {
                        weight: &weight.value,
                        bias: bias.as_ref().map(|bias| &bias.value),
                        product,
                    };
                    let (of, d_bias) = ((&x.value, w), d_bias.as_mut());
                    match so_far {
                        Some(so_far) => b.linear_backward_onto(so_far, of, &dy, (d_weight, d_bias)),
                        None => b.linear_backward(of.0, w, &dy, d_weight, d_bias),
                    }
                })?;
                match (bias, d_bias) {
                    (Some(bias), Some(d_bias)) => self.put(bias.source, d_bias),
                    _ => Ok(()),
                }
            }
            Op::GroupedLinear { xs, weight, route } => {
                self.with_weight(xs.source, &weight, |b, d_weight| {
                    b.grouped_linear_backward(&xs.value, &weight.value, &route, &dy, d_weight)
                })
            }
            Op::Gather { table, shape, ids } => {
                let mut d_table = self.accumulator(table, shape)?;
                b.gather_backward(&ids, &dy, &mut d_table)?;
                self.put(table, d_table)
            }
            Op::RmsNorm { x, weight, eps } => self.rms_norm(&x, &weight, eps, &dy),
            Op::FeedForward(node) => self.feed_forward(&node, &dy),
            Op::Swiglu { gate, up } => {
                let (d_gate, d_up) = b.swiglu_backward(&gate.value, &up.value, &dy)?;
                self.deliver(gate.source, d_gate)?;
                self.deliver(up.source, d_up)
            }
            Op::Add { a, b } => {
                self.deliver(a, dy.clone())?;
                self.deliver(b, dy)
            }
            Op::Join {
                parts,
                n_heads,
                widths,
            } => {
                let gradients = b.split(&dy, n_heads, &widths)?;
                drop(dy);
                parts
                    .into_iter()
                    .zip(gradients)
                    .try_for_each(|(part, gradient)| self.deliver(part, gradient))
            }
            Op::Rope {
                x,
                table,
                positions,
                columns,
            } => {
                let dx = b.rope_backward(&dy, &table, &positions, columns)?;
                self.deliver(x, dx)
            }
            Op::Attention(node) => self.attention(&node, &dy),
            Op::Dispatch { x, route } => {
                let dx = b.dispatch_backward(&dy, &route)?;
                self.deliver(x, dx)
            }
            Op::Combine { ys, weights, route } => {
                let (d_ys, d_weights) = b.combine_backward_for_products(&ys.value, &route, &dy)?;
                self.deliver(ys.source, d_ys)?;
                self.deliver(weights, d_weights)
            }
            Op::LogProb {
                hidden,
                weight,
                targets,
                temperature,
            } => self.with_weight(hidden.source, &weight, |b, d_weight| {
                let head = Head {
                    hidden: &hidden.value,
                    weight: &weight.value,
                };
                b.log_prob_backward(head, &targets, temperature, &dy, d_weight)
            }),
            Op::Divergence(node) => self.divergence(&node, &dy),
            // Both have more than one gradient to look at and were handled by the caller.
            Op::Split { .. } | Op::Route { .. } => Ok(()),
        }
    }

    fn attention(&mut self, node: &AttentionNode<B::Tensor>, dy: &B::Tensor) -> Result<()> {
        let grads = self.backend.attention_backward(
            &node.q.value,
            node.keys.values(),
            &node.settings(),
            &node.saved,
            dy,
        )?;
        let [first, second] = node.keys.sources();
        self.deliver(node.q.source, grads.q)?;
        self.deliver(first, grads.first)?;
        self.deliver(second, grads.second)
    }

    /// The teacher's side has no gradient: neither its head nor its hidden state is a weight here.
    fn divergence(&mut self, node: &DivergenceNode<B::Tensor>, dy: &B::Tensor) -> Result<()> {
        self.with_weight(node.hidden.source, &node.weight, |b, d_weight| {
            let student = Head {
                hidden: &node.hidden.value,
                weight: &node.weight.value,
            };
            let teacher = Head {
                hidden: &node.teacher_hidden,
                weight: &node.teacher_weight,
            };
            b.divergence_backward(student, teacher, node.divergence, dy, d_weight)
        })
    }

    /// Parts that nothing was read from get zeros; if all are such, so is the whole.
    fn split(
        &mut self,
        first: usize,
        x: Source,
        n_rows: usize,
        n_heads: usize,
        widths: &[usize],
    ) -> Result<()> {
        let mut parts = Vec::with_capacity(widths.len());
        for slot in first..first + widths.len() {
            parts.push(self.slot(slot)?.take());
        }
        if parts.iter().all(Option::is_none) {
            return Ok(());
        }
        let mut gradients = Vec::with_capacity(parts.len());
        for (part, width) in parts.into_iter().zip(widths) {
            gradients.push(match part {
                Some(gradient) => gradient,
                None => self.backend.zeros(Shape::matrix(n_rows, n_heads * width))?,
            });
        }
        let gradients: Vec<_> = gradients.iter().collect();
        let dx = self.backend.join(&gradients, n_heads)?;
        self.deliver(x, dx)
    }

    /// The balance loss pulls on the logits even where the weights were not read.
    fn route(&mut self, op: Op<B::Tensor>, d_weights: Option<B::Tensor>) -> Result<()> {
        let Op::Route {
            logits,
            router,
            route,
            balance,
        } = op
        else {
            return Ok(());
        };
        let d_weights = match d_weights {
            Some(d_weights) => d_weights,
            None if balance.is_none() => return Ok(()),
            None => self.backend.zeros(self.backend.shape(&route.weights))?,
        };
        let d_logits = self.backend.route_backward(
            &logits.value,
            &router,
            &route,
            &d_weights,
            balance.as_ref().map(super::SequenceBalance::as_asked),
        )?;
        self.deliver(logits.source, d_logits)
    }
}
