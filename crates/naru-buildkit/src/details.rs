//! google.rpc.Status with the lines of the Dockerfile that failed, which the client prints below the error.
//!
//! BuildKit packs typed errors as JSON into protobuf's Any (util/grpcerrors); its `errdefs.Source` is one of them.

use crate::wire::Out;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The longest Dockerfile that goes with an error, in bytes: it travels in a header.
const SOURCE_BYTES_MAX: usize = 64 << 10;

const SOURCE_TYPE: &str = "github.com/moby/buildkit/errdefs.Source+json";

/// A place in a Dockerfile, with its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt {
    pub file: String,
    pub text: String,
    /// From one.
    pub line: usize,
    pub end: usize,
}

/// The encoded google.rpc.Status.
pub fn status(code: u32, message: &str, excerpt: Option<&Excerpt>) -> Out {
    let status = Out::default().number(1, code.into()).text(2, message);
    match excerpt.filter(|excerpt| excerpt.text.len() <= SOURCE_BYTES_MAX) {
        Some(excerpt) => status.message(3, &source(excerpt)),
        None => status,
    }
}

fn source(excerpt: &Excerpt) -> Out {
    let json = serde_json::json!({
        "info": { "filename": excerpt.file, "data": STANDARD.encode(&excerpt.text), "language": "Dockerfile" },
        "ranges": [{ "start": { "line": excerpt.line }, "end": { "line": excerpt.end } }],
    });
    Out::default().text(1, SOURCE_TYPE).text(2, &json.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_json_in_an_any() {
        let excerpt = Excerpt { file: "Dockerfile".into(), text: "FROM a\n".into(), line: 1, end: 1 };
        let bytes = status(2, "failed", Some(&excerpt)).0;
        let text = String::from_utf8_lossy(&bytes);
        assert!(
            text.contains(r#""data":"RlJPTSBhCg==""#) && text.contains(r#""start":{"line":1}"#),
            "{text}"
        );
        let big = Excerpt { text: "#".repeat(SOURCE_BYTES_MAX + 1), ..excerpt };
        assert_eq!(status(2, "failed", Some(&big)).0, status(2, "failed", None).0);
    }
}
