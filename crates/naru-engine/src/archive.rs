//! `cp` both ways and `export`: tar streams out of and into a container's file system.

use crate::container::Container;
use crate::engine::Engine;
use crate::options::ArchivePut;
use crate::rootview::{Place, RootView, open_in};
use crate::view::PathStat;
use bytes::Bytes;
use naru_image::pack::{PackOptions, tar_tree};
use naru_image::unpack::{UnpackOptions, Whiteouts, unpack};
use naru_types::{Error, Kind, Result, Timestamp};
use rustix::fs::{AtFlags, FileType, OFlags};
use rustix::io::Errno;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Chunks in flight between the tar writer and its reader, and their size in bytes.
const CHUNKS_MAX: usize = 16;
const CHUNK_BYTES: usize = 64 * 1024;

type Chunks = Receiver<std::io::Result<Bytes>>;

impl Engine {
    /// Of the path itself: a symbolic link is not followed, unless the path ends in `/` or `/.`.
    pub async fn archive_stat(&self, r: &str, path: &str) -> Result<PathStat> {
        let container = self.find(r)?;
        let path = path.to_owned();
        self.blocking(move |engine| {
            let view = RootView::open(engine, &container)?;
            let place = locate(&view, &container, &path)?;
            stat(&place, &path, &container)
        })
        .await
    }

    /// A tar archive of the path; its entries start with the path's last component.
    pub async fn archive_get(&self, r: &str, path: &str) -> Result<(PathStat, Chunks)> {
        let container = self.find(r)?;
        let path = path.to_owned();
        let (sender, chunks) = channel(CHUNKS_MAX);
        let stat = self
            .blocking(move |engine| {
                let view = RootView::open(engine, &container)?;
                let place = locate(&view, &container, &path)?;
                let stat = stat(&place, &path, &container)?;
                let (tree, inner) = (place.tree.try_clone_to_owned(), place.path);
                let tree =
                    tree.map_err(|error| Error::internal(format!("cannot duplicate a descriptor: {error}")))?;
                let rename = if names_content(&path) { ".".into() } else { stat.name.clone() };
                let options = PackOptions { rename: Some(rename.into_bytes()), whiteouts: false };
                tokio::task::spawn_blocking(move || {
                    // The overlay lives as long as the view does.
                    let _view = view;
                    pack(tree.as_fd(), &inner, &options, sender);
                });
                engine.emit_about(&container, "archive-path", &[]);
                Ok(stat)
            })
            .await?;
        Ok((stat, chunks))
    }

    /// Unpacks into the directory `path`, which has to exist.
    pub async fn archive_put(
        &self,
        r: &str,
        path: &str,
        options: ArchivePut,
        tar: Box<dyn Read + Send>,
    ) -> Result<()> {
        let container = self.find(r)?;
        let path = path.to_owned();
        self.blocking(move |engine| {
            let view = RootView::open(engine, &container)?;
            let place = view.locate(&path, true).map_err(|errno| not_found(&container, &path, errno))?;
            if place.read_only || (container.pid().is_some() && is_read_only(&container)) {
                return Err(Error::new(Kind::Forbidden, "container rootfs is marked read-only"));
            }
            let dir =
                open_in(place.tree, &place.path, OFlags::RDONLY | OFlags::DIRECTORY).map_err(|errno| {
                    match errno {
                        Errno::NOTDIR => Error::invalid("extraction point is not a directory"),
                        errno => not_found(&container, &path, errno),
                    }
                })?;
            let owner = if options.copy_uid_gid { container_user(&view, &container) } else { None };
            let unpack_options = UnpackOptions {
                whiteouts: Whiteouts::Plain,
                follow_parents: true,
                keep_kind: options.no_overwrite_dir_non_dir,
                owner,
            };
            let mut reader = naru_image::tar::Reader::new(tar);
            unpack(dir.as_fd(), &mut reader, &unpack_options).map_err(Error::from)?;
            engine.emit_about(&container, "extract-to-dir", &[]);
            Ok(())
        })
        .await
    }

    /// The whole file system without volumes and binds.
    pub async fn export(&self, r: &str) -> Result<Chunks> {
        let container = self.find(r)?;
        let (sender, chunks) = channel(CHUNKS_MAX);
        self.blocking(move |engine| {
            let view = export_view(&container)?;
            engine.emit_about(&container, "export", &[]);
            tokio::task::spawn_blocking(move || {
                let options = PackOptions { rename: None, whiteouts: false };
                pack(view.fd(), Path::new("."), &options, sender);
            });
            Ok(())
        })
        .await?;
        Ok(chunks)
    }
}

/// An overlay that is nobody else's. The work directory of a running container is in use, so its layers are looked at
/// through a second overlay with an upper directory of its own, which goes with the view.
struct ExportView {
    view: Option<RootView>,
    fd: Option<std::os::fd::OwnedFd>,
    scratch: Option<std::path::PathBuf>,
}

impl ExportView {
    fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
        match (&self.fd, &self.view) {
            (Some(fd), _) => fd.as_fd(),
            (None, Some(view)) => view.root(),
            (None, None) => rustix::fs::CWD,
        }
    }
}

impl Drop for ExportView {
    fn drop(&mut self) {
        self.fd = None;
        if let Some(scratch) = &self.scratch {
            // Start-up sweeps what stays.
            let _ = std::fs::remove_dir_all(scratch);
        }
    }
}

