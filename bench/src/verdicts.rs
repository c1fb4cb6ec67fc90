//! What the conformance suites said, kept in a file between runs, and the tables made of it.
//!
//! A suite has one table: a row for each group, a column for each runtime in each view of control groups. Below it stands
//! every case in which a peer passes and naru doesn't, whether naru failed it, skipped it or never came to it: a test that
//! breaks off has other cases than one that goes on.

use crate::Result;
use crate::suites::Outcome;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::Path;

const OWN: &str = "naru";
const FIELDS: usize = 6;

/// One case of one runtime in one view.
#[derive(Clone, Debug)]
pub struct Verdict {
    pub suite: String,
    pub view: String,
    pub runtime: String,
    pub group: String,
    pub case: String,
    pub outcome: Outcome,
}

#[derive(Debug, Default)]
pub struct Verdicts {
    list: Vec<Verdict>,
}

/// A view and a runtime.
type Column = (String, String);

impl Verdicts {
    pub fn add(&mut self, verdict: Verdict) {
        self.list.push(verdict);
    }

    /// As lines of fields with tabs between them.
    pub fn append(&self, path: &Path) -> Result<()> {
        let mut text = String::new();
        for Verdict { suite, view, runtime, group, case, outcome } in &self.list {
            let case = case.replace('\t', " ");
            text += &[suite, view, runtime, group, case.as_str(), outcome.name()]
                .map(|field: &str| field)
                .join("\t");
            text.push('\n');
        }
        let mut file = fs::File::options().create(true).append(true).open(path)?;
        Ok(file.write_all(text.as_bytes())?)
    }

    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let list = text.lines().map(parse).collect::<Option<Vec<_>>>();
        Ok(Self { list: list.ok_or_else(|| format!("{}: not a file of verdicts", path.display()))? })
    }

    pub fn print(&self) {
        for suite in self.distinct(|verdict| &verdict.suite) {
            let of_suite: Vec<&Verdict> = self.list.iter().filter(|verdict| verdict.suite == suite).collect();
            print_table(&suite, &of_suite);
            print_differences(&of_suite);
        }
    }

    /// In the order of their first appearance.
    fn distinct(&self, of: impl Fn(&Verdict) -> &String) -> Vec<String> {
        distinct(self.list.iter().map(of).cloned())
    }
}

fn parse(line: &str) -> Option<Verdict> {
    let fields: Vec<String> = line.split('\t').map(str::to_owned).collect();
    let [suite, view, runtime, group, case, outcome]: [String; FIELDS] = fields.try_into().ok()?;
    let outcome = Outcome::parse(&outcome)?;
    Some(Verdict { suite, view, runtime, group, case, outcome })
}

fn distinct<T: PartialEq>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut list = Vec::new();
    for item in items {
        if !list.contains(&item) {
            list.push(item);
        }
    }
    list
}

fn print_table(suite: &str, verdicts: &[&Verdict]) {
    let columns: Vec<Column> =
        distinct(verdicts.iter().map(|verdict| (verdict.view.clone(), verdict.runtime.clone())));
    let mut counts: BTreeMap<(&str, &Column), [usize; 3]> = BTreeMap::new();
    for verdict in verdicts {
        let column =
            columns.iter().find(|(view, runtime)| (view, runtime) == (&verdict.view, &verdict.runtime));
        let Some(column) = column else { continue };
        let index = match verdict.outcome {
            Outcome::Pass => 0,
            Outcome::Fail => 1,
            Outcome::Skip => 2,
        };
        for row in [verdict.group.as_str(), ""] {
            if let Some(count) = counts.entry((row, column)).or_default().get_mut(index) {
                *count += 1;
            }
        }
    }
    let heads: Vec<String> = columns.iter().map(|(view, runtime)| format!("{runtime} {view}")).collect();
    println!("## {suite}: passed/failed/skipped\n");
    println!("| group | {} |\n|---|{}", heads.join(" | "), "---|".repeat(columns.len()));
    let groups: BTreeSet<&str> = verdicts.iter().map(|verdict| verdict.group.as_str()).collect();
    for row in groups.into_iter().chain([""]) {
        let cell = |column| match counts.get(&(row, column)) {
            Some([passed, failed, skipped]) => format!("{passed}/{failed}/{skipped}"),
            None => String::new(),
        };
        let cells: Vec<String> = columns.iter().map(cell).collect();
        let name = if row.is_empty() { "**all**" } else { row };
        println!("| {name} | {} |", cells.join(" | "));
    }
    println!();
}

