//! The argument checks of every operation, so that all back-ends refuse alike.
//!
//! One function for each method of [`Backend`](crate::backend::Backend) and
//! [`TrainBackend`](crate::backend::TrainBackend) that takes tensors. It takes shapes (and the index
//! lists and settings of the call), refuses what the operation cannot follow, and returns the
//! dimensions by name. No numbers are looked at here, except by [`route_plan`], which a back-end
//! calls when it has fetched the indices of a [`Route`] that anyone may have made.
//!
//! Attention has its own file, `check/attention.rs`; the training half is `check/train.rs`.

mod attention;
mod train;

use alloc::format;
use alloc::vec::Vec;

pub use attention::{AttentionDims, KeyPart, KeyShapes, KeyTensor, attention};
pub use train::{
    AttentionGradShapes, LinearGradShapes, MuonDims, accumulate, adamw, attention_backward,
    attention_saved, balance_loss, combine_backward, dispatch_backward, divergence_backward,
    gather_backward, grouped_linear_backward, linear_backward, log_prob_backward, muon,
    rms_norm_backward, rope_backward, route_backward, swiglu_backward,
};

use crate::backend::{
    Divergence, DivergenceKind, Head, HeadDirection, HeadProduct, RopeColumns, Route, Router,
    Sampling,
};
use crate::error::{Error, Result, expect_count, expect_indices, expect_shape};
use crate::shape::Shape;

fn setting(op: &'static str, reason: alloc::string::String) -> Error {
    Error::Setting { op, reason }
}

fn shape_error(op: &'static str, what: &'static str, expected: &str, got: Shape) -> Error {
    Error::Shape {
        op,
        what,
        expected: expected.into(),
        got,
    }
}

/// Refuses a tensor that is no matrix.
fn expect_matrix(
    op: &'static str,
    what: &'static str,
    letters: &'static str,
    got: Shape,
) -> Result<()> {
    match got.dims() {
        [_, _] => Ok(()),
        _ => Err(shape_error(op, what, letters, got)),
    }
}

/// Dimensions of a product: `x [T, K]`, `weight [N, K]`, `y [T, N]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinearDims {
    /// T.
    pub rows: usize,
    /// N.
    pub n: usize,
    /// K.
    pub k: usize,
}

/// Checks [`Backend::linear`](crate::backend::Backend::linear).
pub fn linear(x: Shape, weight: Shape, bias: Option<Shape>) -> Result<LinearDims> {
    linear_as("linear", x, weight, bias)
}

fn linear_as(op: &'static str, x: Shape, weight: Shape, bias: Option<Shape>) -> Result<LinearDims> {
    expect_matrix(op, "x", "[T, K]", x)?;
    expect_matrix(op, "weight", "[N, K]", weight)?;
    let (n, k) = (weight.rows(), weight.cols());
    expect_shape(op, "x", Shape::matrix(x.rows(), k), x)?;
    if let Some(bias) = bias {
        expect_shape(op, "bias", Shape::vector(n), bias)?;
    }
    Ok(LinearDims {
        rows: x.rows(),
        n,
        k,
    })
}

/// Dimensions of a product a head: `y_h = M_h x_h` for each row and head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadDims {
    /// T.
    pub rows: usize,
    /// H.
    pub n_heads: usize,
    /// Rows of the weight that belong to one head.
    pub block: usize,
    /// First row of a block that takes part.
    pub start: usize,
    /// Rows of a block that take part.
    pub used: usize,
    /// C, the width of the weight.
    pub latent: usize,
    /// Columns of a head of the input.
    pub input: usize,
    /// Columns of a head of the output.
    pub output: usize,
    /// Columns of a head that follow those, in the input and in the output.
    pub passed: usize,
}

