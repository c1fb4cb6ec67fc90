//! The rarer statistics: huge pages, RDMA and pressure. As in [`super::stats_read`], what is missing stays at zero.

use super::files;
use super::stats::{HugetlbStats, Pressure, Pressures, RdmaEntry, RdmaStats, Stall};
use std::collections::BTreeMap;
use std::path::Path;

/// One entry for each page size that the group has a file of.
pub(super) fn hugetlb(dir: &Path, v2: bool) -> BTreeMap<String, HugetlbStats> {
    let end = if v2 { ".current" } else { ".usage_in_bytes" };
    let Ok(entries) = std::fs::read_dir(dir) else { return BTreeMap::new() };
    let sizes = entries.flatten().filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let size = name.strip_prefix("hugetlb.")?.strip_suffix(end)?;
        // Not the reservations (`2MB.rsvd`).
        (!size.contains('.')).then(|| size.to_owned())
    });
    let number = |file: String| files::read_number(&dir.join(file)).unwrap_or(0);
    let stats = |size: &str| HugetlbStats {
        usage: number(format!("hugetlb.{size}{end}")),
        max_usage: if v2 { 0 } else { number(format!("hugetlb.{size}.max_usage_in_bytes")) },
        failcnt: if v2 {
            let events = text(&dir.join(format!("hugetlb.{size}.events")));
            files::flat_keyed(&events).get("max").copied().unwrap_or(0)
        } else {
            number(format!("hugetlb.{size}.failcnt"))
        },
    };
    sizes.map(|size| (size.clone(), stats(&size))).collect()
}

pub(super) fn rdma(dir: &Path) -> RdmaStats {
    let read = |file: &str| parse_rdma(&text(&dir.join(file)));
    RdmaStats { current: read("rdma.current"), limit: read("rdma.max") }
}

pub(super) fn pressures(dir: &Path) -> Pressures {
    // Without PSI the files are missing, or reading them is EOPNOTSUPP.
    let read = |what: &str| {
        let text = std::fs::read_to_string(dir.join(format!("{what}.pressure"))).ok()?;
        Some(parse_pressure(&text))
    };
    Pressures { cpu: read("cpu"), memory: read("memory"), io: read("io") }
}

/// `mlx4_0 hca_handle=2 hca_object=max`
fn parse_rdma(text: &str) -> Vec<RdmaEntry> {
    let entry = |line: &str| {
        let (device, rest) = line.split_once(' ')?;
        let value = |key: &str| {
            let word = rest.split_whitespace().find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
            match word {
                Some("max") => u32::MAX,
                Some(number) => number.parse().unwrap_or(0),
                None => 0,
            }
        };
        Some(RdmaEntry {
            device: device.to_owned(),
            hca_handles: value("hca_handle"),
            hca_objects: value("hca_object"),
        })
    };
    text.lines().filter_map(entry).collect()
}

/// `some avg10=0.00 avg60=0.12 avg300=0.03 total=4711`
fn parse_pressure(text: &str) -> Pressure {
    let mut pressure = Pressure::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let stall: &mut Stall = match words.next() {
            Some("some") => &mut pressure.some,
            Some("full") => &mut pressure.full,
            _ => continue,
        };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            match key {
                "avg10" => stall.avg10 = value.parse().unwrap_or(0.0),
                "avg60" => stall.avg60 = value.parse().unwrap_or(0.0),
                "avg300" => stall.avg300 = value.parse().unwrap_or(0.0),
                "total" => stall.total_us = value.parse().unwrap_or(0),
                _ => {}
            }
        }
    }
    pressure
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_lines() {
        let parsed = parse_pressure(
            "some avg10=1.50 avg60=0.12 avg300=0.03 total=4711\nfull avg10=0.00 avg60=0.00 avg300=0.25 total=7\n",
        );
        assert_eq!((parsed.some.avg10, parsed.some.total_us), (1.5, 4711));
        assert_eq!((parsed.full.avg300, parsed.full.total_us), (0.25, 7));
    }

    #[test]
    fn rdma_lines() {
        let parsed = parse_rdma("mlx4_0 hca_handle=2 hca_object=max\n");
        assert_eq!(parsed, [RdmaEntry { device: "mlx4_0".into(), hca_handles: 2, hca_objects: u32::MAX }]);
    }

    #[test]
    fn huge_pages_of_both_versions() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, value: &str| std::fs::write(dir.path().join(name), value).unwrap();
        put("hugetlb.2MB.current", "4194304\n");
        put("hugetlb.2MB.rsvd.current", "1\n");
        put("hugetlb.2MB.events", "max 3\n");
        put("hugetlb.1GB.usage_in_bytes", "5\n");
        put("hugetlb.1GB.max_usage_in_bytes", "6\n");
        put("hugetlb.1GB.failcnt", "7\n");
        let v2 = hugetlb(dir.path(), true);
        assert_eq!(v2.len(), 1);
        assert_eq!(v2["2MB"], HugetlbStats { usage: 4_194_304, max_usage: 0, failcnt: 3 });
        let v1 = hugetlb(dir.path(), false);
        assert_eq!(v1["1GB"], HugetlbStats { usage: 5, max_usage: 6, failcnt: 7 });
    }
}
