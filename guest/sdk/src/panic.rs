//! What a panic is in a guest without `std`.

/// A panic is a trap: the engine reports `unreachable`, and nothing is printed.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    #[cfg(target_arch = "wasm32")]
    core::arch::wasm32::unreachable();
    #[cfg(target_arch = "wasm64")]
    core::arch::wasm64::unreachable();
}
