//! COPY and ADD.

use crate::dockerfile::chmod::Chmod;
use crate::dockerfile::flags::Flags;
use crate::dockerfile::instruction::Copy;
use crate::dockerfile::source::{LogicalLine, heredoc_start};
use crate::dockerfile::words;
use crate::error::{Position, Result};

const COPY_FLAGS: [&str; 6] = ["from", "chown", "chmod", "link", "parents", "exclude"];
const ADD_FLAGS: [&str; 7] = ["chown", "chmod", "link", "keep-git-dir", "checksum", "unpack", "exclude"];

pub(super) fn parse(line: &LogicalLine, rest: &str, escape: char, add: bool) -> Result<Copy> {
    let at = &line.at;
    let allowed: &[&str] = if add { &ADD_FLAGS } else { &COPY_FLAGS };
    let (flags, rest) = Flags::take(at, rest, escape, allowed, &[])?;
    let keyword = if add { "ADD" } else { "COPY" };
    let json = words::json_array(rest).map_err(|message| at.error(message))?;
    let inline = if json.is_some() { Vec::new() } else { line.heredocs.clone() };
    let mut paths = json.unwrap_or_else(|| words::split_plain(rest));
    if paths.len() < 2 {
        return Err(at.hinted(
            format!("{keyword} requires at least two arguments, but only one was provided. Destination could not be determined"),
            format!("write {keyword} source destination"),
        ));
    }
    let destination = paths.pop().unwrap_or_default();
    if !inline.is_empty() {
        if heredoc_start(&destination).is_some() {
            return Err(at.error(format!("{keyword} cannot accept a heredoc as a destination")));
        }
        paths.retain(|word| heredoc_start(word).is_none());
    }
    let copy = Copy {
        add,
        from: flags.value(at, "from")?.filter(|from| !from.is_empty()),
        sources: paths,
        inline,
        destination,
        chown: flags.value(at, "chown")?.filter(|owner| !owner.is_empty()),
        chmod: flags.value(at, "chmod")?.filter(|mode| !mode.is_empty()),
        link: flags.switch(at, "link")?.unwrap_or(false),
        parents: flags.switch(at, "parents")?.unwrap_or(false),
        exclude: flags.values(at, "exclude")?,
        checksum: flags.value(at, "checksum")?.filter(|checksum| !checksum.is_empty()),
        unpack: flags.switch(at, "unpack")?,
    };
    flags.switch(at, "keep-git-dir")?;
    check(at, &copy)?;
    Ok(copy)
}

/// What can be said before any variable has a value.
fn check(at: &Position, copy: &Copy) -> Result<()> {
    if copy.from.as_ref().is_some_and(|from| from.contains('$')) {
        return Err(at.hinted(
            "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround",
            "write `FROM $VARIABLE AS name` and copy from that name",
        ));
    }
    if let Some(mode) = copy.chmod.as_deref().filter(|mode| !mode.contains('$')) {
        Chmod::parse(mode).map_err(|message| at.error(message))?;
    }
    if copy.checksum.is_some() && copy.sources.len() != 1 {
        return Err(at.error("checksum can't be specified for multiple sources"));
    }
    copy.sources.iter().filter(|source| !source.contains('$')).try_for_each(|source| {
        let remote = Remote::of(at, copy, source)?;
        check_checksum(at, copy, remote)
    })
}

fn check_checksum(at: &Position, copy: &Copy, remote: Option<Remote>) -> Result<()> {
    if copy.checksum.is_some() && remote.is_none() {
        return Err(at.error("checksum requires HTTP(S) or Git sources"));
    }
    Ok(())
}

/// A source that is not a file of the context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remote {
    Http,
}

impl Remote {
    /// What `source`, its variables replaced, names. Git repositories are refused, and COPY takes files only.
    pub(crate) fn of(at: &Position, copy: &Copy, source: &str) -> Result<Option<Self>> {
        let http = source.starts_with("http://") || source.starts_with("https://");
        if is_git(source, http) {
            if !copy.add {
                return Err(at.error("source can't be a git ref for COPY"));
            }
            return Err(at.unsupported(
                format!("ADD from the git repository {source:?} is not supported"),
                "clone it in a RUN, or put the files into the context",
            ));
        }
        if http && !copy.add {
            return Err(at.hinted("source can't be a URL for COPY", "write ADD"));
        }
        Ok(http.then_some(Self::Http))
    }
}

/// BuildKit's rule: a git scheme, `git@host:path`, or a web address whose path ends with `.git`.
fn is_git(source: &str, http: bool) -> bool {
    if http {
        let path = source.split(['#', '?']).next().unwrap_or_default();
        return path.ends_with(".git");
    }
    ["git://", "ssh://", "git@"].iter().any(|scheme| source.starts_with(scheme))
}
