//! What a start has to do beside the traffic: fill a new catalogue, see to turns that were cut off, bring the files up to
//! date that the journal is ahead of.
//!
//! None of it is waited for: a session that is asked for meanwhile is brought up to date by that (`wake.rs`), and the
//! list asks those that it shows (`list.rs`). One thread with a low priority looks at one file after the other, in the
//! order of the oldest records, so that segments go one by one and a second crash finds less. Most files hold everything
//! already and are only looked at; the others wake, some at a time, and sleep again at once.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use tokio::sync::mpsc;
use tokio::sync::oneshot;

use crate::actor::node::Node;
use crate::actor::shared::Shared;
use crate::actor::wake;
use crate::base::Key;
use crate::base::clock;
use crate::base::ids::ActorKind;
use crate::base::ids::KeyHash;
use crate::base::metric;
use crate::storage;
use crate::storage::catalogue::Card;
use crate::storage::describe;
use crate::storage::file;
use crate::storage::kinds;
use crate::wire::ask::Error;
use crate::wire::ask::Refusal;

/// Sessions that wake at once because of a start.
const WAKES_AT_ONCE: usize = 8;
/// Before a session is tried again that could not wake.
const PAUSE: Duration = Duration::from_secs(1);
/// How much the thread that looks at files lets others go first: 0 not at all, 19 always.
const NICE: i32 = 10;

impl Node {
    /// Does what this start has to do; part of every start, beside the traffic.
    pub async fn recover(&self) {
        self.fill_catalogue().await;
        let shared = Arc::clone(&self.shared);
        let unfinished = on_a_thread("unfinished", move || shared.catalogue.unfinished()).await;
        let keys = unfinished.transpose().unwrap_or_else(|error| {
            tracing::warn!(error = %error, "looking for turns that were cut off");
            None
        });
        let keys = stream::iter(keys.unwrap_or_default());
        // Beside each other: a turn may have to wait for room in the journal, which catching up makes.
        tokio::join!(self.wake_all(keys), self.catch_up());
    }

    /// Brings every session up to date that the journal is ahead of since before this start.
    async fn catch_up(&self) {
        let keys = self.shared.journal.ledger().oldest();
        let (count, started) = (keys.len(), clock::instant());
        if count > 0 {
            tracing::info!("bringing {count} sessions up to date from the journal");
            let (lacking, found) = mpsc::channel(WAKES_AT_ONCE);
            let shared = Arc::clone(&self.shared);
            let settling = on_a_thread("catch-up", move || settle_all(&shared, keys, &lacking));
            let found = stream::unfold(found, |mut found| async move {
                found.recv().await.map(|key| (key, found))
            });
            tokio::join!(settling, self.wake_all(found));
            metric::counters().catch_up.set(0);
            if self.shared.stopping.load(Ordering::Acquire) {
                return;
            }
            let took = started.elapsed().as_secs_f64();
            tracing::info!("{count} sessions are up to date after {took:.1} s");
            // So that the segments that held them go, and the next start has nothing to do.
            self.shared.journal.seal();
        }
        self.shared.caught_up.store(true, Ordering::Release);
    }

    async fn wake_all(&self, keys: impl stream::Stream<Item = Key>) {
        keys.for_each_concurrent(WAKES_AT_ONCE, |key| async move {
            metric::counters().caught_up("wake").inc();
            loop {
                match self.wake(&key).await {
                    // Nobody waits for it, so it waits for the others.
                    Err(Refusal::Failed(Error::Overloaded(_) | Error::Reset)) => {
                        tokio::time::sleep(PAUSE).await
                    }
                    // What is wrong with it was logged where it was found.
                    _ => return,
                }
            }
        })
        .await;
    }

    /// Makes the list anew whenever it turns out to be damaged; runs as long as the process.
    pub async fn keep_list(&self) {
        let mut complete = self.complete.subscribe();
        while complete.wait_for(|complete| *complete).await.is_ok()
            && complete.wait_for(|complete| !*complete).await.is_ok()
        {
            let shared = Arc::clone(&self.shared);
            match on_a_thread("mend-catalogue", move || shared.catalogue.mend()).await {
                Some(Err(error)) => tracing::error!(
                    "the list of sessions is damaged as a whole: restart the server, which makes it anew: {}",
                    describe(&error)
                ),
                _ => self.fill_catalogue().await,
            }
        }
    }

