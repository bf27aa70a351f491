//! The tables of the kind of actor of the tests: those that every file has.

use std::cell::Cell;
use std::convert::Infallible;

use rusqlite::Connection;
use rusqlite::ToSql;
use rusqlite_migration::M;

use crate::base::Key;
use crate::base::ids::ActorKind;
use crate::base::ids::Name;
use crate::domain::counter::Event;
use crate::domain::kind::LogHead;
use crate::storage::Error;
use crate::storage::While;
use crate::storage::catalogue::Card;
use crate::storage::file::Blank;
use crate::storage::file::Findings;
use crate::storage::file::Place;
use crate::storage::file::Settings;
use crate::storage::file::Table;
use crate::storage::file::Tables;
use crate::storage::file::Tell;
use crate::storage::file::Timer;
use crate::storage::file::table;
use crate::storage::file::timer;
use crate::storage::sql::name;
use crate::storage::sql::number;
use crate::storage::sql::sql_seq;
use crate::storage::sum;

#[derive(Clone, Debug, Default)]
pub(crate) struct CounterTables {
    log: LogHead,
    created_at_ms: i64,
    pub(crate) value: u64,
}

const STEPS: &[M<'static>] = &[M::up(include_str!("../../schema/file/0001_create_file.sql"))];

const TABLES: &[Table] = &[table!("meta"), table!("event"), table!("idempotency"), table!("timer")];

static BLANK: Blank = Blank::new(STEPS, TABLES);

thread_local! {
    /// A fault that tests plant: a timer that was carried out is not taken away.
    pub(crate) static TIMERS_STAY: Cell<bool> = const { Cell::new(false) };
}

fn meta(db: &Connection) -> Result<(Key, CounterTables), Error> {
    let row = |row: &rusqlite::Row<'_>| {
        let [_, _, workspace, id, last_seq, log_start, created, updated, state] =
            sum::verified("meta", row)?;
        let log = LogHead {
            last_seq: number(last_seq)?,
            last_hash: [0; 16],
            log_start: number(log_start)?,
            updated_at_ms: updated.as_i64()?,
        };
        let key = Key::new(ActorKind::Counter, name(2, workspace)?, name(3, id)?);
        let (created_at_ms, value) = (created.as_i64()?, state.as_str()?.parse().unwrap_or(0));
        Ok((key, CounterTables { log, created_at_ms, value }))
    };
    let found = db.query_row("SELECT * FROM meta", [], row);
    found.while_("reading the head of a counter")
}

impl Tables for CounterTables {
    type Event = Event;
    type Later = Infallible;

    fn blank() -> &'static Blank {
        &BLANK
    }

    fn new(_: &Settings) -> Self {
        Self::default()
    }

    fn meta(db: &Connection) -> Result<(Key, LogHead), Error> {
        meta(db).map(|(key, tables)| (key, tables.log))
    }

    fn load(db: &Connection, log: LogHead, _: &Settings) -> Result<Self, Error> {
        Ok(Self { log, ..meta(db)?.1 })
    }

    fn log(&self) -> LogHead {
        self.log
    }

    fn advance(&mut self, to: LogHead) {
        self.log = to;
    }

    fn apply(&mut self, db: &Connection, place: Place, event: &Event) -> Result<(), Error> {
        if place.seq == 1 {
            self.created_at_ms = place.at_ms;
        }
        match event {
            Event::Grew { by, timer: due, .. } => {
                self.value += by;
                let due = due.as_ref().filter(|_| !TIMERS_STAY.get());
                due.map_or(Ok(()), |id| timer::remove(db, id))
            }
            Event::Set { timer: id, by, at_ms } => {
                let (id, kind) = (id.clone(), "grow".to_owned());
                timer::put(db, &Timer { id, kind, attempt: 0, payload: by.to_string() }, *at_ms)
            }
            Event::Ended | Event::Told { .. } | Event::Reported { .. } | Event::Heard { .. } => {
                Ok(())
            }
        }
    }

    fn write<'a>(
        _: &Connection,
        mut later: impl Iterator<Item = &'a Infallible>,
    ) -> Result<(), Error> {
        later.next().map_or(Ok(()), |never| match *never {})
    }

    fn tells(&self, event: &Event) -> Vec<Tell> {
        let to = |name: &str| {
            let named = |text: &str| Name::new(text).expect("a name");
            Key::new(ActorKind::Counter, named("default"), named(name))
        };
        match event {
            Event::Told { to: name, by } => {
                vec![Tell { to: to(name), slot: None, body: by.to_string() }]
            }
            Event::Reported { to: name } => {
                let body = format!("={}", self.value);
                vec![Tell { to: to(name), slot: Some("value"), body }]
            }
            _ => Vec::new(),
        }
    }

    fn save(&mut self, db: &Connection, key: &Key) -> Result<(), Error> {
        let sql = "INSERT OR REPLACE INTO meta (id, kind, workspace, name, last_seq, log_start, created_at_ms,
                                                updated_at_ms, state, sum)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
        let LogHead { last_seq, log_start, updated_at_ms, .. } = self.log;
        let (kind, state) = (key.kind().as_str(), self.value.to_string());
        let values: &[&dyn ToSql] = &[
            &1,
            &kind,
            &key.workspace(),
            &key.id(),
            &sql_seq(last_seq),
            &sql_seq(log_start),
            &self.created_at_ms,
            &updated_at_ms,
            &state,
        ];
        sum::write(db, "meta", sql, values).while_("writing what is known of a counter")
    }

    fn check(_: &Connection, _: &mut Findings) -> Result<(), Error> {
        Ok(())
    }

    fn card(&self, _: Option<&Connection>, key: &Key) -> Card {
        let (last_seq, updated_at_ms) = (self.log.last_seq, self.log.updated_at_ms);
        let (created_at_ms, ended) = (self.created_at_ms, false);
        Card { last_seq, updated_at_ms, created_at_ms, ended, ..Card::gone(key.clone()) }
    }

    fn answer_of(frame: &str) -> &str {
        frame
    }
}
