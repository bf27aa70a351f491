//! What a person sees who opens the address in a browser: where to begin, and the documents of this version.

use std::fmt::Write as _;

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::http::header;
use actix_web::web::Data;
use actix_web::web::Path;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::Digest as _;
use sha2::Sha256;

use crate::http::error::ApiError;
use crate::router::Router;

/// The documents in `docs/`, as they are in the repository.
pub(super) const DOCUMENTS: &[(&str, &str)] = &[
    ("README.md", include_str!("../../docs/README.md")),
    ("clients.md", include_str!("../../docs/clients.md")),
    ("concepts.md", include_str!("../../docs/concepts.md")),
    ("configuration.md", include_str!("../../docs/configuration.md")),
    ("deployment.md", include_str!("../../docs/deployment.md")),
    ("errors.md", include_str!("../../docs/errors.md")),
    ("models.md", include_str!("../../docs/models.md")),
    ("operations.md", include_str!("../../docs/operations.md")),
    ("protocol.md", include_str!("../../docs/protocol.md")),
    ("sockets.md", include_str!("../../docs/sockets.md")),
    ("tools.md", include_str!("../../docs/tools.md")),
];

const STYLE: &str = ":root{color-scheme:light dark}\
body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:3rem auto;padding:0 1rem;color:CanvasText;background:Canvas}\
h1{margin:0;font-size:1.8rem}h2{font-size:1.1rem;margin:2rem 0 .5rem}p{margin:.5rem 0}\
pre{padding:.8rem 1rem;white-space:pre-wrap;overflow-wrap:anywhere;border:1px solid color-mix(in srgb,CanvasText 25%,Canvas);border-radius:.4rem;\
background:color-mix(in srgb,CanvasText 6%,Canvas)}code{font:14px/1.5 ui-monospace,monospace}\
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1.5rem;margin:0}dt{opacity:.7}dd{margin:0}\
ul{margin:0;padding-left:1.2rem}a{color:LinkText}.ok::before,.no::before{content:'';display:inline-block;width:.6rem;\
height:.6rem;border-radius:50%;margin-right:.5rem;background:#2a9d4e}.no::before{background:#c8401f}";

/// The page that says what this is and where to begin.
#[utoipa::path(get, path = "/", tag = "health", operation_id = "index", responses((status = 200, body = String, content_type = "text/html")))]
pub(super) async fn index(request: HttpRequest, router: Data<Router>) -> HttpResponse {
    // Only names of this machine get here; the page is for whoever used this one.
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let page = page(host.unwrap_or("127.0.0.1:8080"), &router);
    html(page)
}

fn page(host: &str, router: &Router) -> String {
    let (class, state) = match router.is_ready() {
        true => ("ok", "ready"),
        false => ("no", "not ready: see the log"),
    };
    let (version, model) = (env!("CARGO_PKG_VERSION"), escape(router.default_model()));
    let host = escape(host);
    let mut documents = String::new();
    for (name, text) in DOCUMENTS {
        let title = text.lines().next().unwrap_or_default().trim_start_matches("# ");
        let title = escape(title);
        write!(documents, "<li><a href=\"/docs/{name}\">{title}</a></li>")
            .expect("writing to a string");
    }
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>sessile</title>\
<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><style>{STYLE}</style></head><body>\
<h1>sessile</h1><p>The stateful backend of AI chat: one durable actor and one SQLite file per conversation.</p>\
<h2>State</h2><dl><dt>Server</dt><dd class=\"{class}\">{state}</dd><dt>Version</dt><dd>{version}</dd>\
<dt>Default model</dt><dd><code>{model}</code></dd>\
<dt>Access</dt><dd>dev mode: no credentials, this machine only</dd></dl>\
<h2>Say something</h2>\
<pre><code>curl -N http://{host}/chat/hello -d '{{\"content\":\"Hello\"}}'</code></pre>\
<p>Then follow everything that happens in that conversation:</p>\
<pre><code>curl -N 'http://{host}/v1/sessions/hello/events?after=0' -H 'Accept: text/event-stream'</code></pre>\
<h2>Documents</h2><ul>{documents}\
<li><a href=\"/openapi.json\">OpenAPI document</a></li></ul>\
<p>Examples (React, a plain page, agents in Python and TypeScript, curl) are in <code>examples/</code> of the repository.</p>\
<h2>Operations</h2><ul><li><a href=\"/readyz\">Ready?</a> · <a href=\"/livez\">Alive?</a></li>\
<li><a href=\"/metrics\">Metrics</a></li><li><a href=\"/version\">Version</a></li>\
<li><a href=\"/v1/sessions\">Sessions</a></li></ul></body></html>"
    )
}

/// A page that loads nothing and runs nothing.
fn html(page: String) -> HttpResponse {
    let style = BASE64_STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((header::CONTENT_SECURITY_POLICY, policy))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .body(page)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A document of this version, as Markdown.
#[utoipa::path(
    get, path = "/docs/{name}", tag = "health", operation_id = "readDocument", params(("name" = String, Path)),
    responses((status = 200, body = String, content_type = "text/plain"))
)]
pub(super) async fn read(name: Path<String>) -> Result<HttpResponse, ApiError> {
    let Some((_, text)) = DOCUMENTS.iter().find(|(known, _)| *known == name.as_str()) else {
        let known: Vec<&str> = DOCUMENTS.iter().map(|(name, _)| *name).collect();
        let detail = format!("there is no document `{name}`; there are {}", known.join(", "));
        return Err(ApiError::new("document_not_found", detail));
    };
    Ok(HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .body(*text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_document_of_the_repository_is_served() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
        for entry in std::fs::read_dir(folder).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".md") {
                let served = DOCUMENTS.iter().any(|(known, _)| *known == name);
                assert!(served, "add docs/{name} to DOCUMENTS in src/http/pages.rs");
            }
        }
    }
}
