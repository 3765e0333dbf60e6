//! SHA-256 of bytes that come in parts, which browsers do not have.

use sha2::Digest as _;
use wasm_bindgen::prelude::wasm_bindgen;

/// The SHA-256 of bytes that come in parts.
#[wasm_bindgen]
#[derive(Clone, Debug, Default)]
pub struct Sha256(sha2::Sha256);

#[wasm_bindgen]
impl Sha256 {
    /// Of no bytes so far.
    #[wasm_bindgen(constructor)]
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// More bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The hash of all bytes so far, in hexadecimal digits.
    #[must_use]
    pub fn hex(&self) -> String {
        self.0.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
