//! Block I/O: weights and throttles.

use crate::cgroup::{Cgroup, CgroupError, files};
use crate::oci::{BlockIo, ThrottleDevice};
use naru_kernel::Errno;
use std::path::Path;

/// The files of a weight, the BFQ scheduler's and the other one; which of them is there depends on the kernel.
struct WeightFiles {
    group: [&'static str; 2],
    device: [&'static str; 2],
}

const V1: WeightFiles = WeightFiles {
    group: ["blkio.weight", "blkio.bfq.weight"],
    device: ["blkio.weight_device", "blkio.bfq.weight_device"],
};
const V2: WeightFiles =
    WeightFiles { group: ["io.bfq.weight", "io.weight"], device: ["io.bfq.weight", "io.weight"] };

pub(super) fn apply(cgroup: &Cgroup, asked: &BlockIo, warnings: &mut Vec<String>) -> Result<(), CgroupError> {
    if *asked == BlockIo::default() {
        return Ok(());
    }
    let Some((directory, v2)) = cgroup.controller_directory("blkio") else {
        if throttles(asked).iter().all(|(_, _, list)| list.is_empty()) && asked.weight_discardable {
            warnings.push(DISCARDED.into());
            return Ok(());
        }
        return Err(CgroupError::NoController("blkio"));
    };
    weights(&directory, v2, asked, warnings)?;
    for (v1_file, v2_key, devices) in throttles(asked) {
        for ThrottleDevice { major, minor, rate } in devices {
            if v2 {
                // A rate of 0 takes the limit away in v1; v2 has a word for it.
                let rate = if *rate == 0 { "max".into() } else { rate.to_string() };
                files::write(&directory.join("io.max"), &format!("{major}:{minor} {v2_key}={rate}"))?;
            } else {
                let file = directory.join(format!("blkio.throttle.{v1_file}"));
                files::write(&file, &format!("{major}:{minor} {rate}"))?;
            }
        }
    }
    Ok(())
}

/// As Docker says it.
const DISCARDED: &str = "block I/O weight discarded: this kernel has no I/O scheduler that takes one";

fn throttles(asked: &BlockIo) -> [(&'static str, &'static str, &[ThrottleDevice]); 4] {
    [
        ("read_bps_device", "rbps", &asked.throttle_read_bps_device),
        ("write_bps_device", "wbps", &asked.throttle_write_bps_device),
        ("read_iops_device", "riops", &asked.throttle_read_iops_device),
        ("write_iops_device", "wiops", &asked.throttle_write_iops_device),
    ]
}

fn weights(
    directory: &Path,
    v2: bool,
    asked: &BlockIo,
    warnings: &mut Vec<String>,
) -> Result<(), CgroupError> {
    let names = if v2 { V2 } else { V1 };
    if let Some(weight) = asked.weight.filter(|weight| *weight != 0) {
        match first_of(directory, names.group, |file| in_range_of(file, weight).to_string()) {
            Err(CgroupError::Kernel { source: Errno::NOENT | Errno::OPNOTSUPP, .. })
                if asked.weight_discardable =>
            {
                warnings.push(DISCARDED.into());
            }
            other => other?,
        }
    }
    if let Some(weight) = asked.leaf_weight.filter(|weight| *weight != 0) {
        if v2 {
            return Err(CgroupError::NotInV2("block I/O leaf weight"));
        }
        files::write(&directory.join("blkio.leaf_weight"), &weight.to_string())?;
    }
    for device in &asked.weight_device {
        let number = format!("{}:{}", device.major, device.minor);
        if let Some(weight) = device.weight.filter(|weight| *weight != 0) {
            first_of(directory, names.device, |file| format!("{number} {}", in_range_of(file, weight)))?;
        }
        if let Some(weight) = device.leaf_weight.filter(|weight| *weight != 0) {
            if v2 {
                return Err(CgroupError::NotInV2("block I/O leaf weight"));
            }
            files::write(&directory.join("blkio.leaf_weight_device"), &format!("{number} {weight}"))?;
        }
    }
    Ok(())
}

/// Writes the file that there is; the error is the last one's.
fn first_of(directory: &Path, names: [&str; 2], value: impl Fn(&str) -> String) -> Result<(), CgroupError> {
    match files::write(&directory.join(names[0]), &value(names[0])) {
        Err(CgroupError::Kernel { source: Errno::NOENT | Errno::OPNOTSUPP, .. }) => {
            files::write(&directory.join(names[1]), &value(names[1]))
        }
        other => other,
    }
}

/// The weight of io.weight for one of v1.
pub(in crate::cgroup) fn io_weight(weight: u16) -> u64 {
    in_range_of("io.weight", weight)
}

/// Weights are 10..=1000; io.weight alone has 1..=10000.
fn in_range_of(file: &str, weight: u16) -> u64 {
    let weight = u64::from(weight);
    if file == "io.weight" { 1 + weight.saturating_sub(10) * 9999 / 990 } else { weight }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_as_runc_converts_them() {
        let table: [(u16, u64); 4] = [(10, 1), (100, 910), (500, 4950), (1000, 10_000)];
        for (weight, expected) in table {
            assert_eq!(in_range_of("io.weight", weight), expected);
            assert_eq!(in_range_of("io.bfq.weight", weight), u64::from(weight));
        }
    }
}
