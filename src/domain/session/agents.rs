//! The rules of an agent's items, and the messages that show them.

use std::collections::HashSet;

use crate::base::ids::Name;
use crate::base::json::Json;
use crate::base::limits::Limit;
use crate::domain::session::Context;
use crate::domain::session::Decision;
use crate::domain::session::Event;
use crate::domain::session::Item;
use crate::domain::session::ItemsChange;
use crate::domain::session::ItemsCommand;
use crate::domain::session::Message;
use crate::domain::session::NewMessage;
use crate::domain::session::Outcome;
use crate::domain::session::Rejection;
use crate::domain::session::Role;
use crate::domain::session::Status;
use crate::domain::session::Stop;
use crate::domain::session::View;
use crate::domain::session::decision::Decided;
use crate::domain::session::decision::nothing;
use crate::domain::session::items;
use crate::domain::session::items::Shown;
use crate::domain::session::messages::stored;
use crate::domain::session::messages::within;
use crate::domain::session::same_items;

/// What the items of an agent's message come to, in bytes, when the next part begins another message.
const SHOWN_BYTES_MAX: usize = 256 << 10;
/// The same, in items.
const SHOWN_COUNT_MAX: usize = 256;

/// Changes the items.
pub(super) fn change<V: View>(
    view: &V,
    command: ItemsCommand,
    ctx: &Context<'_>,
) -> Decided<V::Error> {
    let view_all = || view.items(usize::MAX).map_err(Stop::View);
    match command {
        ItemsCommand::Append(new) if new.is_empty() => {
            Ok(nothing(Outcome::Items { count: view.head().item_count, items: Vec::new() }))
        }
        ItemsCommand::Append(new) => replace(view, None, &[], new, ctx),
        ItemsCommand::Pop => {
            let Some(last) = view.items(1).map_err(Stop::View)?.pop() else {
                return Ok(nothing(Outcome::Popped(None)));
            };
            // What shows it, and what shows the one before, which goes on.
            let newest = newest_of(view, 2)?;
            let mut decision = replace(view, Some(last.sequence), &newest, Vec::new(), ctx)?;
            decision.outcome = Outcome::Popped(Some(last));
            Ok(decision)
        }
        ItemsCommand::Clear if view.head().item_count == 0 => {
            Ok(nothing(Outcome::Items { count: 0, items: Vec::new() }))
        }
        ItemsCommand::Clear => replace(view, Some(0), &view_all()?, Vec::new(), ctx),
        ItemsCommand::Replace(new) => replace(view, Some(0), &view_all()?, new, ctx),
        ItemsCommand::ReplaceSuffix { expected, replacement } => {
            let all = view_all()?;
            let kept = all.len().checked_sub(expected.len()).ok_or(Rejection::SuffixMismatch)?;
            let suffix = &all[kept..];
            if !same_items(suffix.iter().map(|item| &item.body), expected.iter()) {
                return Err(Rejection::SuffixMismatch.into());
            }
            let from = suffix.first().map(|item| item.sequence);
            replace(view, from, &all, replacement, ctx)
        }
        ItemsCommand::Remove(id) => {
            let all = view_all()?;
            let gone = all.iter().find(|item| item.id == id).ok_or(Rejection::ItemNotFound)?;
            let change = ItemsChange { removed: Some(gone.sequence), ..ItemsChange::default() };
            let mut events = vec![Event::Items(change)];
            let left: Vec<&Item> =
                all.iter().filter(|item| item.sequence != gone.sequence).collect();
            events.extend(show_less(view, gone.message_id.as_ref(), &left, ctx)?);
            let count = view.head().item_count - 1;
            Ok(Decision { events, outcome: Outcome::Items { count, items: Vec::new() } })
        }
    }
}

