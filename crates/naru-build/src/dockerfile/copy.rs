//! COPY and ADD.

use crate::dockerfile::flags::Flags;
use crate::dockerfile::instruction::Copy;
use crate::dockerfile::run::octal;
use crate::dockerfile::source::{LogicalLine, heredoc_start};
use crate::dockerfile::words;
use crate::error::{Position, Result};

const REFUSED_COPY: [(&str, &str); 2] = [
    ("parents", "name the destination directory in full; COPY makes it"),
    ("exclude", "list the files in .dockerignore"),
];

const REFUSED_ADD: [(&str, &str); 4] = [
    ("exclude", "list the files in .dockerignore"),
    ("checksum", "ADD takes local files only; fetch and check with RUN"),
    ("keep-git-dir", "ADD takes local files only; clone with RUN"),
    ("unpack", "local archives are always unpacked by ADD and never by COPY"),
];

pub(super) fn parse(line: &LogicalLine, rest: &str, unpack: bool) -> Result<Copy> {
    let at = &line.at;
    let (flags, rest) = if unpack {
        Flags::take(at, rest, &["chown", "chmod", "link"], &REFUSED_ADD)?
    } else {
        Flags::take(at, rest, &["from", "chown", "chmod", "link"], &REFUSED_COPY)?
    };
    let keyword = if unpack { "ADD" } else { "COPY" };
    let json = words::json_array(rest);
    let inline = if json.is_some() { Vec::new() } else { line.heredocs.clone() };
    let mut paths = json.unwrap_or_else(|| words::split_plain(rest));
    if !inline.is_empty() {
        paths.retain(|word| heredoc_start(word).is_none());
    }
    let Some(destination) = paths.pop().filter(|_| !paths.is_empty() || !inline.is_empty()) else {
        return Err(at.hinted(
            format!("{keyword} requires at least two arguments, but only one was provided. Destination could not be determined"),
            format!("write {keyword} source destination"),
        ));
    };
    if unpack {
        paths.iter().try_for_each(|source| refuse_remote(at, source))?;
    }
    let from = flags.value(at, "from")?;
    if let Some(from) = &from {
        if from.contains('$') {
            return Err(at.hinted(
                "variables are not supported in COPY --from",
                "name a stage with `FROM $VARIABLE AS name` and copy from it",
            ));
        }
        if !inline.is_empty() {
            return Err(at.error("COPY --from does not go with a heredoc"));
        }
    }
    let chmod = flags.value(at, "chmod")?;
    if let Some(mode) = chmod.as_deref().filter(|mode| !mode.contains('$')) {
        octal(at, mode)?;
    }
    Ok(Copy {
        unpack,
        from,
        sources: paths,
        inline,
        destination,
        chown: flags.value(at, "chown")?,
        chmod,
        link: flags.switch(at, "link")?,
    })
}

/// Sources of ADD that are not files of the context.
pub(crate) fn refuse_remote(at: &Position, source: &str) -> Result<()> {
    let schemes = ["http://", "https://", "ftp://", "git://", "ssh://", "git@", "github.com/"];
    if schemes.iter().any(|scheme| source.starts_with(scheme)) {
        return Err(at.unsupported(
            format!("ADD from {source:?} is not supported"),
            "fetch it in a RUN (curl, git clone), or put the file into the context",
        ));
    }
    Ok(())
}
