//! What the dialects have in common: how an answer is read, and what their errors mean. Pure: no clock, no network.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::model::FailureKind;
use crate::model::ModelError;
use crate::model::ModelEvent;
use crate::model::lax::lax;
use crate::model::lax::object;
use crate::model::sse::Event;

/// Reads the events of one answer in one provider's dialect.
///
/// After an error it is not asked again; what it had made of the events before is still there to be taken.
pub(super) trait Dialect: Send {
    /// Takes an event of the stream.
    ///
    /// # Errors
    ///
    /// What the provider says went wrong, or [`FailureKind::Protocol`] if it makes no sense.
    fn take(&mut self, event: &Event) -> Result<(), ModelError>;

    /// Takes a whole answer in one piece of JSON, from a server that was asked for a stream and sends none.
    ///
    /// # Errors
    ///
    /// As [`Self::take`].
    fn whole(&mut self, body: &str) -> Result<(), ModelError>;

    /// The stream ends here.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Interrupted`] if the answer is not over.
    fn end(&mut self) -> Result<(), ModelError>;

    /// Whether nothing more must come: the answer is over if the server is silent for a moment.
    fn may_be_over(&self) -> bool {
        false
    }

    /// What was made of the events, oldest first.
    fn next(&mut self) -> Option<ModelEvent>;
}

/// What providers say about an error, in a stream or as the body of an answer: `{"error":{…}}`, or the inner object alone.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Complaint {
    /// Names the error, as `overloaded_error`.
    #[serde(rename = "type", deserialize_with = "lax")]
    pub(super) kind: Option<String>,
    /// Names it more precisely, as `rate_limit_exceeded`; some servers give a number.
    #[serde(deserialize_with = "lax")]
    pub(super) code: Option<Code>,
    /// In words.
    #[serde(deserialize_with = "lax")]
    pub(super) message: Option<String>,
    #[serde(deserialize_with = "lax")]
    details: Option<Details>,
    #[serde(deserialize_with = "lax")]
    detail: Option<String>,
    #[serde(deserialize_with = "lax")]
    error: Option<Box<RawValue>>,
    /// Of some servers: `error`.
    #[serde(deserialize_with = "lax")]
    object: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Details {
    #[serde(deserialize_with = "lax")]
    error_code: Option<String>,
}

/// A code as a word or a number.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Code {
    /// A word.
    Word(String),
    /// A number, mostly the HTTP status.
    Number(u16),
}

/// What went wrong when nobody says it.
const UNKNOWN: &str = "the provider reports an error";
/// The event with which some dialects end a stream.
pub(super) const DONE: &str = "[DONE]";

/// What came in place of an answer.
pub(super) fn no_answer(body: &str) -> ModelError {
    match Complaint::read(body) {
        Some(complaint) => complaint.into_error(),
        None => ModelError::new(FailureKind::Protocol, "what came is JSON, but no answer"),
    }
}

/// The error that an event of no known kind tells, if it tells one: not every server calls its errors by the name that the
/// dialect has for them.
pub(super) fn stray_error(text: &str) -> Option<ModelError> {
    let complaint = object::<Complaint>(text).ok().flatten()?;
    let is_error = |word: &Option<String>| word.as_deref() == Some("error");
    let tells = is_error(&complaint.object)
        || is_error(&complaint.kind)
        || complaint.error.as_deref().is_some_and(is_told)
        || complaint.detail.is_some()
        || complaint.message.is_some() && complaint.code.is_some();
    complaint.innermost().filter(|_| tells).map(Complaint::into_error)
}

/// Whether an `error` tells one: some servers have an empty one beside everything that they say.
pub(super) fn is_told(error: &RawValue) -> bool {
    !matches!(error.get(), "false" | "0" | "\"\"" | "{}" | "[]")
}

impl Complaint {
    /// Reads `text`; `None` if it is no object, or says nothing about an error.
    pub(super) fn read(text: &str) -> Option<Self> {
        object::<Self>(text).ok().flatten().and_then(Self::innermost)
    }

