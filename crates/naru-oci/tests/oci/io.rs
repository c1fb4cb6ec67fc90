//! Terminals and descriptors.

use crate::fixture::{Lab, read, wait_for};
use naru_kernel::unix;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::process::Stdio;

fn read_until(file: &mut std::fs::File, wanted: &str) -> String {
    let mut text = String::new();
    let mut buffer = [0u8; 1024];
    while !text.contains(wanted) {
        let len = file.read(&mut buffer).unwrap_or(0);
        assert!(len > 0, "ended without {wanted:?}: {text:?}");
        text.push_str(&String::from_utf8_lossy(&buffer[..len]));
    }
    text
}

pub fn the_console_socket_gets_the_master() {
    let lab = Lab::new();
    let id = lab.id("a");
    lab.config("stty size; read line; echo got:$line; sleep 1000", |config| {
        config["process"]["terminal"] = true.into();
        config["process"]["consoleSize"] = serde_json::json!({ "height": 20, "width": 50 });
    });
    let path = lab.path("console");
    let listener = UnixListener::bind(&path).unwrap();
    assert_eq!(lab.quiet(&["create", &id]), 1);
    assert!(read(&lab.path("stderr")).contains("without setting console socket"));
    lab.quiet_ok(&["create", "--console-socket", path.to_str().unwrap(), &id]);
    let receive = || {
        let (stream, _) = listener.accept().unwrap();
        let mut name = [0u8; 4096];
        let mut received = unix::recv(&stream, &mut name).unwrap();
        assert!(name[..received.len].starts_with(b"/dev/p"));
        std::fs::File::from(received.fds.pop().unwrap())
    };
    let mut master = receive();
    lab.ok(&["start", &id]);
    read_until(&mut master, "20 50");
    master.write_all(b"hello\n").unwrap();
    read_until(&mut master, "got:hello");
    lab.quiet_ok(&[
        "exec",
        "-t",
        "-d",
        "--console-socket",
        path.to_str().unwrap(),
        &id,
        "sh",
        "-c",
        "echo second; sleep 100",
    ]);
    read_until(&mut receive(), "second");
}

pub fn descriptors_are_preserved() {
    let lab = Lab::new();
    let id = lab.id("a");
    lab.config("cat <&3; cat <&4; ls /proc/self/fd", |_| {});
    let file = |text: &str| {
        let path = lab.path(text);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (three, four) = (file("three"), file("four"));
    // The shell puts the files on 3 and 4; a fifth one must not arrive.
    let script = format!(
        "exec {} oci --root {} run --preserve-fds 2 {id} 3<{} 4<{} 5</dev/null",
        std::env::current_exe().unwrap().display(),
        lab.root().display(),
        three.display(),
        four.display()
    );
    let output = std::process::Command::new("/bin/sh")
        .args(["-c", &script])
        .current_dir(lab.bundle())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.starts_with("threefour"), "{text} {}", String::from_utf8_lossy(&output.stderr));
    let open: Vec<&str> = text["threefour".len()..].split_whitespace().collect();
    // `ls` itself has one more open, the directory.
    assert!(!open.contains(&"6") && open.len() <= 6, "{open:?}");
    let done = lab.run(&["run", "--preserve-fds", "3", &id]);
    assert!(
        done.code == 1 && done.stderr.contains("unable to stat preserved-fd 0 (of 3)"),
        "{}",
        done.stderr
    );
    // LISTEN_FDS, as socket activation has it.
    lab.config("echo $LISTEN_FDS $LISTEN_PID; cat <&3", |_| {});
    let script = format!(
        "export LISTEN_FDS=1 LISTEN_PID=$$; exec {} oci --root {} run {id} 3<{}",
        std::env::current_exe().unwrap().display(),
        lab.root().display(),
        three.display()
    );
    let output = std::process::Command::new("/bin/sh")
        .args(["-c", &script])
        .current_dir(lab.bundle())
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "1 1\nthree",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

pub fn a_terminal_in_the_foreground() {
    let lab = Lab::new();
    let id = lab.id("a");
    lab.config("stty size; read line; echo got:$line; exit 6", |config| {
        config["process"]["terminal"] = true.into();
    });
    let refused = lab.run(&["run", &id]);
    assert!(refused.code == 1 && refused.stderr.contains("cannot allocate tty"), "{}", refused.stderr);
    let (master, slave) = pty();
    naru_kernel::tty::set_size(&master, 31, 77).unwrap();
    let copy = || Stdio::from(slave.try_clone().unwrap());
    let mut child = lab.oci(&["run", &id]).stdin(copy()).stdout(copy()).stderr(copy()).spawn().unwrap();
    let mut file = std::fs::File::from(master);
    read_until(&mut file, "31 77");
    file.write_all(b"typed\n").unwrap();
    read_until(&mut file, "got:typed");
    assert_eq!(child.wait().unwrap().code(), Some(6));
    // The terminal is as it was: it echoes again.
    let modes = rustix::termios::tcgetattr(slave.as_fd()).unwrap();
    assert!(modes.local_modes.contains(rustix::termios::LocalModes::ECHO));
    wait_for(|| !lab.root().join(&id).exists());
}

fn pty() -> (OwnedFd, OwnedFd) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let slave = std::fs::File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    assert!(master.as_raw_fd() > 2);
    (master, slave.into())
}
