//! Where records start, told from the bytes alone.
//!
//! Forward that is easy. Backward it is not: a container can write bytes that look like a header. [`boundary_in`] does
//! not guess: it follows every possible chain of records through a block until all of them meet. The true chain is one
//! of them, so where they meet a record starts for certain.

use naru_types::logrec::{HEADER_LEN, Header, PAYLOAD_LEN_MAX};
use std::collections::BTreeSet;

/// What is at the start of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A whole record of that length, header included.
    Record(usize),
    /// The beginning of one, or nothing.
    Torn,
    /// No record.
    Foreign,
}

pub(super) fn step(bytes: &[u8]) -> Step {
    let Some(header) = bytes.first_chunk::<HEADER_LEN>() else { return Step::Torn };
    let Some(header) = Header::decode(*header) else { return Step::Foreign };
    let len = HEADER_LEN + header.len as usize;
    if len <= bytes.len() { Step::Record(len) } else { Step::Torn }
}

/// The first offset in `block` (a piece out of a file's middle) at which a record starts for certain.
pub(super) fn boundary_in(block: &[u8]) -> Option<usize> {
    // The true chain has a start within the longest record's length.
    let window = (HEADER_LEN + PAYLOAD_LEN_MAX).min(block.len());
    let mut chains: BTreeSet<usize> = (0..window).filter(|at| step(&block[*at..]) != Step::Foreign).collect();
    while chains.len() > 1 {
        let first = chains.pop_first()?;
        match step(&block[first..]) {
            Step::Record(len) => {
                chains.insert(first + len);
            }
            // It may be the true one: undecided within this block.
            Step::Torn => return None,
            Step::Foreign => {}
        }
    }
    chains.pop_first().filter(|at| *at < block.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use naru_types::Timestamp;
    use naru_types::logrec::Stream;

    fn record(payload: &[u8]) -> Vec<u8> {
        let header =
            Header { len: payload.len() as u32, stream: Stream::Stdout, partial: false, at: Timestamp(9) };
        [&header.encode()[..], payload].concat()
    }

    #[test]
    fn forged_headers_are_not_taken_for_records() {
        let forged = Header { len: 0, stream: Stream::Stderr, partial: false, at: Timestamp(1) }.encode();
        let mut log = Vec::new();
        let mut starts = Vec::new();
        for n in 0..3000usize {
            starts.push(log.len());
            let payload = if n % 3 == 0 { forged.repeat(n % 7) } else { b"an honest line\n".to_vec() };
            log.extend(record(&payload));
        }
        for cut in [1, 17, 40, 333, 1000] {
            let found = boundary_in(&log[cut..]).unwrap() + cut;
            assert!(starts.contains(&found), "cut at {cut}");
        }
        assert_eq!(step(b"xxxxxxxxxxxxxxxxxxxx"), Step::Foreign);
        assert_eq!(step(&record(b"abc")[..18]), Step::Torn);
        assert_eq!(step(&record(b"abc")), Step::Record(19));
    }
}
