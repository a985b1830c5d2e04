//! The tests that every back-end must pass: the same calls to it and to [`Reference`], compared
//! within derived tolerances, and laws that hold bit for bit.
//!
//! [`run`] does everything and returns a [`Report`]; a back-end's own test asserts that it holds no
//! failure. Shapes come from a generator that loves 0, 1, primes and the edges of tiles; the draws
//! are fixed, so a failure repeats. Where a tolerance comes from is said in [`tolerance`] and beside
//! each operation. Speed is not looked at here.

mod attention;
mod draw;
mod heads;
mod kept;
mod laws;
mod memory;
mod optim;
mod products;
mod refusals;
mod routing;
mod rowwise;
pub mod tolerance;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use crate::backend::{Backend, TrainBackend};
use crate::dtype::{Data, round_bf16};
use crate::error::Result;
use crate::reference::{HostTensor, Reference};
use crate::rng::{Rng, key};
use crate::shape::Shape;

use draw::Draw;

/// What a back-end's policy rounds the operands of its products to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// Not at all: products of f32.
    F32,
    /// bf16, with sums in f32.
    Bf16,
}

/// One comparison that failed.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// The operation, or the law.
    pub op: &'static str,
    /// Which draw of it, to be found again with [`run_op`].
    pub draw: u64,
    /// Which result, with its shape.
    pub what: String,
    /// The worst error divided by its tolerance; infinite for a wrong shape, refusal or NaN.
    pub ratio: f64,
    /// What was expected and what came.
    pub detail: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            op,
            draw,
            what,
            ratio,
            detail,
        } = self;
        write!(
            f,
            "{op}, draw {draw}: {what}: {ratio:.3e} times the tolerance: {detail}"
        )
    }
}

/// The outcome of a run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// Tensors compared.
    pub n_checks: usize,
    /// What failed, in order.
    pub failures: Vec<Failure>,
    /// For each operation the largest error divided by its tolerance among those that passed: how
    /// much room there is.
    pub closest: Vec<(&'static str, f64)>,
}

impl Report {
    /// Whether everything was compared and nothing failed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.failures.is_empty() && self.n_checks > 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed = self.failures.len();
        writeln!(f, "{} comparisons, {failed} failed", self.n_checks)?;
        // A broken operation fails on most shapes; the first few say enough.
        for failure in self.failures.iter().take(40) {
            writeln!(f, "{failure}")?;
        }
        Ok(())
    }
}

/// How often each operation is drawn.
const DRAWS: u64 = 12;

