//! What a BuildKit client sends: the messages that drive a build, and a directory's transfer, which may touch nothing
//! outside of the directory that it goes to.

use super::tar_input::OUTSIDE;
use super::unpack::Yard;
use crate::Target;
use crate::random::Random;
use naru_buildkit::fuzzing;

const NAMES: [&str; 16] = [
    "a",
    "b",
    "d",
    "d/a",
    "d/e",
    "l",
    "l/x",
    "..",
    "../outside/f",
    "/etc/x",
    "d/../../outside/f",
    "",
    ".",
    "d//a",
    "l/../f",
    "f",
];
/// Go's mode bits: a directory, a link, a pipe, a device, a socket, and files.
const MODES: [u64; 9] = [
    0x8000_01ed,
    0x8000_0000,
    0x0800_01ff,
    0x0200_01a4,
    0x0400_01a4,
    0x0100_01a4,
    0x01a4,
    0x00c0_01ff,
    0xffff_ffff,
];
const LINKS: [&str; 7] = ["", "a", "../outside/f", "../outside", "/", "d", "f"];

/// Kinds of packets: STAT twice, since the rest needs it; REQ, DATA, FIN, ERR and one that there is not.
const KINDS: [u64; 8] = [0, 0, 0, 1, 2, 2, 3, 9];

#[derive(Default)]
pub struct Transfer {
    yard: Option<Yard>,
}

impl Target for Transfer {
    fn name(&self) -> &'static str {
        "transfer"
    }

    fn generate(&mut self, random: &mut Random) -> Vec<u8> {
        let mut input = Vec::new();
        for _ in 0..=random.below(10) {
            let message = packet(random);
            input.push(0);
            input.extend_from_slice(&(message.len() as u32).to_be_bytes());
            input.extend_from_slice(&message);
        }
        if random.one_in(2) {
            crate::mutate::mutate(&mut input, self.words(), random);
        }
        input
    }

    fn words(&self) -> &'static [&'static [u8]] {
        &[
            b"../outside/f",
            b"..",
            b"/",
            b"\0",
            b"\0\0\0\0\0",
            b"\0\xff\xff\xff\xff",
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x08\x02",
            b"\x12\x00",
            b"\x0a\x01a",
        ]
    }

    fn check(&mut self, input: &[u8]) -> Result<(), String> {
        fuzzing::messages(input);
        let text = String::from_utf8_lossy(input);
        if fuzzing::header(&text) != text {
            return Err(format!("as a header it became {:?}", fuzzing::header(&text)));
        }
        let yard = match self.yard.take() {
            Some(yard) => yard,
            None => Yard::new().map_err(|error| format!("no place to write: {error}"))?,
        };
        let root = yard.root().map_err(|error| format!("the root: {error}"))?;
        // Refused or taken: both are right.
        fuzzing::transfer(input, &root)?;
        yard.judge(&[OUTSIDE])?;
        self.yard = Some(yard);
        Ok(())
    }
}

/// fsutil.types.Packet.
fn packet(random: &mut Random) -> Vec<u8> {
    let kind = KINDS[random.below(KINDS.len())];
    let mut out = number(1, kind);
    match kind {
        0 if !random.one_in(8) => {
            let mut stat = field(1, random.pick(&NAMES).as_bytes());
            stat.extend(number(2, MODES[random.below(MODES.len())]));
            stat.extend(number(6, random.word()));
            stat.extend(field(7, random.pick(&LINKS).as_bytes()));
            out.extend(field(2, &stat));
        }
        0 => {}
        _ => {
            out.extend(number(3, random.below(6) as u64));
            let count = random.below(3) * 4;
            out.extend(field(4, &random.bytes(count)));
        }
    }
    out
}

fn number(field: u8, value: u64) -> Vec<u8> {
    let mut out = vec![field << 3];
    out.extend(varint(value));
    out
}

fn field(field: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![field << 3 | 2];
    out.extend(varint(bytes.len() as u64));
    out.extend_from_slice(bytes);
    out
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}
