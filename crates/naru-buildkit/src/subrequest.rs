//! Questions about a Dockerfile that build nothing: `frontend.lint`, which `--check` asks.

use crate::error::{Error, Result};
use crate::server::Shared;
use crate::wire::Out;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use naru_build::{BuildRequest, LintReport, LintWarning};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

const LINT: &str = "frontend.lint";
/// Of the answer's form.
const VERSION: &str = "1.0.0";

/// Whether a build is asked for, or something about it.
pub fn is_asked(attributes: &BTreeMap<String, String>) -> Result<bool> {
    match attributes.get("requestid").map(String::as_str) {
        None | Some("") => Ok(false),
        Some(LINT) => Ok(true),
        Some(other) => {
            let what = format!("the build's subrequest {other:?}");
            Err(Error::Unsupported { what, hint: "of --call, naru knows check" })
        }
    }
}

/// moby.buildkit.v1.frontend.Result, all of it metadata.
pub async fn lint(shared: Arc<Shared>, wanted: BuildRequest) -> Result<Out> {
    let checked = tokio::task::spawn_blocking(move || shared.builder.check(&wanted));
    let report = checked.await.map_err(|_| Error::Broken)??;
    let status = u8::from(!report.warnings.is_empty()).to_string();
    let json = serde_json::to_string_pretty(&in_json(&report)).map_err(|_| Error::Broken)?;
    let metadata = [
        ("result.json", json.as_str()),
        ("result.txt", &in_words(&report)),
        ("result.statuscode", &status),
        ("version", VERSION),
    ];
    Ok(metadata.iter().fold(Out::default(), |out, (key, value)| out.entry(10, key, value)))
}

/// BuildKit's LintResults (frontend/subrequests/lint).
fn in_json(report: &LintReport) -> Value {
    let warning = |warning: &LintWarning| {
        json!({
            "ruleName": warning.rule,
            "description": warning.description,
            "url": warning.url,
            "detail": warning.detail,
            "location": {
                "ranges": [{ "start": { "line": warning.first_line }, "end": { "line": warning.last_line } }]
            },
        })
    };
    json!({
        "warnings": report.warnings.iter().map(warning).collect::<Vec<_>>(),
        "sources": [{
            "filename": report.file,
            "data": STANDARD.encode(&report.text),
            "language": "Dockerfile",
        }],
    })
}

fn in_words(report: &LintReport) -> String {
    let mut words = String::new();
    for LintWarning { rule, url, detail, first_line, .. } in &report.warnings {
        // Writing to a String cannot fail.
        let _ = writeln!(words, "\nWARNING: {rule} - {url}\n{detail}\n{}:{first_line}", report.file);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_what_clients_parse() {
        let warning = LintWarning {
            rule: "MaintainerDeprecated",
            description: "Old",
            url: "https://example.com".into(),
            detail: "Use a label".into(),
            first_line: 2,
            last_line: 3,
        };
        let report =
            LintReport { warnings: vec![warning], file: "Dockerfile".into(), text: "FROM a\n".into() };
        let json = in_json(&report);
        assert_eq!(json["warnings"][0]["location"]["ranges"][0]["end"]["line"], 3);
        assert_eq!(json["sources"][0]["data"], "RlJPTSBhCg==");
        assert_eq!(
            in_words(&report),
            "\nWARNING: MaintainerDeprecated - https://example.com\nUse a label\nDockerfile:2\n"
        );
        let asked = |text: &str| is_asked(&BTreeMap::from([("requestid".to_owned(), text.to_owned())]));
        assert!(asked(LINT).unwrap() && !asked("").unwrap() && asked("frontend.outline").is_err());
    }
}
