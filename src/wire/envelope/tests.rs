//! Whatever is asked and answered survives the way over a wire: what comes out says the same, byte for byte, as what went in.

use std::fmt::Debug;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde::de::DeserializeOwned;

use super::*;
use crate::base::Classify as _;
use crate::base::ids::Name;
use crate::base::json::Json;
use crate::base::json::Object;
use crate::base::limits::TABLE;
use crate::domain::kind::StoredEvent;
use crate::domain::session::Busy;
use crate::domain::session::Ending;
use crate::domain::session::Input;
use crate::domain::session::ItemsCommand;
use crate::domain::session::NewMessage;
use crate::domain::session::NewTurn;
use crate::domain::session::Part;
use crate::domain::session::Piece;
use crate::domain::session::Role;
use crate::domain::session::SessionChanges;
use crate::domain::session::Status;
use crate::domain::session::ToolAnswer;
use crate::domain::session::TurnOptions;
use crate::domain::session::TurnState;
use crate::domain::session::Usage;
use crate::wire::ask::Reason;

fn check<T: Serialize + DeserializeOwned + Debug>(value: &T) -> Result<(), TestCaseError> {
    let bytes = serde_json::to_vec(value).expect("it is plain JSON");
    let again: T = serde_json::from_slice(&bytes)
        .map_err(|error| TestCaseError::fail(format!("{value:?}: {error}")))?;
    let (sent, come) = (bytes, serde_json::to_vec(&again).expect("it is plain JSON"));
    prop_assert_eq!(String::from_utf8_lossy(&sent), String::from_utf8_lossy(&come));
    prop_assert_eq!(format!("{:?}", value), format!("{:?}", again));
    Ok(())
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![".{0,12}", Just("\u{1F600}\u{2028}\"\\".to_owned())]
}

