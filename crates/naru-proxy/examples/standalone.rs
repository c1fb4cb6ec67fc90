//! The proxy alone, for benches and for the test of `launch`, with the command line that the real binary has:
//! `standalone proxy --run DIR --root DIR --http ADDR --https ADDR`.

use naru_proxy::ProxyConfig;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let of = |name: &str| {
        arguments.iter().skip_while(|argument| *argument != name).nth(1).cloned().unwrap_or_default()
    };
    let (Ok(http), Ok(https)) = (of("--http").parse(), of("--https").parse()) else {
        eprintln!("usage: standalone proxy --run DIR --root DIR --http ADDR --https ADDR");
        return ExitCode::from(2);
    };
    let config = ProxyConfig { root: of("--root").into(), run: of("--run").into(), http, https };
    match naru_proxy::run(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let error = naru_types::Error::from(error);
            eprintln!("error: {}\nhint: {}", error.chain(), error.hint().unwrap_or("none"));
            ExitCode::FAILURE
        }
    }
}
