//! Settings: a struct per component, read from defaults, a file, the environment and flags, in this order.

mod load;
mod sections;

pub use load::Error;
pub use load::environment;
pub use load::load;
pub use sections::Actor;
pub use sections::Chat;
pub use sections::Config;
pub use sections::Http;
pub use sections::Journal;
pub use sections::Log;
pub use sections::LogFormat;
pub use sections::Shutdown;
pub use sections::Storage;

#[cfg(test)]
mod tests;
