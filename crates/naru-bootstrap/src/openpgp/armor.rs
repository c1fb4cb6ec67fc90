//! ASCII armor (RFC 9580, section 6.2) to bytes.

use super::{PgpError, Result};
use base64::Engine;

/// The bytes of armored input, or the input itself when it isn't armored. The checksum line is optional and not looked at
/// (RFC 9580, section 6.1): what it would find, the signature finds.
pub fn dearmor(input: &[u8]) -> Result<Vec<u8>> {
    // In binary, the first byte of a packet has its highest bit set (section 4.2).
    if input.first().is_some_and(|byte| byte & 0x80 != 0) {
        return Ok(input.to_vec());
    }
    let text = std::str::from_utf8(input).map_err(|_| PgpError::Armor("neither binary nor text"))?;
    let mut lines = text.lines().map(str::trim_end).skip_while(|line| !line.starts_with("-----BEGIN PGP "));
    lines.next().ok_or(PgpError::Armor("no BEGIN line"))?;
    // Headers, such as `Version:`, end with an empty line.
    let body = lines.skip_while(|line| !line.is_empty()).skip(1);
    let mut code = String::new();
    let mut ended = false;
    for line in body {
        if line.starts_with("-----END PGP ") {
            ended = true;
            break;
        }
        if !line.starts_with('=') {
            code.push_str(line);
        }
    }
    if !ended {
        return Err(PgpError::Armor("no END line"));
    }
    base64::engine::general_purpose::STANDARD.decode(code).map_err(|_| PgpError::Armor("not base64"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn armor_is_taken_off() {
        let text = "-----BEGIN PGP SIGNATURE-----\nVersion: x\n\nwsA=\n=abcd\n-----END PGP SIGNATURE-----\n";
        assert_eq!(dearmor(text.as_bytes()).unwrap(), [0xc2, 0xc0]);
        assert_eq!(dearmor(&[0xc2, 0x00]).unwrap(), [0xc2, 0x00]);
        assert_eq!(dearmor(b"hello"), Err(PgpError::Armor("no BEGIN line")));
        assert_eq!(dearmor(&text.as_bytes()[..50]), Err(PgpError::Armor("no END line")));
    }
}
