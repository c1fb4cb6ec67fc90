//! P7 and P8: building an image from a context of 16,000 files, cold, with nothing changed, with one file changed, and with
//! the dependency file changed.
//!
//! What counts is the CPU time of all that a build needs: client, daemon, and the steps themselves, from one control group
//! for each builder. In a round each builder begins with nothing but the base image and goes through the cases in their
//! order; after each case the image is run, unmeasured, to see that it holds the last edit. Steps need no network and get none.

mod builders;
mod context;
mod disk;

use crate::Result;
use crate::bundle::Lab;
use crate::measure::{Sample, shuffled, tell};
use crate::options::Options;
use crate::table::{Series, print_against};
use builders::{Builder, all};
use context::Context;
use disk::Disk;
use naru_kernel::{loopback, ns};

/// The peer of the promises.
const PEER: &str = "BuildKit";

const CASES: [(&str, Option<Edit>); 4] = [
    ("P7/P8: build, cold", None),
    ("P7: build, nothing changed", None),
    ("P8: build, one file changed", Some(Context::edit)),
    ("P8: build, dependency file changed", Some(Context::edit_dependencies)),
];

type Edit = fn(&mut Context) -> Result<()>;

pub fn run(options: &Options) -> Result<()> {
    ns::unshare(ns::NEWNET).map_err(|error| format!("cannot make a network namespace: {error}"))?;
    loopback::up()?;
    let lab = Lab::new()?;
    let disk = Disk::make(&lab.dir)?;
    let mut context = Context::make(disk.dir.join("project"))?;
    let (files, dirs, bytes) = context.measure()?;
    println!("The context: {files} files, {dirs} directories, {:.0} MB.\n", bytes as f64 / 1e6);
    let builders: Vec<Builder> = all(options)
        .into_iter()
        .filter(|builder| {
            options.runtimes.as_ref().is_none_or(|names| names.iter().any(|name| name == builder.name()))
        })
        .collect();
    let series =
        || builders.iter().map(|builder| Series { name: builder.name().to_owned(), samples: Vec::new() });
    let mut cases: Vec<Vec<Series>> = CASES.iter().map(|_| series().collect()).collect();
    for _ in 0..options.rounds {
        for at in shuffled(builders.len())? {
            for (case, sample) in round(&builders[at], &lab, &disk, &mut context)?.into_iter().enumerate() {
                cases[case][at].samples.push(sample);
            }
        }
    }
    for ((title, _), series) in CASES.iter().zip(&cases) {
        print_against(title, series, PEER);
    }
    Ok(())
}

/// One builder's way through all cases.
fn round(builder: &Builder, lab: &Lab, disk: &Disk, context: &mut Context) -> Result<Vec<Option<Sample>>> {
    let place = match builder.start(lab, &disk.dir) {
        Ok(place) => place,
        Err(error) => {
            eprintln!("bench: without {} this time: {error}", builder.name());
            return Ok(CASES.map(|_| None).to_vec());
        }
    };
    let mut samples = Vec::new();
    for (_, edit) in CASES {
        if let Some(edit) = edit {
            edit(context)?;
        }
        // What others wrote before is not this one's to write out.
        rustix::fs::sync();
        samples.push(tell(place.build(context)));
    }
    Ok(samples)
}
