//! Bytes in, lines out, with a bound on the length of a line. Knows neither what the lines mean nor where they come from.

/// Cuts a stream of bytes into lines; `\n` and `\r\n` end a line.
pub(super) struct Lines {
    buffer: Vec<u8>,
    /// Where the next line begins.
    start: usize,
    /// Up to where there is surely no line end.
    scanned: usize,
    bytes_max: usize,
}

/// A line is longer than it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl Lines {
    /// Lines of at most `bytes_max` bytes.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { buffer: Vec::new(), start: 0, scanned: 0, bytes_max }
    }

    /// Takes the next bytes. Ask for all lines before giving more.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.scanned -= self.start;
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole line without its end.
    ///
    /// # Errors
    ///
    /// [`TooLong`]: nothing sensible follows.
    pub(super) fn line(&mut self) -> Result<Option<String>, TooLong> {
        let end = self.buffer[self.scanned..].iter().position(|byte| *byte == b'\n');
        let Some(end) = end.map(|at| self.scanned + at) else {
            self.scanned = self.buffer.len();
            let waiting = self.buffer.len() - self.start;
            return if waiting > self.bytes_max { Err(TooLong) } else { Ok(None) };
        };
        let line = &self.buffer[self.start..end];
        if line.len() > self.bytes_max {
            return Err(TooLong);
        }
        let text = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned();
        (self.start, self.scanned) = (end + 1, end + 1);
        Ok(Some(text))
    }

    /// What is left behind the last line end, once no more bytes come.
    pub(super) fn rest(&mut self) -> Option<String> {
        let rest = String::from_utf8_lossy(&self.buffer[self.start..]).into_owned();
        (self.start, self.scanned) = (self.buffer.len(), self.buffer.len());
        (!rest.trim().is_empty()).then_some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(chunks: &[&str], then: &[&str]) {
        let mut lines = Lines::new(8);
        let mut seen = Vec::new();
        for chunk in chunks {
            lines.push(chunk.as_bytes());
            loop {
                match lines.line() {
                    Ok(Some(line)) => seen.push(line),
                    Ok(None) => break,
                    Err(TooLong) => return assert_eq!(then.last(), Some(&"too long")),
                }
            }
        }
        seen.extend(lines.rest());
        assert_eq!(seen, then);
    }

    #[test]
    fn lines_are_cut_wherever_the_chunks_end() {
        check(&["a\nb", "c\r", "\n\nd"], &["a", "bc", "", "d"]);
        check(&["", "\n"], &[""]);
        check(&["1234", "5678\n"], &["12345678"]);
    }

    #[test]
    fn long_lines_are_refused_with_and_without_their_end() {
        check(&["1234", "56789"], &["too long"]);
        check(&["123456789\n"], &["too long"]);
    }
}
