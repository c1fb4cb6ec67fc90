//! `inspect` and `diff`.

use super::image::encode_name;
use crate::client::{Api, escape};
use crate::flags::{ImageInspectFlags, InspectFlags};
use crate::template::Template;
use crate::{Outcome, output};
use naru_types::{Error, Kind, Result};
use serde_json::Value;

/// In the order in which Docker looks a name up.
const KINDS: [&str; 4] = ["container", "image", "network", "volume"];

pub fn inspect(api: &Api, flags: &InspectFlags) -> Outcome {
    let find = |name: &str| find(api, name, flags.kind.as_deref());
    show(&flags.names, flags.format.as_deref(), find)
}

pub fn image(api: &Api, flags: &ImageInspectFlags) -> Outcome {
    show(&flags.images, flags.format.as_deref(), |name| find(api, name, Some("image")))
}

fn find(api: &Api, name: &str, kind: Option<&str>) -> Result<Value> {
    for candidate in KINDS.iter().filter(|candidate| kind.is_none_or(|kind| kind == **candidate)) {
        let path = match *candidate {
            "container" => format!("/containers/{}/json", escape(name)),
            "image" => format!("/images/{}/json", encode_name(name)),
            "network" => format!("/networks/{}", escape(name)),
            _ => format!("/volumes/{}", escape(name)),
        };
        match api.get(&path) {
            Err(error) if error.kind() == Kind::NotFound && kind.is_none() => {}
            // An odd name is no valid image reference; another kind may have it.
            Err(error) if error.kind() == Kind::InvalidInput && kind.is_none() => {}
            other => return other,
        }
    }
    Err(Error::not_found(format!("No such object: {name}")))
}

/// Prints what was found, as one JSON array or one line per template, and says what wasn't; Docker's way.
pub fn show(names: &[String], format: Option<&str>, find: impl Fn(&str) -> Result<Value>) -> Outcome {
    let template = format.map(Template::parse).transpose()?;
    let (mut found, mut code) = (Vec::new(), 0);
    for name in names {
        match find(name) {
            Ok(value) => found.push(value),
            Err(error) => {
                output::print_error(&error);
                code = 1;
            }
        }
    }
    match template {
        Some(template) => {
            for value in &found {
                output::line(template.render(value)?);
            }
        }
        None => {
            let text = serde_json::to_string_pretty(&found)
                .map_err(|error| Error::internal("cannot print JSON").with_source(error))?;
            output::line(text);
        }
    }
    Ok(code)
}

pub fn diff(api: &Api, container: &str) -> Outcome {
    let changes = api.get(&format!("/containers/{}/changes", escape(container)))?;
    for change in changes.as_array().into_iter().flatten() {
        let letter = match change["Kind"].as_u64() {
            Some(0) => 'C',
            Some(1) => 'A',
            _ => 'D',
        };
        output::line(format_args!("{letter} {}", change["Path"].as_str().unwrap_or_default()));
    }
    Ok(0)
}
