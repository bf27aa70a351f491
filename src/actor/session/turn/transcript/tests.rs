//! Whatever is stored, every provider accepts what becomes of it.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::Just;
use proptest::prelude::Strategy;
use proptest::prelude::any;
use proptest::prelude::prop_oneof;
use proptest::proptest;
use proptest::sample::select;
use proptest::test_runner::Config;
use serde_json::Value;
use serde_json::json;

use super::Asked;
use super::of;
use crate::base::json::Json;
use crate::domain::session::Message;
use crate::domain::session::Part;
use crate::domain::session::Role;
use crate::domain::session::Status;
use crate::model::accepted;
use crate::model::accepted::OWN;

const TEXTS: &[&str] = &["hello", "", " ", "\n", "trailing ", "é 😀", "\u{0}"];
const IDS: &[&str] = &["a", "b", "call_0", "functions.add:0", "own/1", "é", " ", LONG];
const LONG: &str =
    "x.xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";
const NAMES: &[&str] = &["add", "my tool!", "functions.add", "ünïcode", LONG];
const STATES: &[&str] = &["pending", "running", "complete", "error", "unheard of"];
const MEDIA: &[&str] =
    &["image/png", "image/heic", "image/svg+xml", "text/csv", "application/pdf", ""];
const URLS: &[&str] = &[
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
    "data:image/png;base64,AA==",
    "data:image/heic;base64,AAAAGGZ0eXBoZWlj",
    "data:text/csv,a,b",
    "data:application/pdf;base64,JVBERi0xLjQK",
    "data:;base64,",
    "data:?",
    "https://example.org/a",
    "http://example.org/a",
    "file:///etc/passwd",
    "",
];
const MODEL: &str = "own/m";
const ASKED: Asked<'_> = Asked { provider: OWN, address: MODEL, writes: "w" };
/// What somebody gave with a thought or a call.
const SEALS: &[&str] = &[
    "{}",
    r#"{"signature":"c2ln"}"#,
    r#"{"signature":""}"#,
    r#"{"redactedData":"b3Bh"}"#,
    r#"{"itemId":"rs_1","reasoningEncryptedContent":"b3Bh"}"#,
    r#"{"field":"reasoning_content"}"#,
    r#"{"reasoning_details":[{"type":"reasoning.text","text":"hm"}]}"#,
    r#"{"callId":"own/7"}"#,
    r#"{"extra_content":{"google":{"thought_signature":"c2ln"}}}"#,
    "7",
];
const OUTPUTS: &[&str] = &[
    "null",
    r#""""#,
    r#""found""#,
    r#"{"a":1}"#,
    r#"[{"type":"text","text":"see"},{"type":"image","data":"AA==","mimeType":"image/png"}]"#,
    r#"[{"type":"image","data":"R0lGODdh","mimeType":"image/png"}]"#,
];
const SCHEMAS: &[&str] = &[
    r#"{"type":"object","properties":{"a b":{"type":"array"},"c":{"type":["array","null"]}},"required":["a b"]}"#,
    r#"{"type":"object"}"#,
    "{}",
    r#"{"type":"string"}"#,
    r#"{"anyOf":[{"type":"object"}],"required":"a"}"#,
    r#"{"type":"object","properties":{"a":{"type":"number"}},"required":["a"]}"#,
    "true",
];

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn seal() -> impl Strategy<Value = Option<Value>> {
    let by = select(&[OWN, "other"][..]);
    option::of((by, select(SEALS)).prop_map(|(by, seal)| json!({ by: json_of(seal) })))
}

/// A part of any kind, in any state. Whether it makes sense where it is, is left to chance.
fn part() -> impl Strategy<Value = Part> {
    let text = select(TEXTS).prop_map(|text| json!({"type": "text", "content": text}));
    let thought = (select(TEXTS), seal()).prop_map(|(text, seal)| {
        json!({"type": "reasoning", "id": "r", "content": text, "providerMetadata": seal})
    });
    let file = (select(MEDIA), select(URLS), option::of(select(NAMES))).prop_map(
        |(kind, url, name)| json!({"type": "file", "mediaType": kind, "url": url, "filename": name}),
    );
    let denied = option::of(any::<bool>());
    let call = (select(IDS), select(NAMES), select(STATES), select(OUTPUTS), seal(), denied)
        .prop_map(|(id, name, state, output, seal, approved)| {
            let approval = approved.map(|approved| json!({"id": "p", "approved": approved}));
            json!({"type": "tool-call", "toolCallId": id, "toolName": name, "state": state,
                "toolInput": json_of(output), "toolOutput": json_of(output), "errorText": "no",
                "approval": approval, "callProviderMetadata": seal})
        });
    let other = select(&["step-start", "source-url", "data-x", "?"][..])
        .prop_map(|kind| json!({"type": kind, "url": "https://example.org", "data": {}}));
    let part = prop_oneof![2 => text, 2 => thought, 2 => file, 4 => call, 3 => other];
    part.prop_map(|part| serde_json::from_value(part).unwrap())
}

