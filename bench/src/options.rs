//! The command line after the command: pairs of a name and a value.

use crate::Result;
use crate::view::View;
use std::path::PathBuf;

/// As many as the issue of the promises asks for.
const ROUNDS_DEFAULT: usize = 30;
const PEER_CONTAINERS_DEFAULT: usize = 20;

pub struct Options {
    pub naru: PathBuf,
    pub peers: PathBuf,
    pub runtimes: Option<Vec<String>>,
    pub view: View,
    pub rounds: usize,
    pub containers: Vec<usize>,
    pub peer_containers: usize,
    pub suite: Option<String>,
    pub only: Option<String>,
    pub details: Option<PathBuf>,
    pub results: Option<PathBuf>,
}

impl Options {
    pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self::defaults();
        while let Some(name) = args.next() {
            let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--naru" => options.naru = PathBuf::from(value),
                "--peers" => options.peers = PathBuf::from(value),
                "--runtimes" => options.runtimes = Some(words(&value)),
                "--view" => options.view = View::parse(&value)?,
                "--rounds" => options.rounds = value.parse()?,
                "--containers" => {
                    options.containers = words(&value)
                        .iter()
                        .map(|word| word.parse())
                        .collect::<std::result::Result<_, _>>()?;
                }
                "--peer-containers" => options.peer_containers = value.parse()?,
                "--suite" => options.suite = Some(value),
                "--only" => options.only = Some(value),
                "--results" => options.results = Some(PathBuf::from(value)),
                "--details" => options.details = Some(PathBuf::from(value)),
                _ => return Err(format!("unknown option {name}\n{}", crate::USAGE).into()),
            }
        }
        // Children run in other directories.
        options.naru = std::path::absolute(&options.naru)?;
        options.peers = std::path::absolute(&options.peers)?;
        Ok(options)
    }

    fn defaults() -> Self {
        Self {
            naru: PathBuf::from("target/x86_64-unknown-linux-gnu/release/naru"),
            peers: PathBuf::from("/tmp/lab"),
            runtimes: None,
            view: View::V2,
            rounds: ROUNDS_DEFAULT,
            containers: vec![0, 100, 300],
            peer_containers: PEER_CONTAINERS_DEFAULT,
            suite: None,
            only: None,
            details: None,
            results: None,
        }
    }
}

fn words(list: &str) -> Vec<String> {
    list.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}
