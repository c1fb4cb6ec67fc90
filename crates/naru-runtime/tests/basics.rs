//! One container, Docker's defaults: what it sees and what it may do.

mod common;

use common::{DOCKER_CAPS, Root, shell, skip};
use naru_kernel::pidfd::ExitStatus;

#[test]
fn a_container_runs() {
    if skip() {
        return;
    }
    let (status, output) = shell("echo hello; grep -E 'Cap|Seccomp:|NoNew' /proc/self/status; cat /proc/self/mounts; ls -la /dev; exit 7");
    println!("{output}");
    assert_eq!(status, ExitStatus::Code(7), "{output}");
    assert!(output.contains(DOCKER_CAPS), "{output}");
    let _ = Root::new();
}