type Test<B> = fn(&mut Suite<'_, B>, &mut Draw) -> Result<()>;

/// Every test by name.
fn tests<B: TrainBackend>() -> [(&'static str, Test<B>); 36] {
    [
        ("memory", memory::formats),
        ("append", memory::append),
        ("linear", products::linear),
        ("linear_backward", products::linear_backward),
        ("per_head_linear", products::per_head_linear),
        ("grouped_linear", products::grouped_linear),
        ("gather", rowwise::gather),
        ("rms_norm", rowwise::rms_norm),
        ("swiglu", rowwise::swiglu),
        ("add", rowwise::add),
        ("split_join", rowwise::split_join),
        ("rope", rowwise::rope),
        ("attention_grouped", attention::grouped),
        ("attention_expanded", attention::expanded),
        ("attention_latent", attention::latent),
        ("attention_paged", attention::paged),
        ("route", routing::route),
        ("route_backward", routing::route_backward),
        ("dispatch_combine", routing::dispatch_combine),
        ("log_prob", heads::log_prob),
        ("log_prob_backward", heads::log_prob_backward),
        ("divergence", heads::divergence),
        ("pick", heads::pick),
        ("adamw", optim::adamw),
        ("muon", optim::muon),
        ("norm_squared", optim::norm_squared),
        ("law: a row alone, products", laws::rows_of_products),
        ("law: a row alone, rowwise", laws::rows_of_rowwise),
        ("law: a row alone, experts", laws::rows_of_experts),
        ("law: a sequence alone", laws::sequences),
        ("law: pages change nothing", laws::pages),
        ("law: picked as log_prob says", laws::picked_log_probs),
        ("law: repeats", laws::repeats),
        ("law: kept as put", kept::as_put),
        ("law: kept as put, stacks", kept::stacks_as_put),
        ("refusals", refusals::all),
    ]
}

/// Runs the whole suite.
pub fn run<B: TrainBackend>(backend: &B, rounding: Rounding) -> Report {
    run_where(backend, rounding, |_| true)
}

/// Runs the tests whose name begins with `op`.
pub fn run_op<B: TrainBackend>(backend: &B, rounding: Rounding, op: &str) -> Report {
    run_where(backend, rounding, |name| name.starts_with(op))
}

fn run_where<B: TrainBackend>(
    backend: &B,
    rounding: Rounding,
    is_wanted: impl Fn(&str) -> bool,
) -> Report {
    let mut report = Report::default();
    for (name, test) in tests::<B>() {
        if !is_wanted(name) {
            continue;
        }
        let mut suite = Suite {
            backend,
            rounding,
            op: name,
            draw: 0,
            n_checks: 0,
            failures: Vec::new(),
            closest: 0.0,
        };
        for draw in 0..DRAWS {
            suite.draw = draw;
            let rng = Rng::derive(&[key("conformance"), key(name), draw]);
            if let Err(error) = test(&mut suite, &mut Draw::new(rng, draw)) {
                suite.fail("the call", f64::INFINITY, error.to_string());
            }
        }
        report.n_checks += suite.n_checks;
        report.failures.extend(suite.failures);
        report.closest.push((name, suite.closest));
    }
    report
}

/// A tensor on both sides.
struct Twin<T> {
    host: HostTensor,
    own: T,
}

/// The back-end under test and what was found.
struct Suite<'b, B: Backend> {
    backend: &'b B,
    rounding: Rounding,
    op: &'static str,
    draw: u64,
    n_checks: usize,
    failures: Vec<Failure>,
    closest: f64,
}

impl<B: TrainBackend> Suite<'_, B> {
    fn fail(&mut self, what: &str, ratio: f64, detail: String) {
        self.failures.push(Failure {
            op: self.op,
            draw: self.draw,
            what: what.to_string(),
            ratio,
            detail,
        });
    }

    /// Puts a host tensor on the back-end too.
    fn twin(&self, host: HostTensor) -> Result<Twin<B::Tensor>> {
        let own = self.backend.put(host.shape(), Data::F32(host.numbers()?))?;
        Ok(Twin { host, own })
    }

    /// Normal numbers that bf16 holds, so that rounding the operands of a product loses nothing.
    fn short(&self, draw: &mut Draw, shape: Shape) -> Result<Twin<B::Tensor>> {
        let numbers = draw.normals(shape.elements());
        let numbers: Vec<f32> = numbers.into_iter().map(round_bf16).collect();
        self.twin(host(shape, &numbers)?)
    }

    /// Normal numbers with all bits of f32.
    fn full(&self, draw: &mut Draw, shape: Shape) -> Result<Twin<B::Tensor>> {
        self.twin(host(shape, &draw.normals(shape.elements()))?)
    }

    /// Compares a result number by number; `tolerance` holds one bound each.
    fn near(
        &mut self,
        what: &str,
        got: &B::Tensor,
        expected: &HostTensor,
        tolerance: &[f64],
    ) -> Result<()> {
        let shape = self.backend.shape(got);
        self.n_checks += 1;
        if shape != expected.shape() {
            let detail = format!("expected shape {}, got {shape}", expected.shape());
            self.fail(what, f64::INFINITY, detail);
            return Ok(());
        }
        let got = self.backend.get(got)?;
        let expected = expected.numbers()?;
        if got.len() != expected.len() || tolerance.len() != expected.len() {
            let detail = format!(
                "expected {} numbers and bounds, got {} and {}",
                expected.len(),
                got.len(),
                tolerance.len()
            );
            self.fail(what, f64::INFINITY, detail);
            return Ok(());
        }
        let mut worst = (0.0f64, String::new());
        let all = got.iter().zip(expected).zip(tolerance).enumerate();
        for (i, ((got, expected), tolerance)) in all {
            let ratio = ratio(f64::from(*got), f64::from(*expected), *tolerance);
            if ratio > worst.0 {
                let detail =
                    format!("at {i} expected {expected:e} within {tolerance:.1e}, got {got:e}");
                worst = (ratio, detail);
            }
        }
        if worst.0 > 1.0 {
            self.fail(&format!("{what} {shape}"), worst.0, worst.1);
        } else {
            self.closest = self.closest.max(worst.0);
        }
        Ok(())
    }

    /// Compares a result bit for bit (NaN equal to NaN, and zeros of either sign equal).
    fn exact(&mut self, what: &str, got: &B::Tensor, expected: &HostTensor) -> Result<()> {
        let tolerance = alloc::vec![0.0; expected.shape().elements()];
        self.near(what, got, expected, &tolerance)
    }

    /// Compares two results of the back-end bit for bit.
    fn same(&mut self, what: &str, one: &B::Tensor, other: &B::Tensor) -> Result<()> {
        let expected = host(self.backend.shape(other), &self.backend.get(other)?)?;
        self.exact(what, one, &expected)
    }

    /// Expects a refusal.
    fn refused<T>(&mut self, what: &str, result: &Result<T>) {
        self.n_checks += 1;
        if result.is_ok() {
            self.fail(
                what,
                f64::INFINITY,
                "expected a refusal, got a result".into(),
            );
        }
    }
}

