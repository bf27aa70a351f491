//! When a refused request is sent again, and how long that takes, as the SDKs of the providers do it. Pure.

use std::time::Duration;
use std::time::UNIX_EPOCH;

use reqwest::header::HeaderMap;

use crate::model::FailureKind;
use crate::model::ModelError;

/// Times that a request is sent again.
pub(super) const RETRIES_COUNT_MAX: u32 = 2;
/// Longest pause that a provider may ask for; one that asks for more is not waited for.
pub(super) const PAUSE_ASKED_MAX: Duration = Duration::from_mins(1);
/// Pause before the first repetition; doubled for each further one.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// Longest pause that is our own choice.
const PAUSE_MAX: Duration = Duration::from_secs(8);

/// A provider that answered, but not with an answer.
#[derive(Debug)]
pub(super) struct Refusal {
    /// HTTP status.
    pub(super) status: u16,
    /// What the provider says about sending it again.
    pub(super) should_retry: Option<bool>,
    /// It says that more money must be allowed first.
    pub(super) is_spend_limit: bool,
    /// What is said about it.
    pub(super) error: ModelError,
}

/// Whether a provider that asks for patience without saying how much means it. Anthropic does not: it is about money then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// 429 is tried again in any case.
    Always,
    /// 429 is tried again only with `retry-after`, and not if it is about a spend limit.
    IfTold,
}

impl Refusal {
    /// Whether the provider may take the request without the files in it.
    ///
    /// Most refuse a file as a bad request. A router says 404 when none of its providers takes pictures, and a server on this
    /// machine 500 when its model has no eyes; only what it says tells that from a fault that passes.
    pub(super) fn may_be_about_files(&self) -> bool {
        const SIGNS: &[&str] = &[
            "audio",
            "document",
            "file",
            "image",
            "media",
            "mmproj",
            "multimodal",
            "pdf",
            "vision",
        ];
        match self.status {
            _ if self.error.kind == FailureKind::TooLong => false,
            400 | 404 | 406 | 413 | 415 | 422 => true,
            500 | 501 => {
                let words = self.error.message.to_ascii_lowercase();
                SIGNS.iter().any(|sign| words.contains(sign))
            }
            _ => false,
        }
    }

    /// Whether the same request may succeed soon.
    pub(super) fn is_worth_retrying(&self, patience: Patience) -> bool {
        if self.error.kind == FailureKind::TooLong {
            return false;
        }
        if let Some(should) = self.should_retry {
            return should;
        }
        let told = self.error.retry_after.is_some() && !self.is_spend_limit;
        match self.status {
            429 => patience == Patience::Always || told,
            408 | 409 | 500.. => true,
            _ => false,
        }
    }
}

/// What `x-should-retry` says.
pub(super) fn should_retry(headers: &HeaderMap) -> Option<bool> {
    match headers.get("x-should-retry")?.to_str().ok()? {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// What `retry-after-ms` or `retry-after` say at `now_ms`; `None` for what is absent, in the past or makes no sense.
pub(super) fn retry_after(headers: &HeaderMap, now_ms: i64) -> Option<Duration> {
    let text = |name| headers.get(name)?.to_str().ok().map(str::trim);
    let positive =
        |seconds: f64| Duration::try_from_secs_f64(seconds).ok().filter(|pause| !pause.is_zero());
    let ms = || text("retry-after-ms")?.parse::<f64>().ok();
    let after = || {
        let text = text("retry-after")?;
        if let Ok(seconds) = text.parse::<f64>() {
            return positive(seconds);
        }
        let date = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
        let now = Duration::from_millis(u64::try_from(now_ms).ok()?);
        date.checked_sub(now).filter(|pause| !pause.is_zero())
    };
    ms().and_then(|ms| positive(ms / 1_000.0)).or_else(after)
}

/// The pause before repetition `count` (0 is the first), if the provider does not say; `random` decides how much of a
/// quarter of it is left out, so that not everybody comes back at once.
pub(super) fn pause(count: u32, random: u64) -> Duration {
    let whole = PAUSE_MIN.saturating_mul(1 << count.min(8)).min(PAUSE_MAX);
    let part = u32::try_from(random % 1_000).unwrap_or(0);
    whole - whole / 4 * part / 1_000
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderName;

    use super::*;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), value.parse().unwrap())
        };
        fields.iter().map(field).collect()
    }

    #[track_caller]
    fn check_after(fields: &[(&'static str, &str)], ms: Option<u64>) {
        // 1994-11-06 08:49:30 UTC.
        let after = retry_after(&headers(fields), 784_111_770_000);
        assert_eq!(after, ms.map(Duration::from_millis), "{fields:?}");
    }

    #[test]
    fn pauses_are_read_in_every_form() {
        check_after(&[("retry-after", "2")], Some(2_000));
        check_after(&[("retry-after", "0.25")], Some(250));
        check_after(&[("retry-after-ms", "70"), ("retry-after", "2")], Some(70));
        check_after(&[("retry-after-ms", "x"), ("retry-after", "2")], Some(2_000));
        check_after(&[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")], Some(7_000));
        check_after(&[("retry-after", "Sun, 06 Nov 1994 08:49:30 GMT")], None);
        for nothing in ["0", "-1", "soon", "NaN", "inf", "1e300", ""] {
            check_after(&[("retry-after", nothing)], None);
        }
        check_after(&[], None);
    }

    #[track_caller]
    fn check_worth(status: u16, fields: &[(&'static str, &str)], then: [bool; 2]) {
        let fields = headers(fields);
        let mut error = ModelError::new(FailureKind::Other, "");
        error.retry_after = retry_after(&fields, 0);
        let should_retry = should_retry(&fields);
        let refusal = Refusal { status, should_retry, is_spend_limit: false, error };
        let seen = [Patience::Always, Patience::IfTold].map(|p| refusal.is_worth_retrying(p));
        assert_eq!(seen, then, "{status} {fields:?}");
    }

    #[test]
    fn what_may_pass_is_tried_again() {
        for status in [408, 409, 500, 502, 503, 529, 599] {
            check_worth(status, &[], [true, true]);
            check_worth(status, &[("x-should-retry", "false")], [false, false]);
        }
        for status in [301, 400, 401, 402, 403, 404, 413, 422] {
            check_worth(status, &[], [false, false]);
            check_worth(status, &[("x-should-retry", "true")], [true, true]);
        }
        check_worth(429, &[], [true, false]);
        check_worth(429, &[("retry-after", "1")], [true, true]);
        let error = ModelError {
            retry_after: Some(Duration::from_secs(1)),
            ..ModelError::new(FailureKind::RateLimit, "")
        };
        let refusal = Refusal { status: 429, should_retry: None, is_spend_limit: true, error };
        assert!(!refusal.is_worth_retrying(Patience::IfTold));
    }

    #[test]
    fn pauses_double_and_vary() {
        assert_eq!(pause(0, 0), Duration::from_millis(500));
        assert_eq!(pause(1, 0), Duration::from_secs(1));
        assert_eq!(pause(40, 0), Duration::from_secs(8));
        for random in [1, 500, 999, u64::MAX] {
            assert!((375..=500).contains(&pause(0, random).as_millis()));
        }
    }
}
