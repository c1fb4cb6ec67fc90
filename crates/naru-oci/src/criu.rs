//! The flags of `checkpoint` and `restore`, and why neither is done.
//!
//! Saving a tree of processes is the work of CRIU, a program of its own, which speaks to the runtime over protocol
//! buffers. That conversation is not here: both commands read their arguments, and say what is missing.

use crate::error::OciError;
use crate::flags::{Flag, flag, value, values};
use crate::globals::Globals;
use std::path::{Path, PathBuf};

pub(crate) const CHECKPOINT_FLAGS: &[Flag] = &[
    value("image-path", "", "path for saving criu image files"),
    value("work-path", "", "path for saving work files and logs"),
    value("parent-path", "", "path for previous criu image files in pre-dump"),
    flag("leave-running", "", "leave the process running after checkpointing"),
    flag("tcp-established", "", "allow open tcp connections"),
    flag("tcp-skip-in-flight", "", "skip in-flight tcp connections"),
    flag("link-remap", "", "allow one to link unlinked files back when possible"),
    flag("ext-unix-sk", "", "allow external unix sockets"),
    flag("shell-job", "", "allow shell jobs"),
    flag("lazy-pages", "", "use userfaultfd to lazily restore memory pages"),
    value("status-fd", "", "criu writes \\0 to this FD once lazy-pages is ready"),
    value("page-server", "", "ADDRESS:PORT of the page server"),
    flag("file-locks", "", "handle file locks, for safety"),
    flag("pre-dump", "", "dump container's memory information only, leave the container running after this"),
    value("manage-cgroups-mode", "", "cgroups mode: soft|full|strict|ignore"),
    values("empty-ns", "", "create a namespace, but don't restore its properties"),
    flag("auto-dedup", "", "enable auto deduplication of memory images"),
];

pub(crate) const RESTORE_FLAGS: &[Flag] = &[
    value(
        "console-socket",
        "",
        "path to an AF_UNIX socket which will receive the master of the container's terminal",
    ),
    value("image-path", "", "path to criu image files for restoring"),
    value("work-path", "", "path for saving work files and logs"),
    flag("tcp-established", "", "allow open tcp connections"),
    flag("ext-unix-sk", "", "allow external unix sockets"),
    flag("shell-job", "", "allow shell jobs"),
    flag("file-locks", "", "handle file locks, for safety"),
    value("manage-cgroups-mode", "", "cgroups mode: soft|full|strict|ignore"),
    value("bundle", "b", "path to the root of the bundle directory"),
    flag("detach", "d", "detach from the container's process"),
    value("pid-file", "", "specify the file to write the process id to"),
    flag("no-subreaper", "", "do not reap processes that the container leaves"),
    flag("no-pivot", "", "do not use pivot_root"),
    values("empty-ns", "", "create a namespace, but don't restore its properties"),
    flag("auto-dedup", "", "enable auto deduplication of memory images"),
    flag("lazy-pages", "", "use userfaultfd to lazily restore memory pages"),
    value("lsm-profile", "", "specify an LSM profile to be used during restore"),
    value("lsm-mount-context", "", "specify an LSM mount context to be used during restore"),
];

/// Why `what` cannot be done: no CRIU, or nothing here that talks to it.
pub(crate) fn missing(what: &str, globals: &Globals) -> OciError {
    match find(globals.criu.as_deref()) {
        None => OciError::Unsupported {
            what: format!("{what} without CRIU"),
            hint:
                "no criu binary was found in $PATH; a stopped and newly started container is the alternative"
                    .into(),
        },
        Some(path) => OciError::Unsupported {
            what: format!("{what} through {}", path.display()),
            hint: "naru does not speak to CRIU; runc and crun do, as another --runtime".into(),
        },
    }
}

fn find(asked: Option<&Path>) -> Option<PathBuf> {
    if let Some(path) = asked.filter(|path| path.components().count() > 1) {
        return path.is_file().then(|| path.to_owned());
    }
    let name = asked.unwrap_or(Path::new("criu"));
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|path| path.is_file())
}
