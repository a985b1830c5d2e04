//! Pages and their owners.

use alloc::vec::Vec;

/// Which pages are free, and how many owners the others have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PagePool {
    owners: Vec<u32>,
    free: Vec<u32>,
}

impl PagePool {
    /// A pool without pages.
    pub const fn new() -> Self {
        Self {
            owners: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Pages that exist.
    pub fn n_pages(&self) -> usize {
        self.owners.len()
    }

    /// Pages with an owner.
    pub fn in_use(&self) -> usize {
        self.owners.len() - self.free.len()
    }

    /// Adds free pages up to `n_pages`; the lowest numbers are taken first.
    pub(super) fn grow(&mut self, n_pages: usize) {
        let old = self.owners.len();
        self.owners.resize(n_pages.max(old), 0);
        let added = (old..self.owners.len()).rev();
        let mut free: Vec<u32> = added.filter_map(|page| u32::try_from(page).ok()).collect();
        free.append(&mut self.free);
        self.free = free;
    }

    pub(super) fn take(&mut self) -> Option<u32> {
        let page = self.free.pop()?;
        self.share(page);
        Some(page)
    }

    pub(super) fn share(&mut self, page: u32) {
        if let Some(owners) = self.owners.get_mut(page as usize) {
            *owners += 1;
        }
    }

    pub(super) fn release(&mut self, page: u32) {
        if let Some(owners) = self.owners.get_mut(page as usize) {
            *owners = owners.saturating_sub(1);
            if *owners == 0 {
                self.free.push(page);
            }
        }
    }

    pub(super) fn is_shared(&self, page: u32) -> bool {
        self.owners
            .get(page as usize)
            .is_some_and(|owners| *owners > 1)
    }
}

impl Default for PagePool {
    fn default() -> Self {
        Self::new()
    }
}
