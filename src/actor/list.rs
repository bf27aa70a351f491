//! The list of sessions: what the catalogue says, put together with what only the journal knows so far.
//!
//! **Problem.** After a crash the journal may hold more of a session than its file, and so than the catalogue: it may
//! have been deleted, renamed, moved to the top. Waiting until all are up to date would let the list wait for sessions
//! that it does not show.
//!
//! **Answer.** The journal knows, of each session that its file may lag behind, the seq and the time of the last event.
//! So the places of those sessions in the list are known without looking at them, and only those that stand on the page
//! are asked. A row of the catalogue is right unless the journal has a later event than it.

use std::collections::HashMap;
use std::collections::HashSet;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use crate::actor::node::Node;
use crate::actor::node::Shared;
use crate::actor::shard::Sender;
use crate::base::Key;
use crate::base::ids::KeyHash;
use crate::base::json::Json;
use crate::base::metric;
use crate::domain::session::Rejection;
use crate::domain::session::Session;
use crate::domain::session::TurnOptions;
use crate::storage;
use crate::storage::catalogue::Card;
use crate::storage::catalogue::ListCursor;
use crate::storage::journal::Behind;
use crate::wire::envelope::Answer;
use crate::wire::envelope::Error;
use crate::wire::envelope::Query;
use crate::wire::envelope::Request;

/// Sessions that one request for the list asks at most; then the client must try again, and it has got further.
const ASKED_MAX: usize = 2_000;
/// How long a request waits for a catalogue that is made anew from the session files.
const COMPLETE_WAIT: Duration = Duration::from_secs(5);
/// Before every session.
const TOP: ListCursor = (i64::MAX, KeyHash([0; 16]));

/// What sessions that were asked said, and which need not be looked for where the journal says.
#[derive(Default)]
struct Asked {
    /// As they are.
    known: HashMap<KeyHash, (Session, i64)>,
    /// Those that were deleted.
    gone: HashSet<KeyHash>,
    /// Those that cannot be opened: what the catalogue says of them must do.
    closed: HashSet<KeyHash>,
}

impl Asked {
    fn count(&self) -> usize {
        self.known.len() + self.gone.len() + self.closed.len()
    }

    fn has(&self, hash: &KeyHash) -> bool {
        self.known.contains_key(hash) || self.gone.contains(hash) || self.closed.contains(hash)
    }
}

/// A line of the list.
enum Line {
    Is(Box<Session>),
    /// The session must be asked.
    Ask(Key),
}

type Lines = Vec<(Line, ListCursor)>;

impl Node {
    /// A page of a workspace's sessions, newest activity first, with everything that was acknowledged before. Sessions
    /// that the journal is ahead of are asked if they stand on the page, and no others.
    ///
    /// # Errors
    ///
    /// [`Error::Reset`] when the catalogue cannot be read; [`Error::Starting`] while it is made anew; what a session
    /// answers that could not be asked.
    pub async fn list(
        &self,
        workspace: String,
        behind: Option<ListCursor>,
        limit: usize,
    ) -> Result<Vec<(Session, ListCursor)>, Error> {
        let mut complete = self.complete.subscribe();
        let complete = tokio::time::timeout(COMPLETE_WAIT, complete.wait_for(|done| *done));
        if !matches!(complete.await, Ok(Ok(_))) {
            return Err(Error::Starting);
        }
        let workspace: Arc<str> = workspace.into();
        let behind = behind.unwrap_or(TOP);
        let mut asked = Asked::default();
        loop {
            join_all(self.shards.iter().map(Sender::note_all)).await;
            let (shared, workspace) = (Arc::clone(&self.shared), Arc::clone(&workspace));
            let merge = move || {
                shared.catalogue.flush()?;
                let lines = Merge::begin(&shared, &workspace, behind, limit, &asked).lines()?;
                Ok::<_, storage::Error>((lines, asked))
            };
            let lines;
            (lines, asked) = match tokio::task::spawn_blocking(merge).await {
                Ok(Ok(merged)) => merged,
                Ok(Err(error)) => {
                    tracing::error!(error = %error, "listing sessions");
                    return Err(Error::Reset);
                }
                Err(_) => return Err(Error::Reset),
            };
            let keys: Vec<Key> = lines.iter().filter_map(|(line, _)| line.asks()).collect();
            if keys.is_empty() {
                let is = |(line, place)| match line {
                    Line::Is(session) => Some((*session, place)),
                    Line::Ask(_) => None,
                };
                return Ok(lines.into_iter().filter_map(is).collect());
            }
            if asked.count() + keys.len() > ASKED_MAX {
                return Err(Error::Starting);
            }
            self.ask_all(keys, &mut asked).await?;
        }
    }

