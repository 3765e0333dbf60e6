//! Calls functions that the embedding program has defined for it.

#![no_std]

polychord_guest::host_functions! {
    unsafe extern "host" {
        /// Takes a text, and returns how many bytes it has.
        fn log(text: &str) -> i64;
        /// Writes the name of the program, and returns its length.
        fn name(to: &mut [u8]) -> u32;
        fn scale(by: f64, number: u32) -> f64;
    }
}

/// Greets the program by its name. Returns three times the bytes that it was told.
#[unsafe(no_mangle)]
pub extern "C" fn greet() -> f64 {
    let mut room = [0; 32];
    let len = name(&mut room) as usize;
    let name = room.get(..len).and_then(|name| core::str::from_utf8(name).ok());
    let told = log("hello, ") + log(name.unwrap_or("whatever you are"));
    scale(3.0, u32::try_from(told).unwrap_or(0))
}
