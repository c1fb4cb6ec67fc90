//! Programs that say what they were made of: sections of ELF files (elf(5)), read where they are, not as a whole.

use super::{Finder, cargo, go};
use crate::Result;
use std::fs::File;
use std::os::unix::fs::FileExt;

const HEADER_BYTES: usize = 64;
const SECTION_BYTES: usize = 64;
/// Largest section that is read: lists of dependencies.
const SECTION_DATA_BYTES_MAX: u64 = 64 << 20;
/// Most sections; more needs an extension of the format that no compiler here uses.
const SECTIONS_MAX: u64 = 0xff00;

pub fn find(finder: &mut Finder<'_>, path: &str) -> Result<()> {
    let file = finder.tree.open(path)?;
    let Some(sections) = Sections::read(&file) else { return Ok(()) };
    if let Some(data) = sections.data(".dep-v0") {
        cargo::audited(finder, path, &data);
    }
    if let Some(data) = sections.data(".go.buildinfo") {
        go::find(finder, path, &data);
    }
    Ok(())
}

/// The section headers of a 64-bit little-endian file; others have no such packages worth looking for.
struct Sections<'a> {
    file: &'a File,
    headers: Vec<u8>,
    names: Vec<u8>,
}

impl<'a> Sections<'a> {
    fn read(file: &'a File) -> Option<Self> {
        let mut header = [0; HEADER_BYTES];
        file.read_exact_at(&mut header, 0).ok()?;
        if !header.starts_with(b"\x7fELF\x02\x01") {
            return None;
        }
        let (offset, count) = (word(&header, 0x28)?, half(&header, 0x3c)?);
        if half(&header, 0x3a)? != SECTION_BYTES as u64 || count > SECTIONS_MAX {
            return None;
        }
        let mut headers = vec![0; count as usize * SECTION_BYTES];
        file.read_exact_at(&mut headers, offset).ok()?;
        let mut sections = Self { file, headers, names: Vec::new() };
        let names = half(&header, 0x3e)? as usize;
        sections.names = sections.content(sections.headers.chunks_exact(SECTION_BYTES).nth(names)?)?;
        Some(sections)
    }

    fn data(&self, name: &str) -> Option<Vec<u8>> {
        let named = |section: &&[u8]| {
            let start = section.get(..4).and_then(|four| four.try_into().ok()).map(u32::from_le_bytes);
            let text = start.and_then(|start| self.names.get(start as usize..));
            text.and_then(|text| text.split(|byte| *byte == 0).next()) == Some(name.as_bytes())
        };
        self.content(self.headers.chunks_exact(SECTION_BYTES).find(named)?)
    }

    fn content(&self, section: &[u8]) -> Option<Vec<u8>> {
        let (offset, size) = (word(section, 0x18)?, word(section, 0x20)?);
        if size > SECTION_DATA_BYTES_MAX || offset.checked_add(size)? > self.file.metadata().ok()?.len() {
            return None;
        }
        let mut data = vec![0; size as usize];
        self.file.read_exact_at(&mut data, offset).ok()?;
        Some(data)
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?)))
}
