//! The cleartext signature framework (RFC 9580, section 7), which `InRelease` uses.

use super::signature::{Signature, signatures};
use super::{PgpError, Result, dearmor};

const BEGIN: &str = "-----BEGIN PGP SIGNED MESSAGE-----";
const BEGIN_SIGNATURE: &str = "-----BEGIN PGP SIGNATURE-----";
const END_SIGNATURE: &str = "-----END PGP SIGNATURE-----";

/// A signed text and its signatures.
pub struct Cleartext {
    /// The text with dash escapes undone.
    pub text: String,
    pub signatures: Vec<Signature>,
}

impl Cleartext {
    /// The whole file has to be the signed message: text before or behind it would be read by somebody as signed.
    pub fn parse(document: &str) -> Result<Self> {
        let mut lines = document.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
        if lines.next() != Some(BEGIN) {
            return Err(PgpError::Cleartext("it does not begin with a signed message"));
        }
        for header in lines.by_ref() {
            if header.is_empty() {
                break;
            }
            // The only header that section 7 allows; which hash was used, the signature itself says.
            if !header.starts_with("Hash: ") {
                return Err(PgpError::Cleartext("a header other than Hash"));
            }
        }
        let mut text = Vec::new();
        loop {
            match lines.next() {
                None => return Err(PgpError::Cleartext("no signature behind the text")),
                Some(BEGIN_SIGNATURE) => break,
                Some(line) if line.starts_with('-') => {
                    let escaped = line.strip_prefix("- ");
                    text.push(escaped.ok_or(PgpError::Cleartext("a line begins with an unescaped dash"))?);
                }
                Some(line) => text.push(line),
            }
        }
        let mut armored = vec![BEGIN_SIGNATURE];
        let mut ended = false;
        for line in lines.by_ref() {
            armored.push(line);
            if line == END_SIGNATURE {
                ended = true;
                break;
            }
        }
        if !ended || lines.any(|line| !line.trim().is_empty()) {
            return Err(PgpError::Cleartext("something lies behind the signature"));
        }
        let signatures = signatures(&dearmor(armored.join("\n").as_bytes())?)?;
        Ok(Self { text: text.join("\n"), signatures })
    }

    /// What was hashed: trailing blanks of lines removed, lines ended by CR LF, the last one not ended.
    pub fn canonical(&self) -> Vec<u8> {
        let lines: Vec<&str> =
            self.text.split('\n').map(|line| line.trim_end_matches([' ', '\t', '\r'])).collect();
        lines.join("\r\n").into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(document: &str) -> PgpError {
        Cleartext::parse(document).err().unwrap()
    }

    #[test]
    fn nothing_may_lie_outside_of_the_signed_text() {
        let signature = "-----BEGIN PGP SIGNATURE-----\n\nwgA=\n-----END PGP SIGNATURE-----\n";
        let begin = "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n";
        assert_eq!(
            refused(&format!("Origin: evil\n{begin}text\n{signature}")),
            PgpError::Cleartext("it does not begin with a signed message")
        );
        assert_eq!(
            refused(&format!("{begin}text\n{signature}Origin: evil\n")),
            PgpError::Cleartext("something lies behind the signature")
        );
        assert_eq!(refused(begin), PgpError::Cleartext("no signature behind the text"));
        assert_eq!(
            refused(&format!("{begin}-x\n{signature}")),
            PgpError::Cleartext("a line begins with an unescaped dash")
        );
        assert_eq!(
            refused("-----BEGIN PGP SIGNED MESSAGE-----\nOrigin: evil\n\ntext\n"),
            PgpError::Cleartext("a header other than Hash")
        );
    }
}
