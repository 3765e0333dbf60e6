//! What the built-in default model is called.

/// The name of the built-in default model.
pub const DEFAULT_NAME: &str = "smollm2-135m-instruct-q4_1";
