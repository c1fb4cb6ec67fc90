//! What a container's child does between clone3 and execve, as data.
//!
//! The parent builds a [`Plan`] (it may allocate, read files and explain errors); [`crate::child`] performs it with
//! system calls only. Each [`Op`] says what it is about, so that the parent can name the step that failed from its
//! index alone.

use naru_kernel::exec::StringArray;
use naru_kernel::mount::{Attrs, Change, Propagation};
use naru_kernel::ns::NsFlags;
use naru_kernel::path::Missing;
use naru_kernel::seccomp::Instruction;
use naru_kernel::task::{Mask, SchedAttr};
use std::ffi::CString;
use std::os::fd::OwnedFd;

/// A path inside the container, taken apart so that missing parts can be made one by one.
#[derive(Debug, Default)]
pub(crate) struct Target {
    /// `a`, `a/b`, `a/b/c`: the path of the first n components.
    pub prefixes: Vec<CString>,
    /// `a`, `b`, `c`.
    pub components: Vec<CString>,
    /// What the last component becomes when it is missing.
    pub missing: Missing,
}

impl Target {
    /// `None` when the path has a NUL or climbs with `..`: a spec has no reason to.
    pub fn new(path: &str, missing: Missing) -> Option<Self> {
        let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty() && *name != ".").collect();
        if names.contains(&"..") {
            return None;
        }
        let components = names.iter().map(|name| CString::new(*name).ok()).collect::<Option<Vec<_>>>()?;
        let prefixes =
            (1..=names.len()).map(|len| CString::new(names[..len].join("/")).ok()).collect::<Option<_>>()?;
        Some(Self { prefixes, components, missing })
    }

    pub fn text(&self) -> String {
        format!(
            "/{}",
            self.prefixes.last().map_or(std::borrow::Cow::Borrowed(""), |path| path.to_string_lossy())
        )
    }
}

/// What a failing step means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnError {
    Fail,
    /// Go on and tell the caller.
    Warn,
    /// Go on silently (best effort).
    Ignore,
}

/// A mount that later steps need again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Keep {
    #[default]
    Nothing,
    Proc,
    Devpts,
}

/// What a new file system takes from the directory that it covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Inherit {
    /// When that directory was there before.
    pub mode: bool,
    pub owner: bool,
    /// All that it holds (`tmpcopyup`).
    pub files: bool,
}

#[derive(Debug, Default)]
pub(crate) struct NewFs {
    pub kind: CString,
    pub source: CString,
    pub options: Vec<(CString, Option<CString>)>,
    pub attrs: Attrs,
    /// Before it is attached: propagation, and what is asked for recursively.
    pub changes: Vec<Change>,
    pub target: Target,
    /// No symlink may lead to the target.
    pub plain_target: bool,
    pub keep: Keep,
    pub inherit: Inherit,
    /// The SELinux label of its root.
    pub label: Option<CString>,
}

#[derive(Debug)]
pub(crate) struct DeviceNode {
    pub target: Target,
    /// The host's node, bound instead where mknod is not allowed.
    pub host: CString,
    /// st_mode with the type bits.
    pub mode: u32,
    pub major: u32,
    pub minor: u32,
    pub uid: u32,
    pub gid: u32,
}

/// A place where the child stops until the parent has done its part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Point {
    /// The child is in its new namespaces: the parent writes maps, offsets and what else needs the host's rights.
    Born = 1,
    /// The mounts are made, the root is not entered: prestart, createRuntime and createContainer hooks.
    Created = 2,
    /// The program is about to run: startContainer hooks.
    Start = 3,
}

impl Point {
    pub fn from_number(number: u32) -> Option<Self> {
        [Self::Born, Self::Created, Self::Start].into_iter().find(|point| *point as u32 == number)
    }
}

