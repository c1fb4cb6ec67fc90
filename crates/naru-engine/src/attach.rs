//! Streams to a container's first process, and the size of its terminal.

use crate::engine::Engine;
use crate::exec::into_tokio;
use crate::machine::State;
use crate::options::AttachOptions;
use naru_runtime::keeper::protocol::{AttachRequest, Target};
use naru_types::{Error, Kind, Result};
use tokio::net::UnixStream;

impl Engine {
    /// Framed as Docker does unless the container has a tty. Before the start it is kept for it, so no byte is lost.
    pub async fn attach(&self, r: &str, options: AttachOptions) -> Result<UnixStream> {
        let container = self.find(r)?;
        match &container.cell().state {
            State::Paused { .. } => {
                return Err(Error::conflict(format!(
                    "container {} is paused, unpause the container before attach",
                    container.id
                )));
            }
            State::Restarting { .. } => {
                return Err(Error::conflict(format!(
                    "Container {} is restarting, wait until the container is running",
                    container.id
                )));
            }
            State::Removing { .. } | State::Dead { .. } => {
                return Err(Error::conflict(format!("container {} is marked for removal", container.id)));
            }
            State::Created { .. }
            | State::Starting(_)
            | State::Running { .. }
            | State::Stopping { .. }
            | State::Settling { .. }
            | State::Exited { .. } => {}
        }
        self.emit_about(&container, "attach", &[]);
        let AttachOptions { stdin, stdout, stderr } = options;
        let request =
            AttachRequest { target: Target::container(container.id.clone()), stdin, stdout, stderr };
        let stream = self.with_keeper(move |keeper| keeper.attach(&request)).await?;
        into_tokio(stream)
    }

    pub async fn resize(&self, r: &str, rows: u16, cols: u16) -> Result<()> {
        let container = self.find(r)?;
        if container.pid().is_none() {
            return Err(Error::conflict(format!("container {} is not running", container.id)));
        }
        if !container.cell().spec.stdio.tty {
            // No terminal, no size: dockerd says nothing either.
            return Ok(());
        }
        let target = Target::container(container.id.clone());
        let resized = self.with_keeper(move |keeper| keeper.resize(&target, rows, cols)).await;
        match resized {
            Ok(()) => {
                let (height, width) = (rows.to_string(), cols.to_string());
                self.emit_about(&container, "resize", &[("height", &height), ("width", &width)]);
                Ok(())
            }
            // It ended while we asked.
            Err(error) if error.kind() == Kind::NotFound => {
                Err(Error::conflict(format!("container {} is not running", container.id)))
            }
            Err(error) => Err(error),
        }
    }
}
