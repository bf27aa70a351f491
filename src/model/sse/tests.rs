//! What streams of bytes are as events, however they are cut.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::Strategy;
use proptest::prelude::any;
use proptest::prelude::prop_oneof;
use proptest::proptest;

use super::Error;
use super::Event;
use super::Parser;
use crate::base::clock;

/// What `stream` is as events if it comes in pieces that end at `cuts`.
fn parse(stream: &[u8], cuts: &[usize], bytes_max: usize) -> Result<Vec<Event>, Error> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
    cuts.push(stream.len());
    cuts.sort_unstable();
    let (mut parser, mut from, mut events) = (Parser::new(bytes_max), 0, Vec::new());
    for to in cuts {
        let mut piece = &stream[from..to];
        while let Some(event) = parser.next(&mut piece)? {
            events.push(event);
        }
        assert!(piece.is_empty());
        from = to;
    }
    Ok(events)
}

#[track_caller]
fn check(stream: impl AsRef<[u8]>, then: &[(&str, &str)]) {
    let stream = stream.as_ref();
    let every: Vec<usize> = (0..stream.len()).collect();
    for cuts in [&[][..], &every] {
        let events = parse(stream, cuts, 1_000).unwrap();
        let events: Vec<_> = events.iter().map(|e| (e.name.as_str(), e.data.as_str())).collect();
        assert_eq!(events, then);
    }
}

#[test]
fn lines_become_events() {
    check("data: a\n\n", &[("", "a")]);
    check("event: x\ndata: a\n\ndata:b\n\n", &[("x", "a"), ("", "b")]);
    check("data: a\ndata:  b\ndata\n\n", &[("", "a\n b\n")]);
    check(": comment\nid: 1\nretry: 2\nunknown\ndata: a:b\n\n", &[("", "a:b")]);
    check("data: wörld 👋\n\n", &[("", "wörld 👋")]);
}

#[test]
fn an_event_needs_data_and_an_end() {
    check("event: x\n\ndata: a\n\n", &[("", "a")]);
    check("\n\n\n: only\n\n", &[]);
    check("data: a\n\ndata: cut off\n", &[("", "a")]);
    for keep_alive in ["data\n\n", "data:\n\n", "data: \n\n", "event: ping\ndata:\ndata: \n\n"] {
        check(format!("{keep_alive}data: a\n\n"), &[("", "a")]);
    }
}

#[test]
fn the_last_event_may_lack_its_end() {
    for (stream, then) in [
        ("data: a\n\ndata: b", Some("b")),
        ("data: a\n\ndata: b\n", Some("b")),
        ("data: a\ndata: b\r", Some("a\nb")),
        ("data: a\n\n", None),
        ("data: a\n\n: comment", None),
        ("data: a\n\nevent: x", None),
    ] {
        let (mut parser, mut bytes) = (Parser::new(100), stream.as_bytes());
        while parser.next(&mut bytes).unwrap().is_some() {}
        let last = parser.finish().unwrap();
        assert_eq!(last.as_ref().map(|event| event.data.as_str()), then, "{stream:?}");
    }
}

#[test]
fn all_line_ends_are_one() {
    check("data: a\r\ndata: b\r\n\r\ndata: c\r\n\r\n", &[("", "a\nb"), ("", "c")]);
    check("data: a\rdata: b\r\rdata: c\r\r", &[("", "a\nb"), ("", "c")]);
    check("data: a\n\r\ndata: b\r\n\ndata: c\r\r\n", &[("", "a"), ("", "b"), ("", "c")]);
}

#[test]
fn only_the_first_line_may_have_a_mark() {
    check("\u{FEFF}data: a\n\n", &[("", "a")]);
    check("data: a\n\n\u{FEFF}data: b\n\n", &[("", "a")]);
}

#[test]
fn nothing_grows_without_bound() {
    assert_eq!(parse(&[b'x'; 101], &[10, 50], 100), Err(Error::TooLarge(100)));
    assert_eq!(parse(&[b'x'; 100], &[10, 50], 100), Ok(vec![]));
    let lines = "data: 0123456789\n".repeat(10);
    assert_eq!(parse(lines.as_bytes(), &[], 100), Err(Error::TooLarge(100)));
    let empty = "data\n".repeat(200);
    assert_eq!(parse(empty.as_bytes(), &[], 100), Err(Error::TooLarge(100)));
}

#[test]
fn what_is_not_utf_8_is_refused() {
    assert_eq!(parse(b"data: \xFF\n\n", &[], 100), Err(Error::NotText));
    assert_eq!(parse(b"data: \xE2\x82\n\n", &[], 100), Err(Error::NotText));
    assert_eq!(parse(b": \xFF\ndata: a\n\n", &[], 100).unwrap().len(), 1);
}

#[test]
fn a_long_line_in_small_pieces_takes_linear_time() {
    let stream = format!("data: {}\n\n", "x".repeat(4 << 20));
    let cuts: Vec<usize> = (0..stream.len()).step_by(16).collect();
    let before = clock::instant();
    assert_eq!(parse(stream.as_bytes(), &cuts, 8 << 20).unwrap().len(), 1);
    // Quadratic time would be minutes.
    assert!(before.elapsed() < Duration::from_secs(20));
}

fn line() -> impl Strategy<Value = Vec<u8>> {
    let text = prop_oneof![
        "data:? ?[a-zé👋\u{FEFF}]{0,6}",
        "event: [a-z]{0,3}",
        ":[a-z]{0,3}",
        "[a-z:]{0,4}",
        ""
    ];
    let end = prop_oneof!["\r", "\n", "\r\n"];
    (text, end).prop_map(|(text, end)| (text + &end).into_bytes())
}

proptest! {
    #[test]
    fn any_cut_gives_the_same_events(
        lines in vec(line(), 0..20),
        junk in vec(any::<u8>(), 0..4),
        cuts in vec(any::<usize>(), 0..12),
    ) {
        let stream = [lines.concat(), junk].concat();
        let every: Vec<usize> = (0..stream.len()).collect();
        let whole = parse(&stream, &[], 60);
        assert_eq!(parse(&stream, &cuts, 60), whole);
        assert_eq!(parse(&stream, &every, 60), whole);
    }
}