/// One step. The order of the variants is roughly the order of the plan.
#[derive(Debug)]
pub(crate) enum Op {
    Undumpable,
    ResetSignals,
    NewSession,
    SetNs {
        fd: OwnedFd,
        flags: NsFlags,
    },
    /// The child puts itself into a v1 group: `0` written to `tasks`.
    JoinCgroup {
        tasks: OwnedFd,
    },
    Unshare(NsFlags),
    Await(Point),
    /// Real, effective and saved ids in a user namespace that was just entered; `groups`: with no supplementary ones.
    BecomeRoot {
        uid: u32,
        gid: u32,
        groups: bool,
    },
    Affinity(Box<Mask>),
    IoPriority {
        class: u16,
        level: u16,
    },
    Scheduler(SchedAttr),
    MemoryPolicy {
        mode: i32,
        nodes: Box<Mask>,
    },
    Personality(u32),
    /// The label of the security module for the next execve: the file of `attr/` to write, and its older place.
    Label {
        file: CString,
        older: CString,
        value: CString,
    },
    OomScoreAdj(CString),
    Rlimit {
        resource: u32,
        soft: u64,
        hard: u64,
    },
    JoinKeyring(CString),
    LoopbackUp,
    /// Of the child's copy of the host's mount tree.
    TreePropagation(Propagation),
    /// At a directory of the host's tree, as the child's mount namespace has it.
    AttachRoot {
        at: CString,
        /// What it has before: a slave still hears of the host's mounts below it.
        propagation: Propagation,
    },
    OpenNull,
    NewFs(NewFs),
    /// A mount that the parent cloned.
    Bind {
        mount: OwnedFd,
        target: Target,
    },
    ChangeMount {
        target: Target,
        change: Change,
    },
    /// Other options for the file system that is mounted there.
    Reconfigure {
        target: Target,
        options: Vec<(CString, Option<CString>)>,
    },
    Device(DeviceNode),
    Symlink {
        to: CString,
        at: Target,
        /// In place of what is there.
        replace: bool,
    },
    Pty {
        rows: u16,
        cols: u16,
    },
    Console(Target),
    Sysctl {
        path: CString,
        value: CString,
    },
    Mask(CString),
    ReadOnly(CString),
    MakeDirectory(Target),
    ChangeRoot(Change),
    Pivot,
    /// For a root that pivot_root(2) refuses to leave: what is mounted at these paths is detached, then chroot(2).
    MoveRoot {
        hide: Vec<CString>,
    },
    Hostname(CString),
    Domainname(CString),
    WorkingDir(CString),
    Stdio,
    Umask(u32),
    DropBounding(u32),
    ClearAmbient,
    KeepCaps,
    Groups(Vec<u32>),
    Gid(u32),
    Uid(u32),
    /// The caller's further descriptors, from 3 on.
    PreserveFds,
    /// From this number on.
    CloseRest(u32),
    /// Is there a program to execute? For a start that comes later.
    CheckProgram,
    /// Tell that all is ready, and wait for the word to go on.
    Gate,
    NoNewPrivs,
    Seccomp {
        program: Vec<Instruction>,
        flags: u64,
        /// The filter has a listener, which is sent to the parent.
        listening: bool,
    },
    /// Effective, permitted, inheritable.
    Caps {
        effective: u64,
        permitted: u64,
        inheritable: u64,
    },
    RaiseAmbient(u32),
    Init,
}

#[derive(Debug)]
pub(crate) struct Step {
    pub op: Op,
    pub on_error: OnError,
}

/// What to execute.
#[derive(Debug)]
pub(crate) struct Program {
    /// Full paths to try in order.
    pub candidates: Vec<CString>,
    pub args: StringArray,
    pub env: StringArray,
}

#[derive(Debug)]
pub(crate) struct Plan {
    pub steps: Vec<Step>,
    pub program: Program,
    /// The detached root file system, or the container's root for exec.
    pub root: OwnedFd,
    /// stdin, stdout, stderr; `None`: a terminal made by [`Op::Pty`].
    pub stdio: Option<[OwnedFd; 3]>,
    /// Whom the standard descriptors are given to.
    pub stdio_owner: u32,
    /// For [`Op::PreserveFds`]: each number is above all that it is installed at.
    pub preserve_fds: Vec<OwnedFd>,
    /// For [`Op::Gate`].
    pub gate: Option<OwnedFd>,
    /// The steps in words, for the one behind the gate, who does not have this plan; empty without a gate.
    pub names: Vec<CString>,
}

