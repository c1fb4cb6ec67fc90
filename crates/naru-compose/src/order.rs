//! Services in an order in which each comes after those it depends on.

use crate::error::Result;
use crate::service::Draft;
use std::collections::BTreeMap;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    Open,
    Done,
}

/// Indices into `drafts`. Services that depend on nothing keep the file's order. A cycle is an error that
/// names its members.
pub(crate) fn sort(drafts: &[Draft<'_>]) -> Result<Vec<usize>> {
    let index: BTreeMap<&str, usize> =
        drafts.iter().enumerate().map(|(at, draft)| (draft.name.as_str(), at)).collect();
    let mut marks: Vec<Option<Mark>> = vec![None; drafts.len()];
    let mut order = Vec::new();
    for start in 0..drafts.len() {
        // An own stack: a long chain must not exhaust the thread's.
        let mut stack = vec![(start, 0)];
        while let Some((current, next)) = stack.pop() {
            if next == 0 {
                if marks[current] == Some(Mark::Done) {
                    continue;
                }
                marks[current] = Some(Mark::Open);
            }
            let Some(dependency) = drafts[current].depends_on.get(next) else {
                marks[current] = Some(Mark::Done);
                order.push(current);
                continue;
            };
            stack.push((current, next + 1));
            let Some(&target) = index.get(dependency.service.as_str()) else { continue };
            match marks[target] {
                Some(Mark::Done) => {}
                None => stack.push((target, 0)),
                Some(Mark::Open) => {
                    let from = stack.iter().position(|(at, _)| *at == target).unwrap_or(0);
                    let names = stack[from..]
                        .iter()
                        .map(|(at, _)| *at)
                        .chain([target])
                        .map(|at| drafts[at].name.as_str());
                    let cycle = names.collect::<Vec<_>>().join(" -> ");
                    let error = dependency.at.error(format!("dependency cycle detected: {cycle}"));
                    return Err(error.hint("remove one of these depends_on"));
                }
            }
        }
    }
    Ok(order)
}
