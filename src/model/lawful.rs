//! A conversation as every provider takes it, whatever happened in it: each provider refuses a request whose conversation is
//! out of order, and would refuse every later one of the session as well.

use std::collections::HashSet;

use crate::base::ids;
use crate::base::json::Json;
use crate::model::Content;
use crate::model::ModelMessage;
use crate::model::ModelRequest;
use crate::model::Speaker;
use crate::model::ToolSpec;
use crate::model::file::Readable;
use crate::model::file::result;
use crate::model::file::unreadable;
use crate::model::schema;
use crate::model::sealed;

/// How long ids are that are made here: the only length that one of the providers takes.
const ID_CHARS: usize = 9;
/// What the user said before an answer that nobody asked for: a conversation begins with the user.
const OPENING: &str = "(The conversation begins with an answer.)";
/// What the user says if nothing else is left to answer.
const CONTINUE: &str = "Please continue.";

/// Whether a dialect takes an id of a call that somebody else made.
pub(super) type TakesId = fn(&str) -> bool;

/// Whether every provider but the strangest takes `id` as the id of a call.
#[must_use]
pub fn is_plain_id(id: &str) -> bool {
    is_plain(id, 40)
}

/// Up to `chars_max` letters, digits, `_` and `-`.
pub(super) fn is_plain(id: &str, chars_max: usize) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    !id.is_empty() && id.len() <= chars_max && id.bytes().all(plain)
}

/// The conversation of `request` so that, apart from what the application says: the user begins and ends it; user and
/// assistant take turns; nothing is empty; every call has a result, which the next message begins with, in the order of the
/// calls; no result is without its call; ids of calls are unique and such as the dialect takes, or as the provider that is
/// asked made them itself; thoughts have a seal, and something of the answer behind them.
///
/// What the application says in between stays there if the dialect takes it anywhere (`system_anywhere`); otherwise it is
/// left out, for [`system`].
pub(super) fn messages(
    request: &ModelRequest,
    takes_id: TakesId,
    system_anywhere: bool,
) -> Vec<ModelMessage> {
    let mut paired = Vec::new();
    let mut names = Names { takes_id, taken: HashSet::new() };
    let mut rest = request.messages.as_slice();
    while let Some((message, behind)) = rest.split_first() {
        rest = behind;
        match message.speaker {
            Speaker::System if system_anywhere => {
                push(&mut paired, Speaker::System, texts(message));
            }
            Speaker::System => {}
            Speaker::User => push(&mut paired, Speaker::User, said(message)),
            Speaker::Assistant => {
                let next = rest.iter().position(|message| message.speaker == Speaker::Assistant);
                let until = &rest[..next.unwrap_or(rest.len())];
                let (answer, results) = exchange(message, until, &request.model, &mut names);
                push(&mut paired, Speaker::Assistant, answer);
                push(&mut paired, Speaker::User, results);
            }
        }
    }
    joined(paired)
}

/// `request` with a sentence in the place of every picture and document; `None` if there are none.
pub(super) fn without_files(request: &ModelRequest) -> Option<ModelRequest> {
    let may_be_one = |content: &Content| match content {
        Content::File { .. } => true,
        Content::ToolResult { output, .. } => output.as_str().starts_with('['),
        Content::Text(_) | Content::Reasoning { .. } | Content::ToolCall { .. } => false,
    };
    if !request.messages.iter().flat_map(|message| &message.content).any(may_be_one) {
        return None;
    }
    let mut plain = request.clone();
    let mut any = false;
    for content in plain.messages.iter_mut().flat_map(|message| &mut message.content) {
        match content {
            Content::File { media_type, url, name } => {
                if !matches!(Readable::of(media_type, url, name.as_deref()), Readable::Text(_)) {
                    any = true;
                    *content = Content::Text(unreadable(media_type, name.as_deref()));
                }
            }
            Content::ToolResult { output, .. } => {
                let (text, images) = result(output);
                if !images.is_empty() {
                    any = true;
                    *output = Json::string(&format!("{text}\n{}", unreadable("image", None)));
                }
            }
            Content::Text(_) | Content::Reasoning { .. } | Content::ToolCall { .. } => {}
        }
    }
    any.then_some(plain)
}

