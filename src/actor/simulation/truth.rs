//! What is durable of each actor, told from the records alone: what everything that is shown is compared with.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use bytestring::ByteString;

use crate::actor::counter::Counter;
use crate::actor::hosted::Hosted;
use crate::base::Key;
use crate::base::ids::ActorKind;
use crate::base::ids::KeyHash;
use crate::domain::counter;
use crate::domain::kind::Event as _;
use crate::domain::session;
use crate::domain::session::View as _;
use crate::domain::session::tests::Past;
use crate::storage::file::ActorFile;
use crate::storage::file::Settings;
use crate::storage::file::Tables;
use crate::storage::journal::Entry;
use crate::storage::journal::Record;
use crate::storage::journal::chain;
use crate::storage::session::SessionTables;

/// What is durable of one actor.
pub(super) struct Truth {
    pub key: Key,
    pub entries: Vec<Entry>,
    hash: [u8; 16],
    pub ended: bool,
    /// Of a session, what its events amount to.
    pub past: Past,
    /// Of a counter, its value after each event; and the timers that are set.
    pub values: Vec<u64>,
    pub timers: BTreeMap<String, i64>,
    /// Idempotency keys under which something happened.
    keys: BTreeSet<String>,
    /// What it told, by receiver: numbers and texts, those of a slot only once.
    pub told: BTreeMap<String, Vec<(u64, String)>>,
    /// What it heard, by sender.
    pub heard: BTreeMap<KeyHash, Vec<(u64, String)>>,
}

impl Truth {
    pub(super) fn new(key: Key) -> Self {
        Self {
            key,
            entries: Vec::new(),
            hash: [0; 16],
            ended: false,
            past: Past::default(),
            values: vec![0],
            timers: BTreeMap::new(),
            keys: BTreeSet::new(),
            told: BTreeMap::new(),
            heard: BTreeMap::new(),
        }
    }

    pub(super) fn last_seq(&self) -> u64 {
        self.entries.len() as u64
    }

    pub(super) fn value(&self) -> u64 {
        self.values.last().copied().unwrap_or(0)
    }

    /// The frame of event `seq`.
    pub(super) fn frame(&self, seq: u64) -> Option<&ByteString> {
        let at = usize::try_from(seq.checked_sub(1)?).ok()?;
        self.entries.get(at).map(|entry| &entry.frame)
    }

    /// Takes in a record that became durable: it must go on exactly where the last one ended.
    pub(super) fn take(&mut self, record: &Record) -> Result<(), String> {
        let next = self.last_seq() + 1;
        if record.first_seq != next || record.previous_hash != self.hash {
            let is = record.first_seq;
            return Err(format!("{:?}: a record begins at {is}, where {next} comes", self.key));
        }
        for entry in &record.entries {
            if self.ended {
                return Err(format!("{:?}: something happened after its end", self.key));
            }
            let (seq, at_ms) = (self.last_seq() + 1, entry.recorded_at_ms);
            self.hash = chain(&self.hash, seq, at_ms, entry.number, &entry.frame);
            if let Some(kept) = &entry.idempotent
                && !self.keys.insert(kept.key.clone())
            {
                return Err(format!("{:?}: key {} was carried out twice", self.key, kept.key));
            }
            match self.key.kind() {
                ActorKind::Session => {
                    let event = session::Event::decode(entry.number, &entry.frame);
                    self.past.apply(&event.map_err(|error| error.to_string())?, at_ms);
                    self.ended = self.past.head().deleted;
                }
                ActorKind::Counter => {
                    let event = counter::Event::decode(entry.number, &entry.frame);
                    let event = event.map_err(|error| error.to_string())?;
                    self.hear(entry, &event)?;
                    self.count(event)?;
                }
            }
            self.entries.push(entry.clone());
        }
        Ok(())
    }

    /// What it hears of one sender comes in order, and once.
    fn hear(&mut self, entry: &Entry, event: &counter::Event) -> Result<(), String> {
        let text = match event {
            counter::Event::Grew { by, from: Some(_), .. } => by.to_string(),
            counter::Event::Heard { value, .. } => format!("={value}"),
            _ => return Ok(()),
        };
        let (sender, number) = entry.heard.ok_or("it heard what nobody told it")?;
        let heard = self.heard.entry(sender).or_default();
        if heard.last().is_some_and(|(last, _)| *last >= number) {
            return Err(format!("{:?}: letter {number} was heard again, or too late", self.key));
        }
        heard.push((number, text));
        Ok(())
    }

