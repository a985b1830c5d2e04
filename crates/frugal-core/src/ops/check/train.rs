//! Checks of the training half.

use alloc::format;

use super::attention::attention_as;
use super::{
    AttentionDims, DispatchDims, DivergenceDims, GroupedDims, HeadShapes, KeyShapes, LinearDims,
    NormDims, RopeDims, RouteDims, TableDims, divergence_as, gather_as, grouped_as, linear_as,
    log_prob_as, rms_norm_as, rope_as, route_as, route_dims, setting, shape_error, slots_as,
};
use crate::backend::{
    AdamW, Attention, Balance, Context, Divergence, Muon, RopeColumns, Route, Router,
};
use crate::error::{Result, expect_count, expect_shape};
use crate::shape::Shape;

/// Shapes of the gradients a product meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinearGradShapes {
    /// `[T, N]`.
    pub dy: Shape,
    /// As the weight.
    pub d_weight: Shape,
    /// As the bias; there exactly when the bias is.
    pub d_bias: Option<Shape>,
}

/// Checks [`TrainBackend::linear_backward`](crate::backend::TrainBackend::linear_backward).
pub fn linear_backward(
    x: Shape,
    weight: Shape,
    bias: Option<Shape>,
    gradients: LinearGradShapes,
) -> Result<LinearDims> {
    const OP: &str = "linear_backward";
    let dims = linear_as(OP, x, weight, bias)?;
    expect_shape(OP, "dy", Shape::matrix(dims.rows, dims.n), gradients.dy)?;
    expect_shape(OP, "d_weight", weight, gradients.d_weight)?;
    match (bias, gradients.d_bias) {
        (None, None) => Ok(dims),
        (Some(bias), Some(d_bias)) => expect_shape(OP, "d_bias", bias, d_bias).map(|()| dims),
        (bias, d_bias) => Err(crate::error::Error::Count {
            op: OP,
            what: "gradients of the bias",
            expected: usize::from(bias.is_some()),
            got: usize::from(d_bias.is_some()),
        }),
    }
}

/// Checks [`TrainBackend::grouped_linear_backward`](crate::backend::TrainBackend::grouped_linear_backward).
pub fn grouped_linear_backward(
    xs: Shape,
    weight: Shape,
    route: &Route<Shape>,
    dy: Shape,
    d_weight: Shape,
) -> Result<GroupedDims> {
    const OP: &str = "grouped_linear_backward";
    let dims = grouped_as(OP, xs, weight, route)?;
    expect_shape(OP, "dy", Shape::matrix(dims.route.slots(), dims.n), dy)?;
    expect_shape(OP, "d_weight", weight, d_weight)?;
    Ok(dims)
}

/// Checks [`TrainBackend::gather_backward`](crate::backend::TrainBackend::gather_backward).
pub fn gather_backward(ids: &[u32], dy: Shape, d_table: Shape) -> Result<TableDims> {
    const OP: &str = "gather_backward";
    let dims = gather_as(OP, d_table, ids)?;
    expect_shape(OP, "dy", Shape::matrix(dims.rows, dims.width), dy)?;
    Ok(dims)
}

/// Checks [`TrainBackend::rms_norm_backward`](crate::backend::TrainBackend::rms_norm_backward).
pub fn rms_norm_backward(
    x: Shape,
    weight: Shape,
    eps: f32,
    dy: Shape,
    d_weight: Shape,
) -> Result<NormDims> {
    const OP: &str = "rms_norm_backward";
    let dims = rms_norm_as(OP, x, weight, eps)?;
    expect_shape(OP, "dy", x, dy)?;
    expect_shape(OP, "d_weight", weight, d_weight)?;
    Ok(dims)
}

/// Checks [`TrainBackend::swiglu_backward`](crate::backend::TrainBackend::swiglu_backward); gives
/// the number of elements.
pub fn swiglu_backward(gate: Shape, up: Shape, dy: Shape) -> Result<usize> {
    expect_shape("swiglu_backward", "up", gate, up)?;
    expect_shape("swiglu_backward", "dy", gate, dy)?;
    Ok(gate.elements())
}

