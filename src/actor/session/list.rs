//! The list of sessions: what the catalogue says, put together with what only the journal knows so far.
//!
//! **Problem.** After a crash the journal may hold more of a session than its file, and so than the catalogue: it may
//! have been deleted, renamed, moved to the top. Waiting until all are up to date would let the list wait for sessions
//! that it does not show.
//!
//! **Answer.** The journal knows, of each session that its file may lag behind, the seq and the time of the last event.
//! So the places of those sessions in the list are known without looking at them, and only those that stand on the page
//! are asked. A row of the catalogue is right unless the journal has a later event than it.
//!
//! Sessions are brought up to date meanwhile, so the order of reading matters: first the books of the journal, then the
//! catalogue, flushed and as of one moment. What is not in the books any more was noted before it left them.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::collections::HashSet;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use crate::actor::input::Input;
use crate::actor::node::Node;
use crate::base::Key;
use crate::base::ids::ActorKind;
use crate::base::ids::KeyHash;
use crate::base::metric;
use crate::domain::session::Rejection;
use crate::domain::session::Session;
use crate::domain::session::Summary;
use crate::domain::session::TurnOptions;
use crate::storage;
use crate::storage::catalogue::Card;
use crate::storage::catalogue::ListCursor;
use crate::storage::catalogue::Moment;
use crate::storage::describe;
use crate::storage::journal::Behind;
use crate::wire::envelope::Answer;
use crate::wire::envelope::Error;
use crate::wire::envelope::Query;
use crate::wire::envelope::Request;
use crate::wire::envelope::SessionKind;

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
    /// Asks the session `key`.
    ///
    /// # Errors
    ///
    /// [`Error`]: what the session answers, or that it could not be reached.
    pub async fn ask(&self, key: &Key, request: Request) -> Result<Answer, Error> {
        self.ask_of::<SessionKind>(key, request).await
    }

    /// A page of a workspace's sessions, newest activity first, with everything that was acknowledged before. Sessions
    /// that the journal is ahead of are asked if they stand on the page, and no others.
    ///
    /// # Errors
    ///
    /// [`Error::Reset`] when the catalogue cannot be read; [`Error::Starting`] while it is made anew, as when a row of it
    /// turns out to be damaged; what a session
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
            self.step_all(|| Input::NoteAll).await;
            let (shared, workspace) = (Arc::clone(&self.shared), Arc::clone(&workspace));
            let merge = move || {
                let books = shared.journal.ledger().newest(ActorKind::Session, &workspace);
                shared.catalogue.flush()?;
                let lines = shared.catalogue.at_once(|rows| {
                    let page = Page { workspace: &workspace, behind, limit };
                    Merge::begin(rows, books, page, &asked).lines()
                })?;
                Ok::<_, storage::Error>((lines, asked))
            };
            let lines;
            (lines, asked) = match tokio::task::spawn_blocking(merge).await {
                Ok(Ok(merged)) => merged,
                Ok(Err(error)) if error.is_damage() => {
                    // Without the damaged row it would lack a session.
                    tracing::error!(
                        "the list of sessions is damaged and made anew: {}",
                        describe(&error)
                    );
                    self.complete.send_replace(false);
                    return Err(Error::Starting);
                }
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

/// What is asked for.
struct Page<'a> {
    workspace: &'a str,
    behind: ListCursor,
    limit: usize,
}

/// Puts three sources together, each in the order of the list: rows of the catalogue that are right, sessions that the
/// journal is ahead of, sessions that were asked.
struct Merge<'a> {
    rows: &'a Moment<'a>,
    page: Page<'a>,
    asked: &'a Asked,
    /// How far each session is that is in the books of the journal.
    books: HashMap<KeyHash, u64>,
    cards: VecDeque<Card>,
    /// Behind which row the next ones are; `None`: there are no more.
    cards_behind: Option<ListCursor>,
    ahead: VecDeque<Behind>,
    known: VecDeque<(&'a Session, ListCursor)>,
}

fn order((at_ms, hash): ListCursor) -> (Reverse<i64>, KeyHash) {
    (Reverse(at_ms), hash)
}

