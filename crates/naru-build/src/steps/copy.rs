//! COPY and ADD.

use crate::dockerfile::copy::refuse_remote;
use crate::dockerfile::expand::expand_text;
use crate::dockerfile::instruction::Copy;
use crate::dockerfile::run::{cut_tabs, octal};
use crate::error::{BuildError, Position, Result};
use crate::execute::{Execution, expand};
use crate::files::archive;
use crate::files::resolve::{Resolved, resolve};
use crate::files::source::{Source, SourceTree, hash_heredoc};
use crate::files::write::{Changes, LayerWriter};
use crate::files::{at, users, view};
use crate::plan::{Origin, origin};
use crate::state::{State, absolute};
use naru_types::dockerignore::Ignore;
use rustix::fd::{AsFd, OwnedFd};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// A COPY with everything found and looked up.
struct Job<'a> {
    at: &'a Position,
    copy: &'a Copy,
    sources: Vec<Source>,
    /// Names and contents of heredocs.
    files: Vec<(String, String)>,
    /// Absolute, cleaned.
    destination: String,
    /// The destination was written as a directory.
    into_dir: bool,
    changes: Changes,
}

pub(crate) fn run(
    run: &mut Execution<'_>,
    stage: usize,
    state: &mut State,
    at: &Position,
    copy: &Copy,
) -> Result<()> {
    let image_tree = match &copy.from {
        None => None,
        Some(from) => Some(image_tree(run, stage, at, from)?),
    };
    let tree = image_tree.as_ref().unwrap_or(run.context);
    let (job, created_by) = prepare(run, state, at, copy, tree)?;
    let count = job.sources.len().to_string();
    let mut hasher = state.step_key(&[&created_by, &job.destination, &count]);
    for source in &job.sources {
        tree.hash(source, &mut hasher)?;
        run.check_cancel()?;
    }
    for (heredoc, (_, content)) in copy.inline.iter().zip(&job.files) {
        hash_heredoc(heredoc, content, &mut hasher);
    }
    let key = hasher.finalize();
    run.cached(state, &key, &created_by, |run, state| {
        let upper = run.scratch_dir("copy")?;
        let view = if copy.link { view::open(&[], &run.empty)? } else { run.view(state)? };
        write(run, &job, tree, &view, &upper)?;
        Ok(Some(upper))
    })
}

/// The files of another stage or of an image.
pub(crate) fn image_tree(
    run: &mut Execution<'_>,
    stage: usize,
    at: &Position,
    from: &str,
) -> Result<SourceTree> {
    let layers = match origin(run.file, stage, at, from)? {
        Origin::Stage(index) => run.stage(index)?.layers().to_vec(),
        Origin::Image(name) => super::from::image(run, at, &name)?.layers().to_vec(),
    };
    let root = view::open(&run.lowers(&layers)?, &run.empty)?;
    Ok(SourceTree { root, ignore: Ignore::default(), owned_by_root: false })
}

/// Expands, looks up and checks; gives the job and its canonical text.
fn prepare<'a>(
    run: &Execution<'_>,
    state: &State,
    at: &'a Position,
    copy: &'a Copy,
    tree: &SourceTree,
) -> Result<(Job<'a>, String)> {
    let word = |text: &str| expand(run.file, state, at, text);
    let keyword = copy.keyword();
    let patterns = copy.sources.iter().map(|source| word(source)).collect::<Result<Vec<_>>>()?;
    let mut sources = Vec::new();
    for pattern in &patterns {
        if copy.unpack {
            refuse_remote(at, pattern)?;
        }
        sources.extend(tree.select(at, keyword, pattern)?);
    }
    let destination = word(&copy.destination)?;
    if destination.is_empty() {
        return Err(at.error(format!("{keyword}: the destination is empty")));
    }
    let into_dir = destination.ends_with('/') || matches!(destination.rsplit('/').next(), Some("." | ".."));
    if sources.len() + copy.inline.len() > 1 && !into_dir {
        return Err(at.hinted(
            format!("When using {keyword} with more than one source file, the destination must be a directory and end with a /"),
            format!("write {destination}/"),
        ));
    }
    let mut files = Vec::new();
    for heredoc in &copy.inline {
        let content = if heredoc.chomp { cut_tabs(&heredoc.content) } else { heredoc.content.clone() };
        let content = if heredoc.expand {
            expand_text(&content, run.file.escape, &|name| state.variable(name))
                .map_err(|message| at.error(message))?
        } else {
            content
        };
        files.push((heredoc.name.clone(), content));
    }
    let mut text = vec![keyword.to_owned()];
    text.extend(copy.from.iter().map(|from| format!("--from={from}")));
    let changes = changes(run, state, at, copy, &mut text)?;
    text.extend(copy.link.then(|| "--link".to_owned()));
    text.extend(patterns);
    text.extend(files.iter().map(|(name, _)| format!("<<{name}")));
    text.push(destination.clone());
    let destination = absolute(state.working_dir(), &destination);
    Ok((Job { at, copy, sources, files, destination, into_dir, changes }, text.join(" ")))
}

