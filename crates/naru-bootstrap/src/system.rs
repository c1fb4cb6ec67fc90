//! Making a root: what is unpacked, what is run in it, what is written beside the packages' own files.

use crate::error::{BootstrapError, Result};
use crate::packages::Package;
use crate::resolve;
use crate::root::{Assembly, PACKAGES_DIR};
use crate::runner::{Runner, Step};
use crate::scratch::Scratch;
use crate::sources;
use crate::suite::Suite;
use crate::{PATH_ENV, Progress, ProgressFn, Request};
use naru_types::ContainerId;

/// The end of a failed command's output that an error shows, in bytes.
const OUTPUT_BYTES_MAX: usize = 4096;

/// No service starts while packages are installed: a container has no init to start it (invoke-rc.d(8)).
const POLICY_RC_D: &str = "#!/bin/sh\n# Services are not started when they are installed: a container runs one program.\nexit 101\n";
/// What fits an image: nothing is kept that only speeds up the next installation on the same disk.
const APT_CONF: &str = "// Written by naru image bootstrap.\n// Packages are not kept once they are installed, nor indexes of them built.\nBinary::apt::APT::Keep-Downloaded-Packages \"false\";\nDPkg::Post-Invoke { \"rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb /var/cache/apt/*.bin || true\"; };\nAPT::Update::Post-Invoke { \"rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb /var/cache/apt/*.bin || true\"; };\nDir::Cache::pkgcache \"\";\nDir::Cache::srcpkgcache \"\";\nAcquire::Languages \"none\";\n";
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n";
const GROUP: &str = "root:x:0:\ndaemon:x:1:\nstaff:x:50:\nnogroup:x:65534:\n";

/// One root being made.
pub struct Making<'a> {
    pub suite: &'a Suite<'a>,
    pub request: &'a Request,
    pub scratch: &'a Scratch,
    pub runner: &'a dyn Runner,
    pub tell: &'a ProgressFn<'a>,
}

