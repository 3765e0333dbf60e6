//! Link arguments for the tests of this package.

fn main() {
    polychord_wasmedge_library::emit_link_args();
}
