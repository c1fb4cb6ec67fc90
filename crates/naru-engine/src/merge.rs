//! What an image says about running it, merged under what the user said (moby `daemon/commit.go`, `merge`).

use naru_types::Error;
use naru_types::image::{Healthcheck, RunConfig};
use naru_types::signal::Signal;
use naru_types::spec::{ContainerSpec, Mount, MountSource, PortProto};

/// Fills `spec` from `image`; the user's word wins field by field. `anonymous` names a new anonymous volume.
pub fn merge(
    spec: &mut ContainerSpec,
    image: &RunConfig,
    mut anonymous: impl FnMut() -> String,
) -> Result<(), Error> {
    merge_command(spec, image);
    let process = &mut spec.process;
    if process.user.is_empty() {
        process.user.clone_from(&image.user);
    }
    if process.working_dir.is_empty() {
        process.working_dir.clone_from(&image.working_dir);
    }
    for entry in &image.env {
        let key = env_key(entry);
        if !process.env.iter().any(|own| env_key(own) == key) {
            process.env.push(entry.clone());
        }
    }
    for (key, value) in &image.labels {
        spec.labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
    for port in image.exposed_ports.keys() {
        let Some(port) = PortProto::parse(port) else {
            return Err(Error::invalid(format!("invalid port specification in the image: {port:?}")));
        };
        if !spec.network.exposed.contains(&port) {
            spec.network.exposed.push(port);
        }
    }
    for target in image.volumes.keys() {
        if spec.mounts.iter().any(|mount| clean(&mount.target) == clean(target)) {
            continue;
        }
        let source = MountSource::anonymous_volume(anonymous(), true);
        spec.mounts.push(Mount { source, target: target.clone(), read_only: false });
    }
    if spec.stop_signal.is_none()
        && let Some(text) = image.stop_signal.as_deref().filter(|text| !text.is_empty())
    {
        let unknown = || Error::invalid(format!("invalid signal in the image: {text}"));
        spec.stop_signal = Some(Signal::parse(text).ok_or_else(unknown)?);
    }
    spec.healthcheck = merge_health(spec.healthcheck.take(), image.healthcheck.as_ref());
    Ok(())
}

/// An entrypoint of the user's own makes the image's command meaningless; `--entrypoint ""` (which arrives as one
/// empty word) asks for none at all.
fn merge_command(spec: &mut ContainerSpec, image: &RunConfig) {
    let process = &mut spec.process;
    let has_entrypoint = process.entrypoint.as_ref().is_some_and(|words| !words.is_empty());
    if !has_entrypoint {
        if process.cmd.as_ref().is_none_or(Vec::is_empty) {
            process.cmd.clone_from(&image.cmd);
        }
        if process.entrypoint.is_none() {
            process.entrypoint.clone_from(&image.entrypoint);
        }
    }
    if process.entrypoint.as_deref().is_some_and(|words| matches!(words, [only] if only.is_empty())) {
        process.entrypoint = None;
    }
}

fn merge_health(own: Option<Healthcheck>, image: Option<&Healthcheck>) -> Option<Healthcheck> {
    let (Some(mut own), Some(image)) = (own.clone(), image) else {
        return own.or_else(|| image.cloned());
    };
    if own.test.is_empty() {
        own.test.clone_from(&image.test);
    }
    for (mine, theirs) in [
        (&mut own.interval, image.interval),
        (&mut own.timeout, image.timeout),
        (&mut own.start_period, image.start_period),
        (&mut own.start_interval, image.start_interval),
        (&mut own.retries, image.retries),
    ] {
        if *mine == 0 {
            *mine = theirs;
        }
    }
    Some(own)
}

fn env_key(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(key, _)| key)
}

/// A target without trailing slashes, for comparison.
pub fn clean(target: &str) -> &str {
    let trimmed = target.trim_end_matches('/');
    if trimmed.is_empty() { "/" } else { trimmed }
}

#[cfg(test)]
mod tests {
    use super::*;
    use naru_types::spec::Process;

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn commands() {
        let image =
            RunConfig { entrypoint: Some(words(&["e"])), cmd: Some(words(&["c"])), ..RunConfig::default() };
        for (entrypoint, cmd, expect) in [
            (None, None, vec!["e", "c"]),
            (None, Some(words(&["x"])), vec!["e", "x"]),
            (Some(words(&["y"])), None, vec!["y"]),
            (Some(words(&["y"])), Some(words(&["x"])), vec!["y", "x"]),
            (Some(words(&[""])), Some(words(&["x"])), vec!["x"]),
            (Some(words(&[])), None, vec!["c"]),
        ] {
            let process = Process { entrypoint, cmd, ..Process::default() };
            let mut spec = ContainerSpec { process, ..ContainerSpec::default() };
            merge(&mut spec, &image, String::new).unwrap();
            assert_eq!(spec.process.args(), expect);
        }
    }

    #[test]
    fn the_rest() {
        let image: RunConfig = serde_json::from_str(
            r#"{"User":"1","Env":["A=1","B=2"],"Labels":{"k":"image","l":"image"},"ExposedPorts":{"80/tcp":{}},
                "Volumes":{"/data/":{},"/new":{}},"StopSignal":"SIGQUIT","WorkingDir":"/w",
                "Healthcheck":{"Test":["CMD","true"],"Retries":5,"Interval":7}}"#,
        )
        .unwrap();
        let mut spec: ContainerSpec = serde_json::from_str(
            r#"{"process":{"env":["B=own"],"user":"2"},"labels":{"k":"own"},"healthcheck":{"Retries":1}}"#,
        )
        .unwrap();
        spec.mounts.push(Mount {
            source: MountSource::Tmpfs { size: 0, mode: 0, options: vec![] },
            target: "/data".into(),
            read_only: false,
        });
        merge(&mut spec, &image, || "anon".into()).unwrap();
        assert_eq!(spec.process.env, ["B=own", "A=1"]);
        assert_eq!((spec.process.user.as_str(), spec.process.working_dir.as_str()), ("2", "/w"));
        assert_eq!((spec.labels["k"].as_str(), spec.labels["l"].as_str()), ("own", "image"));
        assert_eq!(spec.network.exposed.len(), 1);
        assert_eq!(spec.mounts.len(), 2);
        assert_eq!(spec.stop_signal, Some(Signal(3)));
        let health = spec.healthcheck.unwrap();
        assert_eq!((health.retries, health.interval, health.test.len()), (1, 7, 2));
    }
}