/// Where the last message is in which a user says something: what is behind it belongs to the answer that is being made.
pub(super) fn last_question(messages: &[ModelMessage]) -> usize {
    let asks = |message: &ModelMessage| {
        let mut content = message.content.iter();
        message.speaker == Speaker::User
            && content.any(|content| !matches!(content, Content::ToolResult { .. }))
    };
    messages.iter().rposition(asks).unwrap_or(0)
}

/// What the application says, at the beginning and in between, as one text.
pub(super) fn system(request: &ModelRequest) -> Option<String> {
    let between = request.messages.iter().filter(|message| message.speaker == Speaker::System);
    let between =
        between.flat_map(|message| &message.content).filter_map(|content| match content {
            Content::Text(text) => Some(text.as_str()),
            _ => None,
        });
    let all = request.system.as_deref().into_iter().chain(between);
    let all: Vec<&str> = all.filter(|text| !text.trim().is_empty()).collect();
    (!all.is_empty()).then(|| all.join("\n\n"))
}

fn push(out: &mut Vec<ModelMessage>, speaker: Speaker, content: Vec<Content>) {
    if !content.is_empty() {
        out.push(ModelMessage { speaker, content });
    }
}

fn is_blank(content: &Content) -> bool {
    matches!(content, Content::Text(text) if text.trim().is_empty())
}

fn texts(message: &ModelMessage) -> Vec<Content> {
    let text = |content: &&Content| matches!(content, Content::Text(_)) && !is_blank(content);
    message.content.iter().filter(text).cloned().collect()
}

/// What a user said; results of calls are found from their calls.
fn said(message: &ModelMessage) -> Vec<Content> {
    let said = |content: &&Content| match content {
        Content::Text(_) => !is_blank(content),
        Content::File { .. } => true,
        Content::Reasoning { .. } | Content::ToolCall { .. } | Content::ToolResult { .. } => false,
    };
    message.content.iter().filter(said).cloned().collect()
}

/// An answer, and the results of its calls, which are looked for in the messages up to the next answer. Calls without a
/// result are left out, and seals that are not for `model`.
fn exchange(
    answer: &ModelMessage,
    behind: &[ModelMessage],
    model: &str,
    names: &mut Names,
) -> (Vec<Content>, Vec<Content>) {
    let mut found: Vec<&Content> = behind
        .iter()
        .filter(|message| message.speaker == Speaker::User)
        .flat_map(|message| &message.content)
        .filter(|content| matches!(content, Content::ToolResult { .. }))
        .collect();
    let (mut told, mut results) = (Vec::new(), Vec::new());
    for content in &answer.content {
        match content {
            Content::Text(_) if !is_blank(content) => told.push(content.clone()),
            Content::Reasoning { seal: Some(seal), .. } if sealed::is_of(seal, model) => {
                told.push(content.clone());
            }
            Content::ToolCall { id, name, input, seal } => {
                let is_its = |result: &&Content| matches!(result, Content::ToolResult { id: of, .. } if of == id);
                let Some(at) = found.iter().position(is_its) else { continue };
                let Content::ToolResult { output, is_error, .. } = found.remove(at) else {
                    continue;
                };
                let seal = Some(seal).filter(|seal| sealed::is_of(seal, model));
                let seal = seal.cloned().unwrap_or_default();
                let id = names.of(id, seal.text("callId"));
                let (name, input) =
                    (ToolSpec::plain_name(name), input.mended().unwrap_or_else(|| input.clone()));
                let (output, is_error) = (output.clone(), *is_error);
                told.push(Content::ToolCall { id: id.clone(), name: name.clone(), input, seal });
                results.push(Content::ToolResult { id, name, output, is_error });
            }
            _ => {}
        }
    }
    while let Some(Content::Reasoning { .. }) = told.last() {
        told.pop();
    }
    (told, results)
}

