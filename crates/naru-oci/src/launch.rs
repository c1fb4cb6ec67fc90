//! `create` and `run`: from a bundle to a process.
//!
//! Everything that can be refused is, before anything is made. Then the state directory is made and locked, and says
//! where the control group will be, so that whoever finds it after our sudden end can clean up; then come the control
//! group, the process, and the state with its pid. A failure takes everything back.

use crate::cgroups;
use crate::commands::Call;
use crate::console::{self, Raw};
use crate::container::told;
use crate::destroy;
use crate::error::OciError;
use crate::flags::Args;
use crate::foreground::{self, Process, Signals};
use crate::globals::Globals;
use crate::inherited::{self, Inherited};
use crate::log::Log;
use crate::protect;
use crate::root_mount::RootMount;
use crate::state::{self, CONFIG, Init, State};
use crate::status;
use crate::store::{self, Locked};
use naru_kernel::{pidfd, prctl, unix};
use naru_runtime::cgroup::Cgroup;
use naru_runtime::hooks::HookInput;
use naru_runtime::oci::{self, NamespaceKind, Spec};
use naru_runtime::request::{NetNs, SpawnOptions, SpawnRequest, Spawned, Stdio};
use naru_runtime::rootfs::Rootfs;
use naru_runtime::spawn;
use naru_types::signal::Signal;
use std::mem::ManuallyDrop;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Who starts the program, and who stays with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Wait for `start`.
    Create,
    /// Start it and go.
    Detached,
    /// Start it and stay.
    Foreground,
}

/// What was asked for, checked.
#[derive(Debug)]
struct Wanted<'a> {
    id: &'a str,
    mode: Mode,
    spec: Spec,
    /// The bytes of config.json.
    config: Vec<u8>,
    bundle: PathBuf,
    pid_file: Option<PathBuf>,
    pidfd_socket: Option<&'a str>,
    console: Option<OwnedFd>,
    no_pivot: bool,
    no_new_keyring: bool,
    subreaper: bool,
    keep: bool,
    /// As soon as it is made.
    cgroup: Option<Cgroup>,
    own_mount: Option<OwnedFd>,
}

/// Makes the container; the exit code of its program in the foreground, otherwise 0.
pub(crate) fn launch(call: &mut Call<'_>, mode: Mode) -> Result<u8, OciError> {
    protect::own_binary()?;
    let (globals, args, log) = (call.globals, call.args, &mut *call.log);
    let preserve = args.number::<usize>("preserve-fds")?.unwrap_or(0);
    let inherited = inherited::take(preserve, true)?;
    // The process ends after this: to take thousands of strings apart first would be for nobody.
    let mut wanted = ManuallyDrop::new(Wanted::read(args, mode)?);
    wanted.own_mount = call.own_mount.take();
    wanted.spec.process.env.extend(inherited.env.iter().cloned());
    let record = cgroups::place(globals, wanted.id, &wanted.spec.linux.cgroups_path)?;
    // The last name of the path also names the keyring and the resctrl group.
    wanted.spec.linux.cgroups_path =
        record.as_ref().map_or_else(|| format!("/{}", wanted.id), |record| record.path.clone());
    let mut state = wanted.state(record)?;
    let locked = store::reserve(&globals.root, wanted.id, log)?;
    let made = make(globals, &mut wanted, &locked, &mut state, inherited, log);
    let (code, keep) = match made {
        Ok(code) => (Ok(code), mode != Mode::Foreground || wanted.keep),
        Err(error) => (Err(error), false),
    };
    if !keep {
        let removed = destroy::with_spec(&locked, &state, Some(&wanted.spec), wanted.cgroup.as_ref(), log);
        if let Err(error) = removed {
            log.warn(&format!("cannot remove what is left of {}: {error}", wanted.id));
        }
    }
    code
}

