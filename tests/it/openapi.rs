//! The published description of the API, and the routes beside it: probes, version, metrics.

use crate::support::Server;
use crate::support::client::Client;
use serde_json::Value;
use serde_json::json;

/// Every route of the contract: method and path as the document writes it.
const ROUTES: &[(&str, &str)] = &[
    ("get", "/livez"),
    ("get", "/readyz"),
    ("get", "/healthz"),
    ("get", "/version"),
    ("get", "/metrics"),
    ("get", "/openapi.json"),
    ("get", "/problems/{}"),
    ("post", "/v1/sessions"),
    ("get", "/v1/sessions"),
    ("get", "/v1/sessions/{}"),
    ("patch", "/v1/sessions/{}"),
    ("delete", "/v1/sessions/{}"),
    ("post", "/v1/sessions/{}/messages"),
    ("get", "/v1/sessions/{}/messages"),
    ("get", "/v1/sessions/{}/messages/count"),
    ("get", "/v1/sessions/{}/messages/{}"),
    ("put", "/v1/sessions/{}/messages/{}/parts"),
    ("delete", "/v1/sessions/{}/messages/{}"),
    ("get", "/v1/sessions/{}/events"),
    ("get", "/v1/sessions/{}/websocket"),
    ("post", "/v1/conversations"),
    ("get", "/v1/conversations/{}"),
    ("post", "/v1/conversations/{}"),
    ("delete", "/v1/conversations/{}"),
    ("get", "/v1/conversations/{}/items"),
    ("post", "/v1/conversations/{}/items"),
    ("get", "/v1/conversations/{}/items/{}"),
    ("delete", "/v1/conversations/{}/items/{}"),
    ("post", "/chat/{}"),
    ("get", "/chat/{}/messages"),
    ("post", "/chat/{}/messages"),
    ("get", "/chat/{}/websocket"),
];

/// The method and path of every operation in the document, with parameter names left out.
fn operations(document: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            if ["get", "put", "post", "delete", "patch"].contains(&method.as_str()) {
                found.push((method.clone(), without_names(path)));
            }
        }
    }
    found
}

/// `/a/{name}/b` as `/a/{}/b`.
fn without_names(path: &str) -> String {
    let mut plain = String::new();
    let mut inside = false;
    for letter in path.chars() {
        match letter {
            '{' => inside = true,
            '}' => {
                inside = false;
                plain.push_str("{}");
            }
            _ if inside => {}
            _ => plain.push(letter),
        }
    }
    plain
}

/// Whether the server knows this route at all.
async fn answers(client: &Client, method: &str, path: &str) -> bool {
    let request = client.request(&method.to_uppercase(), &path.replace("{}", "unknown"));
    let reply = request.body("application/json", "").await;
    let unrouted = reply.status == 405
        || reply.body == "Not found"
        || (reply.status == 404 && reply.json()["code"] == "route_not_found");
    assert!(unrouted || reply.status < 500, "{method} {path}: {reply:?}");
    !unrouted
}

#[tokio::test]
async fn the_document_and_the_server_have_the_same_routes() {
    let server = Server::start();
    let client = Client::new(&server);
    let document = client.get("/openapi.json").await.expect(200);
    assert!(document["openapi"].as_str().unwrap().starts_with("3."), "{}", document["openapi"]);
    assert_eq!(
        document["info"]["title"].as_str().map(str::to_lowercase).as_deref(),
        Some("sessile")
    );
    let documented = operations(&document);
    for (method, path) in ROUTES {
        let listed = documented.iter().any(|(m, p)| (m.as_str(), p.as_str()) == (*method, *path));
        assert!(listed, "{method} {path} is not in the document: {documented:?}");
    }
    for (method, path) in &documented {
        assert!(answers(&client, method, path).await, "{method} {path} is documented only");
    }
}

#[tokio::test]
async fn every_operation_says_what_it_answers() {
    let server = Server::start();
    let document = Client::new(&server).get("/openapi.json").await.expect(200);
    let mut ids = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if !operation.is_object() {
                continue;
            }
            let responses = operation["responses"].as_object();
            assert!(responses.is_some_and(|all| !all.is_empty()), "{method} {path}");
            ids.push(operation["operationId"].as_str().unwrap().to_owned());
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            let named = parameters.iter().filter(|one| one["in"] == "path").count();
            assert_eq!(named, path.matches('{').count(), "path parameters of {method} {path}");
        }
    }
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count, "operation ids are unique");
}

#[tokio::test]
async fn every_reference_in_the_document_resolves() {
    let server = Server::start();
    let document = Client::new(&server).get("/openapi.json").await.expect(200);
    let text = document.to_string();
    for piece in text.split("\"$ref\":\"").skip(1) {
        let reference = piece.split('"').next().unwrap();
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

#[tokio::test]
async fn the_probes_answer() {
    let server = Server::start();
    let client = Client::new(&server);
    for path in ["/livez", "/readyz", "/healthz"] {
        assert_eq!(client.get(path).await.status, 200, "{path}");
    }
    let version = client.get("/version").await.expect(200);
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"), "{version}");
}

#[tokio::test]
async fn the_metrics_are_in_the_text_format() {
    let server = Server::start();
    let client = Client::new(&server);
    client.say("s", "x").await;
    let text = client.get("/metrics").await.text(200);
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(name.starts_with("sessile_") || name.starts_with("process_"), "{line}");
        value.parse::<f64>().unwrap();
    }
    assert!(text.contains("# HELP sessile_") && text.contains("# TYPE sessile_"), "{text}");
    assert_eq!(client.awake().await, 1.0);
    assert!(!text.contains("\"s\""), "no session ids in labels: {text}");
    let problem = client.get("/metrics").with("origin", "http://evil.example").await;
    assert_eq!(problem.any_problem(&[403])["code"], json!("forbidden_origin"));
}
