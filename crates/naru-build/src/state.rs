//! What a stage has become so far: the image's configuration, its layers, the variables in scope, and the
//! cache key of all that.

use crate::cache::Key;
use crate::files::source::field;
use naru_types::Digest;
use naru_types::image::{History, ImageConfig};
use naru_types::platform::Platform;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// `PATH` of a step whose image sets none, as the container engine would have it.
pub(crate) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Marks the history entries that are ours.
const COMMENT: &str = "naru.dockerfile.v0";

#[derive(Clone, Debug)]
pub(crate) struct State {
    /// `config.rootfs.diff_ids` are the layers, lowest first.
    pub(crate) config: ImageConfig,
    pub(crate) key: Key,
    /// Variables whose last word an ARG or an ENV of this build had: they hide the image's own.
    scope: BTreeMap<String, String>,
    /// The names of the ARGs so far, in order.
    args: Vec<String>,
    /// CMD was set in this stage: a later ENTRYPOINT leaves it alone.
    pub(crate) cmd_set: bool,
}

impl State {
    /// `FROM scratch`.
    pub(crate) fn scratch(platform: &Platform) -> Self {
        let mut config = ImageConfig {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            variant: platform.variant.clone(),
            ..ImageConfig::default()
        };
        // As BuildKit has it: an image that begins with nothing knows where its programs are.
        config.config.env.push(format!("PATH={DEFAULT_PATH}"));
        config.config.working_dir = "/".into();
        Self::new(config, b"scratch")
    }

    /// FROM an image: its configuration is the start, but for what described the old image itself.
    pub(crate) fn from_image(id: &Digest, config: &ImageConfig) -> Self {
        let mut config = config.clone();
        config.rest.clear();
        Self::new(config, id.bytes())
    }

    fn new(config: ImageConfig, identity: &[u8]) -> Self {
        let key = blake3::hash(&[b"naru-build 1\0", identity].concat());
        Self { config, key, scope: BTreeMap::new(), args: Vec::new(), cmd_set: false }
    }

    pub(crate) fn layers(&self) -> &[Digest] {
        &self.config.rootfs.diff_ids
    }

    /// The id that an image of this state has.
    pub(crate) fn image_id(&self) -> Digest {
        // A configuration of strings, numbers and maps always serialises.
        let json = serde_json::to_vec(&self.config).unwrap_or_default();
        Digest::from_sha256(Sha256::digest(json).into())
    }

    /// Adds a done step: history, layer, and the key that the next step builds on. The key takes in what
    /// the step *gave*, so that a step that ran anew with another result makes those after it run anew.
    pub(crate) fn append(&mut self, step: &Key, layer: Option<Digest>, created: &str, created_by: &str) {
        let mut hasher = blake3::Hasher::new();
        hasher.update(step.as_bytes());
        if let Some(layer) = &layer {
            hasher.update(layer.bytes());
        }
        self.key = hasher.finalize();
        self.config.rootfs.diff_ids.extend(layer);
        self.config.created = Some(created.to_owned());
        self.config.history.push(History {
            created: Some(created.to_owned()),
            created_by: Some(created_by.to_owned()),
            author: None,
            comment: Some(COMMENT.into()),
            empty_layer: layer.is_none(),
        });
    }

