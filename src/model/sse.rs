//! Server-sent events from a stream of bytes, as the HTML standard defines them. Nothing here knows JSON or a provider.

use memchr::memchr2;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    /// Its name; empty if it has none.
    pub(super) name: String,
    /// Its data: all `data` lines, joined by line feeds.
    pub(super) data: String,
}

/// Why bytes are not events that we take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    /// A line, or the lines of one event together, are longer than the parser was told to take.
    #[error("an event is larger than {0} bytes")]
    TooLarge(usize),
    /// A name or data is not UTF-8. The standard would put U+FFFD in its place; in the input of a tool that would be a repair.
    #[error("an event is not UTF-8")]
    NotText,
}

/// Finds the events in bytes that come in pieces of any size.
///
/// Holds at most one event and one line, both within the bound of [`Parser::new`], and looks at every byte a fixed number of
/// times however the bytes are cut. Lines end with CR, LF or CRLF. An event without data is no event, also if it says so
/// with an empty `data`, as some servers do to keep a connection alive. Comments, `id`, `retry` and unknown fields are
/// skipped. The standard forgets an event that the end of the stream cuts off; here [`Parser::finish`] gives it, because some
/// servers leave out the last blank line.
#[derive(Debug)]
pub(super) struct Parser {
    bytes_max: usize,
    /// The unfinished line.
    line: Vec<u8>,
    /// The unfinished event.
    name: String,
    data: String,
    has_data: bool,
    /// The last byte was a CR, so that a LF belongs to it.
    after_cr: bool,
    /// Nothing but the first line can start with a byte order mark.
    first_line: bool,
}

impl Parser {
    /// A parser for a stream from its beginning that holds lines and events of up to `bytes_max` bytes.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            line: Vec::new(),
            name: String::new(),
            data: String::new(),
            has_data: false,
            after_cr: false,
            first_line: true,
        }
    }

    /// Takes bytes off the front of `bytes` until an event is whole or none are left (`None`).
    ///
    /// # Errors
    ///
    /// [`Error`]; the stream cannot be read further.
    pub(super) fn next(&mut self, bytes: &mut &[u8]) -> Result<Option<Event>, Error> {
        while !bytes.is_empty() {
            if std::mem::take(&mut self.after_cr) && bytes[0] == b'\n' {
                *bytes = &bytes[1..];
                continue;
            }
            let end = memchr2(b'\r', b'\n', bytes);
            let (piece, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
            if self.line.len() + piece.len() > self.bytes_max {
                return Err(Error::TooLarge(self.bytes_max));
            }
            let Some(&ending) = rest.first() else {
                self.line.extend_from_slice(piece);
                *bytes = rest;
                break;
            };
            self.after_cr = ending == b'\r';
            *bytes = &rest[1..];
            let event = if self.line.is_empty() {
                self.take_line(piece)?
            } else {
                self.line.extend_from_slice(piece);
                let line = std::mem::take(&mut self.line);
                let event = self.take_line(&line)?;
                self.line = line;
                self.line.clear();
                event
            };
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
    }

    /// The event that the end of the stream cuts off, if it has data. It need not be whole.
    ///
    /// # Errors
    ///
    /// As [`Self::next`].
    pub(super) fn finish(&mut self) -> Result<Option<Event>, Error> {
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() {
            self.take_line(&line)?;
        }
        Ok(self.dispatch())
    }

    fn dispatch(&mut self) -> Option<Event> {
        self.has_data = false;
        let name = std::mem::take(&mut self.name);
        let data = std::mem::take(&mut self.data);
        (!data.trim().is_empty()).then_some(Event { name, data })
    }

    fn take_line(&mut self, line: &[u8]) -> Result<Option<Event>, Error> {
        let mut line = line;
        if std::mem::take(&mut self.first_line) {
            line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line);
        }
        if line.is_empty() {
            return Ok(self.dispatch());
        }
        let (field, value) = match line.iter().position(|byte| *byte == b':') {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &line[..0]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => {
                if self.data.len() + value.len() >= self.bytes_max {
                    return Err(Error::TooLarge(self.bytes_max));
                }
                if std::mem::replace(&mut self.has_data, true) {
                    self.data.push('\n');
                }
                self.data.push_str(str::from_utf8(value).map_err(|_| Error::NotText)?);
            }
            b"event" => {
                str::from_utf8(value).map_err(|_| Error::NotText)?.clone_into(&mut self.name);
            }
            _ => {}
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