    /// Fills a catalogue that was made anew from the session files.
    async fn fill_catalogue(&self) {
        if *self.complete.borrow() {
            return;
        }
        let (unreadable, found) = mpsc::channel(WAKES_AT_ONCE);
        let shared = Arc::clone(&self.shared);
        let filling = on_a_thread("fill-catalogue", move || fill(&shared, &unreadable));
        let found =
            stream::unfold(
                found,
                |mut found| async move { found.recv().await.map(|key| (key, found)) },
            );
        let (filled, ()) = tokio::join!(filling, self.wake_all(found));
        match filled {
            Some(Err(error)) => tracing::error!(
                "the list of sessions may lack some: {}; the next start tries again",
                describe(&error)
            ),
            Some(Ok(false)) | None => return,
            Some(Ok(true)) => {}
        }
        self.complete.send_replace(true);
    }
}

/// Looks at the files of `keys`, one after the other; those that lack something are sent.
fn settle_all(shared: &Shared, keys: Vec<Key>, lacking: &mpsc::Sender<Key>) {
    if let Err(error) = rustix::process::nice(NICE) {
        tracing::debug!(error = %error, "the priority of a thread could not be lowered");
    }
    let mut left = keys.len();
    for key in keys {
        metric::counters().catch_up.set(i64::try_from(left).unwrap_or(i64::MAX));
        left -= 1;
        if shared.stopping.load(Ordering::Acquire) {
            return;
        }
        match wake::settle(shared, &key) {
            Ok(true) => {
                metric::counters().caught_up("file").inc();
            }
            // If something is wrong with it, waking it says what.
            Ok(false) | Err(_) => {
                if lacking.blocking_send(key).is_err() {
                    return;
                }
            }
        }
    }
}

/// Notes every session file in the catalogue; those that only their actors can read are sent. False if the process stops.
fn fill(shared: &Shared, unreadable: &mpsc::Sender<Key>) -> Result<bool, storage::Error> {
    tracing::info!("making the list of sessions anew from the session files");
    let (started, mut count) = (clock::instant(), 0);
    for kind in ActorKind::ALL.iter().copied() {
        for folder in shared.folder.folders_of(kind)? {
            if shared.stopping.load(Ordering::Acquire) {
                return Ok(false);
            }
            count += fill_from(shared, kind, &folder, unreadable)?;
        }
    }
    shared.catalogue.complete()?;
    tracing::info!("the list has {count} sessions after {:.1} s", started.elapsed().as_secs_f64());
    Ok(true)
}

/// Notes the files in `folder`, which are of actors of `kind`; how many there are.
fn fill_from(
    shared: &Shared,
    kind: ActorKind,
    folder: &Path,
    unreadable: &mpsc::Sender<Key>,
) -> Result<usize, storage::Error> {
    let mut keys = Vec::new();
    for path in shared.folder.files_in(folder)? {
        let hash = path.file_stem().and_then(|stem| KeyHash::parse(stem.to_str()?));
        let claim = hash.and_then(|hash| shared.folder.try_claim(hash));
        match (kinds::files(kind).card)(&path, claim.as_ref()) {
            // Its actor is opening it, and notes it.
            Ok(None) => {}
            Ok(Some(card)) => {
                keys.push(card.key.clone());
                shared.catalogue.note_found(card);
            }
            Err(error) => {
                // Its actor needs the file.
                drop(claim);
                unread(&path, hash, &error, unreadable);
            }
        }
    }
    shared.catalogue.flush()?;
    for key in &keys {
        // It was deleted meanwhile.
        if shared.folder.has(&shared.folder.tombstone(key))? {
            shared.catalogue.note(Card::gone(key.clone()));
        }
    }
    metric::counters().caught_up("rebuild").inc_by(keys.len() as u64);
    Ok(keys.len())
}

fn unread(
    path: &Path,
    hash: Option<KeyHash>,
    error: &storage::Error,
    unreadable: &mpsc::Sender<Key>,
) {
    match hash.and_then(|hash| file::owner(path, hash).ok()) {
        // Its actor says what is wrong with it.
        Some(key) => drop(unreadable.blocking_send(key)),
        None => tracing::error!(
            "{} cannot be read and its session is not in the list: {}",
            path.display(),
            describe(error)
        ),
    }
}

/// Runs `work` on a thread of its own; `None` if that panics or there is no thread.
async fn on_a_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (done, result) = oneshot::channel();
    let run = move || {
        // Who waits may be gone.
        let _gone = done.send(work());
    };
    thread::Builder::new().name(name.to_owned()).spawn(run).ok()?;
    result.await.ok()
}
