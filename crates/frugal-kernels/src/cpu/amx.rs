//! Tile registers: bf16 products of 16 x 32 by 32 x 16, summed in f32.
//!
//! The intrinsics are not stable, so the few instructions are inline assembly. Tile state is per
//! thread: a [`Tiles`] is loaded on the thread that multiplies and released when it is dropped, so
//! that a sleeping thread has no 8 KB of tile data for the system to save.
//!
//! All tiles are configured 16 rows by 64 bytes, those of left rows and sums to fewer rows where no
//! more are multiplied, which takes as many cycles as there are rows. Operands are padded to whole
//! tiles, and a row's result is the same in every place and company.

pub(crate) mod integer;
mod source;

use std::arch::asm;
use std::cell::Cell;
use std::marker::PhantomData;

use crate::cpu::detect::{CpuFeatures, Isa};
use crate::cpu::gemm::tile::{LANES, TILE_WORDS};

/// Left rows of a block: two tiles.
pub(crate) const ROWS: usize = 32;
/// Right panels of a block: two tiles, so that 4 products are under way for 4 loads.
pub(crate) const PANELS: usize = 2;
/// Right panels of a block of no more than one left tile: as many products under way with fewer rows.
pub(crate) const PANELS_OF_FEW: usize = 4;
/// Panels of a stored weight that few activations meet together: four sums, with which one load of
/// activations serves four of the weight.
pub(crate) const WEIGHT_PANELS: usize = 4;
/// Rows of a tile.
const TILE_ROWS: usize = 16;
/// Bytes from row to row of a packed tile.
const ROW_BYTES: usize = 64;

/// Palette 1 (Intel SDM volume 1, 18.1): rows of each of eight registers, and bytes of a row.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Config {
    /// All eight registers 16 rows of 64 bytes.
    const FULL: Self = Self {
        palette: 1,
        start_row: 0,
        reserved: [0; 14],
        row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
        rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
    };

    /// Sums and the left tile of blocks of one left tile, all but the right tiles, of so many rows.
    const fn of_few(rows: u8) -> Self {
        Self {
            rows: [
                rows, rows, rows, rows, rows, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0,
            ],
            ..Self::FULL
        }
    }

    /// For 1, 2, ... 15 rows, and for more.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::indexing_slicing,
        reason = "below sixteen"
    )]
    const ALL: [Self; TILE_ROWS] = {
        let mut all = [Self::FULL; TILE_ROWS];
        let mut rows = 1;
        while rows < TILE_ROWS {
            all[rows - 1] = Self::of_few(rows as u8);
            rows += 1;
        }
        all
    };
}

static CONFIGS: [Config; TILE_ROWS] = Config::ALL;

thread_local! {
    static IS_LOADED: Cell<bool> = const { Cell::new(false) };
}

/// The tile registers of this thread, configured.
#[derive(Debug)]
pub(crate) struct Tiles {
    /// Rows of left tiles and sums.
    rows: usize,
    stays_on_its_thread: PhantomData<*const ()>,
}

impl Tiles {
    /// Configures the tile registers of this thread.
    ///
    /// # Panics
    /// If the machine has none, or this thread has them in use.
    pub(crate) fn load(features: CpuFeatures) -> Self {
        Self::load_for(features, TILE_ROWS)
    }

    /// As [`Self::load`] for products of up to `rows` left rows: what sums have beyond them is then not
    /// written, where a tile has fewer.
    pub(crate) fn load_for(features: CpuFeatures, rows: usize) -> Self {
        let rows = rows.clamp(1, TILE_ROWS);
        assert!(
            features.supports(Isa::Amx),
            "tile registers are in use only where detected"
        );
        #[expect(clippy::indexing_slicing, reason = "clamped above")]
        claim(&CONFIGS[rows - 1]);
        Self {
            rows,
            stays_on_its_thread: PhantomData,
        }
    }

    /// `acc[r][c] = Σ a · b` over tiles.
    pub(crate) fn multiply(&self, block: &TileBlock<'_>, acc: &mut [f32]) {
        assert!(block.row_tiles * TILE_ROWS * block.panels * LANES <= acc.len());
        let to = Destination {
            first: acc.as_mut_ptr(),
            row_bytes: block.panels * ROW_BYTES,
            is_added: false,
        };
        // SAFETY: the sums have room for the block, one row after another.
        unsafe { self.multiply_into(block, to) };
    }