/// Checks [`Backend::per_head_linear`](crate::backend::Backend::per_head_linear).
pub fn per_head_linear(x: Shape, weight: Shape, product: &HeadProduct) -> Result<HeadDims> {
    const OP: &str = "per_head_linear";
    expect_matrix(OP, "x", "[T, H * width]", x)?;
    expect_matrix(OP, "weight", "[H * block, C]", weight)?;
    let HeadProduct {
        n_heads,
        block,
        ref rows,
        direction,
        passed,
    } = *product;
    if n_heads == 0 || rows.start > rows.end || rows.end > block {
        return Err(setting(
            OP,
            format!(
                "expected at least 1 head and rows within a block of {block}, got {n_heads} heads and rows {}..{}",
                rows.start, rows.end
            ),
        ));
    }
    let latent = weight.cols();
    let blocks = product_of(OP, n_heads, block)?;
    expect_shape(OP, "weight", Shape::matrix(blocks, latent), weight)?;
    let used = rows.end - rows.start;
    let (input, output) = match direction {
        HeadDirection::IntoLatent => (used, latent),
        HeadDirection::FromLatent => (latent, used),
    };
    let widths = (input.checked_add(passed)).zip(output.checked_add(passed));
    let Some((from, to)) = widths else {
        return Err(setting(
            OP,
            format!("expected columns to pass that fit a word, got {passed}"),
        ));
    };
    let width = product_of(OP, n_heads, from)?;
    product_of(OP, n_heads, to)?;
    expect_shape(OP, "x", Shape::matrix(x.rows(), width), x)?;
    Ok(HeadDims {
        rows: x.rows(),
        n_heads,
        block,
        start: rows.start,
        used,
        latent,
        input,
        output,
        passed,
    })
}

fn product_of(op: &'static str, a: usize, b: usize) -> Result<usize> {
    a.checked_mul(b)
        .ok_or_else(|| setting(op, format!("expected sizes that fit a word, got {a} * {b}")))
}

/// Dimensions of a [`Route`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteDims {
    /// T.
    pub rows: usize,
    /// k.
    pub top_k: usize,
    /// E.
    pub n_experts: usize,
}

impl RouteDims {
    /// T * k.
    #[must_use]
    pub const fn slots(&self) -> usize {
        self.rows * self.top_k
    }
}

/// The shapes of a route's four tensors.
pub fn route_shapes<T>(route: &Route<T>, shape: impl Fn(&T) -> Shape) -> Route<Shape> {
    Route {
        experts: shape(&route.experts),
        weights: shape(&route.weights),
        order: shape(&route.order),
        offsets: shape(&route.offsets),
    }
}

/// Checks that the four shapes of a route belong together.
pub fn route_dims(op: &'static str, route: &Route<Shape>) -> Result<RouteDims> {
    expect_matrix(op, "route experts", "[T, k]", route.experts)?;
    let (rows, top_k) = (route.experts.rows(), route.experts.cols());
    expect_shape(op, "route weights", route.experts, route.weights)?;
    expect_shape(op, "route order", Shape::vector(rows * top_k), route.order)?;
    match *route.offsets.dims() {
        [ends] if ends >= 2 => Ok(RouteDims {
            rows,
            top_k,
            n_experts: ends - 1,
        }),
        _ => Err(shape_error(op, "route offsets", "[E + 1]", route.offsets)),
    }
}

/// Checks the indices of a route: each flat position is served once and offsets grow from 0 to
/// T * k. To be called by a back-end before it follows them.
pub fn route_plan(op: &'static str, dims: RouteDims, order: &[u32], offsets: &[u32]) -> Result<()> {
    let slots = dims.slots();
    expect_count(op, "slots of the route", slots, order.len())?;
    expect_count(op, "route offsets", dims.n_experts + 1, offsets.len())?;
    expect_indices(op, "slot", order, slots)?;
    let mut seen = alloc::vec![false; slots];
    for position in order {
        if let Some(seen) = seen.get_mut(*position as usize)
            && core::mem::replace(seen, true)
        {
            return Err(setting(
                op,
                format!("expected each position of the route once, got {position} twice"),
            ));
        }
    }
    let ends_right =
        offsets.first() == Some(&0) && offsets.last().map(|end| *end as usize) == Some(slots);
    if ends_right && offsets.is_sorted() {
        Ok(())
    } else {
        Err(setting(
            op,
            format!("expected route offsets that grow from 0 to {slots}, got others"),
        ))
    }
}

