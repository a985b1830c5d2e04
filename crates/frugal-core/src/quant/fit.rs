//! The search for factors: which ones bring the levels nearest to a group of numbers.
//!
//! Each candidate of a small grid of factors fixes the levels; with levels fixed, the factor and
//! minimum of least squared error have a closed form, and so has their error. The best one wins.
//! Then the factors and minima of a block's groups are rounded to small integers times two factors
//! of the block. The integers around are tried and the block's factors refitted, twice; levels are
//! taken anew at the end. The way of search is our own: formats leave it to the writer.
//!
//! Errors count by `|x| + rms` of the block: large weights move a product more, and an error of a
//! group of small numbers counts as much as one of the same size beside it.
//!
//! Eight candidates are tried at once, each in its lane, and a lane sums in the order of the
//! numbers. So the compiler can use vectors and the same numbers give the same bytes everywhere.
#![expect(
    clippy::indexing_slicing,
    reason = "lanes below LANES of arrays of LANES"
)]

use half::f16;

use super::to_half;

/// Candidates tried at once.
const LANES: usize = 8;

/// How often the block's factors are refitted. A third time gains a thousandth.
const REFITS: usize = 2;

/// What a format of 256 numbers can hold.
pub(super) struct Grid {
    /// Lowest and highest level.
    pub(super) levels: [f32; 2],
    /// Lowest and highest factor of a group.
    pub(super) factors: [f32; 2],
    /// Highest minimum of a group, zero for a format without.
    pub(super) minimum: f32,
}

/// A block: `x ~ (d * factor) * level - dmin * minimum`.
pub(super) struct Fitted<const GROUPS: usize> {
    pub(super) d: f16,
    pub(super) dmin: f16,
    pub(super) factors: [i8; GROUPS],
    pub(super) minima: [i8; GROUPS],
    /// Counted from the lowest.
    pub(super) levels: [u8; 256],
}

/// Factor and minimum of `x ~ factor * level - minimum`.
type Line = [f32; 2];

/// The block near 256 numbers; none where a factor of it is beyond f16.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the grid's factors are of 8 bits, its levels of 6"
)]
pub(super) fn block<const GROUPS: usize, const WIDTH: usize>(
    values: &[f32; 256],
    grid: &Grid,
) -> Option<Fitted<GROUPS>> {
    let rms = rms(values);
    let (values, _) = values.as_chunks::<WIDTH>();
    let groups: [Group<WIDTH>; GROUPS] =
        core::array::from_fn(|nth| Group::new(values[nth], rms, grid.minimum > 0.0));
    let lines = groups.each_ref().map(|group| group.search(grid));
    let mut of_block = grid.of_block(&lines)?;
    let mut pairs = lines.map(|line| grid.nearest(line, of_block));
    for _ in 0..REFITS {
        let mut all = Squares::default();
        for (group, pair) in groups.iter().zip(&mut pairs) {
            let squares;
            (*pair, squares) = group.around(*pair, of_block, grid);
            all.add(&squares, *pair);
        }
        // Rounding to f16 may lose what the refit gained.
        let refitted = all.solve().map(|x| f16::from_f32(x).to_f32());
        if all.excess(refitted) < all.excess(of_block) {
            of_block = refitted;
        }
    }
    let mut levels = [0; 256];
    let places = levels.as_chunks_mut::<WIDTH>().0;
    for ((group, pair), places) in groups.iter().zip(&pairs).zip(places) {
        let [factor, minimum] = times(*pair, of_block);
        let inverse = inverse(factor);
        for (place, x) in places.iter_mut().zip(&group.x) {
            let level = nearest((x + minimum) * inverse, grid.levels);
            *place = (level - grid.levels[0]) as u8;
        }
    }
    Some(Fitted {
        d: to_half(of_block[0])?,
        dmin: to_half(of_block[1])?,
        factors: pairs.map(|pair| pair[0] as i8),
        minima: pairs.map(|pair| pair[1] as i8),
        levels,
    })
}

