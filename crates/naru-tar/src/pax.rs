//! pax extended header records: `"%d %s=%s\n", length, keyword, value` (pax(1), "pax Header Block").

use crate::XATTR_PREFIX;
use crate::error::{Result, TarError};

/// What a pax header (and GNU's long name records) say about the entry that follows.
#[derive(Clone, Debug, Default)]
pub struct Extension {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub mtime: Option<(i64, u32)>,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub sparse: SparseWords,
    /// A pax header of the entry itself was read (a second one is refused).
    pub is_local: bool,
}

/// The `GNU.sparse.*` words of the pax sparse formats.
#[derive(Clone, Debug, Default)]
pub struct SparseWords {
    pub major: Option<u64>,
    pub minor: Option<u64>,
    pub name: Option<Vec<u8>>,
    pub real_size: Option<u64>,
    /// Formats 0.0 and 0.1 put the map into the header.
    pub has_inline_map: bool,
}

impl Extension {
    /// Reads the records of one pax header.
    pub fn read(&mut self, mut data: &[u8]) -> Result<()> {
        while !data.is_empty() {
            let (key, value, rest) = split_record(data)?;
            self.apply(key, value)?;
            data = rest;
        }
        Ok(())
    }

    fn apply(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        if let Some(name) = key.strip_prefix(XATTR_PREFIX) {
            if name.is_empty() || name.contains(&0) {
                return Err(bad(key));
            }
            self.xattrs.retain(|(have, _)| have != name);
            self.xattrs.push((name.to_vec(), value.to_vec()));
            return Ok(());
        }
        // An empty value takes the word of an earlier header back (pax(1)).
        let is_set = !value.is_empty();
        let number = || decimal(value).ok_or_else(|| bad(key));
        match key {
            b"path" => self.path = is_set.then(|| value.to_vec()),
            b"linkpath" => self.link = is_set.then(|| value.to_vec()),
            b"size" => self.size = if is_set { Some(number()?) } else { None },
            b"uid" => {
                self.uid = if is_set { Some(number()?.try_into().map_err(|_| bad(key))?) } else { None }
            }
            b"gid" => {
                self.gid = if is_set { Some(number()?.try_into().map_err(|_| bad(key))?) } else { None }
            }
            b"mtime" => self.mtime = if is_set { Some(time(value).ok_or_else(|| bad(key))?) } else { None },
            b"GNU.sparse.major" => self.sparse.major = Some(number()?),
            b"GNU.sparse.minor" => self.sparse.minor = Some(number()?),
            b"GNU.sparse.name" => self.sparse.name = Some(value.to_vec()),
            b"GNU.sparse.realsize" | b"GNU.sparse.size" => self.sparse.real_size = Some(number()?),
            b"GNU.sparse.map" | b"GNU.sparse.numblocks" | b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                self.sparse.has_inline_map = true;
            }
            // atime, ctime, uname, gname, charset, comment and vendors' words change nothing here.
            _ => {}
        }
        Ok(())
    }
}

fn bad(key: &[u8]) -> TarError {
    TarError::format(format!("bad pax record {:?}", String::from_utf8_lossy(key)), None)
}

/// Key, value and what follows the record.
fn split_record(data: &[u8]) -> Result<(&[u8], &[u8], &[u8])> {
    let malformed = || TarError::format("malformed pax record", None);
    let blank = data.iter().position(|b| *b == b' ').ok_or_else(malformed)?;
    let len = decimal(&data[..blank]).and_then(|len| usize::try_from(len).ok()).ok_or_else(malformed)?;
    if len <= blank + 1 || len > data.len() || data[len - 1] != b'\n' {
        return Err(malformed());
    }
    let record = &data[blank + 1..len - 1];
    let equals = record.iter().position(|b| *b == b'=').ok_or_else(malformed)?;
    if equals == 0 {
        return Err(malformed());
    }
    Ok((&record[..equals], &record[equals + 1..], &data[len..]))
}

pub fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// `[-]seconds[.fraction]`; nanoseconds always count upwards from the second.
fn time(text: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(text).ok()?;
    let (digits, negative) = text.strip_prefix('-').map_or((text, false), |digits| (digits, true));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let secs = i64::try_from(decimal(whole.as_bytes())?).ok()?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nine: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanos: u32 = nine.parse().ok()?;
    Some(match (negative, nanos) {
        (false, _) => (secs, nanos),
        (true, 0) => (-secs, 0),
        (true, _) => (-secs - 1, 1_000_000_000 - nanos),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records() {
        let mut extension = Extension::default();
        extension.read(b"11 path=a\nb\n20 mtime=1700.5\n\n".get(..11).unwrap()).unwrap_err();
        extension.read(b"11 path=ab\n15 mtime=-1.25\n").unwrap();
        assert_eq!(extension.path.as_deref(), Some(&b"ab"[..]));
        assert_eq!(extension.mtime, Some((-2, 750_000_000)));
        for bad in
            [&b"5 a=b\n"[..], b"6 a=b", b"x a=b\n", b"6 =bc\n", b"9 size=x\n", b"99 path=a\n", b"+9 uid=1\n"]
        {
            assert!(Extension::default().read(bad).is_err(), "{bad:?}");
        }
    }
}
