//! Bills of materials in the two formats that scanners read.

mod cyclonedx;
mod license;
mod spdx;

use naru_types::Timestamp;
use naru_wire::analysis::Analysis;
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

pub fn render(format: Format, subject: &Subject<'_>, analysis: &Analysis) -> Value {
    match format {
        Format::Spdx => spdx::render(subject, analysis),
        Format::CycloneDx => cyclonedx::render(subject, analysis),
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
    use naru_wire::analysis::{Ecosystem, Package};

    fn document(format: Format) -> Value {
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
            version: String::new(),
            purl: "pkg:npm/b".into(),
            ..package.clone()
        };
        let analysis = Analysis {
            packages: vec![package, odd],
            notes: vec!["not read: rpm database".into()],
            distribution: "debian 12".into(),
            ..Analysis::default()
        };
        let now = Timestamp::from_parts(1_700_000_000, 5);
        render(format, &Subject { name: "app:1", id: &"ab".repeat(32), now }, &analysis)
    }

    #[test]
    fn spdx_has_what_its_schema_requires() {
        let spdx = document(Format::Spdx);
        for key in ["SPDXID", "creationInfo", "dataLicense", "name", "spdxVersion", "documentNamespace"] {
            assert!(!spdx[key].is_null(), "{key}");
        }
        assert_eq!(spdx["creationInfo"]["created"], "2023-11-14T22:13:20Z");
        assert_eq!(spdx["comment"], "not read: rpm database");
        let packages = spdx["packages"].as_array().unwrap();
        assert_eq!(packages.len(), 3);
        assert_eq!(packages[1]["externalRefs"][0]["referenceLocator"], "pkg:npm/%40s/a@1.0");
        assert_eq!(packages[1]["licenseDeclared"], "MIT");
        assert_eq!(packages[2]["licenseDeclared"], "NOASSERTION");
        assert_eq!(packages[2]["licenseComments"], "the package says: see LICENSE file");
        assert!(packages[2].get("versionInfo").is_none());
        let is_id = |text: &str| {
            text.strip_prefix("SPDXRef-")
                .is_some_and(|id| id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b)))
        };
        assert!(packages.iter().all(|package| is_id(package["SPDXID"].as_str().unwrap())));
        assert_eq!(spdx["relationships"].as_array().unwrap().len(), 3);
    }

    #[test]
    fn cyclonedx_has_what_its_schema_requires() {
        let bom = document(Format::CycloneDx);
        assert_eq!(
            (bom["bomFormat"].as_str(), bom["specVersion"].as_str()),
            (Some("CycloneDX"), Some("1.5"))
        );
        assert_eq!(bom["serialNumber"].as_str().unwrap().len(), "urn:uuid:".len() + 36);
        assert_eq!(bom["metadata"]["properties"][0]["value"], "not read: rpm database");
        let components = bom["components"].as_array().unwrap();
        assert_eq!(
            (&components[0]["type"], &components[0]["name"]),
            (&"operating-system".into(), &"debian".into())
        );
        assert_eq!(components[0]["version"], "12");
        assert_eq!((&components[1]["group"], &components[1]["name"]), (&"@s".into(), &"a".into()));
        assert_eq!(components[1]["licenses"][0]["expression"], "MIT");
        assert_eq!(components[2]["licenses"][0]["license"]["name"], "see LICENSE file");
        assert!(components[2].get("version").is_none());
    }
}
