//! Words of the command line, and words for errors.

use crate::error::OciError;
use std::ffi::OsString;
use std::io;

/// The arguments as text: every caller of a runtime passes names, numbers and paths.
pub(crate) fn words(args: &[OsString]) -> Result<Vec<&str>, OciError> {
    args.iter().map(|arg| arg.to_str().ok_or_else(|| OciError::NotText(arg.clone()))).collect()
}

/// An error as Go programs print it, which is what callers' tests look for: the system's words, lower case.
pub(crate) fn of_error(error: &io::Error) -> String {
    let full = error.to_string();
    let words = full.split(" (os error").next().unwrap_or(&full);
    let mut chars = words.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}
