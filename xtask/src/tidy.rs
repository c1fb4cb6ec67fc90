//! The fast checks: formatting, layers, the length of files, links in ARCHITECTURE.md.

use crate::process::{self, Result, read, repository};
use std::process::Command;

/// Lines that a person reads in one sitting.
const FILE_LINES_MAX: usize = 700;

pub fn run() -> Result<()> {
    check_format()?;
    let mut found = crate::layers::violations()?;
    found.extend(long_files()?);
    found.extend(dead_links()?);
    if found.is_empty() {
        return Ok(());
    }
    Err(format!("tidy:\n  {}", found.join("\n  ")).into())
}

fn check_format() -> Result<()> {
    process::run(Command::new(env!("CARGO")).args(["fmt", "--all", "--check"]).current_dir(repository()))
}

fn long_files() -> Result<Vec<String>> {
    let files = read(Command::new("git").args(["ls-files", "*.rs"]).current_dir(repository()))?;
    let mut found = Vec::new();
    for file in files.lines() {
        let lines = std::fs::read_to_string(repository().join(file)).map_or(0, |text| text.lines().count());
        if lines > FILE_LINES_MAX {
            found.push(format!("{file}: {lines} lines, at most {FILE_LINES_MAX}"));
        }
    }
    Ok(found)
}

/// ARCHITECTURE.md links to `path#name`: the file must exist and say `name`.
pub fn dead_links() -> Result<Vec<String>> {
    let text = std::fs::read_to_string(repository().join("ARCHITECTURE.md"))?;
    let mut found = Vec::new();
    for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        if target.contains("://") {
            continue;
        }
        let (path, name) = target.split_once('#').unwrap_or((target, ""));
        match std::fs::read_to_string(repository().join(path)) {
            Ok(source) if source.contains(name) => {}
            Ok(_) => found.push(format!("ARCHITECTURE.md: {path} has no {name:?}")),
            Err(_) if name.is_empty() && repository().join(path).exists() => {}
            Err(error) => found.push(format!("ARCHITECTURE.md: {path}: {error}")),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #[test]
    fn architecture_links_lead_somewhere() {
        assert_eq!(super::dead_links().unwrap(), Vec::<String>::new());
    }
}
