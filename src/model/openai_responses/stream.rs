//! The stream of the Responses API as our events.

use std::collections::BTreeSet;

use crate::base::json::Json;
use crate::base::json::Object;
use crate::model::FailureKind;
use crate::model::FinishReason;
use crate::model::ModelError;
use crate::model::ModelEvent;
use crate::model::assembly::Assembly;
use crate::model::assembly::BLOCKS_COUNT_MAX;
use crate::model::assembly::BlockKey;
use crate::model::assembly::Kind;
use crate::model::assembly::interrupted;
use crate::model::assembly::protocol;
use crate::model::dialect::Complaint;
use crate::model::dialect::DONE;
use crate::model::dialect::Dialect;
use crate::model::dialect::no_answer;
use crate::model::dialect::stray_error;
use crate::model::lax::object;
use crate::model::loose::JsonText;
use crate::model::loose::Loose;
use crate::model::openai_responses::chunk::Event;
use crate::model::openai_responses::chunk::Item;
use crate::model::openai_responses::chunk::Response;
use crate::model::sse;

/// Summaries and the thoughts themselves are counted apart; this keeps their blocks apart.
const SUMMARY: u64 = 1 << 32;

/// What an item of the output is, of those that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Message,
    Thought,
    Call,
    Picture,
}

impl What {
    fn of(kind: &str) -> Option<Self> {
        match kind {
            "message" => Some(Self::Message),
            "reasoning" => Some(Self::Thought),
            "function_call" => Some(Self::Call),
            "image_generation_call" => Some(Self::Picture),
            _ => None,
        }
    }
}

/// An item of the output, as the server names it. Where it stands among the others is its number in the keys of its blocks.
#[derive(Debug)]
struct Entry {
    what: What,
    output: Option<u64>,
    names: Vec<String>,
    /// An event of its own said that it begins.
    announced: bool,
    /// Of a call: its pieces have a name that was not announced.
    renamed: bool,
    /// It was told as a whole.
    done: bool,
}

/// How an event says which item it is about.
struct Place {
    output: Option<u64>,
    names: Vec<String>,
}

impl Place {
    fn new(output: Option<u64>, names: impl IntoIterator<Item = Option<String>>) -> Self {
        let names = names.into_iter().flatten().filter(|name| !name.is_empty()).collect();
        Self { output, names }
    }

    /// Whether it can be that of `entry`, by kind and number.
    fn fits(&self, what: What, entry: &Entry) -> bool {
        let apart = entry.output.zip(self.output).is_some_and(|(a, b)| a != b);
        entry.what == what && !apart
    }
}

/// How an item of the last event is found among those that came.
#[derive(Clone, Copy)]
enum Way {
    Name,
    Number,
    Order,
}

impl Way {
    fn leads(self, item: &Item, number: u64, entry: &Entry) -> bool {
        match self {
            Self::Name => {
                let names = [&item.id, &item.call_id];
                names.into_iter().flatten().any(|name| entry.names.contains(name))
            }
            Self::Number => entry.output == Some(number),
            Self::Order => true,
        }
    }
}

/// Reads one answer.
///
/// The last event repeats all items. Not every server numbers them, or gives them the same names from event to event, so an
/// item is found by its name, then by its number, then by its place among those of its kind.
#[derive(Debug, Default)]
pub(in crate::model) struct Stream {
    assembly: Assembly,
    /// Blocks that have been opened, whether or not they are closed.
    seen: BTreeSet<BlockKey>,
    entries: Vec<Entry>,
}

