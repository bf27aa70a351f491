//! Settings: a struct per component, read from defaults, a file, the environment and flags, in this order.

mod check;
mod load;
mod reference;
mod sections;
mod tree;

pub use load::Error;
pub use load::Layers;
pub use load::environment;
pub use load::load;
pub use load::read;
pub use reference::effective;
pub use reference::markdown;
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
