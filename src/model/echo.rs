//! The built-in model: says what it was told, needs no key and no network. Its script language is wire.md, 1.9.

use std::time::Duration;

/// Most deltas that one `!slow` line asks for.
const SLOW_COUNT_MAX: u32 = 100_000;
/// Longest pause that one `!slow` line asks for, in milliseconds.
const SLOW_PAUSE_MS_MAX: u64 = 60_000;

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Text that comes next.
    Text(String),
    /// The model failed, for this reason.
    Failure(String),
}

/// One piece and the pause before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// How long the model thinks first.
    pub pause: Duration,
    /// What it then says.
    pub piece: Piece,
}

/// The answer to `text`: `echo: <line>` for each line, in pieces of a word; lines that start with `!` direct it.
///
/// `!slow N MS` says `w0 `, `w1 `, … N times with MS milliseconds between; `!error TEXT` says `partial ` and fails with
/// TEXT. The same text always gets the same answer. It is made piece by piece, so a long one takes no memory.
pub fn answer(text: &str) -> impl Iterator<Item = Step> + use<> {
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let last = lines.len().saturating_sub(1);
    lines.into_iter().enumerate().flat_map(move |(at, line)| line_steps(&line, at == last))
}

fn line_steps(line: &str, last: bool) -> Box<dyn Iterator<Item = Step>> {
    let step = |pause, piece| Step { pause, piece };
    let mut words = line.split_whitespace();
    match words.next() {
        Some("!slow") => {
            let count = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
            let pause = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
            let pause = Duration::from_millis(pause.min(SLOW_PAUSE_MS_MAX));
            let say = move |n| step(pause, Piece::Text(format!("w{n} ")));
            Box::new((0..count.min(SLOW_COUNT_MAX)).map(say))
        }
        Some("!error") => {
            let reason = line.trim_start().trim_start_matches("!error").trim().to_owned();
            let said = step(Duration::ZERO, Piece::Text("partial ".to_owned()));
            Box::new([said, step(Duration::ZERO, Piece::Failure(reason))].into_iter())
        }
        _ => {
            let end = if last { "" } else { "\n" };
            let said = format!("echo: {line}{end}");
            let words: Vec<String> = said.split_inclusive(' ').map(str::to_owned).collect();
            Box::new(words.into_iter().map(move |word| step(Duration::ZERO, Piece::Text(word))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(given: &str, then: &str) {
        let said: String = answer(given)
            .map(|step| match step.piece {
                Piece::Text(text) => text,
                Piece::Failure(reason) => format!("[{reason}]"),
            })
            .collect();
        assert_eq!(said, then);
    }

    #[test]
    fn lines_come_back_and_directives_are_followed() {
        check("hello you", "echo: hello you");
        check("a\nb", "echo: a\necho: b");
        check("!slow 3 0", "w0 w1 w2 ");
        check("!error no  luck\nmore", "partial [no  luck]echo: more");
        check("", "");
    }
}
