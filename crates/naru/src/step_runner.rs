//! The ports of the builder and of the bootstrap to containers: their steps as processes of the engine.

use naru_bootstrap::{Runner, Step};
use naru_build::{StepExit, StepMountKind, StepNetwork, StepRunner, StepSpec, Stream};
use naru_engine::{Engine, StepProcess};
use naru_runtime::lower::ResolvedBind;
use naru_types::spec::{ContainerSpec, Mount, MountSource, NetworkMode, Propagation};
use naru_types::{Error, Result};
use naru_wire::frame::StreamKind;
use std::sync::Arc;

pub struct EngineSteps(pub Arc<Engine>);

impl StepRunner for EngineSteps {
    fn run(&self, step: &StepSpec, output: &mut dyn FnMut(Stream, &[u8])) -> Result<StepExit> {
        if step.lowers.is_empty() {
            return Err(Error::invalid(
                "RUN needs a root file system: nothing can be executed in an empty image",
            ));
        }
        let process = StepProcess {
            id: step.id.clone(),
            spec: spec(step),
            lower: step.lowers.clone(),
            upper: step.upper.clone(),
            work: step.work.clone(),
            binds: step.mounts.iter().filter_map(bind).collect(),
        };
        let code = self.0.run_step(&process, &step.cancel, &mut |stream, bytes| {
            let stream = if stream == StreamKind::Stderr { Stream::Stderr } else { Stream::Stdout };
            output(stream, bytes);
        })?;
        Ok(StepExit { code })
    }
}

/// The commands that configure a new root: as any step of a build, but never with a network.
pub struct BootstrapSteps(pub Arc<Engine>);

impl Runner for BootstrapSteps {
    fn run(&self, step: &Step, output: &mut dyn FnMut(&[u8])) -> Result<i32> {
        let mut spec = ContainerSpec { hostname: "localhost".into(), ..ContainerSpec::default() };
        spec.process.cmd = Some(step.args.clone());
        spec.process.env.clone_from(&step.env);
        spec.process.working_dir = "/".into();
        spec.network.mode = NetworkMode::None;
        let bind = step.bind.iter().map(|(source, target)| ResolvedBind {
            source: source.clone(),
            target: target.clone(),
            read_only: true,
            propagation: Propagation::Rprivate,
        });
        let process = StepProcess {
            id: step.id.clone(),
            spec,
            lower: vec![step.lower.clone()],
            upper: step.upper.clone(),
            work: step.work.clone(),
            binds: bind.collect(),
        };
        self.0.run_step(&process, &step.cancel, &mut |_, bytes| output(bytes))
    }
}

fn spec(step: &StepSpec) -> ContainerSpec {
    let mut spec = ContainerSpec {
        hostname: step.hostname.clone(),
        shm_size: step.shm_size,
        ..ContainerSpec::default()
    };
    spec.process.cmd = Some(step.args.clone());
    spec.process.env.clone_from(&step.env);
    spec.process.working_dir.clone_from(&step.cwd);
    spec.process.user.clone_from(&step.user);
    spec.network.extra_hosts.clone_from(&step.extra_hosts);
    spec.network.mode = match step.network {
        StepNetwork::Bridge => NetworkMode::Bridge,
        StepNetwork::Host => NetworkMode::Host,
        StepNetwork::None => NetworkMode::None,
    };
    spec.mounts = step
        .mounts
        .iter()
        .filter_map(|mount| match &mount.kind {
            StepMountKind::Tmpfs { size } => Some(Mount {
                source: MountSource::Tmpfs { size: size.unwrap_or(0), mode: 0o1777, options: Vec::new() },
                target: mount.target.clone(),
                read_only: false,
            }),
            StepMountKind::Bind { .. } => None,
        })
        .collect();
    spec
}

fn bind(mount: &naru_build::StepMount) -> Option<ResolvedBind> {
    match &mount.kind {
        StepMountKind::Bind { source, read_only } => Some(ResolvedBind {
            source: source.clone(),
            target: mount.target.clone(),
            read_only: *read_only,
            propagation: Propagation::Rprivate,
        }),
        StepMountKind::Tmpfs { .. } => None,
    }
}
