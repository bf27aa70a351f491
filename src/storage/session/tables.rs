//! The tables of a session, and how its events become their rows.

use rusqlite::Connection;
use rusqlite_migration::M;

use crate::base::Key;
use crate::base::json::Json;
use crate::domain::kind::LogHead;
use crate::domain::session::Draft;
use crate::domain::session::Event;
use crate::domain::session::Head;
use crate::domain::session::message_of;
use crate::storage::Error;
use crate::storage::catalogue::Card;
use crate::storage::file::Blank;
use crate::storage::file::Findings;
use crate::storage::file::Place;
use crate::storage::file::Settings;
use crate::storage::file::Table;
use crate::storage::file::Tables;
use crate::storage::file::table;
use crate::storage::session::Later;
use crate::storage::session::SessionFile;
use crate::storage::session::SessionTables;
use crate::storage::session::apply;
use crate::storage::session::check;
use crate::storage::session::compact;
use crate::storage::session::draft;
use crate::storage::session::message;
use crate::storage::session::read;
use crate::storage::session::turn;

const STEPS: &[M<'static>] = &[
    M::up(include_str!("../../../schema/session/0001_create_session.sql")),
    M::up(include_str!("../../../schema/session/0002_turns_branches_items.sql")),
    M::up(include_str!("../../../schema/session/0003_item_ids.sql")),
    M::up(include_str!("../../../schema/session/0004_row_sums.sql")),
    M::up(include_str!("../../../schema/session/0005_session_items_view.sql")),
    M::up(include_str!("../../../schema/session/0006_tables_at_first_use.sql")),
];

const TABLES: &[Table] = &[
    table!("meta"),
    table!("event"),
    table!("message"),
    table!("part": "message_seq", "position", "body", "sum"),
    table!("turn": "id", "seq", "state", "input_id", "message_id", "body", "sum"),
    table!("idempotency": "key", "request", "seq", "status", "response", "sum"),
    table!("timer": "id", "kind", "fire_at_ms", "attempt", "payload", "sum"),
    table!("item": "sequence", "id", "body", "message_id", "created_at_ms", "sum"),
];

static BLANK: Blank = Blank::new(STEPS, TABLES);

impl Tables for SessionTables {
    type Event = Event;
    type Later = Later;

    fn blank() -> &'static Blank {
        &BLANK
    }

    fn new(settings: &Settings) -> Self {
        let deltas_kept_ms = settings.deltas_kept_ms;
        Self { head: Head::default(), tail: None, draft: None, deltas_kept_ms }
    }

    fn meta(db: &Connection) -> Result<(Key, LogHead), Error> {
        read::meta(db).map(|(key, head)| (key, head.log()))
    }

    fn load(db: &Connection, log: LogHead, settings: &Settings) -> Result<Self, Error> {
        let (_, mut head) = read::meta(db)?;
        head.last_hash = log.last_hash;
        head.active_turn = turn::active(db)?;
        let draft = draft::load(db, head.active_turn.as_ref())?;
        Ok(Self { head, draft, ..Self::new(settings) })
    }

    fn log(&self) -> LogHead {
        self.head.log()
    }

    fn advance(&mut self, to: LogHead) {
        self.head.advance(to);
    }

    fn apply(&mut self, db: &Connection, place: Place, event: &Event) -> Result<(), Error> {
        apply::project(db, &mut self.head, place, event)?;
        if let Event::Turn(turn) = event {
            let active = self.head.active_turn.as_ref().filter(|turn| turn.state.is_active());
            let goes_on = |draft: &Draft| active.is_some_and(|t| t.message_id == draft.message_id);
            // What it holds is newer than its rows.
            if !self.draft.as_ref().is_some_and(goes_on) {
                self.draft = draft::load(db, active)?;
            }
            if turn.state.is_over() {
                let due_ms = place.at_ms.saturating_add(self.deltas_kept_ms);
                compact::schedule(db, turn, due_ms)?;
            }
        }
        Ok(())
    }

    fn put_off(&mut self, place: Place, event: &Event) -> Option<Later> {
        match event {
            Event::Message(message) if message.seq == place.seq => {
                let position = self.head.begin_message(place.at_ms);
                Some(Later::Message(message.clone(), position))
            }
            _ => draft::write(self.draft.as_mut(), event).then_some(Later::Nothing),
        }
    }

    fn is_plain(later: &Later) -> bool {
        match later {
            Later::Nothing => true,
            Later::Message(message, _) => message.parts.is_empty(),
        }
    }

    fn write<'a>(db: &Connection, later: impl Iterator<Item = &'a Later>) -> Result<(), Error> {
        let message = |later: &'a Later| match later {
            Later::Message(message, position) => Some((message, *position)),
            Later::Nothing => None,
        };
        message::insert_all(db, later.filter_map(message))
    }

    fn save(&mut self, db: &Connection, key: &Key) -> Result<(), Error> {
        if let Some(draft) = &mut self.draft {
            draft::save(db, draft)?;
        }
        apply::save_head(db, key, &self.head)
    }

    fn check(db: &Connection, findings: &mut Findings) -> Result<(), Error> {
        let (_, head) = match read::meta(db) {
            Ok(meta) => meta,
            Err(error) => return findings.note(Err(error)),
        };
        findings.note(check::history(db, &head))?;
        findings.note(check::items(db, &head))
    }

    fn card(&self, db: Option<&Connection>, key: &Key) -> Card {
        let head = &self.head;
        let summary = Json::of(&head.summary()).expect("texts and numbers");
        Card {
            key: key.clone(),
            summary: summary.as_str().to_owned(),
            last_seq: head.last_seq,
            created_at_ms: head.created_at_ms,
            updated_at_ms: head.updated_at_ms,
            next_timer_ms: None,
            unfinished: self.is_unfinished(db),
            ended: false,
        }
    }

    fn answer_of(frame: &str) -> &str {
        message_of(frame)
    }
}

impl SessionTables {
    /// Whether a turn runs or waits for its place; also when that cannot be told.
    fn is_unfinished(&self, db: Option<&Connection>) -> bool {
        let active = self.head.active_turn.as_ref();
        match active.map(|turn| turn.state.is_active()) {
            Some(true) => true,
            // What waits behind an approval goes on with it.
            Some(false) => false,
            None => db.is_some_and(|db| turn::any_queued(db).unwrap_or(true)),
        }
    }
}

impl SessionFile {
    /// What is known without looking at the messages.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.tables.head
    }

    /// Whether a turn runs or waits for its place; also when that cannot be told.
    #[must_use]
    pub fn is_unfinished(&self) -> bool {
        self.tables.is_unfinished(self.database.as_is())
    }
}
