//! Running other programs: every call names the program, its failure and what it printed.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The repository's root: xtask lies one directory below it.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// Runs `command` with inherited output; an exit other than 0 is an error.
pub fn run(command: &mut Command) -> Result<()> {
    let name = describe(command);
    let status = command.status().map_err(|error| format!("cannot run {name}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{name}: {status}").into()) }
}

/// Runs `command` and returns its standard output as text; standard error is part of the error.
pub fn read(command: &mut Command) -> Result<String> {
    let name = describe(command);
    let output = output(command)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{name}: {}: {}", output.status, said.trim()).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

pub fn output(command: &mut Command) -> Result<Output> {
    let name = describe(command);
    command.stdin(Stdio::null()).output().map_err(|error| format!("cannot run {name}: {error}").into())
}

/// A child that is killed and reaped when it goes out of scope.
pub struct Guarded(pub Child);

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn describe(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|word| word.to_string_lossy().into_owned()));
    words.join(" ")
}

pub fn is_root() -> bool {
    read(Command::new("id").arg("-u")).is_ok_and(|uid| uid.trim() == "0")
}