/// What naru made of a case that a peer passes, and the cases: by group, word and peers.
type Differences = BTreeMap<(String, &'static str, String), BTreeSet<String>>;

fn print_differences(verdicts: &[&Verdict]) {
    let differences = differences(verdicts);
    println!(
        "What a peer passes and naru doesn't: {}\n",
        differences.values().map(BTreeSet::len).sum::<usize>()
    );
    for ((group, word, passing), cases) in &differences {
        let cases = match (*word, cases.iter().next()) {
            ("not reached", Some(first)) if cases.len() > 1 => format!("{first} … ({} cases)", cases.len()),
            _ => cases.iter().map(String::as_str).collect::<Vec<_>>().join("; "),
        };
        println!("- {group}: {cases}: {word} (passes: {passing})");
    }
    println!();
}

fn differences(verdicts: &[&Verdict]) -> Differences {
    let mut by_case: BTreeMap<(&str, &str), BTreeMap<(&str, &str), Outcome>> = BTreeMap::new();
    for verdict in verdicts {
        let case = by_case.entry((&verdict.group, &verdict.case)).or_default();
        case.insert((&verdict.view, &verdict.runtime), verdict.outcome);
    }
    let mut differences = Differences::new();
    for ((group, case), outcomes) in by_case {
        // (naru's word) → who passes, in which view.
        let mut found: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
        for (&(view, runtime), outcome) in &outcomes {
            let word = match outcomes.get(&(view, OWN)) {
                _ if *outcome != Outcome::Pass || runtime == OWN => continue,
                Some(Outcome::Pass) => continue,
                Some(Outcome::Fail) => "fails",
                Some(Outcome::Skip) => "skipped",
                None => "not reached",
            };
            found.entry(word).or_default().push(format!("{runtime} {view}"));
        }
        for (word, passing) in found {
            let key = (group.to_owned(), word, passing.join(", "));
            differences.entry(key).or_default().insert(case.to_owned());
        }
    }
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(runtime: &str, case: &str, outcome: Outcome) -> Verdict {
        let [suite, view, runtime, group, case] = ["s", "v1", runtime, "g", case].map(str::to_owned);
        Verdict { suite, view, runtime, group, case, outcome }
    }

    #[test]
    fn a_case_that_naru_never_came_to_is_a_difference() {
        let all = [
            verdict("naru", "fails", Outcome::Fail),
            verdict("naru", "passes", Outcome::Pass),
            verdict("naru", "both fail", Outcome::Fail),
            verdict("runc", "fails", Outcome::Pass),
            verdict("runc", "passes", Outcome::Pass),
            verdict("runc", "both fail", Outcome::Fail),
            verdict("runc", "later", Outcome::Pass),
        ];
        let found = differences(&all.iter().collect::<Vec<_>>());
        let words: Vec<(&str, &str)> = found
            .iter()
            .flat_map(|((_, word, _), cases)| cases.iter().map(move |case| (*word, case.as_str())))
            .collect();
        assert_eq!(words, [("fails", "fails"), ("not reached", "later")]);
    }

    #[test]
    fn verdicts_are_read_as_they_were_written() {
        let path = std::env::temp_dir().join(format!("naru-verdicts-{}", std::process::id()));
        let mut verdicts = Verdicts::default();
        verdicts.add(verdict("naru", "a\tcase", Outcome::Skip));
        verdicts.append(&path).unwrap();
        let read = Verdicts::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let [one] = read.list.as_slice() else { panic!("{read:?}") };
        assert_eq!((one.case.as_str(), one.outcome), ("a case", Outcome::Skip));
    }
}
