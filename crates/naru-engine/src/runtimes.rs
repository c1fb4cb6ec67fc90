//! Which OCI runtime makes a container's processes: naru's own, or one that `daemon.json` names.

use crate::engine::Engine;
use naru_runtime::external::Runtime;
use naru_types::spec::{ContainerSpec, MountSource, Propagation};
use naru_types::{Error, Result};
use std::collections::BTreeMap;

/// Names of naru's own runtime. Clients say the last two because they are what dockerd reports; an entry of `daemon.json`
/// with such a name goes before them.
pub const BUILT_IN: [&str; 3] = ["naru", "runc", "io.containerd.runc.v2"];

impl Engine {
    /// Every name that a container may ask for, with what is executed for it: nothing for naru's own.
    pub fn runtimes(&self) -> BTreeMap<String, Option<Runtime>> {
        let built_in = ["naru", "runc"].map(|name| (name.to_owned(), None));
        let named = self.config.runtimes.iter().map(|(name, runtime)| (name.clone(), Some(runtime.clone())));
        built_in.into_iter().chain(named).collect()
    }

    /// What a container gets that asks for none.
    pub fn default_runtime(&self) -> &str {
        if self.config.default_runtime.is_empty() { "naru" } else { &self.config.default_runtime }
    }

    /// Decides for a new container: an empty name is naru's own afterwards.
    pub(crate) fn choose_runtime(&self, spec: &mut ContainerSpec) -> Result<()> {
        if spec.runtime.is_empty() {
            spec.runtime.clone_from(&self.config.default_runtime);
        }
        let known = self.config.runtimes.contains_key(&spec.runtime);
        if !known && (spec.runtime.is_empty() || BUILT_IN.contains(&spec.runtime.as_str())) {
            spec.runtime.clear();
            return Ok(());
        }
        if known { Ok(()) } else { Err(unknown(&spec.runtime)) }
    }

    /// What is executed for the container's next run; `None`: naru's own. The configuration may have changed meanwhile.
    pub(crate) fn runtime_of(&self, spec: &ContainerSpec) -> Result<Option<Runtime>> {
        if spec.runtime.is_empty() {
            return Ok(None);
        }
        self.config.runtimes.get(&spec.runtime).cloned().map(Some).ok_or_else(|| unknown(&spec.runtime))
    }
}

fn unknown(name: &str) -> Error {
    Error::invalid(format!("unknown or invalid runtime name: {name}"))
        .with_hint("name it in \"runtimes\" of daemon.json, or leave --runtime out for naru's own")
}

/// What only naru's own runtime does, once user namespaces are decided.
pub fn check(spec: &ContainerSpec) -> Result<()> {
    if spec.runtime.is_empty() {
        return Ok(());
    }
    let outward = spec.mounts.iter().any(|mount| {
        matches!(
            &mount.source,
            MountSource::Bind { propagation: Propagation::Shared | Propagation::Rshared, .. }
        )
    });
    let reasons = [
        (
            spec.security.userns.first().is_some(),
            "a user namespace of its own (--userns auto)",
            "--userns=host",
        ),
        (spec.init, "--init", "--runtime=naru"),
        (outward, "a bind whose mounts propagate to the host (shared, rshared)", "rslave, or --runtime=naru"),
        (naru_kernel::ns::in_user_namespace(), "a daemon without root", "--runtime=naru"),
    ];
    match reasons.iter().find(|(is_so, ..)| *is_so) {
        None => Ok(()),
        Some((_, what, instead)) => {
            Err(Error::not_implemented(format!("the runtime {} cannot be used with {what}", spec.runtime))
                .with_hint(format!("use {instead}")))
        }
    }
}