/// Checks [`TrainBackend::rope_backward`](crate::backend::TrainBackend::rope_backward).
pub fn rope_backward(
    dy: Shape,
    table: Shape,
    positions: &[u32],
    columns: RopeColumns,
) -> Result<RopeDims> {
    rope_as("rope_backward", dy, table, positions, columns)
}

fn training_attention(
    op: &'static str,
    q: Shape,
    keys: KeyShapes,
    attention: &Attention<'_>,
) -> Result<AttentionDims> {
    if let Context::Paged(_) = attention.context {
        return Err(setting(
            op,
            "expected keys packed with the step, got pages".into(),
        ));
    }
    if let KeyShapes::Latent { .. } = keys {
        return Err(setting(
            op,
            "expected grouped or expanded keys, got latent ones: training uses naive MLA".into(),
        ));
    }
    attention_as(op, q, keys, attention)
}

/// Checks [`TrainBackend::attention_saved`](crate::backend::TrainBackend::attention_saved).
pub fn attention_saved(
    q: Shape,
    keys: KeyShapes,
    attention: &Attention<'_>,
) -> Result<AttentionDims> {
    training_attention("attention_saved", q, keys, attention)
}

/// Shapes of what an attention's backward is given beside its inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionGradShapes {
    /// `[T, H * value width]`.
    pub output: Shape,
    /// `[T, H]`.
    pub log_sum: Shape,
    /// As the output.
    pub dy: Shape,
}

/// Checks [`TrainBackend::attention_backward`](crate::backend::TrainBackend::attention_backward).
pub fn attention_backward(
    q: Shape,
    keys: KeyShapes,
    attention: &Attention<'_>,
    gradients: AttentionGradShapes,
) -> Result<AttentionDims> {
    const OP: &str = "attention_backward";
    let dims = training_attention(OP, q, keys, attention)?;
    let output = Shape::matrix(dims.rows, dims.n_heads * dims.value_width);
    expect_shape(OP, "saved output", output, gradients.output)?;
    let log_sum = Shape::matrix(dims.rows, dims.n_heads);
    expect_shape(OP, "saved log_sum", log_sum, gradients.log_sum)?;
    expect_shape(OP, "dy", output, gradients.dy)?;
    Ok(dims)
}

fn routed(
    op: &'static str,
    logits: Shape,
    router: &Router,
    route: &Route<Shape>,
    balance: Option<&Balance<'_>>,
) -> Result<RouteDims> {
    let dims = route_as(op, logits, None, router)?;
    let given = route_dims(op, route)?;
    expect_shape(
        op,
        "route experts",
        Shape::matrix(dims.rows, dims.top_k),
        route.experts,
    )?;
    expect_count(op, "experts of the route", dims.n_experts, given.n_experts)?;
    if let Some(balance) = balance {
        expect_count(
            op,
            "rows of the balance loss",
            dims.rows,
            balance.rows.n_rows(),
        )?;
        if !balance.alpha.is_finite() {
            return Err(setting(
                op,
                format!("expected a finite alpha, got {}", balance.alpha),
            ));
        }
    }
    Ok(dims)
}

/// Checks [`TrainBackend::route_backward`](crate::backend::TrainBackend::route_backward).
pub fn route_backward(
    logits: Shape,
    router: &Router,
    route: &Route<Shape>,
    d_weights: Shape,
    balance: Option<&Balance<'_>>,
) -> Result<RouteDims> {
    let dims = routed("route_backward", logits, router, route, balance)?;
    expect_shape("route_backward", "d_weights", route.weights, d_weights)?;
    Ok(dims)
}

/// Checks [`TrainBackend::balance_loss`](crate::backend::TrainBackend::balance_loss).
pub fn balance_loss(
    logits: Shape,
    router: &Router,
    route: &Route<Shape>,
    balance: &Balance<'_>,
) -> Result<RouteDims> {
    routed("balance_loss", logits, router, route, Some(balance))
}

