//! `exec`: a further process in a running container.

use super::{Call, Command};
use crate::console::{self, Raw};
use crate::container::Container;
use crate::error::OciError;
use crate::flags::{Count, Order, flag, value, values};
use crate::foreground::{self, Process, Signals};
use crate::inherited;
use crate::launch::{absolute, check_process, console_of, stdio, write_pid_file};
use crate::protect;
use crate::status::Status;
use naru_kernel::pidfd;
use naru_runtime::cgroup::Cgroup;
use naru_runtime::exec;
use naru_runtime::oci::{self, Spec};
use naru_runtime::request::{ExecRequest, Spawned};
use naru_types::signal::Signal;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

pub(super) const EXEC: Command = Command {
    name: "exec",
    about: "execute new process inside the container",
    arguments: "<container-id> <command> [command options] || -p process.json <container-id>",
    flags: &[
        value(
            "console-socket",
            "",
            "path to an AF_UNIX socket which will receive the master of the terminal",
        ),
        value("pidfd-socket", "", "path to an AF_UNIX socket which will receive a pidfd of the process"),
        value("cwd", "", "current working directory in the container"),
        values("env", "e", "set environment variables"),
        flag("tty", "t", "allocate a pseudo-TTY"),
        value("user", "u", "UID (format: <uid>[:<gid>])"),
        values("additional-gids", "g", "additional gids"),
        value("process", "p", "path to the process.json"),
        flag("detach", "d", "detach from the container's process"),
        value("pid-file", "", "specify the file to write the process id to"),
        value("process-label", "", "set the label of the process, used with selinux"),
        value("apparmor", "", "set the apparmor profile for the process"),
        flag("no-new-privs", "", "set the no new privileges value for the process"),
        values("cap", "c", "add a capability to the bounding set for the process"),
        value("preserve-fds", "", "pass N additional file descriptors to the process"),
        values(
            "cgroup",
            "",
            "run the process in an existing sub-cgroup: [<controller>[,<controller>]:]<cgroup>",
        ),
        flag("ignore-paused", "", "allow exec in a paused container"),
    ],
    order: Order::FlagsFirst,
    positional: Count { min: 1, max: usize::MAX },
    run,
};

fn run(call: &mut Call<'_>) -> Result<u8, OciError> {
    exec(call).map_err(|error| OciError::Exec(Box::new(error)))
}

fn exec(call: &mut Call<'_>) -> Result<u8, OciError> {
    protect::own_binary()?;
    let args = call.args;
    let inherited = inherited::take(args.number::<usize>("preserve-fds")?.unwrap_or(0), false)?;
    let container = Container::load(call.globals, call.id())?;
    match container.status() {
        Status::Stopped => return Err(OciError::Refused("cannot exec in a stopped container".into())),
        Status::Creating => return Err(OciError::NotRunning),
        Status::Paused if !args.has("ignore-paused") => {
            let why = "cannot exec in a paused container (use --ignore-paused to override)";
            return Err(OciError::Refused(why.into()));
        }
        Status::Created | Status::Running | Status::Paused => {}
    }
    let pid_file = args.value("pid-file").map(absolute).transpose()?;
    let spec = container.spec()?;
    let process = process(call, &spec)?;
    check_process(&process)?;
    let detach = args.has("detach");
    let console = console_of(args, detach, process.terminal)?;
    let signals = (!detach).then(Signals::block).transpose()?;
    let raw = (signals.is_some() && process.terminal).then(Raw::enter).transpose()?;
    let groups = SubGroups::of(call, &container)?;
    if let Some(mask) = exec::initial_cpus(&process, &spec.process)? {
        call.log.debug(&format!("initial CPU affinity: 0x{mask}"));
    }
    let (init, init_pidfd) = container.init()?;
    let spawned = exec::exec(ExecRequest {
        spec: &spec,
        process: &process,
        init_pidfd: init_pidfd.as_fd(),
        init_pid: init.pid,
        cgroup: groups.main.as_ref(),
        stdio: stdio(&process, raw.as_ref())?,
        privileged: false,
        preserve_fds: inherited.fds,
        state: Some(&container.told()),
    })?;
    call.log.warn_all(&spawned.warnings);
    let announce = || {
        groups.enter(spawned.pid)?;
        if let (Some(socket), Some(master)) = (&console, &spawned.pty_master) {
            console::send_master(socket, master)?;
        }
        if let Some(path) = args.value("pidfd-socket") {
            console::send_pidfd(path, &spawned.pidfd)?;
        }
        pid_file.as_deref().map_or(Ok(()), |path| write_pid_file(path, spawned.pid))
    };
    if let Err(error) = announce() {
        let _ = pidfd::send_signal(&spawned.pidfd, Signal::KILL);
        return Err(error);
    }
    let Spawned { pid, pidfd, pty_master, .. } = spawned;
    match &signals {
        Some(signals) => {
            drop(call.own_mount.take());
            foreground::wait(&Process { pid, pidfd: &pidfd }, pty_master.zip(raw), signals)
        }
        None => Ok(0),
    }
}

