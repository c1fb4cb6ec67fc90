//! What client libraries lean on, beyond the docker CLI: framing that who starts an exec chooses, answers that come when
//! the thing is done, mounts taken over from another container.

use crate::lab::Lab;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

pub const TESTS: &[(&str, fn(&Lab))] = &[
    ("exec_is_framed_as_its_starter_says", exec_framing),
    ("a_reader_behind_a_buffer_loses_nothing", buffered_reader),
    ("kill_is_answered_when_it_is_done", kill_waits),
    ("wait_ends_with_each_run", wait_with_restarts),
    ("commit_of_a_container_that_ends", commit_while_ending),
    ("volumes_from_another_container", volumes_from),
    ("labels_of_a_mounts_volume", volume_labels),
    ("networks_reserve_auxiliary_addresses", auxiliary_addresses),
    ("endpoints_show_what_was_asked", endpoints),
];

fn exec_framing(lab: &Lab) {
    let id = lab.ok(&["run", "-d", "busybox", "sleep", "1000"]);
    for (tty, raw, expect) in [
        (false, false, &b"\x01\0\0\0\0\0\0\x04out\n"[..]),
        (false, true, b"out\n"),
        (true, true, b"out\r\n"),
        (true, false, b"\x01\0\0\0\0\0\0\x05out\r\n"),
    ] {
        let output = exec(lab, &id, "echo out", tty, raw, 0);
        assert_eq!(output, expect, "tty {tty}, raw {raw}");
    }
    lab.ok(&["rm", "-f", &id]);
}

/// docker-py reads the head through a buffer of 8 KiB and the rest from the socket: what comes with the head is lost.
fn buffered_reader(lab: &Lab) {
    let id = lab.ok(&["run", "-d", "busybox", "sleep", "1000"]);
    for _ in 0..20 {
        assert_eq!(exec(lab, &id, "echo out", true, true, 8192), b"out\r\n");
    }
    lab.ok(&["rm", "-f", &id]);
}

