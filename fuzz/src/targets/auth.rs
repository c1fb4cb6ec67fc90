//! Headers by which registries and clients get past each other's doors.

use crate::Target;
use crate::random::Random;

pub struct Auth;

impl Target for Auth {
    fn name(&self) -> &'static str {
        "auth"
    }

    fn generate(&mut self, random: &mut Random) -> Vec<u8> {
        let scheme = random.pick(&["Bearer ", "bearer  ", "Basic ", "Negotiate ", "Bearer", ""]);
        let mut text = scheme.to_owned();
        for _ in 0..random.below(5) {
            text.push_str(random.pick(&["realm", "service", "scope", "error", "x", "REALM"]));
            text.push_str(random.pick(&["=", " = ", "", "=="]));
            text.push_str(random.pick(&["\"https://a/t\"", "\"a,b\"", "x", "\"", "\"\\\"\"", "", "YTpi"]));
            text.push_str(random.pick(&[",", ", ", "", " "]));
        }
        text.into_bytes()
    }

    fn words(&self) -> &'static [&'static [u8]] {
        &[
            b"realm=\"",
            b"scope=\"repository:a/b:pull,push\"",
            b"Bearer ",
            b"Basic ",
            b",",
            b"=",
            b"\"",
            b"\\\"",
            b"YTpi",
            b"Og==",
        ]
    }

    fn check(&mut self, input: &[u8]) -> Result<(), String> {
        let text = String::from_utf8_lossy(input);
        if let Some((realm, service, scope)) = naru_image::fuzzing::challenge(&text) {
            for value in [Some(realm), service, scope].into_iter().flatten() {
                if !text.contains(&value) {
                    return Err(format!("{value:?} is not in {text:?}"));
                }
            }
        }
        // What a well-formed header says comes out as it went in.
        let word: String = text.chars().filter(|c| !matches!(c, '"' | '\\') && !c.is_control()).collect();
        let word = word.trim();
        let header =
            format!("Bearer realm=\"https://a/t\",service=\"{word}\",scope=\"repository:a:pull,push\"");
        let expect = Some((
            "https://a/t".to_owned(),
            Some(word.to_owned()),
            Some("repository:a:pull,push".to_owned()),
        ));
        if naru_image::fuzzing::challenge(&header) != expect {
            return Err(format!("{header:?} is misread"));
        }
        let encoded = naru_image::fuzzing::percent_encoded(&text);
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte);
        if !encoded.bytes().all(is_plain) || decode(&encoded) != text.as_bytes() {
            return Err(format!("{text:?} is encoded as {encoded:?}"));
        }
        // No panic; Basic's password is what is behind the first colon.
        let _ = naru_registry::fuzzing::secret(&text);
        Ok(())
    }
}

fn decode(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match hex.and_then(|two| u8::from_str_radix(two, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                out.push(byte);
                rest = &after[2..];
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}
