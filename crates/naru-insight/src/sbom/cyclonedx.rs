//! CycloneDX 1.5 (cyclonedx.org/docs/1.5/json).

use super::spdx::is_expression;
use super::{Subject, seconds, uuid};
use crate::packages::{Ecosystem, Package};
use serde_json::{Value, json};

pub fn render(subject: &Subject<'_>, packages: &[Package]) -> Value {
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": format!("urn:uuid:{}", uuid(subject)),
        "version": 1,
        "metadata": {
            "timestamp": seconds(subject.now),
            "tools": { "components": [{ "type": "application", "name": "naru", "version": env!("CARGO_PKG_VERSION") }] },
            "component": {
                "type": "container",
                "bom-ref": format!("sha256:{}", subject.id),
                "name": subject.name,
                "version": format!("sha256:{}", subject.id),
            },
        },
        "components": packages.iter().map(component).collect::<Vec<_>>(),
    })
}

fn component(package: &Package) -> Value {
    let (group, name) = match package.ecosystem {
        Ecosystem::Npm if package.name.starts_with('@') => {
            package.name.split_once('/').unwrap_or(("", &package.name))
        }
        Ecosystem::Maven => package.name.split_once(':').unwrap_or(("", &package.name)),
        _ => ("", package.name.as_str()),
    };
    let mut component = json!({
        "type": "library",
        "bom-ref": package.purl,
        "name": name,
        "version": package.version,
        "purl": package.purl,
        "properties": package.locations.iter().map(|path| json!({ "name": "naru:location", "value": format!("/{path}") })).collect::<Vec<_>>(),
    });
    if !group.is_empty() {
        component["group"] = json!(group);
    }
    if is_expression(&package.license) {
        component["licenses"] = json!([{ "expression": package.license }]);
    } else if !package.license.is_empty() {
        component["licenses"] = json!([{ "license": { "name": package.license } }]);
    }
    component
}
