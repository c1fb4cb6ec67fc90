//! The archive reader alone.

use super::tar_input::{WORDS, archive, mend_checksums};
use crate::Target;
use crate::random::Random;
use naru_tar::{Reader, components};
use std::io::Read;

/// Content that is read of one input, so that a sparse file of exabytes is no matter of time.
const CONTENT_BYTES_MAX: u64 = 8 << 20;

pub struct Tar;

impl Target for Tar {
    fn name(&self) -> &'static str {
        "tar"
    }

    fn generate(&mut self, random: &mut Random) -> Vec<u8> {
        archive(random)
    }

    fn words(&self) -> &'static [&'static [u8]] {
        WORDS
    }

    fn check(&mut self, input: &[u8]) -> Result<(), String> {
        read_all(input)?;
        let mut mended = input.to_vec();
        mend_checksums(&mut mended);
        read_all(&mended)
    }
}

fn read_all(input: &[u8]) -> Result<(), String> {
    let mut reader = Reader::new(input);
    let mut buffer = [0; 8192];
    let mut content = 0;
    while let Ok(Some(entry)) = reader.next_entry() {
        if let Ok(parts) = components(&entry.path)
            && parts.iter().any(|part| matches!(*part, b"" | b"." | b"..") || part.contains(&b'/'))
        {
            return Err(format!("a path with a way out: {parts:?}"));
        }
        let mut got = 0u64;
        while let Ok(count @ 1..) = reader.read(&mut buffer) {
            got += count as u64;
            content += count as u64;
            if got > entry.size {
                return Err(format!("{got} bytes of an entry of {}", entry.size));
            }
            if content > CONTENT_BYTES_MAX {
                return Ok(());
            }
        }
    }
    Ok(())
}
