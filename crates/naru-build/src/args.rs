//! Build arguments: the platform's, the proxies', those before FROM, and which of the given were used.

use crate::dockerfile::expand::expand;
use crate::dockerfile::instruction::{Arg, Dockerfile};
use crate::error::{Position, Result};
use naru_types::platform::Platform;
use std::collections::{BTreeMap, BTreeSet};

/// Reach RUN steps without an ARG, and neither history nor cache keys.
const PROXIES: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

pub(crate) struct BuildArgs {
    given: BTreeMap<String, String>,
    /// `TARGETARCH` and its like.
    platform: BTreeMap<String, String>,
    /// ARGs before FROM that have a value.
    global: BTreeMap<String, String>,
    used: BTreeSet<String>,
}

impl BuildArgs {
    /// `target`: the name of the stage that is built.
    pub(crate) fn new(given: &BTreeMap<String, String>, host: &Platform, target: Option<&str>) -> Self {
        let mut platform = BTreeMap::new();
        platform.insert("TARGETSTAGE".to_owned(), target.unwrap_or("default").to_owned());
        for side in ["BUILD", "TARGET"] {
            platform.insert(format!("{side}PLATFORM"), host.to_string());
            platform.insert(format!("{side}OS"), host.os.clone());
            platform.insert(format!("{side}ARCH"), host.architecture.clone());
            platform.insert(format!("{side}VARIANT"), host.variant.clone().unwrap_or_default());
        }
        Self { given: given.clone(), platform, global: BTreeMap::new(), used: BTreeSet::new() }
    }

    /// Takes in the ARGs before FROM.
    pub(crate) fn declare_global(&mut self, file: &Dockerfile) -> Result<()> {
        for (at, args) in &file.global_args {
            for arg in args {
                let value = self.value(at, arg, file.escape, &|name| self.in_from(name))?;
                self.used.insert(arg.name.clone());
                if let Some(value) = value {
                    self.global.insert(arg.name.clone(), value);
                }
            }
        }
        Ok(())
    }

    /// The value of an ARG of a stage: given, or its default, or the one from before FROM, or the platform's.
    pub(crate) fn declare(
        &mut self,
        at: &Position,
        arg: &Arg,
        escape: char,
        lookup: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Option<String>> {
        self.used.insert(arg.name.clone());
        let own = self.value(at, arg, escape, lookup)?;
        Ok(own
            .or_else(|| self.global.get(&arg.name).cloned())
            .or_else(|| self.platform.get(&arg.name).cloned()))
    }

    fn value(
        &self,
        at: &Position,
        arg: &Arg,
        escape: char,
        lookup: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Option<String>> {
        if let Some(given) = self.given.get(&arg.name) {
            return Ok(Some(given.clone()));
        }
        arg.default
            .as_deref()
            .map(|text| expand(text, escape, lookup).map_err(|message| at.error(message)))
            .transpose()
    }

    /// What a variable in a FROM line stands for.
    pub(crate) fn in_from(&self, name: &str) -> Option<String> {
        self.global.get(name).or_else(|| self.platform.get(name)).cloned()
    }

    /// The names that [`Self::in_from`] knows.
    pub(crate) fn names_in_from(&self) -> impl Iterator<Item = &str> {
        self.global.keys().chain(self.platform.keys()).map(String::as_str)
    }

    /// The given proxies, as environment entries.
    pub(crate) fn proxies(&self) -> impl Iterator<Item = (&String, &String)> {
        self.given.iter().filter(|(name, _)| PROXIES.contains(&name.as_str()))
    }

    /// Given, but declared by no ARG that the build came across.
    pub(crate) fn unused(&self) -> Vec<String> {
        let known = |name: &str| PROXIES.contains(&name) || name.starts_with("BUILDKIT_");
        self.given.keys().filter(|name| !self.used.contains(*name) && !known(name)).cloned().collect()
    }
}