/// Dimensions of a product an expert: `xs [slots, K]`, `weight [E, N, K]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupedDims {
    /// The route's.
    pub route: RouteDims,
    /// N.
    pub n: usize,
    /// K.
    pub k: usize,
}

/// Checks [`Backend::grouped_linear`](crate::backend::Backend::grouped_linear).
pub fn grouped_linear(xs: Shape, weight: Shape, route: &Route<Shape>) -> Result<GroupedDims> {
    grouped_as("grouped_linear", xs, weight, route)
}

fn grouped_as(
    op: &'static str,
    xs: Shape,
    weight: Shape,
    route: &Route<Shape>,
) -> Result<GroupedDims> {
    let route = route_dims(op, route)?;
    let [n_experts, n, k] = *weight.dims() else {
        return Err(shape_error(op, "weight", "[E, N, K]", weight));
    };
    expect_count(op, "experts in the weight", route.n_experts, n_experts)?;
    expect_shape(op, "xs", Shape::matrix(route.slots(), k), xs)?;
    Ok(GroupedDims { route, n, k })
}

/// Dimensions of rows taken from or written to a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableDims {
    /// Rows taken or written.
    pub rows: usize,
    /// Rows of the table.
    pub table_rows: usize,
    /// Columns of both.
    pub width: usize,
}

/// Checks [`Backend::append`](crate::backend::Backend::append).
pub fn append(store: Shape, rows: Shape, slots: &[u32]) -> Result<TableDims> {
    const OP: &str = "append";
    expect_matrix(OP, "store", "[S, W]", store)?;
    expect_shape(OP, "rows", Shape::matrix(slots.len(), store.cols()), rows)?;
    expect_indices(OP, "slot", slots, store.rows())?;
    Ok(TableDims {
        rows: slots.len(),
        table_rows: store.rows(),
        width: store.cols(),
    })
}

/// Checks [`Backend::copy_rows`](crate::backend::Backend::copy_rows).
pub fn copy_rows(store: Shape, from: &[u32], to: &[u32]) -> Result<TableDims> {
    const OP: &str = "copy_rows";
    expect_matrix(OP, "store", "[S, W]", store)?;
    expect_count(OP, "target rows", from.len(), to.len())?;
    expect_indices(OP, "source row", from, store.rows())?;
    expect_indices(OP, "target row", to, store.rows())?;
    Ok(TableDims {
        rows: from.len(),
        table_rows: store.rows(),
        width: store.cols(),
    })
}

/// Checks [`Backend::gather`](crate::backend::Backend::gather).
pub fn gather(table: Shape, ids: &[u32]) -> Result<TableDims> {
    gather_as("gather", table, ids)
}

fn gather_as(op: &'static str, table: Shape, ids: &[u32]) -> Result<TableDims> {
    expect_matrix(op, "table", "[V, D]", table)?;
    expect_indices(op, "id", ids, table.rows())?;
    Ok(TableDims {
        rows: ids.len(),
        table_rows: table.rows(),
        width: table.cols(),
    })
}

/// Dimensions of a norm over runs of columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NormDims {
    /// Runs in all rows together.
    pub runs: usize,
    /// Columns of a run.
    pub width: usize,
}

/// Checks [`Backend::rms_norm`](crate::backend::Backend::rms_norm).
pub fn rms_norm(x: Shape, weight: Shape, eps: f32) -> Result<NormDims> {
    rms_norm_as("rms_norm", x, weight, eps)
}

fn rms_norm_as(op: &'static str, x: Shape, weight: Shape, eps: f32) -> Result<NormDims> {
    expect_matrix(op, "x", "[T, n * width]", x)?;
    let width = match *weight.dims() {
        [width] if width > 0 => width,
        _ => return Err(shape_error(op, "weight", "[width] of 1 or more", weight)),
    };
    if !x.cols().is_multiple_of(width) {
        return Err(shape_error(
            op,
            "x",
            &format!("[T, a multiple of {width}]"),
            x,
        ));
    }
    if !(eps.is_finite() && eps >= 0.0) {
        return Err(setting(op, format!("expected eps of 0 or more, got {eps}")));
    }
    Ok(NormDims {
        runs: x.elements() / width,
        width,
    })
}