/// The f16 factor for 32 numbers and the places of their levels in a rising table; none where the
/// factor is beyond f16.
pub(super) fn table(values: &[f32; 32], table: &[i8; 16]) -> Option<(f16, [u8; 32])> {
    let table = table.map(f32::from);
    let middles: [f32; 15] = core::array::from_fn(|nth| table[nth].midpoint(table[nth + 1]));
    // A sum over all steps that a number is above, for vectors have no way to look up.
    let level = |x: f32| {
        let steps = middles.iter().enumerate();
        steps.fold(table[0], |level, (nth, middle)| {
            let step = table[nth + 1] - table[nth];
            level + if x > *middle { step } else { 0.0 }
        })
    };
    let group = Group::new(*values, rms(values), false);
    let (minimum, span) = (0.0, group.farthest());
    let mut best = Best::new([span / table[0], minimum]);
    for reaches in reaches(table[0], table[15] - table[0]) {
        let lines = reaches.map(|reach| [span / reach, minimum]);
        best.improve(&group, &group.sums(&lines, level));
    }
    let d = to_half(best.line[0])?;
    let inverse = inverse(d.to_f32());
    let places = values.map(|x| {
        let x = x * inverse;
        middles.iter().map(|middle| u8::from(x > *middle)).sum()
    });
    Some((d, places))
}

impl Grid {
    /// The block's two factors in f16: the farthest of the groups' goes to the end of its range.
    fn of_block(&self, lines: &[Line]) -> Option<Line> {
        let [lowest, highest] = self.factors;
        let end = if lowest < 0.0 { lowest } else { highest };
        let factors = lines.iter().map(|line| line[0]);
        let factor = factors.fold(0.0f32, |far, x| if x.abs() > far.abs() { x } else { far });
        let minima = lines.iter().map(|line| line[1]);
        let minimum = minima.fold(0.0f32, f32::max) * inverse(self.minimum);
        Some([outward(factor / end)?, outward(minimum)?])
    }

    /// The integers nearest to a group's factor and minimum.
    fn nearest(&self, line: Line, of_block: Line) -> [f32; 2] {
        [
            nearest(line[0] * inverse(of_block[0]), self.factors),
            nearest(line[1] * inverse(of_block[1]), [0.0, self.minimum]),
        ]
    }
}

/// An f16 near a number: away from zero where f16 has few digits, so that the integers it is taken
/// times with stay in their range; none beyond f16.
fn outward(x: f32) -> Option<f32> {
    const SMALLEST: f32 = 1.0 / (1 << 24) as f32;
    const FEW_DIGITS: f32 = 1.0 / (1 << 14) as f32;
    if x.abs() < FEW_DIGITS {
        let steps = libm::ceilf(x.abs() / SMALLEST);
        return Some(libm::copysignf(steps * SMALLEST, x));
    }
    to_half(x).map(f16::to_f32)
}

/// The levels that the farthest number is laid on, one a candidate: from one step beyond the end of
/// the range down to a part of it, the larger the finer the levels.
fn reaches(end: f32, range: f32) -> [[f32; LANES]; 2] {
    let from = -1.0 - range / 16.0;
    let by = (1.0 - from) / (2 * LANES - 1) as f32;
    let reach = |nth: usize| end + end.signum() * (from + by * nth as f32);
    [
        core::array::from_fn(reach),
        core::array::from_fn(|lane| reach(LANES + lane)),
    ]
}

/// Steps from a group's factor and minimum to integers around. Staying is first: it wins a tie.
const AROUND: [[f32; 2]; LANES] = [
    [0.0, 0.0],
    [-1.0, 0.0],
    [1.0, 0.0],
    [0.0, -1.0],
    [0.0, 1.0],
    [-1.0, -1.0],
    [1.0, 1.0],
    [1.0, -1.0],
];

/// The same for factors alone.
const ALONG: [[f32; 2]; LANES] = [
    [0.0, 0.0],
    [-1.0, 0.0],
    [1.0, 0.0],
    [-2.0, 0.0],
    [2.0, 0.0],
    [-3.0, 0.0],
    [3.0, 0.0],
    [-4.0, 0.0],
];

