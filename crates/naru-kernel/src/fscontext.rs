//! A new file system instance, or a changed one, with what the kernel says about a refused option (fsopen(2)). All
//! functions are child-safe.

use crate::mount::{Attrs, FsOption};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags};
use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

/// Bytes of a message; the kernel's own are one short line, and a longer one is cut.
const MESSAGE_BYTES_MAX: usize = 200;

/// What the kernel, or else this module, says about the step that failed.
#[derive(Clone, Copy, Debug)]
pub struct Message {
    bytes: [u8; MESSAGE_BYTES_MAX],
    len: usize,
}

impl Default for Message {
    fn default() -> Self {
        Self { bytes: [0; MESSAGE_BYTES_MAX], len: 0 }
    }
}

impl Message {
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn add(&mut self, text: &[u8]) {
        let room = self.bytes.get_mut(self.len..).unwrap_or_default();
        for (to, from) in room.iter_mut().zip(text) {
            *to = *from;
            self.len += 1;
        }
    }

    /// The first line of the context's log: `e tmpfs: Bad value for 'size'`; `e`, `w` and `i` are grades.
    fn take(&mut self, context: &OwnedFd) {
        let mut buffer = [0u8; MESSAGE_BYTES_MAX];
        let len = rustix::io::read(context, &mut buffer).unwrap_or(0);
        let line = buffer.get(..len).unwrap_or_default();
        let line = match line {
            [b'e' | b'w' | b'i', b' ', rest @ ..] => rest,
            other => other,
        };
        self.add(line.trim_ascii());
    }
}

/// As [`crate::mount::new_fs`]; when it fails, `message` says what the kernel did not like, or which option it was.
pub fn make<'a>(
    kind: &CStr,
    source: Option<&CStr>,
    options: impl Iterator<Item = FsOption<'a>>,
    attrs: Attrs,
    message: &mut Message,
) -> Result<OwnedFd, Errno> {
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    let set = source.map_or(Ok(()), |source| rustix::mount::fsconfig_set_string(&context, c"source", source));
    let made = set
        .and_then(|()| configure(&context, options, message))
        .and_then(|()| rustix::mount::fsconfig_create(&context));
    if let Err(errno) = made {
        if message.len == 0 {
            message.take(&context);
        }
        return Err(errno);
    }
    let attrs = MountAttrFlags::from_bits_retain(attrs as u32);
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attrs)
}

/// Changes the options of the file system that `mount` is the root of (`mount -o remount`).
pub fn reconfigure<'a>(
    mount: impl AsFd,
    options: impl Iterator<Item = FsOption<'a>>,
    message: &mut Message,
) -> Result<(), Errno> {
    let flags = FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_EMPTY_PATH;
    let context = rustix::mount::fspick(mount, c"", flags)?;
    configure(&context, options, message)?;
    rustix::mount::fsconfig_reconfigure(&context).inspect_err(|_| message.take(&context))
}

fn configure<'a>(
    context: &OwnedFd,
    options: impl Iterator<Item = FsOption<'a>>,
    message: &mut Message,
) -> Result<(), Errno> {
    for (key, value) in options {
        let set = match value {
            Some(value) => rustix::mount::fsconfig_set_string(context, key, value),
            None => rustix::mount::fsconfig_set_flag(context, key),
        };
        if let Err(errno) = set {
            message.take(context);
            if message.len == 0 {
                message.add(b"option ");
                message.add(key.to_bytes());
            }
            return Err(errno);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refused_option_is_named() {
        if !rustix::process::geteuid().is_root() {
            println!("SKIP: needs root");
            return;
        }
        let told = |options: &[FsOption<'_>]| {
            let mut message = Message::default();
            let made = make(c"tmpfs", None, options.iter().copied(), 0, &mut message);
            (made.is_ok(), String::from_utf8_lossy(message.as_bytes()).into_owned())
        };
        assert_eq!(told(&[(c"size", Some(c"64k")), (c"sync", None)]), (true, String::new()));
        let (ok, text) = told(&[(c"nonsense", Some(c"1"))]);
        assert!(!ok && text.contains("nonsense"), "{text:?}");
        let (ok, text) = told(&[(c"size", Some(c"much"))]);
        assert!(!ok && text.contains("size"), "{text:?}");
    }

    #[test]
    fn a_file_system_is_changed() {
        if !rustix::process::geteuid().is_root() {
            println!("SKIP: needs root");
            return;
        }
        let mut message = Message::default();
        let mount = make(c"tmpfs", None, [(c"size", Some(c"64k"))].into_iter(), 0, &mut message).unwrap();
        reconfigure(&mount, [(c"size", Some(c"1m"))].into_iter(), &mut message).unwrap();
        let stat = rustix::fs::fstatvfs(&mount).unwrap();
        assert_eq!(stat.f_blocks * stat.f_frsize, 1 << 20);
    }
}
