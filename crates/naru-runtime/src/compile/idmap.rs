//! Whose ids the files of a mount are shown by: the container's own user namespace, or the maps of one mount.

use crate::errors::StartError;
use crate::oci::{self, NamespaceKind};
use crate::request::SpawnError;
use crate::userns;
use naru_kernel::{mount, ns};
use std::cell::OnceCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The user namespace of a container, opened or imitated when the first mount asks for it.
pub(crate) struct Owners<'a> {
    spec: &'a oci::Spec,
    container: OnceCell<OwnedFd>,
}

impl<'a> Owners<'a> {
    pub fn new(spec: &'a oci::Spec) -> Self {
        Self { spec, container: OnceCell::new() }
    }

    /// Whether the container has a user namespace that it can be known by before it exists.
    pub fn has_own(&self) -> bool {
        self.spec.namespace(NamespaceKind::User).is_some() && !self.spec.linux.uid_mappings.is_empty()
    }

    /// Who root of the container is outside.
    pub fn root(&self) -> (u32, u32) {
        let linux = &self.spec.linux;
        let host = |maps: &[oci::IdMapping]| {
            maps.iter().find(|map| map.container_id == 0).map_or(0, |map| map.host_id)
        };
        (host(&linux.uid_mappings), host(&linux.gid_mappings))
    }

    /// The one that is joined, or another with the same maps: only these count for a mount.
    pub fn of_container(&self, error: StartError) -> Result<BorrowedFd<'_>, SpawnError> {
        if let Some(made) = self.container.get() {
            return Ok(made.as_fd());
        }
        let linux = &self.spec.linux;
        let joined = self.spec.namespace(NamespaceKind::User).and_then(|namespace| namespace.path.as_deref());
        let made = match joined {
            Some(path) => ns::open(path),
            None if linux.uid_mappings.is_empty() => {
                return Err(error.plain(
                    "a mount with idmap needs uidMappings and gidMappings, or a container with them",
                ));
            }
            None => userns::descriptor(&linux.uid_mappings, &linux.gid_mappings),
        };
        let made = made.map_err(|cause| error.io("make a user namespace for idmapped mounts", &cause))?;
        Ok(self.container.get_or_init(|| made).as_fd())
    }

    /// Shows the detached `mount` by these maps; none means the container's.
    pub fn apply(
        &self,
        copy: BorrowedFd<'_>,
        maps: (&[oci::IdMapping], &[oci::IdMapping]),
        recursive: bool,
        step: &str,
        error: StartError,
    ) -> Result<(), SpawnError> {
        let own;
        let userns = if maps.0.is_empty() && maps.1.is_empty() {
            self.of_container(error)?
        } else {
            own = userns::descriptor(maps.0, maps.1)
                .map_err(|cause| error.io("make a user namespace for an idmapped mount", &cause))?;
            own.as_fd()
        };
        mount::set_idmap(copy, userns, recursive).map_err(|errno| error.errno(step, errno))
    }
}