    /// The key of a step on top of this state: its words, each kept apart.
    pub(crate) fn step_key(&self, words: &[&str]) -> blake3::Hasher {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.key.as_bytes());
        for word in words {
            field(&mut hasher, word.as_bytes());
        }
        hasher
    }

    /// A variable: of an ENV and an ARG of one name the later counts, as in BuildKit.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        self.scope.get(name).cloned().or_else(|| self.env(name))
    }

    /// An ARG, with its value if it has one.
    pub(crate) fn declare(&mut self, name: &str, value: Option<&str>) {
        if !self.args.iter().any(|known| known == name) {
            self.args.push(name.to_owned());
        }
        if let Some(value) = value {
            self.scope.insert(name.to_owned(), value.to_owned());
        }
    }

    pub(crate) fn is_declared(&self, name: &str) -> bool {
        self.args.iter().any(|known| known == name)
    }

    /// The ARGs so far, each as `name=value`.
    pub(crate) fn declared(&self) -> Vec<String> {
        let entry = |name: &String| format!("{name}={}", self.variable(name).unwrap_or_default());
        self.args.iter().map(entry).collect()
    }

    /// The variables of a step: the image's, then those of ARGs, each once.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let pair = |entry: &String| {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            (name.to_owned(), self.scope.get(name).map_or(value, String::as_str).to_owned())
        };
        let mut found: Vec<(String, String)> = self.config.config.env.iter().map(pair).collect();
        let extra = self.scope.iter().filter(|(name, _)| self.env(name).is_none());
        found.extend(extra.map(|(name, value)| (name.clone(), value.clone())));
        found
    }

    pub(crate) fn env(&self, name: &str) -> Option<String> {
        let pair = |entry: &String| {
            let (key, value) = entry.split_once('=').unwrap_or((entry, ""));
            (key == name).then(|| value.to_owned())
        };
        self.config.config.env.iter().rev().find_map(pair)
    }

    pub(crate) fn set_env(&mut self, name: &str, value: &str) {
        if self.scope.contains_key(name) {
            self.scope.insert(name.to_owned(), value.to_owned());
        }
        let entry = format!("{name}={value}");
        let env = &mut self.config.config.env;
        match env.iter_mut().find(|old| old.split('=').next() == Some(name)) {
            Some(old) => *old = entry,
            None => env.push(entry),
        }
    }

    /// The shell of the shell form.
    pub(crate) fn shell(&self) -> Vec<String> {
        self.config.config.shell.clone().unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into()])
    }

    pub(crate) fn working_dir(&self) -> &str {
        if self.config.config.working_dir.is_empty() { "/" } else { &self.config.config.working_dir }
    }
}

/// `path` made absolute against `base` and cleaned, as Go's `path.Join` does it. A slash at the end is lost.
pub(crate) fn absolute(base: &str, path: &str) -> String {
    let joined = if path.starts_with('/') { path.to_owned() } else { format!("{base}/{path}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in joined.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for (base, path, expect) in [
            ("/a", "b", "/a/b"),
            ("/a", "/b/", "/b"),
            ("/a", "../..", "/"),
            ("", "x//y/.", "/x/y"),
            ("/", ".", "/"),
        ] {
            assert_eq!(absolute(base, path), expect, "{base} {path}");
        }
    }

    #[test]
    fn the_later_of_env_and_arg_counts() {
        let mut state = State::scratch(&Platform::host());
        state.declare("A", Some("arg"));
        state.declare("B", None);
        assert_eq!(state.variable("A").as_deref(), Some("arg"));
        state.set_env("A", "x=y");
        state.set_env("A", "z=y");
        assert_eq!(state.variable("A").as_deref(), Some("z=y"));
        assert_eq!(state.declared(), ["A=z=y", "B="]);
        assert_eq!(state.config.config.env[1..], ["A=z=y"]);
        state.declare("A", Some("again"));
        assert_eq!(state.environment()[1..], [("A".to_owned(), "again".to_owned())]);
        assert_eq!(state.config.config.env[1..], ["A=z=y"]);
    }

    #[test]
    fn another_result_is_another_key() {
        let state = State::scratch(&Platform::host());
        let step = state.step_key(&["RUN", "date"]).finalize();
        let (mut one, mut two) = (state.clone(), state);
        one.append(&step, Some(Digest::from_sha256([1; 32])), "t", "RUN date");
        two.append(&step, Some(Digest::from_sha256([2; 32])), "t", "RUN date");
        assert_ne!(one.key, two.key);
    }
}
