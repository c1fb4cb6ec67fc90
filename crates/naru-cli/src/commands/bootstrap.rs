//! `image bootstrap`.

use crate::client::{Api, Body};
use crate::flags::BootstrapFlags;
use crate::{Outcome, output};
use base64::Engine as _;
use naru_types::Error;
use naru_wire::naru::Bootstrap;

/// Progress on stderr, the image's id on stdout.
pub fn bootstrap(api: &Api, flags: &BootstrapFlags) -> Outcome {
    let keyring = match &flags.keyring {
        Some(path) => {
            let bytes = std::fs::read(path).map_err(|error| {
                Error::invalid(format!("cannot read the keyring {path}")).with_source(error)
            })?;
            Some(base64::engine::general_purpose::STANDARD.encode(bytes))
        }
        None => None,
    };
    let wanted = Bootstrap {
        base: flags.base.clone(),
        tag: flags.tag.clone().unwrap_or_default(),
        mirror: flags.mirror.clone(),
        keyring,
        include: flags.include.clone(),
        snapshot: flags.snapshot.clone(),
    };
    let body = serde_json::to_value(&wanted)
        .map_err(|error| Error::internal("cannot write the request").with_source(error))?;
    let response = api.stream("POST", "/naru/v1/images/bootstrap", Body::Json(body))?;
    let id = output::build_progress(response, flags.quiet)?;
    output::line(id.ok_or_else(|| Error::internal("the daemon did not say which image it made"))?);
    Ok(0)
}
