//! User namespaces of containers: who gets one, and which ids of the host are its.
//!
//! Each container has 65,536 ids of its own, so that what breaks out of one is nobody in all the others. Images, volumes
//! and binds keep their owners on the disk, because their mounts are idmapped (mount_setattr(2)): nothing is copied or
//! changed when a container gets another range.

use crate::engine::Engine;
use naru_types::spec::{ContainerSpec, NamespaceMode, NetworkMode, UserNamespace};
use naru_types::{Error, Result};
use std::collections::BTreeSet;

/// The ids that systemd sets aside for containers (systemd.io/UIDS-GIDS); more than 28,000 ranges.
const FIRST_MIN: u32 = 0x8_0000;
const FIRST_MAX: u32 = 0x6fff_0000;

impl Engine {
    /// Decides for a new container: `Own` has its range afterwards; everything else runs in the daemon's. The caller
    /// holds `userns_choice` until the container is in the table, or two get the same range.
    pub(crate) fn choose_user_namespace(&self, spec: &mut ContainerSpec) -> Result<()> {
        let wanted = match spec.security.userns {
            UserNamespace::Default if self.config.userns_remap => UserNamespace::Own { first: None },
            chosen => chosen,
        };
        let UserNamespace::Own { first } = wanted else { return Ok(()) };
        check(spec)?;
        let first = match (first, self.joined_range(spec)?) {
            (Some(first), _) | (None, Some(first)) => first,
            (None, None) => self.free_range()?,
        };
        spec.security.userns = UserNamespace::Own { first: Some(first) };
        Ok(())
    }

    /// Who shares another container's namespaces has its ids: their files must be the same people's.
    fn joined_range(&self, spec: &ContainerSpec) -> Result<Option<u32>> {
        let network = match &spec.network.mode {
            NetworkMode::Container(name) => Some(name),
            NetworkMode::Bridge | NetworkMode::Host | NetworkMode::None | NetworkMode::Network(_) => None,
        };
        let joined = [&spec.namespaces.ipc, &spec.namespaces.pid].map(|mode| match mode {
            NamespaceMode::Container(name) => Some(name),
            NamespaceMode::Private | NamespaceMode::Host => None,
        });
        let mut range = None;
        for name in joined.into_iter().chain([network]).flatten() {
            let other = self.find(name)?;
            let first = other.cell().spec.security.userns.first().ok_or_else(|| {
                Error::conflict(format!(
                    "cannot join the namespaces of {}, which has no user namespace of its own",
                    other.name()
                ))
                .with_hint("use --userns=host here, or --userns=auto there")
            })?;
            if range.is_some_and(|known| known != first) {
                return Err(Error::conflict(
                    "cannot join the namespaces of two containers with different user namespaces",
                ));
            }
            range = Some(first);
        }
        Ok(range)
    }

    fn free_range(&self) -> Result<u32> {
        let taken: BTreeSet<u32> =
            self.containers().iter().filter_map(|other| other.cell().spec.security.userns.first()).collect();
        first_free(&taken).ok_or_else(|| {
            Error::unavailable("every range of user ids is taken by a container")
                .with_hint("remove containers that are not needed: `naru container prune`")
        })
    }
}

fn first_free(taken: &BTreeSet<u32>) -> Option<u32> {
    (FIRST_MIN..=FIRST_MAX).step_by(UserNamespace::SIZE as usize).find(|first| !taken.contains(first))
}

/// What only root of the host can do (moby daemon/daemon_unix.go, its words).
fn check(spec: &ContainerSpec) -> Result<()> {
    let refuse = |text: &str| {
        Err(Error::invalid(text).with_hint("--userns=host gives this container the host's user namespace"))
    };
    if spec.security.privileged {
        return refuse(
            "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when running privileged mode",
        );
    }
    if spec.network.mode == NetworkMode::Host {
        return refuse("cannot share the host's network namespace when user namespaces are enabled");
    }
    if spec.namespaces.pid == NamespaceMode::Host {
        return refuse("cannot share the host PID namespace when user namespaces are enabled");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_do_not_overlap() {
        let mut taken = BTreeSet::new();
        for _ in 0..3 {
            taken.insert(first_free(&taken).unwrap());
        }
        assert_eq!(taken.into_iter().collect::<Vec<_>>(), [0x8_0000, 0x9_0000, 0xa_0000]);
    }

    #[test]
    fn the_hosts_own_is_refused() {
        let mut spec = ContainerSpec::default();
        assert!(check(&spec).is_ok());
        spec.security.privileged = true;
        assert!(check(&spec).unwrap_err().message().starts_with("privileged mode is incompatible"));
    }
}
