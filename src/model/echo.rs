//! The built-in model: says what it was told, needs no key and no network.
//!
//! A message of lines that begin with `!` is a script; [`Act`] is what such a line asks for.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;

use crate::base::ids;
use crate::base::json::Json;
use crate::base::json::Object;
use crate::model::Answer;
use crate::model::Content;
use crate::model::FailureKind;
use crate::model::FinishReason;
use crate::model::ModelError;
use crate::model::ModelEvent;
use crate::model::ModelRequest;
use crate::model::OwnTool;
use crate::model::Provider;
use crate::model::Speaker;
use crate::model::Usage;

/// Most deltas that one `!slow` line asks for.
const SLOW_COUNT_MAX: u32 = 100_000;
/// Longest pause that one `!slow` line asks for, in milliseconds.
const SLOW_PAUSE_MS_MAX: u64 = 60_000;
/// Tokens that it says it read, so that there is something to count.
const INPUT_TOKENS: u64 = 10;

/// A line of the user's text, as it is understood.
#[derive(Clone, Debug, PartialEq)]
enum Act {
    Say(String),
    Slow { count: u32, pause: Duration },
    Reason(String),
    Data { name: String, value: Json },
    Tool { kind: OwnTool, name: String, input: Json },
    History,
    Fail(String),
    Http(u16),
}

fn read(text: &str) -> Vec<Act> {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| directive(line).unwrap_or_else(|| Act::Say(format!("echo: {line}")))).collect()
}

fn directive(line: &str) -> Option<Act> {
    let said = line.strip_prefix('!')?;
    let (name, rest) = said.split_once(' ').unwrap_or((said, ""));
    let mut words = rest.split_whitespace();
    let tool = |kind| {
        let (name, input) = rest.split_once(' ').unwrap_or((rest, "{}"));
        Some(Act::Tool { kind, name: name.to_owned(), input: Json::parse(input).ok()? })
    };
    match name {
        "slow" => {
            let count = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
            let pause = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
            let pause = Duration::from_millis(pause.min(SLOW_PAUSE_MS_MAX));
            Some(Act::Slow { count: count.min(SLOW_COUNT_MAX), pause })
        }
        "reason" => Some(Act::Reason(rest.to_owned())),
        "data" => {
            let (name, value) = rest.split_once(' ').unwrap_or((rest, "{}"));
            Some(Act::Data { name: name.to_owned(), value: Json::parse(value).ok()? })
        }
        "tool" => tool(OwnTool::Server),
        "client-tool" => tool(OwnTool::Client),
        "approve" => tool(OwnTool::Asks),
        "history" => Some(Act::History),
        "error" => Some(Act::Fail(rest.trim().to_owned())),
        "http" => rest.trim().parse().ok().filter(|s| (400..600).contains(s)).map(Act::Http),
        _ => None,
    }
}

/// The echo model.
#[derive(Debug, Default)]
pub struct Echo;

impl Provider for Echo {
    fn name(&self) -> &str {
        "echo"
    }

    fn check(&self, _: &str, text: &str) -> Result<(), ModelError> {
        let status = read(text).into_iter().find_map(|act| match act {
            Act::Http(status) => Some(status),
            _ => None,
        });
        status.map_or(Ok(()), |status| {
            let message = format!("status {status} was asked for");
            Err(ModelError::new(FailureKind::Other, message).with_status(status))
        })
    }

    fn answer(&self, request: ModelRequest) -> Answer {
        let steps = perform(&request).into_iter();
        let said = stream::unfold(steps, |mut steps| async {
            let (pause, event) = steps.next()?;
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            Some((event, steps))
        });
        said.boxed()
    }

    fn own_tool(&self, call_id: &str) -> Option<OwnTool> {
        match call_id.split('_').nth(1)? {
            "server" => Some(OwnTool::Server),
            "client" => Some(OwnTool::Client),
            "asks" => Some(OwnTool::Asks),
            _ => None,
        }
    }

