//! Calls of a guest with Rust's own types.

use crate::imports::{Params, Plain};
use crate::runtime::Runtime;
use crate::{Error, Result};

impl dyn Runtime + '_ {
    /// Calls an exported function with arguments and results of Rust's own types: a tuple of 0 to 12
    /// numbers, and nothing, a number or a tuple of them. Nothing is allocated for it here.
    ///
    /// ```
    /// use polychord_runtime_api::{Result, Runtime};
    ///
    /// fn run(guest: &mut dyn Runtime) -> Result<f32> {
    ///     guest.call_typed::<_, ()>("begin", ())?;
    ///     let (low, high): (i64, i64) = guest.call_typed("range", (7_u32, 0.5_f64))?;
    ///     guest.call_typed("sum", (low, high))
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`call`](Runtime::call), and [`Error::Signature`] if the function returns
    /// other types; it is not called then.
    pub fn call_typed<P: Params, R: Plain>(&mut self, export: &str, args: P) -> Result<R> {
        let args = args.into_values();
        self.host().module().check_results(export, args.as_ref(), R::PLAIN_TYPES)?;
        let mut results = R::room();
        self.call_into(export, args.as_ref(), results.as_mut())?;
        // Engines return the types of the function, which were compared.
        R::from_room(&results).ok_or(Error::Panic { operation: "call_typed" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::idle::{Idle, capabilities};

    const GUEST: &str = r#"(module
        (func (export "none"))
        (func (export "pair") (param i32 f64) (result i64 f32) (i64.const 0) (f32.const 0)))"#;

    #[test]
    fn types_are_compared_before_the_call() {
        let mut guest = Idle::of(GUEST, capabilities());
        let guest: &mut dyn Runtime = &mut guest;
        guest.call_typed::<_, ()>("none", ()).unwrap();
        let pair: (u64, f32) = guest.call_typed("pair", (7_u32, 1.0_f64)).unwrap();
        assert_eq!(pair, (0, 0.0));
        let expected = "(i32, f64) -> (i64, f32)";
        let wrong = [
            guest.call_typed::<_, (u64, f32)>("pair", (7_u32, 1.0_f32)).map(|_| ()),
            guest.call_typed::<_, (u64, f32)>("pair", (7_u32,)).map(|_| ()),
            guest.call_typed::<_, (u64, f64)>("pair", (7_u32, 1.0_f64)).map(|_| ()),
            guest.call_typed::<_, u64>("pair", (7_u32, 1.0_f64)).map(|_| ()),
            guest.call_typed::<_, ()>("pair", (7_u32, 1.0_f64)),
        ];
        for result in wrong {
            let Err(Error::Signature { expected: ty, given, .. }) = result else { panic!() };
            assert_eq!(ty, expected);
            assert_ne!(given, expected);
        }
        let missing = guest.call_typed::<_, ()>("nothing", ());
        assert!(matches!(missing, Err(Error::MissingExport { .. })));
    }
}
