//! Limits: the service's own keys and `deploy.resources`.

use crate::error::Result;
use crate::keys;
use crate::read::{At, Table};
use naru_types::spec::{Resources, Ulimit};

pub(crate) fn read(table: &Table<'_>) -> Result<Resources> {
    let mut resources = Resources {
        memory: table.read("mem_limit", At::bytes)?.unwrap_or(0),
        memory_reservation: table.read("mem_reservation", At::bytes)?.unwrap_or(0),
        memory_swap: table.read("memswap_limit", bytes_or_unlimited)?.unwrap_or(0),
        nano_cpus: table.read("cpus", cpus)?.unwrap_or(0),
        cpu_shares: table.read("cpu_shares", At::number)?.unwrap_or(0),
        cpu_quota: table.read("cpu_quota", At::number)?.unwrap_or(0),
        cpu_period: table.read("cpu_period", At::number)?.unwrap_or(0),
        cpuset_cpus: table.string("cpuset")?.unwrap_or_default(),
        pids: table.read("pids_limit", At::number)?,
        ..Resources::default()
    };
    one_container(table.get("scale"))?;
    if let Some(deploy) = table.get("deploy") {
        let deploy = deploy.table(&keys::DEPLOY, &keys::DEPLOY_REFUSED)?;
        one_container(deploy.get("replicas"))?;
        if let Some(both) = deploy.get("resources") {
            apply_deploy(&both, table, &mut resources)?;
        }
    }
    Ok(resources)
}

fn apply_deploy(at: &At<'_>, service: &Table<'_>, resources: &mut Resources) -> Result<()> {
    let both = at.table(&["limits", "reservations"], &[])?;
    if let Some(limits) = both.get("limits") {
        let limits = limits.table(&["cpus", "memory", "pids"], &[])?;
        for (key, old) in [("cpus", "cpus"), ("memory", "mem_limit"), ("pids", "pids_limit")] {
            if let (Some(new), Some(_)) = (limits.get(key), service.get(old)) {
                return Err(new
                    .error(format!("{old} of the service says the same"))
                    .hint("keep one of the two"));
            }
        }
        resources.nano_cpus = limits.read("cpus", cpus)?.unwrap_or(resources.nano_cpus);
        resources.memory = limits.read("memory", At::bytes)?.unwrap_or(resources.memory);
        resources.pids = limits.read("pids", At::number)?.or(resources.pids);
    }
    if let Some(reserved) = both.get("reservations") {
        let refused = [
            ("cpus", "there is no reservation of CPUs on one machine; use cpu_shares"),
            ("devices", "pass the device nodes with devices"),
            ("generic_resources", "it is for Swarm"),
        ];
        let reserved = reserved.table(&["memory"], &refused)?;
        resources.memory_reservation =
            reserved.read("memory", At::bytes)?.unwrap_or(resources.memory_reservation);
    }
    Ok(())
}

fn one_container(at: Option<At<'_>>) -> Result<()> {
    match at {
        Some(at) if at.number::<u32>()? != 1 => Err(at.unsupported(
            "more or less than one container for a service is not supported",
            "write the service twice, under two names",
        )),
        _ => Ok(()),
    }
}

fn cpus(at: &At<'_>) -> Result<i64> {
    let text = at.text()?;
    let cpus: f64 = text
        .parse()
        .ok()
        .filter(|cpus: &f64| cpus.is_finite() && (0.0..100_000.0).contains(cpus))
        .ok_or_else(|| at.error(format!("invalid number of CPUs {text:?}")).hint("write 0.5 or 2"))?;
    Ok((cpus * 1e9).round() as i64)
}

fn bytes_or_unlimited(at: &At<'_>) -> Result<i64> {
    if at.text()? == "-1" { Ok(-1) } else { at.bytes() }
}

pub(crate) fn ulimits(at: &At<'_>) -> Result<Vec<Ulimit>> {
    let mut ulimits = Vec::new();
    for (name, value) in at.entries()? {
        let (soft, hard) = if value.is_map() {
            let table = value.table(&["hard", "soft"], &[])?;
            let side = |key| {
                table.read(key, At::number::<i64>)?.ok_or_else(|| value.error(format!("{key} is missing")))
            };
            (side("soft")?, side("hard")?)
        } else {
            let both = value.number()?;
            (both, both)
        };
        if soft < -1 || hard < -1 || (hard != -1 && (soft > hard || soft == -1)) {
            return Err(value.error("the soft limit must not be above the hard one"));
        }
        ulimits.push(Ulimit { name, soft, hard });
    }
    ulimits.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(ulimits)
}
