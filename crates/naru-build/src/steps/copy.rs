//! COPY and ADD: everything found, looked up and hashed; then written, unless the cache has it.

use crate::dockerfile::chmod::Chmod;
use crate::dockerfile::copy::Remote;
use crate::dockerfile::expand::expand_text;
use crate::dockerfile::instruction::Copy;
use crate::dockerfile::run::cut_tabs;
use crate::error::{BuildError, Position, Result};
use crate::event::BuildEvent;
use crate::execute::{Execution, expand};
use crate::files::download::{self, Download};
use crate::files::filter::Filter;
use crate::files::source::{Source, SourceTree, field};
use crate::files::write::Changes;
use crate::files::{at, users, view};
use crate::plan::{Origin, origin};
use crate::request::NamedContext;
use crate::state::{State, absolute};
use crate::steps::copy_write;
use rustix::fd::AsFd;

/// A COPY with everything found and looked up.
pub(crate) struct Job<'a> {
    pub(crate) at: &'a Position,
    pub(crate) copy: &'a Copy,
    pub(crate) items: Vec<Item>,
    /// Absolute, cleaned.
    pub(crate) destination: String,
    /// The destination was written as a directory.
    pub(crate) into_dir: bool,
    pub(crate) changes: Changes,
}

/// One thing to copy.
pub(crate) enum Item {
    /// From the tree, or from what `--parents` and `--exclude` leave of it.
    File {
        source: Source,
        narrowed: Option<SourceTree>,
    },
    Download(Download),
    Heredoc {
        name: String,
        content: String,
    },
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
        Some(from) => Some(tree_of(run, stage, at, from)?),
    };
    let tree = image_tree.as_ref().unwrap_or(run.context);
    let (job, created_by) = prepare(run, state, at, copy, tree)?;
    if job.items.is_empty() {
        let text =
            format!("{}:{}: nothing matches, so nothing is copied (in `{}`)", at.file, at.line, at.text);
        run.tell(BuildEvent::Warning { text });
    }
    let flags = format!("{created_by:?} {:?} {:?} {:?}", copy.link, copy.exclude, copy.unpack);
    let mut hasher = state.step_key(&[&flags, &job.destination, &job.items.len().to_string()]);
    for item in &job.items {
        hash(item, tree, &mut hasher)?;
        run.check_cancel()?;
    }
    let key = hasher.finalize();
    run.cached(state, &key, &created_by, |run, state| {
        let upper = run.scratch_dir("copy")?;
        let view = run.view(state)?;
        if !job.items.is_empty() {
            copy_write::write(run, &job, tree, &view, &upper)?;
        }
        Ok(Some(upper))
    })
}

/// The files that a `--from` names: another stage's, an image's, or a directory's of the request.
pub(crate) fn tree_of(
    run: &mut Execution<'_>,
    stage: usize,
    at: &Position,
    from: &str,
) -> Result<SourceTree> {
    let layers = match origin(run.file, stage, at, from)? {
        Origin::Stage(index) => run.stage(index)?.layers().to_vec(),
        Origin::Image(name) if name == "scratch" => Vec::new(),
        Origin::Image(name) => super::from::image(run, at, &name)?.layers().to_vec(),
        Origin::Context(name) => match run.request.contexts.get(&name) {
            Some(NamedContext::Directory(path)) => {
                let root = at::open_root(path).map_err(BuildError::sys("open the context", path))?;
                let ignore = crate::builder::read_ignore(&root, &[".dockerignore"])?;
                return Ok(SourceTree { root, ignore, owned_by_root: true, only: None, kept: None });
            }
            Some(NamedContext::Image(image)) => {
                super::from::image(run, at, &image.clone())?.layers().to_vec()
            }
            None => Vec::new(),
        },
    };
    Ok(SourceTree::whole(view::open(&run.lowers(&layers)?, &run.empty)?))
}

