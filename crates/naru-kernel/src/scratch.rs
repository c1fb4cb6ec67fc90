//! A piece of a file as memory that survives its process: what was read into it is in the file even if the reader was
//! killed inside the read.

use crate::sys::last_errno;
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;

/// Shared memory over a file that nobody else writes or shortens while this lives: the caller's duty, as with any file
/// that belongs to one process (mode 0600, under a lock).
#[derive(Debug)]
pub struct Scratch {
    start: NonNull<u8>,
    len: usize,
}

impl Scratch {
    /// Maps `len` bytes from `offset` (a multiple of the page size). The space is reserved first, so that a full disk is an
    /// error here and not a signal later.
    pub fn map(file: &File, offset: u64, len: usize) -> Result<Self, Errno> {
        rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), offset, len as u64)?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let offset = libc::off_t::try_from(offset).map_err(|_| Errno::INVAL)?;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory that is in use.
        let start = unsafe {
            libc::mmap(std::ptr::null_mut(), len, protection, libc::MAP_SHARED, file.as_raw_fd(), offset)
        };
        if start == libc::MAP_FAILED {
            return Err(last_errno());
        }
        NonNull::new(start.cast()).map(|start| Self { start, len }).ok_or(Errno::FAULT)
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `start..start + len` is mapped readable until drop, and only `&mut self` writes to it.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    /// One read(2) of at most `max` bytes to the beginning.
    pub fn read(&mut self, from: impl AsFd, max: usize) -> Result<usize, Errno> {
        let max = max.min(self.len);
        rustix::io::read(from, &mut self.bytes_mut()[..max])
    }

    /// Makes the first `len` bytes zero.
    pub fn clear(&mut self, len: usize) {
        let len = len.min(self.len);
        self.bytes_mut()[..len].fill(0);
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and writable; `&mut self` is the only way to it.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // SAFETY: exactly what `map` mapped, and no slice of it outlives self.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::FileExt;

    #[test]
    fn what_was_read_is_in_the_file() {
        let file = File::from(rustix::fs::memfd_create("scratch", rustix::fs::MemfdFlags::CLOEXEC).unwrap());
        let mut scratch = Scratch::map(&file, 4096, 8192).unwrap();
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"hello").unwrap();
        assert_eq!(scratch.read(&reader, 100), Ok(5));
        assert_eq!(&scratch.bytes()[..6], b"hello\0");
        let mut found = [0; 5];
        file.read_exact_at(&mut found, 4096).unwrap();
        assert_eq!(&found, b"hello");
        scratch.clear(5);
        file.read_exact_at(&mut found, 4096).unwrap();
        assert_eq!(found, [0; 5]);
        assert_eq!(file.metadata().unwrap().len(), 4096 + 8192);
    }
}
