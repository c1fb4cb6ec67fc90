//! Reads an archive entry by entry from a stream.
//!
//! With [`Reader::recording`] every byte that is not the content of a plain file is kept for the caller
//! ([`Reader::take_raw`]), so that the exact archive can be put together again later (naru-image's `split`).

use crate::entry::base_entry;
use crate::error::{Result, TarError};
use crate::header::{self, Block, field};
use crate::pax::Extension;
use crate::sparse::{self, SparseMap};
use crate::{
    BLOCK_BYTES, ENTRIES_MAX, EXTENSION_BYTES_MAX, EXTENSIONS_MAX, Entry, EntryKind, GLOBAL_BYTES_MAX,
    SPARSE_PIECES_MAX, TRAILING_BYTES_MAX, padding,
};
use std::io::{self, Read};

pub struct Reader<R> {
    inner: R,
    /// Stored bytes of the current entry not read yet, and the padding behind them.
    remaining: u64,
    padding: usize,
    sparse: Option<SparsePosition>,
    global: Extension,
    global_bytes: u64,
    entries: u64,
    raw: Option<Vec<u8>>,
    ended: bool,
}

struct SparsePosition {
    map: SparseMap,
    position: u64,
}

impl<R: Read> Reader<R> {
    pub fn new(inner: R) -> Self {
        Self {
            inner,
            remaining: 0,
            padding: 0,
            sparse: None,
            global: Extension::default(),
            global_bytes: 0,
            entries: 0,
            raw: None,
            ended: false,
        }
    }

    /// A reader that keeps all bytes besides plain files' content.
    pub fn recording(inner: R) -> Self {
        Self { raw: Some(Vec::new()), ..Self::new(inner) }
    }

    /// What was recorded since the last call.
    pub fn take_raw(&mut self) -> Vec<u8> {
        self.raw.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Whether the current entry is sparse: its stored content is recorded with the headers.
    pub fn is_sparse(&self) -> bool {
        self.sparse.is_some()
    }

    /// The run at the present position of a sparse file: bytes left in it, and whether they are stored.
    pub fn sparse_run(&self) -> Option<(u64, bool)> {
        self.sparse.as_ref().map(|sparse| sparse.map.run_at(sparse.position))
    }

    /// Steps over a hole of a sparse file without reading its zeros.
    pub fn skip_hole(&mut self) {
        if let Some(sparse) = &mut self.sparse
            && let (len, false) = sparse.map.run_at(sparse.position)
        {
            sparse.position += len;
        }
    }

    /// The next entry, `None` at the end; what was left of the one before is skipped. At the end the
    /// stream is read out, so that a digest over it covers all of it.
    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        self.skip_rest()?;
        if self.ended {
            return Ok(None);
        }
        let mut extension = self.global.clone();
        extension.is_local = false;
        // Without a bound a stream of headers and no entry would fill the memory of who records it.
        for _ in 0..=EXTENSIONS_MAX {
            let Some(block) = self.read_header()? else {
                self.ended = true;
                if extension.is_local {
                    return Err(TarError::format("the archive ends after an extension header", None));
                }
                return Ok(None);
            };
            match block[field::TYPE] {
                header::TYPE_PAX => {
                    if std::mem::replace(&mut extension.is_local, true) {
                        return Err(TarError::format("two pax headers for one entry", None));
                    }
                    let data = self.read_extension(&block)?;
                    extension.read(&data)?;
                }
                header::TYPE_PAX_GLOBAL => {
                    let data = self.read_extension(&block)?;
                    self.global_bytes += data.len() as u64;
                    if self.global_bytes > GLOBAL_BYTES_MAX {
                        let what = format!("more than {GLOBAL_BYTES_MAX} bytes of global pax headers");
                        return Err(TarError::format(what, None));
                    }
                    self.global.read(&data)?;
                    extension.read(&data)?;
                }
                header::TYPE_GNU_LONG_NAME => {
                    let name = self.read_long_name(&block)?;
                    extension.path.get_or_insert(name);
                }
                header::TYPE_GNU_LONG_LINK => {
                    let name = self.read_long_name(&block)?;
                    extension.link.get_or_insert(name);
                }
                _ => return self.finish_entry(&block, &extension).map(Some),
            }
        }
        Err(TarError::format(format!("more than {EXTENSIONS_MAX} extension headers before one entry"), None))
    }

