//! `--volumes-from`: a new container gets the volumes and binds of another, running or not, at the same targets.

use crate::engine::Engine;
use crate::merge::clean;
use naru_types::spec::{ContainerSpec, Mount, MountSource};
use naru_types::{Error, Result};

impl Engine {
    /// Puts the mounts of the containers named in `spec.volumes_from` into `spec.mounts`. The container's own mounts
    /// come before them at the same target, and those of a container named later before those of an earlier one (moby,
    /// `registerMountPoints`). A tmpfs is its container's own and not shared.
    pub(crate) fn inherit_volumes(&self, spec: &mut ContainerSpec) -> Result<()> {
        let mut found: Vec<Mount> = Vec::new();
        for text in &spec.volumes_from {
            let (name, read_only) = parse(text)?;
            // A 404 of a create means a missing image to docker, which would pull it.
            let other = self
                .find(name)
                .map_err(|error| Error::invalid(error.message().to_owned()).with_source(error))?;
            let mounts = other.cell().spec.mounts.clone();
            for mount in mounts {
                let Some(source) = shared(mount.source) else { continue };
                let mount = Mount { source, read_only: mount.read_only || read_only, target: mount.target };
                found.retain(|known| clean(&known.target) != clean(&mount.target));
                found.push(mount);
            }
        }
        found.retain(|mount| !spec.mounts.iter().any(|own| clean(&own.target) == clean(&mount.target)));
        spec.inherited = found.iter().map(|mount| mount.target.clone()).collect();
        spec.mounts.extend(found);
        Ok(())
    }
}

/// The same source for another container. Nothing is copied into the volume: its first container did that.
fn shared(source: MountSource) -> Option<MountSource> {
    match source {
        MountSource::Volume { name, anonymous, labels, .. } => {
            Some(MountSource::Volume { name, anonymous, copy: false, labels })
        }
        MountSource::Bind { .. } => Some(source),
        MountSource::Tmpfs { .. } => None,
    }
}

/// `container[:mode]`; true for `ro`.
fn parse(text: &str) -> Result<(&str, bool)> {
    let (name, mode) = text.split_once(':').unwrap_or((text, "rw"));
    if name.is_empty() {
        return Err(Error::invalid("malformed volumes-from specification: ").with_hint("name a container"));
    }
    match mode {
        "rw" | "z" | "Z" => Ok((name, false)),
        "ro" => Ok((name, true)),
        _ => Err(Error::invalid(format!("invalid mode for volumes-from: {mode}"))),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_and_modes() {
        assert_eq!(super::parse("box").unwrap(), ("box", false));
        assert_eq!(super::parse("box:ro").unwrap(), ("box", true));
        for bad in [":ro", "box:bogus", ""] {
            assert!(super::parse(bad).is_err(), "{bad}");
        }
    }
}
