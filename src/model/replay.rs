//! For tests: recorded streams as events, and events as the message that they make.

use std::fs;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::any;
use proptest::test_runner::Config;
use proptest::test_runner::TestRunner;
use serde_json::Value;

use crate::base::json::Json;
use crate::model::BadInput;
use crate::model::FailureKind;
use crate::model::FinishReason;
use crate::model::ModelError;
use crate::model::ModelEvent;
use crate::model::Usage;
use crate::model::dialect::Dialect;
use crate::model::sse;

/// A recorded stream, and what the provider's own library made of it.
pub(super) struct Fixture {
    pub(super) name: String,
    pub(super) stream: Vec<u8>,
    pub(super) expected: Value,
}

/// All recorded streams of one dialect.
pub(super) fn fixtures(dialect: &str) -> Vec<Fixture> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/providers");
    let mut fixtures = Vec::new();
    for entry in fs::read_dir(&folder).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let Some(name) = file.strip_suffix(".sse").filter(|name| name.starts_with(dialect)) else {
            continue;
        };
        let expected = fs::read(folder.join(format!("{name}.expected.json"))).unwrap();
        fixtures.push(Fixture {
            name: name.to_owned(),
            stream: fs::read(folder.join(&file)).unwrap(),
            expected: serde_json::from_slice(&expected).unwrap(),
        });
    }
    assert!(!fixtures.is_empty());
    fixtures
}

/// What `dialect` makes of a stream that comes in pieces which end at `cuts`.
pub(super) fn replay(
    mut dialect: impl Dialect,
    stream: &[u8],
    cuts: &[usize],
) -> (Vec<ModelEvent>, Option<ModelError>) {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
    cuts.push(stream.len());
    cuts.sort_unstable();
    let (mut parser, mut from, mut error) = (sse::Parser::new(1 << 20), 0, None);
    for to in cuts {
        let mut piece = &stream[from..to];
        while let (Some(event), None) = (parser.next(&mut piece).unwrap(), &error) {
            error = dialect.take(&event).err();
        }
        from = to;
    }
    if error.is_none()
        && let Some(event) = parser.finish().unwrap()
    {
        error = dialect.take(&event).err().filter(|error| error.kind != FailureKind::Protocol);
    }
    let error = error.or_else(|| dialect.end().err());
    let events: Vec<_> = std::iter::from_fn(|| dialect.next()).collect();
    check_order(&events, error.is_none());
    (events, error)
}

/// As [`replay`], and fails unless the events are the same wherever the stream is cut.
pub(super) fn replay_anyhow<D: Dialect + Default>(
    stream: &[u8],
) -> (Vec<ModelEvent>, Option<ModelError>) {
    let whole = replay(D::default(), stream, &[]);
    let every: Vec<usize> = (0..stream.len()).collect();
    assert_eq!(replay(D::default(), stream, &every), whole);
    let mut runner =
        TestRunner::new(Config { cases: 20, failure_persistence: None, ..Config::default() });
    let check = |cuts: Vec<usize>| {
        assert_eq!(replay(D::default(), stream, &cuts), whole);
        Ok(())
    };
    runner.run(&vec(any::<usize>(), 0..9), check).unwrap();
    whole
}

/// A stream of unnamed events.
pub(super) fn stream_of(events: &[&str]) -> Vec<u8> {
    events.iter().map(|data| format!("data: {data}\n\n")).collect::<String>().into_bytes()
}

