//! Names: what anything may be called is decided here and nowhere else.
//!
//! [`Name`] is the only way to a [`Key`], so whatever a route takes, the journal, the files and the catalogue can hold
//! and give back. Names are compared byte by byte: two spellings of one word (`é` as one character or as two) are two
//! names, as they are to the clients that made them.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use percent_encoding::AsciiSet;
use percent_encoding::CONTROLS;
use percent_encoding::utf8_percent_encode;
use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::de::Error as _;

use crate::base::limits::CALL_ID_BYTES_MAX;
use crate::base::limits::ID_BYTES_MAX;

/// Why a text is no [`Name`]; completes "`id` …".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", Self::RULE)]
pub struct NotAName;

impl NotAName {
    /// What a name is.
    pub const RULE: &'static str = "must be 1 to 255 bytes of UTF-8 without control characters";
}

/// What somebody called a session, a message, an item, a project or a request.
///
/// 1 to 255 bytes of UTF-8 without control characters. Anything else is allowed: blanks, `/`, `..`, `%`, any script.
/// Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Name(Arc<str>);

/// What a header cannot hold as it is, and the mark of what stands for it.
const HEADER_ESCAPED: &AsciiSet = &CONTROLS.add(b' ').add(b'%');

impl Name {
    /// Takes `text` as a name.
    ///
    /// # Errors
    ///
    /// [`NotAName`] when nothing can be called that.
    pub fn new(text: impl AsRef<str> + Into<Arc<str>>) -> Result<Self, NotAName> {
        if is_text(text.as_ref(), ID_BYTES_MAX) { Ok(Self(text.into())) } else { Err(NotAName) }
    }

    /// The name itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As the value of a header: blanks, `%` and what is not ASCII are percent-encoded.
    #[must_use]
    pub fn in_header(&self) -> String {
        utf8_percent_encode(&self.0, HEADER_ESCAPED).to_string()
    }
}

fn is_text(text: &str, bytes_max: usize) -> bool {
    !text.is_empty() && text.len() <= bytes_max && !text.chars().any(char::is_control)
}

/// Whether `id` may name a call of a tool. Model servers make these and clients send them back; some are long.
#[must_use]
pub fn is_call_id(id: &str) -> bool {
    is_text(id, CALL_ID_BYTES_MAX)
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// In quotes, with what cannot be seen escaped: a log line shows what the name is, not what it looks like.
impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0.as_ref().to_owned()
    }
}

/// The key under which a request is carried out once: a name that a client gave it, in a header or in a frame.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// The key that a client sent.
    ///
    /// # Errors
    ///
    /// [`NotAName`] when it cannot be one.
    pub fn new(text: &str) -> Result<Self, NotAName> {
        Name::new(text).map(|name| Self(name.into()))
    }

    /// The key of one `step` of a request that has several, named by `key` as a whole.
    #[must_use]
    pub fn step(step: &str, key: &str) -> Self {
        Self(format!("{step} {key}"))
    }

    /// As it is stored.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The kinds of actors, as journal records and hashes tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ActorKind {
    /// A chat session.
    Session = 1,
    /// What tests count with.
    #[cfg(test)]
    Counter = 255,
}

impl ActorKind {
    /// Every kind.
    pub const ALL: &[Self] = &[
        Self::Session,
        #[cfg(test)]
        Self::Counter,
    ];

    /// The kind with this number in a journal record.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| *kind as u8 == number)
    }

    /// The kind that is called `name`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == name)
    }

    /// Where the files of such actors lie in the data folder.
    #[must_use]
    pub fn folder(self) -> &'static str {
        match self {
            Self::Session => "sessions",
            #[cfg(test)]
            Self::Counter => "counters",
        }
    }

    /// Its name, which is part of every hash.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            #[cfg(test)]
            Self::Counter => "counter",
        }
    }
}

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
    /// The hash of `name` of `workspace`, among actors of `kind`.
    #[must_use]
    pub fn of(kind: ActorKind, workspace: &str, name: &str) -> Self {
        Self(digest(&[kind.as_str(), workspace, name]))
    }

    /// The hash that [`fmt::Display`] wrote as `text`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 32 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        Some(Self(u128::from_str_radix(text, 16).ok()?.to_be_bytes()))
    }

    /// A number spread evenly over all keys, for choosing a shard.
    #[must_use]
    pub fn spread(self) -> u64 {
        u64::from_le_bytes(self.0[..8].try_into().expect("eight of sixteen bytes"))
    }
}

