//! Image names, digests and platforms.

use crate::Target;
use crate::random::Random;
use naru_types::platform::Platform;
use naru_types::{Digest, ImageRef};

const DIGEST: &str = "@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const PARTS: [&str; 22] = [
    "a",
    "nginx",
    "library",
    "docker.io",
    "index.docker.io",
    "localhost",
    "LOCALHOST",
    "localhost:5000",
    "[::1]:5000",
    "127.0.0.1:80",
    "a.b",
    "a..b",
    "..",
    ".",
    "A",
    "a_b",
    "a__b",
    "a___b",
    "-",
    "é",
    "a-b",
    "1.2.3",
];

pub struct References;

impl Target for References {
    fn name(&self) -> &'static str {
        "reference"
    }

    fn generate(&mut self, random: &mut Random) -> Vec<u8> {
        let parts: Vec<&str> = (0..=random.below(4)).map(|_| random.pick(&PARTS)).collect();
        let mut text = parts.join("/");
        if random.one_in(2) {
            text.push(':');
            text.push_str(random.pick(&["latest", "1.0", "", "-x", "A_b", "5000"]));
        }
        if random.one_in(3) {
            text.push_str(DIGEST);
        }
        text.into_bytes()
    }

    fn words(&self) -> &'static [&'static [u8]] {
        &[
            b"/",
            b":",
            b"@",
            b"@sha256:",
            b"..",
            b"docker.io/",
            b"library/",
            b"[",
            b"]",
            b"://",
            b"\0",
            b"%2f",
            b"_",
        ]
    }

    fn check(&mut self, input: &[u8]) -> Result<(), String> {
        let text = String::from_utf8_lossy(input);
        // Neither may panic.
        let _ = (
            Digest::parse(&text),
            Platform::parse(&text).map(|platform| platform.runs_on(&Platform::host())),
        );
        let Ok(reference) = ImageRef::parse(&text) else { return Ok(()) };
        for shown in [reference.to_string(), reference.familiar()] {
            match ImageRef::parse(&shown) {
                Ok(again) if again == reference => {}
                other => return Err(format!("{text:?} is shown as {shown:?}, which is read as {other:?}")),
            }
        }
        let is_path = |part: &str| !matches!(part, "" | "." | "..");
        if !reference.path().split('/').all(is_path) {
            return Err(format!("{text:?} has the path {:?}", reference.path()));
        }
        if reference
            .to_string()
            .bytes()
            .any(|byte| byte.is_ascii_whitespace() || matches!(byte, b'?' | b'#' | b'%' | 0))
        {
            return Err(format!("{text:?} would change the address that it becomes part of"));
        }
        let full = reference.with_default_tag();
        if full.tag().is_none() && full.digest().is_none() {
            return Err(format!("{text:?} has neither tag nor digest"));
        }
        Ok(())
    }
}
