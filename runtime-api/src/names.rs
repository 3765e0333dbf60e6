//! The names of enums are read as they are written, and are those of their JSON.

use crate::layers::{CopyReason, LoadMethod};
use crate::{Backing, ErrorKind, MemoryKind, Policy};

#[test]
fn names_are_read_as_they_are_written() {
    macro_rules! check {
        ($($type:ty),*) => { $(
            assert!(<$type>::ALL.len() > 1);
            for variant in <$type>::ALL {
                assert_eq!(variant.to_string().parse::<$type>().unwrap(), *variant);
                let json = serde_json::to_value(variant).unwrap();
                assert_eq!(json, serde_json::json!(variant.name()));
            }
        )* };
    }
    check!(Backing, CopyReason, ErrorKind, LoadMethod, MemoryKind, Policy);
    let error = "disk\u{7}".parse::<MemoryKind>().unwrap_err().to_string();
    assert_eq!(error, r"there is no kind of memory disk\u{7}: known are guest, host");
}
