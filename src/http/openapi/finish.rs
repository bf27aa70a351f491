//! What all operations have in common, and what no attribute can say.

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::base::limits::ID_BYTES_MAX;
use crate::http::error::Shape;

/// Schemas of the frames of streams and sockets.
pub(super) const FRAMES: &str = include_str!("frames.json");

/// Operations that answer a stream: id, content type, schema of what its events hold.
const STREAMS: &[(&str, &str, &str)] = &[
    ("readEvents", "text/event-stream", "LogFrame"),
    ("startTurn", "text/event-stream", "LogFrame"),
    ("chat", "text/event-stream", "ChatEvent"),
    ("uiChat", "text/event-stream", "UiChunk"),
    ("uiResume", "text/event-stream", "UiChunk"),
    ("uiCompletion", "text/event-stream", "UiChunk"),
    ("uiResumeV4", "text/plain", "UiChunk"),
];

/// Operations that open a socket: id, sub-protocol, schema of what it sends, of what it takes.
const SOCKETS: &[(&str, &str, &str, Option<&str>)] = &[
    ("openSocket", "sessile.v1", "ServerFrame", Some("ClientCommand")),
    ("openChatSocket", "", "ChatFrame", None),
    ("uiSocket", "", "UiFrame", Some("UiCommand")),
];

/// The second home of the AI SDK's routes.
const BUILDER: (&str, &str) = ("/api/chat", "/api/builder/chat");

fn reference(kind: &str, name: &str) -> Value {
    json!({ "$ref": format!("#/components/{kind}/{name}") })
}

/// The members of the object at `pointer`, which is made if there is none.
fn object<'a>(value: &'a mut Value, name: &str) -> &'a mut Map<String, Value> {
    let members = value.as_object_mut().expect("an object");
    let member = members.entry(name).or_insert_with(|| json!({}));
    member.as_object_mut().expect("an object")
}

/// Completes `document`.
pub(super) fn finish(document: &mut Value) {
    let frames: Map<String, Value> = serde_json::from_str(FRAMES).expect("frames.json is JSON");
    let components = document.get_mut("components").expect("there are schemas");
    object(components, "schemas").extend(frames);
    let events = components.pointer_mut("/schemas/EventPage/properties/events/items");
    *events.expect("a page has events") = reference("schemas", "LogFrame");
    object(components, "headers").insert(
        "RequestId".to_owned(),
        json!({
            "description": "Names the request, in errors as `correlationId`, and in the server's log.",
            "schema": { "type": "string" },
        }),
    );
    for (name, content_type, schema, what) in [
        ("Problem", "application/problem+json", "Problem", "Why not: a problem document."),
        ("UiError", "application/json", "UiError", "Why not."),
        ("ChatError", "application/json", "ChatError", "Why not."),
        ("OpenAiError", "application/json", "OpenAiError", "Why not."),
    ] {
        let mut response = json!({ "description": what, "content": {} });
        response["content"][content_type] = json!({ "schema": reference("schemas", schema) });
        response["headers"] = json!({ "X-Request-Id": reference("headers", "RequestId") });
        object(components, "responses").insert(name.to_owned(), response);
    }
    document["security"] = json!([]);
    let paths = object(document, "paths");
    for (path, item) in paths.iter_mut() {
        for (method, operation) in item.as_object_mut().expect("a path item") {
            complete(Shape::of(path), method, operation);
        }
    }
    let copies: Vec<(String, Value)> =
        paths.iter().filter_map(|(path, item)| Some((second(path)?, copy(item)))).collect();
    paths.extend(copies);
}

/// The second home of the route at `path`, if it has one.
fn second(path: &str) -> Option<String> {
    path.strip_prefix(BUILDER.0).map(|rest| format!("{}{rest}", BUILDER.1))
}