fn message() -> impl Strategy<Value = Message> {
    let role = prop_oneof![
        3 => Just(Role::User),
        4 => Just(Role::Assistant),
        1 => Just(Role::System)
    ];
    let status = select(
        &[
            Status::Complete,
            Status::Complete,
            Status::Streaming,
            Status::Stopped,
            Status::Interrupted,
            Status::Failed,
            Status::Deleted,
        ][..],
    );
    let model = option::of(select(&[MODEL, "own/other"][..]));
    (role, status, select(TEXTS), vec(part(), 0..7), model).prop_map(
        |(role, status, text, parts, model)| Message {
            id: "m".to_owned(),
            seq: 1,
            version: 1,
            role,
            content: text.to_owned(),
            parts,
            metadata: model.map(|model| Json::of(&json!({ "model": model })).unwrap()),
            turn_id: None,
            status,
            created_at: 0,
            created_at_ms: 0,
            updated_at_ms: 0,
        },
    )
}

fn tools() -> impl Strategy<Value = Vec<(&'static str, &'static str)>> {
    vec((select(NAMES), select(SCHEMAS)), 0..4)
}

proptest! {
    #![proptest_config(Config { cases: 1_000, failure_persistence: None, ..Config::default() })]

    #[test]
    fn whatever_happened_the_next_request_is_accepted(
        messages in vec(message(), 0..10),
        system in option::of(select(TEXTS)),
        tools in tools(),
    ) {
        let request = accepted::request(system, of(&messages, ASKED), &tools);
        let problems = accepted::problems(&request);
        assert!(problems.is_empty(), "{problems:#?}");
    }
}

fn stored(role: Role, parts: &[Value]) -> Message {
    let parts = parts.iter().map(|part| serde_json::from_value(part.clone()).unwrap()).collect();
    Message {
        id: "m".to_owned(),
        seq: 1,
        version: 1,
        role,
        content: String::new(),
        parts,
        metadata: Some(Json::of(&json!({ "model": MODEL })).unwrap()),
        turn_id: None,
        status: Status::Complete,
        created_at: 0,
        created_at_ms: 0,
        updated_at_ms: 0,
    }
}

#[test]
fn what_only_a_provider_reads_goes_to_nobody_else() {
    let seal = json!({"maker": {"signature": "SECRET", "extra_content": "SECRET",
        "reasoning_details": ["SECRET"], "reasoningEncryptedContent": "SECRET", "callId": "SECRET"}});
    let answer = [
        json!({"type": "reasoning", "content": "thought", "providerMetadata": seal}),
        json!({"type": "tool-call", "toolCallId": "a", "toolName": "add", "state": "complete",
            "toolInput": {}, "toolOutput": 1, "callProviderMetadata": seal}),
    ];
    let question = json!({"type": "text", "content": "hello"});
    let messages = [stored(Role::User, &[question]), stored(Role::Assistant, &answer)];
    let by = |provider, address| Asked { provider, address, ..ASKED };
    // Another model of the same provider is somebody else.
    for (asked, told) in
        [(by("maker", MODEL), true), (by("maker", "own/n"), false), (by("other", MODEL), false)]
    {
        let all = format!("{:?}", of(&messages, asked));
        assert_eq!(all.contains("signature"), told, "{all}");
        let request = accepted::request(None, of(&messages, asked), &[]);
        for body in accepted::bodies(&request) {
            assert_eq!(body.contains("SECRET"), told, "{body}");
            assert!(told || !body.contains("\"thought\""), "{body}");
        }
    }
}

#[test]
fn ids_are_the_same_in_call_and_result_and_the_makers_own_come_back() {
    let call = |id: &str| {
        json!({"type": "tool-call", "toolCallId": id, "toolName": "add", "state": "complete",
            "toolInput": {}, "toolOutput": Json::default(),
            "callProviderMetadata": {"maker": {"callId": id}}})
    };
    let question = json!({"type": "text", "content": "hello"});
    let messages =
        [stored(Role::User, &[question]), stored(Role::Assistant, &[call("functions.add:0")])];
    let request = accepted::request(None, of(&messages, Asked { provider: "maker", ..ASKED }), &[]);
    let own = accepted::bodies(&request);
    assert!(own.iter().all(|body| body.matches("\"functions.add:0\"").count() == 2), "{own:?}");
    for (provider, address) in [("other", MODEL), ("maker", "own/n")] {
        let asked = Asked { provider, address, ..ASKED };
        let request = accepted::request(None, of(&messages, asked), &[]);
        assert!(accepted::problems(&request).is_empty());
        let others = accepted::bodies(&request);
        assert!(!others.iter().any(|body| body.contains("functions.add:0")), "{others:?}");
    }
}

#[test]
fn why_a_person_refused_a_call_is_told_to_the_model() {
    let refused = |approval: Value| {
        let call = json!({"type": "tool-call", "toolCallId": "a", "toolName": "add", "state": "error",
            "toolInput": {}, "approval": approval});
        let question = json!({"type": "text", "content": "hello"});
        let messages = [stored(Role::User, &[question]), stored(Role::Assistant, &[call])];
        accepted::bodies(&accepted::request(None, of(&messages, ASKED), &[]))
    };
    let told = refused(json!({"id": "x", "approved": false, "reason": "too dear"}));
    assert!(told.iter().all(|body| body.contains("did not allow this call: too dear")), "{told:?}");
    let plain = refused(json!({"id": "x", "approved": false, "reason": " "}));
    assert!(plain.iter().all(|body| body.contains("did not allow this call\"")), "{plain:?}");
}