/// Error over tolerance; 0 where both are NaN or equal, infinite where one is NaN.
fn ratio(got: f64, expected: f64, tolerance: f64) -> f64 {
    if got.is_nan() && expected.is_nan() {
        return 0.0;
    }
    let error = (got - expected).abs();
    // Equal infinities differ by NaN.
    if got.partial_cmp(&expected) == Some(core::cmp::Ordering::Equal) {
        0.0
    } else if error.is_nan() || tolerance <= 0.0 {
        f64::INFINITY
    } else {
        error / tolerance
    }
}

fn host(shape: Shape, numbers: &[f32]) -> Result<HostTensor> {
    Reference.put(shape, Data::F32(numbers))
}

/// The tensor of absolute values: an operation on these gives the magnitudes its errors scale with.
fn absolute(x: &HostTensor) -> Result<HostTensor> {
    let numbers: Vec<f32> = x.numbers()?.iter().map(|x| x.abs()).collect();
    host(x.shape(), &numbers)
}

/// `factor` times the numbers, as bounds.
fn times(factor: f64, magnitudes: &HostTensor) -> Result<Vec<f64>> {
    let numbers = magnitudes.numbers()?.iter();
    Ok(numbers
        .map(|m| factor * f64::from(*m) + tolerance::FLOOR)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_agrees_with_itself() {
        let report = run(&Reference, Rounding::F32);
        assert!(report.passed(), "{report}");
        let names: Vec<&str> = report.closest.iter().map(|(name, _)| *name).collect();
        assert_eq!(names.len(), tests::<Reference>().len());
    }

    #[test]
    fn wrong_numbers_shapes_and_nan_are_found() {
        let expected = host(Shape::vector(2), &[1.0, 2.0]).unwrap();
        for (shape, numbers, is_right) in [
            (Shape::vector(2), [1.0, 2.0], true),
            (Shape::vector(2), [1.0, 2.05], true),
            (Shape::vector(2), [1.0, 2.2], false),
            (Shape::vector(2), [f32::NAN, 2.0], false),
            (Shape::vector(2), [f32::INFINITY, 2.0], false),
            (Shape::matrix(1, 2), [1.0, 2.0], false),
        ] {
            let mut suite = Suite {
                backend: &Reference,
                rounding: Rounding::F32,
                op: "test",
                draw: 0,
                n_checks: 0,
                failures: Vec::new(),
                closest: 0.0,
            };
            let got = host(shape, &numbers).unwrap();
            suite.near("y", &got, &expected, &[0.1, 0.1]).unwrap();
            assert_eq!(suite.failures.is_empty(), is_right, "{numbers:?}");
            assert_eq!(suite.n_checks, 1);
        }
    }

    #[test]
    fn bits_are_compared_where_bounds_are_zero() {
        assert!(ratio(1.0, 1.0, 0.0) <= 0.0);
        assert!(ratio(1.0, 1.0 + 1e-9, 0.0).is_infinite());
        assert!(ratio(f64::NAN, f64::NAN, 0.0) <= 0.0);
        assert!(ratio(f64::NAN, 1.0, 1.0).is_infinite());
        assert!(ratio(f64::NEG_INFINITY, f64::NEG_INFINITY, 0.0) <= 0.0);
    }
}
