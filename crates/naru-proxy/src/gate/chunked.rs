//! Follows a chunked body (RFC 9112, section 7.1) without touching it: where does it end, and is it sound?

/// Most hexadecimal digits of a chunk size.
const SIZE_DIGITS_MAX: u32 = 15;
/// Longest chunk extension in bytes.
const EXTENSION_LEN_MAX: usize = 256;
/// Longest trailer section in bytes.
const TRAILER_LEN_MAX: usize = 8 * 1024;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// The place in the grammar after the bytes followed so far.
#[derive(Debug, Default)]
pub(super) struct Chunked {
    place: Place,
    /// Size of the chunk that is being read; what is left of it, later.
    left: u64,
    digits: u32,
    /// Bytes of extension in this chunk, or of the trailer section.
    extra: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    End,
}

impl Chunked {
    /// How many of `bytes` belong to the body, and whether it ends there.
    pub fn follow(&mut self, bytes: &[u8]) -> Result<(usize, bool), Malformed> {
        let mut at = 0;
        while at < bytes.len() && self.place != Place::End {
            if self.place == Place::Data {
                let part = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len() - at);
                at += part;
                self.left -= part as u64;
                if self.left == 0 {
                    self.place = Place::DataCr;
                }
            } else {
                self.place = self.step(bytes[at])?;
                at += 1;
            }
        }
        Ok((at, self.place == Place::End))
    }

    fn step(&mut self, byte: u8) -> Result<Place, Malformed> {
        Ok(match (self.place, byte) {
            (Place::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if self.digits < SIZE_DIGITS_MAX => {
                self.digits += 1;
                let digit = char::from(byte).to_digit(16).ok_or(Malformed)?;
                self.left = self.left << 4 | u64::from(digit);
                Place::Size
            }
            (Place::Size, b'\r') if self.digits > 0 => Place::SizeLf,
            (Place::Size, b';') if self.digits > 0 => Place::Extension,
            (Place::Extension, b'\r') => Place::SizeLf,
            (Place::Extension, b' '..=b'~' | b'\t') => {
                self.count(EXTENSION_LEN_MAX)?;
                Place::Extension
            }
            (Place::SizeLf, b'\n') => {
                (self.digits, self.extra) = (0, 0);
                if self.left == 0 { Place::TrailerStart } else { Place::Data }
            }
            (Place::DataCr, b'\r') => Place::DataLf,
            (Place::DataLf, b'\n') => Place::Size,
            (Place::TrailerStart, b'\r') => Place::EndLf,
            (Place::TrailerStart | Place::TrailerName, byte) if super::head::is_token(byte) => {
                self.count(TRAILER_LEN_MAX)?;
                Place::TrailerName
            }
            (Place::TrailerName, b':') => Place::TrailerValue,
            (Place::TrailerValue, b'\r') => Place::TrailerLf,
            (Place::TrailerValue, byte) if super::head::is_value(byte) => {
                self.count(TRAILER_LEN_MAX)?;
                Place::TrailerValue
            }
            (Place::TrailerLf, b'\n') => Place::TrailerStart,
            (Place::EndLf, b'\n') => Place::End,
            _ => return Err(Malformed),
        })
    }

    fn count(&mut self, max: usize) -> Result<(), Malformed> {
        self.extra += 1;
        if self.extra > max { Err(Malformed) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sound_and_malformed_bodies() {
        for (text, expect) in [
            ("0\r\n\r\n", Some(5)),
            ("5\r\nhello\r\n0\r\n\r\nGET", Some(15)),
            ("A;x=\"y\"\r\n0123456789\r\n0\r\nx: y\r\n\r\n", Some(32)),
            ("5\nhello\r\n0\r\n\r\n", None),
            ("5\r\nhello0\r\n\r\n", None),
            ("0x5\r\nhello\r\n0\r\n\r\n", None),
            (" 5\r\nhello\r\n0\r\n\r\n", None),
            ("5 \r\nhello\r\n0\r\n\r\n", None),
            ("\r\n", None),
            ("-1\r\n", None),
            ("ffffffffffffffff\r\n", None),
            ("0\r\n x: y\r\n\r\n", None),
            ("0\r\nx : y\r\n\r\n", None),
            ("0\r\nx: y\n\r\n", None),
            ("1;\n\r\nx\r\n0\r\n\r\n", None),
        ] {
            let whole = Chunked::default().follow(text.as_bytes());
            assert_eq!(whole.ok().filter(|(_, end)| *end).map(|(part, _)| part), expect, "{text:?}");
            // One byte at a time there must be the same verdict.
            let mut slow = Chunked::default();
            let steps: Result<Vec<_>, _> = text.bytes().map(|byte| slow.follow(&[byte])).collect();
            assert_eq!(
                steps.is_ok_and(|steps| steps.iter().any(|(_, end)| *end)),
                expect.is_some(),
                "{text:?}"
            );
        }
    }
}
