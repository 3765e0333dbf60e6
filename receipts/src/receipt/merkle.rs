//! The tree over all steps: that of RFC 6962, with SHA-256.

use super::head::Step;
use crate::digest::Digest;

/// The root of the tree.
pub(super) fn root(steps: &[Step]) -> Digest {
    match steps {
        [] => Digest::of([]),
        [step] => leaf(step),
        steps => {
            let (left, right) = steps.split_at(left_part(steps.len()));
            node(&root(left), &root(right))
        }
    }
}

/// The hashes beside the way from a step to the root, from below; the step is one of them.
pub(super) fn path(steps: &[Step], index: usize) -> Vec<Digest> {
    if steps.len() < 2 {
        return Vec::new();
    }
    let left = left_part(steps.len());
    let (mut path, beside) = if index < left {
        (path(&steps[..left], index), root(&steps[left..]))
    } else {
        (path(&steps[left..], index - left), root(&steps[..left]))
    };
    path.push(beside);
    path
}

/// The root of a tree of `count` steps of which `step` is number `index`; none if the path does not
/// have the length that it has there.
pub(super) fn root_of_path(step: &Step, index: u64, count: u64, path: &[Digest]) -> Option<Digest> {
    if index >= count {
        return None;
    }
    // As RFC 9162 has it in section 2.1.3.2.
    let (mut number, mut last) = (index, count - 1);
    let mut hash = leaf(step);
    for beside in path {
        if last == 0 {
            return None;
        }
        if number & 1 == 1 || number == last {
            hash = node(beside, &hash);
            while number & 1 == 0 && number != 0 {
                number >>= 1;
                last >>= 1;
            }
        } else {
            hash = node(&hash, beside);
        }
        number >>= 1;
        last >>= 1;
    }
    (last == 0).then_some(hash)
}

/// The largest power of two below a number of at least two.
const fn left_part(count: usize) -> usize {
    1 << (count - 1).ilog2()
}

fn leaf(step: &Step) -> Digest {
    Digest::of_all([&[0][..], &step.bytes()])
}

fn node(left: &Digest, right: &Digest) -> Digest {
    Digest::of_all([&[1][..], left.as_bytes(), right.as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_of_each_tree_is_proven_and_no_other() {
        let all: Vec<_> = (0..20).map(|step| Step::new(step, 3, step.to_le_bytes())).collect();
        for count in 1..=all.len() {
            let (steps, many) = (&all[..count], count as u64);
            let root = root(steps);
            for (index, step) in (0..).zip(steps) {
                let path = path(steps, usize::try_from(index).unwrap_or(0));
                assert_eq!(root_of_path(step, index, many, &path), Some(root));
                for (other, wrong) in (0..).zip(&all) {
                    let found = root_of_path(wrong, other, many, &path);
                    assert!(other == index || found != Some(root), "{index} of {count}: {other}");
                }
                let longer = [&path[..], &[root]].concat();
                assert_eq!(root_of_path(step, index, many, &longer), None);
            }
        }
    }
}
