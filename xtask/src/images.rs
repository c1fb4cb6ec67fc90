//! Base images without the Internet's registries: root file systems made from Debian packages, as tar files that
//! are imported into naru and pushed to a local registry under their usual names.
//!
//! They are kept in a cache outside the clone, keyed by the recipe, because they are the same for every commit.

use crate::process::{Result, is_root, read, repository, run};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// One base image.
pub struct BaseImage {
    /// Repository and tag as users write them.
    pub name: &'static str,
    /// Dockerfile instructions for its configuration (`docker import --change`).
    pub changes: &'static [&'static str],
    recipe: Recipe,
}

enum Recipe {
    Busybox,
    /// A minimal Debian root and these packages.
    Debian(&'static [&'static str]),
}

const PATH_ENV: &str = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub const BASE_IMAGES: [BaseImage; 3] = [
    BaseImage { name: "busybox:latest", changes: &[PATH_ENV, r#"CMD ["sh"]"#], recipe: Recipe::Busybox },
    BaseImage {
        name: "node:18-slim",
        changes: &[PATH_ENV, r#"CMD ["node"]"#],
        recipe: Recipe::Debian(&["nodejs", "ca-certificates"]),
    },
    BaseImage {
        name: "redis:7",
        changes: &[
            PATH_ENV,
            "EXPOSE 6379",
            "VOLUME /data",
            "WORKDIR /data",
            r#"CMD ["redis-server", "--protected-mode", "no", "--dir", "/data"]"#,
        ],
        recipe: Recipe::Debian(&["redis-server"]),
    },
];

const SUITE: &str = "bookworm";
/// Changed when a recipe changes in a way that its package list doesn't show.
const RECIPE_VERSION: &str = "1";

/// Makes what is missing; returns the tar file of each image, in the order of [`BASE_IMAGES`].
pub fn ensure_all() -> Result<Vec<PathBuf>> {
    BASE_IMAGES.iter().map(ensure).collect()
}

fn ensure(image: &BaseImage) -> Result<PathBuf> {
    let cache = cache_dir()?;
    let tar = cache.join(format!("{}-{RECIPE_VERSION}.tar", image.name.replace([':', '/'], "_")));
    if tar.exists() {
        return Ok(tar);
    }
    if !is_root() {
        return Err(format!("making the base image {} needs root", image.name).into());
    }
    println!("making base image {} from Debian packages", image.name);
    let fresh = tar.with_extension("part");
    match image.recipe {
        Recipe::Busybox => busybox(&fresh)?,
        Recipe::Debian(packages) => debian(&fresh, packages)?,
    }
    std::fs::rename(&fresh, &tar)?;
    Ok(tar)
}

fn cache_dir() -> Result<PathBuf> {
    cache("naru-base-images")
}

/// A directory of the user's cache.
pub fn cache(name: &str) -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))
        .unwrap_or_else(|| repository().join("target"));
    let dir = base.join(name);
    std::fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    Ok(dir)
}

/// A root of one static binary with a link for each of its applets.
fn busybox(tar: &Path) -> Result<()> {
    let root = tar.with_extension("root");
    let _ = std::fs::remove_dir_all(&root);
    for dir in ["bin", "etc", "home", "root", "tmp", "usr/bin", "usr/sbin", "sbin", "var/spool", "var/www"] {
        std::fs::create_dir_all(root.join(dir))?;
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox"))?;
    for applet in read(Command::new("/bin/busybox").arg("--list"))?.lines().filter(|name| *name != "busybox")
    {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet))?;
    }
    std::fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n",
    )?;
    std::fs::write(root.join("etc/group"), "root:x:0:\ndaemon:x:1:\nstaff:x:50:\nnogroup:x:65534:\n")?;
    std::fs::write(root.join("etc/os-release"), "NAME=\"busybox (Debian)\"\nID=busybox\n")?;
    run(Command::new("chmod").arg("1777").arg(root.join("tmp")))?;
    run(Command::new("tar")
        .args(["--sort=name", "--numeric-owner", "-C"])
        .arg(&root)
        .arg("-cf")
        .arg(tar)
        .arg("."))?;
    std::fs::remove_dir_all(&root)?;
    Ok(())
}

fn debian(tar: &Path, packages: &[&str]) -> Result<()> {
    let options = [
        "--format=tar".to_owned(),
        format!("--include={}", packages.join(",")),
        "--customize-hook=rm -f \"$1\"/etc/resolv.conf \"$1\"/etc/hostname".to_owned(),
    ];
    mmdebstrap(SUITE, tar, &options)
}

/// A minimal Debian of `suite` at `target`, without documentation and package lists. mmdebstrap reads the mirror from
/// the host's own apt sources, so none is written down here.
pub fn mmdebstrap(suite: &str, target: &Path, options: &[String]) -> Result<()> {
    let sources = host_sources(suite)?;
    let log = std::fs::File::create(target.with_extension("log"))?;
    let mut child = Command::new("mmdebstrap")
        .args(["--mode=root", "--variant=minbase"])
        .arg("--aptopt=Acquire::Check-Valid-Until \"false\"")
        .arg("--dpkgopt=path-exclude=/usr/share/doc/*")
        .arg("--dpkgopt=path-exclude=/usr/share/man/*")
        .arg("--dpkgopt=path-exclude=/usr/share/locale/*")
        .arg("--customize-hook=rm -rf \"$1\"/var/lib/apt/lists/* \"$1\"/var/cache/apt/*")
        .args(options)
        .arg(suite)
        .arg(target)
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(|error| format!("cannot run mmdebstrap: {error}"))?;
    if let Some(mut input) = child.stdin.take() {
        std::io::Write::write_all(&mut input, sources.as_bytes())?;
    }
    let status = child.wait()?;
    if status.success() {
        return Ok(());
    }
    Err(format!("mmdebstrap: {status}; see {}", target.with_extension("log").display()).into())
}

/// The host's `deb` lines for Debian, in the one-line format that mmdebstrap reads from standard input. A suite that
/// the host itself doesn't use is taken from the mirror of the one that it does.
fn host_sources(suite: &str) -> Result<String> {
    let indexes = read(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(SITE) $(RELEASE) $(COMPONENT)",
        "Created-By: Packages",
    ]))?;
    let lines = deb_lines(&indexes, suite);
    if lines.is_empty() {
        return Err(format!("the host's apt sources have no {SUITE}; run apt-get update").into());
    }
    Ok(lines)
}

/// `indexes`: lines of `site release component`.
fn deb_lines(indexes: &str, suite: &str) -> String {
    let wanted = |release: &str| if suite == SUITE { release.starts_with(SUITE) } else { release == SUITE };
    let mut lines: Vec<String> = indexes
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (site, release, component) = (words.next()?, words.next()?, words.next()?);
            wanted(release).then(|| {
                let release = release.replacen(SUITE, suite, 1);
                format!("deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {site} {release} {component}\n")
            })
        })
        .collect();
    lines.sort();
    lines.dedup();
    lines.concat()
}

#[cfg(test)]
mod tests {
    use super::deb_lines;

    #[test]
    fn another_suite_comes_from_the_same_mirror() {
        let indexes = "http://m/debian bookworm main\nhttp://m/debian bookworm-updates main\nhttp://m/other stable main\n";
        let signed = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://m/debian";
        assert_eq!(
            deb_lines(indexes, "bookworm"),
            format!("{signed} bookworm main\n{signed} bookworm-updates main\n")
        );
        assert_eq!(deb_lines(indexes, "trixie"), format!("{signed} trixie main\n"));
    }
}
