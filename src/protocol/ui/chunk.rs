//! The chunks of a UI message stream: the ones that every release since 5.0 takes, and no field beyond.

use crate::base::json::Json;
use crate::base::json::Object;

/// A chunk.
#[derive(Clone, Debug, PartialEq)]
pub enum Chunk {
    /// The message begins.
    Start {
        /// Its id.
        message_id: String,
        /// What the client learns of it beside its text.
        metadata: Option<Json>,
    },
    /// A call of the model begins.
    StartStep,
    /// It is over.
    FinishStep,
    /// A text begins.
    TextStart {
        /// Names it while it is open.
        id: String,
    },
    /// A text grows.
    TextDelta {
        /// Which.
        id: String,
        /// What is added.
        delta: String,
    },
    /// A text is whole.
    TextEnd {
        /// Which.
        id: String,
    },
    /// A thought begins.
    ReasoningStart {
        /// Names it; the client keeps it.
        id: String,
    },
    /// A thought grows.
    ReasoningDelta {
        /// Which.
        id: String,
        /// What is added.
        delta: String,
    },
    /// A thought is whole.
    ReasoningEnd {
        /// Which.
        id: String,
        /// The seals of the provider.
        metadata: Option<Json>,
    },
    /// A tool call begins.
    ToolInputStart {
        /// The call.
        id: String,
        /// The tool.
        name: String,
    },
    /// Its input grows.
    ToolInputDelta {
        /// The call.
        id: String,
        /// What is added to the text of its JSON.
        delta: String,
    },
    /// Its input is whole.
    ToolInputAvailable {
        /// The call.
        id: String,
        /// The tool.
        name: String,
        /// The input.
        input: Json,
        /// Whether the provider runs it.
        provider_executed: bool,
        /// What only the provider reads.
        metadata: Option<Json>,
    },
    /// Its input cannot be used.
    ToolInputError {
        /// The call.
        id: String,
        /// The tool.
        name: String,
        /// The input as it came.
        input: Json,
        /// What is wrong.
        error: String,
    },
    /// Somebody must allow it.
    ToolApprovalRequest {
        /// The call.
        id: String,
        /// Names the answer.
        approval_id: String,
    },
    /// Its result.
    ToolOutputAvailable {
        /// The call.
        id: String,
        /// The result.
        output: Json,
        /// Whether the provider ran it.
        provider_executed: bool,
    },
    /// It failed.
    ToolOutputError {
        /// The call.
        id: String,
        /// Why.
        error: String,
        /// Whether the provider ran it.
        provider_executed: bool,
    },
    /// It was refused.
    ToolOutputDenied {
        /// The call.
        id: String,
    },
    /// A part that is shown as it is: data, a source, a file.
    Part(Object),
    /// What the client learns of the message beside its text.
    Metadata(Json),
    /// The answer broke.
    Error {
        /// Why, for people.
        text: String,
    },
    /// The answer was stopped.
    Abort {
        /// Why.
        reason: &'static str,
    },
    /// The answer is over.
    Finish {
        /// Why.
        reason: String,
        /// What the client learns of it beside its text.
        metadata: Option<Json>,
    },
}

fn of(kind: &str) -> Object {
    Object::default().with("type", &kind)
}

fn with(object: Object, key: &str, value: Option<&Json>) -> Object {
    match value {
        Some(value) => object.with(key, value),
        None => object,
    }
}

fn executed(object: Object, by_provider: bool) -> Object {
    if by_provider { object.with("providerExecuted", &true) } else { object }
}

impl Chunk {
    /// The chunk as JSON. Absent values are left out: `null` breaks every client.
    #[must_use]
    pub fn json(&self) -> Json {
        self.object().to_json()
    }

    fn object(&self) -> Object {
        let call = |kind: &str, id: &String| of(kind).with("toolCallId", id);
        match self {
            Self::Start { message_id, metadata } => with(
                of("start").with("messageId", message_id),
                "messageMetadata",
                metadata.as_ref(),
            ),
            Self::StartStep => of("start-step"),
            Self::FinishStep => of("finish-step"),
            Self::TextStart { id } => of("text-start").with("id", id),
            Self::TextDelta { id, delta } => of("text-delta").with("id", id).with("delta", delta),
            Self::TextEnd { id } => of("text-end").with("id", id),
            Self::ReasoningStart { id } => of("reasoning-start").with("id", id),
            Self::ReasoningDelta { id, delta } => {
                of("reasoning-delta").with("id", id).with("delta", delta)
            }
            Self::ReasoningEnd { id, metadata } => {
                with(of("reasoning-end").with("id", id), "providerMetadata", metadata.as_ref())
            }
            Self::ToolInputStart { id, name } => {
                call("tool-input-start", id).with("toolName", name)
            }
            Self::ToolInputDelta { id, delta } => {
                call("tool-input-delta", id).with("inputTextDelta", delta)
            }
            Self::ToolInputAvailable { id, name, input, provider_executed, metadata } => {
                let chunk = call("tool-input-available", id).with("toolName", name);
                let chunk = executed(chunk.with("input", input), *provider_executed);
                with(chunk, "providerMetadata", metadata.as_ref())
            }
            Self::ToolInputError { id, name, input, error } => call("tool-input-error", id)
                .with("toolName", name)
                .with("input", input)
                .with("errorText", error),
            Self::ToolApprovalRequest { id, approval_id } => {
                of("tool-approval-request").with("approvalId", approval_id).with("toolCallId", id)
            }
            Self::ToolOutputAvailable { id, output, provider_executed } => executed(
                call("tool-output-available", id).with("output", output),
                *provider_executed,
            ),
            Self::ToolOutputError { id, error, provider_executed } => {
                executed(call("tool-output-error", id).with("errorText", error), *provider_executed)
            }
            Self::ToolOutputDenied { id } => call("tool-output-denied", id),
            Self::Part(part) => part.clone(),
            Self::Metadata(metadata) => of("message-metadata").with("messageMetadata", metadata),
            Self::Error { text } => of("error").with("errorText", text),
            Self::Abort { reason } => of("abort").with("reason", reason),
            Self::Finish { reason, metadata } => with(
                of("finish").with("finishReason", reason),
                "messageMetadata",
                metadata.as_ref(),
            ),
        }
    }
}
