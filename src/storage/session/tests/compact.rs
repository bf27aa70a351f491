//! One frame takes the place of the deltas of an answer, and nothing else changes.

use super::*;

fn say(word: &str) -> Command {
    write(vec![Piece::Delta { part: 0, text: word.to_owned() }])
}

fn open_text() -> Command {
    let fields = Object::default().with("type", &"text").with("content", &"");
    write(vec![Piece::Update { part: 0, fields: fields.with("state", &"running") }])
}

/// An answer of three deltas that ends at `at_ms`.
fn answer(file: &mut SessionFile, id: u8, at_ms: i64) {
    carry_out(file, ask(NewMessage { id: None, ..message(id, "q") }), at_ms).expect("memory");
    carry_out(file, open_text(), at_ms).expect("memory");
    for word in ["a ", "b ", "c"] {
        carry_out(file, say(word), at_ms).expect("memory");
    }
    carry_out(file, end(TurnState::Completed), at_ms).expect("memory");
}

/// The log from `after` on as kinds and the seqs that they stand for; no gap is left.
fn covered(file: &SessionFile, after: u64) -> Vec<(&'static str, u64, u64)> {
    let mut last = after;
    let mut all = Vec::new();
    for event in file.events(after).expect("the log is whole") {
        let from = match Event::decode(event.number, &event.frame).expect("a frame") {
            Event::MessageParts { from, .. } => from.unwrap_or(event.seq),
            _ => event.seq,
        };
        assert!(from <= last + 1 && last < event.seq, "{from} to {} behind {last}", event.seq);
        last = event.seq;
        all.push((Event::name_of(event.number).unwrap_or_default(), from, event.seq));
    }
    assert_eq!(last, file.head().last_seq.max(after));
    all
}

#[test]
fn one_frame_takes_the_place_of_deltas_and_every_other_event_stays() {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = Folder::open(dir.path()).expect("a folder");
    let key = session("s");
    let mut file = SessionFile::create(&key, &Settings { deltas_kept_ms: 100 });
    answer(&mut file, 1, 2_000);
    // Between two words of this one, somebody else says something.
    carry_out(&mut file, ask(NewMessage { id: None, ..message(4, "q") }), 2_050).expect("memory");
    carry_out(&mut file, open_text(), 2_050).expect("memory");
    carry_out(&mut file, say("x "), 2_050).expect("memory");
    carry_out(&mut file, say("y "), 2_050).expect("memory");
    carry_out(&mut file, Command::AddMessage(message(6, "hm")), 2_050).expect("memory");
    carry_out(&mut file, say("z"), 2_050).expect("memory");
    carry_out(&mut file, end(TurnState::Completed), 2_060).expect("memory");
    let whole = file.events(0).expect("the log");
    let (head, page) = (file.head().clone(), file.page(Direction::After(0), 100, false));
    assert_eq!(file.next_timer_ms().expect("readable"), Some(2_100), "the first that is over");

    file.compact().expect("memory");
    let first = [
        ("session", 1, 1),
        ("message", 2, 2),
        ("turn", 3, 3),
        ("part-update", 4, 4),
        ("message-parts", 5, 7),
        ("part-update", 8, 8),
        ("message", 9, 9),
        ("turn", 10, 10),
    ];
    assert_eq!(covered(&file, 0)[..8], first);
    assert_eq!(file.next_timer_ms().expect("readable"), Some(2_160), "the other is too young");
    file.compact().expect("memory");
    let frames = covered(&file, 10);
    let runs: Vec<_> = frames.iter().filter(|(kind, ..)| *kind == "message-parts").collect();
    assert_eq!(runs, [&("message-parts", 14, 15), &("message-parts", 17, 17)]);
    assert_eq!(file.next_timer_ms().expect("readable"), None);

    assert_eq!((file.head(), file.head().log_start), (&head, 0));
    let same = file.page(Direction::After(0), 100, false).expect("readable");
    assert_eq!(same, page.expect("readable"), "the messages are as they were");
    for after in 0..=head.last_seq {
        covered(&file, after);
    }
    let parts = same.messages[1].parts.clone();
    for event in file.events(0).expect("the log") {
        let before = &whole[usize::try_from(event.seq).expect("small") - 1];
        match Event::decode(event.number, &event.frame).expect("a frame") {
            Event::MessageParts { from: Some(5), parts: now, version, .. } => {
                assert_eq!((now, version), (parts.clone(), 2));
            }
            Event::MessageParts { .. } => {
                assert_eq!(Event::name_of(before.number), Some("part-delta"))
            }
            _ => assert_eq!((event.number, &event.frame), (before.number, &before.frame)),
        }
    }
    // The chain goes on behind it, also once it is opened again.
    file.close(&folder).expect("a disk");
    let mut file =
        SessionFile::open(&key, &folder.file(&key), &Settings::default()).expect("a whole file");
    assert_eq!(file.head(), &head);
    let id = same.messages[1].id.clone();
    carry_out(&mut file, Command::DeleteMessage { message_id: id }, 3_000).expect("a disk");
    let log = file.events(0).expect("the log");
    assert!(log.iter().all(|event| !event.frame.contains("a b c")), "{log:?}");
    covered(&file, 0);
    // A frame that does not reach back to the one before it is damage, not a gap.
    file.db().expect("whole").execute("DELETE FROM event WHERE seq = 9", []).expect("writable");
    let read = file.events(0);
    let missing = matches!(&read, Err(Error::RowMissing { table: "event", row }) if row == "9");
    assert!(missing, "{read:?}");
}

#[test]
fn the_words_of_an_answer_that_goes_on_stay() {
    let mut file = SessionFile::create(&session("s"), &Settings { deltas_kept_ms: 0 });
    answer(&mut file, 1, 1_000);
    carry_out(&mut file, ask(message(9, "third")), 2_000).expect("memory");
    carry_out(&mut file, open_text(), 2_000).expect("memory");
    carry_out(&mut file, say("x"), 2_000).expect("memory");
    file.compact().expect("memory");
    let deltas = |file: &SessionFile| {
        covered(file, 0).into_iter().filter(|(kind, ..)| *kind == "part-delta").count()
    };
    assert_eq!((deltas(&file), file.next_timer_ms().expect("readable")), (1, None));
    carry_out(&mut file, end(TurnState::Stopped), 3_000).expect("memory");
    assert_eq!(file.next_timer_ms().expect("readable"), Some(3_000));
    file.compact().expect("memory");
    assert_eq!(deltas(&file), 0);
}

#[test]
fn what_would_grow_is_not_compacted() {
    let mut file = SessionFile::create(&session("s"), &Settings { deltas_kept_ms: 0 });
    carry_out(&mut file, ask(message(100, "q")), 0).expect("memory");
    let large = Object::default().with("type", &"data-x").with("data", &"d".repeat(5_000));
    carry_out(&mut file, open_text(), 0).expect("memory");
    carry_out(&mut file, write(vec![Piece::Update { part: 1, fields: large }]), 0).expect("memory");
    for _ in 0..20 {
        carry_out(&mut file, say("word "), 0).expect("memory");
    }
    carry_out(&mut file, end(TurnState::Completed), 0).expect("memory");
    let before = file.events(0).expect("the log").len();
    file.compact().expect("memory");
    assert_eq!(file.events(0).expect("the log").len(), before);
    assert_eq!(file.next_timer_ms().expect("readable"), None, "and not tried again");
}
