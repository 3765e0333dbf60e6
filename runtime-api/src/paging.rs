//! Layers that share a window which is smaller than all of them.
//!
//! - `pager`: which layers are in the window, and which are evicted.
//! - `reader`: a thread that reads layers before they are needed.

mod pager;
mod reader;

pub use self::pager::{Pager, PagerStats, Policy};