impl<'a> Merge<'a> {
    fn begin(rows: &'a Moment<'a>, books: Vec<Behind>, page: Page<'a>, asked: &'a Asked) -> Self {
        let is_on = |place: ListCursor| order(place) > order(page.behind);
        let known = asked.known.iter().map(|(hash, (session, at_ms))| (session, (*at_ms, *hash)));
        let mut known: Vec<_> = known.filter(|(_, place)| is_on(*place)).collect();
        known.sort_unstable_by_key(|(_, place)| order(*place));
        let seqs = books.iter().map(|behind| (behind.key.hash(), behind.last_seq)).collect();
        let ahead = books.into_iter().filter(|behind| is_on((behind.at_ms, behind.key.hash())));
        Self {
            rows,
            asked,
            books: seqs,
            cards: VecDeque::new(),
            cards_behind: Some(page.behind),
            ahead: ahead.collect(),
            known: known.into(),
            page,
        }
    }

    fn lines(mut self) -> Result<Lines, storage::Error> {
        let mut lines = Lines::new();
        while lines.len() < self.page.limit {
            self.find_card()?;
            self.find_ahead()?;
            let card = self.cards.front().map(|card| (card.updated_at_ms, card.key.hash()));
            let ahead = self.ahead.front().map(|behind| (behind.at_ms, behind.key.hash()));
            let known = self.known.front().map(|(_, place)| *place);
            let Some(first) = [card, ahead, known].into_iter().flatten().min_by_key(|p| order(*p))
            else {
                break;
            };
            let line = if card == Some(first) {
                match self.cards.pop_front() {
                    Some(card) => Some(Line::Is(Box::new(session(&card)?))),
                    None => None,
                }
            } else if ahead == Some(first) {
                self.ahead.pop_front().map(|behind| Line::Ask(behind.key))
            } else {
                self.known.pop_front().map(|(session, _)| Line::Is(Box::new(session.clone())))
            };
            lines.extend(line.map(|line| (line, first)));
        }
        Ok(lines)
    }

    /// Goes on to the next row that the journal is not ahead of.
    fn find_card(&mut self) -> Result<(), storage::Error> {
        loop {
            while let Some(card) = self.cards.front() {
                let hash = card.key.hash();
                let right = self.books.get(&hash).is_none_or(|seq| *seq <= card.last_seq);
                let told = self.asked.known.contains_key(&hash) || self.asked.gone.contains(&hash);
                if !told && (right || self.asked.closed.contains(&hash)) {
                    return Ok(());
                }
                self.cards.pop_front();
            }
            let Some(behind) = self.cards_behind else { return Ok(()) };
            let cards = self.rows.list(
                ActorKind::Session,
                self.page.workspace,
                Some(behind),
                self.page.limit,
            )?;
            self.cards_behind = cards
                .last()
                .filter(|_| cards.len() == self.page.limit)
                .map(|card| (card.updated_at_ms, card.key.hash()));
            self.cards = cards.into();
        }
    }

    /// Goes on to the next session whose row is not right.
    fn find_ahead(&mut self) -> Result<(), storage::Error> {
        while let Some(behind) = self.ahead.front() {
            let hash = behind.key.hash();
            let known = self.rows.last_seq(hash)?;
            if !self.asked.has(&hash) && known.is_none_or(|seq| seq < behind.last_seq) {
                return Ok(());
            }
            self.ahead.pop_front();
        }
        Ok(())
    }
}

/// A session as clients see it, from what the catalogue knows.
fn session(card: &Card) -> Result<Session, storage::Error> {
    let unreadable = |_| {
        let row = card.key.hash().to_string();
        storage::Error::RowCorrupt { table: "actor", row }
    };
    let summary: Summary = serde_json::from_str(&card.summary).map_err(unreadable)?;
    Ok(Session {
        id: card.key.id().to_owned(),
        title: summary.title,
        project_id: summary.project_id,
        metadata: summary.metadata,
        message_count: summary.message_count,
        item_count: summary.item_count,
        settings: TurnOptions::default(),
        last_seq: card.last_seq,
        active_turn: summary.active_turn,
        created_at: card.created_at_ms.div_euclid(1_000),
        updated_at: card.updated_at_ms.div_euclid(1_000),
    })
}
