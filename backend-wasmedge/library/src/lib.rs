//! For build scripts of packages that link a program with libwasmedge.
//!
//! Building this crate fails, with a message that says what to do, if there is no
//! libwasmedge 0.17.1. A build script then calls [`emit_link_args`]; cargo does not pass link
//! arguments on to dependents, so every package with programs or tests has to, also one outside of
//! this repository (docs/wasmedge.md, "In a program of your own").
#![allow(clippy::print_stdout, reason = "cargo reads it")]

use std::env;
use std::path::Path;

/// Passes on where the library and its own libc are, if `scripts/setup-wasmedge` put them
/// into a folder of their own (`WASMEDGE_SYSROOT`); else does nothing.
pub fn emit_link_args() {
    println!("cargo::rerun-if-env-changed=WASMEDGE_SYSROOT");
    let Some(root) = env::var_os("WASMEDGE_SYSROOT") else { return };
    let lib = Path::new(&root).join("usr/lib/x86_64-linux-gnu");
    let lib = lib.display();
    for arg in [
        // The library wants a newer libc than the one that we link against, and finds it
        // when the program runs: a program and its libraries share one libc and loader.
        "-Wl,--allow-shlib-undefined".to_owned(),
        format!("-Wl,--dynamic-linker={lib}/ld-linux-x86-64.so.2"),
        // An rpath of the old kind holds for the libraries of libraries, too.
        format!("-Wl,--disable-new-dtags,-rpath,{lib}"),
    ] {
        println!("cargo::rustc-link-arg={arg}");
    }
}
