//! The export that makes the guest usable after a call that was stopped.
//!
//! A call that ends early does not give back its part of the stack: the stack pointer is a
//! global of the module, which functions lower when they begin and raise when they end. A few
//! hundred stops later the stack would be used up. So this export sets it to the end of the stack
//! first; a compiled function could not do so, since it would save the wrong value itself.
#![allow(unsafe_code)]

use core::arch::global_asm;

use crate::{Status, exports};

#[cfg(target_arch = "wasm32")]
macro_rules! address {
    () => {
        "i32"
    };
}
#[cfg(target_arch = "wasm64")]
macro_rules! address {
    () => {
        "i64"
    };
}

// Linkers define `__stack_high`, the first address behind the stack, which the pointer has when no
// function runs.
global_asm!(
    concat!(".globaltype __stack_pointer, ", address!()),
    ".functype {rest} (i32) -> (i32)",
    ".globl transformer_restart",
    ".export_name transformer_restart, transformer_restart",
    ".section .text.transformer_restart,\"\",@",
    ".type transformer_restart,@function",
    "transformer_restart:",
    ".functype transformer_restart (i32) -> (i32)",
    concat!(address!(), ".const __stack_high"),
    "global.set __stack_pointer",
    "local.get 0",
    "call {rest}",
    "end_function",
    rest = sym on_empty_stack,
);

/// What is left to do when the stack is empty.
extern "C" fn on_empty_stack(position: i32) -> Status {
    exports::restart(position)
}