impl Dialect for Stream {
    fn take(&mut self, event: &sse::Event) -> Result<(), ModelError> {
        if self.assembly.is_finished() {
            return Ok(());
        }
        if event.data.trim() == DONE && self.assembly.is_started() {
            // Not of this API, but gateways say it.
            return self.over("response.completed", Response::default());
        }
        let parsed = match object::<Event>(&event.data) {
            Ok(Some(parsed)) => parsed,
            _ if event.name == "error" => {
                return Err(Complaint::of_event(&event.data).into_error());
            }
            Ok(None) => return Ok(()),
            Err(error) => return Err(protocol(format!("an event cannot be read: {error}"))),
        };
        let kind = parsed.kind.clone().unwrap_or_else(|| event.name.clone());
        match kind.as_str() {
            "error" => Err(Complaint::of_event(&event.data).into_error()),
            kind if kind.starts_with("response.") => self.event(kind, parsed),
            _ => stray_error(&event.data).map_or(Ok(()), Err),
        }
    }

    fn whole(&mut self, body: &str) -> Result<(), ModelError> {
        let response = object::<Response>(body).ok().flatten();
        let response = response.filter(|response| {
            response.error.is_some() || response.status.is_some() || !response.output.is_empty()
        });
        let response = response.ok_or_else(|| no_answer(body))?;
        let kind = match response.status.as_deref() {
            Some("incomplete") => "response.incomplete",
            _ => "response.completed",
        };
        self.over(kind, response)
    }

    fn end(&mut self) -> Result<(), ModelError> {
        if self.assembly.is_finished() { Ok(()) } else { Err(interrupted()) }
    }

    fn next(&mut self) -> Option<ModelEvent> {
        self.assembly.next()
    }
}

impl Stream {
    fn event(&mut self, kind: &str, parsed: Event) -> Result<(), ModelError> {
        let place = Place::new(parsed.output_index, [parsed.item_id]);
        let content = parsed.content_index.unwrap_or(0);
        let summary = parsed.summary_index.unwrap_or(0).saturating_add(SUMMARY);
        let delta = parsed.delta.map(|delta| delta.0);
        match kind {
            "response.created" | "response.in_progress" | "response.queued" => {
                let response = parsed.response.unwrap_or_default();
                self.assembly.start(response.id, response.model);
                Ok(())
            }
            "response.output_item.added" => {
                self.item_added(parsed.output_index, parsed.item.unwrap_or_default())
            }
            "response.output_item.done" => {
                self.item_done(parsed.output_index, parsed.item.unwrap_or_default())
            }
            "response.output_text.delta" | "response.refusal.delta" => {
                let at = self.growing(What::Message, place)?;
                self.say((at, content, Kind::Text), delta)
            }
            "response.output_text.done" | "response.refusal.done" => {
                let at = self.known(What::Message, place)?;
                self.whole((at, content, Kind::Text), parsed.text.or(parsed.refusal))
            }
            "response.reasoning_text.delta" => {
                let at = self.growing(What::Thought, place)?;
                self.say((at, content, Kind::Reasoning), delta)
            }
            "response.reasoning_text.done" => {
                let at = self.known(What::Thought, place)?;
                self.told((at, content, Kind::Reasoning), parsed.text)
            }
            "response.reasoning_summary_text.delta" => {
                let at = self.growing(What::Thought, place)?;
                self.say((at, summary, Kind::Reasoning), delta)
            }
            "response.reasoning_summary_text.done" => {
                let at = self.known(What::Thought, place)?;
                self.told((at, summary, Kind::Reasoning), parsed.text)
            }
            "response.output_text.annotation.added" => {
                let annotation = parsed.annotation.unwrap_or_default();
                self.assembly.source(annotation.url, annotation.title);
                Ok(())
            }
            "response.function_call_arguments.delta" => {
                let at = self.called(place).unwrap_or(u64::MAX);
                self.assembly.grow((at, 0, Kind::Tool), delta.unwrap_or_default())
            }
            "response.function_call_arguments.done" => match self.called(place) {
                Some(at) => self.give((at, 0, Kind::Tool), parsed.arguments),
                None => Ok(()),
            },
            "response.completed" | "response.incomplete" | "response.failed" => {
                self.over(kind, parsed.response.unwrap_or_default())
            }
            _ => Ok(()),
        }
    }

