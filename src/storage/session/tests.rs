//! Properties of session files that need no server.
