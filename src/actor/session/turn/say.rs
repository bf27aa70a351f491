//! From what a model says to parts of a message.

use std::collections::HashMap;

use crate::actor::session::turn::writer::Writer;
use crate::base::json::Json;
use crate::base::json::Object;
use crate::model::BadInput;
use crate::model::FinishReason;
use crate::model::ModelEvent;
use crate::model::Usage;
use crate::model::is_plain_id;

/// A tool call that the model made in this step.
#[derive(Debug)]
pub(super) struct Call {
    /// The part that shows it.
    pub part: usize,
    /// Unique in the message.
    pub id: String,
    /// What the provider calls it.
    pub theirs: String,
    pub name: String,
    /// Its input, or what is wrong with it.
    pub input: Result<Json, BadInput>,
    /// Whether its result is there already.
    pub answered: bool,
}

enum Block {
    Text(usize),
    Reasoning(usize),
    Tool { part: usize, id: String, theirs: String, name: String },
}

/// One call of the model.
#[derive(Default)]
pub(super) struct Step {
    blocks: HashMap<u32, Block>,
    data: HashMap<(String, String), usize>,
    begun: bool,
    /// The part with which this call of the model began, which keeps its tokens.
    start: Option<usize>,
    /// The calls, in order.
    pub calls: Vec<Call>,
    pub usage: Usage,
    pub finish: Option<FinishReason>,
    pub resume: Option<String>,
}

fn part(kind: &str) -> Object {
    Object::default().with("type", &kind)
}

fn named(reason: &str) -> Object {
    Object::default().with("state", &reason)
}

impl Step {
    #[expect(clippy::too_many_lines, reason = "an arm for each event")]
    /// Writes what `event` adds. Events that make no sense where they come are dropped: no provider breaks a message.
    pub(super) fn say(&mut self, event: ModelEvent, provider: &str, out: &mut Writer) {
        match event {
            ModelEvent::Start { .. } | ModelEvent::Ping => {}
            ModelEvent::TextStart { index } => {
                self.begin(out);
                let part = out.open(part("text").with("content", &"").with("state", &"running"));
                self.blocks.insert(index, Block::Text(part));
            }
            ModelEvent::TextDelta { index, text } => {
                if let Some(Block::Text(part)) = self.blocks.get(&index) {
                    out.append(*part, &text);
                }
            }
            ModelEvent::TextEnd { index } => {
                if let Some(Block::Text(part)) = self.blocks.remove(&index) {
                    out.update(part, named("complete"));
                }
            }
            ModelEvent::ReasoningStart { index } => {
                self.begin(out);
                let part = open_reasoning(out);
                self.blocks.insert(index, Block::Reasoning(part));
            }
            ModelEvent::ReasoningDelta { index, text } => {
                if let Some(Block::Reasoning(part)) = self.blocks.get(&index) {
                    out.append(*part, &text);
                }
            }
            ModelEvent::ReasoningEnd { index, seal } => {
                if let Some(Block::Reasoning(part)) = self.blocks.remove(&index) {
                    let fields = named("complete");
                    out.update(part, sealed(fields, "providerMetadata", provider, &seal));
                }
            }
            ModelEvent::RedactedReasoning { data, .. } => {
                self.begin(out);
                let part = open_reasoning(out);
                let seal = Object::default().with("redactedData", &data);
                let fields = named("complete");
                out.update(part, sealed(fields, "providerMetadata", provider, &seal));
            }
            ModelEvent::ToolStart { index, id: theirs, name } => {
                self.begin(out);
                let id = out.call_id(&theirs);
                let fields = part("tool-call")
                    .with("toolCallId", &id)
                    .with("toolName", &name)
                    .with("state", &"pending");
                let part = out.open(fields);
                self.blocks.insert(index, Block::Tool { part, id, theirs, name });
            }
            ModelEvent::ToolDelta { index, json } => {
                if let Some(Block::Tool { part, .. }) = self.blocks.get(&index) {
                    out.append(*part, &json);
                }
            }
            ModelEvent::ToolEnd { index, input, seal } => {
                self.tool_end(index, input, (provider, seal), out);
            }
            ModelEvent::ToolResult { id, output, is_error } => {
                if let Some(call) = self.calls.iter_mut().rfind(|call| call.theirs == id) {
                    call.answered = true;
                    let result = if is_error { Err(plain(&output)) } else { Ok(output) };
                    out.update(
                        call.part,
                        result_of(&call.id, result).with("providerExecuted", &true),
                    );
                }
            }
            ModelEvent::StepEnd => self.begun = false,
            ModelEvent::Data { name, id, data } => {
                self.begin(out);
                self.data(&name, id, &data, out);
            }
            ModelEvent::Source { id, url, title } => {
                self.begin(out);
                let id = if id.is_empty() { format!("source-{}", out.parts()) } else { id };
                let mut fields = part("source-url").with("sourceId", &id).with("url", &url);
                if let Some(title) = title {
                    fields = fields.with("title", &title);
                }
                out.open(fields);
            }
            ModelEvent::File { media_type, url } => {
                self.begin(out);
                out.open(part("file").with("mediaType", &media_type).with("url", &url));
            }
            ModelEvent::Usage(usage) => {
                self.usage = usage;
                if let Some(start) = self.start {
                    out.count(start, usage);
                }
            }
            ModelEvent::Resume(resume) => self.resume = Some(resume),
            ModelEvent::Finish { reason, .. } => self.finish = Some(reason),
        }
    }

