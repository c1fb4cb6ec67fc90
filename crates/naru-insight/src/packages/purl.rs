//! Package URLs (ECMA-427, and the definitions of types in package-url/purl-spec).

/// `namespace` and `name` are escaped here; qualifiers must come in the order of their keys, and empty ones are left out.
pub(crate) fn purl(
    kind: &str,
    namespace: &str,
    name: &str,
    version: &str,
    qualifiers: &[(&str, &str)],
) -> String {
    let mut text = format!("pkg:{kind}/");
    for part in namespace.split('/').filter(|part| !part.is_empty()) {
        escape(part, &mut text);
        text.push('/');
    }
    escape(name, &mut text);
    if !version.is_empty() {
        text.push('@');
        escape(version, &mut text);
    }
    let mut sign = '?';
    for (key, value) in qualifiers.iter().filter(|(_, value)| !value.is_empty()) {
        text.push(sign);
        text.push_str(key);
        text.push('=');
        escape(value, &mut text);
        sign = '&';
    }
    text
}

/// Section 5.4: letters, digits, `.-_~` and the colon stay.
fn escape(text: &str, into: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            into.push(byte as char);
        } else {
            into.push('%');
            into.push(DIGITS[usize::from(byte >> 4)] as char);
            into.push(DIGITS[usize::from(byte & 15)] as char);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_urls() {
        assert_eq!(purl("npm", "@types", "node", "1.0", &[]), "pkg:npm/%40types/node@1.0");
        assert_eq!(
            purl("deb", "debian", "libstdc++6", "1:12.2.0-14", &[("arch", "amd64"), ("distro", "debian-12")]),
            "pkg:deb/debian/libstdc%2B%2B6@1:12.2.0-14?arch=amd64&distro=debian-12"
        );
        assert_eq!(purl("golang", "github.com/a", "b", "v1", &[("x", "")]), "pkg:golang/github.com/a/b@v1");
        assert_eq!(purl("npm", "", "a b/é", "", &[]), "pkg:npm/a%20b%2F%C3%A9");
    }
}