/// Takes back the items from `from` on, of all that there are, then adds `new`.
fn replace<V: View>(
    view: &V,
    from: Option<u64>,
    all: &[Item],
    new: Vec<Json>,
    ctx: &Context<'_>,
) -> Decided<V::Error> {
    for item in &new {
        if !item.is_object() {
            let problem = "must hold objects";
            return Err(Rejection::invalid("items", problem).into());
        }
        within(Limit::Item, item.as_str().len(), ctx.limits.item_bytes)?;
    }
    let kept: Vec<&Item> =
        all.iter().filter(|item| from.is_none_or(|from| item.sequence < from)).collect();
    let gone = all.get(kept.len());
    let mut events = Vec::new();
    // What shows the items that go: a message that shows others as well is made anew, all behind it are set aside.
    if let Some(gone) = gone {
        let shared = kept.last().is_some_and(|last| last.message_id == gone.message_id);
        let first = match shared {
            true => all[kept.len()..].iter().find(|item| item.message_id != gone.message_id),
            false => Some(gone),
        };
        let first = first.and_then(|item| item.message_id.as_ref());
        if let Some(id) = first
            && let Some(message) = view.message(id).map_err(Stop::View)?
        {
            if view.head().active_turn.is_some() {
                return Err(Rejection::TurnActive.into());
            }
            events.push(Event::Branch { from: message.seq });
        }
        if shared {
            events.extend(show_less(view, gone.message_id.as_ref(), &kept, ctx)?);
        }
    }
    let last = match (gone, all.is_empty()) {
        (_, true) => view.items(1).map_err(Stop::View)?.pop(),
        _ => kept.last().map(|item| (*item).clone()),
    };
    let mut show = Show::begin(view, last.as_ref(), &kept, !events.is_empty())?;
    let first = last.map_or(1, |last| last.sequence + 1);
    let mut items = Vec::with_capacity(new.len());
    // An id names one item: of two that bring the same one, as agents' libraries do, the later gets another.
    let is_free = |id: &str| match from {
        // All that stays is in `kept`.
        Some(_) => Ok(true),
        None => view.item(id).map(|item| item.is_none()).map_err(Stop::View),
    };
    let mut taken: HashSet<String> = kept.iter().map(|item| item.id.clone()).collect();
    for (sequence, body) in (first..).zip(new) {
        let id = match items::own_id(&body) {
            Some(id) if !taken.contains(&id) && is_free(&id)? => id,
            _ => items::made_id(&body, &(ctx.new_id)()),
        };
        taken.insert(id.clone());
        let message_id = show.add(&body, ctx);
        items.push(Item { sequence, id, body, message_id });
    }
    let removed = all.len() - kept.len();
    let count = view.head().item_count + items.len() as u64 - removed as u64;
    let outcome = Outcome::Items { count, items: items.clone() };
    events.push(Event::Items(ItemsChange {
        cut_from: gone.map(|gone| gone.sequence),
        removed: None,
        items,
    }));
    let seq = view.head().last_seq + events.len() as u64;
    events.extend(show.messages(seq, ctx));
    Ok(Decision { events, outcome })
}

/// The message `id` with what `left` still shows of it.
fn show_less<V: View>(
    view: &V,
    id: Option<&String>,
    left: &[&Item],
    ctx: &Context<'_>,
) -> Result<Option<Event>, Stop<V::Error>> {
    let Some(id) = id else { return Ok(None) };
    let Some(mut message) = view.message(id).map_err(Stop::View)? else { return Ok(None) };
    let mine = left.iter().filter(|item| item.message_id.as_ref() == Some(id));
    if mine.clone().next().is_none() {
        return Ok(Some(Event::MessageDeleted { message_id: message.id }));
    }
    (message.parts, message.content) = items::parts_of(mine.map(|item| &item.body));
    message.version += 1;
    message.updated_at_ms = ctx.now_ms;
    Ok(Some(Event::Message(message)))
}

/// The newest items: all that the last `messages` messages with items show, and one before them.
fn newest_of<V: View>(view: &V, messages: usize) -> Result<Vec<Item>, Stop<V::Error>> {
    let mut count = 64;
    loop {
        let items = view.items(count).map_err(Stop::View)?;
        let mut ids: Vec<&String> = items.iter().filter_map(|i| i.message_id.as_ref()).collect();
        // What a message shows is together.
        ids.dedup();
        if items.len() < count || ids.len() > messages {
            return Ok(items);
        }
        count *= 2;
    }
}

