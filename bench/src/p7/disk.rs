//! A file system of its own for everything that is measured: BuildKit prunes its cache after each build when less than a
//! fifth of the disk is free, and all builders should have the same disk.

use crate::Result;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Its file is sparse: what is never written takes no room.
const DISK_BYTES: u64 = 60 << 30;

pub struct Disk {
    pub dir: PathBuf,
    file: PathBuf,
}

impl Disk {
    pub fn make(above: &Path) -> Result<Self> {
        let disk = Self { dir: above.join("disk"), file: above.join("disk.ext4") };
        File::create(&disk.file)?.set_len(DISK_BYTES)?;
        std::fs::create_dir_all(&disk.dir)?;
        succeed(
            Command::new("mkfs.ext4")
                .args(["-q", "-E", "lazy_itable_init=1,lazy_journal_init=1"])
                .arg(&disk.file),
        )?;
        succeed(Command::new("mount").args(["-o", "loop"]).arg(&disk.file).arg(&disk.dir))?;
        Ok(disk)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(error) = succeed(Command::new("umount").arg("-d").arg(&self.dir)) {
            eprintln!("bench: {error}");
        }
        let _ = std::fs::remove_file(&self.file);
    }
}

/// Runs what is not measured; gives what it printed.
pub fn succeed(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(format!("{}: {}", command.get_program().display(), said.trim()).into())
}
