//! The blocks of one answer while they come: keeps what every provider promises in [`ModelEvent`], whatever the other side
//! sends. What the other side's events mean is up to its dialect.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::collections::VecDeque;

use crate::base::json::Json;
use crate::base::json::Object;
use crate::model::BadInput;
use crate::model::FailureKind;
use crate::model::FinishReason;
use crate::model::ModelError;
use crate::model::ModelEvent;
use crate::model::Usage;
use crate::model::loose::Loose;

/// Most blocks of one answer.
pub(super) const BLOCKS_COUNT_MAX: usize = 1_024;
/// Longest name that is taken from a provider, in bytes.
const NAME_BYTES_MAX: usize = 256;
/// Longest id of a call, in bytes: some servers put what they want to know again into it.
const ID_BYTES_MAX: usize = 4 << 10;
/// Sources of one answer; further ones are left out.
const SOURCES_COUNT_MAX: usize = 128;
/// Longest address or title of a source, in bytes.
const SOURCE_BYTES_MAX: usize = 4 << 10;
/// Most tokens that are believed: what JavaScript can still count.
const TOKENS_COUNT_MAX: u64 = (1 << 53) - 1;

/// How a dialect tells the open blocks of an answer apart.
pub(super) type BlockKey = (u64, u64, Kind);

/// Kinds of blocks that grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Text.
    Text,
    /// A thought.
    Reasoning,
    /// A tool call.
    Tool,
}

#[derive(Debug, Default)]
struct Block {
    index: u32,
    /// What must be sent back with it.
    seal: Object,
    /// Of a tool: the text of its input.
    json: String,
    /// The half of a character that it ends with.
    half: Option<u16>,
}

/// Tokens as a provider tells them: what is absent has not changed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tokens {
    /// Read, cached ones included.
    pub(super) input: Option<u64>,
    /// Written, thoughts included.
    pub(super) output: Option<u64>,
    /// Read from a cache.
    pub(super) cached: Option<u64>,
    /// Thoughts.
    pub(super) reasoning: Option<u64>,
}

/// The answer so far, and the events that nobody has taken yet.
///
/// Guarantees about the events, pings apart: the first is the start; blocks are numbered in the order in which they open; only open
/// blocks grow; ids of tools are not empty and no two are the same; the last one is the finish, and every block is closed
/// before it.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    events: VecDeque<ModelEvent>,
    open: BTreeMap<BlockKey, Block>,
    tool_ids: HashSet<String>,
    sources: HashSet<String>,
    usage: Usage,
    count: u32,
    started: bool,
    finished: bool,
}

/// The other side broke its own rules.
pub(super) fn protocol(problem: impl Into<String>) -> ModelError {
    ModelError::new(FailureKind::Protocol, problem)
}

/// The stream ended before the answer did.
pub(super) fn interrupted() -> ModelError {
    ModelError::new(FailureKind::Interrupted, "the answer broke off before its end")
}

/// A name as it can be stored: models make names up. One that had to be changed is the name of no tool.
fn storable(name: String, bytes_max: usize) -> String {
    if name.len() <= bytes_max && !name.chars().any(char::is_control) {
        return name;
    }
    let mut plain = String::new();
    for c in name.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }) {
        if plain.len() + c.len_utf8() > bytes_max {
            break;
        }
        plain.push(c);
    }
    plain
}

/// The input of a tool: `text` as it is, or why it cannot be used. Nothing is ever repaired.
///
/// No text at all is an input without fields, but only if the call is known to be `whole`. Some servers say `{}` first and
/// then the input; the first is nothing that anybody meant.
pub(super) fn input(text: String, whole: bool) -> Result<Json, BadInput> {
    let behind = text.trim_start().strip_prefix("{}").map(str::trim_start);
    let text = match behind.filter(|rest| rest.starts_with('{')) {
        Some(rest) => rest.to_owned(),
        None => text,
    };
    if text.trim().is_empty() && whole {
        return Ok(Json::default());
    }
    match Json::parse(&text) {
        Ok(json) if json.is_object() => Ok(json),
        Ok(_) => Err(BadInput { text, problem: "the input is not an object".to_owned() }),
        Err(error) => Err(BadInput { text, problem: error.to_string() }),
    }
}

