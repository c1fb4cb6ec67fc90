//! A small archive of packages, signed by gpg with a key of its own: what tests serve as a mirror. Made with the tools that real
//! archives are made with, so that nothing here agrees only with itself.
#![allow(dead_code)] // each test file uses its part

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub const SUITE: &str = "tiny";

/// Kinds of keys that archives use.
#[derive(Clone, Copy, Debug)]
pub enum KeyKind {
    Rsa,
    Ed25519,
    /// A certifying key that leaves signing to a subkey, as Debian's automatic keys do.
    RsaSubkey,
}

pub struct Repo {
    pub dir: PathBuf,
    home: PathBuf,
    names: Vec<String>,
}

impl Repo {
    /// `dir` must exist and be empty; its path must be short (gpg-agent's socket lies beneath).
    pub fn make(dir: &Path, kind: KeyKind) -> Self {
        let home = dir.join("gpg");
        fs::create_dir(&home).unwrap();
        run("chmod", &["700", home.to_str().unwrap()]);
        let repo = Self { dir: dir.join("mirror"), home, names: Vec::new() };
        fs::create_dir_all(repo.dists().join(format!("main/binary-{}", architecture()))).unwrap();
        fs::create_dir_all(repo.dir.join("pool")).unwrap();
        let (algorithm, usage) = match kind {
            KeyKind::Rsa => ("rsa3072", "sign"),
            KeyKind::Ed25519 => ("ed25519", "sign"),
            KeyKind::RsaSubkey => ("rsa3072", "cert"),
        };
        repo.gpg(&["--quick-gen-key", "Tiny Archive <tiny@localhost>", algorithm, usage, "2d"]);
        if matches!(kind, KeyKind::RsaSubkey) {
            let listed = read(repo.command().args(["--list-keys", "--with-colons"]));
            let fingerprint = listed.lines().find(|line| line.starts_with("fpr")).unwrap();
            let fingerprint = fingerprint.trim_end_matches(':').rsplit(':').next().unwrap().to_owned();
            repo.gpg(&["--quick-add-key", &fingerprint, "rsa3072", "sign", "1d"]);
        }
        repo
    }

    pub fn keyring(&self) -> Vec<u8> {
        let out = self.command().arg("--export").output().unwrap();
        assert!(out.status.success());
        out.stdout
    }

    pub fn dists(&self) -> PathBuf {
        self.dir.join("dists").join(SUITE)
    }

    pub fn index(&self) -> PathBuf {
        self.dists().join(format!("main/binary-{}/Packages", architecture()))
    }

    pub fn deb(&self, name: &str) -> PathBuf {
        self.dir.join(format!("pool/{name}.deb"))
    }

    /// A package with these files (path, mode, content) and lines of its control file.
    pub fn package(&mut self, name: &str, control: &str, files: &[(&str, &str, &[u8])]) {
        let tree = self.dir.parent().unwrap().join(format!("tree-{name}"));
        fs::create_dir_all(tree.join("DEBIAN")).unwrap();
        let text = format!(
            "Package: {name}\nVersion: 1.0\nArchitecture: {}\nMaintainer: Tiny <t@localhost>\nDescription: test\n{control}",
            architecture()
        );
        fs::write(tree.join("DEBIAN/control"), text).unwrap();
        for (path, mode, content) in files {
            let path = tree.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, content).unwrap();
            run("chmod", &[mode, path.to_str().unwrap()]);
        }
        run("chmod", &["-R", "u+rwX,go+rX,go-w", tree.to_str().unwrap()]);
        run(
            "dpkg-deb",
            &["--build", "--root-owner-group", tree.to_str().unwrap(), self.deb(name).to_str().unwrap()],
        );
        self.names.push(name.to_owned());
    }

    /// Writes index, Release, InRelease and Release.gpg. `extra` are more lines of Release.
    pub fn sign(&self, extra: &str) {
        let mut index = String::new();
        for name in &self.names {
            let deb = self.deb(name);
            let fields = read(Command::new("dpkg-deb").arg("--field").arg(&deb));
            let size = fs::metadata(&deb).unwrap().len();
            index += &format!(
                "{}\nFilename: pool/{name}.deb\nSize: {size}\nSHA256: {}\n\n",
                fields.trim_end(),
                sha256(&deb)
            );
        }
        fs::write(self.index(), &index).unwrap();
        let date = read(Command::new("date").args(["-u", "-R"])).trim().to_owned();
        let release = format!(
            "Origin: Tiny\nSuite: {SUITE}\nCodename: {SUITE}\nDate: {date}\nArchitectures: {arch}\nComponents: main\n{extra}SHA256:\n {hash} {size} main/binary-{arch}/Packages\n",
            arch = architecture(),
            hash = sha256(&self.index()),
            size = index.len(),
        );
        let path = self.dists().join("Release");
        fs::write(&path, release).unwrap();
        let path = path.to_str().unwrap();
        let signed = self.dists().join("InRelease");
        self.gpg(&["--yes", "--output", signed.to_str().unwrap(), "--clearsign", path]);
        self.gpg(&["--yes", "--armor", "--output", &format!("{path}.gpg"), "--detach-sign", path]);
    }

    fn gpg(&self, args: &[&str]) {
        read(self.command().args(args));
    }

    fn command(&self) -> Command {
        let mut command = Command::new("gpg");
        command.arg("--homedir").arg(&self.home).args([
            "--batch",
            "--quiet",
            "--pinentry-mode",
            "loopback",
            "--passphrase",
            "",
        ]);
        command
    }
}

impl Drop for Repo {
    fn drop(&mut self) {
        // gpg started an agent for this directory.
        let _ = Command::new("gpgconf").arg("--homedir").arg(&self.home).args(["--kill", "all"]).status();
    }
}

/// Debian's name of this machine's architecture.
pub fn architecture() -> String {
    read(Command::new("dpkg").arg("--print-architecture")).trim().to_owned()
}

/// Turns one bit over in the middle of a file, or where `needle` stands.
pub fn flip(path: &Path, needle: Option<&str>) {
    let mut bytes = fs::read(path).unwrap();
    let at = match needle {
        Some(needle) => bytes.windows(needle.len()).position(|window| window == needle.as_bytes()).unwrap(),
        None => bytes.len() / 2,
    };
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn sha256(path: &Path) -> String {
    read(Command::new("sha256sum").arg(path)).split_whitespace().next().unwrap().to_owned()
}

fn run(program: &str, args: &[&str]) {
    read(Command::new(program).args(args));
}

fn read(command: &mut Command) -> String {
    let out = command.stdin(Stdio::null()).output().unwrap();
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}