    /// The next header block, or `None` at the end of the archive (two zero blocks, or the end of the
    /// stream at a block border, which GNU tar and Go take for one too).
    fn read_header(&mut self) -> Result<Option<Block>> {
        let mut block: Block = [0; BLOCK_BYTES];
        if !self.read_block(&mut block)? {
            return Ok(None);
        }
        if block.iter().all(|b| *b == 0) {
            let is_end = !self.read_block(&mut block)? || block.iter().all(|b| *b == 0);
            if !is_end {
                return Err(TarError::format("a lone zero block inside of the archive", None));
            }
            self.drain()?;
            return Ok(None);
        }
        if !header::checksum_fits(&block) {
            return Err(TarError::format("wrong header checksum: not a tar archive, or a damaged one", None));
        }
        self.entries += 1;
        if self.entries > ENTRIES_MAX {
            return Err(TarError::format(format!("more than {ENTRIES_MAX} entries"), None));
        }
        Ok(Some(block))
    }

    fn read_extension(&mut self, block: &Block) -> Result<Vec<u8>> {
        let size = header::number(block, field::SIZE).and_then(|size| u64::try_from(size).ok());
        let size = size.ok_or_else(|| TarError::format("bad size of an extension header", None))?;
        if size > EXTENSION_BYTES_MAX {
            return Err(TarError::format(
                format!("extension header of {size} bytes; the limit is {EXTENSION_BYTES_MAX}"),
                None,
            ));
        }
        let mut data = vec![0; size as usize + padding(size)];
        self.read_exact_raw(&mut data)?;
        data.truncate(size as usize);
        Ok(data)
    }

    fn read_long_name(&mut self, block: &Block) -> Result<Vec<u8>> {
        let mut name = self.read_extension(block)?;
        let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
        name.truncate(end);
        Ok(name)
    }

    fn finish_entry(&mut self, block: &Block, extension: &Extension) -> Result<Entry> {
        let mut entry = base_entry(block, extension)?;
        let name = entry.path.clone();
        let invalid = |what: &str| TarError::format(what, Some(&name));
        let stored = match extension.size {
            Some(size) => size,
            None => header::number(block, field::SIZE)
                .and_then(|size| u64::try_from(size).ok())
                .ok_or_else(|| invalid("bad size"))?,
        };
        // Only files have content; a size on anything else is not followed by data (as Go reads it).
        let is_file = entry.kind == EntryKind::File;
        self.remaining = if is_file { stored } else { 0 };
        self.padding = padding(self.remaining);
        if block[field::TYPE] == header::TYPE_GNU_SPARSE {
            let map = self.read_old_sparse(block)?;
            self.start_sparse(map, &name)?;
        } else if let (true, Some(major)) = (is_file, extension.sparse.major) {
            if (major, extension.sparse.minor) != (1, Some(0)) {
                return Err(invalid("unknown sparse format"));
            }
            let real_size =
                extension.sparse.real_size.ok_or_else(|| invalid("sparse file without its size"))?;
            entry.path.clone_from(extension.sparse.name.as_ref().unwrap_or(&name));
            let map = self.read_pax_sparse(real_size)?;
            self.start_sparse(map, &name)?;
        } else if extension.sparse.has_inline_map {
            return Err(invalid("sparse format 0.x is not supported; write it with --sparse-version=1.0"));
        }
        entry.size = self.sparse.as_ref().map_or(self.remaining, |sparse| sparse.map.real_size);
        Ok(entry)
    }

    fn start_sparse(&mut self, map: SparseMap, name: &[u8]) -> Result<()> {
        if map.stored_bytes() != self.remaining {
            return Err(TarError::format("sparse map and size disagree", Some(name)));
        }
        self.sparse = Some(SparsePosition { map, position: 0 });
        Ok(())
    }