fn make(
    globals: &Globals,
    wanted: &mut Wanted<'_>,
    locked: &Locked,
    state: &mut State,
    inherited: Inherited,
    log: &mut Log,
) -> Result<u8, OciError> {
    // Nobody looks for it before there is a state.
    let config = locked.directory.join(CONFIG);
    std::fs::write(&config, &wanted.config).map_err(|cause| OciError::file("write", &config, cause))?;
    locked.begin(state)?;
    wanted.cgroup = cgroups::create(globals, &wanted.spec, state.cgroup.as_ref(), log)?;
    if wanted.cgroup.is_none() {
        state.cgroup = None;
    }
    let signals = (wanted.mode == Mode::Foreground).then(Signals::block).transpose()?;
    if signals.is_some() && wanted.subreaper {
        prctl::set_child_subreaper(true).map_err(|errno| OciError::kernel("become a subreaper", errno))?;
    }
    let raw = (signals.is_some() && wanted.spec.process.terminal).then(Raw::enter).transpose()?;
    let spawned = wanted.spawn(locked, state, inherited, raw.as_ref())?;
    log.warn_all(&spawned.warnings);
    let settled = match &wanted.cgroup {
        Some(cgroup) => cgroup.settle(&wanted.spec.linux.resources).map_err(OciError::from),
        None => Ok(()),
    };
    let own_mount = wanted.own_mount.take();
    let done =
        settled.and_then(|()| wanted.announce(locked, state, &spawned)).and_then(|()| match &signals {
            Some(signals) => {
                drop(own_mount);
                let terminal = spawned.pty_master.zip(raw);
                foreground::wait(&Process { pid: spawned.pid, pidfd: &spawned.pidfd }, terminal, signals)
            }
            None => Ok(0),
        });
    if done.is_err() {
        let _ = pidfd::send_signal(&spawned.pidfd, Signal::KILL);
        let _ = pidfd::wait(&spawned.pidfd);
    }
    done
}

impl<'a> Wanted<'a> {
    /// Reads the bundle, and goes into it: its paths may be relative.
    fn read(args: &Args<'a>, mode: Mode) -> Result<Self, OciError> {
        let id = args.positional.first().copied().unwrap_or_default();
        store::check_id(id)?;
        let pid_file = args.value("pid-file").map(absolute).transpose()?;
        if let Some(bundle) = args.value("bundle") {
            rustix::process::chdir(bundle)
                .map_err(|errno| OciError::file("chdir", Path::new(bundle), errno))?;
        }
        let bundle = std::env::current_dir().map_err(|cause| OciError::kernel("getcwd", cause))?;
        let config = match std::fs::read(CONFIG) {
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Err(OciError::NoConfig),
            other => other.map_err(|cause| OciError::file("read", Path::new(CONFIG), cause))?,
        };
        let mut spec = Spec::parse(&config)?;
        check_process(&spec.process)?;
        complete(&mut spec, &bundle)?;
        let console = console_of(args, mode != Mode::Foreground, spec.process.terminal)?;
        Ok(Self {
            id,
            mode,
            spec,
            config,
            bundle,
            pid_file,
            pidfd_socket: args.value("pidfd-socket"),
            console,
            no_pivot: args.has("no-pivot"),
            no_new_keyring: args.has("no-new-keyring"),
            subreaper: mode == Mode::Foreground && !args.has("no-subreaper"),
            keep: mode == Mode::Foreground && args.has("keep"),
            cgroup: None,
            own_mount: None,
        })
    }

    fn state(&self, cgroup: Option<state::CgroupRecord>) -> Result<State, OciError> {
        let spec = &self.spec;
        let own = |namespace: &oci::Namespace| namespace.path.is_none();
        let shared_tree = spec.namespace(NamespaceKind::Mount).is_none();
        let root_mount =
            shared_tree.then(|| RootMount::expected_at(Path::new(&spec.root.path))).transpose()?;
        Ok(State {
            cgroup,
            root_mount,
            own_pid_namespace: spec.namespace(NamespaceKind::Pid).is_some_and(own),
            has_epilogue: !spec.hooks.poststop.is_empty() || spec.linux.intel_rdt.is_some(),
            annotations: spec.annotations.clone(),
            ..State::new(self.id, &spec.version, &self.bundle, &spec.root.path)
        })
    }

    fn spawn(
        &self,
        locked: &Locked,
        state: &State,
        inherited: Inherited,
        raw: Option<&Raw>,
    ) -> Result<Spawned, OciError> {
        let spec = &self.spec;
        let agent = spec.linux.seccomp.as_ref().is_some_and(|seccomp| !seccomp.listener_path.is_empty());
        let hooks = (agent || spec.hooks != oci::Hooks::default())
            .then(|| HookInput { hooks: &spec.hooks, state: told(state) });
        let gate = match self.mode {
            Mode::Create => {
                let path = state::gate(&locked.directory);
                let gate = unix::seqpacket_listen(&path, 1);
                Some(gate.map_err(|cause| OciError::file("listen on", &path, cause))?)
            }
            Mode::Detached | Mode::Foreground => None,
        };
        Ok(spawn::spawn(SpawnRequest {
            spec,
            rootfs: &Rootfs::Directory(PathBuf::from(&spec.root.path)),
            cgroup: self.cgroup.as_ref(),
            netns: NetNs::of_spec(spec)?,
            stdio: stdio(&spec.process, raw)?,
            options: SpawnOptions {
                init: false,
                no_pivot: self.no_pivot,
                no_new_keyring: self.no_new_keyring,
                preserve_fds: inherited.fds,
                gate,
                hooks: hooks.as_ref(),
            },
        })?)
    }

