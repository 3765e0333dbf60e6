//! Loads and stores: what they move, and how they look on a 32-bit memory.

use wasm_encoder::{Instruction as I, MemArg, MemArgTarget, ValType};
use wasmparser::Operator;

/// A load or a store in a module.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access {
    pub(crate) op: Op,
    pub(crate) memory: u32,
    /// What is added to the address.
    pub(crate) offset: u64,
    /// Exponent of the alignment.
    align: u32,
}

/// Declares all loads and stores, each with its width in bytes, the type of its value, and how the
/// value is made of the bits that are read, or becomes the bits that are written, as an `i64`.
macro_rules! operations {
    (
        loads { $($load:ident $lw:literal $lt:ident [$($from:expr),*];)* }
        stores { $($store:ident $sw:literal $st:ident [$($to:expr),*];)* }
        lane_loads { $($ll:ident $llw:literal $lls:ident $replace:ident;)* }
        lane_stores { $($ls:ident $lsw:literal $lss:ident $extract:ident;)* }
    ) => {
        /// The operation of a load or a store.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum Op { $($load,)* $($store,)* $($ll(u8),)* $($ls(u8),)* }

        impl Access {
            /// The load or store that an operator is.
            pub(crate) fn of(operator: &Operator<'_>) -> Option<Self> {
                let (op, arg) = match operator {
                    $(Operator::$load { memarg } => (Op::$load, memarg),)*
                    $(Operator::$store { memarg } => (Op::$store, memarg),)*
                    $(Operator::$ll { memarg, lane } => (Op::$ll(*lane), memarg),)*
                    $(Operator::$ls { memarg, lane } => (Op::$ls(*lane), memarg),)*
                    _ => return None,
                };
                let wasmparser::MemArgTarget::Memory(memory) = arg.target else { return None };
                Some(Self { op, memory, offset: arg.offset, align: arg.align.into() })
            }
        }

        impl Op {
            /// How many bytes are moved.
            pub(crate) const fn width(self) -> u32 {
                match self {
                    $(Self::$load => $lw,)* $(Self::$store => $sw,)*
                    $(Self::$ll(_) => $llw,)* $(Self::$ls(_) => $lsw,)*
                }
            }

            /// The type of what is loaded or stored, as it is on the stack.
            pub(crate) const fn value(self) -> ValType {
                match self {
                    $(Self::$load => ValType::$lt,)* $(Self::$store => ValType::$st,)*
                    $(Self::$ll(_) => ValType::V128,)* $(Self::$ls(_) => ValType::V128,)*
                }
            }

            pub(crate) const fn is_store(self) -> bool {
                match self {
                    $(Self::$load)|* | $(Self::$ll(_))|* => false,
                    $(Self::$store)|* | $(Self::$ls(_))|* => true,
                }
            }

            /// The operation on the number in a lane, and the instruction between vector and number.
            pub(crate) const fn lane(self) -> Option<(Self, I<'static>)> {
                match self {
                    $(Self::$ll(lane) => Some((Self::$lls, I::$replace(lane))),)*
                    $(Self::$ls(lane) => Some((Self::$lss, I::$extract(lane))),)*
                    _ => None,
                }
            }

            /// The value of bits, for loads of at most eight bytes; the bits for stores.
            pub(crate) fn convert(self) -> Vec<I<'static>> {
                match self {
                    $(Self::$load => vec![$($from),*],)* $(Self::$store => vec![$($to),*],)*
                    $(Self::$ll(_))|* | $(Self::$ls(_))|* => Vec::new(),
                }
            }

            fn with(self, arg: MemArg) -> I<'static> {
                match self {
                    $(Self::$load => I::$load(arg),)* $(Self::$store => I::$store(arg),)*
                    $(Self::$ll(lane) => I::$ll { memarg: arg, lane },)*
                    $(Self::$ls(lane) => I::$ls { memarg: arg, lane },)*
                }
            }
        }
    };
}

/// Keeps the low half of a vector.
const LOW_HALF: I<'static> = I::V128Const(u64::MAX as i128);