    /// GNU tar's `struct oldgnu_header`: four pairs at 386, a flag at 482, the real size at 483; then
    /// blocks of 21 pairs with their flag at 504.
    fn read_old_sparse(&mut self, block: &Block) -> Result<SparseMap> {
        let real_size = header::parse_number(&block[483..495]).and_then(|size| u64::try_from(size).ok());
        let real_size = real_size.ok_or_else(|| TarError::format("bad size of a sparse file", None))?;
        let mut map = SparseMap { pieces: Vec::new(), real_size };
        sparse::read_old_pairs(block, 386, 4, &mut map)?;
        let mut more = block[482] != 0;
        let mut blocks = 0;
        while more {
            blocks += 1;
            if blocks > SPARSE_PIECES_MAX / sparse::PAIRS_PER_BLOCK {
                return Err(TarError::format("sparse map too long", None));
            }
            let mut next: Block = [0; BLOCK_BYTES];
            self.read_exact_raw(&mut next)?;
            sparse::read_old_pairs(&next, 0, sparse::PAIRS_PER_BLOCK, &mut map)?;
            more = next[504] != 0;
        }
        Ok(map)
    }

    fn read_pax_sparse(&mut self, real_size: u64) -> Result<SparseMap> {
        sparse::read_pax_map(real_size, |block| {
            let left = self.remaining.checked_sub(BLOCK_BYTES as u64);
            self.remaining = left.ok_or_else(|| TarError::format("bad sparse map", None))?;
            self.read_exact_raw(block)
        })
    }

    fn skip_rest(&mut self) -> Result<()> {
        self.sparse.take();
        let mut buffer = [0; 16 * 1024];
        while self.remaining > 0 {
            let want = buffer.len().min(usize::try_from(self.remaining).unwrap_or(usize::MAX));
            // Content that nobody read cannot be found in a file later: it is recorded like a header.
            self.read_exact_raw(&mut buffer[..want])?;
            self.remaining -= want as u64;
        }
        self.skip_padding()
    }

    /// An archive may end with its last member's content: the docker CLI writes such ones for a Dockerfile from outside of the
    /// context, and Go's reader takes them.
    fn skip_padding(&mut self) -> Result<()> {
        let mut pad = [0; BLOCK_BYTES];
        let len = std::mem::take(&mut self.padding);
        let mut filled = 0;
        while filled < len && !self.ended {
            match self.inner.read(&mut pad[filled..len]) {
                Ok(0) => self.ended = true,
                Ok(got) => filled += got,
                Err(source) if source.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(TarError::Read { source }),
            }
        }
        if let Some(raw) = &mut self.raw {
            raw.extend_from_slice(&pad[..filled]);
        }
        Ok(())
    }

    fn drain(&mut self) -> Result<()> {
        let mut buffer = [0; 16 * 1024];
        let mut total = 0;
        loop {
            let got = self.inner.read(&mut buffer).map_err(|source| TarError::Read { source })?;
            if got == 0 {
                return Ok(());
            }
            total += got as u64;
            if total > TRAILING_BYTES_MAX {
                return Err(TarError::format(
                    format!("more than {TRAILING_BYTES_MAX} bytes after the end of the archive"),
                    None,
                ));
            }
            if let Some(raw) = &mut self.raw {
                raw.extend_from_slice(&buffer[..got]);
            }
        }
    }

    /// A whole block, or `false` at the end of the stream; half a block is an error.
    fn read_block(&mut self, block: &mut Block) -> Result<bool> {
        let mut filled = 0;
        while filled < BLOCK_BYTES {
            match self.inner.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(TarError::format("the archive is cut off", None)),
                Ok(got) => filled += got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(TarError::Read { source }),
            }
        }
        if let Some(raw) = &mut self.raw {
            raw.extend_from_slice(block);
        }
        Ok(true)
    }

    fn read_exact_raw(&mut self, buffer: &mut [u8]) -> Result<()> {
        self.inner.read_exact(buffer).map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => TarError::format("the archive is cut off", None),
            _ => TarError::Read { source },
        })?;
        if let Some(raw) = &mut self.raw {
            raw.extend_from_slice(buffer);
        }
        Ok(())
    }
}

