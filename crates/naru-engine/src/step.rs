//! One command run to its end over directories of the caller's: what a build step is.
//!
//! A step is no container: it has no row, no name and no restart policy, and a daemon that dies takes it along (start-up
//! finds a process, a bundle and a directory that no row knows, and sweeps them). It runs in the keeper like any container,
//! with the same confinement, on the network `bridge`, the host's or none.

use crate::create::make_dir;
use crate::engine::Engine;
use crate::keeper_link::client_error;
use crate::machine::ExitStatus;
use naru_net::{AttachRequest as NetAttach, EndpointRequest, files};
use naru_runtime::cgroup::{Cgroup, Layout};
use naru_runtime::keeper::client::{KeeperClient, StartError, StartNamespaces};
use naru_runtime::keeper::protocol::{AttachRequest, StartRequest, StdioSpec, Target};
use naru_runtime::lower::{LowerInput, ResolvedBind, lower};
use naru_runtime::oci;
use naru_runtime::rootfs::Rootfs;
use naru_types::signal::Signal;
use naru_types::spec::{ContainerSpec, NetworkMode};
use naru_types::{ContainerId, Error, Result};
use naru_wire::frame::{FrameReader, StreamKind};
use std::collections::HashMap;
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

/// CPU shares of all builds together; a container that asks for nothing has 1024. A build gets whatever nobody else wants, and
/// doesn't starve a service.
const BUILDS_CPU_SHARES: u64 = 128;
/// How often a running step looks whether it is cancelled.
const CANCEL_POLL: Duration = Duration::from_millis(100);
/// How long after the end of its output a step's exit may take to be told.
const EXIT_WAIT: Duration = Duration::from_secs(30);

/// What to run. Mounts and images of `spec` are not looked at: the directories and binds here are all there is.
pub struct StepProcess {
    pub id: ContainerId,
    pub spec: ContainerSpec,
    /// Overlay directories: lower ones top-most first.
    pub lower: Vec<PathBuf>,
    pub upper: PathBuf,
    pub work: PathBuf,
    pub binds: Vec<ResolvedBind>,
}

/// Steps that run, and who waits for their end.
#[derive(Default)]
pub(crate) struct Steps(Mutex<HashMap<ContainerId, mpsc::Sender<ExitStatus>>>);

impl Steps {
    fn expect(&self, id: &ContainerId) -> mpsc::Receiver<ExitStatus> {
        let (sender, receiver) = mpsc::channel();
        crate::lock(&self.0).insert(id.clone(), sender);
        receiver
    }

    /// Whether the process was a step; then its end has been passed on.
    pub fn ended(&self, id: &ContainerId, exit: ExitStatus) -> bool {
        let Some(waiter) = crate::lock(&self.0).remove(id) else { return false };
        // A step that was cancelled has nobody waiting any more.
        let _ = waiter.send(exit);
        true
    }

    pub fn any(&self) -> bool {
        !crate::lock(&self.0).is_empty()
    }
}

