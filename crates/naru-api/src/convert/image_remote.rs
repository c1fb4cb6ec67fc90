//! What is in registries, on the wire.

use naru_image::{CopiedImage, Distribution, Referrer};
use naru_types::Digest;
use naru_wire::image::{Descriptor, DistributionInspect};
use naru_wire::naru::{ImageCopied, ImageReferrer, ImageReferrers};

pub fn distribution(found: &Distribution) -> DistributionInspect {
    let manifest = &found.manifest;
    let descriptor = Descriptor {
        media_type: manifest.media_type.clone(),
        digest: manifest.digest.to_string(),
        size: manifest.bytes.len() as u64,
    };
    let platforms = (!found.platforms.is_empty()).then(|| found.platforms.clone());
    DistributionInspect { descriptor, platforms }
}

pub fn referrers(subject: &Digest, found: Vec<Referrer>) -> ImageReferrers {
    let referrer = |found: Referrer| ImageReferrer {
        digest: found.digest.to_string(),
        artifact_type: found.artifact_type,
        media_type: found.media_type,
        size: found.size,
        annotations: found.annotations,
    };
    ImageReferrers { subject: subject.to_string(), referrers: found.into_iter().map(referrer).collect() }
}

pub fn copied(image: &CopiedImage) -> ImageCopied {
    ImageCopied {
        digest: image.digest.to_string(),
        size: image.size,
        manifests: image.manifests,
        streamed: image.streamed,
        streamed_bytes: image.streamed_bytes,
        mounted: image.mounted,
        present: image.present,
    }
}
