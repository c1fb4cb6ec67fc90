//! `cargo xtask`: what a developer and CI run. `demo` does naru's main job on real input, `test` runs every
//! test; both set a fresh machine up by themselves.

mod demo;
mod guards;
mod guest;
mod images;
mod layers;
mod process;
mod registry;
mod setup;
mod test;
mod tidy;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  demo     build naru, make base images, deploy examples/hello behind HTTPS, watch it crash and recover, clean up
  test     every test that CI runs: format, layers, unit and end-to-end tests
  guest    the runtime's tests in a virtual machine: Debian's kernel, only cgroup v2, systemd, AppArmor
           guest rootless: the tests of an unprivileged user; guest NAME…: test binaries by name
  guards   takes one guard of the runtime out at a time and sees the test fail that is for it; guards NAME…: these
  fuzz     made inputs against all that reads bytes of strangers; fuzz [TARGET] [--seconds N], see fuzz/README.md
  tidy     only the fast checks: format, layers, file sizes
  images   only make the base images that demo and test use
  setup    only install the system packages that demo and test need";

fn main() -> ExitCode {
    let command = std::env::args().nth(1);
    let result = match command.as_deref() {
        Some("demo") => demo::run_demo(),
        Some("test") => test::run(),
        Some("guest") => guest::run(std::env::args().skip(2)),
        Some("guards") => guards::check(std::env::args().skip(2)),
        Some("fuzz") => fuzz(std::env::args().skip(2)),
        Some("tidy") => tidy::run(),
        Some("images") => setup::ensure().and_then(|()| images::ensure_all().map(drop)),
        Some("setup") => setup::ensure(),
        Some("help" | "--help" | "-h") => {
            println!("{USAGE}");
            Ok(())
        }
        _ => Err(format!("unknown command\n{USAGE}").into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

fn fuzz(args: impl Iterator<Item = String>) -> process::Result<()> {
    let mut cargo = std::process::Command::new(env!("CARGO"));
    cargo.args(["run", "--quiet", "--package", "naru-fuzz", "--"]).args(args);
    process::run(cargo.current_dir(process::repository()))
}
