//! The bundle that all runtimes start: a static busybox and the config.json that dockerd writes for
//! `docker run busybox true` (spec/docker.json), with limits where the view has them.

use crate::Result;
use crate::view::{View, remove_cgroups};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// Written by dockerd 20.10; hook, bind mounts and the daemon's own paths taken out, a cgroup namespace put in.
const DOCKER: &str = include_str!("../spec/docker.json");
const LIMITS: &str = include_str!("../spec/limits.json");
const BUSYBOX: [&str; 2] = ["/bin/busybox", "/usr/bin/busybox"];
const APPLETS: [&str; 3] = ["sh", "sleep", "true"];
const DIRECTORIES: [&str; 6] = ["bin", "dev", "etc", "proc", "sys", "tmp"];

/// A directory with one root file system and everything that a bench leaves; removed at the end.
pub struct Lab {
    pub dir: PathBuf,
    /// The control group above all containers.
    pub cgroup: String,
}

impl Lab {
    pub fn new() -> Result<Self> {
        let name = format!("naru-bench-{}", std::process::id());
        let lab = Self { dir: std::env::temp_dir().join(&name), cgroup: name };
        let root = lab.rootfs();
        for directory in DIRECTORIES {
            fs::create_dir_all(root.join(directory))?;
        }
        let busybox = BUSYBOX
            .iter()
            .find(|path| Path::new(path).exists())
            .ok_or("no busybox: install busybox-static")?;
        fs::copy(busybox, root.join("bin/busybox"))?;
        for applet in APPLETS {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet))?;
        }
        Ok(lab)
    }

    pub fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    pub fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// A bundle named `name` whose container runs `args`.
    pub fn bundle(&self, name: &str, view: View, args: &[&str]) -> Result<PathBuf> {
        let mut config: Value = serde_json::from_str(DOCKER)?;
        config["root"]["path"] = json!(self.rootfs());
        config["process"]["args"] = json!(args);
        config["linux"]["cgroupsPath"] = json!(format!("/{}/{name}", self.cgroup));
        if view.has_limits() {
            let limits: Value = serde_json::from_str(LIMITS)?;
            for (controller, limit) in limits.as_object().into_iter().flatten() {
                config["linux"]["resources"][controller] = limit.clone();
            }
        }
        let bundle = self.dir.join(name);
        fs::create_dir_all(&bundle)?;
        fs::write(bundle.join("config.json"), serde_json::to_vec(&config)?)?;
        Ok(bundle)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        remove_cgroups(&self.cgroup);
        let _ = fs::remove_dir_all(&self.dir);
    }
}