impl Assembly {
    /// The next event, oldest first.
    pub(super) fn next(&mut self) -> Option<ModelEvent> {
        self.events.pop_front()
    }

    /// Whether the answer has begun.
    pub(super) fn is_started(&self) -> bool {
        self.started
    }

    /// Whether the answer is over.
    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    /// Whether a block is open.
    pub(super) fn is_open(&self, key: BlockKey) -> bool {
        self.open.contains_key(&key)
    }

    /// The answer begins; does nothing if it has begun.
    pub(super) fn start(&mut self, id: Option<String>, model: Option<String>) {
        if !std::mem::replace(&mut self.started, true) {
            let short = |name: &String| !name.is_empty() && name.len() <= NAME_BYTES_MAX;
            let (id, model) = (id.filter(short), model.filter(short));
            self.events.push_back(ModelEvent::Start { id, model });
        }
    }

    fn next_index(&mut self) -> Result<u32, ModelError> {
        let index = self.count;
        if index as usize >= BLOCKS_COUNT_MAX {
            let problem = format!("the answer has more than {BLOCKS_COUNT_MAX} blocks");
            return Err(ModelError::new(FailureKind::Limit, problem));
        }
        self.start(None, None);
        self.count += 1;
        Ok(index)
    }

    fn insert(&mut self, key: BlockKey) -> Result<u32, ModelError> {
        if self.open.contains_key(&key) {
            return Err(protocol("a block was opened twice"));
        }
        let index = self.next_index()?;
        self.open.insert(key, Block { index, ..Block::default() });
        Ok(index)
    }

    /// Opens a text or a thought, as `key` says.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Protocol`] if `key` is open, [`FailureKind::Limit`] if there are too many blocks.
    pub(super) fn open(&mut self, key: BlockKey) -> Result<(), ModelError> {
        let index = self.insert(key)?;
        self.events.push_back(match key.2 {
            Kind::Reasoning => ModelEvent::ReasoningStart { index },
            Kind::Text | Kind::Tool => ModelEvent::TextStart { index },
        });
        Ok(())
    }

    /// Opens a tool call.
    ///
    /// # Errors
    ///
    /// As [`Self::open`]; [`FailureKind::Protocol`] as well without `id` or `name`. Of two calls with one id, the second gets
    /// another one.
    pub(super) fn open_tool(
        &mut self,
        key: BlockKey,
        id: String,
        name: String,
    ) -> Result<(), ModelError> {
        if id.is_empty() || name.is_empty() {
            return Err(protocol("a tool call without a usable name or id"));
        }
        let (mut id, name) = (storable(id, ID_BYTES_MAX), storable(name, NAME_BYTES_MAX));
        let index = self.insert(key)?;
        if self.tool_ids.contains(&id) {
            id = format!("{}-{index}", id.chars().take(NAME_BYTES_MAX).collect::<String>());
        }
        while !self.tool_ids.insert(id.clone()) {
            id.push('x');
        }
        self.events.push_back(ModelEvent::ToolStart { index, id, name });
        Ok(())
    }

    /// A thought that only the provider can read.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Limit`] if there are too many blocks.
    pub(super) fn redacted(&mut self, data: String) -> Result<(), ModelError> {
        let index = self.next_index()?;
        self.events.push_back(ModelEvent::RedactedReasoning { index, data });
        Ok(())
    }

