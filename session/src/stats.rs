//! What sessions tell of themselves: how weights were loaded, what was counted, where the time went.

pub(crate) mod expert_stats;
pub(crate) mod load_report;
pub(crate) mod profile;
pub(crate) mod session_stats;
pub(crate) mod touch_report;

pub use self::expert_stats::ExpertStats;
pub use self::load_report::LoadReport;
pub use self::profile::{Phases, Profile};
pub use self::session_stats::{GuestStats, SessionStats};
pub use self::touch_report::TouchReport;
