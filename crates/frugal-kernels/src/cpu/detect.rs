//! What this processor can do, found once when the back-end is built.
//!
//! A [`CpuFeatures`] is the proof that the instructions it names exist here and that the operating
//! system saves their registers; the inner kernels rely on it. It can be lowered, never raised, so
//! that tests run every kernel a machine has. Nothing here reads an environment variable.
//!
//! Next: [`crate::cpu::gemm`], the first user.

/// A level of vector instructions, weakest first. Levels of other architectures are never present.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// Plain Rust, left to the compiler.
    Portable,
    /// 128-bit vectors of 64-bit ARM.
    Neon,
    /// 256-bit vectors and fused multiply-add of x86-64.
    Avx2,
    /// 512-bit vectors (F, BW, DQ, VL).
    Avx512,
    /// 512-bit vectors with dot products of bf16 and of bytes.
    Avx512Bf16,
    /// Tile registers with products of bf16 and of bytes, on top of all of the above, and look-ups of
    /// bytes (VBMI).
    Amx,
}

impl Isa {
    const ALL: [Self; 6] = [
        Self::Portable,
        Self::Neon,
        Self::Avx2,
        Self::Avx512,
        Self::Avx512Bf16,
        Self::Amx,
    ];

    /// Whether the level belongs to the architecture this was compiled for.
    const fn is_of_this_architecture(self) -> bool {
        match self {
            Self::Portable => true,
            Self::Neon => cfg!(target_arch = "aarch64"),
            Self::Avx2 | Self::Avx512 | Self::Avx512Bf16 | Self::Amx => {
                cfg!(target_arch = "x86_64")
            }
        }
    }
}

/// The level in use, known to exist on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuFeatures {
    isa: Isa,
}

impl CpuFeatures {
    /// The best level of this machine. Asks the processor, and the Linux kernel for tile registers.
    pub fn detect() -> Self {
        Self { isa: best() }
    }

    /// The best level in use.
    pub const fn isa(self) -> Isa {
        self.isa
    }

    /// The same machine used as if it had no more than `isa`; `None` if it does not have `isa`, or
    /// has already been lowered below it.
    pub fn capped(self, isa: Isa) -> Option<Self> {
        self.supports(isa).then_some(Self { isa })
    }

    /// Whether kernels of level `isa` may run.
    pub fn supports(self, isa: Isa) -> bool {
        isa.is_of_this_architecture() && isa <= self.isa
    }

    /// This level and all below it, weakest first.
    pub fn available(self) -> impl Iterator<Item = Self> {
        Isa::ALL.into_iter().filter_map(move |isa| self.capped(isa))
    }
}

#[cfg(target_arch = "x86_64")]
fn best() -> Isa {
    use std::arch::is_x86_feature_detected as has;
    if !(has!("avx2") && has!("fma") && has!("f16c")) {
        return Isa::Portable;
    }
    let wide = has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl");
    if !wide {
        return Isa::Avx2;
    }
    if !(has!("avx512bf16") && has!("avx512vnni")) {
        return Isa::Avx512;
    }
    // No processor with tiles is without look-ups of bytes.
    if has!("avx512vbmi") && tiles::usable() {
        Isa::Amx
    } else {
        Isa::Avx512Bf16
    }
}

#[cfg(target_arch = "aarch64")]
fn best() -> Isa {
    if std::arch::is_aarch64_feature_detected!("neon") {
        Isa::Neon
    } else {
        Isa::Portable
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn best() -> Isa {
    Isa::Portable
}

/// Tile registers: the one feature the operating system hands out only on request.
#[cfg(target_arch = "x86_64")]
mod tiles {
    /// `arch_prctl` code that asks for a register state component (Linux 5.16 and later).
    #[cfg(target_os = "linux")]
    const ARCH_REQ_XCOMP_PERM: libc::c_ulong = 0x1023;
    /// Number of the tile data component in XCR0 (Intel SDM volume 1, 13.1).
    const XFEATURE_XTILEDATA: u32 = 18;
    /// Tile configuration and tile data, both needed.
    const XCR0_TILES: u64 = (1 << 17) | (1 << XFEATURE_XTILEDATA);
    /// CPUID leaf 7, register EDX: AMX-BF16, AMX-TILE and AMX-INT8.
    const EDX_TILES: u32 = (1 << 22) | (1 << 24) | (1 << 25);

    pub(super) fn usable() -> bool {
        processor_has_them() && enabled_by_system() && granted()
    }

    fn processor_has_them() -> bool {
        let leaf = std::arch::x86_64::__cpuid_count(7, 0);
        leaf.edx & EDX_TILES == EDX_TILES && std::arch::is_x86_feature_detected!("xsave")
    }

    fn enabled_by_system() -> bool {
        // SAFETY: `processor_has_them` found XSAVE, and the standard library reports it only where
        // the system has enabled it, which is what XGETBV needs.
        let xcr0 = unsafe { read_xcr0() };
        xcr0 & XCR0_TILES == XCR0_TILES
    }

    #[target_feature(enable = "xsave")]
    fn read_xcr0() -> u64 {
        // SAFETY: register 0 always exists where XGETBV does.
        unsafe { std::arch::x86_64::_xgetbv(0) }
    }

    /// Asks Linux to save tile data for this process. Granted once, it holds for every thread, and
    /// asking again is harmless.
    #[cfg(target_os = "linux")]
    fn granted() -> bool {
        // SAFETY: this system call reads and writes no memory of ours; it either records the
        // permission for the process or refuses with an error code.
        let refused = unsafe {
            libc::syscall(
                libc::SYS_arch_prctl,
                ARCH_REQ_XCOMP_PERM,
                libc::c_ulong::from(XFEATURE_XTILEDATA),
            )
        };
        refused == 0
    }

    /// No other system is known to hand tiles out.
    #[cfg(not(target_os = "linux"))]
    const fn granted() -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn can_be_lowered_but_not_raised() {
        let all = CpuFeatures::detect();
        let portable = all.capped(Isa::Portable).unwrap();
        assert_eq!(portable.isa(), Isa::Portable);
        assert!(
            Isa::ALL[1..]
                .iter()
                .all(|&isa| portable.capped(isa).is_none())
        );
    }

    #[test]
    fn levels_of_another_architecture_are_never_present() {
        let all = CpuFeatures::detect();
        let has_x86 = all.supports(Isa::Avx2);
        assert!(!(has_x86 && all.supports(Isa::Neon)));
    }

    #[test]
    fn available_starts_at_portable_and_ends_at_the_best() {
        let all = CpuFeatures::detect();
        let levels: Vec<Isa> = all.available().map(CpuFeatures::isa).collect();
        assert_eq!(levels.first(), Some(&Isa::Portable));
        assert_eq!(levels.last(), Some(&all.isa()));
    }
}
