//! The task that asks the model and posts what it says back as commands: the model never runs inside a mailbox.

mod run;
mod say;
mod transcript;
mod writer;

pub use writer::COALESCE;

use std::sync::Arc;

use tokio::sync::watch;

use crate::actor::batch::Start;
use crate::actor::node::Shared;
use crate::actor::shard::Sender;
use crate::base::Key;

/// Runs one attempt of a turn to its end. Whoever watches it may come and go.
pub(super) async fn run(
    shared: Arc<Shared>,
    sender: Sender,
    key: Key,
    start: Start,
    stop: watch::Receiver<bool>,
) {
    run::Run::new(shared, sender, key, start, stop).run().await;
}