    /// The item that an event is about, whole or not.
    fn find(&self, what: What, place: &Place) -> Option<u64> {
        let number = |at: Option<usize>| at.map(|at| at as u64);
        let entries = &self.entries;
        let fits = |entry: &Entry| place.fits(what, entry);
        let named = |entry: &Entry| entry.names.iter().any(|name| place.names.contains(name));
        let same = entries.iter().rposition(|entry| fits(entry) && named(entry));
        if same.is_some() {
            return number(same);
        }
        // Without a name on one side, the number says it, or that it is the one that is not whole.
        let nameless = |entry: &Entry| place.names.is_empty() || entry.names.is_empty();
        let open = |entry: &Entry| fits(entry) && nameless(entry) && !entry.done;
        let whole = |entry: &Entry| fits(entry) && nameless(entry) && place.output.is_some();
        number(entries.iter().rposition(open).or_else(|| entries.iter().rposition(whole)))
    }

    /// As [`Self::find`], for a text or thought. What was announced and is not whole is meant whatever the name, if the number
    /// says so: some servers have a new name in every event.
    fn meant(&self, what: What, place: &Place) -> Option<u64> {
        let renamed = |entry: &Entry| {
            let same = entry.output.is_some() && entry.output == place.output;
            entry.what == what && entry.announced && !entry.done && same
        };
        let found = || self.entries.iter().rposition(renamed).map(|at| at as u64);
        self.find(what, place).or_else(|| if what == What::Call { None } else { found() })
    }

    /// The call that a piece is of. Pieces may have another name than their call: then they are of the first one that has
    /// none yet, or of the last one.
    fn called(&mut self, place: Place) -> Option<u64> {
        if let Some(at) = self.find(What::Call, &place) {
            return Some(at);
        }
        let open = |entry: &Entry| place.fits(What::Call, entry) && !entry.done;
        let entries = &self.entries;
        let fresh = entries.iter().position(|entry| open(entry) && !entry.renamed);
        let at = fresh.or_else(|| entries.iter().rposition(open))?;
        if !std::mem::replace(&mut self.entries[at].renamed, true) {
            self.entries[at].names.extend(place.names);
        }
        Some(at as u64)
    }

    fn add(&mut self, what: What, place: Place, announced: bool) -> Result<u64, ModelError> {
        if self.entries.len() >= BLOCKS_COUNT_MAX {
            let problem = "the answer has too many items";
            return Err(ModelError::new(FailureKind::Limit, problem));
        }
        let Place { output, names } = place;
        let (renamed, done) = (false, false);
        self.entries.push(Entry { what, output, names, announced, renamed, done });
        Ok(self.entries.len() as u64 - 1)
    }

    fn is_done(&self, at: u64) -> bool {
        usize::try_from(at).ok().and_then(|at| self.entries.get(at)).is_some_and(|e| e.done)
    }

    /// The item that something is said about as a whole; a new one if there is none.
    fn known(&mut self, what: What, place: Place) -> Result<u64, ModelError> {
        self.meant(what, &place).map_or_else(|| self.add(what, place, false), Ok)
    }

    /// The item that something is added to; a new one if there is none, or that one is whole.
    fn growing(&mut self, what: What, place: Place) -> Result<u64, ModelError> {
        match self.meant(what, &place).filter(|at| !self.is_done(*at)) {
            Some(at) => Ok(at),
            None => self.add(what, place, false),
        }
    }

    fn item_added(&mut self, output: Option<u64>, item: Item) -> Result<(), ModelError> {
        let Some(what) = item.kind.as_deref().and_then(What::of) else { return Ok(()) };
        let place = Place::new(output, [item.id.clone(), item.call_id.clone()]);
        let known = self.find(what, &place).filter(|at| !self.is_done(*at));
        match known {
            Some(_) if what == What::Call => Err(protocol("a block was opened twice")),
            Some(_) => Ok(()),
            None => {
                let at = self.add(what, place, true)?;
                if what == What::Call { self.open_call(at, item) } else { Ok(()) }
            }
        }
    }

