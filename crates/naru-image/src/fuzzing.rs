//! Doors for the fuzz targets: parsers that are no part of the interface, each with what must hold for it.

use crate::registry::auth::{Challenge, parse_challenge, query_value};
use crate::registry::manifest::{self, Document};
use crate::split;
use naru_types::platform::Platform;
use std::path::Path;

/// Reads a manifest or an index; what is written of it again must mean the same. `Ok(false)`: refused.
pub fn manifest(bytes: &[u8], content_type: Option<&str>) -> Result<bool, String> {
    let Ok(document) = manifest::parse(bytes, content_type, "x") else { return Ok(false) };
    let (media_type, written) = match &document {
        Document::Image(image) => (&image.media_type, serde_json::to_value(image)),
        Document::List(list) => {
            // Whichever it is: no panic.
            let _ = manifest::choose(list, &Platform::host());
            (&list.media_type, serde_json::to_value(list))
        }
    };
    let written = written.map_err(|error| format!("can't be written again: {error}"))?;
    // What names no mediaType goes by the Content-Type; naru's own always name it.
    let again = manifest::parse(written.to_string().as_bytes(), Some(media_type), "x");
    let again = again.map_err(|error| format!("not read again: {error}"))?;
    let again = match &again {
        Document::Image(image) => serde_json::to_value(image),
        Document::List(list) => serde_json::to_value(list),
    };
    let again = again.map_err(|error| format!("can't be written again: {error}"))?;
    if again == written { Ok(true) } else { Err(format!("{written} became {again}")) }
}

/// The realm, service and scope of a bearer challenge.
pub fn challenge(header: &str) -> Option<(String, Option<String>, Option<String>)> {
    match parse_challenge(header)? {
        Challenge::Basic => None,
        Challenge::Bearer { realm, service, scope } => Some((realm, service, scope)),
    }
}

pub fn percent_encoded(text: &str) -> String {
    query_value(text)
}

/// The archive of a stored layer, written again.
pub fn written_again(layer_dir: &Path) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    split::write_tar(layer_dir, &mut out).map_err(|error| error.to_string())?;
    Ok(out)
}
