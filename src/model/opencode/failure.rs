//! What OpenCode's errors mean, by the names in its API document.

use super::event::Failure;
use crate::model::FailureKind;
use crate::model::FinishReason;
use crate::model::ModelError;
use crate::model::refusal;

/// The answer was given up.
pub(super) const ABORTED: &str = "MessageAbortedError";

/// How an answer that failed this way ended: some failures are ordinary ends.
pub(super) fn verdict(failure: &Failure) -> Result<(FinishReason, Option<String>), ModelError> {
    let text = failure.data.as_ref().and_then(|data| data.message.as_deref()).unwrap_or_default();
    let fail = |kind, message: String| Err(ModelError::new(kind, message));
    let raw = Some(failure.name.clone());
    match failure.name.as_str() {
        "MessageOutputLengthError" => Ok((FinishReason::Length, raw)),
        "ContentFilterError" => Ok((FinishReason::ContentFilter, raw)),
        ABORTED => fail(FailureKind::Interrupted, "the agent was interrupted".to_owned()),
        "ProviderAuthError" => {
            fail(FailureKind::Authentication, "the model provider refuses the key".to_owned())
        }
        "ContextOverflowError" => {
            fail(FailureKind::Limit, "the conversation is too long for the model".to_owned())
        }
        _ => match failure.data.as_ref().and_then(|data| data.status) {
            Some(status) => Err(refusal::of_status(status, text)),
            None => {
                let message = format!("the agent failed: {}", refusal::plain(text));
                fail(FailureKind::Other, message)
            }
        },
    }
}
