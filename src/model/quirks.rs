//! For tests: what real servers send where the dialects say otherwise, and what it means. The recordings and the table of what
//! is expected of them are in tests/fixtures/quirks.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use serde_json::json;

use crate::model::ModelError;
use crate::model::ModelEvent;
use crate::model::anthropic;
use crate::model::dialect::Dialect;
use crate::model::openai_chat;
use crate::model::openai_responses;
use crate::model::replay::check_order;
use crate::model::replay::replay_anyhow;

/// A row of the table. What it does not name must not come.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    row: String,
    dialect: String,
    file: String,
    #[serde(default)]
    text: String,
    #[serde(default)]
    reasoning: String,
    /// What must go back with the first thought.
    seal: Option<Value>,
    /// How many thoughts have something that must go back.
    seals: Option<usize>,
    #[serde(default)]
    calls: Vec<Value>,
    #[serde(default)]
    sources: Vec<Value>,
    #[serde(default)]
    files: Vec<Value>,
    usage: Option<[u64; 2]>,
    finish: Option<String>,
    /// The kind of the failure.
    error: Option<String>,
    /// What it says.
    words: Option<String>,
}

/// What an answer amounts to.
#[derive(Default)]
struct Seen {
    text: String,
    reasoning: String,
    seals: Vec<Value>,
    calls: Vec<Value>,
    sources: Vec<Value>,
    files: Vec<Value>,
    usage: Option<[u64; 2]>,
    finish: Option<Value>,
}

fn read(events: Vec<ModelEvent>) -> Seen {
    let mut seen = Seen::default();
    let mut open: Vec<(u32, Value)> = Vec::new();
    for event in events {
        match event {
            ModelEvent::TextDelta { text, .. } => seen.text += &text,
            ModelEvent::ReasoningDelta { text, .. } => seen.reasoning += &text,
            ModelEvent::ReasoningEnd { seal, .. } if !seal.is_empty() => {
                seen.seals.push(serde_json::to_value(&seal).unwrap());
            }
            ModelEvent::ToolStart { index, id, name } => {
                open.push((index, json!({"id": id, "name": name})));
            }
            ModelEvent::ToolEnd { index, input, seal } => {
                let at = open.iter().position(|(other, _)| *other == index).unwrap();
                let (_, mut call) = open.remove(at);
                call["input"] = match input {
                    Ok(input) => serde_json::from_str(input.as_str()).unwrap(),
                    Err(bad) => bad.text.into(),
                };
                if !seal.is_empty() {
                    call["seal"] = serde_json::to_value(&seal).unwrap();
                }
                seen.calls.push(call);
            }
            ModelEvent::Source { url, title, .. } => seen.sources.push(json!([url, title])),
            ModelEvent::File { media_type, url } => seen.files.push(json!([media_type, url])),
            ModelEvent::Usage(usage) => {
                seen.usage = Some([usage.input_tokens, usage.output_tokens]);
            }
            ModelEvent::Finish { reason, .. } => {
                seen.finish = Some(serde_json::to_value(reason).unwrap());
            }
            _ => {}
        }
    }
    seen
}

fn answer<D: Dialect + Default>(file: &str, bytes: &[u8]) -> (Vec<ModelEvent>, Option<ModelError>) {
    if !file.ends_with(".json") {
        return replay_anyhow::<D>(bytes);
    }
    let mut dialect = D::default();
    let error = dialect.whole(str::from_utf8(bytes).unwrap()).err();
    let events: Vec<_> = std::iter::from_fn(|| dialect.next()).collect();
    check_order(&events, error.is_none());
    (events, error)
}

/// What is wrong with what became of a recording.
fn problems(row: &Row, folder: &Path) -> String {
    let bytes = fs::read(folder.join(&row.file)).unwrap();
    let (events, error) = match row.dialect.as_str() {
        "anthropic" => answer::<anthropic::Stream>(&row.file, &bytes),
        "chat" => answer::<openai_chat::Stream>(&row.file, &bytes),
        _ => answer::<openai_responses::Stream>(&row.file, &bytes),
    };
    let seen = read(events);
    let mut problems = String::new();
    let mut check = |what: &str, seen: Value, then: Value| {
        if seen != then {
            writeln!(problems, "{} {}: {what} is {seen}, not {then}", row.row, row.file).unwrap();
        }
    };
    check("text", seen.text.into(), row.text.as_str().into());
    check("reasoning", seen.reasoning.into(), row.reasoning.as_str().into());
    check("calls", seen.calls.into(), row.calls.clone().into());
    check("sources", seen.sources.into(), row.sources.clone().into());
    check("files", seen.files.into(), row.files.clone().into());
    if let Some(seal) = &row.seal {
        check("seal", seen.seals.first().cloned().unwrap_or_default(), seal.clone());
    }
    if let Some(seals) = row.seals {
        check("seals", seen.seals.len().into(), seals.into());
    }
    if row.usage.is_some() {
        check("usage", json!(seen.usage), json!(row.usage));
    }
    if row.finish.is_some() {
        check("finish", json!(seen.finish), json!(row.finish));
    }
    let kind = error.as_ref().map(|error| format!("{:?}", error.kind).to_lowercase());
    check("error", json!(kind), json!(row.error));
    if row.words.is_some() {
        check("words", json!(error.map(|error| error.message)), json!(row.words));
    }
    problems
}

#[test]
fn what_servers_really_send_is_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/quirks");
    let table = fs::read(folder.join("table.json")).unwrap();
    let table: Vec<Row> = serde_json::from_slice(&table).unwrap();
    let files = fs::read_dir(&folder).unwrap().count();
    assert_eq!(files, table.len() + 1, "every recording has its row");
    let wrong: String = table.iter().map(|row| problems(row, &folder)).collect();
    assert!(wrong.is_empty(), "\n{wrong}");
}
