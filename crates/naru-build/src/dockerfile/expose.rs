//! The ports of EXPOSE: `80`, `80/udp`, `8000-8010/tcp`. Docker's `[ip:][host:]container` is taken too, and
//! only the container's part counts.

use naru_types::spec::Proto;

/// What one word of EXPOSE says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ports {
    pub(crate) first: u16,
    pub(crate) last: u16,
    pub(crate) proto: Proto,
}

impl Ports {
    /// The errors are BuildKit's texts.
    pub(crate) fn parse(word: &str) -> Result<Self, String> {
        let (ip, host, container) = parts(word);
        let (ports, proto) = container.split_once('/').unwrap_or((container, ""));
        if ports.is_empty() {
            return Err(format!("invalid port: {word:?}: no port specified"));
        }
        let proto = match proto {
            "" => Proto::Tcp,
            text => Proto::parse(&text.to_ascii_lowercase())
                .ok_or_else(|| format!("invalid port: {word:?}: invalid proto: {text}"))?,
        };
        let bare = ip.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(ip);
        if !ip.is_empty() && bare.parse::<std::net::IpAddr>().is_err() {
            return Err(format!("invalid IP address: {ip}"));
        }
        let (first, last) = range(ports).ok_or_else(|| format!("invalid containerPort: {ports}"))?;
        if !host.is_empty() {
            let (from, to) = range(host).ok_or_else(|| format!("invalid hostPort: {host}"))?;
            if last != first && last - first != to - from {
                return Err(format!(
                    "invalid ranges specified for container and host Ports: {ports} and {host}"
                ));
            }
        }
        Ok(Self { first, last, proto })
    }

    /// Each port as the image's configuration has it.
    pub(crate) fn entries(&self) -> impl Iterator<Item = String> {
        let proto = self.proto.as_str();
        (self.first..=self.last).map(move |port| format!("{port}/{proto}"))
    }

    /// An address or a host's port is no business of an image's.
    pub(crate) fn names_host(word: &str) -> bool {
        let (ip, host, _) = parts(word);
        !ip.is_empty() || !host.is_empty()
    }
}

/// Address, host's port and container's port, from the right.
fn parts(word: &str) -> (&str, &str, &str) {
    let Some((rest, container)) = word.rsplit_once(':') else { return ("", "", word) };
    let (ip, host) = rest.rsplit_once(':').unwrap_or(("", rest));
    (ip, host, container)
}

fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports() {
        for (word, first, last, proto) in [
            ("80", 80, 80, Proto::Tcp),
            ("80/UDP", 80, 80, Proto::Udp),
            ("8000-8002/sctp", 8000, 8002, Proto::Sctp),
            ("127.0.0.1:8080:80", 80, 80, Proto::Tcp),
            ("[::1]:8080:80/udp", 80, 80, Proto::Udp),
            ("8080:80", 80, 80, Proto::Tcp),
        ] {
            assert_eq!(Ports::parse(word), Ok(Ports { first, last, proto }), "{word}");
        }
        for (word, message) in [
            ("99999", "invalid containerPort: 99999"),
            ("90-80", "invalid containerPort: 90-80"),
            ("/tcp", "invalid port: \"/tcp\": no port specified"),
            ("80/foo", "invalid port: \"80/foo\": invalid proto: foo"),
            ("x:1:80", "invalid IP address: x"),
            ("1-3:80-81", "invalid ranges specified for container and host Ports: 80-81 and 1-3"),
        ] {
            assert_eq!(Ports::parse(word).unwrap_err(), message, "{word}");
        }
    }
}
