//! The one form of JSON in which receipts and proofs are accepted, and what is in both.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::head::{Head, Signature, VERSION, signed_message, to_json};
use crate::digest::Digest;
use crate::error::{Error, Result};

/// Most bytes of a document: those of a receipt of some 400,000 steps.
pub(super) const MAX_BYTES: usize = 64 << 20;

/// Reads JSON of a form that is written in one way only, so that each of its bytes counts.
pub(super) fn parse_form<T: DeserializeOwned + Serialize>(
    what: &'static str,
    version: &str,
    json: &str,
) -> Result<T> {
    let (asked, most) = (json.len() as u64, MAX_BYTES);
    if json.len() > most {
        return Err(Error::TooLarge { what: "a receipt (in bytes)", asked, limit: most as u64 });
    }
    let parsed = serde_json::from_str::<T>(json).map_err(|error| {
        // Of another version, it may have other members.
        match found_version(version, json) {
            None => Error::Foreign { what, reason: error.to_string() },
            Some(found) if found != u64::from(VERSION) => {
                Error::Version { what, found, known: VERSION }
            }
            Some(_) => Error::damaged(what, "its JSON", error.to_string()),
        }
    })?;
    if let Some(found) = found_version(version, json).filter(|it| *it != u64::from(VERSION)) {
        return Err(Error::Version { what, found, known: VERSION });
    }
    let written = to_json(&parsed);
    if json.strip_suffix('\n').unwrap_or(json) != written {
        let at = json.bytes().zip(written.bytes()).take_while(|(one, two)| one == two).count();
        let reason = "it is not written as receipts are, so it is not what was made";
        return Err(Error::damaged(what, format!("its JSON at byte {at}"), reason));
    }
    Ok(parsed)
}

/// Checks a head against its digest, and the digest against who has signed it.
pub(super) fn digest(
    what: &'static str,
    head: &Head,
    digest: Digest,
    signature: Option<&Signature>,
) -> Result<()> {
    if head.digest() != digest {
        return Err(Error::damaged(what, "head", "it is not that of the digest"));
    }
    let Some(Signature { public_key, ed25519 }) = signature else { return Ok(()) };
    if public_key.has_signed(&signed_message(digest), ed25519) {
        return Ok(());
    }
    let reason = format!("it is not that of the digest by the key {public_key}");
    Err(Error::damaged(what, "signature", reason))
}

fn found_version(member: &str, json: &str) -> Option<u64> {
    // Members are skipped, not kept.
    struct Found<'a>(&'a str);
    impl<'de> serde::de::DeserializeSeed<'de> for Found<'_> {
        type Value = Option<u64>;

        fn deserialize<D: serde::Deserializer<'de>>(
            self,
            from: D,
        ) -> Result<Option<u64>, D::Error> {
            from.deserialize_map(self)
        }
    }
    impl<'de> serde::de::Visitor<'de> for Found<'_> {
        type Value = Option<u64>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<M: serde::de::MapAccess<'de>>(
            self,
            mut map: M,
        ) -> Result<Self::Value, M::Error> {
            let mut found = None;
            while let Some(name) = map.next_key::<String>()? {
                if name == self.0 {
                    found = Some(map.next_value()?);
                } else {
                    map.next_value::<serde::de::IgnoredAny>()?;
                }
            }
            Ok(found)
        }
    }
    let mut from = serde_json::Deserializer::from_str(json);
    serde::de::DeserializeSeed::deserialize(Found(member), &mut from).ok().flatten()
}
