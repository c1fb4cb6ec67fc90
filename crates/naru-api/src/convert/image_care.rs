//! Verification, repair and garbage collection of images, between the store's types and the wire's.

use naru_image::{Damage, DamagedPart, GcOutcome, GcPolicy, GcReason, Repaired, Verdict, Verified};
use naru_types::quantity::{parse_bytes, parse_duration};
use naru_types::{Error, Result};
use naru_wire::naru::{
    ImageDamage, ImageGcItem, ImageGcPolicy, ImageGcReport, ImageRepair, ImageVerdict, VerifySummary,
};

const NANOS_PER_SEC: i64 = 1_000_000_000;

pub fn verdict(verdict: &Verdict) -> ImageVerdict {
    ImageVerdict {
        id: verdict.id.to_string(),
        names: verdict.names.clone(),
        damage: verdict.damage.iter().map(damage).collect(),
    }
}

pub fn repair(repaired: &Repaired) -> ImageRepair {
    ImageRepair { id: repaired.id.to_string(), failure: repaired.failure.clone() }
}

pub fn summary(verified: &Verified, damaged: usize) -> VerifySummary {
    VerifySummary {
        images: verified.images.len(),
        damaged,
        layers: verified.layers,
        bytes: verified.bytes,
        cache: verified.cache.iter().map(damage).collect(),
    }
}

fn damage(damage: &Damage) -> ImageDamage {
    let (part, digest) = match damage.part {
        DamagedPart::Config(digest) => ("config", digest),
        DamagedPart::Manifest(digest) => ("manifest", digest),
        DamagedPart::Layer(digest) => ("layer", digest),
    };
    ImageDamage {
        part: part.into(),
        digest: digest.to_string(),
        path: damage.path.clone(),
        what: damage.what.clone(),
    }
}

pub fn gc_report(outcome: &GcOutcome, dry_run: bool) -> ImageGcReport {
    let images = outcome.images.iter().map(|image| ImageGcItem {
        id: image.id.to_string(),
        names: image.names.clone(),
        reason: match image.reason {
            GcReason::Age => "age",
            GcReason::PerRepository => "per-repository",
            GcReason::Bytes => "bytes",
            GcReason::Disk => "disk",
        }
        .into(),
        bytes: image.bytes,
    });
    ImageGcReport { dry_run, images: images.collect(), bytes: outcome.bytes }
}

/// From the daemon's configuration and from a request alike.
pub fn gc_policy(policy: &ImageGcPolicy) -> Result<GcPolicy> {
    let invalid = |key: &str, text: &str, hint: &str| {
        Error::invalid(format!("image garbage collection: invalid {key} {text:?}")).with_hint(hint.to_owned())
    };
    let bytes = |text: &String| {
        let bytes = parse_bytes(text).and_then(|bytes| u64::try_from(bytes).ok());
        bytes.ok_or_else(|| invalid("keep-bytes", text, "write a size such as 20g"))
    };
    let age = |text: &String| {
        let secs = parse_duration(text).and_then(|nanos| u64::try_from(nanos / NANOS_PER_SEC).ok());
        secs.ok_or_else(|| invalid("max-age", text, "write a duration such as 720h"))
    };
    let percent = |text: &String| {
        let number = text.strip_suffix('%').and_then(|number| number.parse().ok());
        let percent = number.filter(|percent| (1..=100).contains(percent));
        percent.ok_or_else(|| invalid("disk", text, "write a percentage such as 85%"))
    };
    Ok(GcPolicy {
        keep_bytes: policy.keep_bytes.as_ref().map(bytes).transpose()?,
        age_secs_max: policy.max_age.as_ref().map(age).transpose()?,
        per_repository_max: policy.per_repository,
        disk_percent_max: policy.disk.as_ref().map(percent).transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies() {
        let asked: ImageGcPolicy = serde_json::from_str(
            r#"{"keep-bytes": "1k", "max-age": "1h", "per-repository": 3, "disk": "85%"}"#,
        )
        .unwrap();
        let policy = gc_policy(&asked).unwrap();
        let wanted = GcPolicy {
            keep_bytes: Some(1024),
            age_secs_max: Some(3600),
            per_repository_max: Some(3),
            disk_percent_max: Some(85),
        };
        assert_eq!(policy, wanted);
        assert!(gc_policy(&ImageGcPolicy::default()).unwrap().is_off());
        for disk in ["85", "0%", "101%", "-1%"] {
            assert!(
                gc_policy(&ImageGcPolicy { disk: Some(disk.into()), ..asked.clone() }).is_err(),
                "{disk}"
            );
        }
    }
}
