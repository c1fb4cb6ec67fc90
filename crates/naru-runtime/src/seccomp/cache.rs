//! Filters of the profiles that were compiled last, found by the profile itself: its hash first, then its equality, so
//! no collision can give a container another one's filter.
//!
//! Only in memory, for processes that start many containers, which also compile a profile at `create` to refuse a bad
//! one. A file per profile would not pay: compiling Docker's takes about 0.15 ms, and most of that would go into the
//! file's key, its reading and the checks of its owner and content (`bench` in `tests.rs` prints both).

use super::{Filter, SeccompError, compile};
use crate::oci;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// A host has a handful of profiles; one has about 20 KiB.
const PROFILES_MAX: usize = 16;

#[derive(Default)]
struct Cache {
    filters: Mutex<HashMap<oci::Seccomp, Arc<Filter>>>,
    /// Somebody has asked before. `naru oci` asks once, and a copy of the profile would be for nobody.
    was_asked: AtomicBool,
}

static CACHE: LazyLock<Cache> = LazyLock::new(Cache::default);

/// As [`compile`], from the cache when it is there.
pub fn cached(profile: &oci::Seccomp) -> Result<Arc<Filter>, SeccompError> {
    CACHE.find(profile)
}

impl Cache {
    fn find(&self, profile: &oci::Seccomp) -> Result<Arc<Filter>, SeccompError> {
        // The map is whole after each statement, so a panic elsewhere while it was held has broken nothing.
        if !self.was_asked.swap(true, Ordering::Relaxed) {
            return compile(profile).map(Arc::new);
        }
        let mut filters = self.filters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(filter) = filters.get(profile) {
            return Ok(Arc::clone(filter));
        }
        let filter = Arc::new(compile(profile)?);
        // Whoever has more profiles than this makes them up as they go, and no order of eviction would help.
        if filters.len() >= PROFILES_MAX {
            filters.clear();
        }
        filters.insert(profile.clone(), Arc::clone(&filter));
        Ok(filter)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_profile_is_compiled_once_and_the_cache_stays_small() {
        let profile = |errno| oci::Seccomp {
            default_action: "SCMP_ACT_ERRNO".into(),
            default_errno_ret: Some(errno),
            ..oci::Seccomp::default()
        };
        let cache = Cache::default();
        assert_eq!(*cache.find(&profile(2)).unwrap(), compile(&profile(2)).unwrap());
        let first = cache.find(&profile(2)).unwrap();
        assert_eq!(*first, compile(&profile(2)).unwrap());
        assert!(Arc::ptr_eq(&first, &cache.find(&profile(2)).unwrap()));
        for errno in 3..100 {
            let filter = cache.find(&profile(errno)).unwrap();
            assert_eq!(*filter, compile(&profile(errno)).unwrap());
        }
        assert!(cache.filters.lock().unwrap().len() <= PROFILES_MAX);
        let bad = oci::Seccomp { default_action: "X".into(), ..oci::Seccomp::default() };
        assert_eq!(cache.find(&bad).unwrap_err(), SeccompError::Action("X".into()));
    }
}
