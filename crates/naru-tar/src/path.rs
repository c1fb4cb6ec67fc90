//! Paths of archives: hostile text until it is cut into components.

use crate::error::{Result, TarError};

/// Longest file name, in bytes (NAME_MAX).
const COMPONENT_BYTES_MAX: usize = 255;

/// An archive path as safe components: leading slashes, empty ones and `.` dropped, `..` refused.
pub fn components(path: &[u8]) -> Result<Vec<&[u8]>> {
    let mut parts = Vec::new();
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(TarError::format("a path that leaves its directory", Some(path))),
            _ if part.len() > COMPONENT_BYTES_MAX => {
                return Err(TarError::format("a file name of more than 255 bytes", Some(path)));
            }
            _ if part.contains(&0) => return Err(TarError::format("a NUL in a path", Some(path))),
            _ => parts.push(part),
        }
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_tame() {
        assert_eq!(components(b"./a//b/./c/").unwrap(), [&b"a"[..], b"b", b"c"]);
        assert_eq!(components(b"/etc/passwd").unwrap(), [&b"etc"[..], b"passwd"]);
        assert!(components(b"./").unwrap().is_empty());
        for bad in [&b".."[..], b"a/../b", b"/..", b"a/..", &[b'x'; 256]] {
            assert!(components(bad).is_err());
        }
    }
}
