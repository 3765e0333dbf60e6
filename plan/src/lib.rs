//! Which layer lies in which memory of which guest: plans, as plain data.
//!
//! - [`Inventory`] lists what is to be placed; a [`Strategy`] makes a [`Plan`] of it, the same
//!   one for the same input, whatever machine and engine it is for.
//! - [`Plan`] is what is stored as JSON, checked ([`Plan::validate`]) and carried out.
//! - [`SourceRange`] is a layer as its file has it, [`PlannedLayer`] the same with its place.
//! - [`range`] has the limits and the check that plans and memories share.
//! - [`Named`] is what command lines, JSON and bindings choose by name.
//! - [`Printable`] shows text of unknown origin, which every message of an error has.
//!
//! **Invariant:** nothing here asks the operating system for anything. The crate compiles for
//! `wasm32-unknown-unknown`, so that a plan can be made and checked in a browser.
//!
//! ```
//! use polychord_plan::{LayerId, Plan, SourceRange};
//!
//! let block = |id, start| SourceRange::new(LayerId(id), format!("blk.{id}"), start, 1000);
//! let plan = Plan::resident([block(0, 4096), block(1, 5096)])?;
//! // Each layer has 64 KiB pages of its own, and lies in them as it does in the file.
//! assert_eq!([plan.layers[0].offset, plan.layers[1].offset], [4096, 65_536 + 5096]);
//! # Ok::<(), polychord_plan::Error>(())
//! ```

pub mod range;
pub mod region;

mod error;
mod layer;
mod named;
mod part;
mod plan;
mod printable;
mod strategy;

pub use error::{Error, Result};
pub use layer::{LayerHash, LayerId, PlannedLayer, SourceRange};
pub use named::{Named, UnknownName};
pub use part::Part;
pub use plan::{Plan, PlannedMemory};
pub use printable::{Printable, is_hidden};
pub use strategy::{Group, Guests, Hosts, Inventory, Strategy};
