//! Mutated messages to a live keeper: it goes on, leaks nothing, and leaves the containers alone.

use crate::fixture::*;
use naru_kernel::unix;
use naru_runtime::keeper::protocol::Target;
use naru_runtime::keeper::socket_path;
use std::os::fd::{AsFd, OwnedFd};

/// Fixed, so that a failure repeats.
const SEED: u64 = 0x6b65_6570;
const MESSAGES: u32 = 6_000;
/// Messages after which a new connection is made.
const PER_CONNECTION: u32 = 500;
const HELLO: &[u8] = br#"{"seq":1,"body":{"hello":{"version":1,"version_min":1}}}"#;

pub fn a_live_keeper_survives_mutated_messages() {
    let mut fixture = Fixture::new();
    let (id, _held) = fixture.start_sh("read a; echo $a; exit 6", with_stdin(true));
    let (paused, _held) = fixture.start_sh("sleep 1000", How::default());
    fixture.client.pause(&paused).unwrap();
    let mut client = fixture.attach(Target::container(id.clone()), true);
    let keeper = fixture.client.keeper_pid();
    let before = (open_files(keeper), fixture.client.list().unwrap());
    let mut dice = Dice(SEED);
    let corpus = corpus();
    let mut sent = 0;
    while sent < MESSAGES {
        let socket = connect(&fixture);
        for _ in 0..PER_CONNECTION {
            sent += 1;
            if !shoot(&socket, &corpus, &mut dice) {
                break;
            }
        }
    }
    // Answered after everything before it.
    assert_eq!(fixture.client.list().unwrap(), before.1);
    // The clients that it attached have all hung up.
    wait_for_open_files(keeper, before.0);
    assert_eq!(fixture.client.keeper_pid(), keeper);
    std::io::Write::write_all(&mut client, b"untouched\n").unwrap();
    read_until(&mut client, "untouched");
}

fn connect(fixture: &Fixture) -> OwnedFd {
    let socket = unix::seqpacket_connect(&socket_path(fixture.dir.path())).unwrap();
    unix::send(&socket, HELLO, &[]).unwrap();
    unix::recv(&socket, &mut vec![0; 1 << 17]).unwrap();
    socket
}

/// Sends one and waits for the answer. `false`: the keeper closed the connection.
fn shoot(socket: &OwnedFd, corpus: &[String], dice: &mut Dice) -> bool {
    let mut bytes = corpus[dice.below(corpus.len())].clone().into_bytes();
    dice.mutate(&mut bytes);
    if bytes.is_empty() {
        return true;
    }
    let (ours, theirs) = unix::stream_pair().unwrap();
    let null = std::fs::File::open("/dev/null").unwrap();
    let all = [theirs.as_fd(), null.as_fd(), theirs.as_fd()];
    if unix::send(socket, &bytes, &all[..dice.below(4)]).is_err() {
        return false;
    }
    drop((ours, theirs));
    unix::recv(socket, &mut vec![0; 1 << 17]).is_ok_and(|received| received.len > 0)
}

/// Every verb, about a container that does not exist: a mutation finds no other id by chance.
fn corpus() -> Vec<String> {
    let id = "ab".repeat(32);
    let target = format!(r#"{{"id":"{id}","exec_id":null}}"#);
    let stdio = r#"{"tty":false,"rows":1,"cols":2,"open_stdin":true,"stdin_once":false}"#;
    let overlay = r#"{"overlay":{"lower":["/nowhere"],"upper":"/nowhere","work":"/nowhere"}}"#;
    let bodies = [
        format!(
            r#"{{"start":{{"id":"{id}","bundle":"/nowhere","rootfs":{overlay},"stdio":{stdio},"log":null}}}}"#
        ),
        format!(r#"{{"exec":{{"id":"{id}","exec_id":"{id}","process_file":"p","stdio":{stdio}}}}}"#),
        format!(r#"{{"attach":{{"target":{target},"stdin":true,"stdout":true,"stderr":true}}}}"#),
        format!(r#"{{"hold":{target}}}"#),
        format!(r#"{{"resize":{{"target":{target},"rows":1,"cols":1}}}}"#),
        format!(r#"{{"signal":{{"target":{target},"signal":9}}}}"#),
        format!(r#"{{"stop":{{"target":{target},"signal":9,"timeout_ms":0}}}}"#),
        format!(r#"{{"signal-all":{{"id":"{id}","signal":9}}}}"#),
        format!(r#"{{"close-stdin":{target}}}"#),
        format!(r#"{{"pause":{{"id":"{id}"}}}}"#),
        format!(r#"{{"update":{{"id":"{id}","resources":{{}}}}}}"#),
        format!(
            r#"{{"adopt":{{"id":"{id}","pid":1,"started_at":0,"bundle":"/nowhere","stdio":{stdio},"log":null}}}}"#
        ),
        format!(r#"{{"forget":{target}}}"#),
        r#"{"list":{"after":null}}"#.to_owned(),
        r#""upgrade""#.to_owned(),
        r#""shutdown""#.to_owned(),
    ];
    let fds = ["", r#""attach""#, r#""program""#, r#""netns""#, r#""pidfd","stdin""#];
    let body = |(n, body): (usize, &String)| {
        fds.iter().map(move |fds| format!(r#"{{"seq":{n},"fds":[{fds}],"body":{body}}}"#)).collect::<Vec<_>>()
    };
    bodies.iter().enumerate().flat_map(body).collect()
}

/// xorshift64*.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n.max(1)
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        // One in four goes as it is: an unknown container, a missing descriptor.
        for _ in 0..self.below(4) {
            let at = self.below(bytes.len());
            match self.below(4) {
                0 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                1 => bytes.truncate(at),
                2 => drop(bytes.drain(at..(at + self.below(20)).min(bytes.len()))),
                _ => {
                    let piece = bytes[at..(at + self.below(40)).min(bytes.len())].to_vec();
                    let to = self.below(bytes.len());
                    bytes.splice(to..to, piece);
                }
            }
        }
    }
}