/// Reads the current entry's content, holes as zeros.
impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut want = buffer.len();
        if let Some(sparse) = &mut self.sparse {
            let (run, is_stored) = sparse.map.run_at(sparse.position);
            want = want.min(usize::try_from(run).unwrap_or(usize::MAX));
            if !is_stored {
                buffer[..want].fill(0);
                sparse.position += want as u64;
                return Ok(want);
            }
        }
        want = want.min(usize::try_from(self.remaining).unwrap_or(usize::MAX));
        if want == 0 {
            return Ok(0);
        }
        let got = self.inner.read(&mut buffer[..want])?;
        if got == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive is cut off"));
        }
        self.remaining -= got as u64;
        if let Some(sparse) = &mut self.sparse {
            sparse.position += got as u64;
            if let Some(raw) = &mut self.raw {
                raw.extend_from_slice(&buffer[..got]);
            }
        }
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{encode, trailer};

    fn header(kind: u8, size: u64) -> Vec<u8> {
        let mut block: Block = [0; BLOCK_BYTES];
        header::put(&mut block, field::NAME, b"x");
        for which in [field::MODE, field::UID, field::GID, field::MTIME] {
            header::put_octal(&mut block, which, 0);
        }
        header::put_octal(&mut block, field::SIZE, size);
        block[field::TYPE] = kind;
        header::put(&mut block, field::MAGIC, b"ustar\x0000");
        header::seal(&mut block);
        block.to_vec()
    }

    fn check(bytes: &[u8], expect: &str) {
        let mut reader = Reader::recording(bytes);
        let error = loop {
            match reader.next_entry() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the archive was taken; expected: {expect}"),
                Err(error) => break error.to_string(),
            }
        };
        assert!(error.contains(expect), "{error}");
    }

    #[test]
    fn memory_is_bounded() {
        let long_name = [header(header::TYPE_GNU_LONG_NAME, 512), vec![b'n'; 512]].concat();
        check(&long_name.repeat(1000), "more than 16 extension headers");
        let word = format!("{}=v\n", "k".repeat(60_000));
        let record = format!("{} {word}", word.len() + 6);
        let mut global = header(header::TYPE_PAX_GLOBAL, record.len() as u64);
        global.extend(record.as_bytes());
        global.resize(global.len() + padding(record.len() as u64), 0);
        global.extend(encode(&Entry::new("f", EntryKind::File)));
        check(&global.repeat(30), "bytes of global pax headers");
        let mut sparse: Block = header(header::TYPE_GNU_SPARSE, 0).try_into().unwrap();
        sparse[482] = 1;
        header::put(&mut sparse, (483, 12), b"00000000000\0");
        header::seal(&mut sparse);
        let mut more = [0; BLOCK_BYTES];
        more[504] = 1;
        check(&[&sparse[..], &more.repeat(10_000)].concat(), "sparse map too long");
    }

    #[test]
    fn cut_off_archives_are_refused() {
        let mut entry = Entry::new("f", EntryKind::File);
        entry.size = 3;
        let whole = [&encode(&entry)[..], b"abc", &[0; 509], &trailer()].concat();
        check(&whole[..BLOCK_BYTES + 2], "cut off");
        check(&whole[..100], "cut off");
        let mut reader = Reader::new(&whole[..]);
        assert_eq!(reader.next_entry().unwrap(), Some(entry.clone()));
        assert_eq!(reader.next_entry().unwrap(), None);
        // But not those that end with their last member's content, or in the padding behind it.
        for end in [BLOCK_BYTES + 3, BLOCK_BYTES + 4, 2 * BLOCK_BYTES - 1, 2 * BLOCK_BYTES] {
            let mut reader = Reader::recording(&whole[..end]);
            assert_eq!(reader.next_entry().unwrap(), Some(entry.clone()));
            assert_eq!(reader.next_entry().unwrap(), None, "{end}");
            assert_eq!(reader.take_raw(), whole[..end], "every byte is recorded");
        }
    }
}
