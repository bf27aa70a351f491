//! From the events and messages of an OpenCode server to events of an answer: no network, no clock.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::event::Broken;
use super::event::Created;
use super::event::Event;
use super::event::Failure;
use super::event::Head;
use super::event::Info;
use super::event::MessageUpdated;
use super::event::Part;
use super::event::PartDelta;
use super::event::PartUpdated;
use super::event::StatusChanged;
use super::event::Stored;
use super::event::Tokens;
use super::failure;
use super::parts::Parts;
use crate::model::FinishReason;
use crate::model::ModelError;
use crate::model::ModelEvent;
use crate::model::Usage;

/// What an event asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// An answer to a permission request.
    Permission(String),
    /// An answer to a question.
    Question(String),
    /// The model failed and is asked again, for this time.
    Retry(u32, String),
    /// The session rests. What was missed can be fetched, and then [`Mapper::verdict`] knows the end.
    Idle,
    /// The session was deleted.
    Gone,
}

/// One of the messages that make up the answer: a call of the model.
struct Call {
    id: String,
    tokens: Tokens,
    over: bool,
    finish: Option<String>,
    failure: Option<Failure>,
}

/// Reads one answer.
///
/// Each call of the model is a message of its own; all that answer to a prompt which was not there before make one
/// answer, a step each. Events may come twice, be missing, or be replaced by what a later fetch says.
pub(super) struct Mapper {
    session: String,
    /// Prompts from before this answer.
    known: HashSet<String>,
    /// Sessions that the agent started for parts of its work; they may ask for permissions too.
    family: HashSet<String>,
    asked: bool,
    calls: Vec<Call>,
    parts: Parts,
    usage: Usage,
    failure: Option<Failure>,
}

impl Mapper {
    /// Reads the answer to the next prompt of `session`, in which the prompts `known` came before.
    pub(super) fn new(session: &str, known: HashSet<String>) -> Self {
        Self {
            session: session.to_owned(),
            known,
            family: HashSet::new(),
            asked: false,
            calls: Vec::new(),
            parts: Parts::default(),
            usage: Usage::default(),
            failure: None,
        }
    }

    /// The ids of the prompts in a list of messages.
    pub(super) fn prompts(messages: &str) -> HashSet<String> {
        let stored = stored(messages).into_iter();
        stored.filter(|item| item.info.role == "user").map(|item| item.info.id).collect()
    }

    /// Reads an event of the bus and appends what it says to `out`. Events of other sessions say nothing.
    pub(super) fn event(&mut self, text: &str, out: &mut Vec<ModelEvent>) -> Option<Notice> {
        let event: Event = read(text)?;
        let properties = event.properties.as_deref().map_or("{}", RawValue::get);
        let head: Head = read(properties).unwrap_or_default();
        if event.kind == "session.created" {
            let info = read::<Created>(properties)?.info;
            if info.parent.is_some_and(|parent| self.is_ours(&parent)) {
                self.family.insert(info.id);
            }
            return None;
        }
        let session = head.session?;
        match event.kind.as_str() {
            "permission.asked" if self.is_ours(&session) => return head.id.map(Notice::Permission),
            "question.asked" if self.is_ours(&session) => return head.id.map(Notice::Question),
            _ if session != self.session => return None,
            "message.updated" => self.info(read::<MessageUpdated>(properties)?.info, out),
            "message.part.updated" => self.part(read::<PartUpdated>(properties)?.part, out),
            "message.part.delta" => {
                let grown = read::<PartDelta>(properties)?;
                if grown.field == "text" {
                    self.parts.grow(&grown.part, grown.delta, out);
                }
            }
            "session.error" => {
                let failure = read::<Broken>(properties)?.error?;
                // The end of an answer that was given up before may arrive late.
                if self.asked || failure.name != failure::ABORTED {
                    self.failure = Some(failure);
                }
            }
            "session.status" => {
                let status = read::<StatusChanged>(properties)?.status;
                match status.kind.as_str() {
                    "idle" => return self.idle(),
                    "retry" => {
                        out.push(ModelEvent::Ping);
                        let message = status.message.unwrap_or_default();
                        return Some(Notice::Retry(status.attempt.unwrap_or_default(), message));
                    }
                    _ => {}
                }
            }
            "session.idle" => return self.idle(),
            "session.deleted" => return Some(Notice::Gone),
            _ => {}
        }
        None
    }

    /// Reads the session's latest messages, and appends to `out` what the events did not say.
    pub(super) fn messages(&mut self, text: &str, out: &mut Vec<ModelEvent>) {
        for item in stored(text) {
            self.info(item.info, out);
            for part in item.parts.iter().flatten().filter_map(|part| read(part.get())) {
                self.part(part, out);
            }
        }
    }

