//! Limits hold, and what the kernel did about them is told.

use crate::lab::Lab;

pub const TESTS: &[(&str, fn(&Lab))] = &[
    ("memory_limit_kills_and_says_so", memory_limit),
    ("cpu_limit_holds", cpu_limit),
    ("pids_limit_holds", pids_limit),
];

fn memory_limit(lab: &Lab) {
    let script = "x=0123456789abcdef; while :; do x=$x$x; done";
    let out = lab.docker(&["run", "--name", "hungry", "-m", "64m", "busybox", "sh", "-c", script]);
    assert_eq!(out.code, 137, "{out:?}");
    assert_eq!(lab.ok(&["inspect", "-f", "{{.State.OOMKilled}} {{.State.ExitCode}}", "hungry"]), "true 137");
    lab.ok(&["rm", "hungry"]);
    // --rm too: the exit code comes from the wait, the container is gone.
    let out = lab.docker(&["run", "--rm", "-m", "64m", "busybox", "sh", "-c", script]);
    assert_eq!(out.code, 137, "{out:?}");
}

fn cpu_limit(lab: &Lab) {
    // Two seconds of wall time at half a CPU: the process gets about one second of CPU time.
    let script = "timeout 2 sh -c 'while :; do :; done'; cat /proc/1/stat | cut -d' ' -f16,17";
    let out = lab.ok(&["run", "--rm", "--cpus", "0.5", "busybox", "sh", "-c", script]);
    let ticks: u64 = out.split_whitespace().map(|word| word.parse::<u64>().unwrap()).sum();
    println!("  cpu time at --cpus 0.5 in 2 s of wall time: {ticks} ticks of 10 ms");
    assert!((60..=140).contains(&ticks), "used {ticks} ticks, expected about 100");
}

fn pids_limit(lab: &Lab) {
    let script = "i=0; while [ $i -lt 40 ]; do sleep 5 & i=$((i+1)); done; wait";
    let out = lab.docker(&["run", "--rm", "--pids-limit", "12", "busybox", "sh", "-c", script]);
    assert!(out.stderr.contains("can't fork"), "{out:?}");
    let id = lab.ok(&["run", "-d", "--pids-limit", "12", "busybox", "sleep", "60"]);
    let line = lab.ok(&["stats", "--no-stream", "--format", "{{.PIDs}}", &id]);
    assert_eq!(line, "1");
    lab.ok(&["rm", "-f", &id]);
}
