//! The Responses API of OpenAI: what is sent, what comes back, and the provider made of both.

mod body;
mod chunk;
mod provider;
mod stream;

pub use provider::OpenAiResponses;
pub use provider::Settings;

pub(in crate::model) use body::OWN;

#[cfg(test)]
pub(in crate::model) use body::Body;
#[cfg(test)]
pub(in crate::model) use stream::Stream;

#[cfg(test)]
mod tests;