/// Fails unless `events` keep the promises of [`ModelEvent`].
#[track_caller]
pub(super) fn check_order(events: &[ModelEvent], complete: bool) {
    let (mut open, mut next, mut finished) = (Vec::new(), 0, false);
    let pieces = events.iter().filter(|event| !matches!(event, ModelEvent::Ping));
    for (at, event) in pieces.enumerate() {
        assert!(!finished, "{event:?} behind the end");
        match event {
            _ if (at == 0) != matches!(event, ModelEvent::Start { .. }) => {
                panic!("{event:?} at {at}")
            }
            ModelEvent::TextStart { index }
            | ModelEvent::ReasoningStart { index }
            | ModelEvent::ToolStart { index, .. }
            | ModelEvent::RedactedReasoning { index, .. } => {
                assert_eq!(*index, next);
                next += 1;
                if !matches!(event, ModelEvent::RedactedReasoning { .. }) {
                    open.push(*index);
                }
            }
            ModelEvent::TextDelta { index, .. }
            | ModelEvent::ReasoningDelta { index, .. }
            | ModelEvent::ToolDelta { index, .. } => assert!(open.contains(index), "{event:?}"),
            ModelEvent::TextEnd { index }
            | ModelEvent::ReasoningEnd { index, .. }
            | ModelEvent::ToolEnd { index, .. } => {
                assert!(open.contains(index), "{event:?}");
                open.retain(|other| other != index);
            }
            ModelEvent::Finish { .. } => {
                assert!(open.is_empty());
                finished = true;
            }
            _ => {}
        }
    }
    assert_eq!(finished, complete);
}

/// A block as it is in the end.
#[derive(Debug, PartialEq)]
pub(super) enum Block {
    Text(String),
    Reasoning(String, Option<String>),
    Redacted(String),
    Tool { id: String, name: String, text: String, input: Option<Result<Json, BadInput>> },
}

/// What events amount to.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Message {
    pub(super) id: Option<String>,
    pub(super) model: Option<String>,
    pub(super) blocks: Vec<Block>,
    pub(super) usage: Option<Usage>,
    pub(super) finish: Option<(FinishReason, Option<String>)>,
}

impl Message {
    pub(super) fn new(events: Vec<ModelEvent>) -> Self {
        let mut message = Self::default();
        for event in events {
            message.add(event);
        }
        message
    }

    fn add(&mut self, event: ModelEvent) {
        let at = |index: u32| index as usize;
        match event {
            ModelEvent::Start { id, model } => (self.id, self.model) = (id, model),
            ModelEvent::TextStart { .. } => self.blocks.push(Block::Text(String::new())),
            ModelEvent::ReasoningStart { .. } => {
                self.blocks.push(Block::Reasoning(String::new(), None));
            }
            ModelEvent::RedactedReasoning { data, .. } => self.blocks.push(Block::Redacted(data)),
            ModelEvent::ToolStart { id, name, .. } => {
                self.blocks.push(Block::Tool { id, name, text: String::new(), input: None });
            }
            ModelEvent::TextDelta { index, text: more }
            | ModelEvent::ReasoningDelta { index, text: more }
            | ModelEvent::ToolDelta { index, json: more } => match &mut self.blocks[at(index)] {
                Block::Text(text) | Block::Reasoning(text, _) | Block::Tool { text, .. } => {
                    text.push_str(&more);
                }
                Block::Redacted(_) => panic!("a sealed thought grows"),
            },
            ModelEvent::ReasoningEnd { index, seal: sealed } => {
                if let Block::Reasoning(_, signature) = &mut self.blocks[at(index)] {
                    *signature = sealed.text("signature").filter(|sign| !sign.is_empty());
                }
            }
            ModelEvent::ToolEnd { index, input: whole, .. } => {
                if let Block::Tool { input, .. } = &mut self.blocks[at(index)] {
                    *input = Some(whole);
                }
            }
            ModelEvent::Usage(usage) => self.usage = Some(usage),
            ModelEvent::Finish { reason, raw } => self.finish = Some((reason, raw)),
            _ => {}
        }
    }

    /// All text.
    pub(super) fn text(&self) -> String {
        let text =
            |block: &Block| if let Block::Text(text) = block { Some(text.clone()) } else { None };
        self.blocks.iter().filter_map(text).collect()
    }
}

/// The input of a tool as a value, for comparison with what a library parsed.
pub(super) fn value(input: Option<&Result<Json, BadInput>>) -> Value {
    serde_json::from_str(input.unwrap().as_ref().unwrap().as_str()).unwrap()
}
