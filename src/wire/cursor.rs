//! Page tokens: opaque to clients, versioned, bound to the session that they came from.

use crate::base::Key;
use crate::base::ids::KeyHash;

/// The token for the place `seq` in the history of `key`.
#[must_use]
pub fn encode(key: &Key, seq: u64) -> String {
    format!("c1.{seq:x}.{:08x}", check(key, seq))
}

/// The place that `token` names in the history of `key`; `None` if it is no token of that session.
#[must_use]
pub fn decode(key: &Key, token: &str) -> Option<u64> {
    let (seq, sum) = token.strip_prefix("c1.")?.split_once('.')?;
    let seq = u64::from_str_radix(seq, 16).ok()?;
    (u32::from_str_radix(sum, 16).ok()? == check(key, seq) && encode(key, seq) == token)
        .then_some(seq)
}

/// Keeps tokens of other sessions and mistyped ones apart. It guards against mistakes, not against malice: whoever
/// may read a session may read every place in it.
fn check(key: &Key, seq: u64) -> u32 {
    let mut bytes = [0; 24];
    bytes[..16].copy_from_slice(&key.hash().0);
    bytes[16..].copy_from_slice(&seq.to_le_bytes());
    crc32fast::hash(&bytes)
}

/// The token for the place behind a session in the list of sessions.
#[must_use]
pub fn encode_list(updated_at_ms: i64, hash: KeyHash) -> String {
    format!("l1.{updated_at_ms}.{hash}")
}

/// The place that `token` names in the list of sessions.
#[must_use]
pub fn decode_list(token: &str) -> Option<(i64, KeyHash)> {
    let (at_ms, hash) = token.strip_prefix("l1.")?.split_once('.')?;
    Some((at_ms.parse().ok()?, KeyHash::parse(hash)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::ids::tests::name;
    use crate::base::ids::tests::session;

    proptest! {
        #[test]
        fn a_token_says_the_same_place_of_any_session(workspace in name(), id in name(), seq: u64, at_ms: i64) {
            let key = Key::session(&workspace, &id);
            let (token, list) = (encode(&key, seq), encode_list(at_ms, key.hash()));
            prop_assert!(token.is_ascii() && list.is_ascii());
            prop_assert_eq!(decode(&key, &token), Some(seq));
            prop_assert_eq!(decode_list(&list), Some((at_ms, key.hash())));
        }
    }

    #[test]
    fn a_token_is_good_for_its_own_session_only() {
        let (mine, other) = (session("a"), session("b"));
        let token = encode(&mine, 4_711);
        assert_eq!(decode(&mine, &token), Some(4_711));
        assert_eq!(decode(&other, &token), None);
        for bad in ["", "c1.", "c1.1.", "c1.+1.0", "c2.1.00000000", "-1", "c1.ffffffffffffffffff.0"]
        {
            assert_eq!(decode(&mine, bad), None, "{bad}");
        }
        let list = encode_list(-5, mine.hash());
        assert_eq!(decode_list(&list), Some((-5, mine.hash())));
        assert_eq!(decode_list("l1.0.zz"), None);
    }
}
