//! What every layer may use: ids, time, the kinds of error, limits and metrics. Nothing here knows a protocol or a disk.

pub mod clock;
pub mod error;
pub mod ids;
pub mod json;
pub mod limits;
pub mod metric;
pub mod nearest;
pub mod process;
pub mod secret;
pub mod tls;
pub mod told;
mod vitals;

pub use error::Classify;
pub use error::Kind;
pub use ids::Key;
pub use nearest::nearest;