impl Engine {
    /// Runs the step and gives its exit code; output goes to `output` as it comes. Blocks. Whatever happens, afterwards
    /// nothing of it is left but what it wrote to `upper`.
    pub fn run_step(
        &self,
        step: &StepProcess,
        cancel: &AtomicBool,
        output: &mut dyn FnMut(StreamKind, &[u8]),
    ) -> Result<i32> {
        let engine = self.arc();
        let _undo = Undo { engine: &engine, id: &step.id };
        let dir = self.config.root.join("containers").join(step.id.as_str());
        make_dir(&dir, 0o700)?;
        let (netns, binds) = self.step_network(step, &dir)?;
        let bundle = self.config.run.join("bundles").join(step.id.as_str());
        self.write_step_bundle(step, &bundle, binds)?;
        self.weigh_builds();
        let keeper = self.keeper()?;
        let exit = self.steps.expect(&step.id);
        let attach = AttachRequest {
            target: Target::container(step.id.clone()),
            stdin: false,
            stdout: true,
            stderr: true,
        };
        let stream = keeper.attach(&attach).map_err(client_error)?;
        let request = StartRequest {
            id: step.id.clone(),
            bundle,
            rootfs: Rootfs::Overlay {
                lower: step.lower.clone(),
                upper: step.upper.clone(),
                work: step.work.clone(),
            },
            stdio: StdioSpec::default(),
            log: None,
            init: false,
            // A build's steps are naru's own, whatever containers get.
            runtime: None,
        };
        let namespaces = StartNamespaces { network: netns.as_ref().map(AsFd::as_fd), user: None };
        let started = keeper.start(request, namespaces).map_err(|error| match error {
            StartError::Failed(failed) => Error::invalid(failed.message),
            StartError::Client(error) => client_error(error),
        })?;
        let pumped = pump(&keeper, &step.id, stream, cancel, output);
        let exit = exit.recv_timeout(EXIT_WAIT);
        drop(started);
        pumped?;
        if cancel.load(Ordering::Acquire) {
            return Err(Error::conflict("the step was cancelled"));
        }
        let exit =
            exit.map_err(|_| Error::unavailable("the end of the step was not told: its keeper was killed"))?;
        let code = exit.code.ok_or_else(|| Error::unavailable(exit.why))?;
        Ok(code as i32)
    }

    /// The namespace, and the three files that go with it.
    fn step_network(
        &self,
        step: &StepProcess,
        dir: &std::path::Path,
    ) -> Result<(Option<OwnedFd>, LowerFiles)> {
        let network = &step.spec.network;
        let mut own = Vec::new();
        let mut netns = None;
        let bridge = self.find_network("bridge")?;
        let gateway = bridge.net.as_ref().map(|net| net.gateway);
        if network.mode == NetworkMode::Bridge {
            let endpoint = EndpointRequest {
                network: bridge.id,
                names: vec![step.id.short().to_owned()],
                ipv4: None,
                mac: None,
                links: Vec::new(),
            };
            let made = self.nets.attach(&NetAttach {
                container: step.id.clone(),
                endpoints: vec![endpoint],
                published: Vec::new(),
                dns: Vec::new(),
            })?;
            own = made.endpoints.iter().map(|endpoint| endpoint.ipv4).collect();
            netns = Some(made.netns);
        }
        let host = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        let host_mode = network.mode == NetworkMode::Host;
        let given = files::DnsOptions { servers: &[], search: &[], options: &[] };
        let resolv = if host_mode { host } else { files::resolv_conf(&host, false, &given) };
        let hosts = files::hosts(&step.spec.hostname, "", &own, &network.extra_hosts, gateway)?;
        let paths = LowerFiles {
            hostname: dir.join("hostname"),
            hosts: dir.join("hosts"),
            resolv_conf: dir.join("resolv.conf"),
        };
        for (path, text) in [
            (&paths.hostname, files::hostname(&step.spec.hostname)),
            (&paths.hosts, hosts),
            (&paths.resolv_conf, resolv),
        ] {
            std::fs::write(path, text).map_err(|error| {
                Error::internal(format!("cannot write {}", path.display())).with_source(error)
            })?;
        }
        Ok((netns, paths))
    }

    /// The control group above those of all steps; relative to each hierarchy's root, as that of a step.
    pub(crate) fn builds_cgroup(&self) -> String {
        format!("{}/build", self.config.cgroup_parent.trim_matches('/'))
    }

    pub(crate) fn step_cgroup(&self, id: &ContainerId) -> String {
        format!("{}/{id}", self.builds_cgroup())
    }

    /// Where nothing can be weighed (no controller, or none that was delegated), builds run all the same.
    fn weigh_builds(&self) {
        let mut resources = oci::Resources::default();
        resources.cpu.shares = Some(BUILDS_CPU_SHARES);
        let _ = Cgroup::create(&self.builds_cgroup()).and_then(|cgroup| cgroup.apply(&resources));
    }

