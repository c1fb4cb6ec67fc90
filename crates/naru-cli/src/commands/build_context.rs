//! The build context: where it is, for a daemon on the same machine, or all of it as an archive.

use crate::client::{rewound, scratch_file};
use crate::commands::build::BuildOrder;
use crate::tar::Writer;
use naru_types::dockerignore::{IGNORE_BYTES_MAX, Ignore};
use naru_types::{Error, Result};
use naru_wire::naru::InPlace;
use std::fs::File;
use std::io::{BufWriter, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

type Archive = Box<dyn Read + Send>;

/// Context and Dockerfile, found.
pub struct Place {
    context: PathBuf,
    dockerfile: PathBuf,
    /// What the archive calls the Dockerfile.
    pub name: String,
}

impl Place {
    pub fn of(order: &BuildOrder) -> Result<Self> {
        let context = order.context.canonicalize().map_err(|error| {
            Error::invalid(format!(
                "unable to prepare context: path {:?} not found",
                order.context.display().to_string()
            ))
            .with_source(error)
        })?;
        if !context.is_dir() {
            return Err(Error::invalid(format!(
                "unable to prepare context: {} is not a directory",
                context.display()
            )));
        }
        let dockerfile = context.join(order.dockerfile.as_deref().unwrap_or(Path::new("Dockerfile")));
        let dockerfile = dockerfile.canonicalize().map_err(|_| {
            Error::invalid(format!(
                "failed to read dockerfile: open {}: no such file or directory",
                dockerfile.display()
            ))
            .with_hint("name it with -f FILE")
        })?;
        let name = match dockerfile.strip_prefix(&context) {
            Ok(inside) => inside.display().to_string(),
            Err(_) => format!(".dockerfile.{}", std::process::id()),
        };
        Ok(Self { context, dockerfile, name })
    }

    /// The Dockerfile and its rules as an archive, and where the rest is. `None`: the daemon must be sent all.
    pub fn in_place(&self, order: &BuildOrder) -> Result<Option<(Archive, InPlace)>> {
        let boot = std::fs::read_to_string(BOOT_ID).unwrap_or_default().trim().to_owned();
        let (Some(path), Ok(found)) = (self.context.to_str(), self.context.metadata()) else {
            return Ok(None);
        };
        if boot.is_empty() || order.extras.check || !order.directories.is_empty() {
            return Ok(None);
        }
        let in_place = InPlace { path: path.to_owned(), device: found.dev(), inode: found.ino(), boot };
        let mut writer = Writer::new(BufWriter::new(scratch_file()?));
        let broken = self.broken();
        writer.append(&self.dockerfile, Path::new(&self.name)).map_err(&broken)?;
        if let Some((path, _)) = self.rules()? {
            let path = path.canonicalize().map_err(&broken)?;
            writer.append(&path, Path::new(&format!("{}.dockerignore", self.name))).map_err(&broken)?;
        }
        Ok(Some((finish(writer).map_err(broken)?, in_place)))
    }

    /// The context as an archive; a Dockerfile from outside of it is added under a name of its own.
    pub fn pack(&self, order: &BuildOrder) -> Result<Archive> {
        let broken = self.broken();
        let ignore = self.rules()?.map(|(_, ignore)| ignore).unwrap_or_default();
        let mut writer = Writer::new(BufWriter::new(scratch_file()?));
        // Beside other directories the context has one of its own.
        let base = Path::new(if order.directories.is_empty() { "" } else { "context" });
        if !self.dockerfile.starts_with(&self.context) {
            writer.append(&self.dockerfile, &base.join(&self.name)).map_err(&broken)?;
        }
        let needed = |path: &Path| path == Path::new(&self.name) || path == Path::new(".dockerignore");
        append_tree(&mut writer, &self.context, base, &ignore, &needed).map_err(&broken)?;
        for (number, directory) in order.directories.iter().enumerate() {
            let unreadable = |error: std::io::Error| {
                Error::invalid(format!("cannot read the build context {}", directory.display()))
                    .with_source(error)
            };
            let root = directory.canonicalize().map_err(unreadable)?;
            let place = PathBuf::from(format!("directories/{number}"));
            writer.append(&root, &place).map_err(unreadable)?;
            append_tree(&mut writer, &root, &place, &Ignore::default(), &|_| true).map_err(unreadable)?;
        }
        finish(writer).map_err(broken)
    }

    /// `<Dockerfile>.dockerignore` wins over the context's own. The daemon applies the same rules; what they exclude need not
    /// travel.
    fn rules(&self) -> Result<Option<(PathBuf, Ignore)>> {
        let mut beside = self.dockerfile.as_os_str().to_owned();
        beside.push(".dockerignore");
        for path in [PathBuf::from(beside), self.context.join(".dockerignore")] {
            let broken = |what: String| Error::invalid(format!("{}: {what}", path.display()));
            match std::fs::metadata(&path) {
                Err(_) => continue,
                Ok(metadata) if metadata.len() > IGNORE_BYTES_MAX => {
                    return Err(broken(format!("larger than {IGNORE_BYTES_MAX} bytes")));
                }
                Ok(_) => {}
            }
            let text = std::fs::read_to_string(&path).map_err(|error| broken(error.to_string()))?;
            let ignore =
                Ignore::parse(&text).map_err(|(line, what)| broken(format!("line {line}: {what}")))?;
            return Ok(Some((path, ignore)));
        }
        Ok(None)
    }

    fn broken(&self) -> impl Fn(std::io::Error) -> Error {
        let context = self.context.display().to_string();
        move |error| Error::invalid(format!("cannot read the context {context}")).with_source(error)
    }
}

fn finish(writer: Writer<BufWriter<File>>) -> std::io::Result<Archive> {
    let file = writer.finish()?.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    rewound(file).map_err(std::io::Error::other)
}

/// What the rules leave of the directory `root`, beneath `base` in the archive.
fn append_tree<W: std::io::Write>(
    writer: &mut Writer<W>,
    root: &Path,
    base: &Path,
    ignore: &Ignore,
    needed: &dyn Fn(&Path) -> bool,
) -> std::io::Result<()> {
    let mut pending = vec![PathBuf::new()];
    while let Some(directory) = pending.pop() {
        let mut names: Vec<_> = std::fs::read_dir(root.join(&directory))?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<std::io::Result<_>>()?;
        names.sort();
        for entry in names {
            let relative = directory.join(entry);
            let path = root.join(&relative);
            let is_dir = std::fs::symlink_metadata(&path)?.is_dir();
            let excluded = !needed(&relative) && ignore.excludes(&relative);
            if is_dir && (!excluded || ignore.has_exceptions()) {
                pending.push(relative.clone());
            }
            if !excluded {
                writer.append(&path, &base.join(&relative))?;
            }
        }
    }
    Ok(())
}
