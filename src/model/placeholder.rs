//! A fixed sentence in place of a model, for front ends whose tests expect exactly it.

use futures_util::StreamExt;
use futures_util::stream;

use crate::model::Answer;
use crate::model::FinishReason;
use crate::model::ModelError;
use crate::model::ModelEvent;
use crate::model::ModelRequest;
use crate::model::Provider;

const SENTENCE: &str = "I received your message. Agent integration coming in Phase 2 Plan 06.";

/// Always says the same.
#[derive(Debug)]
pub(super) struct Placeholder;

impl Provider for Placeholder {
    fn name(&self) -> &str {
        "placeholder"
    }

    fn check(&self, _: &str, _: &str) -> Result<(), ModelError> {
        Ok(())
    }

    fn answer(&self, _: ModelRequest) -> Answer {
        let events = [
            ModelEvent::TextStart { index: 0 },
            ModelEvent::TextDelta { index: 0, text: SENTENCE.to_owned() },
            ModelEvent::TextEnd { index: 0 },
            ModelEvent::Finish { reason: FinishReason::Stop, raw: None },
        ];
        stream::iter(events.map(Ok)).boxed()
    }
}