/// Checks [`Backend::swiglu`](crate::backend::Backend::swiglu); gives the number of elements.
pub fn swiglu(gate: Shape, up: Shape) -> Result<usize> {
    expect_shape("swiglu", "up", gate, up)?;
    Ok(gate.elements())
}

/// Checks [`Backend::add`](crate::backend::Backend::add); gives the number of elements.
pub fn add(a: Shape, b: Shape) -> Result<usize> {
    expect_shape("add", "b", a, b)?;
    Ok(a.elements())
}

/// Dimensions of a split or join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitDims {
    /// T.
    pub rows: usize,
    /// Heads of a row.
    pub n_heads: usize,
    /// Columns of each part's head.
    pub widths: Vec<usize>,
    /// Their sum: columns of a head of the whole.
    pub head_width: usize,
}

/// Checks [`Backend::split`](crate::backend::Backend::split).
pub fn split(x: Shape, n_heads: usize, widths: &[usize]) -> Result<SplitDims> {
    const OP: &str = "split";
    expect_matrix(OP, "x", "[T, H * width]", x)?;
    let head_width = widths
        .iter()
        .try_fold(0usize, |sum, width| sum.checked_add(*width));
    let columns = head_width.and_then(|width| width.checked_mul(n_heads));
    match (head_width, columns) {
        (Some(head_width), Some(columns)) if columns == x.cols() && n_heads > 0 => Ok(SplitDims {
            rows: x.rows(),
            n_heads,
            widths: widths.to_vec(),
            head_width,
        }),
        _ => Err(shape_error(
            OP,
            "x",
            &format!("[T, {n_heads} heads * the sum of {widths:?}]"),
            x,
        )),
    }
}

/// Checks [`Backend::join`](crate::backend::Backend::join).
pub fn join(parts: &[Shape], n_heads: usize) -> Result<SplitDims> {
    const OP: &str = "join";
    let Some(first) = parts.first() else {
        return Err(setting(OP, "expected at least 1 part, got 0".into()));
    };
    if n_heads == 0 {
        return Err(setting(OP, "expected at least 1 head, got 0".into()));
    }
    let mut widths = Vec::with_capacity(parts.len());
    let mut head_width = 0usize;
    for part in parts {
        expect_matrix(OP, "part", "[T, H * width]", *part)?;
        if part.rows() != first.rows() || !part.cols().is_multiple_of(n_heads) {
            let expected = format!("[{}, a multiple of {n_heads}]", first.rows());
            return Err(shape_error(OP, "part", &expected, *part));
        }
        let width = part.cols() / n_heads;
        widths.push(width);
        head_width = head_width
            .checked_add(width)
            .ok_or(Error::TooLarge { shape: *part })?;
    }
    product_of(OP, n_heads, head_width)?;
    Ok(SplitDims {
        rows: first.rows(),
        n_heads,
        widths,
        head_width,
    })
}

/// Dimensions of a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RopeDims {
    /// T.
    pub rows: usize,
    /// Columns of a row.
    pub width: usize,
    /// P.
    pub table_rows: usize,
}

/// Checks [`Backend::rope`](crate::backend::Backend::rope).
pub fn rope(x: Shape, table: Shape, positions: &[u32], columns: RopeColumns) -> Result<RopeDims> {
    rope_as("rope", x, table, positions, columns)
}

