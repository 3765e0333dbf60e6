//! Models that are split over several files, each a GGUF file with a part of the tensors.

use std::collections::HashSet;

use polychord_abi::PAGE;
use polychord_plan::Part;

use super::{Error, Gguf, Metadata};

const NO: &str = "split.no";
const COUNT: &str = "split.count";
const TENSORS: &str = "split.tensors.count";

impl Gguf {
    /// Which part of a split model the file is; none if it is a whole one.
    ///
    /// # Errors
    ///
    /// [`Error::WrongType`] if the keys have other values than numbers, and [`Error::Part`] if the
    /// number is not below the count.
    pub fn part(&self) -> Result<Option<Part>, Error> {
        let number = |key| self.metadata.u64(key);
        let Some(count) = number(COUNT)?.filter(|count| *count > 1) else { return Ok(None) };
        let no = number(NO)?.unwrap_or(0);
        match (u32::try_from(no), u32::try_from(count)) {
            (Ok(number), Ok(count)) if number < count => Ok(Some(Part::new(number, count))),
            _ => {
                let problem = format!("{NO} is {no}, and {COUNT} {count}");
                Err(Error::Part { part: no.saturating_add(1), count, problem })
            }
        }
    }

    /// Where each of several files begins in what [`joined`](Self::joined) makes of them: at whole
    /// pages of 64 KiB, so that pages of each can be mapped, and with a page between them, so that
    /// no layer is in two. None if they are longer than 64 bits can tell.
    #[must_use]
    pub fn starts(lens: impl IntoIterator<Item = u64>) -> Option<Vec<u64>> {
        let mut next = Some(0_u64);
        let start = |len: u64| {
            let start = next?;
            let end = start.checked_add(len)?.checked_next_multiple_of(PAGE)?;
            next = end.checked_add(PAGE);
            Some(start)
        };
        lens.into_iter().map(start).collect()
    }

    /// The header of a whole model, from those of all its parts in order: the metadata of the first,
    /// and all tensors, whose offsets count from [`starts`](Self::starts).
    ///
    /// # Errors
    ///
    /// [`Error::Part`] if a part is missing, stands at another place, or belongs to another model:
    /// its count of parts, its count of tensors or a key that both have differs from the first; and
    /// [`Error::DuplicateTensor`] if two have the same tensor.
    pub fn joined(parts: Vec<Self>) -> Result<Self, Error> {
        let count = parts.len() as u64;
        let starts = Self::starts(parts.iter().map(|part| part.file_len)).unwrap_or_default();
        check_order(&parts)?;
        check_tensors(&parts)?;
        let mut parts = parts.into_iter().zip(starts);
        let too_long = || {
            let problem = "all parts together are longer than 64 bits can tell".into();
            Error::Part { part: 1, count, problem }
        };
        let (mut whole, _) = parts.next().ok_or_else(too_long)?;
        for (part, start) in parts {
            whole.file_len = whole.file_len.saturating_add(part.file_len);
            whole.parts += 1;
            whole.tensors.extend(part.tensors.into_iter().map(|mut tensor| {
                tensor.offset += start;
                tensor
            }));
        }
        if u64::from(whole.parts) != count {
            return Err(too_long());
        }
        whole.metadata = whole.metadata.without(&[NO, COUNT, TENSORS]);
        Ok(whole)
    }
}

/// Checks that the files are all parts of one model, in their order.
fn check_order(parts: &[Gguf]) -> Result<(), Error> {
    let count = parts.len() as u64;
    for (number, part) in (0..).zip(parts) {
        let wrong = |problem| Err(Error::Part { part: number + 1, count, problem });
        match part.part()? {
            Some(found) if u64::from(found.count) != count => {
                return wrong(format!("it is one of {} parts: {COUNT}", found.count));
            }
            Some(found) if u64::from(found.number) != number => {
                return wrong(format!("it is part {}: {NO} {}", found.number + 1, found.number));
            }
            None if count > 1 => {
                return wrong(format!("it is no part of a model: it has no {COUNT}"));
            }
            _ => {}
        }
        if let Some(key) = difference(&parts[0].metadata, &part.metadata) {
            return wrong(format!("it is of another model: the key {key:?} differs from part 1"));
        }
    }
    Ok(())
}

/// A key that two headers have, with different values, other than the number of the part.
fn difference<'a>(first: &'a Metadata, part: &Metadata) -> Option<&'a str> {
    // What is written for each file anew.
    let own = [NO, "general.alignment"];
    let differs = |(key, value): &(&str, _)| {
        !own.contains(key) && part.get(key).is_some_and(|it| it != *value)
    };
    first.iter().find(differs).map(|(key, _)| key)
}

/// Checks that no tensor is missing or there twice.
fn check_tensors(parts: &[Gguf]) -> Result<(), Error> {
    let mut names = HashSet::new();
    for tensor in parts.iter().flat_map(|part| &part.tensors) {
        if !names.insert(tensor.name.as_str()) {
            return Err(Error::DuplicateTensor { name: tensor.name.clone() });
        }
    }
    let Some(first) = parts.first() else { return Ok(()) };
    let found = names.len() as u64;
    match first.metadata.u64(TENSORS)? {
        Some(expected) if expected != found => {
            let problem = format!(
                "all parts together have {found} tensors, but {TENSORS} is {expected}: a part is of \
                 another model or version"
            );
            Err(Error::Part { part: 1, count: parts.len() as u64, problem })
        }
        _ => Ok(()),
    }
}
