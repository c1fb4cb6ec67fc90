//! The benches behind PROMISES.md: naru beside the peers, interleaved in one run, and the conformance suites.
//!
//! Absolute times drift from machine to machine and from minute to minute. So each round starts every runtime once, in
//! random order, and what counts is the ratio of two runtimes within a round. `README.md` says how to get the peers.

mod bundle;
mod conformance;
mod measure;
mod options;
mod p1;
mod p2;
mod p4;
mod p6;
mod p7;
mod runtimes;
mod suites;
mod table;
mod verdicts;
mod view;

use options::Options;
use std::process::ExitCode;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const USAGE: &str = "\
usage: bench COMMAND [OPTIONS]        (as root)

  p1            RUNTIME run of a container that ends at once
  p2            RUNTIME exec of `true` in a running container
  p4            memory of what supervises the containers
  p6            pull from a local registry, against containerd, podman and skopeo
  p7            build from a context of 16,000 files, against BuildKit and buildah (P7 and P8)
  conformance   runtime-tools' validation suite and youki's contest, as a table
  conformance-table   one table of all the runs that wrote to the same --results

  --naru PATH       the naru binary (default target/x86_64-unknown-linux-gnu/release/naru)
  --peers DIR       where peers.sh put the others (default /tmp/lab)
  --runtimes LIST   only these, for example naru,crun
  --view VIEW       how control groups look: v1, v2 or hybrid (as the machine is)
  --rounds N        rounds of p1, p2, p6 and p7 (default 30)
  --containers LIST numbers of containers for p4 (default 0,100,300)
  --peer-containers N   containers of each peer for p4 (default 20)
  --suite NAME      only validation or only contest
  --only TEXT       only tests with this in their name
  --details FILE    what each failing test said
  --results FILE    where to add the verdicts of this run";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let command = args.next().unwrap_or_default();
    let result = Options::parse(args).and_then(|options| match command.as_str() {
        "p1" => p1::run(&options),
        "p2" => p2::run(&options),
        "p4" => p4::run(&options),
        "p6" => p6::run(&options),
        "p7" | "p8" => p7::run(&options),
        "conformance" => conformance::run(&options),
        "conformance-table" => conformance::table(&options),
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            Ok(())
        }
        _ => Err(format!("unknown command {command:?}\n{USAGE}").into()),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}
