//! Tables of the IQ types, which store numbers of entries of four or eight values each.
//!
//! The entries of a table are some of all that there are with three or eight different values, in
//! ascending order; so a bit for each of these tells everything, and takes less room in the
//! module than entries would. A table is made of it in memory when it is first used.
//! `tests/data/kernels/make.py` made the files.
#![allow(unsafe_code)]

use core::cell::{Cell, UnsafeCell};

/// A table of `N` entries of `L` values.
pub(super) struct Grid<const L: usize, const N: usize> {
    /// A bit for each possible entry, counted by its values as digits, of which the first is the
    /// lowest.
    bits: &'static [u8],
    /// The value of each digit.
    digits: &'static [i8],
    /// Elsewhere, because zeros take no room in the module where there is nothing else.
    entries: &'static Entries<L, N>,
}

struct Entries<const L: usize, const N: usize> {
    entries: UnsafeCell<[[i8; L]; N]>,
    ready: Cell<bool>,
}

// SAFETY: the module has no threads: its memory is not shared.
unsafe impl<const L: usize, const N: usize> Sync for Entries<L, N> {}

macro_rules! grids {
    ($($(#[$doc:meta])* $name:ident $length:literal $entries:literal $file:literal $digits:expr;)*) => {
        $(
            $(#[$doc])*
            pub(super) static $name: Grid<$length, $entries> = {
                static ENTRIES: Entries<$length, $entries> = Entries {
                    entries: UnsafeCell::new([[0; $length]; $entries]),
                    ready: Cell::new(false),
                };
                const { assert!($entries.is_power_of_two()) };
                Grid { bits: include_bytes!($file), digits: $digits, entries: &ENTRIES }
            };
        )*
    };
}

grids! {
    IQ2_XXS 8 256_usize "grids/iq2_xxs" &[8, 25, 43];
    IQ2_XS 8 512_usize "grids/iq2_xs" &[8, 25, 43];
    IQ2_S 8 1024_usize "grids/iq2_s" &[8, 25, 43];
    /// Halves of ggml's values.
    IQ3_XXS 4 256_usize "grids/iq3_xxs" &[2, 6, 10, 14, 18, 22, 26, 31];
    IQ3_S 4 512_usize "grids/iq3_s" &[1, 3, 5, 7, 9, 11, 13, 15];
    /// Of `IQ1_S` and `IQ1_M`: eight times ggml's values.
    IQ1 8 2048_usize "grids/iq1" &[-8, 0, 8];
}

impl<const L: usize, const N: usize> Grid<L, N> {
    /// The table.
    #[inline(always)]
    pub(super) fn entries(&self) -> &'static [[i8; L]; N] {
        let Entries { entries, ready } = self.entries;
        if !ready.get() {
            // SAFETY: there is no other reference before the table is ready, and no other thread.
            fill(unsafe { &mut *entries.get() }.as_flattened_mut(), L, self.bits, self.digits);
            ready.set(true);
        }
        // SAFETY: nothing changes the table any more.
        unsafe { &*entries.get() }
    }
}

/// Makes a table: once, or again if the call was stopped meanwhile.
#[cold]
#[inline(never)]
fn fill(entries: &mut [i8], length: usize, bits: &[u8], digits: &[i8]) {
    let members = (0..8 * bits.len()).filter(|n| bits[n / 8] >> (n % 8) & 1 == 1);
    for (entry, member) in entries.chunks_exact_mut(length).zip(members) {
        let mut rest = member;
        for value in entry {
            *value = digits[rest % digits.len()];
            rest /= digits.len();
        }
    }
}
