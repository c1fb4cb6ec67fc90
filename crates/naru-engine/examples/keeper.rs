//! The keeper role alone, for the tests of this crate: `keeper keeper --run <dir>`, as `naru keeper` is started.

use naru_runtime::keeper::Role;
use naru_runtime::keeper::server::run;
use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let Some((role, args)) = args.split_first() else { return ExitCode::from(2) };
    match Role::parse(args) {
        Ok(keeper) if role == "keeper" => match run(keeper) {
            Ok(_) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Ok(_) | Err(_) => ExitCode::from(2),
    }
}
