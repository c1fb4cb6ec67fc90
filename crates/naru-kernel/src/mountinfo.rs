//! /proc/self/mountinfo (proc_pid_mountinfo(5)).

use std::io;
use std::path::PathBuf;

/// One line, the fields that anybody here asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which part of the file system is mounted.
    pub root: PathBuf,
    pub mount_point: PathBuf,
    pub fs_type: String,
    pub source: String,
    /// Options of the superblock, e.g. the controllers of a cgroup v1 mount.
    pub super_options: Vec<String>,
}

/// The calling thread's mounts, in mount order.
pub fn read() -> io::Result<Vec<Entry>> {
    Ok(parse(&std::fs::read("/proc/thread-self/mountinfo")?))
}

/// Parses the text; lines that are not understood are left out.
pub fn parse(text: &[u8]) -> Vec<Entry> {
    String::from_utf8_lossy(text).lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Entry> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(3);
    let mut right = right.split(' ');
    Some(Entry {
        root: unescape(left.next()?),
        mount_point: unescape(left.next()?),
        fs_type: right.next()?.to_owned(),
        source: right.next()?.to_owned(),
        super_options: right.next().unwrap_or("").split(',').map(str::to_owned).collect(),
    })
}

/// Space, tab, newline and backslash are written as `\ooo`.
fn unescape(text: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let octal = (bytes[at] == b'\\')
            .then(|| text.get(at + 1..at + 4).and_then(|digits| u8::from_str_radix(digits, 8).ok()))
            .flatten();
        out.push(octal.unwrap_or(bytes[at]));
        at += if octal.is_some() { 4 } else { 1 };
    }
    PathBuf::from(std::ffi::OsString::from_vec(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_optional_fields_and_escapes() {
        let text =
            b"36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\nbad\n";
        let entries = parse(text);
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].mount_point, PathBuf::from("/mnt 2"));
        assert_eq!(entries[0].root, PathBuf::from("/mnt1"));
        assert_eq!(entries[0].super_options, ["rw", "errors=continue"]);
    }
}
