//! Variables as the rules see them: which names a word asks for, and what a typing mistake may have meant.

use crate::dockerfile::expand::expand;
use naru_types::suggest::edit_distance;
use std::cell::RefCell;
use std::collections::BTreeSet;

/// From which distance on a name is no longer a typing mistake of another; BuildKit's.
const DISTANCE_MAX: usize = 3;

/// A word with its variables replaced, and the names that it asked for.
#[derive(Debug, Default)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) matched: BTreeSet<String>,
    pub(super) unmatched: BTreeSet<String>,
}

/// `None`: the word can't be expanded, which the build itself will say.
pub(super) fn look(text: &str, escape: char, lookup: &dyn Fn(&str) -> Option<String>) -> Option<Word> {
    let names = RefCell::new((BTreeSet::new(), BTreeSet::new()));
    let expanded = expand(text, escape, &|name| {
        let value = lookup(name);
        let mut names = names.borrow_mut();
        let list = if value.is_some() { &mut names.0 } else { &mut names.1 };
        list.insert(name.to_owned());
        value
    });
    let (matched, unmatched) = names.into_inner();
    Some(Word { text: expanded.ok()?, matched, unmatched })
}

/// ` (did you mean $NAME?)`, if one of `known` is near.
pub(super) fn suggestion<'a>(name: &str, known: impl IntoIterator<Item = &'a str>, sign: &str) -> String {
    let near = known
        .into_iter()
        .map(|known| (edit_distance(name, known), known))
        .filter(|(distance, _)| *distance < DISTANCE_MAX)
        .min_by_key(|(distance, _)| *distance);
    near.map_or(String::new(), |(_, known)| format!(" (did you mean {sign}{known}?)"))
}
