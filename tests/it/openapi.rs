//! The published description of the API, and the routes beside it: probes, version, metrics.

use crate::support::Server;
use crate::support::client::Client;
use crate::support::clock::SOON;
use crate::support::clock::eventually;
use crate::support::socket::Socket;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeSet;

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
async fn the_server_has_the_routes_of_the_document() {
    let server = Server::start();
    let client = Client::new(&server);
    let document = client.get("/openapi.json").await.expect(200);
    assert!(document["openapi"].as_str().unwrap().starts_with("3."), "{}", document["openapi"]);
    assert_eq!(
        document["info"]["title"].as_str().map(str::to_lowercase).as_deref(),
        Some("sessile")
    );
    let documented = operations(&document);
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
    assert!(text.ends_with("# EOF\n"), "{text}");
    assert!(!text.contains("\"s\""), "no session ids in labels: {text}");
    let problem = client.get("/metrics").with("origin", "http://evil.example").await;
    assert_eq!(problem.any_problem(&[403])["code"], json!("forbidden_origin"));
}

/// `name` and labels of each series but the buckets of histograms and the routes, which come with their first request.
fn series(text: &str) -> BTreeSet<String> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let names = lines.filter_map(|line| line.rsplit_once(' ')).map(|(series, _)| series.to_owned());
    names.filter(|series| !series.contains("_bucket{") && !series.contains("http_route")).collect()
}

#[tokio::test]
async fn every_series_is_there_before_anything_happens() {
    let server = Server::start();
    let client = Client::new(&server);
    let before = series(&client.get("/metrics").await.text(200));
    for name in ["sessile_turns_total{provider=\"echo\"", "process_open_fds", "sessile_sockets{"] {
        assert!(before.iter().any(|series| series.starts_with(name)), "{name}: {before:?}");
    }
    client.say("s", "x").await;
    client.chat("s", "Hello").await;
    client.post("/v1/sessions/s/messages", &json!({ "role": "nobody" })).await;
    client.post("/v1/sessions/s/stop", &json!({})).await;
    client.get("/v1/sessions/s/events?after=0&wait=1").await;
    drop(Socket::open(&server, "/v1/sessions/s/websocket?after=0").await);
    client.delete("/v1/sessions/s").await;
    let after = series(&client.get("/metrics").await.text(200));
    let late: Vec<_> = after.difference(&before).collect();
    assert!(late.is_empty(), "add their labels to base/metric.rs: {late:?}");
}

#[tokio::test]
async fn the_metrics_are_those_of_the_documentation() {
    let server = Server::start();
    let client = Client::new(&server);
    // Routes are there from their first request on.
    client.get("/livez").await.text(200);
    let text = client.get("/metrics").await.text(200);
    let served: BTreeSet<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .map(|(name, kind)| match kind {
            "counter" => format!("{name}_total"),
            "info" => format!("{name}_info"),
            _ => name.to_owned(),
        })
        .collect();
    let documented: BTreeSet<String> = include_str!("../../docs/operations.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(name, _)| name.to_owned())
        .filter(|name| name.starts_with("sessile_") || name.starts_with("process_"))
        .collect();
    assert_eq!(served, documented, "the table in docs/operations.md");
}

#[tokio::test]
async fn connections_sockets_and_the_journal_are_measured() {
    let server = Server::start();
    let client = Client::new(&server);
    client.say("s", "x").await;
    let socket = Socket::open(&server, "/v1/sessions/s/websocket?after=0").await;
    assert_eq!(client.metric("sessile_sockets", &["dialect=\"native\""]).await, Some(1.0));
    assert!(client.metric("sessile_connections", &[]).await.unwrap() >= 2.0);
    assert!(client.metric("sessile_journal_bytes", &[]).await.unwrap() >= 65_536.0);
    assert!(client.metric("sessile_journal_segments", &[]).await.unwrap() >= 1.0);
    assert!(client.metric("sessile_disk_free_bytes", &[]).await.unwrap() > 0.0);
    drop(socket);
    eventually(SOON, "the socket is gone", async || {
        let open = client.metric("sessile_sockets", &["dialect=\"native\""]).await;
        (open == Some(0.0)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_first_page_loads_nothing_and_leads_on() {
    let server = Server::start();
    let client = Client::new(&server);
    let reply = client.get("/").await;
    assert_eq!(reply.status, 200);
    assert!(reply.header("content-type").unwrap().starts_with("text/html"));
    let policy = reply.header("content-security-policy").unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    let page = reply.text(200);
    let address = server.base.strip_prefix("http://").unwrap();
    for word in
        [env!("CARGO_PKG_VERSION"), "echo", "dev mode", &format!("curl -N http://{address}/chat")]
    {
        assert!(page.contains(word), "{word}: {page}");
    }
    for foreign in ["<script", "src=", "@import", "url(", "https://"] {
        assert!(!page.contains(foreign), "{foreign}: {page}");
    }
    let mut links = 0;
    for link in page.split("href=\"").skip(1) {
        let path = link.split('"').next().unwrap();
        assert_eq!(client.get(path).await.status, 200, "{path}");
        links += 1;
    }
    assert!(links >= 8, "{page}");
    client.get("/docs/nothing").await.problem(404, "document_not_found");
}
