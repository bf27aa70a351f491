//! The parts of the messages that make up an answer: what of each was told, and what is new.

use std::collections::HashMap;
use std::collections::HashSet;

use serde_json::value::RawValue;

use super::event::Part;
use super::event::ToolState;
use crate::base::json::Json;
use crate::base::json::Object;
use crate::model::ModelEvent;
use crate::model::loose::Loose;

/// What was told of a part.
enum Told {
    /// A text or, with `thought`, a thought; `None` when its end was told.
    Text { index: u32, thought: bool, text: Option<String>, half: Option<u16> },
    /// A call of a tool.
    Tool { index: u32, id: String, called: bool, answered: bool },
}

/// All parts of an answer so far, by id.
#[derive(Default)]
pub(super) struct Parts {
    told: HashMap<String, Told>,
    /// Ids of calls; some models use one again in a later step.
    calls: HashSet<String>,
    next: u32,
}

impl Parts {
    /// A part as a whole, new or changed.
    pub(super) fn update(&mut self, part: Part, out: &mut Vec<ModelEvent>) {
        let Part { id, kind, text, time, call, tool, state, .. } = part;
        match kind.as_str() {
            "text" | "reasoning" => {
                let thought = kind == "reasoning";
                let text = text.unwrap_or_default().join(&mut None);
                self.text(&id, thought, &text, out);
                if time.is_some_and(|time| time.end.is_some()) {
                    self.end(&id, out);
                }
            }
            "tool" => {
                if let Some(state) = state {
                    let call = call.unwrap_or_else(|| id.clone());
                    self.tool(id, call, tool.unwrap_or_default(), state, out);
                }
            }
            _ => {}
        }
    }

    /// A text or thought grows. Parts that never began, or were closed, say nothing.
    pub(super) fn grow(&mut self, id: &str, delta: Loose, out: &mut Vec<ModelEvent>) {
        if let Some(Told::Text { index, thought, text: Some(text), half }) = self.told.get_mut(id) {
            let delta = delta.join(half);
            if delta.is_empty() {
                return;
            }
            text.push_str(&delta);
            let (index, text) = (*index, delta);
            out.push(if *thought {
                ModelEvent::ReasoningDelta { index, text }
            } else {
                ModelEvent::TextDelta { index, text }
            });
        }
    }

    /// Closes all texts and thoughts that are open.
    pub(super) fn close(&mut self, out: &mut Vec<ModelEvent>) {
        let open = |told: &Told| match told {
            Told::Text { index, text: Some(_), .. } => Some(*index),
            _ => None,
        };
        let mut ids: Vec<_> =
            self.told.iter().filter_map(|(id, told)| Some((open(told)?, id.clone()))).collect();
        ids.sort_unstable();
        ids.into_iter().for_each(|(_, id)| self.end(&id, out));
    }

    /// Whether a tool was called and has not answered.
    pub(super) fn waits_for_tool(&self) -> bool {
        let waits = |told: &Told| matches!(told, Told::Tool { called: true, answered: false, .. });
        self.told.values().any(waits)
    }

    fn index(&mut self) -> u32 {
        self.next += 1;
        self.next - 1
    }

    fn text(&mut self, id: &str, thought: bool, text: &str, out: &mut Vec<ModelEvent>) {
        if !self.told.contains_key(id) {
            let index = self.index();
            out.push(if thought {
                ModelEvent::ReasoningStart { index }
            } else {
                ModelEvent::TextStart { index }
            });
            let told = Told::Text { index, thought, text: Some(String::new()), half: None };
            self.told.insert(id.to_owned(), told);
        }
        // What was told cannot be taken back: a text that begins otherwise now stays as it was told.
        if let Some(Told::Text { text: Some(told), .. }) = self.told.get(id)
            && let Some(more) = text.strip_prefix(told.as_str()).map(str::to_owned)
        {
            self.grow(id, more.into(), out);
        }
    }

    fn end(&mut self, id: &str, out: &mut Vec<ModelEvent>) {
        if let Some(Told::Text { index, thought, text: text @ Some(_), .. }) = self.told.get_mut(id)
        {
            *text = None;
            let index = *index;
            out.push(if *thought {
                ModelEvent::ReasoningEnd { index, seal: Object::default() }
            } else {
                ModelEvent::TextEnd { index }
            });
        }
    }

    fn tool(
        &mut self,
        part: String,
        call: String,
        name: String,
        state: ToolState,
        out: &mut Vec<ModelEvent>,
    ) {
        if !self.told.contains_key(&part) {
            let index = self.index();
            let id = if self.calls.insert(call.clone()) { call } else { format!("{call}.{part}") };
            out.push(ModelEvent::ToolStart { index, id: id.clone(), name });
            let told = Told::Tool { index, id, called: false, answered: false };
            self.told.insert(part.clone(), told);
        }
        let Some(Told::Tool { index, id, called, answered }) = self.told.get_mut(&part) else {
            return;
        };
        if state.status == "pending" {
            return;
        }
        if !*called {
            *called = true;
            let input = state.input.as_deref().map_or_else(Json::default, value);
            let json = input.as_str().to_owned();
            out.push(ModelEvent::ToolDelta { index: *index, json });
            let (index, seal) = (*index, Object::default());
            out.push(ModelEvent::ToolEnd { index, input: Ok(input), seal });
        }
        let (output, is_error) = match state.status.as_str() {
            "completed" => (state.output, false),
            "error" => (state.error, true),
            _ => return,
        };
        if !*answered {
            *answered = true;
            let output = output.as_deref().map_or_else(Json::default, value);
            out.push(ModelEvent::ToolResult { id: id.clone(), output, is_error });
        }
    }
}

/// Any value as JSON; one that is nested too deep becomes its text.
fn value(raw: &RawValue) -> Json {
    Json::parse(raw.get()).or_else(|_| Json::of(&raw.get())).unwrap_or_default()
}
