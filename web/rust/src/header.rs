//! The header of a file, which may be one of several parts of a model.

use std::io::{self, Read};

use polychord_model::gguf::{self, Gguf};
use polychord_plan::{Part, Printable};
use wasm_bindgen::JsError;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::error::{Error, Result};

/// The header of a file: of a whole model, or of one of its parts.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Header {
    pub(crate) gguf: Gguf,
}

/// The beginning of a file, which notices if more is asked for.
struct Head<'a> {
    bytes: &'a [u8],
    is_whole: bool,
    wants_more: &'a mut bool,
}

impl Read for Head<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.bytes.is_empty() && !self.is_whole && !to.is_empty() {
            *self.wants_more = true;
        }
        self.bytes.read(to)
    }
}

#[wasm_bindgen]
impl Header {
    /// Reads the header from the beginning of a file of `file_bytes` bytes; undefined if it goes on
    /// behind what was given.
    ///
    /// # Errors
    ///
    /// If it is no GGUF file, or damaged.
    pub fn read(head: &[u8], file_bytes: f64) -> std::result::Result<Option<Self>, JsError> {
        Ok(Self::from_head(head, whole(file_bytes))?)
    }

    /// The names of all parts of the model, in order, given the name of this file; none if the file is
    /// a whole model.
    ///
    /// # Errors
    ///
    /// If the file is a part, and its name does not tell the others.
    #[wasm_bindgen(js_name = partNames)]
    pub fn part_names(&self, file_name: &str) -> std::result::Result<Vec<String>, JsError> {
        Ok(self.names(file_name)?)
    }
}

/// The names of all parts of a model, in order, if the name of a file says that it is one.
#[wasm_bindgen(js_name = partNamesOf)]
#[must_use]
pub fn part_names_of(file_name: &str) -> Vec<String> {
    let Some(part) = Part::of_name(file_name) else { return Vec::new() };
    (0..part.count).filter_map(|number| part.name_of(file_name, number)).collect()
}

/// Where each of several files begins in the model that they make up together, given their lengths.
///
/// # Errors
///
/// If they are longer than can be told.
#[wasm_bindgen(js_name = partStarts)]
#[expect(clippy::cast_precision_loss, reason = "no file has as many bytes as floats cannot tell")]
pub fn part_starts(lengths: &[f64]) -> std::result::Result<Vec<f64>, JsError> {
    let starts = Gguf::starts(lengths.iter().map(|bytes| whole(*bytes)));
    let starts = starts.ok_or_else(|| JsError::new("all parts together are too long"))?;
    Ok(starts.into_iter().map(|start| start as f64).collect())
}

impl Header {
    pub(crate) fn from_head(head: &[u8], file_bytes: u64) -> Result<Option<Self>> {
        let mut wants_more = false;
        let is_whole = head.len() as u64 >= file_bytes;
        let read =
            Gguf::read(Head { bytes: head, is_whole, wants_more: &mut wants_more }, file_bytes);
        match read {
            Err(_) if wants_more => Ok(None),
            read => Ok(Some(Self { gguf: read? })),
        }
    }

    fn names(&self, file_name: &str) -> Result<Vec<String>> {
        let Some(part) = self.gguf.part()? else { return Ok(Vec::new()) };
        let Part { number, count, .. } = part;
        if Part::of_name(file_name) == Some(part) {
            return Ok(part_names_of(file_name));
        }
        let name = Printable(file_name).to_string();
        Err(Error::PartName { part: number.saturating_add(1), count, name })
    }

    /// The header of the model that files in this order make up.
    pub(crate) fn joined(mut parts: Vec<Self>) -> std::result::Result<Gguf, gguf::Error> {
        match (parts.pop(), parts.is_empty()) {
            (Some(only), true) if only.gguf.part()?.is_none() => Ok(only.gguf),
            (last, _) => Gguf::joined(parts.into_iter().chain(last).map(|it| it.gguf).collect()),
        }
    }
}

/// A number that JavaScript has as a float; 0 for what is none.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
pub(crate) const fn whole(number: f64) -> u64 {
    number as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_is_asked_for_where_a_header_goes_on() {
        let head = b"GGUF\x03\0\0\0";
        assert!(Header::from_head(head, 1 << 20).expect("it may go on").is_none());
        let error = Header::from_head(head, 8).expect_err("the file ends there");
        assert!(error.to_string().contains("8 bytes"), "{error}");
        let zip = b"PK\x03\x04 not a model";
        let error = Header::from_head(zip, zip.len() as u64).expect_err("another format");
        assert!(error.to_string().contains("GGUF"), "{error}");
    }

    /// A file without tensors that says to be part `no` of `count`.
    fn part(no: u16, count: u16) -> Header {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(0_u64.to_le_bytes());
        bytes.extend(2_u64.to_le_bytes());
        for (key, value) in [("split.no", no), ("split.count", count)] {
            bytes.extend((key.len() as u64).to_le_bytes());
            bytes.extend(key.as_bytes());
            bytes.extend(2_u32.to_le_bytes());
            bytes.extend(value.to_le_bytes());
        }
        Header::from_head(&bytes, bytes.len() as u64).expect("a header").expect("all of it")
    }

    #[test]
    fn a_part_names_the_others_by_its_own_name() {
        assert!(part(0, 1).names("whole.gguf").expect("no part").is_empty());
        let names = part(1, 2).names("a-00002-of-00002.gguf").expect("its name");
        assert_eq!(names, ["a-00001-of-00002.gguf", "a-00002-of-00002.gguf"]);
        for name in ["a.gguf", "a-00001-of-00002.gguf", "a-00002-of-00003.gguf"] {
            let error = part(1, 2).names(name).expect_err(name).to_string();
            assert!(error.contains("part 2 of 2") && error.contains(name), "{error}");
        }
    }

    #[test]
    fn parts_are_joined_in_order_and_whole() {
        assert!(Header::joined(vec![part(0, 2), part(1, 2)]).is_ok());
        for parts in [vec![part(1, 2), part(0, 2)], vec![part(0, 2)], vec![part(0, 2), part(1, 3)]]
        {
            assert!(Header::joined(parts).is_err());
        }
    }
}
