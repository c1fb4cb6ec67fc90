//! Exporters: what becomes of a build's result.

use crate::builds::Made;
use crate::error::{Error, Result};
use crate::send;
use crate::server::Shared;
use crate::session::Session;
use crate::tree::Tree;
use naru_build::ContextDir;
use naru_image::pack::{PackOptions, tar_tree};
use naru_types::ImageRef;
use rustix::fd::{AsFd, OwnedFd};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

/// One `--output`, in the order that the client gave them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Into naru's own store, under these names.
    Store { names: Vec<ImageRef> },
    /// An archive of the image, which is one for `docker load` and an OCI layout at once.
    Archive { names: Vec<ImageRef> },
    /// The image's files as one archive.
    Tar,
    /// The image's files in a directory.
    Local,
}

impl Output {
    /// `kind` is the exporter's type. An attribute that would go unheeded is refused by name.
    pub fn parse(kind: &str, attributes: &BTreeMap<String, String>) -> Result<Self> {
        let known: &[&str] = match kind {
            // BuildKit's `image` unpacks and stores by default; naru has no other way.
            "moby" | "image" => &["name", "push", "unpack", "store"],
            "docker" | "oci" => &["name", "tar", "compression"],
            "tar" | "local" => &["platform-split"],
            _ => &[],
        };
        for (name, value) in attributes {
            let as_ever = match name.as_str() {
                "name" => true,
                "push" | "platform-split" => value == "false",
                "compression" => value == "uncompressed",
                _ => value.is_empty() || value == "true",
            };
            match (name.as_str(), as_ever) {
                ("push", false) if kind == "image" => {
                    return unsupported("a push by the builder".into(), "use docker push after the build");
                }
                // No concern of the exporter `moby`: the client pushes through Docker's API afterwards.
                ("push", false) if kind == "moby" => {}
                (name, true) if known.contains(&name) => {}
                (name, _) => {
                    return unsupported(
                        format!("the attribute {name}={value} of the output {kind}"),
                        "leave it out",
                    );
                }
            }
        }
        let names = attributes.get("name").map_or("", String::as_str).split(',');
        let names = names.filter(|name| !name.is_empty());
        let names = || names.map(|name| Ok(ImageRef::parse(name)?.with_default_tag())).collect::<Result<_>>();
        match kind {
            "moby" | "image" => Ok(Self::Store { names: names()? }),
            "docker" | "oci" => Ok(Self::Archive { names: names()? }),
            "tar" => Ok(Self::Tar),
            "local" => Ok(Self::Local),
            _ => unsupported(format!("the output {kind}"), "use image, docker, oci, tar or local"),
        }
    }

    /// As the exporters of BuildKit tell it.
    pub fn progress(&self) -> Option<&'static str> {
        match self {
            Self::Store { .. } => None,
            Self::Archive { .. } => Some("exporting to docker image format"),
            Self::Tar => Some("exporting to client tarball"),
            Self::Local => Some("exporting to client directory"),
        }
    }
}

fn unsupported<T>(what: String, hint: &'static str) -> Result<T> {
    Err(Error::Unsupported { what, hint })
}

/// Sends one output to the client; `number` is its place among all of them.
pub async fn send(
    shared: &Arc<Shared>,
    session: Session,
    number: u64,
    output: &Output,
    made: &Arc<Made>,
) -> Result<()> {
    let (shared, made) = (Arc::clone(shared), Arc::clone(made));
    match output {
        Output::Store { .. } => Ok(()),
        Output::Archive { names } => {
            let names = names.clone();
            let write =
                move |out: &mut dyn Write| Ok(shared.builder.store().save_image(&made.image, &names, out)?);
            send::bytes(session, number, write).await
        }
        Output::Tar => {
            let write = move |out: &mut dyn Write| {
                let opened = Opened::open(&shared, &made)?;
                let packed = tar_tree(opened.root.as_fd(), Path::new("."), out, &PackOptions::default());
                Ok(packed.map_err(naru_types::Error::from)?)
            };
            send::bytes(session, number, write).await
        }
        Output::Local => {
            let opened = tokio::task::spawn_blocking(move || Opened::open(&shared, &made));
            let Opened { root, dir } = opened.await.map_err(|_| Error::Broken)??;
            let sent = send::tree(session, number, Tree::new(root)).await;
            drop(dir);
            sent
        }
    }
}

/// An image's files, and the directory that the mount needs.
struct Opened {
    root: OwnedFd,
    dir: ContextDir,
}

impl Opened {
    fn open(shared: &Shared, made: &Made) -> Result<Self> {
        let dir = ContextDir::make(&shared.scratch)?;
        let image = shared.builder.store().get_by_id(&made.image)?;
        Ok(Self { root: shared.host.open_image(&image, dir.path())?, dir })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(kind: &str, attributes: &[(&str, &str)]) -> Result<Output> {
        let attributes = attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Output::parse(kind, &attributes.collect())
    }

    #[test]
    fn attributes_are_heeded_or_refused() {
        let names = vec![ImageRef::parse("a:latest").unwrap(), ImageRef::parse("b:1").unwrap()];
        let attributes = [("name", "a,b:1"), ("push", "true")];
        assert_eq!(parse("moby", &attributes).unwrap(), Output::Store { names: names.clone() });
        assert_eq!(parse("oci", &[("name", "a,b:1")]).unwrap(), Output::Archive { names });
        assert_eq!(parse("tar", &[("platform-split", "false")]).unwrap(), Output::Tar);
        for (kind, name, value) in [
            ("image", "push", "true"),
            ("moby", "compression", "zstd"),
            ("docker", "compression", "gzip"),
            ("oci", "tar", "false"),
            ("local", "platform-split", "true"),
            ("local", "name", "x"),
            ("cacheonly", "name", ""),
        ] {
            assert!(parse(kind, &[(name, value)]).is_err(), "{kind} {name}={value}");
        }
    }
}
