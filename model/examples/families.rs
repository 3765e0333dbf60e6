//! Prints the model families that can be computed, a line each, for `scripts/families`.
#![allow(clippy::print_stdout, reason = "it is what this is for")]

use polychord_model::families::Family;

fn main() {
    for family in Family::all() {
        let features: Vec<_> = family.features().collect();
        let rotation = family.rotation();
        let (name, models) = (family.architecture(), family.models());
        println!("{name}\t{models}\t{rotation}\t{}", features.join(", "));
    }
}
