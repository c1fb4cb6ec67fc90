//! A step of the script: what is asked of an engine, and what of its answer must be the same.

use crate::engine::{Engine, Out, SOON};
use std::collections::BTreeMap;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    /// Exit code, standard output as normalised text, class of the error.
    Text,
    /// The same with the lines sorted: where the order is none that an engine promises.
    Sorted,
    /// Standard output as JSON, by shape.
    Shape,
    /// Standard output as JSON, by shape and values.
    Values,
    /// Exit code and class of the error only: standard output is binary or measured.
    Code,
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Docker(&'static str),
    Http(&'static str, &'static str, &'static str),
    Shell(&'static str),
}

#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub name: &'static str,
    pub compare: Compare,
    action: Action,
    input: &'static str,
    until: Option<&'static str>,
    keep: Option<&'static str>,
}

/// `line` is the arguments of the docker CLI; single quotes hold words together; `{NAME}` is a variable.
pub const fn text(name: &'static str, line: &'static str) -> Step {
    Step::new(name, Compare::Text, Action::Docker(line))
}

pub const fn sorted(name: &'static str, line: &'static str) -> Step {
    Step::new(name, Compare::Sorted, Action::Docker(line))
}

pub const fn shape(name: &'static str, line: &'static str) -> Step {
    Step::new(name, Compare::Shape, Action::Docker(line))
}

pub const fn values(name: &'static str, line: &'static str) -> Step {
    Step::new(name, Compare::Values, Action::Docker(line))
}

pub const fn code(name: &'static str, line: &'static str) -> Step {
    Step::new(name, Compare::Code, Action::Docker(line))
}

pub const fn http(name: &'static str, method: &'static str, path: &'static str, body: &'static str) -> Step {
    Step::new(name, Compare::Shape, Action::Http(method, path, body))
}

/// A shell line in the engine's directory and network namespace.
pub const fn shell(name: &'static str, line: &'static str) -> Step {
    Step::new(name, Compare::Text, Action::Shell(line))
}

impl Step {
    const fn new(name: &'static str, compare: Compare, action: Action) -> Self {
        Self { name, compare, action, input: "", until: None, keep: None }
    }

    pub const fn input(self, input: &'static str) -> Self {
        Self { input, ..self }
    }

    /// Repeats the step until its output contains this.
    pub const fn until(self, wanted: &'static str) -> Self {
        Self { until: Some(wanted), ..self }
    }

    /// Keeps standard output, or the `Id` in it, as a variable for later steps.
    pub const fn keep(self, variable: &'static str) -> Self {
        Self { keep: Some(variable), ..self }
    }

    pub const fn only_code(self) -> Self {
        Self { compare: Compare::Code, ..self }
    }

    pub fn is_http(&self) -> bool {
        matches!(self.action, Action::Http(..))
    }

    pub fn is_docker(&self) -> bool {
        matches!(self.action, Action::Docker(_))
    }

    pub fn run(&self, engine: &Engine, variables: &mut Variables) -> Out {
        let deadline = Instant::now() + SOON;
        loop {
            let out = self.once(engine, variables);
            let wanted = self.until.is_none_or(|wanted| out.stdout.contains(wanted));
            if wanted || Instant::now() > deadline {
                if let Some(name) = self.keep {
                    variables.keep(name, &out.stdout);
                }
                return out;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }

    fn once(&self, engine: &Engine, variables: &Variables) -> Out {
        match self.action {
            Action::Docker(line) => {
                let args: Vec<String> = words(line).iter().map(|word| variables.fill(word)).collect();
                engine.docker(&args, self.input.as_bytes())
            }
            Action::Http(method, path, body) => {
                engine.http(method, &variables.fill(path), &variables.fill(body))
            }
            Action::Shell(line) => engine.shell(&variables.fill(line)),
        }
    }
}

/// What `{NAME}` stands for; `{DIR}` is the engine's directory, `{NOW}` the present moment.
pub struct Variables(BTreeMap<String, String>);

impl Variables {
    pub fn new(engine: &Engine) -> Self {
        Self(BTreeMap::from([("DIR".to_owned(), engine.dir.display().to_string())]))
    }

    fn keep(&mut self, name: &str, output: &str) {
        let json: Option<serde_json::Value> = serde_json::from_str(output).ok();
        let id = json.as_ref().and_then(|json| json["Id"].as_str());
        self.0.insert(name.to_owned(), id.unwrap_or(output).trim().to_owned());
    }

    fn fill(&self, text: &str) -> String {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let now = format!("{}.{:09}", since_epoch.as_secs(), since_epoch.subsec_nanos());
        let filled = self
            .0
            .iter()
            .fold(text.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value));
        filled.replace("{NOW}", &now)
    }
}

/// Splits at spaces outside single quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![];
    let (mut word, mut started, mut quoted) = (String::new(), false, false);
    for c in line.chars() {
        match c {
            '\'' => (quoted, started) = (!quoted, true),
            ' ' if !quoted => {
                if started {
                    words.push(std::mem::take(&mut word));
                }
                started = false;
            }
            other => {
                word.push(other);
                started = true;
            }
        }
    }
    if started {
        words.push(word);
    }
    words
}
