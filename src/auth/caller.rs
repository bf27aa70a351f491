//! The identity that a request was made with, and the places that a browser may make it from.

use std::net::IpAddr;

use crate::base::ids::Name;

/// Who asks. It cannot be made from a request's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    workspace: Name,
    user: String,
}

impl Caller {
    /// The only caller there is while no credentials are configured: user `dev` of workspace `default`.
    ///
    /// The server accepts on loopback addresses only in that mode.
    #[must_use]
    pub fn dev() -> Self {
        let workspace = Name::new("default").expect("a plain word is a name");
        Self { workspace, user: "dev".to_owned() }
    }

    /// The workspace that everything the caller names is in.
    #[must_use]
    pub fn workspace(&self) -> &Name {
        &self.workspace
    }

    /// The person or program.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }
}

/// Decides where a browser may come from while there are no credentials: only from this machine.
///
/// Any web page can make its visitor's browser send requests to a loopback address, and a name that resolves to one
/// makes them look like the page's own. So both the page (`Origin`) and the name (`Host`) must be of this machine.
pub struct Origin;

impl Origin {
    /// Whether `origin`, as `http://localhost:5173`, is a page of this machine.
    #[must_use]
    pub fn is_local(origin: &str) -> bool {
        let rest = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        rest.is_some_and(Self::is_local_host)
    }

    /// Whether `host`, as `127.0.0.1:8080`, names this machine.
    #[must_use]
    pub fn is_local_host(host: &str) -> bool {
        let name = match host.strip_prefix('[') {
            Some(rest) => match rest.split_once(']') {
                Some((name, port)) if is_port(port) => name,
                _ => return false,
            },
            None => match host.split_once(':') {
                Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
                Some(_) => return false,
                None => host,
            },
        };
        name.eq_ignore_ascii_case("localhost")
            || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

fn is_port(text: &str) -> bool {
    text.is_empty()
        || text.strip_prefix(':').is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_this_machine_are_local() {
        let local = [
            "http://localhost",
            "https://LOCALHOST:1",
            "http://127.0.0.1:5173",
            "http://[::1]:80",
            "http://127.9.9.9",
        ];
        let foreign = [
            "",
            "null",
            "localhost",
            "file://",
            "http://localhost.evil.example",
            "http://evil.example",
            "http://127.0.0.1.evil.example",
            "http://localhost:80@evil.example",
            "http://user@localhost",
            "http://[::1]evil",
            "http://[::2]",
            "http://0.0.0.0",
            "http://10.0.0.1",
            "http://localhost/x",
            "http://2130706433",
        ];
        for origin in local {
            assert!(Origin::is_local(origin), "{origin}");
        }
        for origin in foreign {
            assert!(!Origin::is_local(origin), "{origin}");
        }
    }
}