    fn write_step_bundle(
        &self,
        step: &StepProcess,
        bundle: &std::path::Path,
        files: LowerFiles,
    ) -> Result<()> {
        let config = lower(
            &step.spec,
            &LowerInput {
                id: step.id.to_string(),
                rootfs_path: PathBuf::from("rootfs"),
                cgroup_path: self.step_cgroup(&step.id),
                cgroup_v2: Layout::detect().is_ok_and(|layout| layout.is_v2_only()),
                host_caps: naru_kernel::caps::permitted(),
                hostname: step.spec.hostname.clone(),
                hostname_path: Some(files.hostname),
                hosts_path: Some(files.hosts),
                resolv_conf_path: Some(files.resolv_conf),
                binds: step.binds.clone(),
                apparmor_profile: crate::lowering::apparmor_profile(&step.spec)?,
                ..LowerInput::default()
            },
        )?;
        make_dir(bundle, 0o700)?;
        let path = bundle.join("config.json");
        let failed = |error: std::io::Error| {
            Error::internal(format!("cannot write {}", path.display())).with_source(error)
        };
        let text = serde_json::to_vec(&config).map_err(|error| failed(error.into()))?;
        std::fs::write(&path, text).map_err(failed)
    }
}

struct LowerFiles {
    hostname: PathBuf,
    hosts: PathBuf,
    resolv_conf: PathBuf,
}

/// Hands output on until it ends; kills the step when it is cancelled.
fn pump(
    keeper: &Arc<KeeperClient>,
    id: &ContainerId,
    stream: UnixStream,
    cancel: &AtomicBool,
    output: &mut dyn FnMut(StreamKind, &[u8]),
) -> Result<()> {
    let broken = |error: std::io::Error| Error::internal("the step's output broke off").with_source(error);
    stream.set_read_timeout(Some(CANCEL_POLL)).map_err(broken)?;
    let mut killed = false;
    let mut frames = FrameReader::new(Patient {
        stream,
        cancel,
        on_cancel: || {
            if !killed {
                killed = true;
                // It ended by itself when the keeper doesn't know it any more.
                let _ = keeper.signal_all(id, Signal::KILL);
            }
        },
    });
    while let Some((stream, bytes)) = frames.next_frame().map_err(broken)? {
        output(stream, bytes);
    }
    Ok(())
}

/// Reads on through time-outs, so that a frame is never torn by one, and looks for a cancel between them.
struct Patient<'a, F: FnMut()> {
    stream: UnixStream,
    cancel: &'a AtomicBool,
    on_cancel: F,
}

impl<F: FnMut()> std::io::Read for Patient<'_, F> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            match self.stream.read(buffer) {
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if self.cancel.load(Ordering::Acquire) {
                        (self.on_cancel)();
                    }
                }
                other => return other,
            }
        }
    }
}

/// Takes everything of a step back, on every path.
struct Undo<'a> {
    engine: &'a Arc<Engine>,
    id: &'a ContainerId,
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        let target = Target::container(self.id.clone());
        if let Ok(keeper) = self.engine.keeper() {
            // All of it may be gone already; what isn't is swept at the next start.
            let _ = keeper.signal_all(self.id, Signal::KILL);
            let _ = keeper.forget(&target);
        }
        // A keeper that took the place of a killed one doesn't know the step.
        crate::open::clear_cgroup(&self.engine.step_cgroup(self.id));
        crate::lock(&self.engine.steps.0).remove(self.id);
        let _ = self.engine.nets.detach(self.id);
        let config = &self.engine.config;
        let _ = std::fs::remove_dir_all(config.run.join("bundles").join(self.id.as_str()));
        let _ = std::fs::remove_dir_all(config.root.join("containers").join(self.id.as_str()));
    }
}
