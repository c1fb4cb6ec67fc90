//! A container that does not let an exec go on: nobody else may notice.

use crate::fixture::*;
use naru_runtime::keeper::client::{ClientError, Exec, StartError, StartNamespaces};
use naru_runtime::keeper::protocol::*;
use naru_types::{ContainerId, ExecId};

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
        // Others of all kinds end meanwhile, some before their worker has said that they run.
        for number in 1..=QUICK {
            let process = container_spec(&reader, &["sh", "-c", &format!("exit {number}")]).process;
            let exec_id = quick(&reader, number).exec_id.unwrap();
            let exec = Exec { id: &reader, exec_id: &exec_id, process: &process, ..exec };
            match other.exec(&exec) {
                Ok(_) | Err(StartError::Client(ClientError::Refused { reason: Refusal::NotRunning, .. })) => {
                }
                Err(error) => panic!("{error}"),
            }
        }
        // The worker was forked while the keeper had this container's pipes open.
        other.close_stdin(&Target::container(reader.clone())).unwrap();
        while other.list().unwrap().iter().any(|entry| entry.target.id == reader && entry.exit.is_none()) {}
        assert!(!waiting.is_finished());
        other.resume(&stuck).unwrap();
        waiting.join().unwrap().unwrap();
    });
    assert_eq!(fixture.exit(&target).status, ExitStatus::Code(7));
    for number in 1..=QUICK {
        assert_eq!(fixture.exit(&quick(&reader, number)).status, ExitStatus::Code(i32::from(number)));
    }
    fixture.exit_of(&id);
    fixture.exit_of(&reader);
}

/// Execs that end at once.
const QUICK: u8 = 20;

fn quick(container: &ContainerId, number: u8) -> Target {
    Target::exec(container.clone(), ExecId::from_bytes([100 + number; 32]))
}

fn children(pid: i32) -> usize {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    text.split_whitespace().count()
}
