//! Networks as a user sees them: names, published ports, the way out.

use crate::lab::{Lab, wait_for};

pub const TESTS: &[(&str, fn(&Lab))] = &[
    ("names_on_a_user_network", names),
    ("published_ports", published),
    ("published_ports_from_outside", outside),
    ("network_verbs", verbs),
    ("network_modes", modes),
];

const SERVE: &str = "mkdir /www && echo afloat > /www/index.html && exec httpd -f -p 80 -h /www";

fn names(lab: &Lab) {
    lab.ok(&["network", "create", "river"]);
    lab.ok(&[
        "run",
        "-d",
        "--name",
        "web",
        "--network",
        "river",
        "--network-alias",
        "shop",
        "busybox",
        "sh",
        "-c",
        SERVE,
    ]);
    for name in ["web", "shop"] {
        let fetch = format!("wget -qO- http://{name}/");
        let get = || lab.docker(&["run", "--rm", "--network", "river", "busybox", "sh", "-c", &fetch]);
        wait_for("the web server", || get().stdout == "afloat\n");
    }
    let out = lab.docker(&["run", "--rm", "busybox", "sh", "-c", "timeout 2 wget -qO- http://web/; exit $?"]);
    assert_ne!(out.code, 0, "a name of another network resolved: {out:?}");
    let address = lab.ok(&["inspect", "-f", "{{.NetworkSettings.Networks.river.IPAddress}}", "web"]);
    let reach = format!("timeout 2 wget -qO- http://{address}/; exit $?");
    let out = lab.docker(&["run", "--rm", "busybox", "sh", "-c", &reach]);
    assert_ne!(out.code, 0, "networks aren't isolated: {out:?}");
    lab.docker(&["network", "rm", "river"]).expect(1, "removing a network in use");
    lab.ok(&["rm", "-f", "web"]);
    lab.ok(&["network", "rm", "river"]);
}

fn published(lab: &Lab) {
    lab.ok(&["run", "-d", "--name", "web", "-p", "18080:80", "busybox", "sh", "-c", SERVE]);
    wait_for("the published port", || lab.sh("curl -sm 2 http://127.0.0.1:18080/").stdout == "afloat\n");
    let gateway = lab.ok(&["network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", "bridge"]);
    let hairpin = format!("timeout 3 wget -qO- http://{gateway}:18080/; exit $?");
    assert_eq!(
        lab.ok(&["run", "--rm", "busybox", "sh", "-c", &hairpin]),
        "afloat",
        "another container through the published port"
    );
    let out = lab.docker(&["run", "-d", "--name", "second", "-p", "18080:80", "busybox", "sleep", "1"]);
    assert!(out.code == 125 && out.stderr.contains("18080"), "{out:?}");
    lab.ok(&["rm", "-f", "web", "second"]);
    assert_ne!(lab.sh("curl -sm 2 http://127.0.0.1:18080/").code, 0, "the port outlived the container");
}

fn outside(lab: &Lab) {
    // A neighbour host: another namespace, joined by a veth pair.
    let setup = "ip link add out0 type veth peer name out1 && ip addr add 198.18.0.1/24 dev out0 && ip link set out0 up";
    lab.sh(setup).expect(0, "the veth pair");
    let peer = std::process::Command::new("unshare").args(["-n", "sleep", "1000"]).spawn().unwrap();
    let mut peer = scopeguard(peer);
    let pid = peer.0.id().to_string();
    wait_for("the neighbour", || {
        std::fs::read_link(format!("/proc/{pid}/ns/net")).ok() != std::fs::read_link("/proc/self/ns/net").ok()
    });
    lab.sh(&format!("ip link set out1 netns {pid}")).expect(0, "moving the peer");
    let enter = |script: &str| crate::host::text("nsenter", &["-t", &pid, "-n", "sh", "-c", script]);
    enter("ip addr add 198.18.0.2/24 dev out1 && ip link set out1 up && ip link set lo up");
    lab.ok(&[
        "run",
        "-d",
        "--name",
        "web",
        "-p",
        "18081:80",
        "-p",
        "127.0.0.1:18082:80",
        "busybox",
        "sh",
        "-c",
        SERVE,
    ]);
    wait_for("the port from outside", || enter("curl -sm 2 http://198.18.0.1:18081/") == "afloat\n");
    assert_eq!(
        enter("curl -sm 2 http://198.18.0.1:18082/"),
        "",
        "a port published on 127.0.0.1 answers outside"
    );
    // The way out: the container reaches the neighbour, which sees the host's address.
    let listener = enter("timeout 5 true; echo ok");
    assert_eq!(listener, "ok\n");
    let out = lab.docker(&["run", "--rm", "busybox", "ping", "-c", "1", "-W", "2", "198.18.0.2"]);
    assert_eq!(out.code, 0, "no way out: {out:?}");
    lab.ok(&["rm", "-f", "web"]);
    lab.sh("ip link del out0");
    let _ = peer.0.kill();
}

struct Killed(std::process::Child);

fn scopeguard(child: std::process::Child) -> Killed {
    Killed(child)
}

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn verbs(lab: &Lab) {
    let id = lab.ok(&["network", "create", "--subnet", "10.77.0.0/24", "--label", "a=b", "lake"]);
    assert_eq!(id.len(), 64);
    assert_eq!(
        lab.ok(&["network", "inspect", "-f", "{{(index .IPAM.Config 0).Subnet}} {{.Labels.a}}", "lake"]),
        "10.77.0.0/24 b"
    );
    let list = lab.ok(&["network", "ls", "--format", "{{.Name}} {{.Driver}}"]);
    for line in ["bridge bridge", "host host", "none null", "lake bridge"] {
        assert!(list.lines().any(|found| found == line), "{line} is missing in {list}");
    }
    lab.docker(&["network", "create", "--subnet", "10.77.0.0/16", "pond"]).expect(1, "overlapping subnets");
    lab.docker(&["network", "create", "lake"]).expect(1, "a name that is taken");
    lab.docker(&["network", "rm", "bridge"]).expect(1, "removing a predefined network");
    lab.ok(&["run", "-d", "--name", "swimmer", "busybox", "sleep", "1000"]);
    lab.ok(&["network", "connect", "--ip", "10.77.0.9", "lake", "swimmer"]);
    assert!(lab.ok(&["exec", "swimmer", "ip", "-o", "addr"]).contains("10.77.0.9/24"));
    lab.ok(&["network", "disconnect", "lake", "swimmer"]);
    assert!(!lab.ok(&["exec", "swimmer", "ip", "-o", "addr"]).contains("10.77.0.9"));
    lab.ok(&["rm", "-f", "swimmer"]);
    assert_eq!(lab.ok(&["network", "rm", "lake"]), "lake");
}

fn modes(lab: &Lab) {
    assert_eq!(
        lab.ok(&["run", "--rm", "--network", "none", "busybox", "sh", "-c", "ls /sys/class/net"]),
        "lo"
    );
    assert!(
        lab.ok(&["run", "--rm", "--network", "host", "busybox", "sh", "-c", "ls /sys/class/net"])
            .contains("naru0")
    );
    lab.ok(&["run", "-d", "--name", "owner", "busybox", "sleep", "1000"]);
    let address = |args: &[&str]| lab.ok(&[args, &["ip", "-o", "-4", "addr", "show", "eth0"]].concat());
    assert_eq!(
        address(&["run", "--rm", "--network", "container:owner", "busybox"]),
        address(&["exec", "owner"])
    );
    lab.ok(&["rm", "-f", "owner"]);
}
