//! An empty volume first takes over what the image has at its target.

use crate::container::Container;
use crate::engine::Engine;
use crate::rootview::{RootView, open_in};
use naru_image::pack::{PackOptions, tar_tree};
use naru_image::unpack::{UnpackOptions, Whiteouts, unpack};
use naru_types::spec::MountSource;
use naru_types::{Error, Result};
use rustix::fs::{Mode, OFlags};
use std::os::fd::AsFd;
use std::path::Path;

impl Engine {
    /// Fills every empty volume of the container. Blocks.
    pub(crate) fn fill_volumes(&self, container: &Container) -> Result<()> {
        let mounts = container.cell().spec.mounts.clone();
        let mut view = None;
        for mount in &mounts {
            let MountSource::Volume { name, copy: true, .. } = &mount.source else { continue };
            let data = self.volume_data(name);
            if !is_empty(&data)? {
                continue;
            }
            let view = match &view {
                Some(view) => view,
                None => view.insert(RootView::without_mounts(container)?),
            };
            copy(view, &mount.target, &data)
                .map_err(|error| error.context(format!("cannot fill volume {name} from {}", mount.target)))?;
        }
        Ok(())
    }
}

fn is_empty(dir: &Path) -> Result<bool> {
    let mut entries = std::fs::read_dir(dir).map_err(|error| {
        Error::internal(format!("cannot read {}: {error}", dir.display())).with_source(error)
    })?;
    Ok(entries.next().is_none())
}

fn copy(view: &RootView, target: &str, data: &Path) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    // The image has nothing there, or no directory: the volume stays empty.
    let Ok(place) = view.locate(target, true) else { return Ok(()) };
    let Ok(from) = open_in(place.tree, &place.path, flags) else { return Ok(()) };
    let failed = |error: std::io::Error| Error::internal(error.to_string()).with_source(error);
    let to = rustix::fs::open(data, flags | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| failed(errno.into()))?;
    let (reader, mut writer) = std::io::pipe().map_err(failed)?;
    std::thread::scope(|scope| {
        let packing = scope.spawn(move || {
            let options = PackOptions { rename: Some(b".".to_vec()), whiteouts: false };
            tar_tree(from.as_fd(), Path::new("."), &mut writer, &options)
        });
        let options = UnpackOptions {
            whiteouts: Whiteouts::Plain,
            follow_parents: false,
            keep_kind: false,
            owner: None,
        };
        let unpacked = unpack(to.as_fd(), &mut naru_image::tar::Reader::new(reader), &options);
        let packed = packing.join();
        unpacked.map_err(Error::from)?;
        packed
            .map_err(|_| Error::internal("reading the image broke off: this is a bug"))?
            .map_err(Error::from)
    })?;
    let stat =
        rustix::fs::fstat(open_in(place.tree, &place.path, flags).map_err(|errno| failed(errno.into()))?)
            .map_err(|errno| failed(errno.into()))?;
    let (uid, gid) = (rustix::fs::Uid::from_raw(stat.st_uid), rustix::fs::Gid::from_raw(stat.st_gid));
    rustix::fs::fchown(&to, Some(uid), Some(gid)).map_err(|errno| failed(errno.into()))?;
    rustix::fs::fchmod(&to, Mode::from_raw_mode(stat.st_mode & 0o7777)).map_err(|errno| failed(errno.into()))
}