    /// What an event says that is called an error: JSON, or plain words.
    pub(super) fn of_event(data: &str) -> Self {
        Self::read(data).unwrap_or_else(|| {
            let word = match serde_json::from_str::<&RawValue>(data) {
                Ok(json) => serde_json::from_str(json.get()).ok(),
                Err(_) => (!data.trim_start().starts_with('<')).then(|| data.to_owned()),
            };
            let message = word.filter(|word: &String| !word.trim().is_empty());
            Self { message, ..Self::default() }
        })
    }

    /// What the member `error` of an answer says, if it tells one.
    pub(super) fn of_member(error: Option<Box<RawValue>>) -> Option<Self> {
        error.filter(|error| is_told(error)).map(|error| Self::of_event(error.get()))
    }

    /// The same without the wrappers around it.
    fn innermost(self) -> Option<Self> {
        let mut complaint = self;
        // `{"error":{"error":{…}}}` is seen; more is malice.
        for _ in 0..3 {
            let Some(raw) = complaint.error.take() else { break };
            complaint = match object::<Self>(raw.get()) {
                Ok(Some(inner)) => inner,
                _ => {
                    let word = serde_json::from_str(raw.get()).ok();
                    Self { message: word.or(complaint.message), ..complaint }
                }
            };
        }
        let message = complaint.message.take().or_else(|| complaint.detail.take());
        let message = message.filter(|message| !message.trim().is_empty());
        let said = message.is_some() || complaint.kind.is_some() || complaint.code.is_some();
        said.then_some(Self { message, ..complaint })
    }

    /// Whether it says that more money must be allowed first.
    pub(super) fn is_spend_limit(&self) -> bool {
        let code = self.details.as_ref().and_then(|details| details.error_code.as_deref());
        code == Some("enforced_spend_limit_reached")
    }

    fn code_word(&self) -> Option<&str> {
        match &self.code {
            Some(Code::Word(word)) => Some(word),
            Some(Code::Number(_)) | None => None,
        }
    }

    /// Whether it says that the conversation is longer than the model takes.
    pub(super) fn is_too_long(&self) -> bool {
        [self.code_word(), self.kind.as_deref()]
            .into_iter()
            .flatten()
            .any(|word| kind_of_word(word) == FailureKind::TooLong)
            || self.message.as_deref().is_some_and(tells_too_long)
    }

    /// In words, as the provider put it.
    pub(super) fn words(&self) -> &str {
        self.message
            .as_deref()
            .or_else(|| self.code_word())
            .or(self.kind.as_deref())
            .unwrap_or(UNKNOWN)
    }

    /// As an error of an answer that had begun.
    pub(super) fn into_error(self) -> ModelError {
        if self.is_too_long() {
            return ModelError::new(FailureKind::TooLong, self.words());
        }
        let kind = match &self.code {
            Some(Code::Number(status)) => kind_of_status(*status),
            Some(Code::Word(word)) => kind_of_word(word),
            None => FailureKind::Other,
        };
        let kind = match (kind, &self.kind) {
            (FailureKind::Other, Some(word)) => kind_of_word(word),
            (kind, _) => kind,
        };
        ModelError::new(kind, self.words())
    }
}

/// What an error is, by the word that names it: those of Anthropic's and OpenAI's references and of compatible servers.
fn kind_of_word(word: &str) -> FailureKind {
    match word {
        "authentication_error" | "permission_error" | "invalid_api_key" => {
            FailureKind::Authentication
        }
        "billing_error"
        | "rate_limit_error"
        | "rate_limit_exceeded"
        | "insufficient_quota"
        | "requests"
        | "tokens" => FailureKind::RateLimit,
        "overloaded_error"
        | "overloaded"
        | "api_error"
        | "timeout_error"
        | "server_error"
        | "server_overloaded"
        | "internal_error"
        | "vector_store_timeout" => FailureKind::Unavailable,
        "invalid_request_error"
        | "not_found_error"
        | "conflict_error"
        | "invalid_prompt"
        | "model_not_found" => FailureKind::Request,
        "context_length_exceeded" | "exceed_context_size_error" | "request_too_large" => {
            FailureKind::TooLong
        }
        _ => FailureKind::Other,
    }
}