fn json() -> impl Strategy<Value = Json> {
    let texts =
        ["{}", r#"{"n":12345678901234567890123,"x":1.50}"#, r#""\ud83d""#, "[1,[2]]", "null"];
    select(texts.to_vec()).prop_map(|text| Json::parse(text).expect("JSON"))
}

/// What may be attached: objects.
fn attached() -> impl Strategy<Value = Option<Json>> {
    option::of(object().prop_map(|object| object.to_json()))
}

fn object() -> impl Strategy<Value = Object> {
    (text(), json()).prop_map(|(text, json)| Object::default().with("a", &text).with("b", &json))
}

fn part() -> impl Strategy<Value = Part> {
    object().prop_map(|object| Part::of(&object.with("type", &"text")))
}

fn number() -> impl Strategy<Value = u64> {
    select(&[0, 1, u64::MAX])
}

fn options() -> impl Strategy<Value = TurnOptions> {
    let busy = select(&[Busy::Reject, Busy::Queue, Busy::Interrupt, Busy::Latest]);
    let some = (option::of(text()), option::of(text()), attached(), option::of(any::<u32>()));
    (some, option::of(busy)).prop_map(|((model, system, tools, max_steps), busy)| TurnOptions {
        model,
        system,
        tools,
        max_steps,
        busy,
    })
}

fn new_message() -> impl Strategy<Value = NewMessage> {
    let role = select(&[Role::User, Role::Assistant, Role::System]);
    let named = select(&["m", "a b", "é", "..", "%2F"]);
    (option::of(named), role, text(), vec(part(), 0..3), attached()).prop_map(
        |(id, role, content, parts, metadata)| NewMessage {
            id: id.map(|id| Name::new(id).expect("a name")),
            role,
            content,
            parts,
            metadata,
        },
    )
}

fn message() -> impl Strategy<Value = Message> {
    let status = select(&[Status::Streaming, Status::Complete, Status::Deleted, Status::Failed]);
    (new_message(), number(), status, option::of(text())).prop_map(|(new, seq, status, turn_id)| {
        Message {
            id: new.id.map_or_else(|| "x".to_owned(), String::from),
            seq,
            version: 7,
            role: new.role,
            content: new.content,
            parts: new.parts,
            metadata: new.metadata,
            turn_id,
            status,
            created_at: -1,
            created_at_ms: i64::MAX,
            updated_at_ms: i64::MIN,
        }
    })
}

fn turn() -> impl Strategy<Value = Turn> {
    let states = [
        TurnState::Queued,
        TurnState::Running,
        TurnState::WaitingApproval,
        TurnState::Stopping,
        TurnState::Completed,
        TurnState::Stopped,
        TurnState::Interrupted,
        TurnState::Failed,
    ];
    let usage = (number(), number())
        .prop_map(|(input_tokens, output_tokens)| Usage { input_tokens, output_tokens });
    let rest =
        (option::of(text()), option::of(usage), option::of(text()), option::of(any::<u16>()));
    (text(), select(states.to_vec()), options(), rest).prop_map(
        |(id, state, options, (model, usage, error, error_status))| Turn {
            input_id: id.clone(),
            message_id: id.clone(),
            id,
            state,
            attempt: u32::MAX,
            options,
            model,
            finish_reason: error.clone(),
            expires_at_ms: usage.map(|_| -5),
            usage,
            resume: error.clone(),
            error,
            error_status,
        },
    )
}

fn changes() -> impl Strategy<Value = SessionChanges> {
    (option::of(text()), attached(), option::of(options()))
        .prop_map(|(title, metadata, settings)| SessionChanges { title, metadata, settings })
}

fn input() -> impl Strategy<Value = Input> {
    let answer = (text(), option::of(json()), option::of(text()), option::of(any::<bool>()));
    let answer = answer.prop_map(|(tool_call_id, output, error, approved)| ToolAnswer {
        tool_call_id,
        output,
        reason: error.clone(),
        error,
        approved,
    });
    prop_oneof![
        (new_message(), any::<bool>()).prop_map(|(message, edit)| Input::Message { message, edit }),
        (0usize..9, new_message()).prop_map(|(position, message)| Input::At { position, message }),
        option::of(text()).prop_map(|after| Input::Again { after }),
        (option::of(text()), vec(answer, 0..3))
            .prop_map(|(message_id, results)| Input::Results { message_id, results }),
    ]
}

fn items() -> impl Strategy<Value = ItemsCommand> {
    let list = || vec(json(), 0..3);
    prop_oneof![
        list().prop_map(ItemsCommand::Append),
        Just(ItemsCommand::Pop),
        Just(ItemsCommand::Clear),
        list().prop_map(ItemsCommand::Replace),
        (list(), list()).prop_map(|(expected, replacement)| ItemsCommand::ReplaceSuffix {
            expected,
            replacement
        }),
        text().prop_map(ItemsCommand::Remove),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    let piece = prop_oneof![
        (0usize..3, object()).prop_map(|(part, fields)| Piece::Update { part, fields }),
        (0usize..3, text()).prop_map(|(part, text)| Piece::Delta { part, text }),
    ];
    let write = (text(), any::<u32>(), vec(piece, 0..3))
        .prop_map(|(turn_id, attempt, pieces)| Command::Write { turn_id, attempt, pieces });
    let start =
        (input(), options(), text(), any::<bool>()).prop_map(|(input, options, model, titled)| {
            Command::StartTurn(Box::new(NewTurn { input, options, model, titled }))
        });
    let end = turn().prop_map(|turn| Command::EndTurn {
        turn_id: turn.id,
        attempt: turn.attempt,
        ending: Box::new(Ending {
            state: turn.state,
            finish_reason: "stop".to_owned(),
            usage: turn.usage,
            error: turn.error,
            error_status: turn.error_status,
            resume: turn.resume,
        }),
    });
    prop_oneof![
        (changes(), option::of(text()))
            .prop_map(|(changes, project_id)| Command::Create { changes, project_id }),
        changes().prop_map(Command::Change),
        Just(Command::Delete),
        new_message().prop_map(Command::AddMessage),
        (text(), vec(part(), 0..3), option::of(any::<u32>())).prop_map(
            |(message_id, parts, if_version)| Command::ReplaceParts {
                message_id,
                parts,
                if_version
            }
        ),
        text().prop_map(|message_id| Command::DeleteMessage { message_id }),
        start,
        write,
        end,
        option::of(text()).prop_map(|turn_id| Command::StopTurn { turn_id }),
        (text(), any::<bool>(), option::of(text())).prop_map(|(approval_id, approved, reason)| {
            Command::Approve { approval_id, approved, reason }
        }),
        text().prop_map(|turn_id| Command::ExpireApprovals { turn_id }),
        items().prop_map(Command::ChangeItems),
        Just(Command::Reconcile),
    ]
}

fn query() -> impl Strategy<Value = Query> {
    let direction =
        prop_oneof![number().prop_map(Direction::Before), number().prop_map(Direction::After)];
    prop_oneof![
        Just(Query::Session),
        Just(Query::Count),
        text().prop_map(Query::Message),
        (direction, 0usize..9, any::<bool>()).prop_map(|(direction, limit, settled)| Query::Page {
            direction,
            limit,
            settled
        }),
        (text(), any::<bool>(), 0usize..9, any::<bool>())
            .prop_map(|(id, newer, limit, settled)| Query::PageFrom { id, newer, limit, settled }),
        text().prop_map(Query::Turn),
        command().prop_map(|command| {
            let key = IdempotencyKey::new("k").expect("a key");
            Query::Repeat(Idempotency::new(key, &command))
        }),
        number().prop_map(|after| Query::Events { after }),
        (text(), text(), 0usize..9).prop_map(|(until, draft, bytes)| Query::Transcript {
            until,
            draft,
            bytes
        }),
        (number(), number(), 0usize..9).prop_map(|(branch, after, limit)| Query::Branch {
            branch,
            after,
            limit
        }),
        Just(Query::Branches),
        (0usize..9).prop_map(|limit| Query::Items { limit }),
        text().prop_map(Query::Item),
        (option::of(text()), any::<bool>(), 0usize..9)
            .prop_map(|(after, newer, limit)| Query::ItemsFrom { after, newer, limit }),
        Just(Query::Wake),
    ]
}

fn head() -> impl Strategy<Value = Head> {
    (changes(), number(), option::of(turn()), object()).prop_map(
        |(changes, last_seq, active_turn, resume)| Head {
            last_seq,
            last_hash: [255; 16],
            title: changes.title.unwrap_or_default(),
            metadata: changes.metadata.unwrap_or_default(),
            settings: changes.settings.unwrap_or_default(),
            active_turn,
            resume,
            ..Head::default()
        },
    )
}

fn page() -> impl Strategy<Value = Page> {
    (vec(message(), 0..3), any::<bool>()).prop_map(|(messages, more)| Page { messages, more })
}

fn item() -> impl Strategy<Value = Item> {
    (number(), text(), json(), option::of(text()))
        .prop_map(|(sequence, id, body, message_id)| Item { sequence, id, body, message_id })
}

fn backlog() -> impl Strategy<Value = Backlog> {
    let event = (number(), any::<u8>(), text()).prop_map(|(seq, number, frame)| StoredEvent {
        seq,
        number,
        frame,
    });
    let reason = select(&[Reason::LogTrimmed, Reason::AheadOfLog]);
    let snapshot =
        (head(), page()).prop_map(|(head, page)| Snapshot { head: Box::new(head), page });
    let snapshot = option::of((reason, snapshot));
    // On the heap: a strategy as a value is as large as all that it is made of.
    let snapshot = snapshot.boxed();
    let made = (number(), number(), snapshot, vec(event, 0..3), any::<bool>());
    made.prop_map(|(epoch, last_seq, snapshot, events, more)| Backlog {
        epoch,
        last_seq,
        snapshot,
        events,
        more,
    })
}

fn answer() -> impl Strategy<Value = Answer> {
    let found = || option::of(message().prop_map(Box::new));
    prop_oneof![
        (text(), number(), any::<bool>(), any::<bool>()).prop_map(
            |(json, seq, created, replayed)| Answer::Message {
                json: json.into(),
                seq,
                created,
                replayed
            }
        ),
        (any::<u16>(), text(), number()).prop_map(|(status, json, seq)| Answer::Replayed {
            status,
            json: json.into(),
            seq
        }),
        (turn(), number(), found()).prop_map(|(turn, seq, message)| Answer::Answered {
            turn: Box::new(turn),
            seq,
            message
        }),
        (head(), any::<bool>())
            .prop_map(|(head, created)| Answer::Session { head: Box::new(head), created }),
        (turn(), number()).prop_map(|(turn, seq)| Answer::Turn { turn: Box::new(turn), seq }),
        (number(), vec(item(), 0..3), any::<bool>())
            .prop_map(|(count, items, more)| Answer::Items { count, items, more }),
        option::of(item()).prop_map(Answer::Popped),
        vec(message(), 0..3).prop_map(Answer::Transcript),
        page().prop_map(|page| Answer::Page(SharedPage::new(page))),
        message().prop_map(|message| Answer::Found(Box::new(message))),
        number().prop_map(Answer::Count),
        vec((number(), number(), number()), 0..3).prop_map(Answer::Branches),
        backlog().prop_map(|backlog| Answer::Subscribed(Box::new(backlog))),
        number().prop_map(|seq| Answer::Done { seq }),
    ]
}

fn rejection() -> impl Strategy<Value = Rejection> {
    let limits: Vec<Limit> = TABLE.iter().map(|(limit, ..)| *limit).collect();
    prop_oneof![
        Just(Rejection::SessionNotFound),
        Just(Rejection::Deleted),
        Just(Rejection::MessageNotFound),
        Just(Rejection::MessageExists),
        (any::<u32>(), any::<u32>())
            .prop_map(|(is, expected)| Rejection::VersionConflict { is, expected }),
        Just(Rejection::MessageNotEditable { status: Status::Streaming }),
        Just(Rejection::invalid("metadata", "must be an object")),
        (select(limits), 0usize..9, 0usize..9).prop_map(|(limit, is, max)| Rejection::Limit {
            limit,
            is,
            max
        }),
        Just(Rejection::TurnOver),
        Just(Rejection::TurnNotFound),
        Just(Rejection::TurnActive),
        Just(Rejection::NotContinuable),
        text().prop_map(|tool_call_id| Rejection::ToolWaits { tool_call_id }),
        Just(Rejection::ApprovalNotFound),
        Just(Rejection::SuffixMismatch),
        Just(Rejection::ItemNotFound),
    ]
}

fn error() -> impl Strategy<Value = Error> {
    let limits: Vec<Limit> = TABLE.iter().map(|(limit, ..)| *limit).collect();
    prop_oneof![
        8 => rejection().prop_map(|rejection| Error::Rejected(Arc::new(rejection))),
        1 => select(limits).prop_map(Error::Overloaded),
        1 => text().prop_map(|why| Error::Quarantined(why.into())),
        2 => select(vec![
            Error::KeyReused,
            Error::OutcomeUnknown,
            Error::DiskFull,
            Error::FileFull,
            Error::Reset,
            Error::ShuttingDown,
            Error::Starting,
        ]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn commands_survive(command in command(), key in option::of("[a-z]{1,9}")) {
        check(&command)?;
        let once = key.map(|key| Idempotency::new(IdempotencyKey::new(&key).expect("a key"), &command));
        check(&once)?;
    }

    #[test]
    fn queries_survive(query in query()) {
        check(&query)?;
        let bytes = serde_json::to_vec(&query).expect("it is plain JSON");
        prop_assert!(serde_json::from_slice::<Query>(&bytes).expect("the same") == query);
    }

    #[test]
    fn answers_survive(answer in answer()) {
        check(&answer)?;
    }

    #[test]
    fn refusals_survive(error in error()) {
        check(&error)?;
        let bytes = serde_json::to_vec(&error).expect("it is plain JSON");
        let again: Error = serde_json::from_slice(&bytes).expect("the same");
        prop_assert_eq!(again.to_string(), error.to_string());
        prop_assert_eq!(again.code(), error.code());
    }
}
