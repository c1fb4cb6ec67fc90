//! The keeper role alone, for the tests of this crate: `keeper keeper --run <dir>`, as `naru keeper` is started.

use naru_runtime::keeper::server::{KeeperConfig, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let words = (args.next(), args.next(), args.next());
    let (Some(role), Some(flag), Some(run_dir)) = words else { return ExitCode::from(2) };
    if role != "keeper" || flag != "--run" {
        return ExitCode::from(2);
    }
    match run(KeeperConfig { run_dir: run_dir.into() }) {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