    /// Adds to a block. Adding nothing says nothing.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Protocol`] if `key` is not open.
    pub(super) fn grow(&mut self, key: BlockKey, text: impl Into<Loose>) -> Result<(), ModelError> {
        let block = self.open.get_mut(&key).ok_or_else(not_open)?;
        let index = block.index;
        let text = text.into().join(&mut block.half);
        if !text.is_empty() {
            self.events.push_back(match key.2 {
                Kind::Text => ModelEvent::TextDelta { index, text },
                Kind::Reasoning => ModelEvent::ReasoningDelta { index, text },
                Kind::Tool => {
                    block.json.push_str(&text);
                    ModelEvent::ToolDelta { index, json: text }
                }
            });
        }
        Ok(())
    }

    /// Whether anything was added to the tool call `key`.
    pub(super) fn has_input(&self, key: BlockKey) -> bool {
        self.open.get(&key).is_some_and(|block| !block.json.is_empty())
    }

    /// Puts `value` into what must be sent back with a block, in place of an earlier one of the same name.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Protocol`] if `key` is not open.
    pub(super) fn seal(
        &mut self,
        key: BlockKey,
        name: &str,
        value: Json,
    ) -> Result<(), ModelError> {
        let block = self.open.get_mut(&key).ok_or_else(not_open)?;
        block.seal.set(name, value);
        Ok(())
    }

    /// A thought that shows nothing, but must be sent back.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Limit`] if there are too many blocks.
    pub(super) fn sealed(&mut self, seal: Object) -> Result<(), ModelError> {
        let index = self.next_index()?;
        self.events.push_back(ModelEvent::ReasoningStart { index });
        self.events.push_back(ModelEvent::ReasoningEnd { index, seal });
        Ok(())
    }

    /// Where the model read something. The same address counts once, and what is no address not at all.
    pub(super) fn source(&mut self, url: Option<String>, title: Option<String>) {
        let Some(url) = url else { return };
        let web = url.starts_with("https://") || url.starts_with("http://");
        let usable = web && url.len() <= SOURCE_BYTES_MAX && !url.chars().any(char::is_control);
        let room = self.sources.len() < SOURCES_COUNT_MAX;
        if usable && room && self.sources.insert(url.clone()) {
            self.start(None, None);
            let title = title.filter(|title| !title.is_empty() && title.len() <= SOURCE_BYTES_MAX);
            self.events.push_back(ModelEvent::Source { id: String::new(), url, title });
        }
    }

    /// A picture that the model made: a `data:` URL or an address. Anything else is left out.
    pub(super) fn image(&mut self, url: Option<String>) {
        let Some(url) = url else { return };
        let inline = url.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,"));
        let media_type = match inline {
            Some((kind, _)) if kind.starts_with("image/") => kind,
            None if url.starts_with("https://") && url.len() <= SOURCE_BYTES_MAX => "image/*",
            _ => return,
        };
        let media_type = media_type.to_owned();
        self.start(None, None);
        self.events.push_back(ModelEvent::File { media_type, url });
    }

    /// Closes a block that the provider says is whole.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Protocol`] if `key` is not open.
    pub(super) fn close(&mut self, key: BlockKey) -> Result<(), ModelError> {
        let block = self.open.remove(&key).ok_or_else(not_open)?;
        self.end_block(key.2, block, true);
        Ok(())
    }

    fn end_block(&mut self, kind: Kind, block: Block, whole: bool) {
        let Block { index, seal, mut json, half } = block;
        if half.is_some() {
            let text = char::REPLACEMENT_CHARACTER.to_string();
            self.events.push_back(match kind {
                Kind::Text => ModelEvent::TextDelta { index, text },
                Kind::Reasoning => ModelEvent::ReasoningDelta { index, text },
                Kind::Tool => {
                    json.push_str(&text);
                    ModelEvent::ToolDelta { index, json: text }
                }
            });
        }
        self.events.push_back(match kind {
            Kind::Text => ModelEvent::TextEnd { index },
            Kind::Reasoning => ModelEvent::ReasoningEnd { index, seal },
            Kind::Tool => ModelEvent::ToolEnd { index, input: input(json, whole), seal },
        });
    }

