//! The last message of a body that repeats the whole conversation, kept while the rest of it is passed over.
//!
//! Clients of the AI SDK send their history with every question, pictures and all; the server has it. So a body is
//! scanned as it comes: of the elements of its member `messages` all but the last become `null`. What is left is bounded,
//! not what is passed over.

use std::borrow::Cow;

/// What is kept is larger than this.
#[derive(Debug, PartialEq)]
pub(super) struct Overflow {
    pub max: usize,
}

/// A scan of a JSON object. It need not be valid: what is kept is parsed later, and what is not was not wanted.
pub(super) struct LastMessage {
    kept: Vec<u8>,
    max: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// Where the last string that began at the top level begins.
    name: usize,
    /// Whether the value that comes is that of `messages`.
    named: bool,
    /// Whether this is inside its list.
    in_list: bool,
    /// Where the newest element of the list begins, once one began.
    element: Option<usize>,
    /// Whether that element has ended.
    ended: bool,
    /// Whether it was too large to be kept.
    dropped: bool,
}

impl LastMessage {
    /// A scan that keeps at most `max` bytes.
    pub(super) fn new(max: usize) -> Self {
        Self {
            kept: Vec::new(),
            max,
            depth: 0,
            in_string: false,
            escaped: false,
            name: 0,
            named: false,
            in_list: false,
            element: None,
            ended: false,
            dropped: false,
        }
    }

    /// What is kept of `text`; itself, if that is all.
    pub(super) fn of(text: &str, max: usize) -> Result<Cow<'_, str>, Overflow> {
        let mut scan = Self::new(max);
        scan.add(text.as_bytes())?;
        let kept = scan.finish()?;
        if kept.len() == text.len() {
            return Ok(Cow::Borrowed(text));
        }
        // Whole elements go, so that what is left is still text.
        Ok(Cow::Owned(String::from_utf8(kept).unwrap_or_default()))
    }

    /// Scans what comes next.
    pub(super) fn add(&mut self, bytes: &[u8]) -> Result<(), Overflow> {
        for byte in bytes {
            self.scan(*byte);
            if !self.dropped {
                self.kept.push(*byte);
            }
            if self.kept.len() > self.max {
                // The newest element may be history as well: the next one tells.
                match self.element {
                    // There must be room for what comes behind it.
                    Some(at) if self.in_list && at < self.max => {
                        self.kept.truncate(at);
                        self.dropped = true;
                    }
                    _ => return Err(Overflow { max: self.max }),
                }
            }
        }
        Ok(())
    }

    /// What is kept.
    pub(super) fn finish(self) -> Result<Vec<u8>, Overflow> {
        match self.dropped {
            true => Err(Overflow { max: self.max }),
            false => Ok(self.kept),
        }
    }

    fn scan(&mut self, byte: u8) {
        if self.in_string {
            self.in_string = self.escaped || byte != b'"';
            self.escaped = byte == b'\\' && !self.escaped;
            return;
        }
        let in_list = self.in_list && self.depth == 2;
        let blank = matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        if in_list && !blank && !matches!(byte, b',' | b']') {
            self.begin_element();
        }
        match byte {
            b'"' => {
                self.in_string = true;
                if self.depth == 1 {
                    self.name = self.kept.len();
                }
            }
            b':' if self.depth == 1 => {
                let name = self.kept.get(self.name..).unwrap_or_default();
                self.named = name.trim_ascii_end() == b"\"messages\"";
            }
            b',' if self.depth == 1 => self.named = false,
            b',' if in_list => self.ended = true,
            b'[' | b'{' => {
                self.depth += 1;
                if self.depth == 2 && byte == b'[' && self.named {
                    (self.in_list, self.element, self.ended) = (true, None, false);
                }
            }
            b']' | b'}' => {
                self.depth = self.depth.saturating_sub(1);
                self.in_list &= self.depth >= 2;
            }
            _ => {}
        }
    }

    /// A byte of an element comes: if it is the first, what was the newest element is history.
    fn begin_element(&mut self) {
        match self.element {
            None => self.element = Some(self.kept.len()),
            Some(at) if self.ended => {
                self.kept.truncate(at);
                self.kept.extend_from_slice(b"null,");
                (self.element, self.ended, self.dropped) = (Some(self.kept.len()), false, false);
            }
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(text: &str, max: usize) -> Result<String, Overflow> {
        // However it is cut into pieces.
        let mut scan = LastMessage::new(max);
        text.as_bytes().chunks(3).try_for_each(|piece| scan.add(piece))?;
        let kept = scan.finish()?;
        assert_eq!(LastMessage::of(text, max).as_deref(), Ok(str::from_utf8(&kept).expect("text")));
        Ok(String::from_utf8(kept).expect("text"))
    }

    #[track_caller]
    fn check(given: &str, then: &str) {
        assert_eq!(kept(given, 1_000).as_deref(), Ok(then));
    }

    #[test]
    fn all_but_the_last_message_is_passed_over() {
        check(
            r#"{"id":"a","messages":[{"x":["],"]},{"y":"\"}"},{"z":1}],"trigger":"t"}"#,
            r#"{"id":"a","messages":[null,null,{"z":1}],"trigger":"t"}"#,
        );
        check(r#"{ "messages" : [ {"x":1} , {"y":2} ] }"#, r#"{ "messages" : [ null,{"y":2} ] }"#);
        check(r#"{"messages":[{"x":1}]}"#, r#"{"messages":[{"x":1}]}"#);
        check(r#"{"messages":[1,"a,b",[2,3]]}"#, r#"{"messages":[null,null,[2,3]]}"#);
    }

    #[test]
    fn other_lists_and_what_is_no_json_stay_as_they_are() {
        for text in [
            r#"{"data":[1,2],"message":{"messages":[1,2]},"a":{"messages":[{},{}]}}"#,
            r#"[{"messages":[1,2]}]"#,
            r#"{"messages":{"a":[1,2]}}"#,
            r#"{"x":"messages","y":[1,2]}"#,
            r#"{"messages":[]}"#,
            r#"]]}}{"messages""#,
            "",
        ] {
            check(text, text);
        }
    }

    #[test]
    fn only_what_is_kept_is_bounded() {
        let large = "x".repeat(500);
        let body = |last: &str| format!(r#"{{"messages":[{{"a":"{large}"}},{{"b":"{last}"}}]}}"#);
        assert_eq!(kept(&body("ok"), 100).as_deref(), Ok(r#"{"messages":[null,{"b":"ok"}]}"#));
        assert_eq!(kept(&body(&large), 100), Err(Overflow { max: 100 }));
        assert_eq!(kept(&format!(r#"{{"a":"{large}"}}"#), 100), Err(Overflow { max: 100 }));
    }
}
