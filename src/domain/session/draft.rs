//! The message that a turn is writing: its parts as far as they are.

use crate::base::json::Json;
use crate::base::json::Object;
use crate::domain::session::Counted;
use crate::domain::session::Part;

/// A message that grows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Draft {
    /// The message.
    pub message_id: String,
    /// Seq of the event that began it.
    pub message_seq: u64,
    /// Its parts.
    pub parts: Vec<Growing>,
}

/// A part that grows: its members, and its text apart, so that text is added without writing the rest again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Growing {
    members: Object,
    text: String,
    /// Whether it changed since it was last asked.
    dirty: bool,
}

/// The member of a part that text is added to: the input of a tool call grows as the text of its JSON.
fn growing_member(members: &Object) -> &'static str {
    if is_tool(members) { "inputText" } else { "content" }
}

fn is_tool(members: &Object) -> bool {
    members.get("type").is_some_and(|name| name.as_str() == "\"tool-call\"")
}

impl Growing {
    /// The part as it was stored.
    #[must_use]
    pub fn stored(part: &Part) -> Self {
        let mut members = Object::read(part.json()).unwrap_or_default();
        let text = members.text(growing_member(&members)).unwrap_or_default();
        if is_tool(&members) {
            members.remove("inputText");
        }
        Self { members, text, dirty: false }
    }

    fn begin(fields: &Object) -> Self {
        let mut part = Self::default();
        part.update(fields);
        part
    }

    /// Gives members new values.
    pub fn update(&mut self, fields: &Object) {
        self.members.merge(fields);
        let member = growing_member(&self.members);
        if let Some(text) = fields.text(member) {
            self.text = text;
        }
        if is_tool(&self.members) {
            self.members.remove("inputText");
            if fields.get("toolInput").is_some() {
                self.text.clear();
            }
        }
        self.dirty = true;
    }

    /// Adds text.
    pub fn append(&mut self, delta: &str) {
        self.text.push_str(delta);
        self.dirty = true;
    }

    /// Its text so far.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// A member of it as text.
    #[must_use]
    pub fn member(&self, key: &str) -> Option<String> {
        self.members.text(key)
    }

    /// The tokens that it keeps.
    #[must_use]
    pub fn counted(&self) -> Option<Counted> {
        serde_json::from_str(self.members.get("usage")?.as_str()).ok()
    }

    /// Its `type`.
    #[must_use]
    pub fn kind(&self) -> String {
        self.members.text("type").unwrap_or_default()
    }

    /// Whether text may still be added.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.members.get("state").map(Json::as_str), Some("\"running\"" | "\"pending\""))
    }

    /// It as it is now.
    #[must_use]
    pub fn part(&self) -> Part {
        let mut members = self.members.clone();
        match growing_member(&members) {
            "content" if members.get("content").is_some() => {
                members.set("content", Json::string(&self.text));
            }
            "inputText" if !self.text.is_empty() => {
                members.set("inputText", Json::string(&self.text));
            }
            _ => {}
        }
        Part::of(&members)
    }

    /// Whether it changed since this was last asked.
    pub fn take_dirty(&mut self) -> bool {
        std::mem::take(&mut self.dirty)
    }
}

impl Draft {
    /// A message that begins.
    #[must_use]
    pub fn new(message_id: String, message_seq: u64) -> Self {
        Self { message_id, message_seq, parts: Vec::new() }
    }

    /// Gives members of part `at` new values; the part is made if it is the next one.
    pub fn update(&mut self, at: usize, fields: &Object) {
        match self.parts.get_mut(at) {
            Some(part) => part.update(fields),
            None => self.parts.push(Growing::begin(fields)),
        }
    }

    /// Adds text to part `at`.
    pub fn append(&mut self, at: usize, delta: &str) {
        if let Some(part) = self.parts.get_mut(at) {
            part.append(delta);
        }
    }

    /// The parts as they are now.
    #[must_use]
    pub fn parts(&self) -> Vec<Part> {
        self.parts.iter().map(Growing::part).collect()
    }

    /// All that is said in it, a line break between texts.
    #[must_use]
    pub fn content(&self) -> String {
        let texts = self.parts.iter().filter(|part| part.kind() == "text").map(Growing::text);
        texts.collect::<Vec<_>>().join("\n")
    }
}
