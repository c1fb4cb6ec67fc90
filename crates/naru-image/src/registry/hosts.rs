//! containerd's `hosts.toml` (containerd, docs/hosts.md): where a registry's content is asked for, in which
//! order and how.
//!
//! A key that isn't known is an error with file and line, and so is a value that can't be used: a mirror
//! that is silently not asked is found out when the bill comes.

use super::endpoint::{Capabilities, Endpoint};
use super::tls::Tls;
use crate::error::{ImageError, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Spanned;

const API: &str = "/v2";

/// What a file says: hosts in the order of the file, and the registry itself.
pub struct Hosts {
    pub mirrors: Vec<Endpoint>,
    /// `None`: the file names no other server; then only `root` is changed of the usual one.
    pub server: Option<Endpoint>,
    pub root: Settings,
}

/// What can be said of a host, on the top level for the registry itself.
#[derive(Default)]
pub struct Settings {
    pub tls: Tls,
    pub capabilities: Option<Capabilities>,
    pub headers: Vec<(String, String)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    server: Option<Spanned<String>>,
    #[serde(default)]
    host: BTreeMap<Spanned<String>, Host>,
    capabilities: Option<Vec<Spanned<String>>>,
    ca: Option<OneOrMore<String>>,
    client: Option<OneOrMore<Client>>,
    skip_verify: Option<bool>,
    header: Option<BTreeMap<String, OneOrMore<String>>>,
    override_path: Option<bool>,
    dial_timeout: Option<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Host {
    capabilities: Option<Vec<Spanned<String>>>,
    ca: Option<OneOrMore<String>>,
    client: Option<OneOrMore<Client>>,
    skip_verify: Option<bool>,
    header: Option<BTreeMap<String, OneOrMore<String>>>,
    override_path: Option<bool>,
    dial_timeout: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected one or a list of them")]
enum OneOrMore<T> {
    One(T),
    More(Vec<T>),
}

/// A file with certificate and key, or one of each.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a file or a pair of files")]
enum Client {
    Both(String),
    Pair(Vec<String>),
}

impl<T> OneOrMore<T> {
    fn into_vec(self) -> Vec<T> {
        match self {
            OneOrMore::One(one) => vec![one],
            OneOrMore::More(more) => more,
        }
    }
}

/// Reads `hosts.toml` at `path`, which is about the registry `host`.
pub fn read(path: &Path, text: &str, host: &str) -> Result<Hosts> {
    let reader = Reader { path, text };
    let file: File = toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        reader.bad(at, error.message())
    })?;
    let mut hosts: Vec<(Spanned<String>, Host)> = file.host.into_iter().collect();
    // The map is sorted by name; containerd asks in the order of the file.
    hosts.sort_by_key(|(name, _)| name.span().start);
    let mut mirrors = Vec::new();
    for (name, entry) in hosts {
        let override_path = entry.override_path == Some(true);
        let settings = reader.settings(entry)?;
        mirrors.push(reader.endpoint(&name, override_path, settings, host)?);
    }
    let override_path = file.override_path == Some(true);
    let root = Host {
        capabilities: file.capabilities,
        ca: file.ca,
        client: file.client,
        skip_verify: file.skip_verify,
        header: file.header,
        override_path: None,
        dial_timeout: file.dial_timeout,
    };
    let mut root = reader.settings(root)?;
    let server = match file.server {
        None => None,
        Some(server) => {
            let settings = std::mem::take(&mut root);
            // The administrator says who the registry is; only who is another is another party.
            Some(Endpoint { namespace: None, ..reader.endpoint(&server, override_path, settings, host)? })
        }
    };
    Ok(Hosts { mirrors, server, root })
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Reader<'_> {
    fn bad(&self, at: usize, what: &str) -> ImageError {
        let line = 1 + self.text.bytes().take(at).filter(|byte| *byte == b'\n').count();
        ImageError::BadHosts { path: self.path.to_owned(), line, what: what.to_owned() }
    }

    fn endpoint(
        &self,
        name: &Spanned<String>,
        override_path: bool,
        settings: Settings,
        host: &str,
    ) -> Result<Endpoint> {
        let written = name.get_ref().as_str();
        let url = if written.contains("://") { written.to_owned() } else { format!("https://{written}") };
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        let (address, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let path = path.trim_end_matches('/');
        if !matches!(scheme, "http" | "https") || address.is_empty() || path.contains(['?', '#']) {
            let what = format!("{written:?} is not the address of a registry: https://host[:port][/path]");
            return Err(self.bad(name.span().start, &what));
        }
        let api = if override_path || path.ends_with(API) { path.to_owned() } else { format!("{path}{API}") };
        let is_mirror = !super::endpoint::is_same_registry(address, host);
        Ok(Endpoint {
            base: format!("{scheme}://{address}"),
            api,
            tls: settings.tls,
            is_mirror,
            capabilities: settings.capabilities.unwrap_or(Capabilities::ALL),
            headers: settings.headers,
            namespace: is_mirror.then(|| host.to_owned()),
        })
    }

    fn settings(&self, entry: Host) -> Result<Settings> {
        let mut tls = Tls::new(entry.skip_verify != Some(true));
        for ca in entry.ca.map(OneOrMore::into_vec).unwrap_or_default() {
            let path = self.beside(&ca);
            tls.add_ca(&path)?;
        }
        for client in entry.client.map(OneOrMore::into_vec).unwrap_or_default() {
            let (certificate, key) = match &client {
                Client::Both(both) => (both, both),
                Client::Pair(pair) => match &pair[..] {
                    [both] => (both, both),
                    [both, key] if key.is_empty() => (both, both),
                    [certificate, key] => (certificate, key),
                    _ => return Err(self.bad(0, "client: a pair is [\"certificate\", \"key\"]")),
                },
            };
            tls.set_client(&self.beside(certificate), &self.beside(key))?;
        }
        if let Some(timeout) = &entry.dial_timeout {
            let nanos = naru_types::quantity::parse_duration(timeout.get_ref()).unwrap_or_default();
            let nanos = u64::try_from(nanos).ok().filter(|nanos| *nanos > 0).ok_or_else(|| {
                let what = format!("dial_timeout: {:?} is not a time such as \"10s\"", timeout.get_ref());
                self.bad(timeout.span().start, &what)
            })?;
            tls.connect_timeout = Some(Duration::from_nanos(nanos));
        }
        let capabilities = entry.capabilities.map(|names| self.capabilities(&names)).transpose()?;
        let headers = entry.header.unwrap_or_default().into_iter();
        let headers = headers
            .flat_map(|(name, values)| values.into_vec().into_iter().map(move |value| (name.clone(), value)));
        Ok(Settings { tls, capabilities, headers: headers.collect() })
    }

    fn capabilities(&self, names: &[Spanned<String>]) -> Result<Capabilities> {
        let mut found = Capabilities::default();
        for name in names {
            match name.get_ref().as_str() {
                "pull" => found.pull = true,
                "resolve" => found.resolve = true,
                "push" => found.push = true,
                // Asked for with manifests, and naru asks for none while it pulls.
                "referrers" => {}
                other => {
                    let what = format!("unknown capability {other:?}: pull, resolve, push or referrers");
                    return Err(self.bad(name.span().start, &what));
                }
            }
        }
        Ok(found)
    }

    /// Relative paths are beside the file.
    fn beside(&self, path: &str) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("/")).join(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Hosts> {
        read(Path::new("/c/docker.io/hosts.toml"), text, "docker.io")
    }

    #[test]
    fn hosts_in_the_order_of_the_file() {
        let hosts = parse(
            r#"
server = "https://registry-1.docker.io"
[host."https://z.lan:5000"]
  capabilities = ["pull", "resolve"]
[host."http://a.lan/cache/"]
  capabilities = ["pull"]
  skip_verify = true
  [host."http://a.lan/cache/".header]
    authorization = "Basic x"
    x-two = ["1", "2"]
[host."m.lan/own"]
  override_path = true
  dial_timeout = "1s"
"#,
        )
        .unwrap();
        let shown: Vec<String> =
            hosts.mirrors.iter().map(|host| format!("{}{}", host.base, host.api)).collect();
        assert_eq!(shown, ["https://z.lan:5000/v2", "http://a.lan/cache/v2", "https://m.lan/own"]);
        assert!(hosts.mirrors[0].capabilities.resolve && !hosts.mirrors[0].capabilities.push);
        assert!(!hosts.mirrors[1].tls.verify && !hosts.mirrors[1].capabilities.resolve);
        assert_eq!(hosts.mirrors[1].headers.len(), 3);
        assert_eq!(hosts.mirrors[1].namespace.as_deref(), Some("docker.io"));
        assert_eq!(hosts.mirrors[2].tls.connect_timeout, Some(Duration::from_secs(1)));
        let server = hosts.server.unwrap();
        assert!(!server.is_mirror && server.capabilities == Capabilities::ALL && server.namespace.is_none());
    }

    #[test]
    fn errors_name_file_and_line() {
        for (text, expect) in [
            ("server = 1\n", "/c/docker.io/hosts.toml:1: invalid type: integer `1`, expected a string"),
            ("\n[host.\"https://a\"]\nskip_verfy = true\n", "hosts.toml:3: unknown field `skip_verfy`"),
            ("[host.\"ftp://a\"]\n", "hosts.toml:1: \"ftp://a\" is not the address of a registry"),
            (
                "\n\n[host.\"https://a\"]\ncapabilities = [\"pull\", \"fetch\"]",
                ":4: unknown capability \"fetch\"",
            ),
            ("[host.\"https://a\"]\ndial_timeout = \"soon\"", ":2: dial_timeout: \"soon\" is not a time"),
            ("server = \"https://a\n", "hosts.toml:1: "),
            ("ca = \"no.crt\"", "cannot read the certificates of /c/docker.io/no.crt"),
        ] {
            let said = parse(text).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(said.contains(expect), "{text:?}: {said}");
        }
    }
}
