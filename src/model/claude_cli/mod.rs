//! The provider `claude-cli`: an agent that runs as a process per answer and keeps its own conversation on disk.

mod blocks;
mod line;
mod parser;
mod provider;
mod settings;
mod turn;

pub use provider::ClaudeCli;
pub use settings::ClaudeCliSettings;
pub use settings::PermissionMode;

#[cfg(test)]
mod tests;