/// The root of the mean square.
fn rms(values: &[f32]) -> f32 {
    let squares: f32 = values.iter().map(|x| x * x).sum();
    libm::sqrtf(squares / values.len() as f32)
}

/// The numbers of a group and their weights.
struct Group<const WIDTH: usize> {
    x: [f32; WIDTH],
    weights: [f32; WIDTH],
    /// The sum of the weights, zero for a format without minima.
    one: f32,
    /// The sum of the weighted numbers.
    sum: f32,
}

impl<const WIDTH: usize> Group<WIDTH> {
    fn new(x: [f32; WIDTH], rms: f32, with_minimum: bool) -> Self {
        let weights = x.map(|x| x.abs() + rms);
        let one = weights.iter().sum();
        Self {
            x,
            weights,
            one: if with_minimum { one } else { 0.0 },
            sum: x.iter().zip(&weights).map(|(x, weight)| x * weight).sum(),
        }
    }

    fn bounds(&self) -> [f32; 2] {
        self.x.iter().fold([0.0; 2], |[low, high], x| {
            [
                if *x < low { *x } else { low },
                if *x > high { *x } else { high },
            ]
        })
    }

    /// The number farthest from zero.
    fn farthest(&self) -> f32 {
        let [low, high] = self.bounds();
        if -low > high { low } else { high }
    }

    /// Factor and minimum of least error.
    fn search(&self, grid: &Grid) -> Line {
        let [lowest, highest] = grid.levels;
        let (minimum, span, end) = if grid.minimum > 0.0 {
            let [low, high] = self.bounds();
            (-low, high - low, highest)
        } else {
            (0.0, self.farthest(), lowest)
        };
        let mut best = Best::new([span / end, minimum]);
        for reaches in reaches(end, highest - lowest) {
            let lines = reaches.map(|reach| [span / reach, minimum]);
            best.improve(self, &self.sums(&lines, |x| nearest(x, grid.levels)));
        }
        best.line
    }

    /// The best integers among the given ones and some around.
    fn around(&self, pair: [f32; 2], of_block: Line, grid: &Grid) -> ([f32; 2], Squares) {
        let steps = if grid.minimum > 0.0 { AROUND } else { ALONG };
        let pairs = steps.map(|step| {
            [
                bound(pair[0] + step[0], grid.factors),
                bound(pair[1] + step[1], [0.0, grid.minimum]),
            ]
        });
        let lines = pairs.map(|pair| times(pair, of_block));
        let sums = self.sums(&lines, |x| nearest(x, grid.levels));
        let mut best = (pair, Squares::default());
        let mut least = f32::INFINITY;
        for lane in 0..LANES {
            let squares = self.squares(&sums, lane);
            let excess = squares.excess(lines[lane]);
            if excess < least {
                least = excess;
                best = (pairs[lane], squares);
            }
        }
        best
    }

    /// The sums over the levels that each candidate gives, which are those near
    /// `(x + minimum) / factor`.
    ///
    /// Not inlined: among its callers' code the compiler no longer sees the lanes.
    #[inline(never)]
    fn sums(&self, lines: &[Line; LANES], level: impl Fn(f32) -> f32) -> Sums {
        let inverses = lines.map(|line| inverse(line[0]));
        let minima = lines.map(|line| line[1]);
        let (mut qq, mut q, mut qx) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
        for (x, weight) in self.x.iter().zip(&self.weights) {
            for lane in 0..LANES {
                let level = level((x + minima[lane]) * inverses[lane]);
                let weighted = weight * level;
                qq[lane] += weighted * level;
                q[lane] += weighted;
                qx[lane] += weighted * x;
            }
        }
        Sums { qq, q, qx }
    }

    #[inline]
    fn squares(&self, sums: &Sums, lane: usize) -> Squares {
        Squares {
            qq: sums.qq[lane],
            q: sums.q[lane],
            one: self.one,
            qx: sums.qx[lane],
            x: self.sum,
        }
    }
}

