//! Defects in images that guests share.

use std::ops::Range;
use std::sync::Mutex;

use polychord_runtime_api::{Image, Result, Value};

use super::Entry;
use crate::double::{Defect, Guest};

pub(super) const DEFECTS: &[Entry] = &[
    Entry {
        name: "images/written_through",
        what: "lets what a guest stores reach the image, which others show",
        defect: &WrittenThrough,
        caught_by: &["images/apart"],
    },
    Entry {
        name: "images/lost_by_growth",
        what: "loses images when the guest grows",
        defect: &LostByGrowth,
        caught_by: &["images/of_a_guest"],
    },
    Entry {
        name: "images/whole_pages",
        what: "shows all of a page of which only a part is the image's",
        defect: &WholePages,
        caught_by: &["images/around"],
    },
    Entry {
        name: "images/kept",
        what: "keeps images that no guest shows any more",
        defect: &Kept,
        caught_by: &["images/room"],
    },
];

/// What was stored last, which later guests see.
static STORED: Mutex<Option<(u64, u8)>> = Mutex::new(None);

#[derive(Debug)]
struct WrittenThrough;
impl Defect for WrittenThrough {
    fn call(&self, guest: &mut Guest, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        if let ("store", [Value::I32(at), Value::I32(value)]) = (export, args) {
            let stored = (u64::from(at.cast_unsigned()), value.to_le_bytes()[0]);
            *STORED.lock().unwrap() = Some(stored);
        }
        guest.inner.call(export, args)
    }

    fn write_image(
        &self,
        guest: &mut Guest,
        address: u64,
        image: &Image,
        range: Range<u64>,
    ) -> Result<u64> {
        let copied = guest.inner.write_image(0, address, image, range)?;
        if let Some((at, value)) = *STORED.lock().unwrap() {
            guest.inner.write_memory(0, at, &[value])?;
        }
        Ok(copied)
    }
}

#[derive(Debug)]
struct LostByGrowth;
impl Defect for LostByGrowth {
    fn call(&self, guest: &mut Guest, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        let before = guest.inner.memory().len();
        let results = guest.inner.call(export, args);
        if guest.inner.memory().len() > before {
            guest.inner.memory_mut()[..before].fill(0);
        }
        results
    }
}

#[derive(Debug)]
struct WholePages;
impl Defect for WholePages {
    fn write_image(
        &self,
        guest: &mut Guest,
        address: u64,
        image: &Image,
        range: Range<u64>,
    ) -> Result<u64> {
        let copied = guest.inner.write_image(0, address, image, range)?;
        guest.inner.write_memory(0, address - 1, &[0])?;
        Ok(copied)
    }
}

static KEPT: Mutex<Vec<Image>> = Mutex::new(Vec::new());

#[derive(Debug)]
struct Kept;
impl Defect for Kept {
    fn write_image(
        &self,
        guest: &mut Guest,
        address: u64,
        image: &Image,
        range: Range<u64>,
    ) -> Result<u64> {
        KEPT.lock().unwrap().push(image.clone());
        guest.inner.write_image(0, address, image, range)
    }
}
