//! The document against the program: routes, frames and commands.

use std::collections::BTreeSet;

use serde_json::Value;
use serde_json::json;

use crate::domain::session::Event;
use crate::domain::session::EventKind;
use crate::http::openapi::document;
use crate::http::routes::endpoints;
use crate::protocol::native;
use crate::protocol::native::ClientFrame;
use crate::protocol::ui::SocketFrame;
use crate::protocol::ui::SocketReply;
use crate::wire::problem::Problem;

/// The path without the names of its parameters.
fn plain(path: &str) -> String {
    let mut parts = path.split('/').map(|part| if part.starts_with('{') { "{}" } else { part });
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |path, part| format!("{path}/{part}"))
}

#[test]
fn the_document_has_the_routes_of_the_router_and_no_others() {
    let document = document();
    let mut documented = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            documented.insert((method.to_uppercase(), plain(path)));
        }
    }
    let routed: BTreeSet<_> =
        endpoints().into_iter().map(|(method, path)| (method.to_owned(), plain(path))).collect();
    assert_eq!(documented, routed, "http/routes.rs and http/openapi/document.rs");
}

#[test]
fn everything_in_the_document_is_described() {
    let document = document();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let at = format!("{method} {path}");
            let told = |value: &Value| value["description"].as_str().is_some_and(|t| !t.is_empty());
            assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{at}");
            for parameter in operation["parameters"].as_array().unwrap() {
                assert!(told(parameter), "{at}: {parameter}");
            }
            for (status, response) in operation["responses"].as_object().unwrap() {
                let response = match response["$ref"].as_str() {
                    Some(name) => document.pointer(&name[1..]).unwrap(),
                    None => response,
                };
                assert!(told(response), "{at} {status}");
                let has_body = !["101", "204"].contains(&status.as_str());
                assert_eq!(response["content"].is_object(), has_body, "{at} {status}: {response}");
                for (kind, content) in response["content"].as_object().into_iter().flatten() {
                    assert!(content["schema"].is_object(), "{at} {status} {kind}");
                }
            }
        }
    }
}

/// Fails unless `frame` has the members that the schema of its type, in the union `union`, says, and no others. Gives the
/// name of its type.
#[track_caller]
fn check_frame(document: &Value, union: &str, frame: &Value) -> String {
    let kind = frame["type"].as_str().unwrap_or_default();
    let mapping = &document["components"]["schemas"][union]["discriminator"]["mapping"];
    let name = mapping[kind].as_str().unwrap_or_else(|| panic!("{union} has no `{kind}`"));
    check_members(document.pointer(&name[1..]).unwrap(), frame, kind);
    kind.to_owned()
}

