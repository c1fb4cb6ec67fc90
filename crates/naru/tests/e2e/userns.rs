//! Root in a container that is nobody outside: `--userns auto`.

use crate::host::text;
use crate::lab::{Lab, wait_for};

pub const TESTS: &[(&str, fn(&Lab))] = &[("userns_auto", auto), ("userns_conflicts", conflicts)];

fn auto(lab: &Lab) {
    let naru = |args: &[&str]| {
        let out = lab.naru(args, &lab.dir).expect(0, &format!("naru {}", args.join(" ")));
        out.stdout.trim_end().to_owned()
    };
    let first = |name: &str| {
        let map = naru(&["exec", name, "cat", "/proc/self/uid_map"]);
        let numbers: Vec<u32> = map.split_whitespace().map(|number| number.parse().unwrap()).collect();
        assert_eq!((numbers[0], numbers[2]), (0, 65_536), "{map}");
        numbers[1]
    };
    let shared = lab.dir.join("shared");
    std::fs::create_dir_all(&shared).unwrap();
    std::fs::write(shared.join("theirs"), "x").unwrap();
    std::os::unix::fs::chown(shared.join("theirs"), Some(1234), Some(1234)).unwrap();
    let bind = format!("{}:/shared", shared.display());
    let run = |name: &str| {
        naru(&[
            "run",
            "-d",
            "--name",
            name,
            "--userns",
            "auto",
            "-v",
            &bind,
            "-v",
            "userns-data:/data",
            "busybox",
            "sleep",
            "1000",
        ])
    };
    run("one");
    run("two");
    assert_ne!(first("one"), first("two"), "each has ids of its own");

    // Root inside, somebody else outside, for the first process and for an exec.
    assert_eq!(naru(&["exec", "one", "id", "-u"]), "0");
    let pid = naru(&["inspect", "-f", "{{.State.Pid}}", "one"]);
    let uid = text("stat", &["-c", "%u", &format!("/proc/{pid}")]);
    assert_eq!(uid.trim().parse::<u32>().unwrap(), first("one"));

    // The image's files, a bind's and a volume's keep their owners, in both directions.
    let exec = |script: &str| naru(&["exec", "one", "sh", "-c", script]);
    assert_eq!(exec("stat -c %u:%g /bin/busybox /etc/passwd /shared/theirs"), "0:0\n0:0\n1234:1234");
    exec("echo hi > /shared/ours && echo hi > /data/ours && echo hi > /in-image && chown 7:7 /in-image");
    assert_eq!(text("stat", &["-c", "%u:%g", &shared.join("ours").display().to_string()]).trim(), "0:0");
    assert_eq!(naru(&["exec", "two", "stat", "-c", "%u", "/data/ours"]), "0");
    let changed =
        text("sh", &["-c", &format!("stat -c %u {}/root/containers/*/upper/in-image", lab.dir.display())]);
    assert_eq!(changed.trim(), "7", "on the disk it is the container's own number");

    // The network belongs to it: addresses, names, and what needs CAP_NET_RAW or a low port.
    assert!(exec("ip -4 -o addr show eth0").contains("inet "));
    assert_eq!(exec("cat /sys/class/net/eth0/operstate"), "up");
    let address = naru(&["inspect", "-f", "{{.NetworkSettings.IPAddress}}", "two"]);
    exec(&format!("ping -c1 -W2 {address}"));
    exec("nc -l -p 80 & sleep 0.1; kill %1");

    // It survives a restart of the container, with the same ids, and its devices work.
    let before = first("one");
    naru(&["restart", "-t", "0", "one"]);
    wait_for("the restart", || naru(&["inspect", "-f", "{{.State.Running}}", "one"]) == "true");
    assert_eq!(first("one"), before);
    exec("echo x > /dev/null && head -c4 /dev/urandom | wc -c && test -c /dev/tty");
    assert_eq!(naru(&["run", "--rm", "-t", "--userns", "auto", "busybox", "tty"]), "/dev/pts/0");
    assert_eq!(naru(&["run", "--rm", "--userns", "auto", "--network", "none", "busybox", "id", "-u"]), "0");
    // cp and commit see the files as the image has them.
    naru(&["cp", "one:/in-image", "copy-of-it"]);
    lab.ok(&["commit", "one", "userns-image"]);
    assert_eq!(naru(&["run", "--rm", "userns-image", "stat", "-c", "%u", "/in-image"]), "7");
    naru(&["rm", "-f", "one", "two"]);
    naru(&["rmi", "userns-image"]);
    naru(&["volume", "rm", "userns-data"]);
}

fn conflicts(lab: &Lab) {
    for (flags, words) in [
        (&["--privileged"][..], "privileged mode is incompatible with user namespaces"),
        (&["--network", "host"], "cannot share the host's network namespace"),
        (&["--pid", "host"], "cannot share the host PID namespace"),
    ] {
        let args = [&["run", "--rm", "--userns", "auto"], flags, &["busybox", "true"]].concat();
        let out = lab.naru(&args, &lab.dir).expect(125, words);
        assert!(out.stderr.contains(words), "{out:?}");
    }
    let out = lab.naru(&["run", "--rm", "--userns", "nope", "busybox", "true"], &lab.dir).expect(125, "nope");
    assert!(out.stderr.contains("invalid USER mode: nope"), "{out:?}");
}
