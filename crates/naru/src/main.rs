//! naru: one binary, six roles. The role is chosen before anything else starts, because the keeper must stay small
//! and single-threaded and the CLI must be quick.

mod buildkit_host;
mod config;
mod daemon;
mod ops_face;
mod registry;
mod roles;
mod rootless;
mod step_runner;
mod wiring;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    if args.first().map(Path::new).and_then(Path::file_name).is_some_and(|name| name == naru_oci::PROGRAM) {
        return naru_oci::run(&args);
    }
    match args.get(1).and_then(|role| role.to_str()) {
        Some("daemon") => roles::daemon(&args[1..]),
        Some("keeper") => roles::keeper(&args[1..]),
        Some("oci") => naru_oci::run(&args[1..]),
        Some(rootless::MAP_ROLE) => {
            args.get(2).and_then(|pid| pid.to_str()).map_or(ExitCode::FAILURE, rootless::map_role)
        }
        Some("proxy") => roles::proxy(&args[1..]),
        Some("registry") => roles::registry(&args[1..]),
        _ => naru_cli::run(args),
    }
}