    fn count(&mut self, event: counter::Event) -> Result<(), String> {
        let mut value = self.value();
        match event {
            counter::Event::Told { to, by } => {
                let number = (self.last_seq() + 1) * 256;
                self.told.entry(to).or_default().push((number, by.to_string()));
            }
            counter::Event::Reported { to } => {
                let number = (self.last_seq() + 1) * 256;
                self.told.entry(to).or_default().push((number, format!("={value}")));
            }
            counter::Event::Heard { .. } => {}
            counter::Event::Grew { by, timer, .. } => {
                value += by;
                if let Some(timer) = timer
                    && self.timers.remove(&timer).is_none()
                {
                    return Err(format!("{:?}: timer {timer} had its effect twice", self.key));
                }
            }
            counter::Event::Set { timer, at_ms, .. } => {
                self.timers.insert(timer, at_ms);
            }
            counter::Event::Ended => self.ended = true,
        }
        self.values.push(value);
        Ok(())
    }

    /// The rows of every table of `file` are those that a file has that was made from the records alone.
    pub(super) fn check_rows(
        &self,
        file: &mut dyn crate::storage::file::AnyFile,
    ) -> Result<(), String> {
        match self.key.kind() {
            ActorKind::Session => {
                let file = file.of_mut::<SessionTables>().ok_or("another kind of file")?;
                let mut anew = self.anew::<SessionTables>()?;
                for file in [&mut *file, &mut anew] {
                    // Whatever was compacted when: it follows from the log and the times in it.
                    while let Ok(due) = file.due_timers(i64::MAX)
                        && due.iter().any(|timer| timer.kind == "compact")
                    {
                        file.compact().map_err(|error| error.to_string())?;
                    }
                }
                self.compare(file, &mut anew)
            }
            ActorKind::Counter => {
                let mut anew = self.anew::<<Counter as Hosted>::Tables>()?;
                let file = file.of_mut::<<Counter as Hosted>::Tables>().ok_or("another kind")?;
                self.compare(file, &mut anew)
            }
        }
    }

    /// Everything that `sender` told was heard, each once and in order; of what only the latest matters, the latest.
    pub(super) fn check_letters(&self, sender: &Self) -> Result<(), String> {
        let empty = Vec::new();
        let told = sender.told.get(self.key.id()).unwrap_or(&empty);
        let heard = self.heard.get(&sender.key.hash()).unwrap_or(&empty);
        let is_report = |(_, text): &&(u64, String)| text.starts_with('=');
        let plain = |all: &[(u64, String)]| {
            all.iter().filter(|letter| !is_report(letter)).cloned().collect::<Vec<_>>()
        };
        let latest = |all: &[(u64, String)]| all.iter().rfind(is_report).cloned();
        match plain(told) == plain(heard) && latest(told) == latest(heard) {
            true => Ok(()),
            false => Err(format!(
                "{:?} told {:?} {told:?}, and it heard {heard:?}",
                sender.key, self.key
            )),
        }
    }

    fn anew<T: Tables>(&self) -> Result<ActorFile<T>, String> {
        let make = || {
            let mut file = ActorFile::<T>::create(&self.key, &Settings::default());
            for (seq, entry) in (1..).zip(&self.entries) {
                file.apply(&T::Event::decode(entry.number, &entry.frame)?, entry)?;
                file.once(seq, entry)?;
            }
            Ok::<_, crate::storage::Error>(file)
        };
        make().map_err(|error| error.to_string())
    }

    fn compare<T: Tables>(
        &self,
        file: &mut ActorFile<T>,
        anew: &mut ActorFile<T>,
    ) -> Result<(), String> {
        let (is, wanted) = (file.rows()?, anew.rows()?);
        match is.iter().zip(&wanted).find(|(is, wanted)| is != wanted) {
            None if is.len() == wanted.len() => Ok(()),
            found => {
                Err(format!("{:?}: its rows do not follow from its records: {found:?}", self.key))
            }
        }
    }
}