    /// As [`Self::multiply`] to where the sums belong, or added to what is there.
    ///
    /// # Safety
    /// The block's whole tiles lie in one allocation from `to` on, and nobody else uses them.
    pub(crate) unsafe fn multiply_into(&self, block: &TileBlock<'_>, to: Destination) {
        block.check();
        // Only functions for one left tile keep to the registers that have fewer rows.
        assert!(self.rows == TILE_ROWS || block.row_tiles == 1);
        let panel = |p: usize| block.b.as_ptr().wrapping_add(p * block.b_panel);
        let pointers = Pointers {
            a: block.a.as_ptr(),
            a_next: block.a.as_ptr().wrapping_add(block.a_block),
            a_row: block.a_row * size_of::<u32>(),
            a_step: block.a_step * size_of::<u32>(),
            b: [panel(0), panel(1), panel(2), panel(3)],
            to,
        };
        // SAFETY: `self` shows that this thread's tiles are configured; `check` found every tile of
        // the block inside its slice, and the caller vouches for the place of the sums; the
        // functions touch exactly the tiles their names say.
        unsafe {
            match (block.row_tiles, block.panels) {
                (1, 1) => one_by_one(&pointers, block.steps),
                (1, 2) => one_by_two(&pointers, block.steps),
                (1, 3) => {
                    one_by_two(&pointers, block.steps);
                    one_by_one(&pointers.third(), block.steps);
                }
                (1, _) => one_by_four(&pointers, block.steps),
                (_, 1) => two_by_one(&pointers, block.steps),
                _ => two_by_two(&pointers, block.steps),
            }
        }
    }
}

/// Left tiles of [`WEIGHT_PANELS`] panels, wherever they lie.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LeftTiles {
    /// The first tile of each panel.
    pub(crate) start: [*const u8; WEIGHT_PANELS],
    /// Bytes from a row of a tile to the next.
    pub(crate) row: usize,
    /// Bytes from a tile to the next.
    pub(crate) step: usize,
}

impl Tiles {
    /// Adds to the 16 x 16 sums of each panel as many steps as `right` has tiles.
    ///
    /// # Safety
    /// Each panel of `left` has that many tiles.
    pub(crate) unsafe fn add(
        &self,
        left: &LeftTiles,
        right: &[u32],
        sums: &mut [f32; WEIGHT_PANELS * TILE_WORDS],
    ) {
        assert!(self.rows == TILE_ROWS);
        let [a0, a1, a2, a3] = left.start;
        // SAFETY: `self` shows that tiles are configured; the caller vouches for the left tiles; the
        // count is that of whole right tiles, and the sums are four tiles.
        unsafe {
            asm!(
                "tileloadd tmm0, [{c} + {s}]",
                "tileloadd tmm1, [{c} + {s} + 1024]",
                "tileloadd tmm2, [{c} + {s} + 2048]",
                "tileloadd tmm3, [{c} + {s} + 3072]",
                "test {n}, {n}", "jz 3f",
                "2:",
                "tileloadd tmm6, [{b} + {s}]",
                "tileloadd tmm4, [{a0} + {row}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm5, [{a1} + {row}]",
                "tdpbf16ps tmm1, tmm5, tmm6",
                "tileloadd tmm4, [{a2} + {row}]",
                "tdpbf16ps tmm2, tmm4, tmm6",
                "tileloadd tmm5, [{a3} + {row}]",
                "tdpbf16ps tmm3, tmm5, tmm6",
                "add {a0}, {step}", "add {a1}, {step}", "add {a2}, {step}", "add {a3}, {step}",
                "add {b}, 1024",
                "dec {n}", "jnz 2b",
                "3:",
                "tilestored [{c} + {s}], tmm0",
                "tilestored [{c} + {s} + 1024], tmm1",
                "tilestored [{c} + {s} + 2048], tmm2",
                "tilestored [{c} + {s} + 3072], tmm3",
                n = inout(reg) right.len() / TILE_WORDS => _,
                a0 = inout(reg) a0 => _, a1 = inout(reg) a1 => _,
                a2 = inout(reg) a2 => _, a3 = inout(reg) a3 => _,
                b = inout(reg) right.as_ptr() => _,
                c = in(reg) sums.as_mut_ptr(), s = in(reg) ROW_BYTES,
                row = in(reg) left.row, step = in(reg) left.step,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _,
                options(nostack),
            );
        }
    }
}