/// Creates and starts an exec; what comes after the head. `gulp`: the head is one read of so many bytes, and what else
/// that read brings is thrown away.
fn exec(lab: &Lab, id: &str, script: &str, tty: bool, raw: bool, gulp: usize) -> Vec<u8> {
    let body =
        format!(r#"{{"AttachStdout":true,"AttachStderr":true,"Tty":{tty},"Cmd":["sh","-c","{script}"]}}"#);
    let (status, made) = lab.api("POST", &format!("/containers/{id}/exec"), &body);
    assert_eq!(status, 201, "{made}");
    let exec = made.split('"').nth(3).unwrap();
    let body = format!(r#"{{"Detach":false,"Tty":{raw}}}"#);
    let mut socket = UnixStream::connect(lab.socket()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let request = format!(
        "POST /v1.47/exec/{exec}/start HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(request.as_bytes()).unwrap();
    let mut output = Vec::new();
    if gulp > 0 {
        // As long as a scheduler may keep a client from its first read.
        std::thread::sleep(Duration::from_millis(30));
        let mut head = vec![0; gulp];
        let read = socket.read(&mut head).unwrap();
        assert!(head[..read].ends_with(b"\r\n\r\n"), "{}", String::from_utf8_lossy(&head[..read]));
        socket.read_to_end(&mut output).unwrap();
        return output;
    }
    socket.read_to_end(&mut output).unwrap();
    let end = output.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let head = String::from_utf8_lossy(&output[..end]).to_ascii_lowercase();
    let framed = head.contains("multiplexed-stream");
    assert!(head.starts_with("http/1.1 101") && framed != raw, "{head}");
    output.split_off(end)
}

fn kill_waits(lab: &Lab) {
    for _ in 0..10 {
        let id = lab.ok(&["run", "-d", "busybox", "sleep", "1000"]);
        assert_eq!(lab.api("POST", &format!("/containers/{id}/kill"), "").0, 204);
        let state = lab.ok(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", &id]);
        assert_eq!(state, "exited 137");
        assert_eq!(lab.api("DELETE", &format!("/containers/{id}"), "").0, 204);
    }
}

fn wait_with_restarts(lab: &Lab) {
    let id = lab.ok(&["run", "-d", "--restart", "always", "busybox", "sh", "-c", "sleep 1; exit 3"]);
    assert_eq!(lab.ok(&["wait", &id]), "3");
    lab.ok(&["rm", "-f", &id]);
}

fn commit_while_ending(lab: &Lab) {
    for pause in ["0.00", "0.01", "0.02", "0.03"] {
        let id = lab.ok(&["run", "-d", "busybox", "sh", "-c", &format!("touch /made; sleep {pause}")]);
        let image = lab.ok(&["commit", &id]);
        lab.ok(&["wait", &id]);
        let state = lab.ok(&["inspect", "-f", "{{.State.Paused}} {{.State.Status}}", &id]);
        assert_eq!(state, "false exited");
        lab.ok(&["rm", &id]);
        lab.ok(&["rmi", &image]);
    }
}

fn volumes_from(lab: &Lab) {
    let dir = lab.dir.join("shared");
    std::fs::create_dir_all(&dir).unwrap();
    let bind = format!("{}:/host", dir.display());
    lab.ok(&[
        "run",
        "--name",
        "first",
        "-v",
        "/anon",
        "-v",
        &bind,
        "busybox",
        "sh",
        "-c",
        "echo a >/anon/a; echo h >/host/h",
    ]);
    let script = "cat /anon/a /host/h; echo b >/anon/b && echo written";
    let out = lab.ok(&["run", "--rm", "--volumes-from", "first", "busybox", "sh", "-c", script]);
    assert_eq!(out, "a\nh\nwritten");
    let out = lab.ok(&[
        "run",
        "--rm",
        "--volumes-from",
        "first:ro",
        "busybox",
        "sh",
        "-c",
        "touch /anon/c 2>&1 || cat /anon/b",
    ]);
    assert!(out.ends_with("\nb"), "{out}");
    // One's own mount comes before; and `--rm` of the others left the volume to its first container.
    let script = "ls /anon; cat /host/h";
    let out = lab.ok(&[
        "run",
        "--rm",
        "--tmpfs",
        "/anon",
        "--volumes-from",
        "first",
        "busybox",
        "sh",
        "-c",
        script,
    ]);
    assert_eq!(out, "h");
    let made = lab.ok(&["create", "--name", "second", "--volumes-from", "first:ro", "busybox"]);
    let shown = lab.ok(&[
        "inspect",
        "-f",
        "{{.HostConfig.VolumesFrom}} {{.HostConfig.Binds}} {{len .Mounts}}",
        &made,
    ]);
    assert_eq!(shown, "[first:ro] [] 2");
    lab.ok(&["rm", "-v", "second"]);
    let out = lab.ok(&["run", "--rm", "--volumes-from", "first", "busybox", "cat", "/anon/a"]);
    assert_eq!(out, "a");
    lab.ok(&["rm", "-v", "first"]);
    assert_eq!(lab.ok(&["volume", "ls", "-q"]), "");
    let missing = lab.docker(&["run", "--rm", "--volumes-from", "nobody", "busybox", "true"]);
    assert!(missing.code == 125 && missing.stderr.contains("No such container: nobody"), "{missing:?}");
}

fn volume_labels(lab: &Lab) {
    let mount = "type=volume,src=labelled,dst=/data,volume-label=team=boats,volume-label=plain";
    lab.ok(&["run", "--rm", "--mount", mount, "busybox", "true"]);
    let labels =
        lab.ok(&["volume", "inspect", "-f", "{{index .Labels \"team\"}} {{len .Labels}}", "labelled"]);
    assert_eq!(labels, "boats 2");
    lab.ok(&["volume", "rm", "labelled"]);
}

fn auxiliary_addresses(lab: &Lab) {
    let mut args = vec!["network", "create", "--subnet", "10.91.7.0/29", "--gateway", "10.91.7.1"];
    args.extend([
        "--aux-address",
        "printer=10.91.7.2",
        "--aux-address",
        "scanner=10.91.7.3",
        "name with spaces",
    ]);
    let id = lab.ok(&args);
    let script = "ip -o -4 addr show eth0 | awk '{print $4}'";
    let out = lab.ok(&["run", "--rm", "--network", &id, "busybox", "sh", "-c", script]);
    assert_eq!(out, "10.91.7.4/29");
    let shown = lab.ok(&[
        "network",
        "inspect",
        "-f",
        "{{.Name}} {{json (index .IPAM.Config 0).AuxiliaryAddresses}}",
        &id,
    ]);
    assert_eq!(shown, r#"name with spaces {"printer":"10.91.7.2","scanner":"10.91.7.3"}"#);
    let out = lab.docker(&["run", "--rm", "--network", &id, "--ip", "10.91.7.2", "busybox", "true"]);
    assert!(out.code == 125, "{out:?}");
    lab.ok(&["network", "rm", &id]);
    let bad = lab.docker(&[
        "network",
        "create",
        "--subnet",
        "10.91.8.0/29",
        "--aux-address",
        "far=10.1.1.1",
        "bad",
    ]);
    assert!(bad.code == 1 && bad.stderr.contains("10.1.1.1"), "{bad:?}");
}

fn endpoints(lab: &Lab) {
    let net = lab.ok(&["network", "create", "wharf"]);
    let id = lab.ok(&["create", "--network", "wharf", "busybox", "sleep", "1000"]);
    lab.ok(&["network", "disconnect", "wharf", &id]);
    let body = format!(
        r#"{{"Container":"{id}","EndpointConfig":{{"MacAddress":"02:42:ac:11:00:02","DriverOpts":{{"own.note":"x"}}}}}}"#
    );
    assert_eq!(lab.api("POST", &format!("/networks/{net}/connect"), &body).0, 200);
    let format = "{{with index .NetworkSettings.Networks \"wharf\"}}{{.MacAddress}} {{.DriverOpts}}{{end}}";
    assert_eq!(lab.ok(&["inspect", "-f", format, &id]), "02:42:ac:11:00:02 map[own.note:x]");
    lab.ok(&["start", &id]);
    let mac = lab.ok(&["exec", &id, "cat", "/sys/class/net/eth0/address"]);
    assert_eq!(mac, "02:42:ac:11:00:02");
    let body = format!(r#"{{"Container":"{id}","Force":true}}"#);
    assert_eq!(lab.api("POST", &format!("/networks/{net}/disconnect"), &body).0, 200);
    let (status, told) = lab.api("POST", &format!("/networks/{net}/disconnect"), &body);
    assert!(status == 403 && told.contains("is not connected to network wharf"), "{status} {told}");
    lab.ok(&["rm", "-f", &id]);
    lab.ok(&["network", "rm", "wharf"]);
}
