//! Link arguments for programs that have WasmEdge in them.

fn main() {
    emit_link_args();
}

#[cfg(feature = "wasmedge")]
fn emit_link_args() {
    polychord_wasmedge_library::emit_link_args();
}

#[cfg(not(feature = "wasmedge"))]
fn emit_link_args() {}