/// `--chown` and `--chmod`.
fn changes(
    run: &Execution<'_>,
    state: &State,
    at: &Position,
    copy: &Copy,
    text: &mut Vec<String>,
) -> Result<Changes> {
    let mut changes = Changes::default();
    if let Some(owner) = &copy.chown {
        let owner = expand(run.file, state, at, owner)?;
        let view = run.view(state)?;
        let found = users::owner(view.as_fd(), &owner).map_err(|message| {
            at.hinted(
                message,
                "names are looked up in the image; make the user with RUN first, or write numbers",
            )
        })?;
        text.push(format!("--chown={owner}"));
        changes.owner = Some(found);
    }
    if let Some(mode) = &copy.chmod {
        let mode = expand(run.file, state, at, mode)?;
        changes.mode = Some(octal(at, &mode)?);
        text.push(format!("--chmod={mode}"));
    }
    Ok(changes)
}

fn write(
    run: &mut Execution<'_>,
    job: &Job<'_>,
    tree: &SourceTree,
    view: &OwnedFd,
    upper: &Path,
) -> Result<()> {
    let destination = resolve(view.as_fd(), Path::new(&job.destination), true)
        .map_err(|errno| job.at.error(format!("cannot copy to {}: {errno}", job.destination)))?;
    let is_dir = destination.stat.as_ref().is_some_and(at::is_dir);
    if job.into_dir && destination.stat.is_some() && !is_dir {
        return Err(job.at.error(format!("cannot copy to non-directory: {}", job.destination)));
    }
    let into_dir = job.into_dir || is_dir;
    let cancel = run.request.cancel.clone();
    let mut writer = LayerWriter {
        at: job.at,
        upper: at::open_root(upper).map_err(BuildError::sys("open", upper))?,
        view: view.as_fd(),
        changes: job.changes,
        cancel: &cancel,
        links: HashMap::new(),
    };
    for source in &job.sources {
        let packed = if job.copy.unpack { archive::detect(job.at, tree, source)? } else { None };
        if let Some(compression) = packed {
            let staging = run.scratch_dir("unpack")?;
            archive::extract(job.at, tree, source, compression, &staging)?;
            copy_unpacked(&mut writer, &staging, &destination.path)?;
            std::fs::remove_dir_all(&staging).map_err(BuildError::io("remove", &staging))?;
        } else if at::is_dir(&source.stat) {
            writer.copy(tree, source, &destination.path)?;
        } else {
            writer.copy(tree, source, &leaf(view, &destination, into_dir, &source.name)?)?;
        }
    }
    for (name, content) in &job.files {
        writer.write_file(&leaf(view, &destination, into_dir, OsStr::new(name))?, content.as_bytes())?;
    }
    Ok(())
}

/// Where a file called `name` goes: into the destination, or in its place.
fn leaf(view: &OwnedFd, destination: &Resolved, into_dir: bool, name: &OsStr) -> Result<PathBuf> {
    let path = if into_dir { destination.path.join(name) } else { destination.path.clone() };
    // The last component is not followed: a link there is replaced.
    let found = resolve(view.as_fd(), &path, false).map_err(BuildError::sys("read", &path))?;
    Ok(found.path)
}

fn copy_unpacked(writer: &mut LayerWriter<'_>, staging: &Path, target: &Path) -> Result<()> {
    let root = at::open_root(staging).map_err(BuildError::sys("open", staging))?;
    let stat = rustix::fs::fstat(&root).map_err(BuildError::sys("read", staging))?;
    let tree = SourceTree { root, ignore: Ignore::default(), owned_by_root: false };
    // Inode numbers of one staging directory may come again in the next.
    writer.links.clear();
    writer.copy(&tree, &Source { path: PathBuf::new(), name: "".into(), stat }, target)?;
    writer.links.clear();
    Ok(())
}
