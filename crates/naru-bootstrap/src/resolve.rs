//! Which packages a root is made of. The same index gives the same list, in the same order.

use crate::error::{BootstrapError, Result};
use crate::packages::{Alternatives, Index, Package, Relation};
use std::collections::BTreeMap;

const MERGED_USR: &str = "usr-is-merged";

/// The chosen packages, in the order in which they are installed.
#[derive(Debug, PartialEq, Eq)]
pub struct Selection<'a> {
    /// Essential packages and all they need: unpacked first, because the scripts of any package may use them.
    pub essential: Vec<&'a Package>,
    /// The rest, in batches: each may pre-depend on the batches before it.
    pub batches: Vec<Vec<&'a Package>>,
}

impl<'a> Selection<'a> {
    pub fn all(&self) -> impl Iterator<Item = &'a Package> + '_ {
        self.essential.iter().chain(self.batches.iter().flatten()).copied()
    }
}

/// A minimal system as Debian defines it (Policy, sections 2.5 and 3.8): essential packages, those of priority required, apt, and
/// what was asked for, with everything they depend on.
pub fn minimal<'a>(index: &'a Index, include: &[String]) -> Result<Selection<'a>> {
    let mut chosen = Chosen { index, packages: BTreeMap::new() };
    // The root is made with the merged /usr, which this package attests; its alternative would convert an old one.
    let wanted = |package: &&Package| package.is_essential || package.name == MERGED_USR;
    let essential = index.packages.values().filter(wanted);
    chosen.add_all(essential.collect())?;
    let essential: Vec<&Package> = chosen.packages.values().copied().collect();
    let required = index.packages.values().filter(|package| package.priority == "required");
    let mut wanted: Vec<&Package> = required.collect();
    for name in std::iter::once("apt").chain(include.iter().map(String::as_str)) {
        let package = index.packages.get(name);
        wanted.push(package.ok_or_else(|| BootstrapError::NoPackage { name: name.to_owned() })?);
    }
    chosen.add_all(wanted)?;
    chosen.check_conflicts()?;
    let rest = chosen.packages.values().filter(|package| !essential.contains(package)).copied();
    let batches = batches(&essential, rest.collect());
    Ok(Selection { essential, batches })
}

struct Chosen<'a> {
    index: &'a Index,
    packages: BTreeMap<&'a str, &'a Package>,
}

impl<'a> Chosen<'a> {
    /// All of `wanted` first, so that their dependencies are satisfied by them where they can be.
    fn add_all(&mut self, wanted: Vec<&'a Package>) -> Result<()> {
        let mut queue = std::collections::VecDeque::new();
        for package in wanted {
            if self.packages.insert(&package.name, package).is_none() {
                queue.push_back(package);
            }
        }
        while let Some(package) = queue.pop_front() {
            for alternatives in package.pre_depends.iter().chain(&package.depends) {
                if self.is_satisfied(alternatives) {
                    continue;
                }
                let first = alternatives.iter().find_map(|wanted| self.best(wanted));
                let first = first.ok_or_else(|| BootstrapError::Unsatisfied {
                    package: package.name.clone(),
                    wanted: alternatives.iter().map(Relation::to_string).collect::<Vec<_>>().join(" | "),
                })?;
                self.packages.insert(&first.name, first);
                queue.push_back(first);
            }
        }
        Ok(())
    }

    fn is_satisfied(&self, alternatives: &Alternatives) -> bool {
        alternatives.iter().any(|wanted| {
            let by_name =
                self.packages.get(wanted.name.as_str()).is_some_and(|known| known.satisfies(wanted));
            by_name || self.packages.values().any(|known| known.satisfies(wanted))
        })
    }

