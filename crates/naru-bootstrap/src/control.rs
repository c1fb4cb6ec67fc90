//! Control files: paragraphs of `Field: value` (deb822(5)), as Release, Packages, `.sources` and dpkg's own files are written.

/// The paragraphs of `text`, each as its fields in order. A line that is neither is left out; `#` begins a comment.
pub fn paragraphs(text: &str) -> impl Iterator<Item = Paragraph<'_>> {
    let mut lines = text.lines().peekable();
    std::iter::from_fn(move || {
        while lines.next_if(|line| line.trim().is_empty()).is_some() {}
        lines.peek()?;
        let mut fields: Vec<(&str, Vec<&str>)> = Vec::new();
        while let Some(line) = lines.next_if(|line| !line.trim().is_empty()) {
            if line.starts_with('#') {
                continue;
            }
            if line.starts_with([' ', '\t']) {
                if let Some((_, value)) = fields.last_mut() {
                    value.push(line.trim());
                }
            } else if let Some((name, value)) = line.split_once(':') {
                fields.push((name, vec![value.trim()]));
            }
        }
        Some(Paragraph(fields))
    })
}

pub struct Paragraph<'a>(Vec<(&'a str, Vec<&'a str>)>);

impl<'a> Paragraph<'a> {
    /// The lines of a field; the first one stands beside the name. Names are compared without regard to case.
    pub fn lines(&self, name: &str) -> &[&'a str] {
        self.0.iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map_or(&[], |(_, lines)| lines)
    }

    /// The field's first line.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.lines(name).first().copied().filter(|text| !text.is_empty())
    }

    pub fn words(&self, name: &str) -> Vec<&'a str> {
        self.lines(name).iter().flat_map(|line| line.split_whitespace()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_of_fields() {
        let text = "\n# note\nPackage: a\nDepends: b,\n c\n\n\nPackage: d\n";
        let all: Vec<Paragraph<'_>> = paragraphs(text).collect();
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].lines("depends"), ["b,", "c"]);
        assert_eq!(all[1].text("Package"), Some("d"));
        assert_eq!(all[1].text("Depends"), None);
    }
}
