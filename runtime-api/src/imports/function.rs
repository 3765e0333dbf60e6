//! A function of the host, as engines call it.
#![allow(unsafe_code)]

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::caller::Caller;
use super::error::HostError;
use super::native::{Outcome, Params, Plain};
use super::slot::Slot;
use crate::Result;
use crate::host::Host;
use crate::spi::{Instance, with_values};
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
    body: Box<dyn Body>,
}

/// What a function does. It makes its own [`Caller`], of which nothing is left where it is not used.
trait Body: Send + Sync {
    fn by_values(
        &self,
        host: &Arc<Host>,
        guest: &mut dyn Instance,
        args: &[Value],
        results: &mut [Value],
    ) -> Result<(), Box<HostError>>;

    /// # Safety
    ///
    /// As for [`HostFunction::call_slots`], of a function of this type.
    unsafe fn by_slots(
        &self,
        host: &Arc<Host>,
        guest: &mut dyn Instance,
        slots: &mut [Slot],
    ) -> Result<(), Box<HostError>>;
}

/// A function of native types, which reads and writes slots as they are.
struct Typed<F, P, R>(F, PhantomData<fn(P) -> R>);

/// A function of values, and its type.
struct Untyped<F>(F, FunctionType);

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
        let params = P::TYPES.to_vec();
        let ty = FunctionType { params, results: R::Plain::PLAIN_TYPES.to_vec() };
        Self::with(module, name, ty, Typed(function, PhantomData))
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
        Self::with(module, name, ty.clone(), Untyped(body, ty))
    }

    fn with(module: &str, name: &str, ty: FunctionType, body: impl Body + 'static) -> Self {
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
        self.serve(host, |body| body.by_values(host, guest, args, results))
    }

    /// Serves a call of a guest as [`call`](Self::call) does, for engines whose compiled code stores
    /// arguments one after another, and finds results in their places: a function of native types
    /// takes them from there, and no [`Value`] is made.
    ///
    /// # Errors
    ///
    /// Returns [`Stopped`] as [`call`](Self::call) does; the slots hold no results then.
    ///
    /// # Safety
    ///
    /// There are as many slots as the function has parameters or results, whichever are more, and an
    /// argument of its type is stored in each of those for parameters. Each of those for results
    /// holds one of its type afterwards.
    #[inline]
    pub unsafe fn call_slots(
        &self,
        host: &Arc<Host>,
        guest: &mut dyn Instance,
        slots: &mut [Slot],
    ) -> Result<(), Stopped> {
        // SAFETY: the caller's promise.
        self.serve(host, |body| unsafe { body.by_slots(host, guest, slots) })
    }

    #[inline]
    fn serve(
        &self,
        host: &Arc<Host>,
        run: impl FnOnce(&dyn Body) -> Result<(), Box<HostError>>,
    ) -> Result<(), Stopped> {
        // No panic may cross the boundary: for some engines it would be undefined behavior.
        match catch_unwind(AssertUnwindSafe(|| run(&*self.0.body))) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.stop(host, *error)),
            Err(panic) => Err(self.stop_panicked(host, &*panic)),
        }
    }

    #[cold]
    fn stop(&self, host: &Host, error: HostError) -> Stopped {
        let Inner { module, name, .. } = &*self.0;
        host.end_call_with(error.into_error(host.capabilities().engine, module, name));
        Stopped
    }

    #[cold]
    fn stop_panicked(&self, host: &Host, panic: &(dyn Any + Send)) -> Stopped {
        self.stop(host, HostError::panicked(panic))
    }
}

impl<F, P: Params, R: Outcome> Body for Typed<F, P, R>
where
    F: Fn(&mut Caller<'_>, P) -> R + Send + Sync,
{
    fn by_values(
        &self,
        host: &Arc<Host>,
        guest: &mut dyn Instance,
        args: &[Value],
        results: &mut [Value],
    ) -> Result<(), Box<HostError>> {
        let params = P::read(args).ok_or_else(other_types)?;
        self.call(host, guest, params)?.store(results);
        Ok(())
    }

    unsafe fn by_slots(
        &self,
        host: &Arc<Host>,
        guest: &mut dyn Instance,
        slots: &mut [Slot],
    ) -> Result<(), Box<HostError>> {
        // SAFETY: the caller's promise: the type of the function is that of `P`.
        let params = unsafe { P::read_slots(slots) };
        self.call(host, guest, params.ok_or_else(other_types)?)?.store_slots(slots);
        Ok(())
    }
}

impl<F, P: Params, R: Outcome> Typed<F, P, R>
where
    F: Fn(&mut Caller<'_>, P) -> R,
{
    #[inline]
    fn call(
        &self,
        host: &Arc<Host>,
        guest: &mut dyn Instance,
        params: P,
    ) -> Result<R::Plain, Box<HostError>> {
        (self.0)(&mut Caller::new(host, guest), params).into_plain().map_err(Box::new)
    }
}

impl<F> Body for Untyped<F>
where
    F: Fn(&mut Caller<'_>, &[Value], &mut [Value]) -> Result<(), HostError> + Send + Sync,
{
    fn by_values(
        &self,
        host: &Arc<Host>,
        guest: &mut dyn Instance,
        args: &[Value],
        results: &mut [Value],
    ) -> Result<(), Box<HostError>> {
        (self.0)(&mut Caller::new(host, guest), args, results).map_err(Box::new)
    }

    unsafe fn by_slots(
        &self,
        host: &Arc<Host>,
        guest: &mut dyn Instance,
        slots: &mut [Slot],
    ) -> Result<(), Box<HostError>> {
        let FunctionType { params, results } = &self.1;
        with_values(params.len() + results.len(), |values| {
            let (args, results) = values.split_at_mut(params.len());
            for ((arg, slot), ty) in args.iter_mut().zip(&*slots).zip(params) {
                // SAFETY: the caller's promise.
                *arg = unsafe { slot.value(*ty) };
            }
            self.by_values(host, guest, args, results)?;
            for (slot, result) in slots.iter_mut().zip(results) {
                *slot = Slot::from(*result);
            }
            Ok(())
        })
    }
}

#[cold]
fn other_types() -> Box<HostError> {
    Box::new(HostError::new(OTHER_TYPES))
}

/// What a backend would have to do wrong for a function to notice.
const OTHER_TYPES: &str = "the engine has passed arguments of other types than the guest declares";

impl fmt::Debug for HostFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { module, name, ty, .. } = &*self.0;
        write!(f, "HostFunction({module}.{name}{ty})")
    }
}
