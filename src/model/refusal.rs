//! What agents report as failures, in words that may be shown: by HTTP status, without addresses and keys.

use super::FailureKind;
use super::ModelError;

/// Longest text of a failure that is passed on, in characters.
const TEXT_CHARS_MAX: usize = 300;

/// The failure behind an HTTP `status` that an agent got from its model. `text` is the agent's own report.
///
/// The text is passed on only where it helps the one who asked: when the model refuses the request itself.
pub(super) fn of_status(status: u16, text: &str) -> ModelError {
    let (kind, message) = match status {
        401 | 403 => (FailureKind::Authentication, "the model provider refuses the key".to_owned()),
        402 => (FailureKind::RateLimit, "the account at the model provider is empty".to_owned()),
        429 => (FailureKind::RateLimit, "the model gets too many requests".to_owned()),
        408 => (FailureKind::Unavailable, "the model took too long".to_owned()),
        529 => (FailureKind::Unavailable, "the model is overloaded".to_owned()),
        400..500 => {
            (FailureKind::Request, format!("the model refuses the request: {}", plain(text)))
        }
        500.. => (FailureKind::Unavailable, "the model is not available".to_owned()),
        _ => (FailureKind::Other, format!("the model failed: {}", plain(text))),
    };
    ModelError::new(kind, message).with_status(status)
}

/// `text` without words that look like addresses, paths or keys, and not too long.
pub(super) fn plain(text: &str) -> String {
    let words = text.split_whitespace().map(|word| if is_private(word) { "…" } else { word });
    let joined = words.collect::<Vec<_>>().join(" ");
    match joined.char_indices().nth(TEXT_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &joined[..end]),
        None => joined,
    }
}

fn is_private(word: &str) -> bool {
    let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '/');
    let host = bare.rsplit_once(':').is_some_and(|(host, port)| {
        host.contains('.') && !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
    });
    let numbers = bare.split('.').count() == 4 && bare.split('.').all(|n| n.parse::<u8>().is_ok());
    let path = bare.starts_with('/') && bare[1..].contains('/');
    let key = bare.starts_with("sk-") || (bare.len() >= 40 && !bare.contains('-'));
    host || numbers || path || key || bare.contains("://")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(given: &str, then: &str) {
        assert_eq!(plain(given), then);
    }

    #[test]
    fn addresses_paths_and_keys_are_left_out() {
        check("check your gateway (127.0.0.1:4901).", "check your gateway …");
        check("see https://a.example/x or 10.0.0.1", "see … or …");
        check("bad key sk-abc123 in /srv/data/x", "bad key … in …");
        check("max_tokens: 5 > 4 and/or 3.5:1", "max_tokens: 5 > 4 and/or …");
        check(&"a ".repeat(400), &format!("{}…", "a ".repeat(150)));
    }

    #[test]
    fn only_a_refused_request_shows_the_reason() {
        assert_eq!(of_status(400, "no").message, "the model refuses the request: no");
        assert_eq!(of_status(529, "secret").message, "the model is overloaded");
        assert_eq!(of_status(503, "secret").kind, FailureKind::Unavailable);
    }
}
