//! Text made comparable: what must differ between two engines (ids, times, sizes, addresses, their directories)
//! becomes a placeholder; all else stays as it is. A scanner by hand, because the shapes are few and fixed.

/// A placeholder's matcher: how many bytes at the start of the text it takes, and what stands for them.
type Matcher = fn(&str, &mut Ids) -> Option<(usize, String)>;

/// In this order: a longer shape before a shape that it contains.
const MATCHERS: &[Matcher] = &[ago, time, mac, address, id, size, percent, port];

/// Ids in order of appearance: the short form of a known id is the same id.
#[derive(Default)]
pub struct Ids(Vec<String>);

pub fn text(input: &str, dir: &str) -> String {
    let mut ids = Ids::default();
    let input = input.replace(dir, "{DIR}").replace("\r\n", "\n");
    let lines: Vec<String> = input.lines().map(|line| line_of(line, &mut ids)).collect();
    lines.join("\n")
}

/// Column gaps depend on the widest value, so any run of spaces counts as two.
fn line_of(line: &str, ids: &mut Ids) -> String {
    let mut out = String::new();
    let mut rest = line.trim_end();
    while let Some(first) = rest.chars().next() {
        let at_word_start = !out.chars().last().is_some_and(|last| last.is_ascii_alphanumeric());
        if at_word_start
            && let Some((taken, placeholder)) = MATCHERS.iter().find_map(|matcher| matcher(rest, ids))
        {
            out.push_str(&placeholder);
            rest = &rest[taken..];
            continue;
        }
        if rest.starts_with("  ") {
            out.push_str("  ");
            rest = rest.trim_start_matches(' ');
            continue;
        }
        out.push(first);
        rest = &rest[first.len_utf8()..];
    }
    out
}

/// How far the characters that `belongs` accepts go.
fn run(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|c| !belongs(c)).unwrap_or(text.len())
}

fn ago(text: &str, _: &mut Ids) -> Option<(usize, String)> {
    for phrase in ["Less than a second", "About a minute", "About an hour"] {
        if text.starts_with(phrase) {
            return Some((phrase.len(), "<duration>".into()));
        }
    }
    let digits = run(text, |c| c.is_ascii_digit());
    let unit = ["seconds", "second", "minutes", "minute", "hours"];
    let rest = text[digits..].strip_prefix(' ').filter(|_| digits > 0)?;
    let unit = unit.into_iter().find(|unit| rest.starts_with(unit))?;
    Some((digits + 1 + unit.len(), "<duration>".into()))
}

/// RFC 3339, and the form of Go's `time.Time.String`.
fn time(text: &str, _: &mut Ids) -> Option<(usize, String)> {
    let is_date = |s: &str| {
        s.len() == 10
            && s.bytes()
                .enumerate()
                .all(|(i, b)| if i == 4 || i == 7 { b == b'-' } else { b.is_ascii_digit() })
    };
    if !text.get(..10).is_some_and(is_date) || !matches!(text.as_bytes().get(10), Some(b'T' | b' ')) {
        return None;
    }
    if text.starts_with("0001-01-01T00:00:00Z") {
        return Some((20, "<no time>".into()));
    }
    let clock = run(&text[11..], |c| c.is_ascii_digit() || ":.".contains(c));
    let mut end = 11 + clock;
    if clock < 8 {
        return None;
    }
    if text[end..].starts_with('Z') {
        end += 1;
    } else {
        let zone = text[end..].trim_start_matches(' ');
        if zone.starts_with(['+', '-']) {
            end += text[end..].len() - zone.len() + 1 + run(&zone[1..], |c| c.is_ascii_digit() || c == ':');
        }
        if text[end..].starts_with(" UTC") {
            end += 4;
        }
    }
    Some((end, "<time>".into()))
}

fn mac(text: &str, _: &mut Ids) -> Option<(usize, String)> {
    let end = run(text, |c| c.is_ascii_hexdigit() || c == ':');
    let parts: Vec<&str> = text[..end].split(':').collect();
    (parts.len() == 6 && parts.iter().all(|part| part.len() == 2)).then(|| (end, "<mac>".into()))
}

/// IPv4 addresses that an engine chooses; loopback and "any" are what the user wrote.
fn address(text: &str, _: &mut Ids) -> Option<(usize, String)> {
    let end = run(text, |c| c.is_ascii_digit() || c == '.');
    let address: std::net::Ipv4Addr = text[..end].parse().ok()?;
    (!address.is_loopback() && !address.is_unspecified()).then(|| (end, "<ip>".into()))
}

fn id(text: &str, ids: &mut Ids) -> Option<(usize, String)> {
    let text = text.strip_prefix("sha256:").map_or((0, text), |rest| (7, rest));
    let (prefix, text) = text;
    let end = run(text, |c| matches!(c, '0'..='9' | 'a'..='f'));
    let bounded = !text[end..].starts_with(|c: char| c.is_ascii_alphanumeric());
    if !bounded || !matches!(end, 12 | 64) {
        return None;
    }
    let word = &text[..end];
    let known = ids.0.iter().position(|id| id.starts_with(word) || word.starts_with(id.as_str()));
    let number = known.unwrap_or_else(|| {
        ids.0.push(word.to_owned());
        ids.0.len() - 1
    });
    let form = if end == 64 { "id" } else { "short id" };
    Some((prefix + end, format!("{}<{form} {number}>", if prefix > 0 { "sha256:" } else { "" })))
}

fn size(text: &str, _: &mut Ids) -> Option<(usize, String)> {
    let digits = run(text, |c| c.is_ascii_digit() || c == '.');
    let unit = run(&text[digits..], |c| c.is_ascii_alphabetic());
    let known = ["B", "kB", "KB", "MB", "GB", "KiB", "MiB", "GiB"].contains(&&text[digits..digits + unit]);
    (digits > 0 && known).then(|| (digits + unit, "<size>".into()))
}

fn percent(text: &str, _: &mut Ids) -> Option<(usize, String)> {
    let digits = run(text, |c| c.is_ascii_digit() || c == '.');
    (digits > 0 && text[digits..].starts_with('%')).then(|| (digits + 1, "<percent>".into()))
}

/// Ports from the kernel's or Docker's ephemeral range.
fn port(text: &str, _: &mut Ids) -> Option<(usize, String)> {
    let digits = run(text, |c| c.is_ascii_digit());
    let bounded = !text[digits..].starts_with(|c: char| c.is_ascii_alphanumeric() || c == '.');
    let number: u16 = text[..digits].parse().ok()?;
    (bounded && number >= 32_768).then(|| (digits, "<port>".into()))
}

/// What the placeholders take and what they leave; run before anything is compared.
pub fn check() {
    let id = "0123456789abcdef".repeat(4);
    for (input, expect) in [
        (format!("sha256:{id} {}", &id[..12]), "sha256:<id 0> <short id 0>"),
        ("at 2026-11-23T03:33:49.5Z in 172.17.0.2/16".to_owned(), "at <time> in <ip>/16"),
        ("2026-11-23 03:33:49 +0000 UTC   Up 3 seconds".to_owned(), "<time>  Up <duration>"),
        (
            "127.0.0.1:49153->80/tcp 4.2MB 0.1% 02:42:ac:11:00:02".to_owned(),
            "127.0.0.1:<port>->80/tcp <size> <percent> <mac>",
        ),
        ("exit 137, cafe 12".to_owned(), "exit 137, cafe 12"),
        ("/x/y/z".to_owned(), "{DIR}/z"),
    ] {
        assert_eq!(text(&input, "/x/y"), expect);
    }
}
