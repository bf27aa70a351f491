//! Names: the key of an actor, ids that clients choose, ids that the server makes.

use std::fmt;
use std::sync::Arc;

use crate::base::limits::ID_BYTES_MAX;

/// Identity of an actor in maps and in the journal: a 128-bit hash of workspace, kind and id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyHash(pub [u8; 16]);

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl KeyHash {
    /// A number spread evenly over all keys, for choosing a shard.
    #[must_use]
    pub fn spread(self) -> u64 {
        u64::from_le_bytes(self.0[..8].try_into().expect("eight of sixteen bytes"))
    }
}

#[derive(PartialEq, Eq)]
struct Parts {
    workspace: String,
    id: String,
    hash: KeyHash,
}

/// Name of a session: workspace and id. Cheap to clone.
///
/// The same name always means the same actor. It is the only thing a file name is made from, and only through its
/// hash, so no character of an id ever reaches the file system.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Arc<Parts>);

/// The only kind of actor so far; part of every hash so that other kinds cannot collide with it.
pub const SESSION: &str = "session";

impl Key {
    /// Names session `id` of `workspace`.
    #[must_use]
    pub fn session(workspace: &str, id: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        // Lengths first, so that no two different names can be the same bytes.
        for part in [SESSION, workspace, id] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        let mut hash = [0; 16];
        hash.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        let (workspace, id) = (workspace.to_owned(), id.to_owned());
        Self(Arc::new(Parts { workspace, id, hash: KeyHash(hash) }))
    }

    /// The workspace it belongs to.
    #[must_use]
    pub fn workspace(&self) -> &str {
        &self.0.workspace
    }

    /// The id that clients use.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// Its identity in maps and file names.
    #[must_use]
    pub fn hash(&self) -> KeyHash {
        self.0.hash
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.workspace(), self.id())
    }
}

/// Whether `key` may be an idempotency key: 1 to 255 ASCII characters that can be printed.
#[must_use]
pub fn is_valid_key(key: &str) -> bool {
    let printable = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
    !key.is_empty() && key.len() <= ID_BYTES_MAX && key.bytes().all(printable)
}

/// Whether `id` may name a session or a message: 1 to 255 visible ASCII characters.
#[must_use]
pub fn is_valid(id: &str) -> bool {
    !id.is_empty() && id.len() <= ID_BYTES_MAX && id.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Whether `id` may name a session where client libraries choose the id: 1 to 255 bytes without control characters.
#[must_use]
pub fn is_valid_text(id: &str) -> bool {
    !id.is_empty() && id.len() <= ID_BYTES_MAX && !id.chars().any(char::is_control)
}

/// A new id: `UUIDv7`, so ids made later sort later.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that makes ids")]
pub fn fresh() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// The id that a repeated request with the same `seed` gets again, in the form of a UUID.
#[must_use]
pub fn derived(seed: &[&str]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in seed {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
}
