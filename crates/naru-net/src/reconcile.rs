//! Start-up: the host is made to agree with what the engine remembers, and what a crash left is swept. Also the
//! reasons why a host may not let traffic pass.

use crate::devices;
use crate::firewall;
use crate::model::{Network, Wanted, WantedContainer};
use crate::networks::Networks;
use crate::ports;
use crate::state::{Attached, State};
use naru_types::Result;
use std::collections::HashSet;
use std::os::fd::AsFd;

impl Networks {
    /// Makes the host agree with `wanted`: missing bridges, the table, port leases, resolver sockets; deletes this
    /// instance's strays. What cannot be restored is a sentence in the result, not an error: one broken network must not
    /// keep the others down.
    pub fn reconcile(&self, wanted: Wanted) -> Result<Vec<String>> {
        let mut warnings = Vec::new();
        let table = &self.config.nft_table;
        let switched_on = devices::ensure_forwarding()?;
        if switched_on {
            warnings.push(
                "IPv4 forwarding was off and has been switched on for containers; forwarding between the host's physical interfaces stays blocked".to_owned(),
            );
        }
        let (_, had_guard) = firewall::present(table)?;
        let mut state = self.lock();
        *state = State { guard: switched_on || had_guard, ..State::default() };
        for network in wanted.networks {
            self.restore_network(&mut state, network, &mut warnings);
        }
        self.sweep(&state, &wanted.containers, &mut warnings)?;
        let mut running = Vec::new();
        for container in wanted.containers {
            running.push((container.id.clone(), restore_container(&mut state, container, &mut warnings)));
        }
        self.rebuild(&state)?;
        drop(state);
        for (id, netns) in running {
            if let Err(error) = self.serve_names(&id, netns.as_fd()) {
                warnings.push(format!(
                    "names do not resolve inside container {}: {}",
                    id.short(),
                    error.chain()
                ));
            }
        }
        warnings.extend(self.host_warnings());
        Ok(warnings)
    }

    /// Reasons on this host why published ports or outward traffic may not work, in sentences.
    pub fn host_warnings(&self) -> Vec<String> {
        let blocks = |chain: String| {
            format!(
                "the host firewall drops forwarded packets in nftables chain `{chain}`; containers may be unreachable and offline until it accepts traffic of the bridges (e.g. `nft insert rule {chain} iifname \"{bridge}\" accept` and the same with oifname, or `ufw route allow`)",
                bridge = self.config.bridge
            )
        };
        firewall::blockers(&self.config.nft_table).into_iter().map(blocks).collect()
    }

    fn restore_network(&self, state: &mut State, network: Network, warnings: &mut Vec<String>) {
        if let Err(error) = devices::ensure_bridge(&network, &self.config.nft_table) {
            let error = naru_types::Error::from(error);
            warnings.push(format!("network {} could not be restored: {}", network.name, error.chain()));
        }
        if !network.is_default {
            self.zone.set_network(&network);
        }
        state.insert(network);
    }

    /// Deletes bridges and ports that carry our mark and that nobody wants.
    fn sweep(&self, state: &State, containers: &[WantedContainer], warnings: &mut Vec<String>) -> Result<()> {
        let (bridges, ports) = devices::ours(&self.config.nft_table)?;
        let keep_ports: HashSet<&str> = containers
            .iter()
            .flat_map(|c| &c.endpoints)
            .map(|endpoint| endpoint.host_device.as_str())
            .collect();
        let keep_bridges = state.devices();
        let stray_ports = ports.iter().filter(|port| !keep_ports.contains(port.as_str()));
        let stray_bridges = bridges.iter().filter(|bridge| !keep_bridges.contains(bridge));
        for device in stray_ports.chain(stray_bridges) {
            if let Err(error) = devices::delete(device) {
                warnings.push(naru_types::Error::from(error).chain());
            }
        }
        Ok(())
    }
}

fn restore_container(
    state: &mut State,
    wanted: WantedContainer,
    warnings: &mut Vec<String>,
) -> std::os::fd::OwnedFd {
    let mut attached = Attached { dns: wanted.dns, ..Attached::default() };
    for endpoint in wanted.endpoints {
        let Some(slot) = state.networks.get_mut(&endpoint.network) else {
            warnings.push(format!("container {} is on a network that is gone", wanted.id.short()));
            continue;
        };
        slot.ipam.adopt(endpoint.ipv4);
        if let Err(error) = devices::replug(&slot.network, &endpoint) {
            warnings.push(naru_types::Error::from(error).chain());
        }
        attached.endpoints.push(endpoint);
    }
    for port in wanted.ports {
        match ports::hold(port) {
            Ok(lease) => attached.leases.push(lease),
            Err(errno) => warnings.push(format!(
                "port {}:{} of container {} could not be held again: {errno}",
                port.host_ip,
                port.host_port,
                wanted.id.short()
            )),
        }
    }
    attached.published = attached.targets();
    state.containers.insert(wanted.id, attached);
    wanted.netns
}
