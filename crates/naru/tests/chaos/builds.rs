//! Builds whose daemon or keeper is killed at a random moment: the next build is right whatever the last one left, what it
//! took from the cache included, and in the end nothing is left of any.

use crate::dice::Dice;
use crate::lab::{Lab, collect, wait_for};
use crate::residue::{self, Residue};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const DOCKERFILE: &str = "\
FROM busybox AS make
RUN i=0; mkdir /out; while [ $i -lt 300 ]; do echo \"file $i\" > /out/$i; i=$((i+1)); done
COPY data/ /data/
RUN --mount=type=cache,target=/cache cp -r /data /copied && echo x >> /cache/rounds && chmod -R o-rwx /copied
FROM busybox AS other
ARG ROUND
RUN echo $ROUND > /round; dd if=/dev/zero of=/zero bs=64k count=64 2>/dev/null
FROM busybox
WORKDIR /srv
COPY --from=make /out out/
COPY --from=make /copied copied/
COPY --from=other /zero /round ./
RUN find out copied -type f | xargs chown 10:20 && ln out/1 out/hard && rm out/2
COPY --chown=5:6 data/ late/
";
const FILES: usize = 200;

/// What of a built image is the same in every round; then what is the round's own.
const LOOK: &str = "cd /srv
    { find . | sort | grep -v -e /round -e /change | xargs stat -c '%n %f %u %g %h'
      find . -type f | sort | grep -v -e /round -e /change | xargs sha256sum; } | sha256sum
    cat round late/change copied/change";

pub fn nothing_is_poisoned(lab: &Lab, kills: u64, seed: u64) {
    let dir = lab.dir.join("build-chaos");
    std::fs::create_dir_all(dir.join("data")).unwrap();
    std::fs::write(dir.join("Dockerfile"), DOCKERFILE).unwrap();
    for n in 0..FILES {
        std::fs::write(dir.join(format!("data/{n}")), format!("content {n}\n").repeat(n)).unwrap();
    }
    lab.ok(&["run", "--rm", "busybox", "true"]);
    let calm = Residue::settled(lab);
    let begun = Instant::now();
    let expect = build_and_look(lab, &dir, "first");
    let whole = begun.elapsed().as_millis() as u64;
    let mut dice = Dice::new(seed);
    let mut cut_short = 0;
    for n in 0..kills {
        if dice.below(3) == 0 {
            lab.ok(&["builder", "prune", "-af"]);
        }
        let round = format!("round {n}");
        cut_short += u64::from(!killed_build(lab, &dir, &round, &mut dice, whole));
        assert_eq!(build_and_look(lab, &dir, &round), expect, "the build after kill {n}");
        lab.ok(&["image", "prune", "-f"]);
    }
    println!("  {kills} kills during builds, {cut_short} of which cut one short");
    lab.naru(&["image", "verify"], &lab.dir).expect(0, "images after killed builds");
    lab.ok(&["rmi", "built"]);
    lab.ok(&["builder", "prune", "-af"]);
    assert_eq!(lab.ok(&["ps", "-aq"]), "", "steps are listed as containers");
    wait_for("everything to be given back", || Residue::take(lab).over(&calm).is_empty());
    residue::no_panics(lab);
}

/// Builds while something is killed at a random moment; whether the build came through.
fn killed_build(lab: &Lab, dir: &Path, round: &str, dice: &mut Dice, whole: u64) -> bool {
    std::fs::write(dir.join("data/change"), format!("{round}\n")).unwrap();
    let mut client = docker_build(lab, dir, round);
    client.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut client = client.spawn().unwrap();
    std::thread::sleep(Duration::from_millis(dice.below(whole)));
    let keeper = lab.keeper_pid();
    match dice.below(3) {
        0 => {
            let pid = keeper.as_deref().unwrap_or_default();
            lab.sh(&format!("kill -9 {pid}"));
            wait_for("a new keeper", || lab.keeper_pid().is_some_and(|pid| keeper.as_ref() != Some(&pid)));
        }
        _ => {
            lab.kill_daemon();
            lab.start_daemon();
            wait_for("a keeper", || lab.keeper_pid().is_some());
        }
    }
    client.wait().unwrap().success()
}

/// What every round has in common, after its own part was judged.
fn build_and_look(lab: &Lab, dir: &Path, round: &str) -> String {
    std::fs::write(dir.join("data/change"), format!("{round}\n")).unwrap();
    collect(docker_build(lab, dir, round), b"").expect(0, "a build that nobody killed");
    let seen = lab.ok(&["run", "--rm", "built", "sh", "-c", LOOK]);
    let (common, own) = seen.split_once('\n').unwrap();
    assert_eq!(own, format!("{round}\n{round}\n{round}"), "what a round brings itself");
    common.to_owned()
}

fn docker_build(lab: &Lab, dir: &Path, round: &str) -> Command {
    let mut command = lab.docker_command(&["build", "-t", "built", "--build-arg"]);
    command.arg(format!("ROUND={round}")).arg(dir);
    command
}
