//! What models may call on the server's side: signed HTTP calls and MCP servers behind one trait.
//!
//! A tool runs with the rights of the server, on input that a model made up. So: who may be called is decided by the
//! settings alone, never by input; every call has an end in time and its answer a size; a tool that fails is an answer
//! too, in words for the model. Whether a person must agree first is a property of the tool; asking is not done here.

mod call;
mod http;
mod mcp;
mod settings;
mod tools;

pub use call::Tool;
pub use call::ToolCall;
pub use call::ToolOutcome;
pub use settings::HttpToolSettings;
pub use settings::McpServerSettings;
pub use settings::ToolSettings;
pub use tools::Tools;

#[cfg(test)]
mod tests;
