//! What an agent that remembers the conversation itself is told: only what was said since it last spoke.

use super::Content;
use super::FailureKind;
use super::ModelError;
use super::ModelMessage;
use super::Speaker;

/// The text of everything behind the last message of the assistant, paragraphs between the messages.
///
/// # Errors
///
/// There is no text, or there are files: these agents take text only.
pub(super) fn latest(messages: &[ModelMessage]) -> Result<String, ModelError> {
    let refuse = |message| Err(ModelError::new(FailureKind::Request, message));
    let last = messages.iter().rposition(|message| message.speaker == Speaker::Assistant);
    let mut texts = Vec::new();
    for content in messages[last.map_or(0, |at| at + 1)..].iter().flat_map(|m| &m.content) {
        match content {
            Content::Text(text) => texts.push(text.as_str()),
            Content::File { .. } => return refuse("this agent takes no files"),
            _ => {}
        }
    }
    let text = texts.join("\n\n");
    if text.trim().is_empty() { refuse("there is nothing to answer") } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(speaker: Speaker, text: &str) -> ModelMessage {
        ModelMessage { speaker, content: vec![Content::Text(text.to_owned())] }
    }

    #[test]
    fn only_what_is_new_is_told() {
        let messages = [
            say(Speaker::User, "old"),
            say(Speaker::Assistant, "answer"),
            say(Speaker::User, "one"),
            say(Speaker::User, "two"),
        ];
        assert_eq!(latest(&messages).expect("text"), "one\n\ntwo");
        assert_eq!(latest(&messages[..1]).expect("text"), "old");
        assert_eq!(latest(&messages[..2]).expect_err("nothing").kind, FailureKind::Request);
        assert_eq!(latest(&[]).expect_err("nothing").kind, FailureKind::Request);
    }
}
