//! Who may ask for what. Only this module makes a [`Caller`], and nothing is routed without one.

mod caller;

pub use caller::Caller;
pub use caller::Origin;
