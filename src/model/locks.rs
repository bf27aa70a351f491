//! A lock per name: who does things one after the other for the same name and at once for others.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::Weak;

type Lock = tokio::sync::Mutex<()>;

/// Locks that exist while somebody holds them or waits for them.
pub(super) struct Locks<K>(Mutex<HashMap<K, Weak<Lock>>>);

impl<K> Default for Locks<K> {
    fn default() -> Self {
        Self(Mutex::new(HashMap::new()))
    }
}

impl<K: Eq + Hash> Locks<K> {
    /// The lock of `name`.
    pub(super) fn of(&self, name: K) -> Arc<Lock> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        locks.retain(|_, lock| lock.strong_count() > 0);
        let lock = locks.entry(name).or_default();
        lock.upgrade().unwrap_or_else(|| {
            let fresh = Arc::default();
            *lock = Arc::downgrade(&fresh);
            fresh
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_lock_as_long_as_it_is_held() {
        let locks = Locks::default();
        let held = locks.of("a").try_lock_owned().expect("free");
        assert!(locks.of("a").try_lock_owned().is_err());
        assert!(locks.of("b").try_lock_owned().is_ok());
        drop(held);
        assert!(locks.of("a").try_lock_owned().is_ok());
    }
}
