//! The layers are data: which crate may depend on which is derived from this table, and a test reads it
//! against `cargo metadata`. A crate depends only on lower layers, never on a sibling.

use crate::process::{Result, read, repository};
use serde_json::Value;
use std::process::Command;

/// (crate, layer).
pub const LAYERS: [(&str, u8); 22] = [
    ("naru-fuzz", 6),
    ("naru", 6),
    ("naru-api", 5),
    ("naru-cli", 5),
    ("naru-oci", 5),
    ("naru-ops", 4),
    ("naru-buildkit", 4),
    ("naru-engine", 3),
    ("naru-build", 3),
    ("naru-bootstrap", 3),
    ("naru-runtime", 2),
    ("naru-image", 2),
    ("naru-net", 2),
    ("naru-proxy", 2),
    ("naru-registry", 2),
    ("naru-observe", 2),
    ("naru-insight", 2),
    ("naru-kernel", 1),
    ("naru-tar", 1),
    ("naru-wire", 1),
    ("naru-compose", 1),
    ("naru-types", 0),
];

/// (crate, what it must never reach, directly or through others, why).
pub const FORBIDDEN: [(&str, &str, &str); 12] = [
    ("naru-types", "tokio", "nouns do no I/O"),
    ("naru-kernel", "tokio", "no thread before fork"),
    ("naru-runtime", "tokio", "no thread before fork: keeper and runtime are single-threaded"),
    ("naru-runtime", "rustls", "the keeper holds every container; it speaks no TLS"),
    ("naru-runtime", "hyper", "the keeper holds every container; it speaks no HTTP"),
    ("naru-net", "tokio", "set-up runs in short threads that change their namespace"),
    ("naru-compose", "naru-kernel", "a compose file is read without touching the machine"),
    ("naru-oci", "tokio", "no thread before fork, and started once per command"),
    ("naru-cli", "tokio", "the CLI starts in a millisecond"),
    ("naru-cli", "naru-engine", "the CLI is a client of the API, like any other"),
    ("naru-proxy", "naru-engine", "the proxy knows routes, not containers"),
    ("naru-proxy", "rusqlite", "the proxy outlives the daemon and shares no state with it"),
];

/// Every forbidden edge found, as sentences. Empty: all is well.
pub fn violations() -> Result<Vec<String>> {
    let metadata = read(
        Command::new(env!("CARGO"))
            .args(["metadata", "--format-version=1", "--offline", "--locked"])
            .current_dir(repository()),
    )?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let graph = Graph::from_metadata(&metadata)?;
    let mut found = graph.layer_violations();
    found.extend(graph.reach_violations());
    Ok(found)
}

/// Package name → names of its normal dependencies.
struct Graph(std::collections::BTreeMap<String, Vec<String>>);

impl Graph {
    fn from_metadata(metadata: &Value) -> Result<Self> {
        let name_of = |id: &Value| -> Option<String> {
            let packages = metadata["packages"].as_array()?;
            packages.iter().find(|p| p["id"] == *id)?["name"].as_str().map(str::to_owned)
        };
        let mut edges = std::collections::BTreeMap::new();
        for node in metadata["resolve"]["nodes"].as_array().ok_or("cargo metadata: no resolve graph")? {
            let name = name_of(&node["id"]).ok_or("cargo metadata: a node without a package")?;
            let normal = node["deps"].as_array().into_iter().flatten().filter(|dep| {
                let kinds = dep["dep_kinds"].as_array();
                kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind["kind"].is_null()))
            });
            edges.insert(name, normal.filter_map(|dep| name_of(&dep["pkg"])).collect());
        }
        Ok(Self(edges))
    }

    fn layer_violations(&self) -> Vec<String> {
        let layer = |name: &str| LAYERS.iter().find(|(known, _)| *known == name).map(|(_, layer)| *layer);
        let mut found = Vec::new();
        for (from, targets) in self.0.iter().filter(|(name, _)| name.starts_with("naru")) {
            let Some(own) = layer(from) else {
                found.push(format!("{from} has no layer: add it to LAYERS"));
                continue;
            };
            for to in targets {
                if let Some(theirs) = layer(to).filter(|theirs| *theirs >= own) {
                    found.push(format!(
                        "{from} (layer {own}) depends on {to} (layer {theirs}): only lower layers"
                    ));
                }
            }
        }
        found
    }

    fn reach_violations(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (from, banned, why) in FORBIDDEN {
            if let Some(path) = self.path(from, banned) {
                found.push(format!("{}: {why}", path.join(" → ")));
            }
        }
        found
    }

    /// A shortest path of dependencies from one package to another.
    fn path(&self, from: &str, to: &str) -> Option<Vec<String>> {
        let mut queue = std::collections::VecDeque::from([vec![from.to_owned()]]);
        let mut seen = std::collections::BTreeSet::new();
        while let Some(path) = queue.pop_front() {
            for next in self.0.get(path.last()?).into_iter().flatten() {
                if !seen.insert(next.clone()) {
                    continue;
                }
                let mut longer = path.clone();
                longer.push(next.clone());
                if next == to {
                    return Some(longer);
                }
                queue.push_back(longer);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_keeps_its_layers() {
        assert_eq!(violations().unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_forbidden_edge_is_found() {
        let graph = Graph(
            [("naru-net", vec!["naru-image"]), ("naru-cli", vec!["helper"]), ("helper", vec!["tokio"])]
                .into_iter()
                .map(|(from, to)| (from.to_owned(), to.into_iter().map(str::to_owned).collect()))
                .collect(),
        );
        assert_eq!(
            graph.layer_violations(),
            ["naru-net (layer 2) depends on naru-image (layer 2): only lower layers"]
        );
        assert_eq!(graph.reach_violations(), ["naru-cli → helper → tokio: the CLI starts in a millisecond"]);
    }
}
