//! The keeper as a process of its own, with real containers, killed and revived.
//!
//! This binary is its own keeper (`keeper --run DIR`) and its own doomed daemon (`daemon DIR`): the keeper must be a
//! process with one thread, which a test harness is not; hence `harness = false`. Arguments filter cases by name.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(
    clippy::wildcard_imports,
    clippy::needless_pass_by_value,
    reason = "cases should read as short as they are"
)]

#[path = "../common/mod.rs"]
mod common;
mod crashes;
mod fixture;
mod fuzz;
mod lives;
mod streams;
mod stuck;
mod upgrades;

use std::time::Instant;

type Case = (&'static str, fn());

const CASES: &[Case] = &[
    ("a_million_lines_are_whole_across_rotations", streams::a_million_lines_are_whole_across_rotations),
    (
        "an_early_client_gets_the_first_byte_and_stdin_closes_once",
        streams::an_early_client_gets_the_first_byte_and_stdin_closes_once,
    ),
    ("an_early_client_that_hangs_up_is_let_go", streams::an_early_client_that_hangs_up_is_let_go),
    ("stdin_stays_open_for_the_next_client", streams::stdin_stays_open_for_the_next_client),
    (
        "a_client_that_does_not_read_stops_only_its_container",
        streams::a_client_that_does_not_read_stops_only_its_container,
    ),
    ("input_waits_for_the_process", streams::input_waits_for_the_process),
    ("a_terminal_echoes_and_resizes", streams::a_terminal_echoes_and_resizes),
    ("exits_are_told_and_recorded", lives::exits_are_told_and_recorded),
    ("execs_have_streams_and_exits_of_their_own", lives::execs_have_streams_and_exits_of_their_own),
    ("an_exec_that_cannot_go_on_holds_up_nobody", stuck::an_exec_that_cannot_go_on_holds_up_nobody),
    ("a_start_that_cannot_go_on_holds_up_nobody", stuck::a_start_that_cannot_go_on_holds_up_nobody),
    ("a_start_that_takes_too_long_is_given_up", stuck::a_start_that_takes_too_long_is_given_up),
    ("a_start_whose_daemon_has_gone_is_given_up", stuck::a_start_whose_daemon_has_gone_is_given_up),
    ("a_container_inherits_nothing_of_the_keeper", lives::a_container_inherits_nothing_of_the_keeper),
    ("pause_update_and_out_of_memory", lives::pause_update_and_out_of_memory),
    ("leftovers_in_the_host_pid_namespace_are_killed", lives::leftovers_in_the_host_pid_namespace_are_killed),
    ("nothing_is_left_of_forgotten_containers", lives::nothing_is_left_of_forgotten_containers),
    ("the_keepers_binary_cannot_be_written", lives::the_keepers_binary_cannot_be_written),
    ("a_second_keeper_gives_way", lives::a_second_keeper_gives_way),
    ("garbage_is_refused_and_survived", lives::garbage_is_refused_and_survived),
    ("a_live_keeper_survives_mutated_messages", fuzz::a_live_keeper_survives_mutated_messages),
    (
        "a_killed_keeper_loses_no_line_and_no_exit_code",
        crashes::a_killed_keeper_loses_no_line_and_no_exit_code,
    ),
    ("a_killed_keeper_loses_no_terminal_and_no_exec", crashes::a_killed_keeper_loses_no_terminal_and_no_exec),
    (
        "keeper_and_daemon_killed_together_lose_no_line",
        crashes::keeper_and_daemon_killed_together_lose_no_line,
    ),
    ("an_upgrade_loses_nothing", upgrades::an_upgrade_loses_nothing),
    (
        "an_upgrade_that_cannot_be_is_refused_and_changes_nothing",
        upgrades::an_upgrade_that_cannot_be_is_refused,
    ),
    ("an_exit_during_the_upgrade_is_told", upgrades::an_exit_during_the_upgrade_is_told),
    ("a_stop_becomes_a_kill_without_its_daemon", upgrades::a_stop_becomes_a_kill_without_its_daemon),
    ("a_killed_daemon_changes_nothing", crashes::a_killed_daemon_changes_nothing),
    ("a_keeper_is_small", crashes::a_keeper_is_small),
];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("keeper") => fixture::be_the_keeper(&args),
        Some("daemon") => crashes::be_the_daemon(&args),
        _ if common::skip() => {}
        _ => run_cases(&args),
    }
}

fn run_cases(filters: &[String]) {
    let filters: Vec<&String> = filters.iter().filter(|arg| !arg.starts_with('-')).collect();
    for (name, case) in CASES {
        if filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str())) {
            let start = Instant::now();
            case();
            println!("test {name} ... ok ({} ms)", start.elapsed().as_millis());
        }
    }
}
