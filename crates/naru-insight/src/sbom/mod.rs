//! Bills of materials in the two formats that scanners read.

mod cyclonedx;
mod spdx;

use crate::packages::Package;
use naru_types::Timestamp;
use serde_json::Value;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// SPDX 2.3, JSON.
    Spdx,
    /// CycloneDX 1.5, JSON.
    CycloneDx,
}

/// What the document is about, and when it was written.
pub struct Subject<'a> {
    /// The image's name as the user gave it.
    pub name: &'a str,
    /// Its id, 64 hexadecimal digits.
    pub id: &'a str,
    pub now: Timestamp,
}

pub fn render(format: Format, subject: &Subject<'_>, packages: &[Package]) -> Value {
    match format {
        Format::Spdx => spdx::render(subject, packages),
        Format::CycloneDx => cyclonedx::render(subject, packages),
    }
}

/// A UUID (RFC 9562, version 8) of the image and the moment: the same document has the same name.
fn uuid(subject: &Subject<'_>) -> String {
    use sha2::Digest;
    let hash = sha2::Sha256::digest(format!("{} {}", subject.id, subject.now).as_bytes());
    let mut bytes = [0u8; 16];
    bytes.copy_from_slice(&hash[..16]);
    bytes[6] = (bytes[6] & 0x0f) | 0x80;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex = naru_types::id::hex(&bytes);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// RFC 3339 in whole seconds, which both formats ask for.
fn seconds(now: Timestamp) -> String {
    Timestamp::from_parts(now.secs(), 0).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::Ecosystem;

    fn documents() -> (Value, Value) {
        let package = Package {
            ecosystem: Ecosystem::Npm,
            name: "@s/a".into(),
            version: "1.0".into(),
            purl: "pkg:npm/%40s/a@1.0".into(),
            license: "MIT".into(),
            locations: vec!["app/node_modules/@s/a/package.json".into()],
        };
        let odd = Package {
            license: "see LICENSE file".into(),
            name: "b".into(),
            purl: "pkg:npm/b@1.0".into(),
            ..package.clone()
        };
        let subject =
            Subject { name: "app:1", id: &"ab".repeat(32), now: Timestamp::from_parts(1_700_000_000, 5) };
        let all = [package, odd];
        (render(Format::Spdx, &subject, &all), render(Format::CycloneDx, &subject, &all))
    }

    #[test]
    fn spdx_has_what_its_schema_requires() {
        let (spdx, _) = documents();
        for key in [
            "spdxVersion",
            "dataLicense",
            "SPDXID",
            "name",
            "documentNamespace",
            "creationInfo",
            "packages",
            "relationships",
        ] {
            assert!(!spdx[key].is_null(), "{key}");
        }
        assert_eq!(spdx["creationInfo"]["created"], "2023-11-14T22:13:20Z");
        let packages = spdx["packages"].as_array().unwrap();
        assert_eq!(packages.len(), 3);
        assert_eq!(packages[1]["externalRefs"][0]["referenceLocator"], "pkg:npm/%40s/a@1.0");
        assert_eq!(packages[1]["licenseDeclared"], "MIT");
        assert_eq!(packages[2]["licenseDeclared"], "NOASSERTION");
        let is_id = |text: &str| {
            text.strip_prefix("SPDXRef-")
                .is_some_and(|id| id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b)))
        };
        assert!(packages.iter().all(|package| is_id(package["SPDXID"].as_str().unwrap())));
        assert_eq!(spdx["relationships"].as_array().unwrap().len(), 3);
    }

    #[test]
    fn cyclonedx_has_what_its_schema_requires() {
        let (_, bom) = documents();
        assert_eq!(
            (bom["bomFormat"].as_str(), bom["specVersion"].as_str()),
            (Some("CycloneDX"), Some("1.5"))
        );
        assert_eq!(bom["serialNumber"].as_str().unwrap().len(), "urn:uuid:".len() + 36);
        assert_eq!(bom["components"][0]["group"], "@s");
        assert_eq!(bom["components"][0]["name"], "a");
        assert_eq!(bom["components"][0]["licenses"][0]["expression"], "MIT");
        assert_eq!(bom["components"][1]["licenses"][0]["license"]["name"], "see LICENSE file");
    }
}
