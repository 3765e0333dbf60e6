//! Layers that share a window which is smaller than all of them.
//!
//! - `pager`: which layers are in the window, and which are evicted.
//! - `policy`: which layers stay for good.
//! - `reader`: a thread that reads layers before they are needed.
//! - `stats`: what a pager has done.

mod pager;
mod policy;
mod reader;
mod stats;

pub use self::pager::{Pager, UnorderedLayers};
pub use self::policy::Policy;
pub use self::stats::PagerStats;