impl Making<'_> {
    /// A minimal system of the suite; gives the image's command.
    pub fn distribution(&self) -> Result<&'static str> {
        let selection = resolve::minimal(&self.suite.index, &self.request.include)?;
        let all: Vec<&Package> = selection.all().collect();
        self.suite.download(&all, &self.scratch.packages(), self.tell)?;
        self.say(format!("Unpacking {} packages", selection.essential.len()));
        let mut assembly = self.assembly()?;
        assembly.merge_usr(self.suite.architecture)?;
        for package in &selection.essential {
            assembly.package(&self.deb(package), &package.name, &|_| true)?;
        }
        self.apt_files(&mut assembly)?;
        // dpkg wants its database to be there, empty.
        assembly.file("var/lib/dpkg/status", 0o644, b"")?;
        assembly.file("var/lib/dpkg/available", 0o644, b"")?;
        assembly.file("usr/sbin/policy-rc.d", 0o755, POLICY_RC_D.as_bytes())?;
        assembly.unpack(&self.scratch.root())?;
        for (number, batch) in std::iter::once(&selection.essential).chain(&selection.batches).enumerate() {
            self.say(format!("Installing {} packages in a container", batch.len()));
            self.install(number, batch)?;
        }
        Ok("bash")
    }

    /// One static program and its names.
    pub fn busybox(&self) -> Result<&'static str> {
        let name = "busybox-static";
        let package = self.suite.index.packages.get(name);
        let package = package.ok_or_else(|| BootstrapError::NoPackage { name: name.to_owned() })?;
        self.suite.download(&[package], &self.scratch.packages(), self.tell)?;
        let mut assembly = self.assembly()?;
        for path in [
            "bin", "dev", "etc", "home", "proc", "root", "sbin", "sys", "usr", "usr/bin", "usr/sbin", "var",
            "var/www",
        ] {
            assembly.directory(path, if path == "root" { 0o700 } else { 0o755 })?;
        }
        assembly.directory("tmp", 0o1777)?;
        assembly.file("etc/passwd", 0o644, PASSWD.as_bytes())?;
        assembly.file("etc/group", 0o644, GROUP.as_bytes())?;
        let deb = self.deb(package);
        assembly.package(&deb, name, &|path| path == b"bin/busybox" || path == b"usr/bin/busybox")?;
        assembly.unpack(&self.scratch.root())?;
        let root = self.scratch.root();
        let binary =
            ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| root.join(&path[1..]).exists());
        let binary = binary.ok_or_else(|| BootstrapError::Package {
            package: name.into(),
            what: "it has no busybox".into(),
        })?;
        self.say("Linking the applets in a container".into());
        self.run(0, vec![binary.into(), "--install".into(), "-s".into(), "/bin".into()])?;
        Ok("sh")
    }

    /// dpkg unpacks and configures the batch. Dependencies are satisfied by the whole of it, which dpkg can't know of packages
    /// that come later; it orders by them all the same.
    fn install(&self, number: usize, batch: &[&Package]) -> Result<()> {
        let options = ["dpkg", "--force-depends", "--force-confold", "--force-unsafe-io", "--install"];
        let mut args: Vec<String> = options.into_iter().map(str::to_owned).collect();
        args.extend(batch.iter().map(|package| format!("{PACKAGES_DIR}/{}.deb", package.name)));
        self.run(number, args)
    }

    fn run(&self, number: usize, args: Vec<String>) -> Result<()> {
        let id: [u8; 32] =
            naru_kernel::random::bytes().map_err(BootstrapError::io("draw an id in", self.scratch.path()))?;
        let env = [
            PATH_ENV.to_owned(),
            "HOME=/root".into(),
            "LC_ALL=C".into(),
            "DEBIAN_FRONTEND=noninteractive".into(),
            "DEBCONF_NONINTERACTIVE_SEEN=true".into(),
            // Programs that write the time into files take this one (reproducible-builds.org/specs/source-date-epoch).
            format!("SOURCE_DATE_EPOCH={}", self.suite.release.date.secs()),
        ];
        let command = args.iter().take(5).map(String::as_str).collect::<Vec<_>>().join(" ");
        let step = Step {
            id: ContainerId::from_bytes(id),
            lower: self.scratch.path().join("lower"),
            upper: self.scratch.root(),
            work: self.scratch.dir(&format!("work-{number}"))?,
            args,
            env: env.to_vec(),
            bind: Some((self.scratch.packages(), PACKAGES_DIR.to_owned())),
            cancel: self.request.cancel.clone(),
        };
        let mut output = Vec::new();
        let ended = self.runner.run(&step, &mut |bytes| {
            output.extend_from_slice(bytes);
            let over = output.len().saturating_sub(OUTPUT_BYTES_MAX);
            output.drain(..over);
        });
        match ended.map_err(BootstrapError::Engine)? {
            0 => Ok(()),
            code => {
                let output = String::from_utf8_lossy(&output).trim().to_owned();
                Err(BootstrapError::Configure { command, code, output })
            }
        }
    }

    /// The sources that the new system installs from, with the key that was trusted for it.
    fn apt_files(&self, assembly: &mut Assembly) -> Result<()> {
        let distribution = &self.suite.distribution;
        let key = if self.request.keyring.is_some() {
            let path = format!("etc/apt/keyrings/{distribution}-bootstrap.gpg");
            assembly.directory("etc/apt/keyrings", 0o755)?;
            assembly.file(&path, 0o644, &self.suite.keyring)?;
            format!("/{path}")
        } else {
            format!("/usr/share/keyrings/{distribution}-archive-keyring.gpg")
        };
        let text = sources::render(&self.suite.sources, &key, self.request.snapshot.is_some());
        assembly.file(&format!("etc/apt/sources.list.d/{distribution}.sources"), 0o644, text.as_bytes())?;
        assembly.file("etc/apt/apt.conf.d/90naru-image", 0o644, APT_CONF.as_bytes())
    }

    fn assembly(&self) -> Result<Assembly> {
        Assembly::new(self.scratch.path().join("root.tar"), self.suite.release.date)
    }

    fn deb(&self, package: &Package) -> std::path::PathBuf {
        self.scratch.packages().join(format!("{}.deb", package.name))
    }

    fn say(&self, text: String) {
        (self.tell)(Progress::Status(text));
    }
}
