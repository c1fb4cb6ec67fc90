//! CycloneDX 1.5 (cyclonedx.org/docs/1.5/json).

use super::license::is_expression;
use super::{Subject, seconds, uuid};
use naru_wire::analysis::{Analysis, Ecosystem, Package};
use serde_json::{Value, json};

pub fn render(subject: &Subject<'_>, analysis: &Analysis) -> Value {
    let system = operating_system(&analysis.distribution);
    let components: Vec<Value> = system.into_iter().chain(analysis.packages.iter().map(component)).collect();
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
            "properties": properties("naru:note", &analysis.notes),
        },
        "components": components,
    })
}

/// `debian 12`. Scanners take from it where to look for the vulnerabilities of the system's packages.
fn operating_system(distribution: &str) -> Option<Value> {
    let (name, version) = distribution.split_once(' ').unwrap_or((distribution, ""));
    let mut system =
        json!({ "type": "operating-system", "bom-ref": format!("os:{distribution}"), "name": name });
    if !version.is_empty() {
        system["version"] = json!(version);
    }
    (!name.is_empty()).then_some(system)
}

fn component(package: &Package) -> Value {
    let split = match package.ecosystem {
        Ecosystem::Npm if package.name.starts_with('@') => package.name.split_once('/'),
        Ecosystem::Maven => package.name.split_once(':'),
        _ => None,
    };
    let (group, name) = split.unwrap_or(("", &package.name));
    let mut component = json!({
        "type": "library",
        "bom-ref": package.purl,
        "name": name,
        "purl": package.purl,
        "properties": properties("naru:location", package.locations.iter().map(|path| format!("/{path}"))),
    });
    if !package.version.is_empty() {
        component["version"] = json!(package.version);
    }
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

fn properties(name: &str, values: impl IntoIterator<Item = impl AsRef<str>>) -> Vec<Value> {
    values.into_iter().map(|value| json!({ "name": name, "value": value.as_ref() })).collect()
}
