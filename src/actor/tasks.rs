//! What works for an actor beside it, as the task of a turn.

use std::any::Any;
use std::sync::Arc;

use futures_util::future::LocalBoxFuture;

use crate::actor::sender::Sender;
use crate::actor::shared::Shared;
use crate::base::Key;

/// How a task reaches its actor.
pub(super) struct Post {
    pub sender: Sender,
    pub shared: Arc<Shared>,
    /// Its actor.
    pub key: Key,
}

/// Something that runs beside the actor and posts what comes of it.
pub(super) trait Task: Any + Send {
    /// Runs it to its end.
    fn run(self: Box<Self>, post: Post) -> LocalBoxFuture<'static, ()>;
}
