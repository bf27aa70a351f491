//! What the provider said it counted stays, however an answer ends.

use super::Models;
use crate::support::client::Client;
use crate::support::client::session;
use crate::support::clock::SOON;
use crate::support::clock::eventually;
use crate::support::server::Options;
use crate::support::strict_server::Told;
use serde_json::Value;
use serde_json::json;

/// The beginning of an answer: tokens, and some text.
fn begun(dialect: &str) -> String {
    let events = match dialect {
        "anthropic" => vec![
            json!({"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 5, "output_tokens": 1}}}),
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
            json!({"type": "message_delta", "delta": {}, "usage": {"output_tokens": 2}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "half"}}),
        ],
        _ => vec![
            json!({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}),
            json!({"choices": [{"delta": {"content": "half"}}]}),
        ],
    };
    events.iter().map(|event| format!("data: {event}\n\n")).collect()
}

async fn begin(client: &Client, models: &Models, dialect: &str, rest: Option<&str>) -> Value {
    let (own, model) = models.of(dialect);
    let body = (begun(dialect) + rest.unwrap_or_default()).into_bytes();
    own.tell(Told { status: 200, content_type: "text/event-stream", body, hangs: rest.is_none() });
    let body = json!({ "message": { "role": "user", "content": "hello" }, "model": model });
    let path = format!("{}/turns", session(dialect));
    let turn = client.post(&path, &body).with("prefer", "respond-async").await.expect(202);
    let message = format!("{}/messages/{}", session(dialect), turn["messageId"].as_str().unwrap());
    eventually(SOON, "the text is there", async || {
        let message = client.get(&message).await.expect(200);
        let said = message["parts"].to_string().contains("half") || message["content"] == "half";
        said.then_some(())
    })
    .await;
    turn
}

async fn counted(client: &Client, dialect: &str, turn: &Value, status: &str) {
    let path = format!("{}/messages/{}", session(dialect), turn["messageId"].as_str().unwrap());
    let message = eventually(SOON, "the answer is over", async || {
        let message = client.get(&path).await.expect(200);
        (message["status"] == status).then_some(message)
    })
    .await;
    let then = json!({ "inputTokens": 5, "outputTokens": 2 });
    assert_eq!(message["metadata"]["usage"], then, "{dialect} {status}: {message}");
    assert_eq!(message["content"], "half", "{dialect} {status}");
}

#[tokio::test]
async fn stopped_failed_and_interrupted_answers_keep_their_tokens() {
    let models = Models::start();
    for dialect in ["anthropic", "chat"] {
        let folder = tempfile::tempdir().unwrap();
        let mut server = models.known_to(Options::default()).start_in(folder.path());
        let client = Client::new(&server);
        let turn = begin(&client, &models, dialect, None).await;
        client.post(&format!("{}/stop", session(dialect)), &json!({})).await.expect(200);
        counted(&client, dialect, &turn, "stopped").await;
        let error = json!({ "type": "error", "error": { "message": "no", "type": "x" } });
        let error = format!("event: error\ndata: {error}\n\n");
        let turn = begin(&client, &models, dialect, Some(&error)).await;
        counted(&client, dialect, &turn, "failed").await;
        let turn = begin(&client, &models, dialect, None).await;
        server.kill();
        let server = models.known_to(Options::default()).start_in(folder.path());
        let client = Client::new(&server);
        counted(&client, dialect, &turn, "interrupted").await;
    }
}
