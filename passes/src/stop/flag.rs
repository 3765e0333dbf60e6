//! The flag that stops a guest: a word in a memory of its own, and the code that checks it.

use wasm_encoder::{Encode, Instruction, MemArg, MemArgTarget, MemoryType};

/// Offset in the added memory of the 32-bit word that stops the guest when it is not zero.
pub const FLAG: usize = 0;

/// Offset of the word that each check stores to.
const STORED: u64 = 64;

/// When compiled code reads a word of memory again that it has read before.
///
/// ```
/// use polychord_passes::stop::{Reads, checks};
///
/// let wasm = wat::parse_str(r#"(module (func (export "spin") (loop (br 0))))"#).unwrap();
/// let [always, stores] = [Reads::Always, Reads::AfterStores].map(|reads| checks(&wasm, reads));
/// assert!(always.unwrap().wasm.len() < stores.unwrap().wasm.len());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// Whenever the module says so, as with LLVM where loads are volatile.
    Always,
    /// When something was stored to memory since, as with Cranelift. Each check then begins with
    /// a store to another word of the flag's memory.
    AfterStores,
}

/// The code that checks the flag.
#[derive(Clone, Copy, Debug)]
pub(super) struct Check {
    /// The index of the memory with the flag.
    pub(super) memory: u32,
    pub(super) reads: Reads,
}

impl Check {
    /// Appends the instructions.
    pub(super) fn encode(self, out: &mut Vec<u8>) {
        let target = MemArgTarget::Memory(self.memory);
        let word = |offset| MemArg { offset, align: 2, target, ordering: None };
        let zero = Instruction::I32Const(0);
        if self.reads == Reads::AfterStores {
            [zero.clone(), zero.clone(), Instruction::I32Store(word(STORED))]
                .iter()
                .for_each(|instruction| instruction.encode(out));
        }
        for instruction in [
            zero,
            Instruction::I32Load(word(FLAG as u64)),
            Instruction::If(wasm_encoder::BlockType::Empty),
            Instruction::Unreachable,
            Instruction::End,
        ] {
            instruction.encode(out);
        }
    }
}

/// The type of the memory with the flag.
pub(super) fn flag_memory() -> Vec<u8> {
    let ty = MemoryType {
        minimum: 1,
        maximum: Some(1),
        memory64: false,
        shared: false,
        page_size_log2: None,
    };
    let mut entry = Vec::new();
    ty.encode(&mut entry);
    entry
}
