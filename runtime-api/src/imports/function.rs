//! A function of the host, as engines call it.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::caller::Caller;
use super::error::HostError;
use super::native::{Outcome, Params};
use crate::Result;
use crate::host::Host;
use crate::spi::Instance;
use crate::value::{FunctionType, Value};

/// A function of the host that guests may import.
///
/// A backend calls it for the guest, and traps if it says so:
///
/// ```
/// use std::sync::Arc;
///
/// use polychord_runtime_api::Value;
/// use polychord_runtime_api::spi::{Host, HostFunction, Instance, Stopped};
///
/// fn serve(
///     function: &HostFunction,
///     host: &Arc<Host>,
///     guest: &mut dyn Instance,
///     args: &[Value],
/// ) -> Result<Vec<Value>, Stopped> {
///     let mut results: Vec<_> = function.ty().results.iter().map(|ty| ty.zero()).collect();
///     function.call(host, guest, args, &mut results)?;
///     Ok(results)
/// }
/// ```
#[derive(Clone)]
pub struct HostFunction(Arc<Inner>);

struct Inner {
    module: String,
    name: String,
    ty: FunctionType,
    body: Box<Body>,
}

type Body = dyn Fn(&mut Caller<'_>, &[Value], &mut [Value]) -> Result<(), HostError> + Send + Sync;

/// The call of the guest has to end: the host has kept why, and the backend makes the guest trap,
/// by whatever error.
///
/// ```
/// use polychord_runtime_api::spi::Stopped;
///
/// // It is an error, for engines that want one.
/// let error: Box<dyn std::error::Error + Send + Sync> = Box::new(Stopped::default());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("a function of the host has ended the call")]
#[non_exhaustive]
pub struct Stopped;

impl HostFunction {
    pub(super) fn typed<P: Params, R: Outcome>(
        module: &str,
        name: &str,
        function: impl Fn(&mut Caller<'_>, P) -> R + Send + Sync + 'static,
    ) -> Self {
        let ty = FunctionType { params: P::types(), results: R::types() };
        let body = move |caller: &mut Caller<'_>, args: &[Value], results: &mut [Value]| {
            let params = P::read(args).ok_or_else(|| HostError::new(OTHER_TYPES))?;
            function(caller, params).write(results)
        };
        Self::new(module, name, ty, body)
    }

    pub(super) fn untyped(
        module: &str,
        name: &str,
        ty: FunctionType,
        function: impl Fn(&mut Caller<'_>, &[Value], &mut [Value]) -> Result<(), HostError>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        let types = ty.results.clone();
        let body = move |caller: &mut Caller<'_>, args: &[Value], results: &mut [Value]| {
            results.iter_mut().zip(&types).for_each(|(result, ty)| *result = ty.zero());
            function(caller, args, results)?;
            match results.iter().zip(&types).find(|(result, ty)| result.ty() != **ty) {
                None => Ok(()),
                Some((result, ty)) => Err(HostError::new(format!(
                    "it has returned {result:?} where its type has {ty}"
                ))),
            }
        };
        Self::new(module, name, ty, body)
    }

    pub(super) fn new(
        module: &str,
        name: &str,
        ty: FunctionType,
        body: impl Fn(&mut Caller<'_>, &[Value], &mut [Value]) -> Result<(), HostError>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        let (module, name, body) = (module.to_owned(), name.to_owned(), Box::new(body));
        Self(Arc::new(Inner { module, name, ty, body }))
    }

    /// Its type.
    #[must_use]
    pub fn ty(&self) -> &FunctionType {
        &self.0.ty
    }

    /// Serves a call of a guest, which is in the middle of that call. `args` and `results` have the
    /// numbers of values that the function has, and `args` their types. Never panics, and allocates
    /// nothing of its own.
    ///
    /// # Errors
    ///
    /// [`Stopped`] if the guest's call has to end. The host has kept why, and the caller of the
    /// guest gets it, whatever error the backend makes of the trap.
    pub fn call(
        &self,
        host: &Arc<Host>,
        guest: &mut dyn Instance,
        args: &[Value],
        results: &mut [Value],
    ) -> Result<(), Stopped> {
        let Inner { module, name, body, .. } = &*self.0;
        let mut caller = Caller::new(host, guest);
        // No panic may cross the boundary: for some engines it would be undefined behavior.
        let done = catch_unwind(AssertUnwindSafe(|| body(&mut caller, args, results)));
        drop(caller);
        let error = match done {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error,
            Err(panic) => HostError::panicked(&*panic),
        };
        host.end_call_with(error.into_error(host.capabilities().engine, module, name));
        Err(Stopped)
    }
}

/// What a backend would have to do wrong for a function to notice.
const OTHER_TYPES: &str = "the engine has passed arguments of other types than the guest declares";

impl fmt::Debug for HostFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { module, name, ty, .. } = &*self.0;
        write!(f, "HostFunction({module}.{name}{ty})")
    }
}
