//! What holds for all that is stored: whatever a route takes as a name is there after a restart, under that name.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::base::Key;
use crate::base::ids;
use crate::base::ids::ActorKind;
use crate::base::ids::Name;
use crate::base::ids::tests::name;
use crate::base::limits::Limits;
use crate::domain::session::Command;
use crate::domain::session::Context;
use crate::domain::session::Direction;
use crate::domain::session::NewMessage;
use crate::domain::session::Role;
use crate::domain::session::decide;
use crate::storage::Folder;
use crate::storage::catalogue::Catalogue;
use crate::storage::file::Settings;
use crate::storage::file::card;
use crate::storage::journal::DamagePolicy;
use crate::storage::journal::Entry;
use crate::storage::journal::Journal;
use crate::storage::journal::Options;
use crate::storage::journal::Record;
use crate::storage::session::SessionFile;
use crate::storage::session::SessionTables;

/// A message called `id` in `file`; how the journal holds it.
fn say(file: &mut SessionFile, id: &Name) -> Entry {
    let message = NewMessage {
        id: Some(id.clone()),
        role: Role::User,
        content: id.to_string(),
        parts: Vec::new(),
        metadata: None,
    };
    let limits = Limits::default();
    let context = Context { now_ms: 5, new_id: &ids::fresh, limits: &limits, begins_turns: true };
    let decision = decide(file, Command::AddMessage(message), &context).expect("it is new");
    let event = &decision.events[0];
    let frame = event.encode(file.head().last_seq + 1).into();
    let entry = Entry {
        number: event.kind() as u8,
        recorded_at_ms: 5,
        frame,
        idempotent: None,
        heard: None,
    };
    file.apply(event, &entry).expect("memory");
    entry
}

/// What a new message may be called: `count` is a path of its own.
fn message_name() -> impl Strategy<Value = Name> {
    name().prop_filter("a path of its own", |name| name.as_str() != "count")
}

fn open(folder: &Folder) -> (Journal, Catalogue) {
    let options = Options {
        dir: folder.journal(),
        files_dir: folder.root().to_owned(),
        quarantine_dir: folder.quarantine(),
        segment_bytes: 64 << 10,
        max_bytes: 1 << 30,
        damage: DamagePolicy::Refuse,
    };
    let (journal, damage) = Journal::open(&options).expect("a journal");
    assert_eq!(damage, []);
    (journal, Catalogue::open(&folder.catalogue(), false).expect("a catalogue"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_name_is_there_after_a_restart(
        workspace in name(),
        names in prop::collection::btree_set(name(), 1..5),
        messages in prop::collection::btree_set(message_name(), 1..4),
    ) {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = Folder::open(dir.path()).expect("a folder");
        let (journal, catalogue) = open(&folder);
        let mut written = BTreeMap::new();
        for name in &names {
            let key = Key::session(&workspace, name);
            let mut file = SessionFile::create(&key, &Settings::default());
            let entries = messages.iter().map(|id| say(&mut file, id)).collect();
            let record =
                Record { key: key.clone(), epoch: 1, first_seq: 1, previous_hash: [0; 16], entries };
            let appended = journal.append(vec![record.encode()]).expect("room");
            appended.blocking_recv().expect("an answer").expect("durable");
            file.close(&folder).expect("a disk");
            let found = card::<SessionTables>(&folder.file(&key), None).expect("a whole file");
            catalogue.note(found.expect("of this version"));
            written.insert(name.clone(), record);
        }
        catalogue.flush().expect("a disk");
        drop((journal, catalogue, folder));

        let folder = Folder::open(dir.path()).expect("a folder");
        let (journal, catalogue) = open(&folder);
        let (mut listed, mut behind) = (Vec::new(), None);
        loop {
            let page = catalogue.at_once(|moment| moment.list(ActorKind::Session, &workspace, behind, 1));
            let Some(card) = page.expect("readable").pop() else { break };
            behind = Some((card.updated_at_ms, card.key.hash()));
            listed.push(card.key.name().clone());
        }
        listed.sort();
        prop_assert_eq!(listed, names.into_iter().collect::<Vec<_>>());
        for record in written.into_values() {
            let hash = record.key.hash();
            prop_assert_eq!(catalogue.key(hash).expect("readable"), Some(record.key.clone()));
            let file = SessionFile::open(&record.key, &folder.file(&record.key), &Settings::default()).expect("its own file");
            let page = file.page(Direction::After(0), 10, false).expect("readable");
            let ids: Vec<_> = page.messages.iter().map(|message| message.id.as_str()).collect();
            prop_assert_eq!(ids, messages.iter().map(Name::as_str).collect::<Vec<_>>());
            prop_assert_eq!(journal.pending(hash, 0).expect("readable"), [record]);
        }
        let newest = journal.ledger().newest(ActorKind::Session, &workspace);
        prop_assert_eq!(newest[0].at_ms, 5);
    }
}
