//! A session in memory: what its events amount to, without a database. The rules are tested over it, and the rows of files are
//! compared with it.

use std::convert::Infallible;

use crate::base::json::Json;
use crate::domain::session::Draft;
use crate::domain::session::Event;
use crate::domain::session::Growing;
use crate::domain::session::Head;
use crate::domain::session::Item;
use crate::domain::session::Message;
use crate::domain::session::Status;
use crate::domain::session::Turn;
use crate::domain::session::TurnState;
use crate::domain::session::View;

/// All that is known of a session.
#[derive(Clone, Debug, Default)]
pub(crate) struct Past {
    head: Head,
    /// Every message with its branch; 0 is the history.
    messages: Vec<(u64, Message)>,
    /// In the order in which they were announced.
    turns: Vec<Turn>,
    draft: Option<Draft>,
    items: Vec<Item>,
}

impl Past {
    /// Carries `event` out, which happened at `at_ms`.
    pub(crate) fn apply(&mut self, event: &Event, at_ms: i64) {
        let seq = self.head.last_seq + 1;
        if seq == 1 {
            self.head.created_at_ms = at_ms;
        }
        if !self.write(event) {
            self.project(seq, event, at_ms);
        }
        (self.head.last_seq, self.head.updated_at_ms) = (seq, at_ms);
        if let Event::Turn(_) = event {
            self.draft = self.begun();
        }
    }

    /// The messages of the history, oldest first.
    pub(crate) fn history(&self) -> Vec<Message> {
        let history = self.messages.iter().filter(|(branch, _)| *branch == 0);
        let mut history: Vec<Message> =
            history.map(|(_, message)| self.as_written(message)).collect();
        history.sort_by_key(|message| message.seq);
        history
    }

    /// The message of the running turn has what was written so far.
    fn as_written(&self, message: &Message) -> Message {
        match &self.draft {
            Some(draft) if draft.message_id == message.id => {
                Message { parts: draft.parts(), content: draft.content(), ..message.clone() }
            }
            _ => message.clone(),
        }
    }

    /// The message called so; in branches the same names may be found.
    fn named(&mut self, id: &str) -> Option<&mut Message> {
        let mut all = self.messages.iter_mut();
        all.find(|(branch, message)| *branch == 0 && message.id == id).map(|(_, message)| message)
    }

    fn begun(&self) -> Option<Draft> {
        let turn = self.head.active_turn.as_ref().filter(|turn| turn.state.is_active())?;
        if let Some(draft) = &self.draft
            && draft.message_id == turn.message_id
        {
            return Some(draft.clone());
        }
        let message = View::message(self, &turn.message_id).ok()??;
        let parts = message.parts.iter().map(Growing::stored).collect();
        Some(Draft { message_id: message.id, message_seq: message.seq, parts })
    }

    fn write(&mut self, event: &Event) -> bool {
        let Some(draft) = &mut self.draft else { return false };
        match event {
            Event::PartUpdate { message_id, part, fields } if *message_id == draft.message_id => {
                draft.update(*part, fields);
            }
            Event::PartDelta { message_id, part, delta, .. } if *message_id == draft.message_id => {
                draft.append(*part, delta);
            }
            _ => return false,
        }
        true
    }

    fn project(&mut self, seq: u64, event: &Event, at_ms: i64) {
        match event {
            Event::Message(message) if message.seq == seq => {
                self.messages.push((0, message.clone()));
                self.head.message_count += 1;
            }
            Event::Message(new) => {
                let old = self.messages.iter_mut().find(|(_, message)| message.seq == new.seq);
                let (_, old) = old.expect("a message that ends has begun");
                *old = Message { turn_id: old.turn_id.clone(), ..new.clone() };
            }
            Event::MessageParts { message_id, version, parts, from } => {
                let message = self.named(message_id).expect("a message that is known");
                message.parts.clone_from(parts);
                if from.is_none() {
                    (message.version, message.updated_at_ms) = (*version, at_ms);
                }
            }
            Event::PartUpdate { message_id, part, fields } => {
                let message = self.named(message_id).expect("a message that is known");
                if let Some(part) = message.parts.get_mut(*part) {
                    let mut growing = Growing::stored(part);
                    growing.update(fields);
                    *part = growing.part();
                }
            }
            Event::PartDelta { .. } => {}
            Event::MessageDeleted { message_id } => self.redact(&message_id.clone(), at_ms),
            Event::Session { title, project_id, metadata, settings, deleted } => {
                self.head.title.clone_from(title);
                self.head.project_id.clone_from(project_id);
                self.head.metadata.clone_from(metadata);
                self.head.settings.clone_from(settings);
                self.head.deleted = *deleted;
            }
            Event::Turn(turn) => self.turn(seq, turn, at_ms),
            Event::Branch { from } => {
                for (branch, message) in &mut self.messages {
                    if *branch == 0 && message.seq >= *from {
                        *branch = seq;
                        self.head.message_count -= 1;
                    }
                }
            }
            Event::Items(change) => {
                let stays = |item: &Item| {
                    change.cut_from.is_none_or(|from| item.sequence < from)
                        && change.removed.is_none_or(|removed| item.sequence != removed)
                };
                self.items.retain(stays);
                self.items.extend(change.items.iter().cloned());
                self.head.item_count = self.items.len() as u64;
            }
        }
    }

