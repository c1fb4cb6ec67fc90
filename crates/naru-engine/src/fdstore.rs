//! systemd keeps duplicates of each running container's descriptors, where it runs us: then standard input and terminals
//! survive even the kill of daemon and keeper together. Without systemd nothing here does anything.
//!
//! A descriptor's name is `<container id>.<role>`. What is in the store and belongs to no running container is dropped at
//! start-up.

use naru_kernel::systemd;
use naru_runtime::keeper::held::HeldFds;
use naru_runtime::keeper::protocol::FdRole;
use naru_types::ContainerId;
use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Mutex;

const ROLES: [(FdRole, &str); 5] = [
    (FdRole::Stdin, "stdin"),
    (FdRole::Stdout, "stdout"),
    (FdRole::Stderr, "stderr"),
    (FdRole::Pty, "pty"),
    (FdRole::Pidfd, "pidfd"),
];

/// What an earlier daemon stored, until each container has been taken up.
pub struct Stored(Mutex<HashMap<ContainerId, Vec<(FdRole, OwnedFd)>>>);

impl Stored {
    pub fn take_over() -> Self {
        let mut stored: HashMap<ContainerId, Vec<(FdRole, OwnedFd)>> = HashMap::new();
        for (name, fd) in systemd::take_stored() {
            match parse(&name) {
                Some((id, role)) => stored.entry(id).or_default().push((role, fd)),
                // Somebody else's, a socket unit's for example.
                None => drop(fd),
            }
        }
        Self(Mutex::new(stored))
    }

    pub fn take(&self, id: &ContainerId) -> Option<HeldFds> {
        crate::lock(&self.0).remove(id).map(HeldFds::from_parts)
    }

    /// Everything that was not taken belongs to containers that do not run.
    pub fn drop_rest(&self) {
        for id in std::mem::take(&mut *crate::lock(&self.0)).into_keys() {
            forget(&id);
        }
    }
}

pub fn store(id: &ContainerId, held: &HeldFds) {
    if !systemd::is_there() {
        return;
    }
    let stdin = held.stdin.duplicate().ok().flatten();
    let stdin = stdin.iter().map(|fd| (FdRole::Stdin, fd.as_fd()));
    for (role, fd) in stdin.chain(held.others()) {
        if let Some(name) = name(id, role) {
            // A store that is full protects fewer containers; they run all the same.
            let _ = systemd::store(&name, &[fd]);
        }
    }
}

pub fn forget(id: &ContainerId) {
    if systemd::is_there() {
        for name in ROLES.iter().filter_map(|(role, _)| name(id, *role)) {
            let _ = systemd::forget(&name);
        }
    }
}

/// Nobody may hold a standard input that was closed, or the process never reads its end.
pub fn forget_stdin(id: &ContainerId) {
    if let (true, Some(name)) = (systemd::is_there(), name(id, FdRole::Stdin)) {
        let _ = systemd::forget(&name);
    }
}

fn name(id: &ContainerId, role: FdRole) -> Option<String> {
    let (_, word) = ROLES.iter().find(|(known, _)| *known == role)?;
    Some(format!("{id}.{word}"))
}

fn parse(name: &str) -> Option<(ContainerId, FdRole)> {
    let (id, word) = name.split_once('.')?;
    let (role, _) = ROLES.iter().find(|(_, known)| *known == word)?;
    Some((ContainerId::parse(id)?, *role))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        let id = ContainerId::from_bytes([1; 32]);
        for (role, _) in ROLES {
            assert_eq!(parse(&name(&id, role).unwrap()), Some((id.clone(), role)));
        }
        assert_eq!(parse("http.socket"), None);
        assert_eq!(name(&id, FdRole::Attach), None);
    }
}
