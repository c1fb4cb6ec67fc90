//! `--parents` and `--exclude` of COPY and ADD: which paths beneath a source are taken.
//!
//! The patterns are those of `.dockerignore`, relative to the source that was named. The source itself is
//! always taken; a directory comes along when something beneath it does.

use crate::error::{BuildError, Position, Result};
use crate::files::at;
use crate::files::source::{Source, SourceTree, check_depth};
use naru_types::dockerignore::Ignore;
use rustix::fd::{AsFd, BorrowedFd};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

#[derive(Debug, Default)]
pub(crate) struct Filter {
    /// `None`: everything.
    include: Option<Ignore>,
    exclude: Ignore,
}

impl Filter {
    pub(crate) fn new(at: &Position, include: Option<&str>, exclude: &[String]) -> Result<Self> {
        let patterns = |list: &[&str]| Ignore::of_patterns(list).map_err(|(_, message)| at.error(message));
        let exclude: Vec<&str> = exclude.iter().map(String::as_str).collect();
        let include = include.map(|pattern| patterns(&[pattern])).transpose()?;
        Ok(Self { include, exclude: patterns(&exclude)? })
    }

    /// The tree with only what is taken of `source`.
    pub(crate) fn apply(&self, tree: &SourceTree, source: &Source) -> Result<SourceTree> {
        let mut taken = BTreeSet::new();
        if at::is_dir(&source.stat) {
            let dir = at::open_dir_beneath(&tree.root, &source.path)
                .map_err(BuildError::sys("open", &source.path))?;
            self.walk(tree, source, dir.as_fd(), &source.path, &mut taken, 0)?;
        }
        tree.narrowed(taken)
    }

    fn walk(
        &self,
        tree: &SourceTree,
        source: &Source,
        dir: BorrowedFd<'_>,
        path: &Path,
        taken: &mut BTreeSet<PathBuf>,
        depth: usize,
    ) -> Result<()> {
        check_depth(path, depth)?;
        for (name, stat) in tree.entries(dir, path)? {
            let here = path.join(&name);
            let inside = here.strip_prefix(&source.path).unwrap_or(&here);
            let excluded = self.exclude.excludes(inside);
            let wanted = self.include.as_ref().is_none_or(|include| include.excludes(inside));
            if wanted && !excluded {
                // With the directories above it, up to the source.
                taken.extend(here.ancestors().take_while(|above| *above != source.path).map(Path::to_owned));
            }
            if at::is_dir(&stat) && (!excluded || self.exclude.has_exceptions()) {
                let inner =
                    at::open_dir_beneath(dir, Path::new(&name)).map_err(BuildError::sys("open", &here))?;
                self.walk(tree, source, inner.as_fd(), &here, taken, depth + 1)?;
            }
        }
        Ok(())
    }
}
