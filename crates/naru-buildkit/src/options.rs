//! BuildKit's frontend attributes (`dockerfile.v0`) as a [`BuildRequest`]. What naru can't do is refused by name.

use crate::error::{Error, Result};
use crate::upload;
use naru_build::{BuildRequest, StepNetwork};
use naru_types::platform::Platform;
use std::collections::BTreeMap;

/// Fills in what the attributes say; the context's directory and the Dockerfile are the caller's.
pub fn apply(attributes: &BTreeMap<String, String>, wanted: &mut BuildRequest) -> Result<()> {
    for (name, value) in attributes {
        if let Some(arg) = name.strip_prefix("build-arg:") {
            wanted.args.insert(arg.to_owned(), value.clone());
            continue;
        }
        if let Some(label) = name.strip_prefix("label:") {
            wanted.labels.insert(label.to_owned(), value.clone());
            continue;
        }
        one(name, value, wanted)?;
    }
    Ok(())
}

fn one(name: &str, value: &str, wanted: &mut BuildRequest) -> Result<()> {
    match name {
        "target" => wanted.target = Some(value.to_owned()).filter(|target| !target.is_empty()),
        "no-cache" if value.is_empty() => wanted.no_cache = true,
        "no-cache" => return unsupported("--no-cache-filter", "use --no-cache"),
        "image-resolve-mode" => wanted.pull = value == "pull",
        "platform" => {
            let platform = Platform::parse(value);
            let hint = "name one platform, as in linux/amd64";
            wanted.platform =
                Some(platform.map_or_else(|| unsupported(format!("platform {value:?}"), hint), Ok)?);
        }
        "add-hosts" => {
            let hosts = value.split(',').filter(|host| !host.is_empty());
            wanted.extra_hosts = hosts.map(|host| host.replacen('=', ":", 1)).collect();
        }
        "force-network-mode" => {
            wanted.network = match value {
                "" | "default" | "sandbox" => StepNetwork::Bridge,
                "none" => StepNetwork::None,
                "host" => StepNetwork::Host,
                other => {
                    return unsupported(
                        format!("building on the network {other:?}"),
                        "use default, none or host",
                    );
                }
            }
        }
        "shm-size" => match value.parse() {
            Ok(bytes) if bytes > 0 => wanted.shm_size = Some(bytes),
            _ => return unsupported(format!("--shm-size {value:?}"), "give a number of bytes above zero"),
        },
        // `filename`, the directories' names and the named contexts are read by whoever fetches them. `cmdline`, `source` and
        // `frontend.caps` repeat a syntax directive, which naru's own builder takes the place of; `vcs:` only
        // describes. That images which may serve as cache aren't looked at changes no result; the build warns of it.
        "filename" | "contextkey" | "dockerfilekey" | "cmdline" | "source" | "frontend.caps"
        | "cache-from" | "cache-imports" => {}
        name if ["vcs:", "context:", "local-sessionid:"].iter().any(|known| name.starts_with(known)) => {}
        // Without an exporter that could hold it, the client asks for provenance "inline only", or disables it.
        name if name.starts_with("attest:")
            && (value.contains("inline-only=true") || value.contains("disabled=true")) => {}
        // Read by whoever answers it, and by whoever fetches the context.
        "requestid" => {}
        "context" if value.starts_with(upload::SCHEME) => {}
        "context" => return unsupported("a remote context", "clone or download it, and build the directory"),
        "contextsubdir" => return unsupported("a context's subdirectory", "give the directory itself"),
        "cgroup-parent" => return unsupported("--cgroup-parent", "leave it out"),
        "ulimit" => return unsupported("--ulimit", "leave it out"),
        other => return unsupported(format!("the build option {other:?}"), "leave it out"),
    }
    Ok(())
}

fn unsupported<T>(what: impl Into<String>, hint: &'static str) -> Result<T> {
    Err(Error::Unsupported { what: what.into(), hint })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes() {
        let pairs = [
            ("build-arg:A", "1"),
            ("label:b", "2"),
            ("target", "t"),
            ("add-hosts", "x=1.2.3.4"),
            ("no-cache", ""),
        ];
        let attributes = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let mut wanted = BuildRequest::new("/nowhere");
        apply(&attributes, &mut wanted).unwrap();
        assert_eq!((wanted.args["A"].as_str(), wanted.labels["b"].as_str()), ("1", "2"));
        assert_eq!((wanted.target.as_deref(), wanted.no_cache), (Some("t"), true));
        assert_eq!(wanted.extra_hosts, ["x:1.2.3.4"]);
        for bad in [("context", "https://x/y.git"), ("unknown", "1"), ("platform", "a/b/c/d/e")] {
            let attributes = BTreeMap::from([(bad.0.to_owned(), bad.1.to_owned())]);
            assert!(apply(&attributes, &mut wanted).is_err(), "{bad:?}");
        }
    }
}