/// Where the sums of a block go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Destination {
    /// The first sum.
    pub(crate) first: *mut f32,
    /// Bytes from row to row.
    pub(crate) row_bytes: usize,
    /// Whether they are added to what is there.
    pub(crate) is_added: bool,
}

impl Drop for Tiles {
    fn drop(&mut self) {
        release();
    }
}

/// Configures the tile registers of this thread, for callers whose features name AMX.
fn claim(config: &'static Config) {
    assert!(
        !IS_LOADED.replace(true),
        "tile registers are loaded once a thread"
    );
    // SAFETY: both callers have asked the features for AMX, so the instruction exists and the system
    // has granted tile data; the configuration is 64 bytes, valid by Intel's rules, and only read.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const *config, options(nostack, readonly)) };
}

/// Gives the tile registers of this thread back.
fn release() {
    // SAFETY: the registers were configured on this thread by `claim`, and the types that call this
    // when dropped cannot leave their thread.
    unsafe { asm!("tilerelease", options(nostack, nomem)) };
    IS_LOADED.set(false);
}

/// A product of two left tiles by up to two right tiles, or one by up to four, `steps` deep. Tiles are packed:
/// step s of a right panel is the 256 words from `s * 256` on; left tiles may lie apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TileBlock<'a> {
    /// Left tiles: 16 rows of 16 pairs.
    pub(crate) a: &'a [u32],
    /// Words from a block of 16 left rows to the next.
    pub(crate) a_block: usize,
    /// Words from a left row to the next.
    pub(crate) a_row: usize,
    /// Words from a left tile to the next.
    pub(crate) a_step: usize,
    /// Blocks of 16 left rows, 1 or 2.
    pub(crate) row_tiles: usize,
    /// Right tiles: 16 pairs deep, 16 columns.
    pub(crate) b: &'a [u32],
    /// Words from a right panel to the next.
    pub(crate) b_panel: usize,
    /// Right panels.
    pub(crate) panels: usize,
    /// Tiles along the reduction.
    pub(crate) steps: usize,
}

impl TileBlock<'_> {
    fn check(&self) {
        let most = if self.row_tiles == 1 {
            PANELS_OF_FEW
        } else {
            PANELS
        };
        assert!((1..=2).contains(&self.row_tiles) && (1..=most).contains(&self.panels));
        let depth = self.steps * TILE_WORDS;
        if let Some(last) = self.steps.checked_sub(1) {
            let last = last * self.a_step + (TILE_ROWS - 1) * self.a_row + LANES;
            assert!((self.row_tiles - 1) * self.a_block + last <= self.a.len());
        }
        assert!((self.panels - 1) * self.b_panel + depth <= self.b.len());
    }
}

struct Pointers {
    a: *const u32,
    a_next: *const u32,
    /// Bytes from row to row and from tile to tile.
    a_row: usize,
    a_step: usize,
    b: [*const u32; PANELS_OF_FEW],
    to: Destination,
}

impl Pointers {
    /// The block's third panel by itself.
    const fn third(&self) -> Self {
        Self {
            b: [self.b[2]; PANELS_OF_FEW],
            to: Destination {
                first: self.to.first.wrapping_add(2 * LANES),
                ..self.to
            },
            ..*self
        }
    }

    /// The sums of the second left tile.
    const fn next_rows(&self) -> *mut f32 {
        self.to
            .first
            .wrapping_byte_add(TILE_ROWS * self.to.row_bytes)
    }
}

