//! Names and types of the functions that the host offers to guests. What they do stands in
//! `spi/imports.rs`: a module is checked against their types before there is a host.

use std::fmt;

use polychord_abi::import;

use crate::value::{AddressType, FunctionType, ValueType};

/// A function that the host offers to guests.
///
/// ```
/// use polychord_runtime_api::AddressType;
/// use polychord_runtime_api::spi::imports::HOST_FUNCTIONS;
///
/// for function in HOST_FUNCTIONS {
///     println!("{} {}", function.name, function.ty(AddressType::I32));
/// }
/// ```
#[derive(PartialEq, Eq)]
pub struct HostFunction {
    /// Its name in module [`polychord_abi::MODULE`].
    pub name: &'static str,
    params: &'static [Param],
    pub(crate) result: ValueType,
    pub(crate) function: Function,
}

/// All functions that the host offers.
pub static HOST_FUNCTIONS: &[HostFunction] = &[
    HostFunction {
        name: import::IS_ENABLED,
        params: &[],
        result: I32,
        function: Function::IsEnabled,
    },
    HostFunction {
        name: import::LOAD_LAYER,
        params: &[Param::I32, Param::Address, Param::Address],
        result: I32,
        function: Function::LoadLayer,
    },
    HostFunction {
        name: import::READ,
        params: &[Param::I64, Param::Address, Param::Address],
        result: I32,
        function: Function::Read,
    },
    HostFunction {
        name: import::WRITE,
        params: &[Param::I64, Param::Address, Param::Address],
        result: I32,
        function: Function::Write,
    },
    HostFunction {
        name: import::MAP_LAYER,
        params: &[Param::I32],
        result: I64,
        function: Function::MapLayer,
    },
    HostFunction {
        name: import::LAYER_BYTES,
        params: &[Param::I32],
        result: I64,
        function: Function::LayerBytes,
    },
    HostFunction {
        name: import::PREFETCH,
        params: &[Param::I32],
        result: I32,
        function: Function::Prefetch,
    },
    HostFunction {
        name: import::RELEASE,
        params: &[Param::I32],
        result: I32,
        function: Function::Release,
    },
    HostFunction { name: import::STATS, params: &[], result: I64, function: Function::Stats },
    HostFunction {
        name: import::STATS_INTO,
        params: &[Param::Address, Param::Address],
        result: I32,
        function: Function::StatsInto,
    },
    HostFunction {
        name: import::ALL_GATHER,
        params: &[Param::Address, Param::Address, Param::Address],
        result: I32,
        function: Function::AllGather,
    },
];

const I32: ValueType = ValueType::I32;
const I64: ValueType = ValueType::I64;

/// A parameter of a host function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Param {
    I32,
    I64,
    /// A pointer or length: as wide as the guest's addresses.
    Address,
}

/// What a host function does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    IsEnabled,
    LoadLayer,
    Read,
    Write,
    MapLayer,
    LayerBytes,
    Prefetch,
    Release,
    Stats,
    StatsInto,
    AllGather,
}

/// The function with this name, if the host offers it.
pub(crate) fn find(name: &str) -> Option<&'static HostFunction> {
    HOST_FUNCTIONS.iter().find(|function| function.name == name)
}

impl HostFunction {
    /// Its type for a guest with this type of addresses.
    #[must_use]
    pub fn ty(&self, address: AddressType) -> FunctionType {
        let param = |param: &Param| match param {
            Param::I32 => I32,
            Param::I64 => I64,
            Param::Address => address.value_type(),
        };
        let params = self.params.iter().map(param).collect();
        FunctionType { params, results: vec![self.result] }
    }
}

impl fmt::Debug for HostFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HostFunction").field(&self.name).finish()
    }
}
