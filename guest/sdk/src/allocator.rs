//! Memory for the crate `alloc` in a guest without `std`.

/// The allocator that `std` has on WebAssembly. What it takes by growing the memory is its own; the
/// host grows the same memory for layers between calls.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;