fn rope_as(
    op: &'static str,
    x: Shape,
    table: Shape,
    positions: &[u32],
    columns: RopeColumns,
) -> Result<RopeDims> {
    expect_matrix(op, "x", "[T, H * head width]", x)?;
    expect_matrix(op, "table", "[P, R]", table)?;
    let end = columns.offset.checked_add(columns.width);
    if !columns.width.is_multiple_of(2) || end.is_none_or(|end| end > columns.head_width) {
        return Err(setting(
            op,
            format!(
                "expected an even width within the head, got {} columns from {} on in a head of {}",
                columns.width, columns.offset, columns.head_width
            ),
        ));
    }
    let width = product_of(op, columns.n_heads, columns.head_width)?;
    expect_shape(op, "x", Shape::matrix(x.rows(), width), x)?;
    expect_shape(
        op,
        "table",
        Shape::matrix(table.rows(), columns.width),
        table,
    )?;
    expect_count(op, "positions", x.rows(), positions.len())?;
    expect_indices(op, "position", positions, table.rows())?;
    Ok(RopeDims {
        rows: x.rows(),
        width,
        table_rows: table.rows(),
    })
}

/// Checks [`Backend::route`](crate::backend::Backend::route).
pub fn route(logits: Shape, bias: Option<Shape>, router: &Router) -> Result<RouteDims> {
    route_as("route", logits, bias, router)
}

fn route_as(
    op: &'static str,
    logits: Shape,
    bias: Option<Shape>,
    router: &Router,
) -> Result<RouteDims> {
    expect_matrix(op, "logits", "[T, E]", logits)?;
    let n_experts = logits.cols();
    if let Some(bias) = bias {
        expect_shape(op, "bias", Shape::vector(n_experts), bias)?;
    }
    let Router {
        top_k,
        n_group,
        topk_group,
        ..
    } = *router;
    if n_experts == 0 || n_group == 0 || !n_experts.is_multiple_of(n_group) {
        return Err(setting(
            op,
            format!("expected groups of equal size, got {n_experts} experts in {n_group} groups"),
        ));
    }
    if topk_group == 0 || topk_group > n_group {
        return Err(setting(
            op,
            format!("expected 1 to {n_group} kept groups, got {topk_group}"),
        ));
    }
    let reachable = n_experts / n_group * topk_group;
    if top_k == 0 || top_k > reachable {
        return Err(setting(
            op,
            format!("expected 1 to {reachable} experts a row, got {top_k}"),
        ));
    }
    if !router.scale.is_finite() {
        return Err(setting(
            op,
            format!("expected a finite scale, got {}", router.scale),
        ));
    }
    let fits = logits.rows().checked_mul(top_k);
    if fits.is_none_or(|slots| u32::try_from(slots).is_err()) {
        return Err(Error::PositionOverflow);
    }
    Ok(RouteDims {
        rows: logits.rows(),
        top_k,
        n_experts,
    })
}

/// Dimensions of moving rows to experts and back: `x [T, D]`, `xs [T * k, D]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DispatchDims {
    /// The route's.
    pub route: RouteDims,
    /// D.
    pub width: usize,
}

/// Checks [`Backend::dispatch`](crate::backend::Backend::dispatch).
pub fn dispatch(x: Shape, route: &Route<Shape>) -> Result<DispatchDims> {
    let route = route_dims("dispatch", route)?;
    expect_shape("dispatch", "x", Shape::matrix(route.rows, x.cols()), x)?;
    Ok(DispatchDims {
        route,
        width: x.cols(),
    })
}

/// Checks [`Backend::combine`](crate::backend::Backend::combine).
pub fn combine(ys: Shape, route: &Route<Shape>) -> Result<DispatchDims> {
    slots_as("combine", ys, route)
}

fn slots_as(op: &'static str, ys: Shape, route: &Route<Shape>) -> Result<DispatchDims> {
    let route = route_dims(op, route)?;
    expect_shape(op, "slots", Shape::matrix(route.slots(), ys.cols()), ys)?;
    Ok(DispatchDims {
        route,
        width: ys.cols(),
    })
}

/// Shapes of a [`Head`]: `hidden [T, D]`, `weight [V, D]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadShapes {
    /// `[T, D]`.
    pub hidden: Shape,
    /// `[V, D]`.
    pub weight: Shape,
}

