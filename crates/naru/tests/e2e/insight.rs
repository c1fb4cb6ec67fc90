//! `naru image analyze` on an image that the stock CLI built: files as npm and pip leave them, some of them removed by a later layer.

use crate::lab::Lab;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

pub const TESTS: &[(&str, fn(&Lab))] = &[("an_image_says_what_is_in_it", analysis)];

const DOCKERFILE: &str = "\
FROM busybox
COPY app /app
COPY python /usr/local/lib/python3.12
COPY big /big
RUN rm -r /big /app/node_modules/gone && ln -s /etc/hostname /app/node_modules/kept/link
";
/// What the built image has, and nothing else.
const PURLS: [&str; 5] = [
    "pkg:npm/%40scope/inner@2.0.0-rc.1",
    "pkg:npm/kept@1.0.0",
    "pkg:npm/nested@3.0.0",
    "pkg:pypi/zope-interface@6.4",
    "pkg:pypi/flask@3.0.3",
];
const BIG_BYTES: usize = 600 * 1024;

fn analysis(lab: &Lab) {
    let context = lab.dir.join("analysis");
    fill(&context);
    lab.ok(&["build", "-q", "-t", "insight:1", &context.display().to_string()]);
    let naru = |args: &[&str]| {
        let args = [&["image", "analyze"], args, &["insight:1"]].concat();
        lab.naru(&args, &lab.dir).expect(0, "analyze").stdout
    };
    let found: Value = serde_json::from_str(&naru(&["--format", "json"])).unwrap();
    let list = |value: &Value, key: &str| -> BTreeSet<String> {
        value
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item[key].as_str().unwrap_or_default().to_owned())
            .collect()
    };
    assert_eq!(list(&found["packages"], "purl"), PURLS.map(str::to_owned).into());
    assert_eq!(found["waste"]["files"][0]["path"], "big");
    assert_eq!(found["waste"]["files"][0]["bytes"], BIG_BYTES);
    assert_eq!(found["layers"].as_array().unwrap().len(), 5);
    assert!(found["advice"].to_string().contains("removed by a later one"), "{found:#}");

    let table = naru(&[]);
    for part in
        ["insight:1: ", "5 layers, ", "COPY big /big", "removed by 5", "3 npm, 2 pypi", "\nAdvice\n* 614kB: "]
    {
        assert!(table.contains(part), "{part}: {table}");
    }
    let bill = lab.dir.join("insight.spdx.json").display().to_string();
    assert_eq!(naru(&["--format", "spdx-json", "--output", &bill]), "");
    let spdx: Value = serde_json::from_slice(&std::fs::read(&bill).unwrap()).unwrap();
    let references: Vec<&Value> = spdx["packages"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|item| item.pointer("/externalRefs/0"))
        .collect();
    assert_eq!(spdx["spdxVersion"], "SPDX-2.3");
    assert_eq!(
        references.iter().map(|item| item["referenceLocator"].as_str().unwrap()).collect::<BTreeSet<_>>(),
        PURLS.into()
    );
    let bom: Value = serde_json::from_str(&naru(&["--format", "cyclonedx-json"])).unwrap();
    assert_eq!(bom["specVersion"], "1.5");
    // The operating system is a component as well, without a package URL.
    let system = [String::new()];
    assert_eq!(
        list(&bom["components"], "purl"),
        PURLS.map(str::to_owned).into_iter().chain(system).collect()
    );

    let missing = lab.naru(&["image", "analyze", "nothing:1"], &lab.dir).expect(1, "no such image");
    assert!(missing.stderr.contains("nothing:1"), "{missing:?}");
    lab.ok(&["rmi", "insight:1"]);
    std::fs::remove_dir_all(&context).unwrap();
    std::fs::remove_file(&bill).unwrap();
}

fn fill(context: &Path) {
    let write = |path: &str, text: &[u8]| {
        let path = context.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let package = |path: &str, name: &str, version: &str| {
        let text = format!(
            r#"{{"name": "{name}", "version": "{version}", "license": "MIT", "dependencies": {{}}}}"#
        );
        write(&format!("app/{path}/package.json"), text.as_bytes());
    };
    write("Dockerfile", DOCKERFILE.as_bytes());
    write("big", &vec![b'x'; BIG_BYTES]);
    package(".", "app", "0.1.0");
    package("node_modules/kept", "kept", "1.0.0");
    package("node_modules/kept/node_modules/nested", "nested", "3.0.0");
    package("node_modules/kept/test/fixtures/node_modules/no", "no", "1.0.0");
    package("node_modules/@scope/inner", "@scope/inner", "2.0.0-rc.1");
    package("node_modules/gone", "gone", "1.0.0");
    write("app/node_modules/.package-lock.json", b"{}");
    let python = |path: &str, text: &str| write(&format!("python/site-packages/{path}"), text.as_bytes());
    python(
        "zope.interface-6.4.dist-info/METADATA",
        "Metadata-Version: 2.1\nName: zope.interface\nVersion: 6.4\n\nName: no\n",
    );
    python("flask-3.0.3.dist-info/METADATA", "Metadata-Version: 2.1\nName: Flask\nVersion: 3.0.3\n");
    python("setuptools/_vendor/no-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: no\nVersion: 1.0\n");
}
