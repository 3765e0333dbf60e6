//! What a guest is started with.

use std::fmt;

use crate::host::UserState;
use crate::imports::Imports;
use crate::limits::Limits;

/// What a guest is started with: its limits, what it may import, and a state of the user.
///
/// ```
/// use polychord_runtime_api::imports::{Caller, Imports};
/// use polychord_runtime_api::{Instantiation, Limits, Module, Result};
///
/// fn count(module: &dyn Module) -> Result<u32> {
///     let mut imports = Imports::new();
///     imports.function("host", "tick", |caller: &mut Caller<'_>, (): ()| {
///         *caller.state_mut::<u32>().expect("each guest has a count") += 1;
///     })?;
///     let limits = Limits::default();
///     let start = Instantiation::new(&limits).imports(&imports).state(0_u32);
///     let mut guest = module.instantiate_with(start)?;
///     guest.call("run", &[])?;
///     Ok(*guest.state::<u32>().expect("it is still there"))
/// }
/// ```
#[derive(Default)]
#[non_exhaustive]
pub struct Instantiation<'a> {
    /// How much the guest may use.
    pub limits: Limits,
    /// What it may import beside the functions of the module `env`.
    pub imports: Option<&'a Imports>,
    pub(crate) state: Option<UserState>,
}

impl<'a> Instantiation<'a> {
    /// With these limits, and nothing to import beside the functions of the module `env`.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self { limits: limits.clone(), imports: None, state: None }
    }

    /// Sets what the guest may import.
    #[must_use]
    pub const fn imports(mut self, imports: &'a Imports) -> Self {
        self.imports = Some(imports);
        self
    }

    /// Gives the guest a state, which functions of the host find by
    /// [`Caller::state`](crate::imports::Caller::state), and others by
    /// [`state`](trait.Runtime.html#method.state).
    #[must_use]
    pub fn state<T: Send + 'static>(mut self, state: T) -> Self {
        self.state = Some(Box::new(state));
        self
    }
}

impl fmt::Debug for Instantiation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limits, imports, state } = self;
        f.debug_struct("Instantiation")
            .field("limits", limits)
            .field("imports", imports)
            .field("has_state", &state.is_some())
            .finish()
    }
}