fn hash(item: &Item, tree: &SourceTree, hasher: &mut blake3::Hasher) -> Result<()> {
    match item {
        Item::File { source, narrowed } => narrowed.as_ref().unwrap_or(tree).hash(source, hasher),
        Item::Download(download) => {
            field(hasher, download.name.as_bytes());
            field(hasher, download.sha256.as_bytes());
            Ok(())
        }
        Item::Heredoc { name, content } => {
            field(hasher, name.as_bytes());
            field(hasher, content.as_bytes());
            Ok(())
        }
    }
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
    let mut text = vec![keyword.to_owned()];
    text.extend(copy.parents.then(|| "--parents".to_owned()));
    let changes = changes(run, state, at, copy, &mut text)?;
    let mut items = Vec::new();
    for source in &copy.sources {
        let source = word(source)?;
        items.extend(items_of(run, state, at, copy, tree, &source)?);
        text.push(source);
    }
    for heredoc in &copy.inline {
        let content = if heredoc.chomp { cut_tabs(&heredoc.content) } else { heredoc.content.clone() };
        let content = if heredoc.expand {
            expand_text(&content, '\\', &|name| state.variable(name)).map_err(|message| at.error(message))?
        } else {
            content
        };
        text.push(format!("<<{}", heredoc.name));
        items.push(Item::Heredoc { name: heredoc.name.clone(), content });
    }
    let destination = word(&copy.destination)?;
    let into_dir = destination.is_empty()
        || destination.ends_with('/')
        || matches!(destination.rsplit('/').next(), Some("." | ".."));
    text.push(destination.clone());
    let destination = absolute(state.working_dir(), &destination);
    Ok((Job { at, copy, items, destination, into_dir, changes }, text.join(" ")))
}

/// What one source names.
fn items_of(
    run: &Execution<'_>,
    state: &State,
    at: &Position,
    copy: &Copy,
    tree: &SourceTree,
    source: &str,
) -> Result<Vec<Item>> {
    let remote = Remote::of(at, copy, source)?;
    if let Some(Remote::Http) = remote {
        let checksum = copy.checksum.as_deref().map(|text| expand(run.file, state, at, text)).transpose()?;
        let fetched = download::fetch(run, at, source, checksum.as_deref())?;
        return Ok(vec![Item::Download(fetched)]);
    }
    if copy.checksum.is_some() {
        return Err(at.error("checksum requires HTTP(S) or Git sources"));
    }
    let (root, include) = if copy.parents { pivot(source) } else { (source, None) };
    // With --parents a name without wildcards must be there, as it must without.
    if let Some(pattern) = include.filter(|pattern| !has_wildcard(root) && !has_wildcard(pattern)) {
        let whole = format!("{}/{pattern}", root.trim_end_matches('/'));
        tree.select(at, copy.keyword(), &whole)?;
    }
    let found = tree.select(at, copy.keyword(), root)?;
    if include.is_none() && copy.exclude.is_empty() {
        return Ok(found.into_iter().map(|source| Item::File { source, narrowed: None }).collect());
    }
    let filter = Filter::new(at, include, &copy.exclude)?;
    let narrow = |source: Source| {
        let narrowed = Some(filter.apply(tree, &source)?);
        Ok(Item::File { source, narrowed })
    };
    found.into_iter().map(narrow).collect()
}

/// Where `--parents` begins to keep directories (`a/./b`), and the pattern from there on.
fn pivot(source: &str) -> (&str, Option<&str>) {
    match source.split_once("/./") {
        Some((root, pattern)) => (root, Some(pattern)),
        None => ("/", Some(source.trim_start_matches("./").trim_start_matches('/'))),
    }
}

fn has_wildcard(text: &str) -> bool {
    naru_types::pattern::is_glob(text)
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
        changes.mode = Some(Chmod::parse(&mode).map_err(|message| at.error(message))?);
        text.push(format!("--chmod={mode}"));
    }
    Ok(changes)
}