    /// Whether a tool of the agent is at work, so that silence means nothing.
    pub(super) fn waits_for_tool(&self) -> bool {
        self.parts.waits_for_tool()
    }

    /// Whether the session is ours, or one that ours started.
    pub(super) fn is_ours(&self, session: &str) -> bool {
        session == self.session || self.family.contains(session)
    }

    /// How the answer ended, once the session rests; `None` while its last message is not whole.
    pub(super) fn verdict(&self) -> Option<Result<(FinishReason, Option<String>), ModelError>> {
        let Some(last) = self.calls.last() else {
            return self.failure.as_ref().map(failure::verdict);
        };
        if let Some(failure) = &last.failure {
            return Some(failure::verdict(failure));
        }
        if !last.over {
            return None;
        }
        let reason = match last.finish.as_deref() {
            None | Some("stop") => FinishReason::Stop,
            Some("length") => FinishReason::Length,
            Some("content-filter") => FinishReason::ContentFilter,
            // Its tools were refused; nobody else can run them, so it does not wait.
            Some(_) => FinishReason::Other,
        };
        Some(Ok((reason, last.finish.clone())))
    }

    /// Closes all that is open.
    pub(super) fn close(&mut self, out: &mut Vec<ModelEvent>) {
        self.parts.close(out);
    }

    fn idle(&self) -> Option<Notice> {
        // Until the prompt took effect it is the rest of an earlier answer.
        (!self.calls.is_empty() || self.failure.is_some()).then_some(Notice::Idle)
    }

    fn info(&mut self, info: Info, out: &mut Vec<ModelEvent>) {
        if info.role == "user" {
            self.asked |= !self.known.contains(&info.id);
            return;
        }
        let own_summary = info.summary.as_deref().is_some_and(|summary| summary.get() == "true");
        let ours = info.parent.as_ref().is_some_and(|parent| !self.known.contains(parent));
        if info.role != "assistant" || !ours || own_summary {
            return;
        }
        self.asked = true;
        if !self.calls.iter().any(|call| call.id == info.id) {
            if self.calls.is_empty() {
                let (id, model) = (Some(info.id.clone()), info.model.clone());
                out.push(ModelEvent::Start { id, model });
            } else {
                self.parts.close(out);
                out.push(ModelEvent::StepEnd);
            }
            self.calls.push(Call {
                id: info.id.clone(),
                tokens: Tokens::default(),
                over: false,
                finish: None,
                failure: None,
            });
        }
        let Some(call) = self.calls.iter_mut().find(|call| call.id == info.id) else { return };
        call.tokens = info.tokens.unwrap_or(call.tokens);
        call.over |= info.time.is_some_and(|time| time.completed.is_some());
        call.finish = info.finish.or_else(|| call.finish.take());
        call.failure = info.error.or_else(|| call.failure.take());
        let usage = self.calls.iter().map(|call| usage(call.tokens)).fold(Usage::default(), sum);
        if usage != self.usage {
            self.usage = usage;
            out.push(ModelEvent::Usage(usage));
        }
    }

    fn part(&mut self, part: Part, out: &mut Vec<ModelEvent>) {
        if self.calls.iter().any(|call| call.id == part.message) {
            self.parts.update(part, out);
        }
    }
}

fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Option<T> {
    serde_json::from_str(text).ok()
}

fn stored(messages: &str) -> Vec<Stored> {
    let items: Vec<&RawValue> = read(messages).unwrap_or_default();
    items.into_iter().filter_map(|item| read(item.get())).collect()
}

fn usage(tokens: Tokens) -> Usage {
    let cache = tokens.cache.unwrap_or_default();
    let (cached, thoughts) = (count(cache.read), count(tokens.reasoning));
    let fresh = count(tokens.input).saturating_add(count(cache.write));
    Usage {
        input_tokens: fresh.saturating_add(cached),
        output_tokens: count(tokens.output).saturating_add(thoughts),
        cached_input_tokens: cached,
        reasoning_tokens: thoughts,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast from float to integer saturates, and NaN becomes 0"
)]
fn count(number: Option<f64>) -> u64 {
    number.unwrap_or_default() as u64
}

fn sum(a: Usage, b: Usage) -> Usage {
    Usage {
        input_tokens: a.input_tokens.saturating_add(b.input_tokens),
        output_tokens: a.output_tokens.saturating_add(b.output_tokens),
        cached_input_tokens: a.cached_input_tokens.saturating_add(b.cached_input_tokens),
        reasoning_tokens: a.reasoning_tokens.saturating_add(b.reasoning_tokens),
    }
}
