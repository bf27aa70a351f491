//! Which session files this process has in use: one user at a time.
//!
//! SQLite keeps its own connections apart. What does not go through it must stay away from a file that is open: closing
//! any descriptor of a file ends all locks that the process has on it (POSIX). And two that migrate, repair or seal one
//! file at once would each undo what the other found.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use crate::base::ids::KeyHash;

/// The files in use. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Claims(Arc<Books>);

#[derive(Debug, Default)]
struct Books {
    taken: Mutex<HashSet<KeyHash>>,
    freed: Condvar,
}

impl Books {
    fn taken(&self) -> MutexGuard<'_, HashSet<KeyHash>> {
        // Every change is one call.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to use the file of one session, until it is dropped.
#[derive(Debug)]
pub struct Claim {
    claims: Claims,
    hash: KeyHash,
}

impl Claims {
    /// Takes the file of `hash`, once nobody else has it.
    pub(super) fn take(&self, hash: KeyHash) -> Claim {
        let mut taken = self.0.taken();
        while !taken.insert(hash) {
            taken = self.0.freed.wait(taken).unwrap_or_else(PoisonError::into_inner);
        }
        Claim { claims: self.clone(), hash }
    }

    /// Takes the file of `hash` unless somebody has it.
    pub(super) fn try_take(&self, hash: KeyHash) -> Option<Claim> {
        self.0.taken().insert(hash).then(|| Claim { claims: self.clone(), hash })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.claims.0.taken().remove(&self.hash);
        self.claims.0.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_user_and_the_next_one_waits() {
        let (claims, hash) = (Claims::default(), KeyHash([1; 16]));
        let first = claims.take(hash);
        assert!(claims.try_take(hash).is_none());
        assert!(claims.try_take(KeyHash([2; 16])).is_some(), "another file is free");
        let waiting = claims.clone();
        let second = std::thread::spawn(move || waiting.take(hash));
        drop(first);
        let second = second.join().unwrap();
        assert!(claims.try_take(hash).is_none());
        drop(second);
        assert!(claims.try_take(hash).is_some());
    }
}
