//! The demo's own naru: directories under `target/demo`, ports of its own, the machine's real network.

use crate::process::{Guarded, Result, output, read, repository};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const HTTP: &str = "127.0.0.1:18080";
const HTTPS: &str = "127.0.0.1:18443";
const SOON: Duration = Duration::from_secs(60);

pub struct Site {
    pub dir: PathBuf,
    binary: PathBuf,
    daemon: RefCell<Option<Guarded>>,
}

impl Site {
    pub fn prepare() -> Result<Self> {
        let dir = repository().join("target/demo");
        if dir.exists() {
            std::fs::remove_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        }
        std::fs::create_dir_all(&dir)?;
        Ok(Self { binary: binary()?, dir, daemon: RefCell::new(None) })
    }

    pub fn configure(&self, registry: &str, webhook: &str) -> Result<()> {
        let config =
            json!({ "registry-mirrors": [format!("http://{registry}")], "discord-webhook": webhook });
        std::fs::write(self.dir.join("daemon.json"), config.to_string())?;
        Ok(())
    }

    pub fn start_daemon(&self) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.dir.join("daemon.log"))?;
        let child = Command::new(&self.binary)
            .args([
                "daemon",
                "--cgroup-parent",
                "naru-demo",
                "--bridge",
                "narudemo0",
                "--nft-table",
                "naru-demo",
            ])
            .args(["--proxy-http", HTTP, "--proxy-https", HTTPS])
            .arg("--config")
            .arg(self.dir.join("daemon.json"))
            .arg("--root")
            .arg(self.dir.join("root"))
            .arg("--run")
            .arg(self.dir.join("run"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        *self.daemon.borrow_mut() = Some(Guarded(child));
        self.wait_until("the daemon", || Ok(self.naru(&["version"]).is_ok()))
    }

    /// SIGKILL: no chance to say goodbye.
    pub fn kill_daemon(&self) -> Result<()> {
        drop(self.daemon.borrow_mut().take());
        Ok(())
    }

    pub fn stop_daemon(&self) -> Result<()> {
        self.naru(&["system", "stop"])?;
        let mut daemon = self.daemon.borrow_mut();
        if let Some(child) = daemon.as_mut() {
            child.0.wait()?;
        }
        *daemon = None;
        Ok(())
    }

    pub fn naru(&self, args: &[&str]) -> Result<String> {
        read(self.client().args(args))
    }

    /// In the directory of the example. What is said on stderr is shown as well: the build's steps are there.
    pub fn naru_in_project(&self, args: &[&str]) -> Result<String> {
        let mut command = self.client();
        command.args(args).current_dir(repository().join("examples/hello"));
        let output = output(&mut command)?;
        let said =
            String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        if output.status.success() {
            Ok(said)
        } else {
            Err(format!("naru {}: {}\n{said}", args.join(" "), output.status).into())
        }
    }

    /// The page, over HTTPS; curl fails when the certificate doesn't fit the CA or the status is an error.
    pub fn fetch(&self, path: &str) -> Result<String> {
        read(self.curl(path)?.arg("--fail"))
    }

    pub fn fetch_soon(&self, path: &str) -> Result<String> {
        self.wait_until("the page", || Ok(self.fetch(path).is_ok()))?;
        self.fetch(path)
    }

    pub fn crash(&self) -> Result<()> {
        read(self.curl("/crash")?.args(["-X", "POST"])).map(drop)
    }

    fn curl(&self, path: &str) -> Result<Command> {
        let ca = self.dir.join("ca.pem");
        if !ca.exists() {
            std::fs::write(&ca, self.naru(&["ca"])?)?;
        }
        let port = HTTPS.rsplit(':').next().unwrap_or_default();
        let mut command = Command::new("curl");
        command.args(["-sS", "--max-time", "10", "--cacert"]).arg(&ca);
        command.arg("--resolve").arg(format!("{}:{port}:127.0.0.1", super::HOST));
        command.arg(format!("https://{}:{port}{path}", super::HOST));
        Ok(command)
    }

    pub fn web_pid(&self) -> Result<String> {
        let view: Value = serde_json::from_str(&self.naru(&["inspect", "hello-web-1"])?)?;
        Ok(view[0]["State"]["Pid"].to_string())
    }

    pub fn wait_for_new_pid(&self, old: &str) -> Result<()> {
        self.wait_until("the restart", || Ok(self.web_pid().is_ok_and(|pid| pid != old && pid != "0")))
    }

    pub fn remove(&self) -> Result<()> {
        std::fs::remove_dir_all(&self.dir).map_err(|error| format!("{}: {error}", self.dir.display()).into())
    }

    fn client(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg("-H").arg(format!("unix://{}", self.dir.join("run/naru.sock").display()));
        command
    }

    fn wait_until(&self, what: &str, condition: impl Fn() -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + SOON;
        while !condition()? {
            if Instant::now() > deadline {
                return Err(format!(
                    "waited in vain for {what}; see {}",
                    self.dir.join("daemon.log").display()
                )
                .into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

/// Where cargo puts the binary: the target directory has one directory per target triple.
fn binary() -> Result<PathBuf> {
    let metadata = read(
        Command::new(env!("CARGO"))
            .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
            .current_dir(repository()),
    )?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let target = metadata["target_directory"].as_str().ok_or("cargo metadata: no target directory")?;
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let binary = PathBuf::from(target).join(triple).join("debug/naru");
    if binary.exists() { Ok(binary) } else { Err(format!("{} was not built", binary.display()).into()) }
}
