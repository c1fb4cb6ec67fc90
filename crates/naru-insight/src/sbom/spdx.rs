//! SPDX 2.3 (spdx.github.io/spdx-spec/v2.3).

use super::{Subject, seconds, uuid};
use crate::packages::Package;
use serde_json::{Value, json};

pub fn render(subject: &Subject<'_>, packages: &[Package]) -> Value {
    let image = json!({
        "SPDXID": "SPDXRef-Image",
        "name": subject.name,
        "versionInfo": format!("sha256:{}", subject.id),
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
        "primaryPackagePurpose": "CONTAINER",
    });
    let mut listed = vec![image];
    let mut relationships = vec![relation("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-Image")];
    for (number, package) in packages.iter().enumerate() {
        let id = format!("SPDXRef-Package-{}-{}", package.ecosystem.name(), number + 1);
        relationships.push(relation("SPDXRef-Image", "CONTAINS", &id));
        listed.push(json!({
            "SPDXID": id,
            "name": package.name,
            "versionInfo": package.version,
            "downloadLocation": "NOASSERTION",
            "filesAnalyzed": false,
            "licenseConcluded": "NOASSERTION",
            "licenseDeclared": if is_expression(&package.license) { package.license.as_str() } else { "NOASSERTION" },
            "copyrightText": "NOASSERTION",
            "sourceInfo": format!("found in: {}", package.locations.join(", ")),
            "externalRefs": [{
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": package.purl,
            }],
        }));
    }
    json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": subject.name,
        "documentNamespace": format!("https://spdx.org/spdxdocs/{}-{}", file_name(subject.name), uuid(subject)),
        "creationInfo": {
            "created": seconds(subject.now),
            "creators": [concat!("Tool: naru-", env!("CARGO_PKG_VERSION"))],
        },
        "documentDescribes": ["SPDXRef-Image"],
        "packages": listed,
        "relationships": relationships,
    })
}

/// Licenses of the SPDX list that packages name often; a name of another form would make a document invalid, and which of the
/// other seven hundred a package means is for it to say in words.
const LICENSES: [&str; 54] = [
    "0BSD",
    "AFL-2.1",
    "AFL-3.0",
    "AGPL-3.0-only",
    "AGPL-3.0-or-later",
    "Apache-1.1",
    "Apache-2.0",
    "Artistic-2.0",
    "BlueOak-1.0.0",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSD-4-Clause",
    "BSL-1.0",
    "CC-BY-3.0",
    "CC-BY-4.0",
    "CC0-1.0",
    "CDDL-1.0",
    "CDDL-1.1",
    "EPL-1.0",
    "EPL-2.0",
    "GFDL-1.3-or-later",
    "GPL-1.0-or-later",
    "GPL-2.0-only",
    "GPL-2.0-or-later",
    "GPL-3.0-only",
    "GPL-3.0-or-later",
    "HPND",
    "ISC",
    "LGPL-2.0-only",
    "LGPL-2.0-or-later",
    "LGPL-2.1-only",
    "LGPL-2.1-or-later",
    "LGPL-3.0-only",
    "LGPL-3.0-or-later",
    "MIT",
    "MIT-0",
    "MPL-1.1",
    "MPL-2.0",
    "NCSA",
    "OFL-1.1",
    "OpenSSL",
    "PostgreSQL",
    "PSF-2.0",
    "Python-2.0",
    "Ruby",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "Unlicense",
    "Vim",
    "WTFPL",
    "X11",
    "Zlib",
    "ZPL-2.1",
];
const EXCEPTIONS: [&str; 4] =
    ["Classpath-exception-2.0", "GCC-exception-3.1", "LLVM-exception", "OpenSSL-exception"];

/// Whether a package's word about its license is an SPDX expression (annex D): known names joined by AND, OR and WITH.
pub fn is_expression(text: &str) -> bool {
    let plain = text.replace('(', " ( ").replace(')', " ) ");
    let (mut wants_name, mut open, mut after_with) = (true, 0, false);
    for word in plain.split_whitespace() {
        let fits = match word {
            "(" => {
                open += 1;
                wants_name && !after_with
            }
            ")" => {
                open -= 1;
                !wants_name && open >= 0
            }
            "AND" | "OR" | "WITH" => {
                let fits = !wants_name;
                (wants_name, after_with) = (true, word == "WITH");
                fits
            }
            name => {
                let known: &[&str] = if after_with { &EXCEPTIONS } else { &LICENSES };
                let fits = wants_name && known.contains(&name);
                (wants_name, after_with) = (false, false);
                fits
            }
        };
        if !fits {
            return false;
        }
    }
    !wants_name && open == 0
}

fn relation(from: &str, kind: &str, to: &str) -> Value {
    json!({ "spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to })
}

/// A name as a part of a URI.
fn file_name(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "-._".contains(c) { c } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::is_expression;

    #[test]
    fn expressions() {
        for text in [
            "MIT",
            "(MIT OR Apache-2.0)",
            "GPL-2.0-only WITH Classpath-exception-2.0",
            "MIT AND (ISC OR 0BSD)",
        ] {
            assert!(is_expression(text), "{text}");
        }
        for text in [
            "",
            "BSD",
            "MIT License",
            "MIT OR",
            "OR MIT",
            "(MIT",
            "MIT)",
            "MIT ISC",
            "MIT WITH ISC",
            "()",
            "SEE LICENSE IN x",
        ] {
            assert!(!is_expression(text), "{text}");
        }
    }
}