/// # Safety
/// Tiles are configured; `a`, `a_next` and the first two of `b` have `steps` tiles, and there are 32 rows of 32
/// sums.
unsafe fn two_by_two(p: &Pointers, steps: usize) {
    // SAFETY: the caller vouches for the memory; registers are declared.
    unsafe {
        asm!(
            "test {f}, {f}", "jz 4f",
            "tileloadd tmm0, [{c} + {t}]",
            "tileloadd tmm1, [{c} + {t} + 64]",
            "tileloadd tmm2, [{c_next} + {t}]",
            "tileloadd tmm3, [{c_next} + {t} + 64]",
            "jmp 5f",
            "4:",
            "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
            "5:",
            "test {n}, {n}", "jz 3f",
            "2:",
            "tileloadd tmm4, [{a} + {ar}]",
            "tileloadd tmm6, [{b} + {s}]",
            "tileloadd tmm7, [{b_next} + {s}]",
            "tileloadd tmm5, [{a_next} + {ar}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {a}, {at}", "add {a_next}, {at}", "add {b}, 1024", "add {b_next}, 1024",
            "dec {n}", "jnz 2b",
            "3:",
            "tilestored [{c} + {t}], tmm0",
            "tilestored [{c} + {t} + 64], tmm1",
            "tilestored [{c_next} + {t}], tmm2",
            "tilestored [{c_next} + {t} + 64], tmm3",
            n = inout(reg) steps => _,
            a = inout(reg) p.a => _, a_next = inout(reg) p.a_next => _,
            b = inout(reg) p.b[0] => _, b_next = inout(reg) p.b[1] => _,
            c = in(reg) p.to.first, c_next = in(reg) p.next_rows(),
            ar = in(reg) p.a_row, at = in(reg) p.a_step, s = in(reg) ROW_BYTES, t = in(reg) p.to.row_bytes, f = in(reg) usize::from(p.to.is_added),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// # Safety
/// Tiles are configured; `a` and the first two of `b` have `steps` tiles, and there are 16 rows of 32 sums.
unsafe fn one_by_two(p: &Pointers, steps: usize) {
    // SAFETY: the caller vouches for the memory; registers are declared.
    unsafe {
        asm!(
            "test {f}, {f}", "jz 4f",
            "tileloadd tmm0, [{c} + {t}]",
            "tileloadd tmm1, [{c} + {t} + 64]",
            "jmp 5f",
            "4:",
            "tilezero tmm0", "tilezero tmm1",
            "5:",
            "test {n}, {n}", "jz 3f",
            "2:",
            "tileloadd tmm4, [{a} + {ar}]",
            "tileloadd tmm6, [{b} + {s}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{b_next} + {s}]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "add {a}, {at}", "add {b}, 1024", "add {b_next}, 1024",
            "dec {n}", "jnz 2b",
            "3:",
            "tilestored [{c} + {t}], tmm0",
            "tilestored [{c} + {t} + 64], tmm1",
            n = inout(reg) steps => _,
            a = inout(reg) p.a => _,
            b = inout(reg) p.b[0] => _, b_next = inout(reg) p.b[1] => _,
            c = in(reg) p.to.first,
            ar = in(reg) p.a_row, at = in(reg) p.a_step, s = in(reg) ROW_BYTES, t = in(reg) p.to.row_bytes, f = in(reg) usize::from(p.to.is_added),
            out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _,
            out("tmm7") _,
            options(nostack),
        );
    }
}

/// # Safety
/// Tiles are configured; `a` and all of `b` have `steps` tiles, and there are 16 rows of 64 sums.
unsafe fn one_by_four(p: &Pointers, steps: usize) {
    // SAFETY: the caller vouches for the memory; registers are declared.
    unsafe {
        asm!(
            "test {f}, {f}", "jz 4f",
            "tileloadd tmm0, [{c} + {t}]",
            "tileloadd tmm1, [{c} + {t} + 64]",
            "tileloadd tmm2, [{c} + {t} + 128]",
            "tileloadd tmm3, [{c} + {t} + 192]",
            "jmp 5f",
            "4:",
            "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
            "5:",
            "test {n}, {n}", "jz 3f",
            "2:",
            "tileloadd tmm4, [{a} + {ar}]",
            "tileloadd tmm5, [{b0} + {s}]",
            "tdpbf16ps tmm0, tmm4, tmm5",
            "tileloadd tmm6, [{b1} + {s}]",
            "tdpbf16ps tmm1, tmm4, tmm6",
            "tileloadd tmm7, [{b2} + {s}]",
            "tdpbf16ps tmm2, tmm4, tmm7",
            "tileloadd tmm5, [{b3} + {s}]",
            "tdpbf16ps tmm3, tmm4, tmm5",
            "add {a}, {at}", "add {b0}, 1024", "add {b1}, 1024", "add {b2}, 1024",
            "add {b3}, 1024",
            "dec {n}", "jnz 2b",
            "3:",
            "tilestored [{c} + {t}], tmm0",
            "tilestored [{c} + {t} + 64], tmm1",
            "tilestored [{c} + {t} + 128], tmm2",
            "tilestored [{c} + {t} + 192], tmm3",
            n = inout(reg) steps => _,
            a = inout(reg) p.a => _,
            b0 = inout(reg) p.b[0] => _, b1 = inout(reg) p.b[1] => _,
            b2 = inout(reg) p.b[2] => _, b3 = inout(reg) p.b[3] => _,
            c = in(reg) p.to.first,
            ar = in(reg) p.a_row, at = in(reg) p.a_step, s = in(reg) ROW_BYTES, t = in(reg) p.to.row_bytes, f = in(reg) usize::from(p.to.is_added),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// # Safety
/// Tiles are configured; `a`, `a_next` and the first of `b` have `steps` tiles, and there are 32 rows of 16
/// sums.
unsafe fn two_by_one(p: &Pointers, steps: usize) {
    // SAFETY: the caller vouches for the memory; registers are declared.
    unsafe {
        asm!(
            "test {f}, {f}", "jz 4f",
            "tileloadd tmm0, [{c} + {t}]",
            "tileloadd tmm2, [{c_next} + {t}]",
            "jmp 5f",
            "4:",
            "tilezero tmm0", "tilezero tmm2",
            "5:",
            "test {n}, {n}", "jz 3f",
            "2:",
            "tileloadd tmm4, [{a} + {ar}]",
            "tileloadd tmm6, [{b} + {s}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm5, [{a_next} + {ar}]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "add {a}, {at}", "add {a_next}, {at}", "add {b}, 1024",
            "dec {n}", "jnz 2b",
            "3:",
            "tilestored [{c} + {t}], tmm0",
            "tilestored [{c_next} + {t}], tmm2",
            n = inout(reg) steps => _,
            a = inout(reg) p.a => _, a_next = inout(reg) p.a_next => _,
            b = inout(reg) p.b[0] => _,
            c = in(reg) p.to.first, c_next = in(reg) p.next_rows(),
            ar = in(reg) p.a_row, at = in(reg) p.a_step, s = in(reg) ROW_BYTES, t = in(reg) p.to.row_bytes, f = in(reg) usize::from(p.to.is_added),
            out("tmm0") _, out("tmm2") _, out("tmm4") _, out("tmm5") _,
            out("tmm6") _,
            options(nostack),
        );
    }
}

/// # Safety
/// Tiles are configured; `a` and the first of `b` have `steps` tiles, and there are 16 rows of 16 sums.
unsafe fn one_by_one(p: &Pointers, steps: usize) {
    // SAFETY: the caller vouches for the memory; registers are declared.
    unsafe {
        asm!(
            "test {f}, {f}", "jz 4f",
            "tileloadd tmm0, [{c} + {t}]",
            "jmp 5f",
            "4:",
            "tilezero tmm0",
            "5:",
            "test {n}, {n}", "jz 3f",
            "2:",
            "tileloadd tmm4, [{a} + {ar}]",
            "tileloadd tmm6, [{b} + {s}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "add {a}, {at}", "add {b}, 1024",
            "dec {n}", "jnz 2b",
            "3:",
            "tilestored [{c} + {t}], tmm0",
            n = inout(reg) steps => _,
            a = inout(reg) p.a => _,
            b = inout(reg) p.b[0] => _,
            c = in(reg) p.to.first,
            ar = in(reg) p.a_row, at = in(reg) p.a_step, s = in(reg) ROW_BYTES, t = in(reg) p.to.row_bytes, f = in(reg) usize::from(p.to.is_added),
            out("tmm0") _, out("tmm4") _, out("tmm6") _,
            options(nostack),
        );
    }
}