    async fn ask_all(&self, keys: Vec<Key>, asked: &mut Asked) -> Result<(), Error> {
        metric::counters().caught_up("list").inc_by(keys.len() as u64);
        let wakes = keys.iter().map(|key| self.ask(key, Request::Query(Query::Wake)));
        let answers = join_all(wakes).await;
        for (key, answer) in keys.iter().zip(answers) {
            match answer {
                Ok(Answer::Session { head, .. }) => {
                    let at_ms = head.updated_at_ms;
                    // As in a row of the catalogue.
                    let settings = TurnOptions::default();
                    let session = Session { settings, ..head.session(key.id()) };
                    asked.known.insert(key.hash(), (session, at_ms));
                }
                Err(Error::Rejected(why))
                    if matches!(*why, Rejection::Deleted | Rejection::SessionNotFound) =>
                {
                    asked.gone.insert(key.hash());
                }
                Err(Error::Quarantined(_)) => {
                    asked.closed.insert(key.hash());
                }
                Ok(_) => return Err(Error::Reset),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Line {
    fn asks(&self) -> Option<Key> {
        match self {
            Self::Is(_) => None,
            Self::Ask(key) => Some(key.clone()),
        }
    }
}

/// Puts three sources together, each in the order of the list: rows of the catalogue that are right, sessions that the
/// journal is ahead of, sessions that were asked.
struct Merge<'a> {
    shared: &'a Shared,
    workspace: &'a str,
    limit: usize,
    asked: &'a Asked,
    rows: VecDeque<Card>,
    /// Behind which row the next ones are; `None`: there are no more.
    rows_behind: Option<ListCursor>,
    ahead: VecDeque<Behind>,
    ahead_behind: Option<ListCursor>,
    known: VecDeque<(&'a Session, ListCursor)>,
}

fn order((at_ms, hash): ListCursor) -> (std::cmp::Reverse<i64>, KeyHash) {
    (std::cmp::Reverse(at_ms), hash)
}

impl<'a> Merge<'a> {
    fn begin(
        shared: &'a Shared,
        workspace: &'a str,
        behind: ListCursor,
        limit: usize,
        asked: &'a Asked,
    ) -> Self {
        let place =
            |(hash, (session, at_ms)): (&KeyHash, &'a (Session, i64))| (session, (*at_ms, *hash));
        let mut known: Vec<_> = asked.known.iter().map(place).collect();
        known.retain(|(_, place)| order(*place) > order(behind));
        known.sort_unstable_by_key(|(_, place)| order(*place));
        Self {
            shared,
            workspace,
            limit,
            asked,
            rows: VecDeque::new(),
            rows_behind: Some(behind),
            ahead: VecDeque::new(),
            ahead_behind: Some(behind),
            known: known.into(),
        }
    }

    fn lines(mut self) -> Result<Lines, storage::Error> {
        let mut lines = Lines::new();
        while lines.len() < self.limit {
            self.find_row()?;
            self.find_ahead()?;
            let row = self.rows.front().map(|card| (card.updated_at_ms, card.key.hash()));
            let ahead = self.ahead.front().map(|behind| (behind.at_ms, behind.key.hash()));
            let known = self.known.front().map(|(_, place)| *place);
            let Some(first) = [row, ahead, known].into_iter().flatten().min_by_key(|p| order(*p))
            else {
                break;
            };
            if row == Some(first) {
                lines.extend(
                    self.rows.pop_front().map(|card| (Line::Is(Box::new(session(&card))), first)),
                );
            } else if ahead == Some(first) {
                lines.extend(self.ahead.pop_front().map(|behind| (Line::Ask(behind.key), first)));
            } else if let Some((session, place)) = self.known.pop_front() {
                lines.push((Line::Is(Box::new(session.clone())), place));
            }
        }
        Ok(lines)
    }

    /// Goes on to the next row that the journal is not ahead of.
    fn find_row(&mut self) -> Result<(), storage::Error> {
        let ledger = self.shared.journal.ledger();
        loop {
            while let Some(card) = self.rows.front() {
                let hash = card.key.hash();
                let right = ledger.last_seq(hash).is_none_or(|seq| seq <= card.last_seq);
                let told = self.asked.known.contains_key(&hash) || self.asked.gone.contains(&hash);
                if !told && (right || self.asked.closed.contains(&hash)) {
                    return Ok(());
                }
                self.rows.pop_front();
            }
            let Some(behind) = self.rows_behind else { return Ok(()) };
            let cards = self.shared.catalogue.list(self.workspace, Some(behind), self.limit)?;
            self.rows_behind = cards
                .last()
                .filter(|_| cards.len() == self.limit)
                .map(|card| (card.updated_at_ms, card.key.hash()));
            self.rows = cards.into();
        }
    }

    /// Goes on to the next session whose row is not right.
    fn find_ahead(&mut self) -> Result<(), storage::Error> {
        loop {
            while let Some(behind) = self.ahead.front() {
                let hash = behind.key.hash();
                let known = self.shared.catalogue.last_seq(hash)?;
                if !self.asked.has(&hash) && known.is_none_or(|seq| seq < behind.last_seq) {
                    return Ok(());
                }
                self.ahead.pop_front();
            }
            let Some(after) = self.ahead_behind else { return Ok(()) };
            let ledger = self.shared.journal.ledger();
            let ahead = ledger.newest(self.workspace, after, self.limit);
            self.ahead_behind = ahead
                .last()
                .filter(|_| ahead.len() == self.limit)
                .map(|behind| (behind.at_ms, behind.key.hash()));
            self.ahead = ahead.into();
        }
    }
}

/// A session as clients see it, from what the catalogue knows.
fn session(card: &Card) -> Session {
    Session {
        id: card.key.id().to_owned(),
        title: card.title.clone(),
        project_id: card.project_id.clone(),
        metadata: Json::parse(&card.metadata).unwrap_or_default(),
        message_count: card.message_count,
        item_count: card.item_count,
        settings: TurnOptions::default(),
        last_seq: card.last_seq,
        active_turn: card.active_turn.clone(),
        created_at: card.created_at_ms.div_euclid(1_000),
        updated_at: card.updated_at_ms.div_euclid(1_000),
    }
}
