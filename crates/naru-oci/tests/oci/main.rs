//! The commands as processes, with real containers of busybox.
//!
//! This binary is its own runtime (`<binary> oci …`): what is tested must be a process with one thread and an executable
//! of its own, which a test harness is not; hence `harness = false`. Arguments filter cases by name.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod conform;
mod crashes;
mod exec;
mod faces;
mod fixture;
mod hooks;
mod io;
mod lives;
mod resources;
mod scopes;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

type Case = (&'static str, fn());

const CASES: &[Case] = &[
    ("a_whole_life", lives::a_whole_life),
    ("run_returns_the_exit_code", lives::run_returns_the_exit_code),
    ("run_keeps_when_asked", lives::run_keeps_when_asked),
    ("detached_runs_and_is_deleted_by_force", lives::detached_runs_and_is_deleted_by_force),
    ("wrong_moments_are_refused", lives::wrong_moments_are_refused),
    ("a_program_that_is_not_there", lives::a_program_that_is_not_there),
    ("signals_are_passed_on", lives::signals_are_passed_on),
    ("two_hundred_runs_leave_nothing", lives::two_hundred_runs_leave_nothing),
    ("a_stopped_container_is_told_from_a_reused_pid", lives::a_stopped_container_is_told_from_a_reused_pid),
    ("help_and_version", faces::help_and_version),
    ("mistakes_are_named", faces::mistakes_are_named),
    ("the_log_is_json", faces::the_log_is_json),
    ("spec_writes_a_bundle_that_runs", faces::spec_writes_a_bundle_that_runs),
    ("features_is_json", faces::features_is_json),
    ("the_same_shapes_as_runc", faces::the_same_shapes_as_runc),
    ("garbage_is_refused", faces::garbage_is_refused),
    ("only_one_create_wins", crashes::only_one_create_wins),
    ("a_killed_create_leaves_nothing", crashes::a_killed_create_leaves_nothing),
    ("a_damaged_state_is_removed_by_force", crashes::a_damaged_state_is_removed_by_force),
    ("exec_in_every_way", exec::exec_in_every_way),
    ("exec_is_refused", exec::exec_is_refused),
    ("exec_enters_a_sub_group", exec::exec_enters_a_sub_group),
    ("the_console_socket_gets_the_master", io::the_console_socket_gets_the_master),
    ("descriptors_are_preserved", io::descriptors_are_preserved),
    ("a_terminal_in_the_foreground", io::a_terminal_in_the_foreground),
    ("an_agent_has_its_listener_before_start", conform::an_agent_has_its_listener_before_start),
    ("an_initial_affinity_is_in_the_log", conform::an_initial_affinity_is_in_the_log),
    ("create_refuses_what_start_could_not_do", conform::create_refuses_what_start_could_not_do),
    ("a_mount_namespace_is_inherited", conform::a_mount_namespace_is_inherited),
    ("groups_are_those_of_the_spec", conform::groups_are_those_of_the_spec),
    ("hooks_run_at_their_points", hooks::hooks_run_at_their_points),
    ("a_failing_hook_fails_the_create", hooks::a_failing_hook_fails_the_create),
    ("update_is_seen_in_the_group", resources::update_is_seen_in_the_group),
    ("pause_and_resume", resources::pause_and_resume),
    ("events_and_ps", resources::events_and_ps),
    ("kill_all_without_a_pid_namespace", resources::kill_all_without_a_pid_namespace),
    ("a_life_in_a_scope", scopes::a_life_in_a_scope),
];

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    // As the real program's main does.
    if args.first().map(Path::new).and_then(Path::file_name).is_some_and(|name| name == naru_oci::PROGRAM) {
        return naru_oci::run(&args);
    }
    if args.get(1).is_some_and(|role| role == "oci") {
        return naru_oci::run(&args[1..]);
    }
    if !rustix::process::geteuid().is_root() {
        println!("SKIP: needs root");
        return ExitCode::SUCCESS;
    }
    let filters: Vec<String> = args.iter().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    let wanted = |name: &str| {
        let words: Vec<&String> = filters.iter().filter(|word| !word.starts_with('-')).collect();
        words.is_empty() || words.iter().any(|word| name.contains(word.as_str()))
    };
    // What the caller happened to have: a mask of its own would hide the bundle from a container's user, and its open
    // files would be counted among those that a case hands on.
    naru_kernel::exec::set_umask(0o022);
    if let Err(error) = naru_kernel::exec::cloexec_from(3) {
        println!("FAIL: inherited files: {error}");
        return ExitCode::FAILURE;
    }
    let mut failed = Vec::new();
    for (name, case) in CASES.iter().filter(|(name, _)| wanted(name)) {
        let started = Instant::now();
        let good = std::panic::catch_unwind(case).is_ok();
        if !good {
            failed.push(*name);
        }
        println!("{} {name} ({} ms)", if good { "ok  " } else { "FAIL" }, started.elapsed().as_millis());
    }
    let passed = CASES.iter().filter(|(name, _)| wanted(name)).count() - failed.len();
    // The harness's own line: whoever counts results counts these, too.
    let verdict = if failed.is_empty() { "ok" } else { "FAILED" };
    println!("failures: {failed:?}\ntest result: {verdict}. {passed} passed; {} failed", failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