    fn redact(&mut self, id: &str, at_ms: i64) {
        let message = self.named(id).expect("a message that is known");
        message.content.clear();
        message.parts.clear();
        message.metadata = None;
        message.status = Status::Deleted;
        message.version += 1;
        message.updated_at_ms = at_ms;
        self.items.retain(|item| item.message_id.as_deref() != Some(id));
        self.head.item_count = self.items.len() as u64;
    }

    fn turn(&mut self, seq: u64, turn: &Turn, at_ms: i64) {
        match self.turns.iter_mut().find(|known| known.id == turn.id) {
            Some(known) => known.clone_from(turn),
            None => self.turns.push(turn.clone()),
        }
        let mine = self.head.active_turn.as_ref().is_some_and(|active| active.id == turn.id);
        match turn.state {
            TurnState::Queued => {}
            TurnState::Running | TurnState::Stopping | TurnState::WaitingApproval => {
                self.head.active_turn = Some(turn.clone());
            }
            _ if mine => self.head.active_turn = None,
            _ => {}
        }
        if let (Some(model), Some(resume)) = (&turn.model, &turn.resume) {
            self.head.resume.set(model, Json::string(resume));
        }
        if turn.state != TurnState::Running {
            return;
        }
        if let Some(message) = self.named(&turn.message_id) {
            message.status = Status::Streaming;
            message.turn_id = Some(turn.id.clone());
            message.updated_at_ms = at_ms;
            return;
        }
        self.messages.push((0, turn.answer(seq, at_ms)));
        self.head.message_count += 1;
    }
}

impl View for Past {
    type Error = Infallible;

    fn head(&self) -> &Head {
        &self.head
    }

    fn message(&self, id: &str) -> Result<Option<Message>, Infallible> {
        let mut all = self.messages.iter();
        let found = all.find(|(branch, message)| *branch == 0 && message.id == id);
        Ok(found.map(|(_, message)| self.as_written(message)))
    }

    fn queued_turns(&self) -> Result<Vec<Turn>, Infallible> {
        let queued = self.turns.iter().filter(|turn| turn.state == TurnState::Queued);
        Ok(queued.cloned().collect())
    }

    fn turn(&self, id: &str) -> Result<Option<Turn>, Infallible> {
        Ok(self.turns.iter().find(|turn| turn.id == id).cloned())
    }

    fn draft(&self) -> Option<&Draft> {
        self.draft.as_ref()
    }

    fn message_before(&self, seq: u64) -> Result<Option<Message>, Infallible> {
        Ok(self.history().into_iter().rfind(|message| message.seq < seq))
    }

    fn seq_at(&self, position: usize) -> Result<Option<u64>, Infallible> {
        Ok(self.history().get(position).map(|message| message.seq))
    }

    fn seq_behind(&self, seq: u64) -> Result<Option<u64>, Infallible> {
        Ok(self.history().into_iter().find(|message| message.seq > seq).map(|message| message.seq))
    }

    fn items(&self, limit: usize) -> Result<Vec<Item>, Infallible> {
        Ok(self.items[self.items.len().saturating_sub(limit)..].to_vec())
    }

    fn item(&self, id: &str) -> Result<Option<Item>, Infallible> {
        Ok(self.items.iter().find(|item| item.id == id).cloned())
    }
}
