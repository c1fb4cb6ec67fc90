//! `cargo xtask demo`: naru's main job on real input, told as it goes. Any step that doesn't do what it says ends the
//! demo with an error; the last step shows that the machine is as it was.

mod receiver;
mod site;
mod snapshot;

use crate::process::{Result, is_root, repository, run};
use crate::registry::Registry;
use crate::{images, setup};
use receiver::Receiver;
use site::Site;
use snapshot::Snapshot;
use std::process::Command;
use std::time::Instant;

const HOST: &str = "hello.localhost";

pub fn run_demo() -> Result<()> {
    if !is_root() {
        return Err("the demo makes namespaces, mounts and firewall rules: run it as root".into());
    }
    let started = Instant::now();
    let mut story = Story::default();

    story.step("System packages and base images");
    setup::ensure()?;
    let archives = images::ensure_all()?;
    story.say(format!("{} base images made from Debian packages", archives.len()));

    story.step("Build naru");
    run(Command::new(env!("CARGO")).args(["build", "-p", "naru"]).current_dir(repository()))?;

    let before = Snapshot::take();
    let receiver = Receiver::start()?;
    let site = Site::prepare()?;
    let registry = Registry::start(&site.dir.join("registry"))?;
    site.configure(&registry.address, &receiver.url())?;

    story.step("Start the daemon");
    site.start_daemon()?;
    story.show(&site.naru(&["version"])?);

    story.step("Serve the base images from a local registry under their usual names");
    for (image, archive) in images::BASE_IMAGES.iter().zip(&archives) {
        publish(&site, &registry.address, image, archive)?;
        story.say(format!("{} → {}/library/{}", image.name, registry.address, image.name));
    }

    story.step("naru up: build, start Redis, wait for its health, start the web service, open the route");
    story.show(&site.naru_in_project(&["up"])?);
    story.show(&site.naru_in_project(&["ps"])?);
    story.show(&site.naru(&["routes"])?);

    story.step("Fetch the page over HTTPS, the certificate checked against naru's CA");
    let page = site.fetch("/")?;
    let visits = visits(&page)?;
    story.say(format!("https://{HOST}/ → 200, {visits} visit(s) counted in Redis"));

    story.step("Read the logs");
    story.show(&site.naru_in_project(&["logs", "--tail", "5", "web"])?);

    story.step("Crash the app");
    let old_pid = site.web_pid()?;
    site.crash()?;
    let alert =
        receiver.wait_for(|alert| alert.to_string().contains("web") && alert.to_string().contains("70"))?;
    story.say("the alert that reached the webhook:");
    story.show(&receiver::tell(&alert));
    site.wait_for_new_pid(&old_pid)?;
    let page = site.fetch_soon("/")?;
    let after = self::visits(&page)?;
    if after <= visits {
        return Err(format!("Redis forgot: {visits} visits before the crash, {after} after").into());
    }
    story.say(format!("restarted and answering again: visit {after}"));

    story.step("Kill the daemon with SIGKILL: the page stays up");
    site.kill_daemon()?;
    let page = site.fetch("/")?;
    story.say(format!("with no daemon at all: 200, visit {}", self::visits(&page)?));
    site.start_daemon()?;
    story.show(&site.naru_in_project(&["ps"])?);

    story.step("naru down, and end the daemon");
    story.show(&site.naru_in_project(&["down", "--volumes"])?);
    site.stop_daemon()?;
    story.say(format!("alerts received: {}", receiver.titles().join("; ")));
    drop(registry);
    site.remove()?;

    story.step("Nothing is left");
    let left = Snapshot::take().added_since(&before);
    if !left.is_empty() {
        return Err(format!("left behind:\n  {}", left.join("\n  ")).into());
    }
    story.say("no mount, cgroup, network device, nft table or process more than before");
    println!("\nDone in {:.0} s.", started.elapsed().as_secs_f32());
    Ok(())
}

/// Imports a root file system, pushes it to the registry and forgets it, so that it is pulled by its usual name later.
fn publish(site: &Site, registry: &str, image: &images::BaseImage, archive: &std::path::Path) -> Result<()> {
    let target = format!("{registry}/library/{}", image.name);
    let archive = archive.display().to_string();
    let mut import = vec!["import"];
    for change in image.changes {
        import.extend(["--change", change]);
    }
    import.extend([archive.as_str(), target.as_str()]);
    site.naru(&import)?;
    site.naru(&["push", "--quiet", &target])?;
    site.naru(&["rmi", &target])?;
    Ok(())
}

fn visits(page: &str) -> Result<u64> {
    let count = page.split("class=\"visits\">").nth(1).and_then(|rest| rest.split('<').next());
    count
        .and_then(|text| text.trim().parse().ok())
        .ok_or_else(|| format!("no visit count in the page:\n{page}").into())
}

/// Numbered steps, and what they print, indented.
#[derive(Default)]
struct Story {
    steps: usize,
}

impl Story {
    fn step(&mut self, title: &str) {
        self.steps += 1;
        println!("\n── {}. {title}", self.steps);
    }

    fn say(&self, text: impl std::fmt::Display) {
        println!("   {text}");
    }

    fn show(&self, text: &str) {
        text.trim_end().lines().for_each(|line| println!("   {line}"));
    }
}