fn copy(item: &Value) -> Value {
    let mut item = item.clone();
    for operation in item.as_object_mut().expect("a path item").values_mut() {
        let id = operation["operationId"].as_str().unwrap_or_default();
        operation["operationId"] = json!(format!("{id}Builder"));
    }
    item
}

fn complete(shape: Shape, method: &str, operation: &mut Value) {
    let id = operation["operationId"].as_str().unwrap_or_default().to_owned();
    parameters(method, operation);
    let responses = object(operation, "responses");
    responses.retain(|status, _| !status.starts_with(['4', '5']));
    let error = match shape {
        Shape::Native => "Problem",
        Shape::Ui => "UiError",
        Shape::Chat => "ChatError",
        Shape::OpenAi => "OpenAiError",
    };
    for (status, response) in responses.iter_mut() {
        if response["description"].as_str().is_none_or(str::is_empty) {
            response["description"] = json!(phrase(status));
        }
        response["headers"] = json!({ "X-Request-Id": reference("headers", "RequestId") });
    }
    for status in ["4XX", "5XX"] {
        responses.insert(status.to_owned(), reference("responses", error));
    }
    if id == "ready" || id == "healthy" {
        let text = json!({ "text/plain": { "schema": { "type": "string" } } });
        responses.insert("503".to_owned(), json!({ "description": "Not now.", "content": text }));
    }
    if let Some((_, content_type, schema)) = STREAMS.iter().find(|(of, ..)| *of == id) {
        let stream = json!({ "schema": {
            "type": "string",
            "description": format!("Server-sent events, each with a `{schema}` as its data."),
            "contentMediaType": content_type,
            "contentSchema": reference("schemas", schema),
        }});
        object(&mut responses["200"], "content").insert((*content_type).to_owned(), stream);
    }
    if let Some((_, protocol, sends, takes)) = SOCKETS.iter().find(|(of, ..)| *of == id) {
        let mut socket = json!({ "sends": reference("schemas", sends) });
        if let Some(takes) = takes {
            socket["takes"] = reference("schemas", takes);
        }
        if !protocol.is_empty() {
            socket["subprotocol"] = json!(protocol);
        }
        operation["x-websocket"] = socket;
    }
}

/// Describes the parameters, and adds the idempotency key to what writes.
fn parameters(method: &str, operation: &mut Value) {
    let members = operation.as_object_mut().expect("an operation");
    let parameters = members.entry("parameters").or_insert_with(|| json!([]));
    let parameters = parameters.as_array_mut().expect("a list");
    let writes = matches!(method, "post" | "put" | "patch" | "delete");
    parameters.retain(|parameter| parameter["name"] != "Idempotency-Key");
    if writes {
        parameters.push(json!({
            "name": "Idempotency-Key", "in": "header", "required": false,
            "description": "Makes the request safe to repeat: 1 to 255 bytes of UTF-8 without control characters, another for each change.",
            "schema": { "type": "string", "minLength": 1, "maxLength": ID_BYTES_MAX },
        }));
    }
    for parameter in parameters {
        let name = parameter["name"].as_str().unwrap_or_default().to_owned();
        if parameter["description"].as_str().is_none_or(str::is_empty) {
            parameter["description"] = json!(described(&name));
        }
    }
}

/// What a name in a path is.
pub(super) fn described(name: &str) -> &'static str {
    match name {
        "id" => "The session: the id that the client chose or the server made.",
        "mid" => "The message.",
        "item" => "The item.",
        "branch" => "The branch: the number that the list of branches gives.",
        "approval" => "The approval: the id in the tool call that waits.",
        "code" => "The error code.",
        "name" => "The document.",
        _ => "",
    }
}

/// What a status means where the operation does not say.
fn phrase(status: &str) -> &'static str {
    match status {
        "101" => "The socket is open.",
        "200" => "Done.",
        "201" => "Made.",
        "202" => "Accepted: it goes on by itself.",
        "204" => "Done, and there is nothing to say.",
        _ => "",
    }
}
