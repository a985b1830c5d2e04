//! The forward: each call goes to the back-end below, and its note onto the tape.

use std::rc::Rc;

use frugal_core::backend::{
    Attention, Backend, Context, Divergence, FeedForward, Head, HeadProduct, KeyStore, Keys,
    Linear, LogProbs, Picked, RopeColumns, Route, Router, Sampling, TrainBackend,
};
use frugal_core::dtype::{DType, Data};
use frugal_core::error::{Error, Result};
use frugal_core::shape::{Rows, Shape};
use frugal_core::stored::Stored;

use super::node::{AttentionNode, DivergenceNode, FeedForwardNode, Node, Op, OwnedKeys, Source};
use super::{State, Tape, Var};

const fn unsupported(op: &'static str, reason: &'static str) -> Error {
    Error::Unsupported {
        op,
        backend: "the tape",
        reason,
    }
}

impl<T> State<T> {
    fn node(&mut self, op: Op<T>, n_outputs: usize) -> usize {
        let first = self.n_slots;
        self.n_slots += n_outputs;
        self.nodes.push(Node { op, first });
        first
    }

    fn rows(&mut self, rows: &Rows) -> Rc<Rows> {
        match &self.rows {
            Some(last) if **last == *rows => Rc::clone(last),
            _ => Rc::clone(self.rows.insert(Rc::new(rows.clone()))),
        }
    }

    fn positions(&mut self, positions: &[u32]) -> Rc<[u32]> {
        match &self.positions {
            Some(last) if **last == *positions => Rc::clone(last),
            _ => Rc::clone(self.positions.insert(positions.into())),
        }
    }
}

fn is_live(sources: &[Source]) -> bool {
    sources.iter().any(|source| *source != Source::Constant)
}

fn constant<T>(value: T) -> Var<T> {
    Var {
        value,
        source: Source::Constant,
    }
}

/// The route as the back-end below knows it.
fn plain<T: Clone>(route: &Route<Var<T>>) -> Route<T> {
    Route {
        experts: route.experts.value.clone(),
        weights: route.weights.value.clone(),
        order: route.order.value.clone(),
        offsets: route.offsets.value.clone(),
    }
}

const fn head<T>(head: Head<'_, Var<T>>) -> Head<'_, T> {
    Head {
        hidden: &head.hidden.value,
        weight: &head.weight.value,
    }
}

impl<B: TrainBackend> Tape<'_, B> {
    /// A value made from `inputs`: noted if one of them reaches a leaf.
    fn note(
        &self,
        value: B::Tensor,
        inputs: &[Source],
        op: impl FnOnce(&mut State<B::Tensor>) -> Op<B::Tensor>,
    ) -> Var<B::Tensor> {
        if !is_live(inputs) {
            return constant(value);
        }
        let mut state = self.state.borrow_mut();
        let op = op(&mut state);
        let source = Source::Slot(state.node(op, 1));
        Var { value, source }
    }

    fn shape_of(&self, x: &Var<B::Tensor>) -> Shape {
        self.backend.shape(&x.value)
    }
}

