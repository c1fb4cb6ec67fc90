//! What clients write into requests to `naru registry`: paths, ranges, names.

use crate::Target;
use crate::random::Random;
use naru_registry::{Pattern, Rights, fuzzing};

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const SIZES: [u64; 6] = [0, 1, 10, 1 << 20, u64::MAX - 1, u64::MAX];

pub struct Registry;

impl Target for Registry {
    fn name(&self) -> &'static str {
        "registry"
    }

    fn generate(&mut self, random: &mut Random) -> Vec<u8> {
        let number = |random: &mut Random| match random.below(4) {
            0 => String::new(),
            1 => random.below(20).to_string(),
            2 => random.word().to_string(),
            _ => random.pick(&["18446744073709551615", "18446744073709551616", "-1", "+1", "0"]).to_owned(),
        };
        let text = match random.below(3) {
            0 => {
                let head = random.pick(&["bytes=", "bytes ", "", "lines="]);
                format!(
                    "{head}{}-{}{}",
                    number(random),
                    number(random),
                    random.pick(&["", "/*", "/10", ",1-2"])
                )
            }
            1 => {
                let parts: Vec<&str> = (0..=random.below(4))
                    .map(|_| {
                        random.pick(&[
                            "a",
                            "b-c",
                            "..",
                            "blobs",
                            "uploads",
                            "manifests",
                            "tags",
                            "list",
                            "A",
                            "",
                        ])
                    })
                    .collect();
                let tail = random.pick(&[
                    "/blobs/",
                    "/manifests/",
                    "/tags/list",
                    "/blobs/uploads/",
                    "/referrers/",
                    "/blobs/uploads",
                    "",
                ]);
                let last = random.pick(&[DIGEST, "latest", "", "..", "sha256:", "x"]);
                format!("/v2/{}{tail}{last}", parts.join("/"))
            }
            _ => {
                random.pick(&["team/*", "*", "a/b", DIGEST, "pull,push", "pull,,", "a..b", "a--b"]).to_owned()
            }
        };
        text.into_bytes()
    }

    fn words(&self) -> &'static [&'static [u8]] {
        &[
            b"/v2/",
            b"/blobs/uploads/",
            b"/manifests/",
            b"..",
            b"bytes=",
            b"-",
            b",",
            b"18446744073709551615",
            b"%2e%2e",
            b"*",
        ]
    }

    fn check(&mut self, input: &[u8]) -> Result<(), String> {
        let text = String::from_utf8_lossy(input);
        fuzzing::path(&text)?;
        fuzzing::words(&text)?;
        for size in SIZES {
            fuzzing::range(&text, size)?;
        }
        // No panic, and what is shown is read again.
        if let Some(rights) = Rights::parse(&text)
            && Rights::parse(&rights.to_string()) != Some(rights)
        {
            return Err(format!("{text:?} gives the rights {rights}"));
        }
        match Pattern::parse(&text) {
            Some(pattern) if pattern.fits("..") && text != "*" => Err(format!("{text:?} fits \"..\"")),
            _ => Ok(()),
        }
    }
}
