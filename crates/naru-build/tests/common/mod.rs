//! A store in a temporary directory, a base image of busybox, and a runner that executes steps for real:
//! overlay and mounts in a private mount namespace, then a change of root.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

use naru_build::{
    BuildEvent, BuildRequest, Builder, DockerfileSource, StepExit, StepMountKind, StepRunner, StepSpec,
    Stream,
};
use naru_image::{Store, StoreConfig};
use naru_kernel::{mount, ns};
use naru_types::{Digest, Error, ImageRef, Result};
use std::ffi::CString;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub const BASE: &str = "FROM scratch\nCOPY bin /bin\nCOPY etc /etc\nWORKDIR /tmp\nWORKDIR /\n";

pub struct World {
    pub dir: tempfile::TempDir,
    pub store: Store,
    pub builder: Builder,
}

/// `None`, with the reason printed, where these tests can't run.
pub fn world() -> Option<World> {
    if !rustix::process::geteuid().is_root() {
        println!("SKIP: needs root");
        return None;
    }
    if !Path::new("/bin/busybox").exists() {
        println!("SKIP: needs a static busybox");
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("root"), StoreConfig::default()).unwrap();
    let runner = Arc::new(Chroot { mount_point: dir.path().join("mount-point") });
    std::fs::create_dir(dir.path().join("mount-point")).unwrap();
    let builder = Builder::open(store.clone(), &dir.path().join("root"), runner).unwrap();
    Some(World { dir, store, builder })
}

pub struct Built {
    pub id: Digest,
    pub events: Vec<BuildEvent>,
}

impl Built {
    pub fn hits(&self) -> usize {
        self.events.iter().filter(|event| **event == BuildEvent::CacheHit).count()
    }

    pub fn runs(&self) -> usize {
        self.events.iter().filter(|event| matches!(event, BuildEvent::Running { .. })).count()
    }

    pub fn output(&self) -> String {
        output(&self.events)
    }
}

pub fn output(events: &[BuildEvent]) -> String {
    let bytes: Vec<u8> = events
        .iter()
        .filter_map(|event| match event {
            BuildEvent::Output { bytes, .. } => Some(bytes.clone()),
            _ => None,
        })
        .flatten()
        .collect();
    String::from_utf8(bytes).unwrap()
}

