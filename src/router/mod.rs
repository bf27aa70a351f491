//! From a caller and a name to the actor that answers. What is not behind a [`Caller`] does not get through.

mod route;

pub use route::Place;
pub use route::Router;
pub use route::Target;
