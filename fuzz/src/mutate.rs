//! Small changes of an input, as every mutational fuzzer makes them.

use crate::random::Random;

/// Largest input that a mutation makes, in bytes.
const INPUT_BYTES_MAX: usize = 1 << 20;
/// Most changes of one input.
const CHANGES_MAX: usize = 4;
/// Numbers at which code changes its mind.
const EDGES: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, b'0', b'7', b' '];

pub fn mutate(input: &mut Vec<u8>, words: &[&[u8]], random: &mut Random) {
    for _ in 0..=random.below(CHANGES_MAX) {
        let at = random.below(input.len().max(1)).min(input.len());
        let run = random.below(64).min(input.len() - at);
        match random.below(8) {
            0 if at < input.len() => input[at] ^= 1 << random.below(8),
            1 if at < input.len() => input[at] = EDGES[random.below(EDGES.len())],
            2 => drop(input.drain(at..at + run)),
            3 => {
                let piece = input[at..at + run].to_vec();
                let to = random.below(input.len() + 1);
                drop(input.splice(to..to, piece));
            }
            4 => input.truncate(at),
            5 if !words.is_empty() => {
                let word = random.pick(words);
                drop(input.splice(at..at, word.iter().copied()));
            }
            6 if !words.is_empty() => {
                let word = random.pick(words);
                let end = (at + word.len()).min(input.len());
                drop(input.splice(at..end, word.iter().copied()));
            }
            _ => {
                let count = random.below(16);
                let bytes = random.bytes(count);
                drop(input.splice(at..at, bytes));
            }
        }
    }
    input.truncate(INPUT_BYTES_MAX);
}
