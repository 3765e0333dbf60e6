//! The end of each file, which says that it is whole and for which key it was made.

use sha2::{Digest as _, Sha256};

use crate::key::{Key, MAGIC};

const HASH: usize = 32;

/// The hash behind the code.
pub(crate) fn of(code: &[u8], key: &Key) -> [u8; HASH] {
    Sha256::new().chain_update(key.as_bytes()).chain_update(code).finalize().into()
}

/// The length of the code in a file, if the file is intact and was made for this key.
pub(crate) fn code_len(bytes: &[u8], key: &Key) -> Option<usize> {
    let (rest, magic) = bytes.split_last_chunk::<{ MAGIC.len() }>()?;
    let (code, hash) = rest.split_last_chunk::<HASH>()?;
    (magic == MAGIC && *hash == of(code, key)).then_some(code.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_intact_only_as_a_whole_and_for_its_key() {
        let (key, other) = (Key::new("a", "", b"", b""), Key::new("b", "", b"", b""));
        let code = b"code".to_vec();
        let file = [code.clone(), of(&code, &key).to_vec(), MAGIC.to_vec()].concat();
        assert_eq!(code_len(&file, &key), Some(4));
        assert_eq!(code_len(&file, &other), None);
        for len in 0..file.len() {
            assert_eq!(code_len(&file[..len], &key), None, "cut to {len}");
            let mut changed = file.clone();
            changed[len] ^= 1;
            assert_eq!(code_len(&changed, &key), None, "changed at {len}");
        }
    }
}
