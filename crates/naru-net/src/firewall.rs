//! What packets meet: one nftables table per instance, with a fixed set of rules over named sets.
//!
//! A network or a published port is an element of a set, never a rule: adding one costs the same with none and with
//! ten thousand there, and the packet path is a hash look-up.
//!
//! ```text
//! prerouting (nat)   jump dnat                        output (nat)   jump dnat
//! dnat               dnat to ip daddr . l4proto . dport map @ports_addr
//!                    fib daddr type local dnat to l4proto . dport map @ports_any
//! raw                iifname != lo ip daddr 127.0.0.0/8 drop
//! forward            ct state established,related accept
//!                    iifname . oifname @same accept
//!                    iifname @internal drop; oifname @internal drop
//!                    oifname @bridges ct status dnat accept; oifname @bridges drop
//! postrouting        ip saddr . oifname @hairpin ct status dnat masquerade
//!                    ip saddr 127.0.0.0/8 oifname @bridges masquerade
//!                    iifname @masquerade oifname != @bridges masquerade
//! guard (optional)   iifkind != "" accept; oifkind != "" accept; drop   (forwarding was off before we switched it on: the host does
//!                    not become a router between its physical cards, while bridges and tunnels of others stay free)
//! ```
//! Another table's drop still wins over our accept (an accept ends its own base chain only); [`blockers`] finds those.

use crate::elements::{
    IFNAME_BYTES, address_key, change_network, change_ports, element, ifname, target_data,
};
use crate::error::{Context as _, NetError};
use crate::model::{Network, PublishedPort};
use naru_kernel::netlink::conntrack;
use naru_kernel::netlink::nft::{Batch, Expr, FieldType, Hook, Meta, NftSocket, Set, register};
use naru_types::spec::Proto;
use std::collections::HashSet;
use std::net::Ipv4Addr;

pub(crate) const GUARD_CHAIN: &str = "guard";
const RAW_PRIORITY: i32 = -300;
const DSTNAT_PRIORITY: i32 = -100;
const FILTER_PRIORITY: i32 = 0;
const SRCNAT_PRIORITY: i32 = 100;
/// nf_conntrack state bits of <linux/netfilter/nf_tables.h>: established and related.
const CT_ESTABLISHED_RELATED: [u8; 4] = (2u32 | 4).to_ne_bytes();
/// IPS_DST_NAT.
const CT_DNAT: [u8; 4] = (1u32 << 5).to_ne_bytes();
/// RTN_LOCAL.
const LOCAL: u32 = 2;
const SADDR_OFFSET: u32 = 12;
const DADDR_OFFSET: u32 = 16;
const DPORT_OFFSET: u32 = 2;

/// Where a published port leads.
pub(crate) type Target = (PublishedPort, Ipv4Addr);

/// The whole table from nothing, in one transaction: an older one of that name is replaced without a gap.
pub(crate) fn rebuild<'a>(
    table: &str,
    networks: impl Iterator<Item = &'a Network>,
    ports: &[Target],
    guard: bool,
) -> Result<(), NetError> {
    let mut batch = Batch::default();
    // Deleting needs the table to be there.
    batch.table(table);
    batch.delete_table(table);
    batch.table(table);
    sets(&mut batch, table);
    nat_rules(&mut batch, table);
    forward_rules(&mut batch, table, guard);
    for network in networks {
        change_network(&mut batch, table, network, true);
    }
    change_ports(&mut batch, table, ports, true);
    commit(batch, "write the nftables table", table)
}

/// Adds or removes what concerns one network.
pub(crate) fn network(table: &str, network: &Network, add: bool) -> Result<(), NetError> {
    let mut batch = Batch::default();
    change_network(&mut batch, table, network, add);
    commit(
        batch,
        if add { "add to nftables the network" } else { "remove from nftables the network" },
        &network.name,
    )
}

/// Adds or removes published ports, all or none.
pub(crate) fn ports(table: &str, ports: &[Target], add: bool) -> Result<(), NetError> {
    if ports.is_empty() {
        return Ok(());
    }
    let mut batch = Batch::default();
    change_ports(&mut batch, table, ports, add);
    let step = if add { "publish ports in nftables table" } else { "withdraw ports from nftables table" };
    commit(batch, step, table)?;
    forget_flows(ports);
    Ok(())
}

/// A UDP client that goes on sending would keep the translation of before.
fn forget_flows(ports: &[Target]) {
    let udp: HashSet<(u16, Ipv4Addr)> = ports
        .iter()
        .filter(|(port, _)| port.container.proto == Proto::Udp)
        .map(|(port, _)| (port.host_port, port.host_ip))
        .collect();
    if !udp.is_empty() {
        let ours = |addr, port| udp.contains(&(port, addr)) || udp.contains(&(port, Ipv4Addr::UNSPECIFIED));
        // A kernel without ctnetlink lets old flows end by themselves, 30 seconds after their last packet.
        let _ = conntrack::forget_udp(ours);
    }
}

