//! naru's own API, under `/naru/v1`: routes, deploys, alerts, settings.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `GET /naru/v1/routes`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Routes {
    pub routes: Vec<Route>,
    /// `idle`, `serving` or `failed`.
    pub proxy: String,
    /// Why the proxy failed; empty otherwise.
    pub proxy_error: String,
    /// Where plain HTTP is served, `address:port`; empty when unknown.
    pub http: String,
    /// Where HTTPS is served, `address:port`; empty when unknown.
    pub https: String,
    /// Labels that could not be followed, one sentence each.
    pub problems: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Route {
    pub host: String,
    pub path_prefix: String,
    pub service: String,
    /// `address:port` of each container behind it.
    pub backends: Vec<String>,
}

/// `POST /naru/v1/deploys`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeployStart {
    pub project: String,
    pub services: Vec<String>,
}

/// The answer to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployStarted {
    pub id: i64,
}

/// `POST /naru/v1/deploys/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployFinish {
    pub status: DeployOutcome,
    /// What failed, with [`DeployOutcome::Failed`].
    #[serde(default)]
    pub error: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeployOutcome {
    Succeeded,
    Failed,
}

/// One of `GET /naru/v1/deploys`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Deploy {
    pub id: i64,
    pub project: String,
    pub services: Vec<String>,
    /// `running`, `succeeded` or `failed`.
    pub status: String,
    pub error: String,
    /// RFC 3339.
    pub started_at: String,
    /// RFC 3339; empty while it runs.
    pub finished_at: String,
}

/// One of `GET /naru/v1/alerts`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Alert {
    pub id: i64,
    pub title: String,
    /// RFC 3339.
    pub at: String,
    /// How often the same thing was seen while this alert stood for it.
    pub seen: u64,
    /// `pending`, `sent`, `failed` or `no-webhook`.
    pub status: String,
    pub error: String,
}

/// `GET /naru/v1/settings`. Secrets are told by their presence only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    pub has_webhook: bool,
}

/// `PUT /naru/v1/settings`: a key that is absent leaves the setting as it is.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SettingsChange {
    /// The Discord webhook's address; the empty string forgets the stored one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<String>,
}

/// The address is a password, so it is not shown.
impl std::fmt::Debug for SettingsChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SettingsChange").field("webhook", &self.webhook.as_ref().map(|_| "****")).finish()
    }
}

/// What `naru build` sends with `POST /build` beyond Docker's interface, as base64 of its JSON in the header
/// [`BUILD_EXTRAS_HEADER`]. No `Debug`: it holds secrets.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BuildExtras {
    /// Values in base64, by name.
    pub secrets: BTreeMap<String, String>,
    /// Sockets of SSH agents on the daemon's host, by name.
    pub ssh: BTreeMap<String, String>,
    /// Named contexts that are images.
    pub images: BTreeMap<String, String>,
    /// Named contexts that are directories. Where there are any, the archive holds the context beneath
    /// `context/` and the directory called `directories[N]` beneath `directories/N/`.
    pub directories: Vec<String>,
    /// `RUN --network=host` may have it.
    pub host_network: bool,
    /// Nothing is built; the answer is an `aux` message with the findings.
    pub check: bool,
    /// The context is read where it is. The archive then holds only the Dockerfile and, as `<Dockerfile>.dockerignore`, the
    /// rules. A daemon that can't or mustn't read it there says [`CONTEXT_ELSEWHERE`] before anything else.
    pub in_place: Option<InPlace>,
}

/// A directory of the machine that the daemon runs on, and what shows that the daemon sees the same one by that name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InPlace {
    /// Absolute, without links.
    pub path: String,
    pub device: u64,
    pub inode: u64,
    /// `/proc/sys/kernel/random/boot_id`: another machine may have the same path and numbers.
    pub boot: String,
}

/// The message of the refusal after which the client sends the context.
pub const CONTEXT_ELSEWHERE: &str = "the build context cannot be read in place";

pub const BUILD_EXTRAS_HEADER: &str = "X-Naru-Build";

/// The findings of `naru build --check`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BuildCheck {
    pub warnings: Vec<BuildWarning>,
    pub file: String,
    pub text: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct BuildWarning {
    pub rule_name: String,
    pub description: String,
    pub url: String,
    pub detail: String,
    /// From one.
    pub first_line: usize,
    pub last_line: usize,
}

/// A line of the answer to `POST /naru/v1/images/verify`: one of these is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VerifyLine {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageVerdict>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repair: Option<ImageRepair>,
    /// The last line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<VerifySummary>,
}

/// Whether an image is what its digests say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageVerdict {
    pub id: String,
    pub names: Vec<String>,
    /// Empty: sound.
    pub damage: Vec<ImageDamage>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageDamage {
    /// `config`, `manifest` or `layer`.
    pub part: String,
    pub digest: String,
    /// The file in the layer, where it can be named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    pub what: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageRepair {
    pub id: String,
    /// Why it could not be healed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VerifySummary {
    pub images: usize,
    /// Images that are damaged still.
    pub damaged: usize,
    pub layers: usize,
    /// Of the archives that were hashed.
    pub bytes: u64,
    /// Of layers that only the build cache holds.
    pub cache: Vec<ImageDamage>,
}

/// The `aux` that the stream of `POST /naru/v1/images/copy` ends with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageCopied {
    /// Of the manifest or list that the new name points to.
    pub digest: String,
    /// Of the same, in bytes.
    pub size: u64,
    /// Manifests that the target lacked.
    pub manifests: u64,
    /// Blobs that were downloaded and uploaded, and their bytes.
    pub streamed: u64,
    pub streamed_bytes: u64,
    /// Blobs that the registry took over from its other repository.
    pub mounted: u64,
    /// Blobs that the target had.
    pub present: u64,
}

/// `GET /naru/v1/images/referrers`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageReferrers {
    /// The digest that is referred to.
    pub subject: String,
    pub referrers: Vec<ImageReferrer>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageReferrer {
    pub digest: String,
    pub artifact_type: String,
    pub media_type: String,
    /// Of the manifest, in bytes.
    pub size: u64,
    pub annotations: BTreeMap<String, String>,
}

/// `image-gc` of `daemon.json`, and the body of `POST /naru/v1/images/gc`. What is absent sets no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ImageGcPolicy {
    /// Unpacked bytes of all layers: `20g`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_bytes: Option<String>,
    /// Since an image was pulled, made or named: `720h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age: Option<String>,
    /// Images of one repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_repository: Option<usize>,
    /// How full the disk may be: `85%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<String>,
}

/// The answer of `POST /naru/v1/images/gc`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageGcReport {
    /// Nothing was removed: this is what would be.
    pub dry_run: bool,
    pub images: Vec<ImageGcItem>,
    /// Unpacked bytes of all layers that went.
    pub bytes: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageGcItem {
    pub id: String,
    pub names: Vec<String>,
    /// `age`, `per-repository`, `bytes` or `disk`: the limit that it was over.
    pub reason: String,
    pub bytes: u64,
}

/// `POST /naru/v1/images/bootstrap`; the answer is a stream of [`crate::message::Message`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bootstrap {
    /// `debian:bookworm`, or `busybox`.
    pub base: String,
    /// The image's name; empty: `base`.
    pub tag: String,
    pub mirror: Option<String>,
    /// OpenPGP keys in base64.
    pub keyring: Option<String>,
    pub include: Vec<String>,
    /// Such as `20250520T000000Z`.
    pub snapshot: Option<String>,
}
