//! The registry (Debian's docker-registry) and the images in it, made of this machine's own files: the same files in the
//! same order give the same layers.

use super::Images;
use crate::Result;
use crate::bundle::Lab;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const LAYERS: usize = 4;
/// Of all layers together.
const ENTRIES_MAX: usize = 27_000;
const BYTES_MAX: u64 = 450_000_000;
/// One large file would make a layer of its own.
const FILE_BYTES_MAX: u64 = 20_000_000;
const FROM: [&str; 3] = ["/usr/lib", "/usr/share", "/usr/bin"];
const START_S_MAX: u64 = 30;
const POLL_MS: u64 = 20;

pub struct Registry {
    child: Child,
    address: String,
    described: std::cell::RefCell<String>,
}

impl Registry {
    pub fn start(lab: &Lab) -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let address = format!("127.0.0.1:{port}");
        let config = lab.dir.join("registry.yml");
        let text = format!(
            "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n",
            lab.dir.join("registry").display()
        );
        fs::write(&config, text)?;
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let registry = Self { child, address, described: std::cell::RefCell::default() };
        let deadline = Instant::now() + Duration::from_secs(START_S_MAX);
        while TcpStream::connect(&registry.address).is_err() {
            if Instant::now() > deadline {
                return Err("docker-registry does not answer".into());
            }
            std::thread::sleep(Duration::from_millis(POLL_MS));
        }
        Ok(registry)
    }

    /// What the images are, for the reader of the figures.
    pub fn described(&self) -> String {
        self.described.borrow().clone()
    }

    /// Makes both images, as an OCI layout, and has skopeo push them.
    pub fn fill(&self, lab: &Lab) -> Result<Images> {
        let layout = lab.dir.join("layout");
        fs::create_dir_all(layout.join("blobs/sha256"))?;
        fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
        let shares = shares()?;
        let entries: usize = shares.iter().map(Vec::len).sum();
        let mut layers = Vec::new();
        for (at, share) in shares.iter().enumerate() {
            layers.push(layer(lab, &layout, share, at)?);
        }
        let (compressed, plain) =
            layers.iter().fold((0, 0), |sum, layer| (sum.0 + layer.size, sum.1 + layer.plain_size));
        *self.described.borrow_mut() = format!(
            "The image: {LAYERS} layers, {entries} entries, {:.0} MB of tar, {:.0} MB of gzip.",
            plain as f64 / 1e6,
            compressed as f64 / 1e6
        );
        let manifests = [("half", LAYERS / 2), ("whole", LAYERS)]
            .map(|(name, count)| manifest(&layout, name, &layers[..count]));
        let manifests = manifests.into_iter().collect::<Result<Vec<Value>>>()?;
        let index = json!({"schemaVersion": 2, "manifests": manifests});
        fs::write(layout.join("index.json"), index.to_string())?;
        for name in ["half", "whole"] {
            let mut command = Command::new("skopeo");
            command.args(["copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false"]);
            command
                .arg(format!("oci:{}:{name}", layout.display()))
                .arg(format!("docker://{}", self.name(name)));
            succeed(&mut command)?;
        }
        fs::remove_dir_all(&layout)?;
        Ok(Images { half: self.name("half"), whole: self.name("whole") })
    }

    fn name(&self, tag: &str) -> String {
        format!("{}/bench/{tag}:1", self.address)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The files of each layer.
fn shares() -> Result<Vec<Vec<PathBuf>>> {
    let mut all = Vec::new();
    let mut bytes = 0;
    for from in FROM {
        walk(Path::new(from), &mut all, &mut bytes)?;
    }
    let each = all.len().div_ceil(LAYERS);
    Ok(all.chunks(each).map(<[PathBuf]>::to_vec).collect())
}

fn walk(dir: &Path, all: &mut Vec<PathBuf>, bytes: &mut u64) -> Result<()> {
    let mut names: Vec<PathBuf> = fs::read_dir(dir)?.flatten().map(|item| item.path()).collect();
    names.sort();
    for path in names {
        if all.len() >= ENTRIES_MAX || *bytes >= BYTES_MAX {
            return Ok(());
        }
        let found = fs::symlink_metadata(&path)?;
        if found.is_dir() {
            all.push(path.clone());
            walk(&path, all, bytes)?;
        } else if found.size() <= FILE_BYTES_MAX && (found.is_file() || found.is_symlink()) {
            *bytes += found.size();
            all.push(path);
        }
    }
    Ok(())
}

struct Layer {
    digest: String,
    size: u64,
    diff_id: String,
    plain_size: u64,
}

fn layer(lab: &Lab, layout: &Path, share: &[PathBuf], at: usize) -> Result<Layer> {
    let (list, tar) = (lab.dir.join("list"), lab.dir.join(format!("layer{at}.tar")));
    let names: Vec<&[u8]> = share.iter().map(|path| path.as_os_str().as_bytes()).collect();
    fs::write(&list, names.join(&0))?;
    let mut command = Command::new("tar");
    command.args([
        "--create",
        "--no-recursion",
        "--null",
        "--mtime=@0",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
    ]);
    command.args(["--absolute-names", "--transform=s,^/,,S", "--hard-dereference", "--files-from"]);
    succeed(command.arg(&list).arg("--file").arg(&tar))?;
    let (diff_id, plain_size) = hash(&tar)?;
    succeed(Command::new("gzip").args(["-n", "-6"]).arg(&tar))?;
    let packed = tar.with_extension("tar.gz");
    let (digest, size) = hash(&packed)?;
    fs::rename(&packed, blob(layout, &digest))?;
    Ok(Layer { digest, size, diff_id, plain_size })
}

fn manifest(layout: &Path, name: &str, layers: &[Layer]) -> Result<Value> {
    let diff_ids: Vec<String> = layers.iter().map(|layer| format!("sha256:{}", layer.diff_id)).collect();
    let config = json!({"architecture": architecture(), "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let config = put(layout, "application/vnd.oci.image.config.v1+json", &config)?;
    let layers: Vec<Value> = layers
        .iter()
        .map(|layer| {
            json!({"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                "digest": format!("sha256:{}", layer.digest), "size": layer.size})
        })
        .collect();
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers});
    let mut descriptor = put(layout, media_type, &manifest)?;
    descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": name});
    Ok(descriptor)
}

fn put(layout: &Path, media_type: &str, content: &Value) -> Result<Value> {
    let bytes = content.to_string();
    let digest = hex(&Sha256::digest(&bytes));
    fs::write(blob(layout, &digest), &bytes)?;
    Ok(json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len()}))
}

fn blob(layout: &Path, digest: &str) -> PathBuf {
    layout.join("blobs/sha256").join(digest)
}

fn hash(path: &Path) -> Result<(String, u64)> {
    let mut hasher = Sha256::new();
    let size = std::io::copy(&mut fs::File::open(path)?, &mut hasher)?;
    Ok((hex(&hasher.finalize()), size))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

fn succeed(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(format!("{}: {}", command.get_program().display(), said.trim()).into())
}
