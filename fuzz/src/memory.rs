//! A ceiling on the memory that a check may take, as a law of its own: a file of n bytes has a right
//! to so much and no more. What asks for more aborts, which the fuzzer reports.

use std::alloc::System;

use cap::Cap;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Runs a check that may take `megabytes` beyond what is in use now.
pub(crate) fn within<T>(megabytes: usize, check: impl FnOnce() -> T) -> T {
    let limit = ALLOCATOR.allocated().saturating_add(megabytes << 20);
    // Refused only where more is in use already, as by another test beside this one.
    let _ = ALLOCATOR.set_limit(limit);
    let out = check();
    let _ = ALLOCATOR.set_limit(usize::MAX);
    out
}