impl Op {
    /// The step in words, for error messages.
    pub fn describe(&self) -> String {
        let lossy = |text: &CString| text.to_string_lossy().into_owned();
        match self {
            Self::Undumpable => "make the process undumpable".into(),
            Self::ResetSignals => "reset signals".into(),
            Self::NewSession => "start a session".into(),
            Self::SetNs { flags, .. } => format!("join the {} namespace", namespace_name(*flags)),
            Self::JoinCgroup { .. } => "join the control group".into(),
            Self::Unshare(flags) => format!("make a {} namespace", namespace_name(*flags)),
            Self::Await(Point::Born) => "wait for the runtime to set up the namespaces".into(),
            Self::Await(_) => "wait for the hooks".into(),
            Self::BecomeRoot { uid, gid, .. } => format!("become {uid}:{gid} in the user namespace"),
            Self::Affinity(_) => "set the CPU affinity".into(),
            Self::IoPriority { class, level } => {
                format!("set the io priority to class {class}, level {level}")
            }
            Self::Scheduler(attr) => format!("set the scheduling policy {}", attr.policy),
            Self::MemoryPolicy { .. } => "set the memory policy".into(),
            Self::Personality(_) => "set the personality".into(),
            Self::Label { value, .. } => format!("set the label of the program to {}", lossy(value)),
            Self::OomScoreAdj(value) => format!("set oom_score_adj to {}", lossy(value)),
            Self::Rlimit { resource, soft, hard } => {
                format!("set resource limit {resource} to {soft}:{hard}")
            }
            Self::JoinKeyring(_) => "join a session keyring".into(),
            Self::LoopbackUp => "bring the loopback device up".into(),
            Self::TreePropagation(_) => "change the propagation of the mount tree".into(),
            Self::AttachRoot { .. } => "attach the root file system".into(),
            Self::OpenNull => "open /dev/null".into(),
            Self::NewFs(fs) => format!("mount {} at {}", lossy(&fs.kind), fs.target.text()),
            Self::Bind { target, .. } => format!("bind mount at {}", target.text()),
            Self::ChangeMount { target, .. } => format!("change mount attributes of {}", target.text()),
            Self::Device(node) => format!("make the device node {}", node.target.text()),
            Self::Reconfigure { target, .. } => format!("change the options of {}", target.text()),
            Self::Symlink { to, at, .. } => format!("make the symlink {} to {}", at.text(), lossy(to)),
            Self::Pty { .. } => "open a terminal".into(),
            Self::Console(_) => "mount /dev/console".into(),
            Self::Sysctl { path, .. } => format!("set the sysctl {}", lossy(path)),
            Self::Mask(path) => format!("mask /{}", lossy(path)),
            Self::ReadOnly(path) => format!("make /{} read-only", lossy(path)),
            Self::MakeDirectory(target) => format!("make the directory {}", target.text()),
            Self::ChangeRoot(_) => "change mount attributes of the root file system".into(),
            Self::Pivot => "pivot into the root file system".into(),
            Self::MoveRoot { .. } => "change into the root file system without pivot_root".into(),
            Self::Hostname(_) => "set the host name".into(),
            Self::Domainname(_) => "set the domain name".into(),
            Self::WorkingDir(path) => format!("chdir to cwd (\"/{}\") set in config.json", lossy(path)),
            Self::Stdio => "install the standard descriptors".into(),
            Self::Umask(_) => "set the umask".into(),
            Self::DropBounding(capability) => format!("drop capability {capability} from the bounding set"),
            Self::ClearAmbient => "clear the ambient capabilities".into(),
            Self::KeepCaps => "keep capabilities over the change of user".into(),
            Self::Groups(_) => "set supplementary groups".into(),
            Self::Gid(gid) => format!("become group {gid}"),
            Self::Uid(uid) => format!("become user {uid}"),
            Self::PreserveFds => "install the preserved descriptors".into(),
            Self::CheckProgram => "look for the program".into(),
            Self::Gate => "wait for the start".into(),
            Self::CloseRest(_) => "mark descriptors close-on-exec".into(),
            Self::NoNewPrivs => "set no_new_privs".into(),
            Self::Seccomp { .. } => "load the seccomp filter".into(),
            Self::Caps { .. } => "set capabilities".into(),
            Self::RaiseAmbient(capability) => format!("raise ambient capability {capability}"),
            Self::Init => "start the init process".into(),
        }
    }
}

pub(crate) fn namespace_name(flags: NsFlags) -> String {
    use naru_kernel::ns;
    let known = [
        (ns::NEWCGROUP, "cgroup"),
        (ns::NEWIPC, "ipc"),
        (ns::NEWNET, "network"),
        (ns::NEWNS, "mount"),
        (ns::NEWPID, "pid"),
        (ns::NEWTIME, "time"),
        (ns::NEWUSER, "user"),
        (ns::NEWUTS, "uts"),
    ];
    let names: Vec<&str> = known.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_taken_apart() {
        let target = Target::new("//a/./b/c/", Missing::Directory).unwrap();
        assert_eq!(target.text(), "/a/b/c");
        assert_eq!(target.prefixes.len(), 3);
        assert!(Target::new("/a/../b", Missing::Directory).is_none());
        assert!(Target::new("/a\0", Missing::File).is_none());
        assert_eq!(Target::new("/", Missing::Directory).unwrap().text(), "/");
    }
}