    fn run_tool(&self, name: &str, input: &Json) -> Result<Json, String> {
        let value: serde_json::Value =
            serde_json::from_str(input.as_str()).map_err(|error| error.to_string())?;
        match name {
            "add" => {
                let number = |key| value.get(key).cloned().unwrap_or_default();
                let sum = match (number("a").as_i64(), number("b").as_i64()) {
                    (Some(a), Some(b)) => serde_json::json!(a.saturating_add(b)),
                    _ => {
                        let float = |key| number(key).as_f64().unwrap_or_default();
                        serde_json::json!(float("a") + float("b"))
                    }
                };
                Json::of(&sum).map_err(|error| error.to_string())
            }
            "fail" => Err(value
                .get("message")
                .and_then(|message| message.as_str())
                .unwrap_or("tool failed")
                .to_owned()),
            _ => {
                let output =
                    Object::default().with("ok", &true).with("name", &name).with("input", input);
                Ok(output.to_json())
            }
        }
    }
}

type Step = (Duration, Result<ModelEvent, ModelError>);

/// What it does now: everything up to the next tool, behind the tools whose results are there.
fn perform(request: &ModelRequest) -> Vec<Step> {
    let (text, results) = asked(request);
    let acts = read(&text);
    let tools: Vec<usize> =
        (0..acts.len()).filter(|at| matches!(acts[*at], Act::Tool { .. })).collect();
    let mut script = Script::default();
    let from = match results.len().checked_sub(1).and_then(|last| tools.get(last)) {
        None => 0,
        Some(at) => match &acts[*at] {
            Act::Tool { kind: OwnTool::Server, .. } => at + 1,
            _ => {
                let last = results.last().map_or("null", |json| json.as_str());
                script.text(Duration::ZERO, ["tool said ".to_owned(), last.to_owned()].into_iter());
                return script.end(FinishReason::Stop);
            }
        },
    };
    for act in &acts[from..] {
        match act {
            Act::Say(text) => script.text(Duration::ZERO, words(text)),
            Act::Slow { count, pause } => {
                script.text(*pause, (0..*count).map(|n| format!("w{n} ")));
            }
            Act::History => {
                let before = request.messages.iter().filter(|message| is_said(&message.content));
                let text = format!("history: {}", before.count());
                script.text(Duration::ZERO, [text].into_iter());
            }
            Act::Reason(text) => script.reason(text),
            Act::Data { name, value } => script.push(ModelEvent::Data {
                name: name.clone(),
                id: Some("d1".to_owned()),
                data: value.clone(),
            }),
            Act::Tool { kind, name, input } => {
                script.tool(*kind, name, input);
                return script.end(FinishReason::ToolCalls);
            }
            Act::Fail(text) => {
                script.text(Duration::ZERO, ["partial ".to_owned()].into_iter());
                let error = ModelError::new(FailureKind::Other, text);
                script.steps.push((Duration::ZERO, Err(error)));
                return script.steps;
            }
            Act::Http(_) => {}
        }
    }
    script.end(FinishReason::Stop)
}

fn words(text: &str) -> impl Iterator<Item = String> {
    text.split_inclusive(' ').map(str::to_owned)
}

fn is_said(content: &[Content]) -> bool {
    content.iter().any(|piece| !matches!(piece, Content::ToolResult { .. }))
}

/// What the user said last, and the results of tools since.
fn asked(request: &ModelRequest) -> (String, Vec<Json>) {
    let mut results = Vec::new();
    for message in request.messages.iter().rev() {
        if message.speaker != Speaker::User {
            continue;
        }
        let text: Vec<&str> = message
            .content
            .iter()
            .filter_map(|piece| match piece {
                Content::Text(text) => Some(text.as_str()),
                _ => None,
            })
            .collect();
        let mut found: Vec<Json> = message
            .content
            .iter()
            .filter_map(|piece| match piece {
                Content::ToolResult { output, .. } => Some(output.clone()),
                _ => None,
            })
            .collect();
        found.append(&mut results);
        results = found;
        if !text.is_empty() {
            return (text.concat(), results);
        }
    }
    (String::new(), results)
}

#[derive(Default)]
struct Script {
    steps: Vec<Step>,
    blocks: u32,
    tokens: u64,
}

impl Script {
    fn push(&mut self, event: ModelEvent) {
        self.steps.push((Duration::ZERO, Ok(event)));
    }

