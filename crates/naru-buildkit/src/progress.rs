//! naru's build events as BuildKit's StatusResponse messages: one vertex for each step.

use crate::builds::Build;
use crate::wire::Out;
use naru_build::outline::StageOutline;
use naru_build::{BuildEvent, Stream};
use naru_kernel::clock;
use naru_types::ImageRef;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Follows one build.
pub struct Teller<'a> {
    build: &'a Build,
    present: Option<Vertex>,
    count: u64,
    stages: Vec<StageOutline>,
    /// By stage: steps shown so far.
    shown: BTreeMap<String, usize>,
}

struct Vertex {
    digest: String,
    name: String,
    started: Out,
    cached: bool,
}

impl<'a> Teller<'a> {
    pub fn new(build: &'a Build) -> Self {
        Self { build, present: None, count: 0, stages: Vec::new(), shown: BTreeMap::new() }
    }

    /// The stages that steps are counted in.
    pub fn outline(&mut self, stages: Vec<StageOutline>) {
        self.stages = stages;
    }

    pub fn begin(&mut self, name: &str) {
        self.end(None);
        self.count += 1;
        let hash = Sha256::digest(format!("{:p} {} {name}", self.build, self.count));
        let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let vertex =
            Vertex { digest: format!("sha256:{hash}"), name: name.to_owned(), started: now(), cached: false };
        self.build.tell(Out::default().message(1, &vertex.out()).0, false);
        self.present = Some(vertex);
    }

    pub fn end(&mut self, error: Option<&str>) {
        if let Some(vertex) = self.present.take() {
            let out = vertex.out().message(6, &now()).text(7, error.unwrap_or(""));
            self.build.tell(Out::default().message(1, &out).0, false);
        }
    }

    /// A line below the present step that is done at once, such as a name that the image got.
    pub fn done(&self, text: &str) {
        let Some(vertex) = &self.present else { return };
        let status = Out::default().text(1, text).text(2, &vertex.digest);
        let status = status.message(6, &now()).message(7, &now()).message(8, &now());
        self.build.tell(Out::default().message(2, &status).0, false);
    }

    pub fn warn(&self, text: &str) {
        let digest = self.present.as_ref().map_or("", |vertex| vertex.digest.as_str());
        let warning = Out::default().text(1, digest).number(2, 1).text(3, text);
        self.build.tell(Out::default().message(4, &warning).0, false);
    }

    pub fn event(&mut self, event: &BuildEvent) {
        match event {
            BuildEvent::StepStarted { stage, text, .. } => match self.step(stage, text) {
                Some(name) => self.begin(&name),
                // BuildKit shows only what makes files.
                None => self.end(None),
            },
            BuildEvent::CacheHit => {
                if let Some(vertex) = &mut self.present {
                    vertex.cached = true;
                }
            }
            BuildEvent::Output { stream, bytes } => {
                self.log(if *stream == Stream::Stdout { 1 } else { 2 }, bytes)
            }
            BuildEvent::Warning { text } => self.warn(text),
            BuildEvent::StepDone { .. } => self.end(None),
            BuildEvent::Built { image } => {
                self.begin("exporting to image");
                self.done(&format!("writing image {image}"));
            }
            BuildEvent::Tagged { name } => self.done(&format!("naming to {name}")),
            // BuildKit tells none of these.
            BuildEvent::Pull(_)
            | BuildEvent::Triggers { .. }
            | BuildEvent::Running { .. }
            | BuildEvent::Finished { .. }
            | BuildEvent::CommandFailed { .. } => {}
        }
    }

    /// `[make 2/4] RUN make`: the stage's name, where there are several, and the step's number in it.
    fn step(&mut self, stage: &str, text: &str) -> Option<String> {
        let keyword = text.split_whitespace().next()?.to_ascii_uppercase();
        let found = self.stages.iter().find(|found| found.key == stage)?;
        let text = match (keyword.as_str(), &found.base) {
            ("FROM", Some(base)) => {
                let image = ImageRef::parse(base).map(|image| image.with_default_tag().to_string());
                format!("FROM {}", image.unwrap_or_else(|_| base.clone()))
            }
            ("RUN" | "COPY" | "ADD" | "WORKDIR", _) => text.to_owned(),
            _ => return None,
        };
        let number = self.shown.entry(stage.to_owned()).or_default();
        *number += 1;
        let space = if found.shown.is_empty() { "" } else { " " };
        let width = found.steps.to_string().len();
        Some(format!("[{}{space}{number:>width$}/{}] {text}", found.shown, found.steps))
    }

    fn log(&self, stream: u64, bytes: &[u8]) {
        let Some(vertex) = &self.present else { return };
        let log = Out::default().text(1, &vertex.digest).message(2, &now()).number(3, stream).bytes(4, bytes);
        self.build.tell(Out::default().message(3, &log).0, true);
    }
}

impl Vertex {
    fn out(&self) -> Out {
        let out = Out::default().text(1, &self.digest).text(3, &self.name);
        out.number(4, u64::from(self.cached)).message(5, &self.started)
    }
}

/// google.protobuf.Timestamp.
fn now() -> Out {
    let now = clock::now();
    Out::default().number(1, now.secs() as u64).number(2, u64::from(now.subsec_nanos()))
}