    /// Whether `text` is an object, and the same as the input of the tool call `key` as far as it came.
    pub(super) fn is_input(&self, key: BlockKey, text: &str) -> bool {
        let object = |text: &str| {
            let text = text.trim();
            let looks = text.starts_with('{') && text.ends_with('}');
            looks.then(|| Json::parse(text).ok()).flatten()
        };
        let so_far = self.open.get(&key).and_then(|block| object(&block.json));
        so_far.is_some_and(|so_far| object(text) == Some(so_far))
    }

    /// Whether the input of the tool call `key` is an object that nothing can follow, and not the `{}` that some servers
    /// begin with.
    pub(super) fn is_input_whole(&self, key: BlockKey) -> bool {
        let json = self.open.get(&key).map(|block| block.json.trim()).unwrap_or_default();
        json != "{}" && json.ends_with('}') && Json::parse(json).is_ok()
    }

    /// Closes all open blocks, oldest first. `whole`: whether the provider says that nothing is missing from them.
    pub(super) fn close_all(&mut self, whole: bool) {
        let mut open: Vec<_> = std::mem::take(&mut self.open).into_iter().collect();
        open.sort_by_key(|(_, block)| block.index);
        for (key, block) in open {
            self.end_block(key.2, block, whole);
        }
    }

    /// Tokens so far. What is absent stays as it was, and so does what is 0: servers say that for what they do not know.
    pub(super) fn usage(&mut self, tokens: Tokens) {
        let newer = |new: Option<u64>, old: u64| {
            new.filter(|count| *count > 0).map_or(old, |count| count.min(TOKENS_COUNT_MAX))
        };
        self.usage = Usage {
            input_tokens: newer(tokens.input, self.usage.input_tokens),
            output_tokens: newer(tokens.output, self.usage.output_tokens),
            cached_input_tokens: newer(tokens.cached, self.usage.cached_input_tokens),
            reasoning_tokens: newer(tokens.reasoning, self.usage.reasoning_tokens),
        };
        if tokens.input.or(tokens.output).is_some() {
            self.start(None, None);
            self.events.push_back(ModelEvent::Usage(self.usage));
        }
    }

    /// A sign of life.
    pub(super) fn ping(&mut self) {
        self.events.push_back(ModelEvent::Ping);
    }

    /// The answer is over: closes what is open. Does nothing if it is over already.
    pub(super) fn finish(&mut self, reason: FinishReason, raw: Option<String>) {
        if !std::mem::replace(&mut self.finished, true) {
            self.start(None, None);
            self.close_all(matches!(reason, FinishReason::Stop | FinishReason::ToolCalls));
            let raw = raw.filter(|raw| raw.len() <= NAME_BYTES_MAX);
            self.events.push_back(ModelEvent::Finish { reason, raw });
        }
    }
}

fn not_open() -> ModelError {
    protocol("a block that is not open was continued or closed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, whole: bool, then: Result<&str, &str>) {
        let input = input(text.to_owned(), whole);
        let seen = input.as_ref().map(Json::as_str).map_err(|bad| bad.text.as_str());
        assert_eq!(seen, then);
    }

    #[test]
    fn inputs_are_taken_as_they_are_or_not_at_all() {
        check(r#"{"a": 12345678901234567890}"#, true, Ok(r#"{"a":12345678901234567890}"#));
        check("", true, Ok("{}"));
        check("", false, Err(""));
        check(r#"{} {"a":1}"#, true, Ok(r#"{"a":1}"#));
        check("{}{}", true, Ok("{}"));
        for text in [r#"{"a":1,"b":"unfin"#, "[1]", "null", "5", "{} 1", "{'a':1}", "{\"a\":1,}"] {
            check(text, true, Err(text));
        }
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200));
        check(&deep, true, Err(&deep));
    }
}
