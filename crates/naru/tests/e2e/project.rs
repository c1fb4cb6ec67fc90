//! `naru up`: a compose file with a route becomes services behind HTTPS, and goes again.

use crate::lab::{Lab, wait_for};
use std::path::PathBuf;

pub const TESTS: &[(&str, fn(&Lab))] = &[("project_up_and_down", up_and_down), ("project_change", change)];

const COMPOSE: &str = "\
name: dock
services:
  web:
    build: .
    environment:
      WORD: ${WORD:-afloat}
    depends_on:
      store: {condition: service_healthy}
    healthcheck:
      test: wget -qO- http://127.0.0.1/ || exit 1
      interval: 300ms
    x-naru:
      route: {host: dock.localhost, port: 80}
  store:
    image: busybox
    command: sh -c 'touch /data/ready; exec sleep 1000'
    volumes: [hold:/data]
    healthcheck:
      test: [CMD, test, -e, /data/ready]
      interval: 200ms
volumes:
  hold:
";
const DOCKERFILE: &str =
    "FROM busybox\nRUN mkdir /www\nCMD echo $WORD > /www/index.html && exec httpd -f -p 80 -h /www\n";

fn project(lab: &Lab) -> PathBuf {
    let dir = lab.dir.join("project");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("compose.yaml"), COMPOSE).unwrap();
    std::fs::write(dir.join("Dockerfile"), DOCKERFILE).unwrap();
    dir
}

/// The page over HTTPS with the CA checked; the name goes to the proxy on loopback.
fn fetch(lab: &Lab, path: &str) -> String {
    let ca = lab.dir.join("ca.pem");
    let pem = lab.naru(&["ca"], &lab.dir).expect(0, "naru ca").stdout;
    std::fs::write(&ca, pem).unwrap();
    lab.sh(&format!(
        "curl -sSm 3 --cacert {} --resolve dock.localhost:443:127.0.0.1 https://dock.localhost{path}",
        ca.display()
    ))
    .stdout
}

fn up_and_down(lab: &Lab) {
    let dir = project(lab);
    lab.naru(&["up"], &dir).expect(0, "naru up");
    wait_for("the page", || fetch(lab, "/") == "afloat\n");
    let again = lab.naru(&["up"], &dir).expect(0, "naru up, nothing changed");
    let id = lab.ok(&["ps", "-q", "--filter", "label=com.docker.compose.service=web"]);
    assert!(!id.is_empty(), "{again:?}");
    let ps = lab.naru(&["ps"], &dir).expect(0, "naru ps").stdout;
    assert!(ps.contains("dock-web-1") && ps.contains("dock-store-1"), "{ps}");
    lab.naru(&["logs", "web"], &dir).expect(0, "naru logs web");
    let routes = lab.naru(&["routes"], &dir).expect(0, "naru routes").stdout;
    assert!(routes.contains("https://dock.localhost/"), "{routes}");
    // Plain HTTP is sent to HTTPS; an unknown host gets no page.
    let redirect = lab.sh("curl -sSm 3 -o /dev/null -w '%{http_code} %{redirect_url}' -H 'Host: dock.localhost' http://127.0.0.1/x").stdout;
    assert_eq!(redirect, "307 https://dock.localhost/x");
    // The daemon's death changes nothing for the route.
    lab.kill_daemon();
    let ca = lab.dir.join("ca.pem").display().to_string();
    let page = lab.sh(&format!(
        "curl -sSm 3 --cacert {ca} --resolve dock.localhost:443:127.0.0.1 https://dock.localhost/"
    ));
    assert_eq!(page.stdout, "afloat\n", "{page:?}");
    lab.start_daemon();
    lab.naru(&["down", "-v"], &dir).expect(0, "naru down");
    assert_eq!(lab.ok(&["ps", "-aq"]), "");
    assert!(!lab.ok(&["network", "ls"]).contains("dock_default"));
    assert!(!lab.ok(&["volume", "ls"]).contains("dock_hold"));
    wait_for("the route to go", || !lab.naru(&["routes"], &dir).stdout.contains("dock.localhost"));
    std::fs::remove_dir_all(&dir).unwrap();
}

fn change(lab: &Lab) {
    let dir = project(lab);
    lab.naru(&["up"], &dir).expect(0, "naru up");
    wait_for("the page", || fetch(lab, "/") == "afloat\n");
    let store = lab.ok(&["ps", "-q", "--filter", "label=com.docker.compose.service=store"]);
    std::fs::write(dir.join(".env"), "WORD=anchored\n").unwrap();
    lab.naru(&["up"], &dir).expect(0, "naru up with a change");
    wait_for("the new page", || fetch(lab, "/") == "anchored\n");
    assert_eq!(
        lab.ok(&["ps", "-q", "--filter", "label=com.docker.compose.service=store"]),
        store,
        "an unchanged service was replaced"
    );
    // A deploy that can't work says so and leaves the old service alone.
    std::fs::write(dir.join("Dockerfile"), "FROM busybox\nRUN exit 3\n").unwrap();
    let out = lab.naru(&["up"], &dir).expect(1, "naru up with a broken build");
    assert!(out.stderr.contains("exit 3") || out.stderr.contains("code: 3"), "{out:?}");
    assert_eq!(fetch(lab, "/"), "anchored\n");
    let deploys = lab.naru(&["deploys"], &dir).expect(0, "naru deploys").stdout;
    assert!(deploys.contains("succeeded") && deploys.contains("failed"), "{deploys}");
    lab.naru(&["down", "-v"], &dir).expect(0, "naru down");
    std::fs::remove_dir_all(&dir).unwrap();
}
