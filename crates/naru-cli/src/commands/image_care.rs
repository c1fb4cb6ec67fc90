//! `naru image verify` and `naru image gc`.

use crate::client::{Api, Body, query};
use crate::flags::{ImageGcFlags, VerifyFlags};
use crate::{Outcome, credentials, output, table};
use naru_types::{Error, Result};
use naru_wire::naru::{
    ImageDamage, ImageGcPolicy, ImageGcReport, ImageRepair, ImageVerdict, VerifyLine, VerifySummary,
};

/// Exit code 1 when anything is damaged and was not healed.
pub fn verify(api: &Api, flags: &VerifyFlags) -> Outcome {
    let mut parameters: Vec<(&str, Option<&str>)> =
        flags.images.iter().map(|image| ("image", Some(image.as_str()))).collect();
    parameters.push(("repair", flags.repair.then_some("1")));
    let path = format!("/naru/v1/images/verify{}", query(&parameters));
    let credentials = credentials::header_for_all();
    let headers = [("X-Registry-Config", credentials.as_str())];
    let answer = api.stream_with("POST", &path, Body::Empty, &headers)?;
    let mut summary = None;
    output::messages(answer, |message| {
        let line: VerifyLine = serde_json::from_value(message.clone()).unwrap_or_default();
        if let Some(image) = line.image {
            show_verdict(&image, flags.quiet);
        }
        if let Some(repair) = line.repair {
            show_repair(&repair);
        }
        summary = line.summary.or(summary.take());
    })?;
    let summary: VerifySummary =
        summary.ok_or_else(|| Error::internal("the verification ended without a result"))?;
    for damage in &summary.cache {
        output::line(format_args!("build cache: {}", sentence(damage)));
    }
    output::talk(format_args!(
        "{} images, {} layers, {} verified",
        summary.images,
        summary.layers,
        table::human_size(i64::try_from(summary.bytes).unwrap_or(i64::MAX))
    ));
    if !summary.cache.is_empty() {
        output::talk("hint: empty the build cache (docker builder prune) and build again");
    }
    if summary.damaged > 0 && !flags.repair {
        output::talk("hint: naru image verify --repair fetches again what a registry holds");
    }
    Ok(u8::from(summary.damaged > 0 || !summary.cache.is_empty()).into())
}

fn show_verdict(image: &ImageVerdict, quiet: bool) {
    let name = image.names.first().unwrap_or(&image.id);
    if image.damage.is_empty() {
        if !quiet {
            output::line(format_args!("{name}: ok"));
        }
        return;
    }
    output::line(format_args!("{name}: damaged"));
    for damage in &image.damage {
        output::line(format_args!("  {}", sentence(damage)));
    }
}

fn sentence(damage: &ImageDamage) -> String {
    let digest: String = damage.digest.trim_start_matches("sha256:").chars().take(12).collect();
    match &damage.path {
        Some(path) => format!("{} {digest}: {path} {}", damage.part, damage.what),
        None => format!("{} {digest}: {}", damage.part, damage.what),
    }
}

fn show_repair(repair: &ImageRepair) {
    let id: String = repair.id.trim_start_matches("sha256:").chars().take(12).collect();
    match &repair.failure {
        None => output::line(format_args!("{id}: repaired")),
        Some(why) => output::line(format_args!("{id}: not repaired: {why}")),
    }
}

pub fn gc(api: &Api, flags: &ImageGcFlags) -> Outcome {
    let policy = ImageGcPolicy {
        keep_bytes: flags.keep_bytes.clone(),
        max_age: flags.max_age.clone(),
        per_repository: flags.per_repository,
        disk: flags.disk.clone(),
    };
    let report = ask(api, &policy, flags.dry_run)?;
    for image in &report.images {
        let name = image.names.first().unwrap_or(&image.id);
        let size = table::human_size(i64::try_from(image.bytes).unwrap_or(i64::MAX));
        output::line(format_args!("{name} ({}, {size})", image.reason));
    }
    let size = table::human_size(i64::try_from(report.bytes).unwrap_or(i64::MAX));
    let word = if report.dry_run { "would be freed" } else { "freed" };
    output::talk(format_args!("{} images, {size} {word}", report.images.len()));
    Ok(0)
}

fn ask(api: &Api, policy: &ImageGcPolicy, dry_run: bool) -> Result<ImageGcReport> {
    let path = format!("/naru/v1/images/gc{}", query(&[("dry-run", dry_run.then_some("1"))]));
    let body = serde_json::to_value(policy)
        .map_err(|error| Error::internal("cannot write the policy").with_source(error))?;
    let answer = api.post(&path, Some(&body))?;
    serde_json::from_value(answer)
        .map_err(|error| Error::internal("the daemon's answer cannot be read").with_source(error))
}
