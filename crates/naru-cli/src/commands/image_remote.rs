//! Images in registries: `image copy`, `image referrers`, `manifest inspect`.

use crate::client::{Api, Body, query};
use crate::flags::{ImageCopyFlags, ManifestFlags, ReferrersFlags};
use crate::template::Template;
use crate::{Outcome, credentials, output, table};
use naru_types::{Error, ImageRef, Result};
use naru_wire::naru::{ImageCopied, ImageReferrers};
use serde_json::Value;
use std::io::Read;

/// What other tools write before the name of an image that is in no registry. Read as a name, it would be one on
/// Docker Hub.
const OTHER_PLACES: [&str; 4] = ["oci:", "oci-archive:", "docker-archive:", "dir:"];

pub fn copy(api: &Api, flags: &ImageCopyFlags) -> Outcome {
    let (source, target) = (in_registry(&flags.source)?, in_registry(&flags.target)?.with_default_tag());
    let parameters = query(&[
        ("from", Some(&source.to_string())),
        ("to", Some(&target.to_string())),
        ("platform", flags.platform.as_deref()),
        ("referrers", flags.referrers.then_some("1")),
    ]);
    let logins = credentials::header_for_all();
    let path = format!("/naru/v1/images/copy{parameters}");
    let answer = api.stream_with("POST", &path, Body::Empty, &[("X-Registry-Config", &logins)])?;
    let copied = output::result(answer, flags.quiet)?
        .ok_or_else(|| Error::internal("the copy ended without a result"))?;
    let copied: ImageCopied = serde_json::from_value(copied).map_err(unreadable)?;
    if !flags.quiet {
        let size = table::human_size(i64::try_from(copied.streamed_bytes).unwrap_or(i64::MAX));
        output::talk(format_args!(
            "{} manifests; {} blobs ({size}) copied, {} mounted, {} there already",
            copied.manifests, copied.streamed, copied.mounted, copied.present
        ));
    }
    output::line(format_args!("{}@{}", target.familiar(), copied.digest));
    Ok(0)
}

fn in_registry(name: &str) -> Result<ImageRef> {
    if let Some(place) = OTHER_PLACES.iter().find(|place| name.starts_with(**place)) {
        return Err(Error::invalid(format!(
            "{name}: copy goes from registry to registry, not to or from {place}"
        ))
        .with_hint(
            "naru load -i PATH and naru push NAME; or naru pull NAME and naru save --format oci -o PATH NAME",
        ));
    }
    ImageRef::parse(name.strip_prefix("docker://").unwrap_or(name))
}

pub fn referrers(api: &Api, flags: &ReferrersFlags) -> Outcome {
    let reference = in_registry(&flags.image)?;
    let kind = ("artifact-type", flags.artifact_type.as_deref());
    let answer = ask(api, "/naru/v1/images/referrers", &reference, kind)?;
    let found: ImageReferrers = serde_json::from_slice(&answer).map_err(unreadable)?;
    if let Some(format) = &flags.format {
        let template = Template::parse(format)?;
        for referrer in &found.referrers {
            let row = serde_json::to_value(referrer).map_err(unreadable)?;
            output::line(template.render(&row)?);
        }
        return Ok(0);
    }
    let rows: Vec<Vec<String>> = found
        .referrers
        .into_iter()
        .map(|one| {
            vec![
                one.digest,
                one.artifact_type,
                table::human_size(i64::try_from(one.size).unwrap_or(i64::MAX)),
            ]
        })
        .collect();
    output::raw(table::render(&["DIGEST", "ARTIFACT TYPE", "SIZE"], &rows).as_bytes());
    Ok(0)
}

pub fn manifest(api: &Api, flags: &ManifestFlags) -> Outcome {
    let reference = in_registry(&flags.image)?;
    let bytes = ask(api, "/naru/v1/images/manifest", &reference, ("", None))?;
    if flags.raw {
        output::raw(&bytes);
        return Ok(0);
    }
    let document: Value = serde_json::from_slice(&bytes).map_err(unreadable)?;
    output::line(serde_json::to_string_pretty(&document).map_err(unreadable)?);
    Ok(0)
}

fn ask(api: &Api, path: &str, reference: &ImageRef, more: (&str, Option<&str>)) -> Result<Vec<u8>> {
    let path = format!("{path}{}", query(&[("image", Some(&reference.to_string())), more]));
    let login = credentials::header_for(reference);
    let mut answer = api.stream_with("GET", &path, Body::Empty, &[("X-Registry-Auth", &login)])?;
    let mut bytes = Vec::new();
    answer
        .read_to_end(&mut bytes)
        .map_err(|error| Error::internal("the answer was cut off").with_source(error))?;
    Ok(bytes)
}

fn unreadable(error: serde_json::Error) -> Error {
    Error::internal("the daemon's answer cannot be read").with_source(error)
}
