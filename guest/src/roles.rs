//! Where a tensor of each role is kept: among those of its block, or among the others.

use polychord_abi::network::ROLES;

/// Number of roles of the tensors of one block.
pub(crate) const IN_BLOCK: usize = count(true);
/// Number of all other roles.
pub(crate) const OUTSIDE: usize = count(false);
/// The place of each role among those in a block, or among the others.
pub(crate) const PLACES: [usize; ROLES.len()] = places();

const fn count(in_block: bool) -> usize {
    let (mut role, mut count) = (0, 0);
    while role < ROLES.len() {
        if ROLES[role].section.is_in_block() == in_block {
            count += 1;
        }
        role += 1;
    }
    count
}

const fn places() -> [usize; ROLES.len()] {
    let (mut places, mut role, mut next) = ([0; ROLES.len()], 0, [0; 2]);
    while role < ROLES.len() {
        let group = ROLES[role].section.is_in_block() as usize;
        places[role] = next[group];
        next[group] += 1;
        role += 1;
    }
    places
}
