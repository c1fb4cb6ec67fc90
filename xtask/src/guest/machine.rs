//! The virtual machine: QEMU's emulator, so that it is the same on every machine, with or without nested
//! virtualization.
//!
//! Three lines out: the kernel's console to a file, what the tests print as lines to the caller, and the end of the
//! process. It has no network, and its disks are snapshots: nothing that it does is kept.

use super::root::Root;
use crate::process::{Guarded, Result};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

const MEMORY_MIB: u32 = 3072;
const CPUS: &str = "2";

/// Everything the emulator has, but: cmpxchg16b, which QEMU 7.2's threads get wrong (the flags land in the stack
/// pointer), and five-level page tables, which only cost time.
const CPU: &str = "max,-cx16,-la57";

/// A kernel that panics ends the machine (`panic=-1` with `-no-reboot`).
const KERNEL_COMMAND_LINE: &str = "root=/dev/vda rw console=ttyS0 panic=-1 loglevel=5 mitigations=off systemd.show_status=0 systemd.journald.forward_to_console=0";

/// Boots with `payload` as second disk and hands every line to `on_line` until the machine is off. It is killed at
/// `deadline`, and with this process.
pub fn boot(
    root: &Root,
    payload: &Path,
    console: &Path,
    deadline: Duration,
    on_line: &mut dyn FnMut(&str),
) -> Result<()> {
    let end = Instant::now() + deadline;
    let mut machine = Guarded(spawn(root, payload, console)?);
    let stdout = machine.0.stdout.take().ok_or("the machine has no output")?;
    let (sender, lines) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(stdout).split(b'\n').map_while(std::result::Result::ok) {
            let text = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
            if sender.send(text).is_err() {
                break;
            }
        }
    });
    loop {
        match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) => on_line(&line),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                return Err(format!("the guest was killed after {} s", deadline.as_secs()).into());
            }
        }
    }
    let status = machine.0.wait()?;
    let _ = reader.join();
    if status.success() { Ok(()) } else { Err(format!("qemu-system-x86_64: {status}").into()) }
}

fn spawn(root: &Root, payload: &Path, console: &Path) -> Result<std::process::Child> {
    let disk = |path: &Path| format!("if=virtio,format=raw,file={}", path.display());
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "qemu-system-x86_64"])
        .args(["-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", CPU, "-smp", CPUS])
        .args(["-m", &MEMORY_MIB.to_string(), "-nodefaults", "-display", "none", "-no-reboot", "-snapshot"])
        .arg("-kernel")
        .arg(&root.kernel)
        .arg("-initrd")
        .arg(&root.initrd)
        .args(["-append", KERNEL_COMMAND_LINE])
        .args(["-drive", &disk(&root.image), "-drive", &disk(payload)])
        .args(["-device", "virtio-rng-pci"])
        .args(["-serial", &format!("file:{}", console.display()), "-serial", "stdio"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot run qemu-system-x86_64: {error}").into())
}
