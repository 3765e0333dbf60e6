//! Tables of the IQ types, which store numbers of entries of four or eight values each.
//!
//! The entries of a table are some of all that there are with three or eight different values, in
//! ascending order; so a bit for each of these tells everything, and takes less room in the
//! module than entries would. A table is made of it in memory when it is first used.
#![allow(unsafe_code)]

use core::cell::{Cell, UnsafeCell};

/// A table of `N` entries of `L` values.
pub(super) struct Grid<const L: usize, const N: usize> {
    /// A bit for each possible entry, counted by its values as digits, of which the first is the
    /// lowest.
    bits: &'static [u8],
    /// The value of each digit.
    digits: &'static [i8],
    entries: UnsafeCell<[[i8; L]; N]>,
    ready: Cell<bool>,
}

// SAFETY: the module has no threads: its memory is not shared.
unsafe impl<const L: usize, const N: usize> Sync for Grid<L, N> {}

/// Values of `IQ2_XXS`, `IQ2_XS` and `IQ2_S`.
const TWO_BITS: &[i8] = &[8, 25, 43];

pub(super) static IQ2_XXS: Grid<8, 256> = Grid::new(include_bytes!("grids/iq2_xxs"), TWO_BITS);
pub(super) static IQ2_XS: Grid<8, 512> = Grid::new(include_bytes!("grids/iq2_xs"), TWO_BITS);
pub(super) static IQ2_S: Grid<8, 1024> = Grid::new(include_bytes!("grids/iq2_s"), TWO_BITS);
/// Halves of ggml's values.
pub(super) static IQ3_XXS: Grid<4, 256> =
    Grid::new(include_bytes!("grids/iq3_xxs"), &[2, 6, 10, 14, 18, 22, 26, 31]);
pub(super) static IQ3_S: Grid<4, 512> =
    Grid::new(include_bytes!("grids/iq3_s"), &[1, 3, 5, 7, 9, 11, 13, 15]);
/// Of `IQ1_S` and `IQ1_M`: eight times ggml's values.
pub(super) static IQ1: Grid<8, 2048> = Grid::new(include_bytes!("grids/iq1"), &[-8, 0, 8]);

impl<const L: usize, const N: usize> Grid<L, N> {
    const fn new(bits: &'static [u8], digits: &'static [i8]) -> Self {
        const { assert!(N.is_power_of_two()) };
        Self { bits, digits, entries: UnsafeCell::new([[0; L]; N]), ready: Cell::new(false) }
    }

    /// The table, of which entry `index & (N - 1)` is within bounds.
    #[inline(always)]
    pub(super) fn entries(&'static self) -> &'static [[i8; L]; N] {
        if !self.ready.get() {
            self.fill();
        }
        // SAFETY: nothing changes the table any more.
        unsafe { &*self.entries.get() }
    }

    /// Makes the table: once, or again if the call was stopped meanwhile.
    #[cold]
    #[inline(never)]
    fn fill(&self) {
        // SAFETY: there is no other reference before the table is ready, and there are no threads.
        let entries = unsafe { &mut *self.entries.get() };
        let members = (0..8 * self.bits.len()).filter(|n| self.bits[n / 8] >> (n % 8) & 1 == 1);
        for (entry, member) in entries.iter_mut().zip(members) {
            let mut rest = member;
            for value in entry {
                *value = self.digits[rest % self.digits.len()];
                rest /= self.digits.len();
            }
        }
        self.ready.set(true);
    }
}
