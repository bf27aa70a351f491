//! Tables of given, when, then for the rules of a session: commands that were carried out, one more, and the events or the
//! refusal that it leads to.

mod approvals;
mod items;
mod messages;
mod past;
mod samples;
mod turns;

use std::cell::Cell;

use crate::base::Classify as _;
use crate::base::ids::Name;
use crate::base::json::Json;
use crate::base::json::Object;
use crate::base::limits::Limits;
use crate::domain::session::Busy;
use crate::domain::session::Command;
use crate::domain::session::Context;
use crate::domain::session::Ending;
use crate::domain::session::Event;
use crate::domain::session::Input;
use crate::domain::session::NewMessage;
use crate::domain::session::NewTurn;
use crate::domain::session::Piece;
use crate::domain::session::Role;
use crate::domain::session::Stop;
use crate::domain::session::TurnOptions;
use crate::domain::session::TurnState;
use crate::domain::session::View as _;
use crate::domain::session::decide;

pub(crate) use past::Past;

/// When everything happens.
const NOW_MS: i64 = 1_000_000;

/// A session in the middle of a test.
struct Session {
    past: Past,
    limits: Limits,
    begins_turns: bool,
    ids: Cell<u32>,
}

impl Session {
    /// After `commands`, all of which are accepted. What the server names is `n1`, `n2` and so on.
    #[track_caller]
    fn after(commands: &[Command]) -> Self {
        let mut session = Self {
            past: Past::default(),
            limits: Limits::default(),
            begins_turns: true,
            ids: Cell::new(0),
        };
        for command in commands {
            let told = session.carry_out(command.clone());
            assert!(told.is_ok(), "{command:?} is refused: {told:?}");
        }
        session
    }

    /// The events of `command` in short, or why it is refused.
    fn carry_out(&mut self, command: Command) -> Result<Vec<String>, String> {
        // The runtime names the turn that it speaks of; here it is always the one that runs.
        let active = self.past.head().active_turn.as_ref();
        let (turn_id, attempt) = active.map(|t| (t.id.clone(), t.attempt)).unwrap_or_default();
        let command = match command {
            Command::Write { turn_id: id, pieces, .. } if id.is_empty() => {
                Command::Write { turn_id, attempt, pieces }
            }
            Command::EndTurn { turn_id: id, ending, .. } if id.is_empty() => {
                Command::EndTurn { turn_id, attempt, ending }
            }
            other => other,
        };
        let new_id = || {
            self.ids.set(self.ids.get() + 1);
            format!("n{}", self.ids.get())
        };
        let (limits, begins_turns) = (&self.limits, self.begins_turns);
        let context = Context { now_ms: NOW_MS, new_id: &new_id, limits, begins_turns };
        match decide(&self.past, command, &context) {
            Ok(decision) => {
                for event in &decision.events {
                    self.past.apply(event, NOW_MS);
                }
                Ok(decision.events.iter().map(told).collect())
            }
            Err(Stop::Rejected(rejection)) => Err(format!("{}: {rejection}", rejection.code())),
            Err(Stop::View(never)) => match never {},
        }
    }
}

/// `when` leads to these events behind `given`, in the words of [`told`].
#[track_caller]
fn check(given: &[Command], when: Command, then: &[&str]) {
    let words = format!("{when:?}");
    assert_eq!(Session::after(given).carry_out(when).as_deref(), Ok(&owned(then)[..]), "{words}");
}

/// `when` is refused behind `given`, with this code, and changes nothing.
#[track_caller]
fn refuse(given: &[Command], when: Command, code: &str) {
    let mut session = Session::after(given);
    let (words, before) = (format!("{when:?}"), format!("{:?}", session.past));
    let told = session.carry_out(when);
    let right = told.as_ref().is_err_and(|told| told.starts_with(&format!("{code}: ")));
    assert!(right, "{words} should be `{code}`, but is {told:?}");
    assert_eq!(format!("{:?}", session.past), before, "{words}");
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// An event in short.
fn told(event: &Event) -> String {
    match event {
        Event::Message(message) => {
            let parts: Vec<&str> = message.parts.iter().map(|part| part.json().as_str()).collect();
            let (id, role, status) = (&message.id, message.role.as_str(), message.status.as_str());
            format!(
                "message {id} {role} {status} v{} `{}` {}",
                message.version,
                message.content,
                parts.join(" ")
            )
            .trim_end()
            .to_owned()
        }
        Event::MessageParts { message_id, version, parts, .. } => {
            format!("parts {message_id} v{version} {}", parts.len())
        }
        Event::PartDelta { message_id, part, offset, delta } => {
            format!("delta {message_id}.{part}+{offset} `{delta}`")
        }
        Event::MessageDeleted { message_id } => format!("deleted {message_id}"),
        Event::Session { title, deleted, metadata, .. } => {
            format!(
                "session `{title}` {}{}",
                metadata.as_str(),
                if *deleted { " deleted" } else { "" }
            )
        }
        Event::Turn(turn) => {
            let (state, error) = (turn.state.as_str(), turn.error.as_deref().unwrap_or_default());
            format!(
                "turn {} {state} {}->{} #{} {error}",
                turn.id, turn.input_id, turn.message_id, turn.attempt
            )
            .trim_end()
            .to_owned()
        }
        Event::PartUpdate { message_id, part, fields } => {
            format!("update {message_id}.{part} {}", fields.to_json().as_str())
        }
        Event::Branch { from } => format!("branch {from}"),
        Event::Items(change) => {
            let ids: Vec<&str> = change.items.iter().map(|item| item.id.as_str()).collect();
            let mut words = vec!["items".to_owned()];
            words.extend(change.cut_from.map(|from| format!("cut {from}")));
            words.extend(change.removed.map(|gone| format!("without {gone}")));
            words.extend((!ids.is_empty()).then(|| ids.join(",")));
            words.join(" ")
        }
    }
}

// Commands in short.

fn new_message(id: &str, content: &str) -> NewMessage {
    NewMessage {
        id: Name::new(id).ok(),
        role: Role::User,
        content: content.to_owned(),
        parts: Vec::new(),
        metadata: None,
    }
}

/// Adds a message.
fn say(id: &str, content: &str) -> Command {
    Command::AddMessage(new_message(id, content))
}

fn turn(input: Input, busy: Busy) -> Command {
    let options = TurnOptions { busy: Some(busy), ..TurnOptions::default() };
    let model = "echo".to_owned();
    Command::StartTurn(Box::new(NewTurn { input, options, model, titled: false }))
}

/// Asks the model.
fn ask(id: &str, content: &str, busy: Busy) -> Command {
    turn(Input::Message { message: new_message(id, content), edit: false }, busy)
}

/// The running turn writes.
fn write(pieces: Vec<Piece>) -> Command {
    Command::Write { turn_id: String::new(), attempt: 0, pieces }
}

/// The running turn begins a part.
fn open(part: usize, fields: &str) -> Command {
    let fields = Object::read(&Json::parse(fields).expect("JSON")).expect("an object");
    write(vec![Piece::Update { part, fields }])
}

fn grow(part: usize, text: &str) -> Command {
    write(vec![Piece::Delta { part, text: text.to_owned() }])
}

/// The running turn ends.
fn end(state: TurnState) -> Command {
    let ending = Ending { usage: None, ..Ending::sample(state) };
    Command::EndTurn { turn_id: String::new(), attempt: 0, ending: Box::new(ending) }
}
