//! `create` and `run`.

use super::{Call, Command, ID, ONE};
use crate::error::OciError;
use crate::flags::{Flag, Order, flag, value};
use crate::launch::{Mode, launch};

const BUNDLE: Flag =
    value("bundle", "b", "path to the root of the bundle directory, defaults to the current directory");
const CONSOLE: Flag = value(
    "console-socket",
    "",
    "path to an AF_UNIX socket which will receive the master of the container's terminal",
);
const PIDFD: Flag =
    value("pidfd-socket", "", "path to an AF_UNIX socket which will receive a pidfd of the init process");
const PID_FILE: Flag = value("pid-file", "", "specify the file to write the process id to");
const NO_PIVOT: Flag = flag("no-pivot", "", "do not use pivot_root: for a rootfs on top of a ramdisk");
const NO_KEYRING: Flag = flag("no-new-keyring", "", "keep the caller's session keyring");
const PRESERVE: Flag = value(
    "preserve-fds",
    "",
    "pass N additional file descriptors to the container (stdio + $LISTEN_FDS + N in total)",
);

pub(super) const CREATE: Command = Command {
    name: "create",
    about: "create a container",
    arguments: ID,
    flags: &[BUNDLE, CONSOLE, PIDFD, PID_FILE, NO_PIVOT, NO_KEYRING, PRESERVE],
    order: Order::Anywhere,
    positional: ONE,
    run: create,
};

pub(super) const RUN: Command = Command {
    name: "run",
    about: "create and run a container",
    arguments: ID,
    flags: &[
        BUNDLE,
        CONSOLE,
        PIDFD,
        flag("detach", "d", "detach from the container's process"),
        flag("keep", "", "do not delete the container after it exits"),
        PID_FILE,
        flag("no-subreaper", "", "do not reap processes that the container leaves"),
        NO_PIVOT,
        NO_KEYRING,
        PRESERVE,
    ],
    order: Order::Anywhere,
    positional: ONE,
    run,
};

fn create(call: &mut Call<'_>) -> Result<u8, OciError> {
    launch(call, Mode::Create)
}

fn run(call: &mut Call<'_>) -> Result<u8, OciError> {
    let mode = if call.args.has("detach") { Mode::Detached } else { Mode::Foreground };
    launch(call, mode)
}