/// Messages that show items as they are added.
struct Show {
    /// The agent's message that goes on, and the items that it shows.
    open: Option<(Message, Vec<Json>)>,
    /// Whether it was there before.
    old: bool,
    done: Vec<Made>,
}

enum Made {
    New(NewMessage),
    Agent(Message, Vec<Json>, bool),
}

impl Show {
    fn begin<V: View>(
        view: &V,
        last: Option<&Item>,
        kept: &[&Item],
        changed: bool,
    ) -> Result<Self, Stop<V::Error>> {
        let mut show = Self { open: None, old: true, done: Vec::new() };
        let Some(id) = last.and_then(|item| item.message_id.as_ref()) else { return Ok(show) };
        let Some(message) = view.message(id).map_err(Stop::View)? else { return Ok(show) };
        let newest = view.message_before(u64::MAX).map_err(Stop::View)?;
        let is_last = changed || newest.is_some_and(|newest| newest.id == message.id);
        if message.role == Role::Assistant && message.status == Status::Complete && is_last {
            let newest;
            let kept = if kept.is_empty() {
                newest = newest_of(view, 1)?;
                newest.iter().collect()
            } else {
                kept.to_vec()
            };
            let mine = kept.into_iter().filter(|item| item.message_id.as_ref() == Some(id));
            show.open = Some((message, mine.map(|item| item.body.clone()).collect()));
        }
        Ok(show)
    }

    /// Shows `item`; the message that does.
    fn add(&mut self, item: &Json, ctx: &Context<'_>) -> Option<String> {
        match items::shown(item)? {
            Shown::Message { role, text } => {
                self.close();
                let id = (ctx.new_id)();
                let new = NewMessage {
                    id: Some(Name::new(id.as_str()).expect("an id that is made is a name")),
                    role,
                    content: text,
                    parts: Vec::new(),
                    metadata: None,
                };
                self.done.push(Made::New(new));
                Some(id)
            }
            shown @ (Shown::Part(_) | Shown::Result { .. }) => {
                if matches!(shown, Shown::Part(_)) && self.is_full() {
                    self.close();
                }
                if self.open.is_none() {
                    let new = NewMessage {
                        id: None,
                        role: Role::Assistant,
                        content: String::new(),
                        parts: Vec::new(),
                        metadata: None,
                    };
                    self.old = false;
                    self.open = Some((stored(new, 0, ctx), Vec::new()));
                }
                let (message, items) = self.open.as_mut()?;
                items.push(item.clone());
                Some(message.id.clone())
            }
        }
    }

    /// Whether the message that goes on says so much that the next part begins another one: it is written again with each
    /// part. A call and its result stay together.
    fn is_full(&self) -> bool {
        let Some((_, items)) = &self.open else { return false };
        let bytes: usize = items.iter().map(|item| item.as_str().len()).sum();
        let waits = items.last().and_then(items::shown);
        let is_call =
            matches!(&waits, Some(Shown::Part(part)) if part.text("toolCallId").is_some());
        !is_call && (bytes >= SHOWN_BYTES_MAX || items.len() >= SHOWN_COUNT_MAX)
    }

    fn close(&mut self) {
        if let Some((message, items)) = self.open.take() {
            self.done.push(Made::Agent(message, items, self.old));
        }
    }

    /// The events that show it, the first of them behind `seq`.
    fn messages(mut self, mut seq: u64, ctx: &Context<'_>) -> Vec<Event> {
        self.close();
        let mut events = Vec::new();
        for made in self.done {
            seq += 1;
            let message = match made {
                Made::New(new) => stored(new, seq, ctx),
                Made::Agent(mut message, items, old) => {
                    let (parts, content) = items::parts_of(items.iter());
                    if old {
                        if parts == message.parts {
                            seq -= 1;
                            continue;
                        }
                        message.version += 1;
                        message.updated_at_ms = ctx.now_ms;
                    } else {
                        message.seq = seq;
                    }
                    Message { parts, content, ..message }
                }
            };
            events.push(Event::Message(message));
        }
        events
    }
}
