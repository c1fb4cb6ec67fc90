//! P6: pulling an image of four layers (about 140 MB of gzip, 27,000 entries) from a registry on this machine, with
//! nothing there and with half of the layers there.
//!
//! What counts is the CPU time of all that a pull needs: the client's, and the daemon's where there is one. naru's figure
//! includes making it durable: it lists an image when all of it is on the disk. Every run has fresh directories of its own;
//! the registry's CPU time is nobody's.

mod image;
mod pullers;

use crate::Result;
use crate::bundle::Lab;
use crate::measure::{Sample, shuffled, tell};
use crate::options::Options;
use crate::table::{Series, print_against};
use naru_kernel::{loopback, ns};
use pullers::{Puller, all};

/// The peer of the promise.
const PEER: &str = "containerd";

/// Two images: the second has the first one's layers and as many again.
pub struct Images {
    pub half: String,
    pub whole: String,
}

pub fn run(options: &Options) -> Result<()> {
    ns::unshare(ns::NEWNET).map_err(|error| format!("cannot make a network namespace: {error}"))?;
    loopback::up()?;
    let lab = Lab::new()?;
    let registry = image::Registry::start(&lab)?;
    let images = registry.fill(&lab)?;
    println!("{}\n", registry.described());
    let contenders = ready(options, &lab, &images)?;
    for (title, is_half) in [("cold", false), ("half of the layers there", true)] {
        let mut series: Vec<Series> = contenders
            .iter()
            .map(|puller| Series { name: puller.name().to_owned(), samples: Vec::new() })
            .collect();
        for _ in 0..options.rounds {
            for at in shuffled(contenders.len())? {
                series[at].samples.push(tell(once(&contenders[at], &lab, &images, is_half)));
            }
        }
        print_against(&format!("P6: pull, {title}"), &series, PEER);
    }
    Ok(())
}

/// Those that pull the smaller image once: what comes after finds programs and libraries in memory for all of them.
fn ready(options: &Options, lab: &Lab, images: &Images) -> Result<Vec<Puller>> {
    let wanted = |puller: &Puller| {
        options.runtimes.as_ref().is_none_or(|names| names.iter().any(|name| name == puller.name()))
    };
    let mut contenders = Vec::new();
    for puller in all(options).into_iter().filter(wanted) {
        match puller.start(lab).and_then(|mut place| place.pull(&images.half)) {
            Ok(_) => contenders.push(puller),
            Err(error) => eprintln!("bench: without {}: {error}", puller.name()),
        }
    }
    if contenders.is_empty() { Err("nothing to measure".into()) } else { Ok(contenders) }
}

fn once(puller: &Puller, lab: &Lab, images: &Images, is_half: bool) -> Result<Sample> {
    let mut place = puller.start(lab)?;
    if is_half {
        place.pull(&images.half)?;
    }
    // What others wrote before is not this one's to write out.
    rustix::fs::sync();
    place.pull(&images.whole)
}
