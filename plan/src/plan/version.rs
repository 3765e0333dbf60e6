//! Versions of plans, of which this program reads one.

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

/// The layout of plans that this version writes and reads.
pub(super) const VERSION: u32 = 2;

/// Reads a version, and refuses all but one. Plans are written with it in front, so that this
/// comes before complaints about what a newer plan has.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    let version = u32::deserialize(from)?;
    check(version).map_err(D::Error::custom)?;
    Ok(version)
}

/// Why a plan of a version cannot be used.
pub(super) fn check(version: u32) -> Result<(), String> {
    let known = VERSION;
    match version {
        _ if version == known => Ok(()),
        _ if version > known => Err(format!(
            "this plan has version {version}, this program reads up to {known}: update this \
             program, or make the plan again with it"
        )),
        _ => Err(format!(
            "this plan has version {version}, this program reads version {known}: make the plan \
             again with this program"
        )),
    }
}
