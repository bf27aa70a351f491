//! Chat completions, as OpenAI and many others speak them: what is sent, what comes back, and the provider made of
//! both.

mod body;
mod chunk;
mod details;
mod provider;
mod stream;

pub use provider::OpenAiChat;
pub use provider::Settings;

pub(in crate::model) use body::OWN;
pub(in crate::model) use provider::NAME;

#[cfg(test)]
pub(in crate::model) use body::Body;
#[cfg(test)]
pub(in crate::model) use stream::Stream;

#[cfg(test)]
mod tests;