impl HeadShapes {
    /// The shapes of a head's tensors.
    pub fn of<T>(head: Head<'_, T>, shape: impl Fn(&T) -> Shape) -> Self {
        Self {
            hidden: shape(head.hidden),
            weight: shape(head.weight),
        }
    }
}

/// Checks [`Backend::log_prob`](crate::backend::Backend::log_prob); N is V and K is D.
pub fn log_prob(head: HeadShapes, targets: &[u32], temperature: f32) -> Result<LinearDims> {
    log_prob_as("log_prob", head, targets, temperature)
}

fn log_prob_as(
    op: &'static str,
    head: HeadShapes,
    targets: &[u32],
    temperature: f32,
) -> Result<LinearDims> {
    let dims = linear_as(op, head.hidden, head.weight, None)?;
    expect_count(op, "targets", dims.rows, targets.len())?;
    expect_indices(op, "target", targets, dims.n)?;
    expect_temperature(op, temperature)?;
    Ok(dims)
}

fn expect_temperature(op: &'static str, temperature: f32) -> Result<()> {
    if temperature.is_finite() && temperature > 0.0 {
        Ok(())
    } else {
        Err(setting(
            op,
            format!("expected a temperature above 0, got {temperature}"),
        ))
    }
}

/// Dimensions of a divergence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DivergenceDims {
    /// T.
    pub rows: usize,
    /// V.
    pub vocabulary: usize,
    /// D of the student.
    pub student: usize,
    /// D of the teacher.
    pub teacher: usize,
}

/// Checks [`Backend::divergence`](crate::backend::Backend::divergence).
pub fn divergence(
    student: HeadShapes,
    teacher: HeadShapes,
    divergence: Divergence,
) -> Result<DivergenceDims> {
    divergence_as("divergence", student, teacher, divergence)
}

fn divergence_as(
    op: &'static str,
    student: HeadShapes,
    teacher: HeadShapes,
    divergence: Divergence,
) -> Result<DivergenceDims> {
    let own = linear_as(op, student.hidden, student.weight, None)?;
    let other = linear_as(op, teacher.hidden, teacher.weight, None)?;
    expect_count(op, "teacher rows", own.rows, other.rows)?;
    expect_count(op, "tokens in the teacher's head", own.n, other.n)?;
    expect_temperature(op, divergence.temperature)?;
    if own.n == 0 {
        return Err(setting(op, "expected at least 1 token, got 0".into()));
    }
    if let DivergenceKind::JensenShannon { beta } = divergence.kind
        && !(beta > 0.0 && beta < 1.0)
    {
        return Err(setting(
            op,
            format!("expected beta between 0 and 1, got {beta}"),
        ));
    }
    Ok(DivergenceDims {
        rows: own.rows,
        vocabulary: own.n,
        student: own.k,
        teacher: other.k,
    })
}

/// Checks [`Backend::pick`](crate::backend::Backend::pick); gives (T, V).
pub fn pick(logits: Shape, sampling: &Sampling, uniforms: &[f32]) -> Result<(usize, usize)> {
    const OP: &str = "pick";
    expect_matrix(OP, "logits", "[T, V]", logits)?;
    expect_count(OP, "uniforms", logits.rows(), uniforms.len())?;
    if logits.cols() == 0 {
        return Err(shape_error(OP, "logits", "[T, V] of 1 or more", logits));
    }
    let Sampling {
        temperature,
        top_p,
        min_p,
        ..
    } = *sampling;
    let is_right = temperature.is_finite()
        && temperature >= 0.0
        && top_p > 0.0
        && top_p <= 1.0
        && (0.0..=1.0).contains(&min_p);
    if !is_right {
        return Err(setting(
            OP,
            format!(
                "expected temperature of 0 or more, top_p in (0, 1], min_p in [0, 1], got {temperature}, {top_p}, {min_p}"
            ),
        ));
    }
    match uniforms.iter().find(|u| !(0.0..1.0).contains(*u)) {
        Some(u) => Err(setting(OP, format!("expected uniforms in [0, 1), got {u}"))),
        None => Ok((logits.rows(), logits.cols())),
    }
}
