//! The platform an image is for (OCI image-spec, image-index.md, "platform").

use serde::{Deserialize, Serialize};
use std::fmt;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub os: String,
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// The platform that this binary was built for, in Go's words.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "powerpc64" => "ppc64le",
            other => other,
        };
        Self { architecture: architecture.into(), os: "linux".into(), os_version: None, variant: None }
    }

    /// Parses `os/arch[/variant]` with the usual aliases (`x86_64`, `aarch64`).
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let (os, architecture) = (parts.next()?, parts.next()?);
        let variant = parts.next().map(str::to_owned);
        if os.is_empty() || architecture.is_empty() || parts.next().is_some() {
            return None;
        }
        let architecture = match architecture {
            "x86_64" | "x86-64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Some(Self { architecture: architecture.into(), os: os.into(), os_version: None, variant })
    }

    /// Whether an image for `self` runs on `host`: same system and architecture; a variant that is not asked for does not matter.
    pub fn runs_on(&self, host: &Platform) -> bool {
        let variant_fits = match (&self.variant, &host.variant) {
            (Some(mine), Some(theirs)) => mine == theirs,
            _ => true,
        };
        self.os == host.os && self.architecture == host.architecture && variant_fits
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}
