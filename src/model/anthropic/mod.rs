//! The Messages API of Anthropic: what is sent, what comes back, and the provider made of both.

mod body;
mod provider;
mod stream;

pub use provider::Anthropic;
pub use provider::Auth;
pub use provider::Settings;

pub(in crate::model) use body::OWN;

#[cfg(test)]
pub(in crate::model) use body::Body;
#[cfg(test)]
pub(in crate::model) use stream::Stream;

#[cfg(test)]
mod tests;
