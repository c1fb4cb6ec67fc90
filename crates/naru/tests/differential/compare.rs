//! The differences between two answers to one step.

use crate::engine::Out;
use crate::step::{Compare, Step};
use crate::{class, normal, shape};

/// Each as one line that says where, what dockerd has and what naru has.
pub fn differences(step: &Step, outs: [&Out; 2], dirs: [&str; 2]) -> Vec<String> {
    let mut found = Vec::new();
    if outs[0].code != outs[1].code {
        found.push(format!(
            "code: {} != {} ({} | {})",
            outs[0].code,
            outs[1].code,
            brief(outs[0]),
            brief(outs[1])
        ));
    }
    if step.is_http() {
        http(step, outs, dirs, &mut found);
        return found;
    }
    match step.compare {
        Compare::Code => {}
        Compare::Text => lines("stdout", [0, 1].map(|i| normal_lines(&outs[i].stdout, dirs[i])), &mut found),
        Compare::Sorted => {
            let sorted = |i: usize| {
                let mut lines = normal_lines(&outs[i].stdout, dirs[i]);
                lines.sort();
                lines
            };
            lines("stdout", [sorted(0), sorted(1)], &mut found);
        }
        Compare::Shape | Compare::Values => json(step, outs, dirs, &mut found),
    }
    errors(&[0, 1].map(|i| normal::text(&outs[i].stderr, dirs[i])), &mut found);
    found
}

fn brief(out: &Out) -> String {
    out.stdout.chars().chain(out.stderr.chars()).filter(|c| *c != '\n').take(160).collect()
}

fn normal_lines(text: &str, dir: &str) -> Vec<String> {
    // An exec that can't start says so on standard output.
    let said = |line: &str| if line.contains("unable to ") { class::class(line) } else { line.to_owned() };
    normal::text(text, dir).lines().map(said).collect()
}

fn lines(what: &str, sides: [Vec<String>; 2], found: &mut Vec<String>) {
    let [left, right] = sides;
    for index in 0..left.len().max(right.len()) {
        let show = |line: Option<&String>| line.map_or("nothing".to_owned(), |line| format!("{line:?}"));
        if left.get(index) != right.get(index) {
            found.push(format!("{what}: {} != {}", show(left.get(index)), show(right.get(index))));
        }
    }
}

fn json(step: &Step, outs: [&Out; 2], dirs: [&str; 2], found: &mut Vec<String>) {
    let [left, right] = outs.map(|out| shape::parse(&out.stdout));
    match (left, right) {
        (Some(left), Some(right)) if step.compare == Compare::Values => {
            found.extend(shape::values(&left, &right, dirs));
        }
        (Some(left), Some(right)) => found.extend(shape::shapes(&left, &right)),
        _ => lines("stdout", [0, 1].map(|i| normal_lines(&outs[i].stdout, dirs[i])), found),
    }
}

/// The body's shape; of an error its message too.
fn http(step: &Step, outs: [&Out; 2], dirs: [&str; 2], found: &mut Vec<String>) {
    if outs[0].stderr != outs[1].stderr {
        found.push(format!("content type: {:?} != {:?}", outs[0].stderr, outs[1].stderr));
    }
    if step.compare == Compare::Code {
        return;
    }
    json(step, outs, dirs, found);
    if outs[0].code >= 400 {
        let message = |i: usize| {
            let body = shape::parse(&outs[i].stdout).unwrap_or_default();
            normal::text(body["message"].as_str().unwrap_or_default(), dirs[i])
        };
        errors(&[message(0), message(1)], found);
    }
}

/// Equal texts, or different wordings of one class of error.
fn errors(sides: &[String; 2], found: &mut Vec<String>) {
    let [left, right] = sides.each_ref().map(|text| {
        let kept = text.lines().filter(|line| !is_advice(line)).map(class::class);
        kept.collect::<Vec<String>>()
    });
    lines("stderr", [left, right], found);
}

/// Lines that the client adds by itself: advice, and its log of a pipe that it closed.
fn is_advice(line: &str) -> bool {
    line.trim().is_empty()
        || line.contains("io: read/write on closed pipe")
        || line.starts_with("Run 'docker")
        || line.starts_with("See 'docker")
}