impl World {
    /// A fresh context of these files; a name with a slash at its end is a directory.
    pub fn context(&self, files: &[(&str, &str)]) -> PathBuf {
        let dir = self.dir.path().join(format!("context{}", files.len()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        for (name, content) in files {
            let path = dir.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            if name.ends_with('/') {
                std::fs::create_dir_all(&path).unwrap();
            } else {
                std::fs::write(&path, content).unwrap();
            }
        }
        dir
    }

    /// The image `base:latest`: busybox with a few of its names, and two users.
    pub fn base(&self) {
        let dir = self.dir.path().join("base-context");
        base_context(&dir);
        let mut request = request(&dir, BASE);
        request.tags = vec![ImageRef::parse("base:latest").unwrap()];
        self.build(&request).unwrap();
    }

    pub fn build(&self, request: &BuildRequest) -> Result<Built> {
        self.build_events(request).0
    }

    pub fn build_events(&self, request: &BuildRequest) -> (Result<Built>, Vec<BuildEvent>) {
        let mut events = Vec::new();
        let result = self.builder.build(request, &mut |event| events.push(event));
        (result.map(|id| Built { id, events: events.clone() }), events)
    }

    /// The host path of a file of an image; `path` has no links.
    pub fn find(&self, id: &Digest, path: &str) -> Option<PathBuf> {
        let image = self.store.get_by_id(id).unwrap();
        let dirs = self.store.layer_dirs(&image).unwrap();
        dirs.iter().map(|dir| dir.join(path)).find(|path| path.symlink_metadata().is_ok())
    }

    pub fn read(&self, id: &Digest, path: &str) -> String {
        std::fs::read_to_string(self.find(id, path).unwrap_or_else(|| panic!("no {path}"))).unwrap()
    }

    /// Nothing of a build is left but the cache.
    pub fn assert_clean(&self) {
        let left: Vec<_> =
            std::fs::read_dir(self.dir.path().join("root/build-tmp")).unwrap().flatten().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// The context of [`BASE`].
pub fn base_context(dir: &Path) {
    std::fs::create_dir_all(dir.join("bin")).unwrap();
    std::fs::create_dir_all(dir.join("etc")).unwrap();
    std::fs::copy("/bin/busybox", dir.join("bin/busybox")).unwrap();
    for name in
        ["sh", "cat", "echo", "ls", "mkdir", "touch", "id", "env", "true", "ln", "rm", "cp", "pwd", "stat"]
    {
        symlink("busybox", dir.join("bin").join(name)).unwrap();
    }
    std::fs::write(dir.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\napp:x:10:20::/:/bin/sh\n").unwrap();
    std::fs::write(dir.join("etc/group"), "root:x:0:\nweb:x:33:\n").unwrap();
}

pub fn request(context: &Path, dockerfile: &str) -> BuildRequest {
    let mut request = BuildRequest::new(context);
    request.dockerfile = DockerfileSource::Text { name: "Dockerfile".into(), text: dockerfile.into() };
    request
}

/// Executes a step in an overlay of its own, in a thread with its own mount namespace.
struct Chroot {
    mount_point: PathBuf,
}

impl StepRunner for Chroot {
    fn run(&self, step: &StepSpec, output: &mut dyn FnMut(Stream, &[u8])) -> Result<StepExit> {
        let (code, bytes) = std::thread::scope(|scope| {
            scope
                .spawn(|| self.run_inside(step))
                .join()
                .unwrap_or_else(|_| Err(Error::internal("runner died")))
        })?;
        output(Stream::Stdout, &bytes);
        Ok(StepExit { code })
    }
}

impl Chroot {
    fn run_inside(&self, step: &StepSpec) -> Result<(i32, Vec<u8>)> {
        let fail = |what: &str| {
            let what = what.to_owned();
            move |errno: rustix::io::Errno| Error::internal(format!("{what}: {errno}"))
        };
        ns::unshare(ns::NEWNS).map_err(fail("unshare"))?;
        mount::set_root_propagation(mount::Propagation::Private).map_err(fail("private"))?;
        let text = |path: &Path| CString::new(path.as_os_str().as_bytes()).unwrap();
        let (upper, work) = (text(&step.upper), text(&step.work));
        let empty = step.work.parent().unwrap().join("empty");
        let lowers: Vec<CString> = step.lowers.iter().chain([&empty]).map(|path| text(path)).collect();
        let options = lowers
            .iter()
            .map(|lower| (c"lowerdir+", Some(lower.as_c_str())))
            .chain([(c"upperdir", Some(upper.as_c_str())), (c"workdir", Some(work.as_c_str()))]);
        let overlay = mount::new_fs(c"overlay", Some(c"test"), options, 0).map_err(fail("overlay"))?;
        mount::attach_host(&overlay, &text(&self.mount_point)).map_err(fail("attach"))?;
        for wanted in &step.mounts {
            let target = self.mount_point.join(wanted.target.trim_start_matches('/'));
            match &wanted.kind {
                StepMountKind::Bind { source, .. } => {
                    if source.is_dir() {
                        std::fs::create_dir_all(&target).unwrap();
                    } else {
                        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
                        std::fs::write(&target, "").unwrap();
                    }
                    let tree = mount::clone_host_tree(&text(source), false).map_err(fail("clone"))?;
                    mount::attach_host(&tree, &text(&target)).map_err(fail("bind"))?;
                }
                StepMountKind::Tmpfs { .. } => {
                    std::fs::create_dir_all(&target).unwrap();
                    let tmpfs = mount::new_fs(c"tmpfs", None, [].into_iter(), 0).map_err(fail("tmpfs"))?;
                    mount::attach_host(&tmpfs, &text(&target)).map_err(fail("bind"))?;
                }
            }
        }
        let mut command = Command::new("chroot");
        if !step.user.is_empty() {
            command.arg(format!("--userspec={}", step.user));
        }
        command.arg(&self.mount_point).args([
            "/bin/busybox",
            "sh",
            "-c",
            "cd \"$0\" && exec \"$@\"",
            &step.cwd,
        ]);
        let pairs = step.env.iter().map(|pair| pair.split_once('=').unwrap());
        command
            .args(&step.args)
            .env_clear()
            .env("HOME", "/root")
            .envs(pairs)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| Error::internal(error.to_string()))?;
        let mut bytes = Vec::new();
        child.stdout.take().unwrap().read_to_end(&mut bytes).unwrap();
        child.stderr.take().unwrap().read_to_end(&mut bytes).unwrap();
        let status = child.wait().unwrap();
        if step.cancel.load(Ordering::Relaxed) {
            return Err(Error::conflict("cancelled"));
        }
        Ok((status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)), bytes))
    }
}