operations! {
    loads {
        I32Load 4 I32 [I::I32WrapI64];
        I64Load 8 I64 [];
        F32Load 4 F32 [I::I32WrapI64, I::F32ReinterpretI32];
        F64Load 8 F64 [I::F64ReinterpretI64];
        I32Load8S 1 I32 [I::I32WrapI64, I::I32Extend8S];
        I32Load8U 1 I32 [I::I32WrapI64];
        I32Load16S 2 I32 [I::I32WrapI64, I::I32Extend16S];
        I32Load16U 2 I32 [I::I32WrapI64];
        I64Load8S 1 I64 [I::I64Extend8S];
        I64Load8U 1 I64 [];
        I64Load16S 2 I64 [I::I64Extend16S];
        I64Load16U 2 I64 [];
        I64Load32S 4 I64 [I::I64Extend32S];
        I64Load32U 4 I64 [];
        V128Load 16 V128 [];
        V128Load8x8S 8 V128 [I::I64x2Splat, I::I16x8ExtendLowI8x16S];
        V128Load8x8U 8 V128 [I::I64x2Splat, I::I16x8ExtendLowI8x16U];
        V128Load16x4S 8 V128 [I::I64x2Splat, I::I32x4ExtendLowI16x8S];
        V128Load16x4U 8 V128 [I::I64x2Splat, I::I32x4ExtendLowI16x8U];
        V128Load32x2S 8 V128 [I::I64x2Splat, I::I64x2ExtendLowI32x4S];
        V128Load32x2U 8 V128 [I::I64x2Splat, I::I64x2ExtendLowI32x4U];
        V128Load8Splat 1 V128 [I::I32WrapI64, I::I8x16Splat];
        V128Load16Splat 2 V128 [I::I32WrapI64, I::I16x8Splat];
        V128Load32Splat 4 V128 [I::I32WrapI64, I::I32x4Splat];
        V128Load64Splat 8 V128 [I::I64x2Splat];
        V128Load32Zero 4 V128 [I::I64x2Splat, LOW_HALF, I::V128And];
        V128Load64Zero 8 V128 [I::I64x2Splat, LOW_HALF, I::V128And];
    }
    stores {
        I32Store 4 I32 [I::I64ExtendI32U];
        I64Store 8 I64 [];
        F32Store 4 F32 [I::I32ReinterpretF32, I::I64ExtendI32U];
        F64Store 8 F64 [I::I64ReinterpretF64];
        I32Store8 1 I32 [I::I64ExtendI32U];
        I32Store16 2 I32 [I::I64ExtendI32U];
        I64Store8 1 I64 [];
        I64Store16 2 I64 [];
        I64Store32 4 I64 [];
        V128Store 16 V128 [];
    }
    lane_loads {
        V128Load8Lane 1 I32Load8U I8x16ReplaceLane;
        V128Load16Lane 2 I32Load16U I16x8ReplaceLane;
        V128Load32Lane 4 I32Load I32x4ReplaceLane;
        V128Load64Lane 8 I64Load I64x2ReplaceLane;
    }
    lane_stores {
        V128Store8Lane 1 I32Store8 I8x16ExtractLaneU;
        V128Store16Lane 2 I32Store16 I16x8ExtractLaneU;
        V128Store32Lane 4 I32Store I32x4ExtractLane;
        V128Store64Lane 8 I64Store I64x2ExtractLane;
    }
}

impl Access {
    /// One byte past the end of what is moved, counted from the address on the stack.
    pub(crate) fn end(self) -> u128 {
        u128::from(self.offset) + u128::from(self.op.width())
    }

    /// The instruction on a segment, which takes an address of 32 bits.
    pub(crate) fn on(self, segment: u32) -> I<'static> {
        self.op.with(arg(segment, self.offset, self.align))
    }
}

impl Op {
    /// The instruction on a segment, without an offset and without a promise of alignment.
    pub(crate) fn on(self, segment: u32) -> I<'static> {
        self.at(segment, 0)
    }

    /// The instruction on a segment, without a promise of alignment.
    pub(crate) fn at(self, segment: u32, offset: u64) -> I<'static> {
        self.with(arg(segment, offset, 0))
    }
}

pub(crate) const fn arg(memory: u32, offset: u64, align: u32) -> MemArg {
    MemArg { offset, align, target: MemArgTarget::Memory(memory), ordering: None }
}