    /// Tells everybody who waits for it: the next commands, the console socket, the reader of the pid file.
    fn announce(&self, locked: &Locked, state: &mut State, spawned: &Spawned) -> Result<(), OciError> {
        // A process that has ended already, and is not reaped, still has its line in /proc.
        let start_ticks = status::start_ticks(spawned.pid).unwrap_or_default();
        state.init = Some(Init { pid: spawned.pid, start_ticks });
        if let Some(mount) = &mut state.root_mount {
            mount.note(Path::new(&state.rootfs))?;
        }
        state.write(&locked.directory)?;
        if let (Some(socket), Some(master)) = (&self.console, &spawned.pty_master) {
            console::send_master(socket, master)?;
        }
        if let Some(path) = self.pidfd_socket {
            console::send_pidfd(path, &spawned.pidfd)?;
        }
        self.pid_file.as_deref().map_or(Ok(()), |path| write_pid_file(path, spawned.pid))
    }
}

/// What the specification leaves to the runtime: absolute paths, the devices of every container.
fn complete(spec: &mut Spec, bundle: &Path) -> Result<(), OciError> {
    let root = bundle.join(&spec.root.path);
    let root =
        std::fs::canonicalize(&root).map_err(|cause| OciError::file("invalid rootfs: stat", &root, cause))?;
    spec.root.path = root
        .into_os_string()
        .into_string()
        .map_err(|path| OciError::Refused(format!("invalid rootfs: {} is not UTF-8", path.display())))?;
    for mount in &mut spec.mounts {
        let bind = mount.options.iter().any(|option| option == "bind" || option == "rbind");
        if bind && !mount.source.starts_with('/') {
            mount.source = bundle.join(&mount.source).to_string_lossy().into_owned();
        }
    }
    cgroups::add_default_devices(spec);
    Ok(())
}

/// runc's checks, in its words.
pub(crate) fn check_process(process: &oci::Process) -> Result<(), OciError> {
    let refuse = |why: &str| Err(OciError::Refused(why.to_owned()));
    if process.cwd.is_empty() {
        return refuse("Cwd property must not be empty");
    }
    if !process.cwd.starts_with('/') {
        return refuse("Cwd must be an absolute path");
    }
    if process.args.is_empty() {
        return refuse("args must not be empty");
    }
    Ok(())
}

/// The console socket, where there may be one and there must be one.
pub(crate) fn console_of(args: &Args<'_>, detach: bool, terminal: bool) -> Result<Option<OwnedFd>, OciError> {
    let refuse = |why: &str| Err(OciError::Refused(why.to_owned()));
    match args.value("console-socket") {
        None if detach && terminal => {
            refuse("cannot allocate tty if runc will detach without setting console socket")
        }
        Some(_) if !detach || !terminal => {
            refuse("cannot use console socket if runc will not detach or allocate tty")
        }
        path => path.map(console::connect).transpose(),
    }
}

/// Ours, as they are; or a terminal of its own, as large as ours.
pub(crate) fn stdio(process: &oci::Process, raw: Option<&Raw>) -> Result<Stdio, OciError> {
    if process.terminal {
        let asked = process.console_size.filter(|size| size.height > 0 && size.width > 0);
        let (rows, cols) = match (asked, raw) {
            (Some(size), _) => (size.height, size.width),
            (None, Some(raw)) => raw.size(),
            (None, None) => (0, 0),
        };
        return Ok(Stdio::Pty { rows, cols });
    }
    let copy = |fd| {
        rustix::io::fcntl_dupfd_cloexec(fd, 3)
            .map_err(|errno| OciError::kernel("copy a standard descriptor", errno))
    };
    Ok(Stdio::Pipes {
        stdin: copy(rustix::stdio::stdin())?,
        stdout: copy(rustix::stdio::stdout())?,
        stderr: copy(rustix::stdio::stderr())?,
    })
}

/// Appears whole, by rename: callers wait for the file to exist.
pub(crate) fn write_pid_file(path: &Path, pid: i32) -> Result<(), OciError> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(OciError::Refused(format!("invalid pid file {}", path.display())));
    };
    let partial = directory.join(format!(".{}", name.to_string_lossy()));
    let done = std::fs::write(&partial, pid.to_string()).and_then(|()| std::fs::rename(&partial, path));
    done.map_err(|cause| OciError::file("write the pid file", path, cause))
}

pub(crate) fn absolute(path: &str) -> Result<PathBuf, OciError> {
    std::path::absolute(path).map_err(|cause| OciError::file("find", Path::new(path), cause))
}