/// 128 bits over `parts`; lengths first, so that no two different lists can be the same bytes.
fn digest(parts: &[&str]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    let mut digest = [0; 16];
    digest.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    digest
}

#[derive(PartialEq, Eq)]
struct Parts {
    kind: ActorKind,
    workspace: Name,
    name: Name,
    hash: KeyHash,
}

/// Identity of an actor: kind, workspace and name. Cheap to clone.
///
/// The same name always means the same actor. It is the only thing a file name is made from, and only through its
/// hash, so no character of a name ever reaches the file system.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Arc<Parts>);

impl Key {
    /// The session `name` of `workspace`.
    #[must_use]
    pub fn session(workspace: &Name, name: &Name) -> Self {
        Self::new(ActorKind::Session, workspace.clone(), name.clone())
    }

    /// The actor of `kind` that is called `name` in `workspace`.
    #[must_use]
    pub fn new(kind: ActorKind, workspace: Name, name: Name) -> Self {
        let hash = KeyHash::of(kind, &workspace, &name);
        Self(Arc::new(Parts { kind, workspace, name, hash }))
    }

    /// What kind of actor.
    #[must_use]
    pub fn kind(&self) -> ActorKind {
        self.0.kind
    }

    /// The workspace it belongs to.
    #[must_use]
    pub fn workspace(&self) -> &str {
        &self.0.workspace
    }

    /// The id that clients use.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0.name
    }

    /// The id that clients use.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.0.name
    }

    /// Its identity in maps and file names.
    #[must_use]
    pub fn hash(&self) -> KeyHash {
        self.0.hash
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.workspace().escape_debug(), self.id().escape_debug())
    }
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
    uuid::Builder::from_custom_bytes(digest(seed)).into_uuid().to_string()
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every kind of name that a route takes, the strange ones often.
    pub(crate) fn name() -> impl Strategy<Value = Name> {
        let strange = prop::sample::select(vec![
            " ",
            " a ",
            ".",
            "..",
            "%",
            "%2F",
            "%00",
            "/",
            "a/../b",
            "?",
            "#",
            "\"",
            "\\",
            "é",
            "e\u{301}",
            "\u{202e}gpj",
            "\u{200b}",
            "\u{feff}",
            "🙂",
            "漢字",
            "👩\u{200d}👩",
            "\u{2028}",
            "count",
        ]);
        let longest = "[a-zé]{1,4}".prop_map(|text| text.repeat(ID_BYTES_MAX / text.len()));
        let any = prop_oneof![strange.prop_map(str::to_owned), "\\PC{1,60}", longest];
        any.prop_filter_map("no name", |text| Name::new(text).ok())
    }

    /// The session `name` of the workspace of tests.
    pub(crate) fn session(name: &str) -> Key {
        let named = |text: &str| Name::new(text).expect("a name");
        Key::session(&named("default"), &named(name))
    }

    #[test]
    fn a_name_is_what_can_be_seen_of_a_text() {
        let longest = "é".repeat(ID_BYTES_MAX / 2) + "x";
        for good in ["a", " ", "..", "é", "e\u{301}", "\u{202e}", "🙂", longest.as_str()] {
            let name = Name::new(good).expect(good);
            let json = serde_json::to_string(&name).expect("text");
            assert_eq!(serde_json::from_str::<Name>(&json).expect("a name"), name);
        }
        let long = "é".repeat(ID_BYTES_MAX / 2 + 1);
        for bad in ["", "\n", "a\0", "\u{7f}", "\u{85}", long.as_str()] {
            assert_eq!(Name::new(bad), Err(NotAName), "{bad:?}");
        }
        assert_ne!(session("é").hash(), session("e\u{301}").hash());
    }

    #[test]
    fn hashes_never_change() {
        let known = session("s").hash().to_string();
        assert_eq!(known, "77c606728029d49269babd85a7bc2c82");
    }
}