/// From a file, or the container's own changed by flags.
fn process(call: &Call<'_>, spec: &Spec) -> Result<oci::Process, OciError> {
    let args = call.args;
    if let Some(path) = args.value("process") {
        let bytes = std::fs::read(path).map_err(|cause| OciError::file("open", Path::new(path), cause))?;
        return Ok(oci::Process::parse(&bytes)?);
    }
    let mut process = spec.process.clone();
    process.args = args.positional.iter().skip(1).map(|&word| word.to_owned()).collect();
    if process.args.is_empty() {
        return Err(OciError::Refused("exec args cannot be empty".into()));
    }
    process.terminal = args.has("tty");
    for variable in args.values("env") {
        // Of two variables of one name getenv(3) finds the first: the spec's must go.
        let name = variable.split_once('=').map_or(variable, |(name, _)| name);
        process.env.retain(|known| known.split_once('=').is_none_or(|(known, _)| known != name));
        process.env.push(variable.to_owned());
    }
    if let Some(cwd) = args.value("cwd") {
        cwd.clone_into(&mut process.cwd);
    }
    if let Some(profile) = args.value("apparmor") {
        profile.clone_into(&mut process.apparmor_profile);
    }
    if let Some(label) = args.value("process-label") {
        label.clone_into(&mut process.selinux_label);
    }
    if args.is_set("no-new-privs") {
        process.no_new_privileges = args.has("no-new-privs");
    }
    for cap in args.values("cap") {
        let sets = process.capabilities.get_or_insert_default();
        for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
            set.push(cap.to_owned());
        }
        // An ambient capability must be inheritable, and --cap makes none so (capabilities(7)).
        if sets.inheritable.iter().any(|name| name == cap) {
            sets.ambient.push(cap.to_owned());
        }
    }
    user(call, &mut process)?;
    Ok(process)
}

fn user(call: &Call<'_>, process: &mut oci::Process) -> Result<(), OciError> {
    if let Some(text) = call.args.value("user") {
        let (uid, gid) = text.split_once(':').map_or((text, None), |(uid, gid)| (uid, Some(gid)));
        let number = |what: &str, text: &str| {
            text.parse::<u32>()
                .map_err(|_| OciError::Refused(format!("bad {what}: {text:?} is not a number")))
        };
        process.user.username.clear();
        process.user.uid = number("uid", uid)?;
        if let Some(gid) = gid {
            process.user.gid = number("gid", gid)?;
        }
    }
    for text in call.args.values("additional-gids").flat_map(|list| list.split(',')) {
        let gid = text
            .parse()
            .map_err(|_| OciError::Refused(format!("additional-gids must be a positive number {text}")))?;
        process.user.additional_gids.push(gid);
    }
    Ok(())
}

/// Where `--cgroup` puts the process. One path for all hierarchies is entered by the clone; single controllers of v1 are
/// entered right after it, when the program runs already.
struct SubGroups {
    main: Option<Cgroup>,
    moves: Vec<PathBuf>,
}

impl SubGroups {
    fn of(call: &Call<'_>, container: &Container) -> Result<Self, OciError> {
        let mut groups = Self { main: container.cgroup()?, moves: Vec::new() };
        let asked: Vec<&str> = call.args.values("cgroup").filter(|text| !text.is_empty()).collect();
        let Some(first) = asked.first() else { return Ok(groups) };
        let whole = groups
            .main
            .clone()
            .ok_or_else(|| OciError::Refused("--cgroup: the container has no control group".into()))?;
        if let ([only], false) = (asked.as_slice(), first.contains(':')) {
            let below = Cgroup::open(&inside(whole.path(), only)?)?;
            let directory =
                below.v2_directory().or_else(|| below.layout().v1.first().map(|v1| below.directory_in(v1)));
            exists(&directory.unwrap_or_default())?;
            groups.main = Some(below);
            return Ok(groups);
        }
        for text in asked {
            let missing = || {
                OciError::Refused(format!("invalid --cgroup argument: {text} (missing <controller>: prefix)"))
            };
            let (controllers, path) = text.split_once(':').ok_or_else(missing)?;
            let below = Cgroup::open(&inside(whole.path(), path)?)?;
            for controller in controllers.split(',') {
                let unknown = || OciError::Refused(format!("--cgroup: unknown controller {controller:?}"));
                let hierarchy = below.layout().v1_with(controller).ok_or_else(unknown)?;
                let directory = below.directory_in(hierarchy);
                exists(&directory)?;
                groups.moves.push(directory.join("cgroup.procs"));
            }
        }
        Ok(groups)
    }

    fn enter(&self, pid: i32) -> Result<(), OciError> {
        self.moves.iter().try_for_each(|file| {
            std::fs::write(file, pid.to_string()).map_err(|cause| OciError::file("write", file, cause))
        })
    }
}

fn inside(own: &str, below: &str) -> Result<String, OciError> {
    if below.split('/').any(|part| part == "..") {
        return Err(OciError::Refused(format!("--cgroup: {below} is not a sub cgroup path")));
    }
    Ok(format!("{own}/{}", below.trim_matches('/')).trim_end_matches('/').to_owned())
}

fn exists(directory: &Path) -> Result<(), OciError> {
    rustix::fs::stat(directory).map(drop).map_err(|errno| OciError::file("--cgroup: stat", directory, errno))
}
