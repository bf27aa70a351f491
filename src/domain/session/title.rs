//! The title of a session that nobody gave one.

use unicode_segmentation::UnicodeSegmentation;

use crate::domain::session::Event;
use crate::domain::session::Head;
use crate::domain::session::Input;

/// Characters of a title, as a person counts them.
const CHARACTERS_MAX: usize = 60;

/// The beginning of what the user said first; `None` if that is empty.
fn of(text: &str) -> Option<String> {
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    match text.grapheme_indices(true).nth(CHARACTERS_MAX) {
        None => Some(text.to_owned()),
        Some((end, _)) => Some(format!("{}...", &text[..end])),
    }
}

/// Gives a session without a title the one of its first message.
pub(super) fn given_by(head: &Head, input: &Input) -> Option<Event> {
    let (Input::Message { message, .. } | Input::At { message, .. }) = input else { return None };
    let title = of(&message.content).filter(|_| head.title.is_empty())?;
    let (project_id, metadata) = (head.project_id.clone(), head.metadata.clone());
    let settings = head.settings.clone();
    Some(Event::Session { title, project_id, metadata, settings, deleted: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(given: &str, then: Option<&str>) {
        assert_eq!(of(given).as_deref(), then);
    }

    #[test]
    fn sixty_characters_are_kept_and_none_is_split() {
        let sixty = "é".repeat(59) + "👩‍👩‍👧";
        check(&sixty, Some(&sixty));
        check(&format!("{sixty}x"), Some(&format!("{sixty}...")));
        check("  hello\n", Some("hello"));
        check(" \n", None);
    }
}
