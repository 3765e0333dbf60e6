//! What is known of values while code is followed: sums of locals and constants.

use std::collections::HashMap;

/// What is added up: locals, as they are when the part begins, sorted, and how many times each.
pub(crate) type Base = Vec<(u32, i64)>;

/// What is known of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// Multiples of locals, a constant, and a number from zero to `slack`; all modulo 2^64.
    Sum {
        base: Base,
        add: i64,
        slack: i64,
    },
    /// Anything, which an operator of the part gave to a local.
    Since(usize),
    Anything,
}

/// What is known of some locals.
pub(crate) type Values = HashMap<u32, Value>;

/// Farthest constants that are looked at.
pub(crate) const FAR: i64 = 1 << 30;

/// Most locals in a sum.
const LOCALS: usize = 3;

impl Value {
    /// The address that an access with an offset is at.
    pub(crate) fn at(&self, offset: u64) -> Self {
        match i64::try_from(offset) {
            Ok(add) if add < FAR => self.plus(&Self::number(add, 0)),
            _ => Self::Anything,
        }
    }

    /// A number with nothing else, from `add` to `add + slack`.
    pub(crate) const fn number(add: i64, slack: i64) -> Self {
        Self::Sum { base: Vec::new(), add, slack }
    }

    /// The two numbers in common bits: at most either, if it has no sign.
    pub(crate) fn masked(&self, other: &Self) -> Self {
        let mask = [self, other].into_iter().find_map(|value| match value {
            Self::Sum { base, add: mask, slack: 0 } if base.is_empty() => Some(*mask),
            _ => None,
        });
        match mask {
            Some(mask @ 0..FAR) => Self::number(0, mask),
            _ => Self::Anything,
        }
    }

    /// The number shifted to the left by a constant, if that is small.
    pub(crate) fn shifted(&self, other: &Self) -> Self {
        match other {
            Self::Sum { base, add: bits @ 0..=16, slack: 0 } if base.is_empty() => {
                self.times(&Self::number(1 << bits, 0))
            }
            _ => Self::Anything,
        }
    }

    /// The number times a constant, if that is small. What has no local in it may have 32 bits, and so has
    /// to stay small itself.
    pub(crate) fn times(&self, other: &Self) -> Self {
        let (
            Self::Sum { base, add, slack },
            Self::Sum { base: none, add: by @ 0..=0x1_0000, slack: 0 },
        ) = (self, other)
        else {
            return Self::Anything;
        };
        let is_small = slack * by < FAR
            && (!base.is_empty() || (0..FAR).contains(add) && (add + slack) * by < FAR);
        if !none.is_empty() || *by == 0 || !is_small {
            return Self::Anything;
        }
        let base = base.iter().map(|(local, times)| (*local, times.wrapping_mul(*by))).collect();
        Self::Sum { base, add: add.wrapping_mul(*by), slack: slack * by }
    }

    /// The sum, as far as it is known.
    pub(crate) fn plus(&self, other: &Self) -> Self {
        match (self, other) {
            (
                Self::Sum { base: a, add: x, slack: more },
                Self::Sum { base: b, add: y, slack: other },
            ) => {
                let mut base = a.clone();
                for (local, times) in b {
                    match base.iter_mut().find(|(there, _)| there == local) {
                        Some((_, there)) => *there = there.wrapping_add(*times),
                        None => base.push((*local, *times)),
                    }
                }
                base.retain(|(_, times)| *times != 0);
                base.sort_unstable();
                let slack = more + other;
                if base.len() > LOCALS || slack > FAR {
                    return Self::Anything;
                }
                Self::Sum { base, add: x.wrapping_add(*y), slack }
            }
            (Self::Since(begun), Self::Sum { base, .. })
            | (Self::Sum { base, .. }, Self::Since(begun))
                if base.is_empty() =>
            {
                Self::Since(*begun)
            }
            _ => Self::Anything,
        }
    }
}
