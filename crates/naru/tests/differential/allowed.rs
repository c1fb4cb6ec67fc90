//! What may differ, each with its reason, and the wordings of one class of error.

/// A difference that is no fault. `step` and `difference` are prefixes.
pub struct Allowed {
    pub step: &'static str,
    pub difference: &'static str,
    pub reason: &'static str,
}

const fn allow(step: &'static str, difference: &'static str, reason: &'static str) -> Allowed {
    Allowed { step, difference, reason }
}

pub const ALLOWED: &[Allowed] = &[allow("no step", "none", "none")];

/// The entry that allows it.
pub fn find(step: &str, difference: &str) -> Option<usize> {
    ALLOWED.iter().position(|entry| step.starts_with(entry.step) && difference.starts_with(entry.difference))
}

pub fn reason(entry: usize) -> &'static str {
    ALLOWED[entry].reason
}

/// Wordings that mean one and the same: the class, and what each contains.
const CLASSES: &[(&str, &[&str])] = &[];

/// A line of an error text, or the class of error that it belongs to.
pub fn class(line: &str) -> String {
    let known = CLASSES.iter().find(|(_, wordings)| wordings.iter().any(|wording| line.contains(wording)));
    known.map_or_else(|| line.to_owned(), |(class, _)| format!("<{class}>"))
}