impl<B: TrainBackend> Backend for Tape<'_, B> {
    type Tensor = Var<B::Tensor>;

    fn put(&self, shape: Shape, data: Data<'_>) -> Result<Self::Tensor> {
        self.backend.put(shape, data).map(constant)
    }

    fn keep(&self, shape: Shape, parts: &[Stored]) -> Result<Self::Tensor> {
        self.backend.keep(shape, parts).map(constant)
    }

    fn put_indices(&self, indices: &[u32]) -> Result<Self::Tensor> {
        self.backend.put_indices(indices).map(constant)
    }

    fn get(&self, x: &Self::Tensor) -> Result<Vec<f32>> {
        self.backend.get(&x.value)
    }

    fn get_indices(&self, x: &Self::Tensor) -> Result<Vec<u32>> {
        self.backend.get_indices(&x.value)
    }

    fn zeros(&self, shape: Shape) -> Result<Self::Tensor> {
        self.backend.zeros(shape).map(constant)
    }

    fn key_store(&self, store: &KeyStore) -> Result<Self::Tensor> {
        self.backend.key_store(store).map(constant)
    }

    fn shape(&self, x: &Self::Tensor) -> Shape {
        self.shape_of(x)
    }

    /// Rounding has no derivative worth having: the gradient passes straight through.
    fn cast(&self, x: &Self::Tensor, dtype: DType) -> Result<Self::Tensor> {
        let value = self.backend.cast(&x.value, dtype)?;
        Ok(Var {
            value,
            source: x.source,
        })
    }

    fn append(&self, _: &mut Self::Tensor, _: &Self::Tensor, _: &[u32]) -> Result<()> {
        Err(unsupported(
            "append",
            "a cache is written in place; train on whole sequences",
        ))
    }

    fn copy_rows(&self, _: &mut Self::Tensor, _: &[u32], _: &[u32]) -> Result<()> {
        Err(unsupported(
            "copy_rows",
            "a cache is written in place; train on whole sequences",
        ))
    }

    fn sync(&self) -> Result<()> {
        self.backend.sync()
    }

    fn linear(&self, x: &Self::Tensor, w: Linear<'_, Self::Tensor>) -> Result<Self::Tensor> {
        let below = Linear {
            weight: &w.weight.value,
            bias: w.bias.map(|bias| &bias.value),
            product: w.product,
        };
        let value = self.backend.linear(&x.value, below)?;
        let bias = w.bias.map_or(Source::Constant, |bias| bias.source);
        Ok(
            self.note(value, &[x.source, w.weight.source, bias], |_| Op::Linear {
                x: x.clone(),
                weight: w.weight.clone(),
                bias: w.bias.cloned(),
                product: w.product,
            }),
        )
    }

    fn per_head_linear(
        &self,
        _: &Self::Tensor,
        _: &Self::Tensor,
        _: &HeadProduct,
    ) -> Result<Self::Tensor> {
        Err(unsupported(
            "per_head_linear",
            "absorbed MLA is for inference; train with naive MLA",
        ))
    }

    fn grouped_linear(
        &self,
        xs: &Self::Tensor,
        weight: &Self::Tensor,
        route: &Route<Self::Tensor>,
    ) -> Result<Self::Tensor> {
        let route = plain(route);
        let value = self
            .backend
            .grouped_linear(&xs.value, &weight.value, &route)?;
        Ok(
            self.note(value, &[xs.source, weight.source], |_| Op::GroupedLinear {
                xs: xs.clone(),
                weight: weight.clone(),
                route,
            }),
        )
    }

    fn gather(&self, table: &Self::Tensor, ids: &[u32]) -> Result<Self::Tensor> {
        let value = self.backend.gather(&table.value, ids)?;
        Ok(self.note(value, &[table.source], |_| Op::Gather {
            table: table.source,
            shape: self.shape_of(table),
            ids: ids.to_vec(),
        }))
    }

    fn rms_norm(&self, x: &Self::Tensor, weight: &Self::Tensor, eps: f32) -> Result<Self::Tensor> {
        let value = self.backend.rms_norm(&x.value, &weight.value, eps)?;
        Ok(
            self.note(value, &[x.source, weight.source], |_| Op::RmsNorm {
                x: x.clone(),
                weight: weight.clone(),
                eps,
            }),
        )
    }

    fn rms_norm_for_products(
        &self,
        x: &Self::Tensor,
        weight: &Self::Tensor,
        eps: f32,
    ) -> Result<Self::Tensor> {
        let value = self
            .backend
            .rms_norm_to_learn(&x.value, &weight.value, eps)?;
        Ok(
            self.note(value, &[x.source, weight.source], |_| Op::RmsNorm {
                x: x.clone(),
                weight: weight.clone(),
                eps,
            }),
        )
    }

    fn feed_forward(&self, of: &FeedForward<'_, Self::Tensor>) -> Result<Self::Tensor> {
        let route = of.route.map(plain);
        let below = FeedForward {
            x: &of.x.value,
            gate: &of.gate.value,
            up: &of.up.value,
            down: &of.down.value,
            route: route.as_ref(),
        };
        let inputs = [of.x.source, of.gate.source, of.up.source, of.down.source];
        if !is_live(&inputs) {
            return self.backend.feed_forward(&below).map(constant);
        }
        let saved = self.backend.feed_forward_saved(&below)?;
        let value = saved.output.clone();
        let node = FeedForwardNode {
            x: of.x.clone(),
            weights: [of.gate, of.up, of.down].map(Clone::clone),
            route,
            saved,
        };
        Ok(self.note(value, &inputs, |_| Op::FeedForward(Box::new(node))))
    }

    fn swiglu(&self, gate: &Self::Tensor, up: &Self::Tensor) -> Result<Self::Tensor> {
        let value = self.backend.swiglu(&gate.value, &up.value)?;
        Ok(self.note(value, &[gate.source, up.source], |_| Op::Swiglu {
            gate: gate.clone(),
            up: up.clone(),
        }))
    }

    fn add(&self, a: &Self::Tensor, b: &Self::Tensor) -> Result<Self::Tensor> {
        let value = self.backend.add(&a.value, &b.value)?;
        Ok(self.note(value, &[a.source, b.source], |_| Op::Add {
            a: a.source,
            b: b.source,
        }))
    }

    fn split(
        &self,
        x: &Self::Tensor,
        n_heads: usize,
        widths: &[usize],
    ) -> Result<Vec<Self::Tensor>> {
        let parts = self.backend.split(&x.value, n_heads, widths)?;
        if !is_live(&[x.source]) {
            return Ok(parts.into_iter().map(constant).collect());
        }
        let op = Op::Split {
            x: x.source,
            n_rows: self.shape_of(x).rows(),
            n_heads,
            widths: widths.to_vec(),
        };
        let first = self.state.borrow_mut().node(op, parts.len());
        let slots = (first..).map(Source::Slot);
        Ok(parts
            .into_iter()
            .zip(slots)
            .map(|(value, source)| Var { value, source })
            .collect())
    }

    fn join(&self, parts: &[&Self::Tensor], n_heads: usize) -> Result<Self::Tensor> {
        let values: Vec<_> = parts.iter().map(|part| &part.value).collect();
        let value = self.backend.join(&values, n_heads)?;
        let sources: Vec<_> = parts.iter().map(|part| part.source).collect();
        Ok(self.note(value, &sources, |_| Op::Join {
            widths: parts
                .iter()
                .map(|part| self.shape_of(part).cols() / n_heads.max(1))
                .collect(),
            parts: sources.clone(),
            n_heads,
        }))
    }

    fn rope(
        &self,
        x: &Self::Tensor,
        table: &Self::Tensor,
        positions: &[u32],
        columns: RopeColumns,
    ) -> Result<Self::Tensor> {
        let value = self
            .backend
            .rope(&x.value, &table.value, positions, columns)?;
        Ok(self.note(value, &[x.source], |state| Op::Rope {
            x: x.source,
            table: table.value.clone(),
            positions: state.positions(positions),
            columns,
        }))
    }

    fn attention(
        &self,
        q: &Self::Tensor,
        keys: Keys<'_, Self::Tensor>,
        attention: &Attention<'_>,
    ) -> Result<Self::Tensor> {
        if let Context::Paged(_) = attention.context {
            return Err(unsupported(
                "attention over pages",
                "a cache has no gradient; train on whole sequences",
            ));
        }
        let keys = OwnedKeys::of(keys).ok_or(unsupported(
            "attention over latents",
            "absorbed MLA is for inference; train with naive MLA",
        ))?;
        let [first, second] = keys.sources();
        if !is_live(&[q.source, first, second]) {
            let value = self.backend.attention(&q.value, keys.values(), attention)?;
            return Ok(constant(value));
        }
        let saved = self
            .backend
            .attention_saved(&q.value, keys.values(), attention)?;
        let value = saved.output.clone();
        let mut state = self.state.borrow_mut();
        let node = AttentionNode {
            q: q.clone(),
            keys,
            n_heads: attention.n_heads,
            scale: attention.scale,
            rows: state.rows(attention.rows),
            saved,
        };
        let source = Source::Slot(state.node(Op::Attention(Box::new(node)), 1));
        Ok(Var { value, source })
    }

    fn route(
        &self,
        logits: &Self::Tensor,
        bias: Option<&Self::Tensor>,
        router: &Router,
    ) -> Result<Route<Self::Tensor>> {
        let bias = bias.map(|bias| &bias.value);
        let route = self.backend.route(&logits.value, bias, router)?;
        let mut state = self.state.borrow_mut();
        state.routings.push(route.offsets.clone());
        let weights = if is_live(&[logits.source]) {
            let balance = state.policy.balance.clone();
            if let Some(balance) = &balance {
                let loss =
                    self.backend
                        .balance_loss(&logits.value, router, &route, balance.as_asked())?;
                state.balance_losses.push(loss);
            }
            let op = Op::Route {
                logits: logits.clone(),
                router: *router,
                route: route.clone(),
                balance,
            };
            Source::Slot(state.node(op, 1))
        } else {
            Source::Constant
        };
        Ok(Route {
            experts: constant(route.experts),
            weights: Var {
                value: route.weights,
                source: weights,
            },
            order: constant(route.order),
            offsets: constant(route.offsets),
        })
    }

    fn dispatch(&self, x: &Self::Tensor, route: &Route<Self::Tensor>) -> Result<Self::Tensor> {
        let route = plain(route);
        let value = self.backend.dispatch_to_learn(&x.value, &route)?;
        Ok(self.note(value, &[x.source], |_| Op::Dispatch { x: x.source, route }))
    }

    fn combine(&self, ys: &Self::Tensor, route: &Route<Self::Tensor>) -> Result<Self::Tensor> {
        let weights = route.weights.source;
        let route = plain(route);
        let value = self.backend.combine(&ys.value, &route)?;
        Ok(self.note(value, &[ys.source, weights], |_| Op::Combine {
            ys: ys.clone(),
            weights,
            route,
        }))
    }

    fn log_prob(
        &self,
        of: Head<'_, Self::Tensor>,
        targets: &[u32],
        temperature: f32,
    ) -> Result<LogProbs<Self::Tensor>> {
        let value = self.backend.log_prob(head(of), targets, temperature)?;
        let log_prob = self.note(
            value.log_prob,
            &[of.hidden.source, of.weight.source],
            |_| Op::LogProb {
                hidden: of.hidden.clone(),
                weight: of.weight.clone(),
                targets: targets.to_vec(),
                temperature,
            },
        );
        Ok(LogProbs {
            log_prob,
            entropy: constant(value.entropy),
        })
    }

    fn divergence(
        &self,
        student: Head<'_, Self::Tensor>,
        teacher: Head<'_, Self::Tensor>,
        divergence: Divergence,
    ) -> Result<Self::Tensor> {
        let value = self
            .backend
            .divergence(head(student), head(teacher), divergence)?;
        let inputs = [student.hidden.source, student.weight.source];
        Ok(self.note(value, &inputs, |_| {
            Op::Divergence(Box::new(DivergenceNode {
                hidden: student.hidden.clone(),
                weight: student.weight.clone(),
                teacher_hidden: teacher.hidden.value.clone(),
                teacher_weight: teacher.weight.value.clone(),
                divergence,
            }))
        }))
    }

    fn pick(&self, _: &Self::Tensor, _: &Sampling, _: &[f32]) -> Result<Picked> {
        Err(unsupported(
            "pick",
            "drawing has no gradient; sample on the back-end below",
        ))
    }
}
