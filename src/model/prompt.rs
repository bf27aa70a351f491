//! What an agent that remembers the conversation itself is told: only what was said since it last spoke.

use super::Content;
use super::FailureKind;
use super::ModelError;
use super::ModelMessage;
use super::Speaker;
use super::file::Readable;
use super::file::unreadable;

/// The text of everything behind the last message of the assistant, paragraphs between the messages.
///
/// # Errors
///
/// There is nothing to answer. Files are told by a sentence, or by their text: these agents take text only, and a file in a
/// message that failed must not stand in the way of every later one.
pub(super) fn latest(messages: &[ModelMessage]) -> Result<String, ModelError> {
    let last = messages.iter().rposition(|message| message.speaker == Speaker::Assistant);
    let mut texts = Vec::new();
    for content in messages[last.map_or(0, |at| at + 1)..].iter().flat_map(|m| &m.content) {
        match content {
            Content::Text(text) => texts.push(text.clone()),
            Content::File { media_type, url, name } => {
                texts.push(match Readable::of(media_type, url, name.as_deref()) {
                    Readable::Text(text) => text,
                    _ => unreadable(media_type, name.as_deref()),
                });
            }
            _ => {}
        }
    }
    let text = texts.join("\n\n");
    if text.trim().is_empty() {
        return Err(ModelError::new(FailureKind::Request, "there is nothing to answer"));
    }
    Ok(text)
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
        let file = |media_type: &str, url: &str| Content::File {
            media_type: media_type.to_owned(),
            url: url.to_owned(),
            name: Some("f".to_owned()),
        };
        let files = vec![file("image/png", "https://example.org/f"), file("text/csv", "data:,1,2")];
        let files = ModelMessage { speaker: Speaker::User, content: files };
        let told = latest(&[files]).expect("sentences");
        assert!(
            told.starts_with("[A file that cannot be shown: f, image/png]\n\n[File: f"),
            "{told}"
        );
        assert!(told.contains("\n1,2\n"), "{told}");
    }
}