    fn block(&mut self) -> u32 {
        self.blocks += 1;
        self.blocks - 1
    }

    fn text(&mut self, pause: Duration, words: impl Iterator<Item = String>) {
        let index = self.block();
        self.push(ModelEvent::TextStart { index });
        for text in words {
            self.tokens += 1;
            self.steps.push((pause, Ok(ModelEvent::TextDelta { index, text })));
        }
        self.push(ModelEvent::TextEnd { index });
    }

    fn reason(&mut self, text: &str) {
        let index = self.block();
        self.push(ModelEvent::ReasoningStart { index });
        for text in words(text) {
            self.tokens += 1;
            self.push(ModelEvent::ReasoningDelta { index, text });
        }
        self.push(ModelEvent::ReasoningEnd { index, seal: Object::default() });
    }

    fn tool(&mut self, kind: OwnTool, name: &str, input: &Json) {
        let index = self.block();
        let kind = match kind {
            OwnTool::Server => "server",
            OwnTool::Client => "client",
            OwnTool::Asks => "asks",
        };
        let id = format!("call_{kind}_{}", ids::fresh().replace('-', ""));
        self.push(ModelEvent::ToolStart { index, id, name: name.to_owned() });
        let text = input.as_str();
        let mut half = text.len() / 2;
        while !text.is_char_boundary(half) {
            half += 1;
        }
        for json in [&text[..half], &text[half..]] {
            self.push(ModelEvent::ToolDelta { index, json: json.to_owned() });
        }
        let seal = Object::default();
        self.push(ModelEvent::ToolEnd { index, input: Ok(input.clone()), seal });
    }

    fn end(mut self, reason: FinishReason) -> Vec<Step> {
        let usage =
            Usage { input_tokens: INPUT_TOKENS, output_tokens: self.tokens, ..Usage::default() };
        self.push(ModelEvent::Usage(usage));
        self.push(ModelEvent::Finish { reason, raw: None });
        self.steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Bounds;
    use crate::model::ModelMessage;

    fn request(content: Vec<Vec<Content>>) -> ModelRequest {
        let messages = content
            .into_iter()
            .map(|content| ModelMessage { speaker: Speaker::User, content })
            .collect();
        ModelRequest {
            workspace: String::new(),
            session: String::new(),
            model: String::new(),
            system: None,
            messages,
            tools: Vec::new(),
            resume: None,
            bounds: Bounds::default(),
        }
    }

    fn result(output: &str) -> Content {
        let output = Json::parse(output).expect("JSON");
        Content::ToolResult { id: String::new(), name: String::new(), output, is_error: false }
    }

    #[track_caller]
    fn check(given: &str, results: &[&str], then: &str) {
        let mut content = vec![vec![Content::Text(given.to_owned())]];
        content.extend(results.iter().map(|output| vec![result(output)]));
        let said: String = perform(&request(content))
            .into_iter()
            .map(|(_, event)| match event {
                Ok(ModelEvent::TextDelta { text, .. }) => text,
                Ok(ModelEvent::ReasoningDelta { text, .. }) => format!("({text})"),
                Ok(ModelEvent::ToolStart { name, .. }) => format!("<{name}>"),
                Err(error) => format!("[{error}]"),
                Ok(_) => String::new(),
            })
            .collect();
        assert_eq!(said, then);
    }

    #[test]
    fn lines_come_back_and_directives_are_followed() {
        check("hello you", &[], "echo: hello you");
        check("a\nb", &[], "echo: aecho: b");
        check("!slow 3 0", &[], "w0 w1 w2 ");
        check("!error no  luck\nmore", &[], "partial [no  luck]");
        check("!reason hm hm", &[], "(hm )(hm)");
        check("", &[], "");
        check("!unknown", &[], "echo: !unknown");
        check("!tool x nonsense", &[], "echo: !tool x nonsense");
    }

    #[test]
    fn it_goes_on_behind_the_results_that_are_there() {
        let text = "!tool add {\"a\":1}\nsum\n!client-tool ask {}";
        check(text, &[], "<add>");
        check(text, &["1"], "echo: sum<ask>");
        check(text, &["1", r#"{"yes":1}"#], r#"tool said {"yes":1}"#);
    }
}
