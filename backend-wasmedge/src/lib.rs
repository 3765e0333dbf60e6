//! Polychord on WasmEdge.
