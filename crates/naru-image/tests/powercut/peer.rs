//! The same power cuts under Debian's containerd, to prove that the harness finds what is there to be found: its unpacked
//! files are not on the disk when `ctr image pull` returns, its database is (containerd issues 5854, 9401, 14164).
//! Run by name; expected to find damage.

use crate::Plan;
use crate::common::{self, Registry, make_tree};
use crate::scenario::{grow, make_image};
use naru_types::Digest;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

const SNAPSHOTS: &str = "containerd/io.containerd.snapshotter.v1.overlayfs/snapshots";

/// By the snapshot's number.
type Trees = BTreeMap<String, Digest>;

struct Containerd {
    child: Child,
    socket: PathBuf,
}

impl Containerd {
    /// An error is what it said before it ended.
    fn start(work: &Path, disk: &Path) -> Result<Self, String> {
        let (socket, config) = (work.join("containerd.sock"), work.join("containerd.toml"));
        let text = "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n";
        fs::write(&config, text).unwrap();
        let _ = fs::remove_file(&socket);
        let child = Command::new("containerd")
            .arg("--config")
            .arg(&config)
            .arg("--root")
            .arg(disk.join("containerd"))
            .arg("--state")
            .arg(work.join("containerd-state"))
            .arg("--address")
            .arg(&socket)
            .stdout(Stdio::null())
            .stderr(fs::File::create(work.join("containerd.log")).unwrap())
            .spawn()
            .unwrap();
        let mut containerd = Self { child, socket };
        // It offers no event for "listening".
        for _ in 0..600 {
            if containerd.ctr(&["image", "ls", "-q"]).status.success() {
                return Ok(containerd);
            }
            if containerd.child.try_wait().unwrap().is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let said = fs::read_to_string(work.join("containerd.log")).unwrap_or_default();
        Err(said.lines().rev().take(3).collect::<Vec<_>>().join(" | "))
    }

    fn ctr(&self, arguments: &[&str]) -> Output {
        Command::new("ctr").arg("--address").arg(&self.socket).args(arguments).output().unwrap()
    }

    fn pull(&self, image: &str) -> bool {
        self.ctr(&["image", "pull", "--plain-http", image]).status.success()
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}

pub fn shows_damage(plan: &mut Plan) -> bool {
    if !Path::new("/usr/bin/ctr").exists() {
        println!("SKIP: containerd is not installed");
        return true;
    }
    let Some(registry) = Registry::start() else { return true };
    let image = publish(plan, &registry);
    let (mut recording, (trees, acknowledged)) = plan.record(|disk| {
        let containerd = Containerd::start(&plan.work, disk).unwrap();
        let begun = plan.moment();
        assert!(containerd.pull(&image), "ctr image pull");
        (trees(disk), [begun, plan.moment()])
    });
    println!("  {} snapshots; pulled between {} and {}", trees.len(), acknowledged[0], acknowledged[1]);
    let (mut dead, mut listed, mut damaged, mut stayed) = (0, 0, 0, 0);
    let moments = plan.moments(&recording, &acknowledged[1..]);
    let work = plan.work.clone();
    for (number, moment) in moments.iter().enumerate() {
        let (_, seen) = plan.look(&mut recording, number, *moment, |disk, _| {
            let containerd = Containerd::start(&work, disk)?;
            let names = containerd.ctr(&["image", "ls", "-q"]);
            let is_listed = String::from_utf8_lossy(&names.stdout).contains(&image);
            let is_damaged = is_listed && self::trees(disk) != trees;
            let stays = is_damaged && containerd.pull(&image) && self::trees(disk) != trees;
            Ok::<_, String>((is_listed, is_damaged, stays))
        });
        match seen {
            Ok((is_listed, is_damaged, stays)) => {
                listed += usize::from(is_listed);
                damaged += usize::from(is_damaged);
                stayed += usize::from(stays);
            }
            Err(said) => {
                dead += 1;
                println!("  cut {number}: containerd does not start: {said}");
            }
        }
    }
    println!(
        "  containerd: {} cut states; it did not start in {dead}; the image was listed in {listed}, damaged in {damaged} of these, and still damaged after another successful pull in {stayed}",
        moments.len()
    );
    damaged > 0
}

fn publish(plan: &mut Plan, registry: &Registry) -> String {
    let side = common::store();
    let (base, top) = (side.dir.path().join("base"), side.dir.path().join("top"));
    fs::create_dir(&base).unwrap();
    make_tree(&base);
    grow(&top, &mut plan.dice);
    let lease = side.store.lease();
    let layers = [&base, &top].map(|dir| side.store.commit_layer(dir, false, &lease).unwrap().diff_id);
    let image = format!("{}/peer:1", registry.address);
    make_image(&side.store, &image, &layers);
    common::push(&side.store, &image).unwrap();
    image
}

/// What each snapshot holds; one that cannot be read is as good as none.
fn trees(disk: &Path) -> Trees {
    let items = fs::read_dir(disk.join(SNAPSHOTS)).into_iter().flatten().flatten();
    items
        .filter_map(|item| {
            let digest = std::panic::catch_unwind(|| common::tree_digest(&item.path().join("fs"))).ok()?;
            Some((item.file_name().to_string_lossy().into_owned(), digest))
        })
        .collect()
}