fn export_view(container: &Arc<Container>) -> Result<ExportView> {
    if container.pid().is_none() {
        return Ok(ExportView { view: Some(RootView::without_mounts(container)?), fd: None, scratch: None });
    }
    let scratch = container.paths.dir.join(format!("export-{}", &crate::ids::random_hex()[..12]));
    let (upper, work) = (scratch.join("upper"), scratch.join("work"));
    let mut made = ExportView { view: None, fd: None, scratch: Some(scratch) };
    crate::create::make_dir(&upper, 0o755)?;
    crate::create::make_dir(&work, 0o700)?;
    let mut lower = vec![container.paths.upper()];
    lower.extend(container.paths.lower.iter().cloned());
    let rootfs = naru_runtime::rootfs::Rootfs::Overlay { lower, upper, work };
    let fd = rootfs.open().map_err(|error| Error::internal(error.to_string()).with_source(error))?;
    made.fd = Some(fd);
    Ok(made)
}

/// Whether the path asks for what is in a directory rather than for the directory.
fn names_content(path: &str) -> bool {
    path.ends_with("/.") || path == "." || path.trim_matches('/').is_empty()
}

fn locate<'a>(view: &'a RootView, container: &Container, path: &str) -> Result<Place<'a>> {
    let follow = path.ends_with('/') || names_content(path);
    view.locate(path, follow).map_err(|errno| not_found(container, path, errno))
}

fn not_found(container: &Container, path: &str, errno: Errno) -> Error {
    match errno {
        Errno::NOENT | Errno::NOTDIR => {
            Error::not_found(format!("Could not find the file {path} in container {}", container.name()))
        }
        errno => Error::internal(format!("cannot look at {path} in container {}: {errno}", container.name()))
            .with_source(std::io::Error::from(errno)),
    }
}

fn stat(place: &Place<'_>, asked: &str, container: &Container) -> Result<PathStat> {
    let missing = |errno| not_found(container, asked, errno);
    // The parent is opened within the root; the last component is looked at without following it.
    let fd = open_in(place.tree, &place.path, OFlags::PATH | OFlags::NOFOLLOW).map_err(missing)?;
    let stat = rustix::fs::statat(&fd, "", AtFlags::EMPTY_PATH).map_err(missing)?;
    let link_target = if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
        let target = rustix::fs::readlinkat(&fd, "", Vec::new()).map_err(missing)?;
        String::from_utf8_lossy(target.as_bytes()).into_owned()
    } else {
        String::new()
    };
    let name = crate::rootview::absolute(asked);
    let name = name
        .file_name()
        .map_or_else(|| "/".to_owned(), |name| String::from_utf8_lossy(name.as_bytes()).into_owned());
    Ok(PathStat {
        name,
        size: stat.st_size as u64,
        mode: stat.st_mode,
        mtime: Timestamp::from_parts(stat.st_mtime, stat.st_mtime_nsec as u32),
        link_target,
    })
}

fn is_read_only(container: &Container) -> bool {
    container.cell().spec.security.read_only_rootfs
}

/// `uid[:gid]` of the container's user, names looked up in its own /etc/passwd; `None` for root or an unknown name.
fn container_user(view: &RootView, container: &Container) -> Option<(u32, u32)> {
    let user = container.cell().spec.process.user.clone();
    let (name, group) =
        user.split_once(':').map_or((user.as_str(), None), |(name, group)| (name, Some(group)));
    if name.is_empty() {
        return None;
    }
    let passwd = open_in(view.root(), Path::new("etc/passwd"), OFlags::RDONLY).ok();
    let mut text = String::new();
    if let Some(fd) = passwd {
        // An unreadable file has no entries.
        let _ = std::fs::File::from(fd).take(PASSWD_BYTES_MAX).read_to_string(&mut text);
    }
    let entry = text
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.first() == Some(&name) || fields.get(2) == Some(&name));
    let number = |index: usize| entry.as_ref().and_then(|fields| fields.get(index)?.parse::<u32>().ok());
    let uid = name.parse().ok().or_else(|| number(2))?;
    let gid = group.and_then(|group| group.parse().ok()).or_else(|| number(3)).unwrap_or(0);
    Some((uid, gid))
}

/// A passwd file is not read further than this.
const PASSWD_BYTES_MAX: u64 = 1 << 20;

fn pack(
    tree: std::os::fd::BorrowedFd<'_>,
    path: &Path,
    options: &PackOptions,
    sender: Sender<std::io::Result<Bytes>>,
) {
    let mut writer = ChunkWriter { buffer: Vec::with_capacity(CHUNK_BYTES), sender };
    let done = tar_tree(tree, path, &mut writer, options)
        .map_err(|error| std::io::Error::other(error.to_string()))
        .and_then(|()| writer.flush());
    if let Err(error) = done {
        // A reader that went away needs no error.
        let _ = writer.sender.blocking_send(Err(error));
    }
}

/// Writes into the channel, chunk by chunk; waits while the reader is slow.
struct ChunkWriter {
    buffer: Vec<u8>,
    sender: Sender<std::io::Result<Bytes>>,
}

impl Write for ChunkWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let room = CHUNK_BYTES - self.buffer.len();
        let take = bytes.len().min(room);
        self.buffer.extend_from_slice(&bytes[..take]);
        if self.buffer.len() == CHUNK_BYTES {
            self.flush()?;
        }
        Ok(take)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK_BYTES));
        let gone = |_| std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        self.sender.blocking_send(Ok(Bytes::from(chunk))).map_err(gone)
    }
}
