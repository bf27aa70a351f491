//! The cryptography behind every TLS connection of the server.

use std::sync::Once;

use reqwest::Client;
use reqwest::ClientBuilder;

static ONCE: Once = Once::new();

/// Chooses the provider of cryptography for the process; any number of calls is fine.
///
/// Must come before the first HTTP client is made: `reqwest` panics without a provider. One that somebody chose earlier
/// stays. Source: `reqwest` 0.13, feature `rustls-no-provider`.
pub fn ready() {
    ONCE.call_once(|| {
        if rustls::crypto::ring::default_provider().install_default().is_err() {
            tracing::debug!("a provider of cryptography was chosen before");
        }
    });
}

/// The HTTP client that `builder` describes. It trusts whom the system trusts; where the system has no certificates, as in
/// a minimal container, it trusts nobody, so that only plain connections work.
///
/// # Errors
///
/// Why it cannot be made.
pub fn client(builder: impl Fn() -> ClientBuilder) -> Result<Client, String> {
    ready();
    builder().build().or_else(|error| {
        tracing::warn!("the system's certificates cannot be used: {error}");
        builder().tls_certs_only([]).build().map_err(|error| error.to_string())
    })
}
