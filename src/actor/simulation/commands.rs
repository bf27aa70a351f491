//! What clients and tasks of turns want, chosen by chance.

use crate::actor::counter;
use crate::actor::simulation::chance::Chance;
use crate::actor::simulation::world::World;
use crate::base::Key;
use crate::base::ids::Name;
use crate::base::json::Json;
use crate::base::json::Object;
use crate::domain::session::Busy;
use crate::domain::session::Command;
use crate::domain::session::Direction;
use crate::domain::session::Ending;
use crate::domain::session::Input;
use crate::domain::session::ItemsCommand;
use crate::domain::session::NewMessage;
use crate::domain::session::NewTurn;
use crate::domain::session::Part;
use crate::domain::session::Piece;
use crate::domain::session::Role;
use crate::domain::session::SessionChanges;
use crate::domain::session::TurnOptions;
use crate::domain::session::TurnState;
use crate::wire::envelope::Query;

fn text(chance: &mut Chance) -> String {
    let words = ["a", "few", "words", "\u{e9}", "and", "\u{1f642}", "some", "more"];
    (0..=chance.below(4)).map(|_| words[chance.index(words.len())]).collect::<Vec<_>>().join(" ")
}

fn message(chance: &mut Chance) -> NewMessage {
    let id = (!chance.once_in(4)).then(|| format!("m{}", chance.below(10)));
    let part = Part::of(&Object::default().with("type", &"text").with("content", &text(chance)));
    NewMessage {
        id: id.and_then(|id| Name::new(id).ok()),
        role: [Role::User, Role::Assistant][chance.index(2)],
        content: text(chance),
        parts: vec![part; chance.index(3)],
        metadata: None,
    }
}

fn turn(chance: &mut Chance, input: Input) -> Command {
    let busy = [Busy::Reject, Busy::Queue, Busy::Interrupt, Busy::Latest][chance.index(4)];
    let options = TurnOptions { busy: Some(busy), ..TurnOptions::default() };
    Command::StartTurn(Box::new(NewTurn { input, options, model: "echo".to_owned(), titled: true }))
}

fn item(chance: &mut Chance) -> Json {
    let items = [
        r#"{"role":"user","content":"q"}"#,
        r#"{"type":"function_call","call_id":"c","name":"add","arguments":"{}"}"#,
        r#"{"type":"message","role":"assistant","content":[{"type":"output_text","text":"a"}]}"#,
    ];
    Json::parse(items[chance.index(items.len())]).expect("JSON")
}

/// What somebody may want of the session `key`.
pub(super) fn of_session(world: &mut World, key: &Key) -> Command {
    let known = world.truth(key).past.history().pop().map(|message| message.id);
    let chance = &mut world.chance;
    let message_id = known.filter(|_| chance.once_in(2)).unwrap_or_else(|| "m1".to_owned());
    match chance.below(24) {
        0..7 => Command::AddMessage(message(chance)),
        7..11 => {
            let (message, edit) = (message(chance), chance.once_in(3));
            turn(chance, Input::Message { message, edit })
        }
        11 => turn(chance, Input::Again { after: None }),
        12 => Command::StopTurn { turn_id: None },
        13 | 14 => Command::Approve {
            approval_id: format!("a{}", chance.below(3)),
            approved: chance.once_in(2),
            reason: None,
        },
        15 => Command::ReplaceParts {
            message_id,
            parts: message(chance).parts,
            if_version: chance.once_in(3).then_some(1),
        },
        16 => Command::DeleteMessage { message_id },
        17 | 18 => Command::ChangeItems(ItemsCommand::Append(vec![item(chance); chance.index(3)])),
        19 => Command::ChangeItems(ItemsCommand::Pop),
        20 => Command::Create { changes: SessionChanges::default(), project_id: None },
        21 if chance.once_in(8) => Command::Delete,
        _ => Command::Change(SessionChanges {
            title: Some(text(chance)),
            ..SessionChanges::default()
        }),
    }
}

pub(super) fn query(chance: &mut Chance) -> Query {
    match chance.below(5) {
        0 | 1 => Query::Session,
        2 => Query::Wake,
        3 => Query::Message(format!("m{}", chance.below(10))),
        _ => {
            let (direction, limit) = (Direction::Before(u64::MAX), 1 + chance.index(20));
            Query::Page { direction, limit, settled: chance.once_in(3) }
        }
    }
}

/// What the task of attempt `attempt` of turn `turn_id` writes next; whether it ends with that.
pub(super) fn of_task(
    chance: &mut Chance,
    (turn_id, attempt): (&str, u32),
    stopped: bool,
) -> (Command, bool) {
    let turn_id = turn_id.to_owned();
    if stopped || chance.once_in(4) {
        let states = [TurnState::Completed, TurnState::Failed, TurnState::WaitingApproval];
        let state = if stopped { TurnState::Stopped } else { states[chance.index(states.len())] };
        let ending = Ending::sample(state);
        return (Command::EndTurn { turn_id, attempt, ending: Box::new(ending) }, true);
    }
    let part = chance.index(3);
    let fields = Object::default();
    let piece = match chance.below(4) {
        0 => {
            let fields = fields.with("type", &"text").with("content", &"");
            Piece::Update { part, fields: fields.with("state", &"running") }
        }
        1 => {
            let approval = Object::default().with("id", &format!("a{part}"));
            let fields = fields.with("type", &"tool-call").with("toolCallId", &format!("c{part}"));
            let fields = fields.with("toolName", &"rm").with("toolInput", &part);
            Piece::Update {
                part,
                fields: fields.with("approval", &approval).with("state", &"pending"),
            }
        }
        _ => Piece::Delta { part, text: text(chance) },
    };
    (Command::Write { turn_id, attempt, pieces: vec![piece; 1 + chance.index(2)] }, false)
}

/// What somebody may want of a counter.
pub(super) fn of_counter(world: &mut World) -> counter::Command {
    let now_ms = world.now().unix_ms;
    let chance = &mut world.chance;
    match chance.below(13) {
        0..7 => counter::Command::Grow(chance.below(5)),
        7 if chance.once_in(6) => counter::Command::End,
        8 | 9 => {
            let (to, by) = (format!("n{}", chance.below(3)), 1 + chance.below(9));
            counter::Command::Tell { to, by }
        }
        10 => counter::Command::Report { to: format!("n{}", chance.below(3)) },
        _ => counter::Command::Later {
            timer: format!("t{}", chance.below(4)),
            by: 1 + chance.below(5),
            at_ms: now_ms + i64::try_from(chance.below(100_000)).unwrap_or(0),
        },
    }
}