/// Deletes the table; nothing to do when it is gone already.
pub(crate) fn delete(table: &str) -> Result<(), NetError> {
    let mut batch = Batch::default();
    batch.table(table);
    batch.delete_table(table);
    commit(batch, "delete the nftables table", table)
}

/// Whether our table is there (another program may have flushed the ruleset), and whether it has the guard.
pub(crate) fn present(table: &str) -> Result<(bool, bool), NetError> {
    let mut socket = NftSocket::open().step("open nfnetlink for", table)?;
    let exists = socket.table_exists(table).step("look for the nftables table", table)?;
    let guard = exists && socket.chain_exists(table, GUARD_CHAIN).step("look for the guard of", table)?;
    Ok((exists, guard))
}

/// Foreign chains that drop what is forwarded unless they know it, as `family table chain`.
pub(crate) fn blockers(table: &str) -> Vec<String> {
    let chains = NftSocket::open().and_then(|mut socket| socket.base_chains()).unwrap_or_default();
    chains
        .into_iter()
        .filter(|chain| chain.drops && chain.hook == Hook::Forward as u32 && chain.table != table)
        .map(|chain| format!("{} {} {}", chain.family, chain.table, chain.chain))
        .collect()
}

/// The table inside a container's namespace that leads 127.0.0.11:53 to the resolver's ports. Runs on a thread that is
/// in that namespace.
pub(crate) fn redirect_dns(
    table: &str,
    addr: Ipv4Addr,
    udp_port: u16,
    tcp_port: u16,
) -> Result<(), NetError> {
    use FieldType::{Ipv4, Port, Proto as ProtoField};
    let mut batch = Batch::default();
    batch.table(table);
    batch.delete_table(table);
    batch.table(table);
    batch.set(table, Set { name: "dns", key: &[Ipv4, ProtoField, Port], data: &[Ipv4, Port], ranges: false });
    batch.base_chain(table, "output", "nat", Hook::Output, DSTNAT_PRIORITY);
    batch.rule(table, "output", &dnat_by_address("dns"));
    let element = |proto, port| element(address_key(addr, proto, 53), None, Some(target_data(addr, port)));
    batch.add_elements(table, "dns", &[element(Proto::Udp, udp_port), element(Proto::Tcp, tcp_port)]);
    commit(batch, "redirect DNS inside the namespace to", addr)
}

fn commit(batch: Batch, step: &'static str, subject: impl ToString) -> Result<(), NetError> {
    NftSocket::open().and_then(|mut socket| socket.commit(batch)).step(step, subject)
}

fn sets(batch: &mut Batch, table: &str) {
    use FieldType::{Ifname, Ipv4, Port, Proto as ProtoField};
    let plain = |name, key| Set { name, key, data: &[], ranges: false };
    for name in ["bridges", "internal", "masquerade"] {
        batch.set(table, plain(name, &[Ifname]));
    }
    batch.set(table, plain("same", &[Ifname, Ifname]));
    batch.set(table, Set { name: "hairpin", key: &[Ipv4, Ifname], data: &[], ranges: true });
    let data = &[Ipv4, Port];
    batch.set(table, Set { name: "ports_any", key: &[ProtoField, Port], data, ranges: false });
    batch.set(table, Set { name: "ports_addr", key: &[Ipv4, ProtoField, Port], data, ranges: false });
}

