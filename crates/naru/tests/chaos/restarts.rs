//! R3: containers, logs, exit codes and open connections across restarts of the daemon. R5: short-lived containers.

use crate::lab::{Lab, wait_for};
use crate::residue::Residue;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

/// Exit codes are 10 and up, so that none looks like a shell's own.
const CODE_FIRST: usize = 10;

/// `containers` write without end while the daemon is killed or stopped `restarts` times.
pub fn nothing_is_lost(lab: &Lab, restarts: u64, containers: usize) {
    let ids: Vec<String> = (0..containers)
        .map(|n| {
            let code = CODE_FIRST + n;
            let script = format!(
                "trap 'echo end; exit {code}' TERM; i=0; while :; do echo $i; i=$((i+1)); sleep 0.3; done"
            );
            lab.ok(&["run", "-d", "busybox", "sh", "-c", &script]).trim().to_owned()
        })
        .collect();
    lab.ok(&[
        "run", "-d", "-p", "18098:80", "--name", "echo", "busybox", "nc", "-ll", "-p", "80", "-e", "cat",
    ]);
    let mut connection = Connection::open(lab);
    connection.say("before");
    for n in 0..restarts {
        if n % 2 == 0 {
            lab.kill_daemon();
        } else {
            lab.stop_daemon();
        }
        connection.say(&format!("while the daemon is away {n}"));
        lab.start_daemon();
        connection.say(&format!("afterwards {n}"));
    }
    let running = lab.ok(&["ps", "-q"]).lines().count();
    assert_eq!(running, containers + 1, "containers are missing");
    let mut kill = vec!["kill", "-s", "TERM"];
    kill.extend(ids.iter().map(String::as_str));
    lab.ok(&kill);
    wait_for("the containers' ends", || lab.ok(&["ps", "-q"]).lines().count() == 1);
    for (n, id) in ids.iter().enumerate() {
        let code = lab.ok(&["inspect", "-f", "{{.State.ExitCode}}", id]);
        assert_eq!(code.trim(), (CODE_FIRST + n).to_string(), "exit code of {n}");
        let logs = lab.ok(&["logs", id]);
        let lines: Vec<&str> = logs.lines().collect();
        let (last, counted) = lines.split_last().unwrap();
        assert_eq!(*last, "end", "the last line of {n}");
        assert!(
            counted.iter().enumerate().all(|(i, line)| *line == i.to_string()),
            "the log of {n} has a hole: {counted:?}"
        );
    }
    connection.end();
    lab.remove_everything();
}

/// `count` times `run --rm`: each gives its code, and afterwards there is no more of anything than before.
pub fn short_lives_leave_nothing(lab: &Lab, count: u64) {
    lab.ok(&["run", "--rm", "busybox", "true"]);
    let before = Residue::settled(lab);
    for n in 0..count {
        let code = (n % 100) as i32;
        lab.docker(&["run", "--rm", "busybox", "sh", "-c", &format!("exit {code}")])
            .expect(code, "a short life");
    }
    wait_for("everything to be given back", || Residue::take(lab).over(&before).is_empty());
}

/// A line-wise conversation over one TCP connection through a published port.
struct Connection {
    shell: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Connection {
    fn open(lab: &Lab) -> Self {
        const SCRIPT: &str = "exec 3<>/dev/tcp/127.0.0.1/18098
            while read -r line; do echo \"$line\" >&3; read -r -u 3 answer; echo \"$answer\"; done";
        wait_for("the echo server", || lab.sh("bash -c 'exec 3<>/dev/tcp/127.0.0.1/18098'").code == 0);
        let mut shell = lab
            .inside("bash")
            .args(["-c", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (shell.stdin.take().unwrap(), shell.stdout.take().unwrap());
        Self { shell, input, output: BufReader::new(output) }
    }

    fn say(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
        let mut answer = String::new();
        self.output.read_line(&mut answer).unwrap();
        assert_eq!(answer.trim_end(), line, "the connection broke");
    }

    fn end(self) {
        let Self { mut shell, input, output } = self;
        drop((input, output));
        shell.wait().unwrap();
    }
}