#[track_caller]
fn check_members(schema: &Value, value: &Value, at: &str) {
    let Some(known) = schema["properties"].as_object() else { return };
    for (name, member) in value.as_object().unwrap() {
        let of = known.get(name).unwrap_or_else(|| panic!("{at}.{name} is not in the schema"));
        assert!(of["const"].is_null() || of["const"] == *member, "{at}.{name}: {member}");
        if member.is_object() {
            check_members(of, member, &format!("{at}.{name}"));
        }
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        assert!(!value[name.as_str().unwrap()].is_null(), "{at} has no {name}: {value}");
    }
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// The types that the union `union` knows.
fn kinds(document: &Value, union: &str) -> BTreeSet<String> {
    let mapping = &document["components"]["schemas"][union]["discriminator"]["mapping"];
    mapping.as_object().unwrap().keys().cloned().collect()
}

#[test]
fn every_event_of_the_log_has_a_schema() {
    let document = document();
    let message = json!({
        "id": "m", "seq": 1, "version": 1, "role": "user", "content": "x", "parts": [], "status": "complete",
        "createdAt": 1, "createdAtMs": 1, "updatedAtMs": 1,
    });
    let turn =
        json!({ "id": "t", "state": "running", "inputId": "m", "messageId": "n", "attempt": 1 });
    let frames = [
        json!({ "type": "message", "seq": 1, "message": message }),
        json!({ "type": "message-parts", "seq": 2, "from": 1, "messageId": "m", "version": 2, "parts": [{ "type": "text" }] }),
        json!({ "type": "part-delta", "seq": 3, "messageId": "m", "part": 0, "offset": 0, "delta": "x" }),
        json!({ "type": "message-deleted", "seq": 4, "messageId": "m" }),
        json!({ "type": "session", "seq": 5, "session": { "title": "t", "metadata": {}, "deleted": true } }),
        json!({ "type": "turn", "seq": 6, "turn": turn }),
        json!({ "type": "part-update", "seq": 7, "messageId": "m", "part": 0, "fields": {} }),
        json!({ "type": "branch", "seq": 8, "firstSeq": 2 }),
        json!({ "type": "items", "seq": 9, "change": { "cutFrom": 1, "items": [{ "id": "i", "sequence": 1, "body": {}, "createdAtMs": 1 }] } }),
    ];
    let mut seen = BTreeSet::new();
    for frame in frames {
        let kind = EventKind::from_name(frame["type"].as_str().unwrap()).unwrap();
        // As the program writes it, not as it is written above.
        let event = Event::read(kind, &frame.to_string()).unwrap();
        let seq = frame["seq"].as_u64().unwrap();
        seen.insert(check_frame(&document, "LogFrame", &parse(&event.encode(seq))));
    }
    let all: BTreeSet<_> = EventKind::ALL.iter().map(|kind| kind.as_str().to_owned()).collect();
    assert_eq!(seen, all, "an event has no sample here");
    let mut known = kinds(&document, "LogFrame");
    assert!(known.remove("reset"));
    assert_eq!(known, all, "frames.json has events that there are not");
}

#[test]
fn every_frame_of_a_socket_has_a_schema() {
    let document = document();
    let problem = Problem::new("invalid", "x".to_owned(), "id".to_owned());
    let own = [
        native::ready("s", 1, 2, 0),
        native::ack("c", 1, &Default::default()),
        native::error(Some("c"), &problem),
        native::typing("dev", true),
        native::PONG.to_owned(),
    ];
    let mut seen: BTreeSet<_> =
        own.iter().map(|frame| check_frame(&document, "ServerFrame", &parse(frame))).collect();
    seen.extend(kinds(&document, "LogFrame"));
    assert_eq!(seen, kinds(&document, "ServerFrame"));

    let chunk = Default::default();
    let replies = [
        SocketReply::Start,
        SocketReply::Chunk(0, &chunk),
        SocketReply::End,
        SocketReply::NoActive,
        SocketReply::Error("x"),
    ];
    let seen: BTreeSet<_> = replies
        .iter()
        .map(|reply| {
            match reply {
                // A new one needs a schema and a place in the list above.
                SocketReply::Start
                | SocketReply::Chunk(..)
                | SocketReply::End
                | SocketReply::NoActive
                | SocketReply::Error(_) => {}
            }
            check_frame(&document, "UiFrame", &parse(&reply.json("r")))
        })
        .collect();
    assert_eq!(seen, kinds(&document, "UiFrame"));
}

#[test]
fn every_command_of_a_socket_has_a_schema_whose_example_is_taken() {
    let document = document();
    let examples = |union: &str| -> Vec<(String, String)> {
        let mapping = &document["components"]["schemas"][union]["discriminator"]["mapping"];
        let each = mapping.as_object().unwrap().iter();
        each.map(|(kind, name)| {
            let schema = document.pointer(&name.as_str().unwrap()[1..]).unwrap();
            assert_eq!(check_frame(&document, union, &schema["examples"][0]), *kind);
            (kind.clone(), schema["examples"][0].to_string())
        })
        .collect()
    };
    let native = ["parts", "ping", "send", "stop", "turn", "typing"];
    let found = examples("ClientCommand");
    assert!(found.iter().map(|(kind, _)| kind).eq(native), "{found:?}");
    for (kind, text) in found {
        let name = match ClientFrame::parse(&text).unwrap() {
            // A new one needs a schema, and a place in the list above.
            ClientFrame::Parts { .. } => "parts",
            ClientFrame::Ping => "ping",
            ClientFrame::Send { .. } => "send",
            ClientFrame::Stop { .. } => "stop",
            ClientFrame::Turn { .. } => "turn",
            ClientFrame::Typing(_) => "typing",
        };
        assert_eq!(name, kind);
    }
    let ui = ["abort", "resume", "send"];
    let found = examples("UiCommand");
    assert!(found.iter().map(|(kind, _)| kind).eq(ui), "{found:?}");
    for (kind, text) in found {
        let name = match SocketFrame::parse(&text).unwrap() {
            SocketFrame::Abort { .. } => "abort",
            SocketFrame::Resume { .. } => "resume",
            SocketFrame::Send { .. } => "send",
        };
        assert_eq!(name, kind);
    }
}
