//! What the clients do. Every call has a time limit; an answer is judged only when nothing was killed meanwhile.

use crate::dice::Dice;
use crate::lab::{Lab, Out, collect};
use std::fmt::{Display, Formatter};
use std::ops::AddAssign;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Longer than any answer may take: `stop -t 1` and a start on a busy machine, with a keeper's replacement between.
const HANG_SECS: &str = "45";
/// timeout(1)'s exit codes for a command that had to be ended.
const TIMED_OUT: [i32; 2] = [124, 137];
/// Few names, so that the clients get into each other's way.
const NAMES: u64 = 8;

pub struct Clients<'a> {
    lab: &'a Lab,
    stop: AtomicBool,
    /// Goes up at the start and at the end of every kill.
    disturbances: AtomicU64,
    done: AtomicUsize,
    judged: AtomicUsize,
    wrong: Mutex<Vec<String>>,
}

#[derive(Default)]
pub struct Seen {
    operations: usize,
    judged: usize,
}

impl AddAssign for Seen {
    fn add_assign(&mut self, more: Self) {
        self.operations += more.operations;
        self.judged += more.judged;
    }
}

impl Display for Seen {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let Self { operations, judged } = self;
        write!(
            f,
            "{operations} operations, {judged} of them with no kill meanwhile and judged by their answer"
        )
    }
}

impl<'a> Clients<'a> {
    pub fn new(lab: &'a Lab) -> Self {
        let context = lab.dir.join("context");
        std::fs::create_dir_all(&context).unwrap();
        std::fs::write(
            context.join("Dockerfile"),
            "FROM busybox\nARG N\nRUN echo $N > /n\nCOPY Dockerfile /\n",
        )
        .unwrap();
        Self {
            lab,
            stop: AtomicBool::new(false),
            disturbances: AtomicU64::new(0),
            done: AtomicUsize::new(0),
            judged: AtomicUsize::new(0),
            wrong: Mutex::new(Vec::new()),
        }
    }

    pub fn disturbed(&self) {
        self.disturbances.fetch_add(1, Ordering::SeqCst);
    }

    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    /// What was done; fails when an answer was wrong.
    pub fn seen(self) -> Seen {
        let wrong = self.wrong.into_inner().unwrap();
        assert!(wrong.is_empty(), "{wrong:#?}");
        Seen { operations: self.done.into_inner(), judged: self.judged.into_inner() }
    }

    pub fn work(&self, client: u64, mut dice: Dice) {
        while !self.stop.load(Ordering::SeqCst) {
            self.one(client, &mut dice);
        }
    }

    fn one(&self, client: u64, dice: &mut Dice) {
        let name = format!("chaos{}", dice.below(NAMES));
        let network = format!("net{}", dice.below(2));
        match dice.below(17) {
            0 | 1 => self.short(dice.below(256)),
            2 => {
                self.any(&[
                    "run",
                    "-d",
                    "--name",
                    &name,
                    "--restart",
                    "always",
                    "busybox",
                    "sh",
                    "-c",
                    "sleep 0.3; exit 3",
                ]);
            }
            3 | 4 => {
                self.any(&[
                    "run",
                    "-d",
                    "--name",
                    &name,
                    "-v",
                    "chaosdata:/data",
                    "busybox",
                    "sleep",
                    "1000",
                ]);
            }
            5 => {
                let port = format!("{}:80", 19000 + dice.below(4));
                self.any(&[
                    "run",
                    "-d",
                    "--name",
                    &name,
                    "-p",
                    &port,
                    "-v",
                    "/anonymous",
                    "busybox",
                    "sleep",
                    "1000",
                ]);
            }
            6 => {
                let health = ["--health-cmd", "true", "--health-interval", "200ms"];
                let mut args = vec!["run", "-d", "--name", &name];
                args.extend(health);
                args.extend(["--restart", "on-failure:3", "busybox", "sh", "-c", "sleep 2; exit 1"]);
                self.any(&args);
            }
            7 | 8 => self.any(&["exec", &name, "sh", "-c", "echo x; exit 0"]),
            9 => self.any(&["stop", "-t", "0", &name]),
            10 => self.any(&["kill", &name]),
            11 | 12 => self.any(&["rm", "-f", "-v", &name]),
            13 => self.any(&["network", "create", &network]),
            14 => self.any(&["network", "connect", &network, &name]),
            15 => {
                self.any(&["network", "disconnect", &network, &name]);
                self.any(&["network", "rm", &network]);
            }
            _ => {
                let context = self.lab.dir.join("context").display().to_string();
                let number = format!("N={client}{}", dice.below(1000));
                self.any(&["build", "-q", "-t", "chaos", "--build-arg", &number, &context]);
            }
        }
    }

    /// A short-lived container: output and exit code are known.
    fn short(&self, code: u64) {
        let before = self.disturbances.load(Ordering::SeqCst);
        let script = format!("echo {code}; exit {code}");
        let out = self.call(&["run", "--rm", "busybox", "sh", "-c", &script]);
        if before.is_multiple_of(2) && before == self.disturbances.load(Ordering::SeqCst) {
            self.judged.fetch_add(1, Ordering::SeqCst);
            if (out.code, out.stdout.trim()) != (i32::try_from(code).unwrap(), code.to_string().as_str()) {
                self.complain(format!("run --rm of exit {code}: {out:?}"));
            }
        }
    }

    /// Something whose answer depends on what the others do: it has to come, and must not be an internal error when
    /// nothing was killed.
    fn any(&self, args: &[&str]) {
        let before = self.disturbances.load(Ordering::SeqCst);
        let out = self.call(args);
        if before.is_multiple_of(2) && before == self.disturbances.load(Ordering::SeqCst) {
            self.judged.fetch_add(1, Ordering::SeqCst);
            let broken = ["panicked", "this is a bug", "EOF", "Cannot connect", "broken pipe", "keeper"];
            if broken.iter().any(|word| out.stderr.contains(word)) {
                self.complain(format!("{}: {out:?}", args.join(" ")));
            }
        }
    }

    fn call(&self, args: &[&str]) -> Out {
        let docker = self.lab.docker_command(args);
        let mut command = Command::new("timeout");
        command.args(["-k", "1", HANG_SECS, "docker"]).args(docker.get_args());
        for (key, value) in docker.get_envs() {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        let started = std::time::Instant::now();
        let out = collect(command, b"");
        self.done.fetch_add(1, Ordering::SeqCst);
        // A container that was killed ends with 137 as well, but at once.
        if TIMED_OUT.contains(&out.code) && started.elapsed().as_secs() >= 45 {
            self.complain(format!("hangs: {}: {out:?}", args.join(" ")));
        }
        out
    }

    fn complain(&self, what: String) {
        println!("  WRONG: {what}");
        self.wrong.lock().unwrap().push(what);
    }
}