/// Checks [`TrainBackend::dispatch_backward`](crate::backend::TrainBackend::dispatch_backward).
pub fn dispatch_backward(dxs: Shape, route: &Route<Shape>) -> Result<DispatchDims> {
    slots_as("dispatch_backward", dxs, route)
}

/// Checks [`TrainBackend::combine_backward`](crate::backend::TrainBackend::combine_backward).
pub fn combine_backward(ys: Shape, route: &Route<Shape>, dy: Shape) -> Result<DispatchDims> {
    let dims = slots_as("combine_backward", ys, route)?;
    let expected = Shape::matrix(dims.route.rows, dims.width);
    expect_shape("combine_backward", "dy", expected, dy)?;
    Ok(dims)
}

/// Checks [`TrainBackend::log_prob_backward`](crate::backend::TrainBackend::log_prob_backward).
pub fn log_prob_backward(
    head: HeadShapes,
    targets: &[u32],
    temperature: f32,
    d_log_prob: Shape,
    d_weight: Shape,
) -> Result<LinearDims> {
    const OP: &str = "log_prob_backward";
    let dims = log_prob_as(OP, head, targets, temperature)?;
    expect_shape(OP, "d_log_prob", Shape::vector(dims.rows), d_log_prob)?;
    expect_shape(OP, "d_weight", head.weight, d_weight)?;
    Ok(dims)
}

/// Checks [`TrainBackend::divergence_backward`](crate::backend::TrainBackend::divergence_backward).
pub fn divergence_backward(
    student: HeadShapes,
    teacher: HeadShapes,
    divergence: Divergence,
    d: Shape,
    d_weight: Shape,
) -> Result<DivergenceDims> {
    const OP: &str = "divergence_backward";
    let dims = divergence_as(OP, student, teacher, divergence)?;
    expect_shape(OP, "d", Shape::vector(dims.rows), d)?;
    expect_shape(OP, "d_weight", student.weight, d_weight)?;
    Ok(dims)
}

/// Checks [`TrainBackend::accumulate`](crate::backend::TrainBackend::accumulate); gives the number
/// of elements.
pub fn accumulate(dst: Shape, src: Shape) -> Result<usize> {
    expect_shape("accumulate", "src", dst, src)?;
    Ok(dst.elements())
}

/// Checks [`TrainBackend::adamw`](crate::backend::TrainBackend::adamw); gives the number of
/// elements.
pub fn adamw(param: Shape, gradient: Shape, moments: [Shape; 2], step: &AdamW) -> Result<usize> {
    const OP: &str = "adamw";
    expect_shape(OP, "gradient", param, gradient)?;
    expect_shape(OP, "first moment", param, moments[0])?;
    expect_shape(OP, "second moment", param, moments[1])?;
    let decays = [step.beta1, step.beta2];
    if step.step == 0 || decays.iter().any(|beta| !(0.0..1.0).contains(beta)) {
        return Err(setting(
            OP,
            format!(
                "expected a step from 1 on and betas in [0, 1), got step {} and {decays:?}",
                step.step
            ),
        ));
    }
    Ok(param.elements())
}

/// Dimensions of a Muon update: each of `stacked` matrices `[n, k]` by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MuonDims {
    /// Matrices.
    pub stacked: usize,
    /// N.
    pub n: usize,
    /// K.
    pub k: usize,
}

/// Checks [`TrainBackend::muon`](crate::backend::TrainBackend::muon).
pub fn muon(param: Shape, gradient: Shape, momentum: Shape, step: &Muon) -> Result<MuonDims> {
    const OP: &str = "muon";
    if param.dims().len() < 2 {
        return Err(shape_error(OP, "param", "[N, K] or [E, N, K]", param));
    }
    expect_shape(OP, "gradient", param, gradient)?;
    expect_shape(OP, "momentum", param, momentum)?;
    if !(0.0..1.0).contains(&step.momentum) {
        return Err(setting(
            OP,
            format!("expected momentum in [0, 1), got {}", step.momentum),
        ));
    }
    Ok(MuonDims {
        stacked: param.stacked(),
        n: param.rows_each(),
        k: param.cols(),
    })
}