/// The sums of [`Squares`] that depend on levels.
struct Sums {
    qq: [f32; LANES],
    q: [f32; LANES],
    qx: [f32; LANES],
}

/// The best line so far.
struct Best {
    line: Line,
    least: f32,
}

impl Best {
    const fn new(line: Line) -> Self {
        let least = f32::INFINITY;
        Self { line, least }
    }

    /// Takes the best line of the lanes, if it is better.
    fn improve<const WIDTH: usize>(&mut self, group: &Group<WIDTH>, sums: &Sums) {
        let (mut lines, mut excess) = ([[0.0; 2]; LANES], [0.0; LANES]);
        for lane in 0..LANES {
            let squares = group.squares(sums, lane);
            lines[lane] = squares.solve();
            excess[lane] = squares.excess(lines[lane]);
        }
        for (line, excess) in lines.into_iter().zip(excess) {
            if excess < self.least {
                *self = Self {
                    line,
                    least: excess,
                };
            }
        }
    }
}

/// Weighted sums over a group: of its levels q and numbers x, squared or together. The squared error
/// of `factor * q - minimum` against x, less that of zeros, is `factor^2 qq + minimum^2 one - 2
/// factor minimum q - 2 factor qx + 2 minimum x`.
#[derive(Default, Clone, Copy)]
struct Squares {
    qq: f32,
    q: f32,
    one: f32,
    qx: f32,
    x: f32,
}

impl Squares {
    /// Adds those of a group, as seen from the block's factors: the group's are its integers times
    /// those.
    fn add(&mut self, group: &Self, [factor, minimum]: [f32; 2]) {
        self.qq += factor * factor * group.qq;
        self.q += factor * minimum * group.q;
        self.one += minimum * minimum * group.one;
        self.qx += factor * group.qx;
        self.x += minimum * group.x;
    }

    /// The squared error less that of zeros.
    #[inline]
    fn excess(&self, [factor, minimum]: Line) -> f32 {
        factor * (factor * self.qq - 2.0 * (minimum * self.q + self.qx))
            + minimum * (minimum * self.one + 2.0 * self.x)
    }

    /// Factor and minimum of least error, the minimum not below zero. Without branches, for lanes.
    #[inline]
    fn solve(&self) -> Line {
        let determinant = self.qq * self.one - self.q * self.q;
        let over = 1.0 / determinant;
        let minimum = (self.qx * self.q - self.qq * self.x) * over;
        let factor = (self.qx * self.one - self.q * self.x) * over;
        // Levels that are all the same, or the same one by one but for rounding, leave it open: then
        // either number by itself, the one that takes more of the error away.
        let both = determinant > 1e-6 * self.qq * self.one && minimum > 0.0;
        let alone = self.qx * inverse(self.qq);
        let below = bound(-self.x * inverse(self.one), [0.0, f32::INFINITY]);
        let is_flat = -self.x * below > self.qx * alone;
        [
            if both {
                factor
            } else if is_flat {
                0.0
            } else {
                alone
            },
            if both {
                minimum
            } else if is_flat {
                below
            } else {
                0.0
            },
        ]
    }
}

/// One over a number; of zero, zero.
#[inline]
fn inverse(x: f32) -> f32 {
    if x == 0.0 { 0.0 } else { 1.0 / x }
}

fn times(a: [f32; 2], b: [f32; 2]) -> [f32; 2] {
    [a[0] * b[0], a[1] * b[1]]
}

/// Two plain comparisons, which machines have as one instruction each.
#[inline]
fn bound(x: f32, [low, high]: [f32; 2]) -> f32 {
    let x = if x > low { x } else { low };
    if x < high { x } else { high }
}

/// The nearest whole number within bounds below 2^22, ties to even: beyond 2^23 a float has no
/// digits after the point, so adding and subtracting it rounds.
#[inline]
fn nearest(x: f32, bounds: [f32; 2]) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    (bound(x, bounds) + ROUND) - ROUND
}