    /// Whether the model said anything.
    pub(super) fn has_said(&self) -> bool {
        self.start.is_some()
    }

    /// A step is shown once there is something in it.
    fn begin(&mut self, out: &mut Writer) {
        if !self.begun {
            self.begun = true;
            let start = out.open(part("step-start"));
            if self.start.is_none() && self.usage != Usage::default() {
                out.count(start, self.usage);
            }
            self.start.get_or_insert(start);
        }
    }

    fn tool_end(
        &mut self,
        index: u32,
        input: Result<Json, BadInput>,
        (provider, seal): (&str, Object),
        out: &mut Writer,
    ) {
        let Some(Block::Tool { part, id, theirs, name }) = self.blocks.remove(&index) else {
            return;
        };
        let fields = Object::default().with("toolCallId", &id).with("toolName", &name);
        // Its own strange names go back to the provider that made them, and to nobody else.
        let seal = if is_plain_id(&theirs) { seal } else { seal.with("callId", &theirs) };
        let fields = sealed(fields, "callProviderMetadata", provider, &seal);
        match &input {
            Ok(json) => out.update(part, fields.with("toolInput", json).with("state", &"running")),
            Err(bad) => {
                let error = format!("the input is not JSON: {}", bad.problem);
                let fields = fields.with("toolInput", &bad.text).with("state", &"error");
                out.update(part, fields.with("errorText", &error));
            }
        }
        let answered = input.is_err();
        self.calls.push(Call { part, id, theirs, name, input, answered });
    }

    fn data(&mut self, name: &str, id: Option<String>, data: &Json, out: &mut Writer) {
        let kind = format!("data-{name}");
        if let Some(id) = id {
            let fields = part(&kind).with("id", &id).with("data", data);
            match self.data.get(&(kind.clone(), id.clone())) {
                Some(part) => out.update(*part, fields),
                None => {
                    let part = out.open(fields);
                    self.data.insert((kind, id), part);
                }
            }
        } else {
            out.open(part(&kind).with("data", data));
        }
    }
}

fn open_reasoning(out: &mut Writer) -> usize {
    let id = format!("r{}", out.parts());
    out.open(part("reasoning").with("id", &id).with("content", &"").with("state", &"running"))
}

/// `fields` with what only `provider` reads.
fn sealed(fields: Object, key: &str, provider: &str, seal: &Object) -> Object {
    if seal.is_empty() {
        return fields;
    }
    fields.with(key, &Object::default().with(provider, seal))
}

fn plain(output: &Json) -> String {
    output.as_string().unwrap_or_else(|| output.as_str().to_owned())
}

/// The members that a result gives a call.
pub(super) fn result_of(call_id: &str, result: Result<Json, String>) -> Object {
    let fields = Object::default().with("toolCallId", &call_id);
    match result {
        Ok(output) => fields.with("toolOutput", &output).with("state", &"complete"),
        Err(error) => fields.with("errorText", &error).with("state", &"error"),
    }
}