    /// A package of that very name, or the provider that the archive thinks most of; among equals the first by name.
    fn best(&self, wanted: &Relation) -> Option<&'a Package> {
        let candidates = self.index.candidates(wanted);
        let named = candidates.iter().find(|package| package.name == wanted.name);
        named.or_else(|| candidates.iter().min_by_key(|package| rank(&package.priority))).copied()
    }

    fn check_conflicts(&self) -> Result<()> {
        for package in self.packages.values() {
            for conflict in &package.conflicts {
                let hit = self
                    .packages
                    .values()
                    .find(|other| other.name != package.name && other.satisfies(conflict));
                if let Some(other) = hit {
                    return Err(BootstrapError::Conflicts {
                        one: package.name.clone(),
                        other: other.name.clone(),
                    });
                }
            }
        }
        Ok(())
    }
}

fn rank(priority: &str) -> usize {
    const ORDER: [&str; 5] = ["required", "important", "standard", "optional", "extra"];
    ORDER.iter().position(|known| *known == priority).unwrap_or(ORDER.len())
}

/// dpkg unpacks a package only when what it pre-depends on is configured. A circle of pre-dependencies, which Policy forbids, ends up
/// in the last batch and is dpkg's to judge.
fn batches<'a>(before: &[&'a Package], mut rest: Vec<&'a Package>) -> Vec<Vec<&'a Package>> {
    let mut ready: Vec<&Package> = before.to_vec();
    let mut batches = Vec::new();
    while !rest.is_empty() {
        let is_ready = |package: &&Package| {
            package.pre_depends.iter().all(|alternatives| {
                alternatives.iter().any(|wanted| ready.iter().any(|known| known.satisfies(wanted)))
            })
        };
        // What a ready package depends on comes with it, so that it can be configured.
        let (mut now, later): (Vec<&Package>, Vec<&Package>) = rest.iter().copied().partition(is_ready);
        if now.is_empty() {
            now = rest;
            rest = Vec::new();
        } else {
            rest = later;
        }
        ready.extend(&now);
        batches.push(now);
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(lines: &[&str]) -> Index {
        let paragraph = |line: &&str| {
            let (name, fields) = line.split_once(' ').unwrap_or((line, ""));
            let fields = fields.replace("; ", "\n");
            format!("Package: {name}\nVersion: 1\nFilename: p/{name}\nSize: 1\nSHA256: 0\n{fields}\n\n")
        };
        Index::parse(&lines.iter().map(paragraph).collect::<String>(), "u").unwrap()
    }

    fn names(packages: &[&Package]) -> Vec<String> {
        packages.iter().map(|package| package.name.clone()).collect()
    }

    #[test]
    fn essential_first_then_the_rest_in_batches() {
        let index = index(&[
            "dpkg Essential: yes; Depends: libc6; Pre-Depends: awk",
            "libc6 Priority: optional",
            "mawk Priority: required; Provides: awk",
            "gawk Priority: optional; Provides: awk",
            "apt Priority: important; Depends: keyring | other",
            "keyring",
            "late Pre-Depends: apt",
            "unused",
        ]);
        let found = minimal(&index, &["late".into()]).unwrap();
        assert_eq!(names(&found.essential), ["dpkg", "libc6", "mawk"]);
        let batches: Vec<Vec<String>> = found.batches.iter().map(|batch| names(batch)).collect();
        assert_eq!(batches, [vec!["apt".to_owned(), "keyring".into()], vec!["late".into()]]);
    }

    #[test]
    fn what_cannot_be_had_is_named() {
        let broken = index(&["dpkg Essential: yes; Depends: libc6 (>= 2) | x", "libc6", "apt"]);
        let text = minimal(&broken, &[]).unwrap_err().to_string();
        assert_eq!(text, "dpkg needs libc6 (>= 2) | x, which no package of the suite gives");
        let fine = index(&["apt", "aa Conflicts: bb", "bb"]);
        assert!(matches!(minimal(&fine, &["zz".into()]), Err(BootstrapError::NoPackage { .. })));
        let both = minimal(&fine, &["aa".into(), "bb".into()]);
        assert!(matches!(both, Err(BootstrapError::Conflicts { .. })));
    }
}
