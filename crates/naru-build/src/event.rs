//! What a build tells while it runs. [`BuildEvent::classic`] renders it as Docker's classic builder
//! prints it (the `stream` messages of `POST /build`, version 1); other views draw their own picture.

use naru_image::Progress;
use naru_types::{ContainerId, Digest};

/// Where a step's output came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuildEvent {
    /// Step `number` of `total` begins. `text` is the instruction as written, on one line.
    StepStarted {
        number: usize,
        total: usize,
        stage: String,
        text: String,
    },
    /// The base image is being pulled.
    Pull(Progress),
    /// The base image brought `count` ONBUILD instructions that run now.
    Triggers {
        count: usize,
    },
    /// The present step's result came from the cache.
    CacheHit,
    /// A command runs, under this id.
    Running {
        id: ContainerId,
    },
    /// What the command wrote.
    Output {
        stream: Stream,
        bytes: Vec<u8>,
    },
    /// The command has ended well and its container is gone.
    Finished {
        id: ContainerId,
    },
    /// The command ended with this code; the build's error follows.
    CommandFailed {
        code: i32,
    },
    /// The step is done; `image` is the id that an image of the steps so far would have.
    StepDone {
        image: Digest,
    },
    Warning {
        text: String,
    },
    /// The image is in the store.
    Built {
        image: Digest,
    },
    /// The image has this name now (`app:latest`).
    Tagged {
        name: String,
    },
}

impl BuildEvent {
    /// The `stream` texts of Docker's classic builder for this event, each one message. Output is handed
    /// on as it came; a pull has messages of its own kind (`Progress`) and so none here.
    pub fn classic(&self) -> Vec<String> {
        match self {
            Self::StepStarted { number, total, text, .. } => {
                vec![format!("Step {number}/{total} : {text}"), "\n".into()]
            }
            Self::Triggers { count: 1 } => vec!["# Executing 1 build trigger\n".into()],
            Self::Triggers { count } => vec![format!("# Executing {count} build triggers\n")],
            Self::CacheHit => vec![" ---> Using cache\n".into()],
            Self::Running { id } => vec![format!(" ---> Running in {}\n", id.short())],
            Self::Output { stream: Stream::Stdout, bytes } => {
                vec![String::from_utf8_lossy(bytes).into_owned()]
            }
            // In bright red, which is the classic builder's only mark of where a text came from.
            Self::Output { stream: Stream::Stderr, bytes } => {
                vec![format!("\u{1b}[91m{}\u{1b}[0m", String::from_utf8_lossy(bytes))]
            }
            Self::Finished { id } => vec![format!(" ---> Removed intermediate container {}\n", id.short())],
            Self::StepDone { image } => vec![format!(" ---> {}\n", image.short())],
            Self::Warning { text } => vec![format!("[Warning] {text}\n")],
            Self::Built { image } => vec![format!("Successfully built {}\n", image.short())],
            Self::Tagged { name } => vec![format!("Successfully tagged {name}\n")],
            Self::Pull(_) | Self::CommandFailed { .. } => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classic_texts() {
        let started = BuildEvent::StepStarted {
            number: 1,
            total: 3,
            stage: "0".into(),
            text: "FROM alpine:3.10".into(),
        };
        assert_eq!(started.classic(), ["Step 1/3 : FROM alpine:3.10", "\n"]);
        let done = BuildEvent::StepDone { image: Digest::from_sha256([0xab; 32]) };
        assert_eq!(done.classic(), [" ---> abababababab\n"]);
        assert_eq!(
            BuildEvent::Tagged { name: "x:latest".into() }.classic(),
            ["Successfully tagged x:latest\n"]
        );
    }
}
