//! Mutated messages and mutated states against their decoders: nothing may panic, and what is understood must fit its limits.
//! The seed is fixed, so a failure repeats; the live keeper gets its share in `tests/keeper/fuzz.rs`.

use super::protocol::{Envelope, FromKeeper, Request};
use super::state;
use super::wire::{Patience, WireError};
use super::wire::{Received, receive};
use naru_kernel::unix;
use std::io;
use std::os::fd::AsFd;

const SEED: u64 = 0x6e61_7275;
const MESSAGES: u32 = 100_000;
/// Through a socket, descriptors included.
const PACKETS: u32 = 10_000;

/// xorshift64*.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n.max(1)
    }
}

fn corpus() -> Vec<Vec<u8>> {
    let id = "ab".repeat(32);
    let target = format!(r#"{{"id":"{id}","exec_id":"{id}"}}"#);
    let stdio = r#"{"tty":true,"rows":1,"cols":2,"open_stdin":true,"stdin_once":false}"#;
    let log = r#"{"path":"/x/log","file_bytes_max":4096,"files_max":3}"#;
    let bodies = [
        r#"{"hello":{"version":1,"version_min":1}}"#.to_owned(),
        format!(
            r#"{{"start":{{"id":"{id}","bundle":"/x","rootfs":{{"directory":"/x"}},"stdio":{stdio},"log":{log}}}}}"#
        ),
        format!(r#"{{"exec":{{"id":"{id}","exec_id":"{id}","process_file":"p","stdio":{stdio}}}}}"#),
        format!(r#"{{"attach":{{"target":{target},"stdin":true,"stdout":true,"stderr":true}}}}"#),
        format!(r#"{{"hold":{target}}}"#),
        format!(r#"{{"resize":{{"target":{target},"rows":65535,"cols":0}}}}"#),
        format!(r#"{{"signal":{{"target":{target},"signal":15}}}}"#),
        format!(r#"{{"stop":{{"target":{target},"signal":15,"timeout_ms":18446744073709551615}}}}"#),
        format!(r#"{{"signal-all":{{"id":"{id}","signal":9}}}}"#),
        format!(
            r#"{{"update":{{"id":"{id}","resources":{{"memory":{{"limit":-1}},"pids":{{"limit":5}}}}}}}}"#
        ),
        format!(
            r#"{{"adopt":{{"id":"{id}","pid":1,"started_at":0,"bundle":"/x","stdio":{stdio},"log":{log}}}}}"#
        ),
        format!(r#"{{"list":{{"after":{target}}}}}"#),
        format!(r#"{{"forget":{target}}}"#),
        r#""upgrade""#.to_owned(),
        r#""shutdown""#.to_owned(),
    ];
    let fds = [r#""attach""#, r#""netns","pidfd""#, ""];
    let whole = |(n, body): (usize, &String)| {
        format!(r#"{{"seq":{n},"fds":[{}],"body":{body}}}"#, fds[n % fds.len()]).into_bytes()
    };
    bodies.iter().enumerate().map(whole).collect()
}

fn mutate(dice: &mut Dice, bytes: &mut Vec<u8>) {
    const WORDS: [&[u8]; 8] =
        [b"\"", b"{", b"]", b"null", b"-1", b"18446744073709551616", b"\\u0000", b"\xff\xfe"];
    for _ in 0..1 + dice.below(4) {
        let at = dice.below(bytes.len());
        match dice.below(6) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << dice.below(8),
            1 => bytes.truncate(at),
            2 => {
                let end = (at + dice.below(20)).min(bytes.len());
                bytes.drain(at..end);
            }
            3 => {
                let piece = bytes[at..(at + dice.below(40)).min(bytes.len())].to_vec();
                let to = dice.below(bytes.len());
                bytes.splice(to..to, piece);
            }
            4 if !bytes.is_empty() => bytes[at] = dice.below(256) as u8,
            _ => {
                bytes.splice(at..at, WORDS[dice.below(WORDS.len())].iter().copied());
            }
        }
    }
}

#[test]
fn mutated_messages_are_refused_or_understood() {
    let corpus = corpus();
    let mut dice = Dice(SEED);
    let mut understood = 0;
    for message in &corpus[..] {
        let whole = serde_json::from_slice::<Envelope<Request>>(message);
        assert!(whole.is_ok(), "{whole:?}: {}", String::from_utf8_lossy(message));
    }
    for _ in 0..MESSAGES {
        let mut bytes = corpus[dice.below(corpus.len())].clone();
        mutate(&mut dice, &mut bytes);
        understood += u32::from(serde_json::from_slice::<Envelope<Request>>(&bytes).is_ok());
        drop(serde_json::from_slice::<Envelope<FromKeeper>>(&bytes));
    }
    println!("{MESSAGES} messages, {understood} understood");
    assert!(understood > 0);
}

#[test]
fn mutated_packets_leak_no_descriptor() {
    let corpus = corpus();
    let mut dice = Dice(SEED + 1);
    let (ours, theirs) = unix::seqpacket_pair().unwrap();
    let mut buffer = Vec::new();
    let mut received = 0;
    for _ in 0..PACKETS {
        let mut bytes = corpus[dice.below(corpus.len())].clone();
        mutate(&mut dice, &mut bytes);
        if bytes.is_empty() {
            continue;
        }
        // A pipe of its own: once everything of the packet is dropped, its end of file is there.
        let (mut reader, writer) = io::pipe().unwrap();
        let fds = vec![writer.as_fd(); dice.below(4)];
        unix::send(&ours, &bytes, &fds).unwrap();
        drop(fds);
        drop(writer);
        match receive::<Request>(theirs.as_fd(), Patience::Never, &mut buffer) {
            Ok(Received::Message(..)) => received += 1,
            Ok(Received::Closed) => panic!("closed"),
            Err(WireError::Malformed(_) | WireError::FdsDiffer { .. }) => {}
            Err(other) => panic!("{other}"),
        }
        assert_eq!(io::Read::read(&mut reader, &mut [0]).unwrap(), 0);
    }
    println!("{PACKETS} packets, {received} understood");
}

#[test]
fn mutated_states_are_refused_or_sound() {
    let whole = state::tests::sample();
    let mut dice = Dice(SEED + 2);
    assert!(state::decode(&whole, state::VERSIONS).is_ok());
    let mut understood = 0;
    for _ in 0..MESSAGES {
        let mut bytes = whole.clone();
        mutate(&mut dice, &mut bytes);
        if let Ok(checked) = state::decode(&bytes, state::VERSIONS) {
            understood += 1;
            for process in &checked.state.processes {
                checked.bytes(process.stdin_waiting).unwrap();
                process.attached.iter().for_each(|attached| {
                    checked.bytes(attached.waiting).unwrap();
                });
            }
        }
    }
    println!("{MESSAGES} states, {understood} understood");
    assert!(understood > 0);
}
