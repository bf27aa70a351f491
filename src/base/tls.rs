//! The cryptography behind every TLS connection of the server.

use std::sync::Once;

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
