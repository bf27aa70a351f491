//! The provider `opencode`: an agent behind an OpenCode server that runs elsewhere and keeps the conversation.

mod client;
mod event;
mod failure;
mod mapper;
mod parts;
mod provider;
mod settings;
mod turn;

pub use provider::OpenCode;
pub use settings::OpenCodeSettings;
pub use settings::PermissionReply;
pub use settings::PermissionRule;
pub use settings::RuleAction;

#[cfg(test)]
mod tests;