/// Neighbours of one side as one message, and a user at both ends.
fn joined(messages: Vec<ModelMessage>) -> Vec<ModelMessage> {
    let user = |text: &str| ModelMessage {
        speaker: Speaker::User,
        content: vec![Content::Text(text.to_owned())],
    };
    let mut out: Vec<ModelMessage> = Vec::new();
    for message in messages {
        let begun = out.iter().any(|earlier| earlier.speaker != Speaker::System);
        match out.last_mut() {
            Some(last) if last.speaker == message.speaker => last.content.extend(message.content),
            _ if !begun && message.speaker == Speaker::Assistant => {
                out.extend([user(OPENING), message]);
            }
            _ => out.push(message),
        }
    }
    let last = out.iter().rfind(|last| last.speaker != Speaker::System);
    if last.is_none_or(|last| last.speaker == Speaker::Assistant) {
        out.push(user(CONTINUE));
    }
    out
}

/// The ids of the calls of a conversation.
struct Names {
    takes_id: TakesId,
    taken: HashSet<String>,
}

impl Names {
    /// What the call `id` is called: as its provider made it if that is the one who is asked (`own`), otherwise in a way that
    /// the dialect takes; never as another call.
    fn of(&mut self, id: &str, own: Option<String>) -> String {
        let kept = own.or_else(|| (self.takes_id)(id).then(|| id.to_owned()));
        let mut candidate = kept.unwrap_or_else(|| short(id, 0));
        let mut count = 0;
        while !self.taken.insert(candidate.clone()) {
            count += 1;
            candidate = short(id, count);
        }
        candidate
    }
}

fn short(id: &str, count: u64) -> String {
    let hash = ids::derived(&["call", id, &count.to_string()]);
    hash.chars().filter(char::is_ascii_alphanumeric).take(ID_CHARS).collect()
}

/// What a provider demands of tools, beyond what all do.
#[derive(Clone, Copy)]
pub(super) struct ToolRules {
    /// Longest description.
    pub(super) description_chars: usize,
    /// Whether the names of the fields of an input are plain: letters, digits, `_`, `.` and `-`, 64 at most.
    pub(super) plain_fields: bool,
}

impl ToolRules {
    /// Those of whoever speaks like OpenAI, which takes short descriptions only (`is_vendor`). A router passes tools on to
    /// whom the `model` belongs.
    pub(super) fn of_openai(is_vendor: bool, model: &str) -> Self {
        let description_chars = if is_vendor { 1_024 } else { usize::MAX };
        Self { description_chars, plain_fields: model.contains("claude") }
    }
}

/// The tools of `request` as its provider takes them: not too many, names of the usual characters, each once, and a schema that
/// is an object with properties.
pub(super) fn tools(request: &ModelRequest, rules: ToolRules) -> Vec<ToolSpec> {
    let mut names = HashSet::new();
    let usable = request.tools.iter().filter(|tool| {
        let plain = ToolSpec::is_name(&tool.name);
        if !plain {
            tracing::warn!(
                "the tool {:?} is not offered: use letters, digits, `_` and `-`",
                tool.name
            );
        }
        plain && names.insert(tool.name.as_str())
    });
    let mut tools: Vec<ToolSpec> = usable
        .map(|tool| ToolSpec {
            name: tool.name.clone(),
            description: tool.description.chars().take(rules.description_chars).collect(),
            schema: schema::lawful(&tool.schema, rules.plain_fields),
        })
        .collect();
    if let Some(surplus) = tools.get(ToolSpec::COUNT_MAX..).filter(|surplus| !surplus.is_empty()) {
        let names: Vec<&str> = surplus.iter().map(|tool| tool.name.as_str()).collect();
        tracing::warn!(
            "a model is offered {} tools, which is what providers take, without {}",
            ToolSpec::COUNT_MAX,
            names.join(", ")
        );
        tools.truncate(ToolSpec::COUNT_MAX);
    }
    tools
}
