//! Who answers. Providers turn a conversation into pieces of an answer; what becomes of the pieces is not their business.

pub mod echo;
