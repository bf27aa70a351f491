//! The task that asks the model and posts what it says back as commands: the model never runs inside a mailbox.

mod calls;
mod run;
mod say;
mod transcript;
mod writer;

pub(super) use run::Run;
pub(in crate::actor) use run::Start;
