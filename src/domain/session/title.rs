//! The title of a session that nobody gave one.

use unicode_segmentation::UnicodeSegmentation;

/// Characters of a title, as a person counts them.
const CHARACTERS_MAX: usize = 60;

/// The beginning of what the user said first; `None` if that is empty.
pub(super) fn of(text: &str) -> Option<String> {
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    match text.grapheme_indices(true).nth(CHARACTERS_MAX) {
        None => Some(text.to_owned()),
        Some((end, _)) => Some(format!("{}...", &text[..end])),
    }
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
