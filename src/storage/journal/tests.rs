//! Properties of the journal that need no server.