/// Whether an error's words say that a conversation is too long. Most servers have no code for it. The words are those of
/// OpenAI, Anthropic, Gemini, xAI, Mistral, Groq, `OpenRouter`, vLLM, llama.cpp and LM Studio.
fn tells_too_long(words: &str) -> bool {
    const SIGNS: &[&str] = &[
        "context length",
        "context limit",
        "context size",
        "context window",
        "input token count",
        "prompt is too long",
        "prompt length",
        "reduce the length of the messages",
        "request too large for model",
    ];
    let words = words.to_ascii_lowercase();
    SIGNS.iter().any(|sign| words.contains(sign))
}

/// What an error is, by its HTTP status.
pub(super) fn kind_of_status(status: u16) -> FailureKind {
    match status {
        300..=399 => FailureKind::Protocol,
        401 | 403 => FailureKind::Authentication,
        402 | 429 => FailureKind::RateLimit,
        408 | 500..=599 => FailureKind::Unavailable,
        400..=499 => FailureKind::Request,
        _ => FailureKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &str, then: Option<(FailureKind, &str)>) {
        let error = Complaint::read(body).map(Complaint::into_error);
        let seen = error.as_ref().map(|error| (error.kind, error.message.as_str()));
        assert_eq!(seen, then, "{body}");
    }

    #[test]
    fn complaints_come_in_many_shapes() {
        use FailureKind::Other;
        use FailureKind::RateLimit;
        use FailureKind::Unavailable;
        check(
            r#"{"type":"error","error":{"type":"overloaded_error","message":"Full"},"request_id":"r"}"#,
            Some((Unavailable, "Full")),
        );
        check(
            r#"{"error":{"message":"Slow","type":"requests","param":null,"code":"rate_limit_exceeded"}}"#,
            Some((RateLimit, "Slow")),
        );
        check(r#"{"error":{"message":"Full","code":529}}"#, Some((Unavailable, "Full")));
        check(r#"{"error":{"message":"Odd","code":70000}}"#, Some((Other, "Odd")));
        check(r#"{"error":{"error":{"message":"Odd"}}}"#, Some((Other, "Odd")));
        check(r#"{"error":"Odd"}"#, Some((Other, "Odd")));
        check(r#"{"error":true,"message":"Odd"}"#, Some((Other, "Odd")));
        check(r#"{"detail":"Not Found"}"#, Some((Other, "Not Found")));
        check(r#"{"message":"Odd","error":null}"#, Some((Other, "Odd")));
        check(r#"{"error":{"code":"server_error"}}"#, Some((Unavailable, "server_error")));
        check(r#"{"type":"error"}"#, Some((Other, "error")));
        for (message, rest) in [
            ("no", r#""type":"invalid_request_error","code":"context_length_exceeded""#),
            ("no", r#""code":400,"type":"exceed_context_size_error""#),
            (
                "prompt is too long: 213462 tokens > 200000 maximum",
                r#""type":"invalid_request_error""#,
            ),
            ("This model's maximum context length is 8192 tokens.", r#""code":400"#),
            ("The input token count (9) exceeds the maximum", r#""code":400"#),
        ] {
            let body = format!(r#"{{"error":{{"message":"{message}",{rest}}}}}"#);
            check(&body, Some((FailureKind::TooLong, message)));
        }
        for nothing in ["", "no", "5", "[]", "{}", r#"{"message":" "}"#, r#"{"error":null}"#] {
            check(nothing, None);
        }
    }

    #[test]
    fn errors_come_as_plain_words_too() {
        let words = |data: &str| Complaint::of_event(data).into_error().message;
        for data in ["it broke", r#""it broke""#, r#"{"detail":"it broke"}"#] {
            assert_eq!(words(data), "it broke");
        }
        for data in ["", "5", "<html>no</html>", "{}"] {
            assert_eq!(words(data), UNKNOWN);
        }
    }

    #[test]
    fn a_spend_limit_is_seen() {
        let body = r#"{"type":"error","error":{"type":"rate_limit_error","message":"m","details":{"error_code":"enforced_spend_limit_reached"}}}"#;
        assert!(Complaint::read(body).unwrap().is_spend_limit());
        assert!(!Complaint::read(r#"{"error":{"message":"m"}}"#).unwrap().is_spend_limit());
    }
}