fn nat_rules(batch: &mut Batch, table: &str) {
    use register::{R1, R1_WORD1};
    batch.chain(table, "dnat");
    batch.base_chain(table, "prerouting", "nat", Hook::Prerouting, DSTNAT_PRIORITY);
    batch.base_chain(table, "output", "nat", Hook::Output, DSTNAT_PRIORITY);
    batch.base_chain(table, "postrouting", "nat", Hook::Postrouting, SRCNAT_PRIORITY);
    batch.rule(table, "prerouting", &[Expr::Jump("dnat")]);
    batch.rule(table, "output", &[Expr::Jump("dnat")]);
    batch.rule(table, "dnat", &dnat_by_address("ports_addr"));
    batch.rule(
        table,
        "dnat",
        &[
            Expr::FibDaddrType { into: R1 },
            Expr::Equal { register: R1, value: &LOCAL.to_ne_bytes() },
            Expr::Meta { key: Meta::L4proto, into: R1 },
            Expr::Transport { offset: DPORT_OFFSET, len: 2, into: R1_WORD1 },
            Expr::Map { register: R1, map: "ports_any", into: R1 },
            Expr::Dnat { addr: R1, port: R1_WORD1 },
        ],
    );
    // A reply has to come back through us: within one bridge it would go straight to the client otherwise.
    batch.rule(
        table,
        "postrouting",
        &[
            Expr::Network { offset: SADDR_OFFSET, len: 4, into: R1 },
            Expr::Meta { key: Meta::Oifname, into: R1_WORD1 },
            Expr::InSet { register: R1, set: "hairpin", inverted: false },
            Expr::CtStatus { into: R1 },
            Expr::And { register: R1, mask: &CT_DNAT },
            Expr::NotEqual { register: R1, value: &[0; 4] },
            Expr::Masquerade,
        ],
    );
    batch.rule(
        table,
        "postrouting",
        &[
            Expr::Network { offset: SADDR_OFFSET, len: 1, into: R1 },
            Expr::Equal { register: R1, value: &[127] },
            Expr::Meta { key: Meta::Oifname, into: R1 },
            Expr::InSet { register: R1, set: "bridges", inverted: false },
            Expr::Masquerade,
        ],
    );
    batch.rule(
        table,
        "postrouting",
        &[
            Expr::Meta { key: Meta::Iifname, into: R1 },
            Expr::InSet { register: R1, set: "masquerade", inverted: false },
            Expr::Meta { key: Meta::Oifname, into: R1 },
            Expr::InSet { register: R1, set: "bridges", inverted: true },
            Expr::Masquerade,
        ],
    );
}

fn forward_rules(batch: &mut Batch, table: &str, guard: bool) {
    use register::{R1, R2};
    let interface =
        |key, set, inverted| [Expr::Meta { key, into: R1 }, Expr::InSet { register: R1, set, inverted }];
    // route_localnet on the bridges must not open the host's loopback to containers or neighbours.
    batch.base_chain(table, "raw", "filter", Hook::Prerouting, RAW_PRIORITY);
    batch.rule(
        table,
        "raw",
        &[
            Expr::Meta { key: Meta::Iifname, into: R1 },
            Expr::NotEqual { register: R1, value: &ifname("lo") },
            Expr::Network { offset: DADDR_OFFSET, len: 1, into: R1 },
            Expr::Equal { register: R1, value: &[127] },
            Expr::Drop,
        ],
    );
    batch.base_chain(table, "forward", "filter", Hook::Forward, FILTER_PRIORITY);
    let bits = |load, mask: &'static [u8; 4], verdict| {
        [load, Expr::And { register: R1, mask }, Expr::NotEqual { register: R1, value: &[0; 4] }, verdict]
    };
    batch.rule(table, "forward", &bits(Expr::CtState { into: R1 }, &CT_ESTABLISHED_RELATED, Expr::Accept));
    batch.rule(
        table,
        "forward",
        &[
            Expr::Meta { key: Meta::Iifname, into: R1 },
            Expr::Meta { key: Meta::Oifname, into: R2 },
            Expr::InSet { register: R1, set: "same", inverted: false },
            Expr::Accept,
        ],
    );
    for key in [Meta::Iifname, Meta::Oifname] {
        batch.rule(table, "forward", &[&interface(key, "internal", false)[..], &[Expr::Drop]].concat());
    }
    let into_bridge = interface(Meta::Oifname, "bridges", false);
    let published = bits(Expr::CtStatus { into: R1 }, &CT_DNAT, Expr::Accept);
    batch.rule(table, "forward", &[&into_bridge[..], &published[..]].concat());
    batch.rule(table, "forward", &[&into_bridge[..], &[Expr::Drop]].concat());
    if guard {
        batch.base_chain(table, GUARD_CHAIN, "filter", Hook::Forward, FILTER_PRIORITY);
        for key in [Meta::Iifkind, Meta::Oifkind] {
            batch.rule(
                table,
                GUARD_CHAIN,
                &[
                    Expr::Meta { key, into: R1 },
                    Expr::NotEqual { register: R1, value: &[0; IFNAME_BYTES] },
                    Expr::Accept,
                ],
            );
        }
        batch.rule(table, GUARD_CHAIN, &[Expr::Drop]);
    }
}

fn dnat_by_address(map: &str) -> [Expr<'_>; 5] {
    use register::{R1, R1_WORD1, R1_WORD2};
    [
        Expr::Network { offset: DADDR_OFFSET, len: 4, into: R1 },
        Expr::Meta { key: Meta::L4proto, into: R1_WORD1 },
        Expr::Transport { offset: DPORT_OFFSET, len: 2, into: R1_WORD2 },
        Expr::Map { register: R1, map, into: R1 },
        Expr::Dnat { addr: R1, port: R1_WORD1 },
    ]
}
