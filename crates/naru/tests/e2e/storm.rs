//! Many short-lived containers: none hangs, nothing stays.

use crate::host::Snapshot;
use crate::lab::{Lab, wait_for};

pub const TESTS: &[(&str, fn(&Lab))] = &[("two_hundred_in_a_row", in_a_row), ("twenty_at_once", at_once)];

const IN_A_ROW: usize = 200;
const AT_ONCE: usize = 20;

fn in_a_row(lab: &Lab) {
    let before = state(lab);
    for round in 0..IN_A_ROW {
        let code = round % 7;
        let out = lab.docker(&["run", "--rm", "busybox", "sh", "-c", &format!("echo {round}; exit {code}")]);
        assert_eq!((out.code, out.stdout.trim()), (code as i32, round.to_string().as_str()), "{out:?}");
    }
    same_as(lab, &before);
}

fn at_once(lab: &Lab) {
    let before = state(lab);
    for _ in 0..5 {
        std::thread::scope(|scope| {
            for round in 0..AT_ONCE {
                scope.spawn(move || {
                    let out = lab.docker(&["run", "--rm", "busybox", "echo", &round.to_string()]);
                    assert_eq!((out.code, out.stdout.trim()), (0, round.to_string().as_str()), "{out:?}");
                });
            }
        });
    }
    same_as(lab, &before);
}

struct State {
    host: Snapshot,
    links: String,
    rules: String,
    files: String,
}

fn state(lab: &Lab) -> State {
    // The default bridge and its rules come with the first container.
    lab.docker(&["run", "--rm", "busybox", "true"]).expect(0, "warm-up");
    settle(lab);
    take(lab)
}

fn take(lab: &Lab) -> State {
    let files = format!("find {0}/run {0}/root/containers {0}/root/volumes | sort", lab.dir.display());
    State {
        host: Snapshot::take(),
        links: lab.sh("ip -o link | cut -d: -f2").stdout,
        rules: lab.sh("nft list ruleset | grep -v counter").stdout,
        files: lab.sh(&files).stdout,
    }
}

/// Removal of a network namespace is asynchronous in the kernel: its veth goes a moment later.
fn settle(lab: &Lab) {
    wait_for("the last veth to go", || !lab.sh("ip -o link").stdout.contains("veth"));
}

fn same_as(lab: &Lab, before: &State) {
    settle(lab);
    let after = take(lab);
    assert_eq!(after.host.added_since(&before.host), Vec::<String>::new());
    assert_eq!(after.links, before.links);
    assert_eq!(after.rules, before.rules);
    assert_eq!(after.files, before.files);
}
