//! An answer that comes through a channel from the task that makes it.

use futures_util::stream;
use tokio::sync::mpsc::Receiver;

use super::Answer;
use super::ModelError;
use super::ModelEvent;

/// The events as an answer; with an `error`, only that. Dropping the answer closes the channel, which its task sees.
pub(super) fn answer(
    events: Receiver<Result<ModelEvent, ModelError>>,
    error: Option<ModelError>,
) -> Answer {
    if let Some(error) = error {
        return Box::pin(stream::iter([Err(error)]));
    }
    Box::pin(stream::unfold(Some(events), |events| async {
        let mut events = events?;
        let said = events.recv().await?;
        let over = matches!(said, Err(_) | Ok(ModelEvent::Finish { .. }));
        Some((said, (!over).then_some(events)))
    }))
}