    /// Opens a call, if it has a name: some servers keep a place for calls that nobody makes.
    fn open_call(&mut self, at: u64, item: Item) -> Result<(), ModelError> {
        let Some(name) = item.name.filter(|name| !name.is_empty()) else { return Ok(()) };
        let id = item.call_id.or(item.id).filter(|id| !id.is_empty());
        // Some servers leave the id out.
        let id = id.unwrap_or_else(|| format!("call-{at}"));
        self.seen.insert((at, 0, Kind::Tool));
        self.assembly.open_tool((at, 0, Kind::Tool), id, name)
    }

    /// Adds to a text or thought, and opens it first if it is new.
    fn say(&mut self, key: BlockKey, text: Option<Loose>) -> Result<(), ModelError> {
        let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(()) };
        if !self.assembly.is_open(key) {
            if !self.seen.insert(key) {
                return Err(protocol("a block went on behind its end"));
            }
            self.assembly.open(key)?;
        }
        self.assembly.grow(key, text)
    }

    /// A text is whole. `text` is all of it; it matters only if no pieces came.
    fn whole(&mut self, key: BlockKey, text: Option<Loose>) -> Result<(), ModelError> {
        self.told(key, text)?;
        if self.assembly.is_open(key) { self.assembly.close(key) } else { Ok(()) }
    }

    /// All of a text or thought is told. A thought stays open until its item is whole, because the seal comes with it.
    fn told(&mut self, key: BlockKey, text: Option<Loose>) -> Result<(), ModelError> {
        if self.seen.contains(&key) { Ok(()) } else { self.say(key, text) }
    }

    /// The input of a call is whole. As with texts, `arguments` matters only if no pieces came.
    fn give(&mut self, key: BlockKey, arguments: Option<JsonText>) -> Result<(), ModelError> {
        if self.assembly.is_open(key) && !self.assembly.has_input(key) {
            self.assembly.grow(key, arguments.unwrap_or_default().0)?;
        }
        Ok(())
    }

    fn item_done(&mut self, output: Option<u64>, item: Item) -> Result<(), ModelError> {
        let Some(what) = item.kind.as_deref().and_then(What::of) else { return Ok(()) };
        let at = self.known(what, Place::new(output, [item.id.clone(), item.call_id.clone()]))?;
        self.item_whole(at, what, item)
    }

    /// An item is whole: says what was not said piece by piece, and closes its blocks.
    fn item_whole(&mut self, at: u64, what: What, item: Item) -> Result<(), ModelError> {
        let entry = usize::try_from(at).ok().and_then(|at| self.entries.get_mut(at));
        let before = entry.is_some_and(|entry| std::mem::replace(&mut entry.done, true));
        let key = (at, 0, Kind::Tool);
        match what {
            What::Call => {
                let arguments = item.arguments.clone();
                if !self.seen.contains(&key) {
                    let empty = arguments.as_ref().is_none_or(|text| text.0.is_empty());
                    if item.name.as_ref().is_none_or(String::is_empty) && !empty {
                        return Err(protocol("a tool call without a usable name"));
                    }
                    self.open_call(at, item)?;
                }
                self.give(key, arguments)?;
                if self.assembly.is_open(key) { self.assembly.close(key) } else { Ok(()) }
            }
            What::Message => {
                for (part_at, part) in (0..).zip(item.content) {
                    for annotation in part.annotations {
                        self.assembly.source(annotation.url, annotation.title);
                    }
                    self.whole((at, part_at, Kind::Text), part.text.or(part.refusal))?;
                }
                Ok(())
            }
            What::Thought if !before => self.thought(at, item),
            What::Picture if !before => {
                let format = item.output_format.unwrap_or_else(|| "png".to_owned());
                let url = item.result.map(|data| format!("data:image/{format};base64,{data}"));
                self.assembly.image(url);
                Ok(())
            }
            What::Thought | What::Picture => Ok(()),
        }
    }

    /// A thought is whole: its summaries, its texts, and the seal, which goes with the first of them.
    fn thought(&mut self, at: u64, item: Item) -> Result<(), ModelError> {
        let summaries = (SUMMARY..).zip(item.summary);
        for (part_at, part) in summaries.chain((0..).zip(item.content)) {
            self.told((at, part_at, Kind::Reasoning), part.text)?;
        }
        let blocks: Vec<BlockKey> = self
            .seen
            .iter()
            .filter(|key| key.0 == at && key.2 == Kind::Reasoning)
            .filter(|key| self.assembly.is_open(**key))
            .copied()
            .collect();
        let mut seal = Object::default();
        if let Some(data) = item.encrypted_content.filter(|data| !data.is_empty()) {
            if let Some(id) = item.id {
                seal.set("itemId", Json::string(&id));
            }
            seal.set("reasoningEncryptedContent", Json::string(&data));
        }
        match blocks.first() {
            None if seal.is_empty() => {}
            None => self.assembly.sealed(seal)?,
            Some(first) => {
                for (name, value) in seal.iter() {
                    self.assembly.seal(*first, name, value.clone())?;
                }
            }
        }
        blocks.into_iter().try_for_each(|key| self.assembly.close(key))
    }

    /// Which item each of the last event's is that was told before.
    fn matched(&self, output: &[Item]) -> Vec<Option<u64>> {
        let mut free: Vec<bool> = vec![true; self.entries.len()];
        let mut found = vec![None; output.len()];
        let what_of = |item: &Item| item.kind.as_deref().and_then(What::of);
        for way in [Way::Name, Way::Number, Way::Order] {
            for (at, item) in output.iter().enumerate().filter(|(_, item)| what_of(item).is_some())
            {
                if found[at].is_some() {
                    continue;
                }
                let entry = self.entries.iter().enumerate().find(|(number, entry)| {
                    free[*number]
                        && Some(entry.what) == what_of(item)
                        && way.leads(item, at as u64, entry)
                });
                if let Some((number, _)) = entry {
                    free[number] = false;
                    found[at] = Some(number as u64);
                }
            }
        }
        found
    }

    fn over(&mut self, kind: &str, response: Response) -> Result<(), ModelError> {
        self.assembly.start(response.id, response.model);
        let counts = response.usage;
        if let Some(counts) = &counts {
            self.assembly.usage(counts.tokens());
        }
        let error = Complaint::of_member(response.error);
        let failed = response.status.as_deref() == Some("failed") || error.is_some();
        if kind == "response.failed" || failed {
            return Err(error.unwrap_or_default().into_error());
        }
        debug_assert!(response.output.len() <= BLOCKS_COUNT_MAX);
        let matched = self.matched(&response.output);
        for (item, known) in response.output.into_iter().zip(matched) {
            // What is cut off is not whole, so an unfinished call is left to the end.
            let cut =
                kind == "response.incomplete" && item.kind.as_deref() == Some("function_call");
            let Some(what) = item.kind.as_deref().and_then(What::of).filter(|_| !cut) else {
                continue;
            };
            let at = known.map_or_else(|| self.add(what, Place::new(None, []), false), Ok)?;
            self.item_whole(at, what, item)?;
        }
        let called = self.seen.iter().any(|key| key.2 == Kind::Tool);
        let reason = response.incomplete_details.and_then(|details| details.reason);
        let reason_ours = match (kind, reason.as_deref()) {
            ("response.completed", _) if called => FinishReason::ToolCalls,
            ("response.completed", _) => FinishReason::Stop,
            (_, Some("max_output_tokens")) => FinishReason::Length,
            (_, Some("content_filter")) => FinishReason::ContentFilter,
            _ => FinishReason::Other,
        };
        self.assembly.finish(reason_ours, reason.or(response.status));
        Ok(())
    }
}
