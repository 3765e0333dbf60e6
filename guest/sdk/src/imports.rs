//! The functions of the host, as the ABI has them.
#![allow(unsafe_code)]

use polychord_abi::Stats;

/// Declares functions of the host, and for other targets those that refuse.
macro_rules! imports {
    ($($(#[$kind:meta])? fn $name:ident($($arg:ident: $ty:ty),*) -> $result:ty;)*) => {
        // The literal is `polychord_abi::MODULE`, and the names are constants of
        // `polychord_abi::import`: attributes take none.
        #[cfg(target_family = "wasm")]
        #[link(wasm_import_module = "env")]
        unsafe extern "C" {
            $(pub(crate) fn $name($($arg: $ty),*) -> $result;)*
        }

        $(
            /// Stands in for a function of the host where there is none.
            ///
            /// # Safety
            ///
            /// None is needed: it touches nothing. Calls are the same on all targets.
            #[cfg(not(target_family = "wasm"))]
            pub(crate) const unsafe fn $name($(_: $ty),*) -> $result {
                polychord_abi::code::NOT_ENABLED as $result
            }
        )*
    };
}

imports! {
    fn memory64_is_enabled() -> i32;
    fn memory64_load_layer(layer: i32, to: *mut u8, max: usize) -> i32;
    fn memory64_read(offset: i64, to: *mut u8, len: usize) -> i32;
    fn memory64_write(offset: i64, from: *const u8, len: usize) -> i32;
    fn memory64_map_layer(layer: i32) -> i64;
    fn memory64_layer_bytes(layer: i32) -> i64;
    fn memory64_prefetch(layer: i32) -> i32;
    fn memory64_release(layer: i32) -> i32;
    fn memory64_stats() -> i64;
    fn memory64_stats_into(to: *mut Stats, len: usize) -> i32;
    fn all_gather(data: *mut u8, chunk: usize, total: usize) -> i32;
}
