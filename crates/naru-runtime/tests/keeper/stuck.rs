//! A container that does not let an exec go on: nobody else may notice.

use crate::fixture::*;
use naru_runtime::keeper::client::{Exec, StartNamespaces};
use naru_runtime::keeper::protocol::*;
use naru_types::ExecId;

/// A frozen container is the surest way; one with no CPU time or memory left is as stuck.
pub fn an_exec_that_cannot_go_on_holds_up_nobody() {
    let mut fixture = Fixture::new();
    let (stuck, _started) = fixture.start_sh("sleep 1000", How::default());
    let (reader, _started) = fixture.start_sh("cat", with_stdin(false));
    fixture.client.pause(&stuck).unwrap();
    let target = Target::exec(stuck.clone(), ExecId::from_bytes([1; 32]));
    let (other, _notices) = connect(fixture.dir.path());
    let (root, id) = (crate::common::Root::new(), fresh_id());
    let process = container_spec(&stuck, &["sh", "-c", "exit 7"]).process;
    let exec_id = target.exec_id.clone().unwrap();
    let exec = Exec {
        id: &stuck,
        exec_id: &exec_id,
        process: &process,
        privileged: false,
        stdio: StdioSpec::default(),
    };
    let client = &fixture.client;
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| client.exec(&exec).map(drop));
        // Two containers, the worker, and the process that is frozen before it is a program.
        while !waiting.is_finished() && children(other.keeper_pid()) < 4 {}
        assert!(!waiting.is_finished());
        let spec = container_spec(&id, &["true"]);
        let request = prepare(fixture.dir.path(), &id, &root, &spec, How::default());
        other.start(request, StartNamespaces::default()).unwrap();
        // The worker was forked while the keeper had this container's pipes open.
        other.close_stdin(&Target::container(reader.clone())).unwrap();
        while other.list().unwrap().iter().any(|entry| entry.target.id == reader && entry.exit.is_none()) {}
        assert!(!waiting.is_finished());
        other.resume(&stuck).unwrap();
        waiting.join().unwrap().unwrap();
    });
    assert_eq!(fixture.exit(&target).status, ExitStatus::Code(7));
    fixture.exit_of(&id);
    fixture.exit_of(&reader);
}

fn children(pid: i32) -> usize {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    text.split_whitespace().count()
}
