//! How vocabularies spell bytes.

/// GPT-2's character for a byte: printable Latin-1 as itself, the rest from U+0100 on.
pub(super) fn to_char(byte: u8) -> char {
    let byte = u32::from(byte);
    let code = match byte {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => byte,
        0x00..=0x20 => 0x100 + byte,
        0x7f..=0xa0 => 0x121 + (byte - 0x7f),
        _ => 0x143,
    };
    char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// The byte that GPT-2 writes as this character.
pub(super) fn from_char(c: char) -> Option<u8> {
    let code = u32::from(c);
    let byte = match code {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => code,
        0x100..=0x120 => code - 0x100,
        0x121..=0x142 => code - 0x121 + 0x7f,
        0x143 => 0xad,
        _ => return None,
    };
    u8::try_from(byte).ok()
}

/// Appends the byte that `c` stands for, or `c` itself if it stands for none.
pub(super) fn append(c: char, to: &mut Vec<u8>) {
    match from_char(c) {
        Some(byte) => to.push(byte),
        None => to.extend(c.encode_utf8(&mut [0; 4]).bytes()),
    }
}

/// How SentencePiece spells a byte: `<0x0A>`.
pub(super) fn to_hex(byte: u8) -> String {
    format!("<0x{byte:02X}>")
}

/// The byte that SentencePiece spells as `<0x0A>`.
pub(super) fn parse_hex(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    let plain = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    plain.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::{from_char, parse_hex, to_char};

    #[test]
    fn every_byte_has_its_own_character() {
        for byte in 0..=255 {
            assert_eq!(from_char(to_char(byte)), Some(byte));
        }
        assert_eq!((to_char(b' '), to_char(b'\n'), to_char(0xad)), ('Ġ', 'Ċ', 'Ń'));
        assert_eq!(from_char('→'), None);
    }

    #[test]
    fn hex_bytes_have_one_form() {
        assert_eq!(parse_hex("<0x0A>"), Some(10));
        for wrong in ["<0xA>", "<0x+A>", "<0x0A", "0x0A", "", "<0x>", "<0x0é>"] {
            assert_eq!(parse_hex(wrong), None, "{wrong}");
        }
    }
}
