//! `networks` and `volumes` at the top level of the file.

use crate::error::Result;
use crate::keys;
use crate::model::{Ipam, Network, Volume};
use crate::read::{At, Table};
use naru_types::id::is_valid_name;
use std::collections::BTreeMap;

pub(crate) fn networks(project: &str, at: Option<At<'_>>) -> Result<BTreeMap<String, Network>> {
    let plain = |key: &str| Network {
        key: key.to_owned(),
        name: format!("{project}_{key}"),
        external: false,
        internal: false,
        labels: BTreeMap::new(),
        options: BTreeMap::new(),
        ipam: Vec::new(),
    };
    let mut found = BTreeMap::from([("default".to_owned(), plain("default"))]);
    for (key, at) in at.map(|at| at.entries()).transpose()?.unwrap_or_default() {
        let table = at.table(&keys::NETWORK, &keys::NETWORK_REFUSED)?;
        let mut network = plain(&key);
        if let Some(driver) = table.get("driver")
            && driver.text()? != "bridge"
        {
            return Err(driver
                .unsupported(format!("network driver {:?} is not supported", driver.text()?), "use bridge"));
        }
        (network.external, network.name) = naming(&table, &key, network.name)?;
        network.internal = table.flag("internal")?;
        // Any container may join any network here.
        table.flag("attachable")?;
        network.labels = table.read("labels", At::labels)?.unwrap_or_default();
        network.options = table.read("driver_opts", At::labels)?.unwrap_or_default();
        network.ipam = table.read("ipam", ipam)?.unwrap_or_default();
        found.insert(key, network);
    }
    Ok(found)
}

fn ipam(at: &At<'_>) -> Result<Vec<Ipam>> {
    let table = at.table(&["config", "driver"], &[("options", "set subnet, ip_range and gateway")])?;
    if let Some(driver) = table.get("driver")
        && driver.text()? != "default"
    {
        return Err(driver.unsupported("other IPAM drivers are not supported", "leave it out"));
    }
    let one = |item: At<'_>| {
        let refused = [("aux_addresses", "keep the addresses out of ip_range")];
        let table = item.table(&["gateway", "ip_range", "subnet"], &refused)?;
        let gateway =
            table.read("gateway", |at| at.text()?.parse().map_err(|_| at.error("not an IPv4 address")))?;
        Ok(Ipam { subnet: table.string("subnet")?, ip_range: table.string("ip_range")?, gateway })
    };
    table.get("config").map(|at| at.items()).transpose()?.unwrap_or_default().into_iter().map(one).collect()
}

pub(crate) fn volumes(project: &str, at: Option<At<'_>>) -> Result<BTreeMap<String, Volume>> {
    let mut found = BTreeMap::new();
    for (key, at) in at.map(|at| at.entries()).transpose()?.unwrap_or_default() {
        let table = at.table(&keys::VOLUME, &keys::VOLUME_REFUSED)?;
        if let Some(driver) = table.get("driver")
            && driver.text()? != "local"
        {
            return Err(driver
                .unsupported(format!("volume driver {:?} is not supported", driver.text()?), "use local"));
        }
        let (external, name) = naming(&table, &key, format!("{project}_{key}"))?;
        let labels = table.read("labels", At::labels)?.unwrap_or_default();
        found.insert(key.clone(), Volume { key, name, external, labels });
    }
    Ok(found)
}

/// `external` and `name`: what is external is called as it is.
fn naming(table: &Table<'_>, key: &str, default: String) -> Result<(bool, String)> {
    let external = table.flag("external")?;
    let name = match table.get("name") {
        Some(at) if !is_valid_name(at.text()?, 1) => {
            return Err(at.error(format!("invalid name {:?}", at.text()?)));
        }
        Some(at) => at.text()?.to_owned(),
        None if external => key.to_owned(),
        None => default,
    };
    if !is_valid_name(&name, 1) {
        return Err(table.at.error(format!("invalid name {name:?}")));
    }
    Ok((external, name))
}
