//! SPDX 2.3 (spdx.github.io/spdx-spec/v2.3).

use super::license::is_expression;
use super::{Subject, seconds, uuid};
use naru_wire::analysis::{Analysis, Package};
use serde_json::{Value, json};

pub fn render(subject: &Subject<'_>, analysis: &Analysis) -> Value {
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
    for (number, item) in analysis.packages.iter().enumerate() {
        let id = format!("SPDXRef-Package-{}-{}", item.ecosystem.name(), number + 1);
        relationships.push(relation("SPDXRef-Image", "CONTAINS", &id));
        listed.push(package(&id, item));
    }
    let mut document = json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": subject.name,
        "documentNamespace": format!("https://spdx.org/spdxdocs/{}-{}", uri_part(subject.name), uuid(subject)),
        "creationInfo": {
            "created": seconds(subject.now),
            "creators": [concat!("Tool: naru-", env!("CARGO_PKG_VERSION"))],
        },
        "documentDescribes": ["SPDXRef-Image"],
        "packages": listed,
        "relationships": relationships,
    });
    if !analysis.notes.is_empty() {
        document["comment"] = json!(analysis.notes.join("\n"));
    }
    document
}

fn package(id: &str, package: &Package) -> Value {
    let declared = if is_expression(&package.license) { &package.license } else { "NOASSERTION" };
    let mut value = json!({
        "SPDXID": id,
        "name": package.name,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": declared,
        "copyrightText": "NOASSERTION",
        "sourceInfo": format!("found in: /{}", package.locations.join(", /")),
        "externalRefs": [{
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": package.purl,
        }],
    });
    if !package.version.is_empty() {
        value["versionInfo"] = json!(package.version);
    }
    if declared == "NOASSERTION" && !package.license.is_empty() {
        value["licenseComments"] = json!(format!("the package says: {}", package.license));
    }
    value
}

fn relation(from: &str, kind: &str, to: &str) -> Value {
    json!({ "spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to })
}

/// A name as a part of a URI.
fn uri_part(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "-._".contains(c) { c } else { '-' }).collect()
}
