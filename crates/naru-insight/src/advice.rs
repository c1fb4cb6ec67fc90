//! What would make the image smaller: each piece names what it found, what it costs, and the line to write.

use crate::tree::{DirectorySizes, Tree};
use naru_wire::analysis::{Advice, Analysis, Ecosystem, Package};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::Read;

/// Less isn't worth a sentence, in bytes.
const WORTH_BYTES: u64 = 256 * 1024;
/// Files smaller than this are not compared with each other, in bytes.
const DUPLICATE_BYTES_MIN: u64 = 64 * 1024;
/// Most bytes that are hashed in search of duplicates.
const DUPLICATE_BYTES_READ_MAX: u64 = 2 << 30;
/// Documentation is worth a sentence from here on, in bytes.
const DOCS_WORTH_BYTES: u64 = 2 << 20;

/// Directory, what it is, how it is avoided.
const LEFTOVERS: [(&str, &str, &str); 12] = [
    (
        "var/lib/apt/lists",
        "apt's package lists",
        "end the RUN with `rm -rf /var/lib/apt/lists/*`, or mount them: RUN --mount=type=cache,target=/var/lib/apt/lists",
    ),
    ("var/cache/apt", "apt's cache", "run `apt-get clean` in the RUN that installs"),
    ("var/cache/apk", "apk's cache", "install with `apk add --no-cache`"),
    ("var/cache/dnf", "dnf's cache", "run `dnf clean all` in the RUN that installs"),
    ("var/cache/yum", "yum's cache", "run `yum clean all` in the RUN that installs"),
    (
        "root/.cache/pip",
        "pip's cache",
        "install with `pip install --no-cache-dir`, or RUN --mount=type=cache,target=/root/.cache/pip",
    ),
    (
        "root/.npm",
        "npm's cache",
        "run `npm cache clean --force` in the RUN that installs, or RUN --mount=type=cache,target=/root/.npm",
    ),
    (
        "root/.cache/go-build",
        "Go's build cache",
        "build in a stage of its own, or RUN --mount=type=cache,target=/root/.cache/go-build",
    ),
    ("root/go/pkg/mod", "Go's module cache", "build in a stage of its own and COPY --from the program"),
    ("root/.cargo/registry", "cargo's downloads", "build in a stage of its own and COPY --from the program"),
    (
        "usr/local/cargo/registry",
        "cargo's downloads",
        "build in a stage of its own and COPY --from the program",
    ),
    ("root/.m2/repository", "Maven's downloads", "build in a stage of its own and COPY --from the archive"),
];
/// Debian's, Alpine's and Fedora's names of tools that only a build needs.
const BUILD_TOOLS: [&str; 12] = [
    "gcc",
    "g++",
    "gcc-c++",
    "clang",
    "make",
    "cmake",
    "build-essential",
    "build-base",
    "dpkg-dev",
    "binutils",
    "autoconf",
    "rustc",
];

pub fn advise(tree: &Tree, sizes: &DirectorySizes<'_>, analysis: &Analysis) -> Vec<Advice> {
    let size = |directory: &str| sizes.get(directory.as_bytes()).copied().unwrap_or(0);
    let mut found = Vec::new();
    let mut add = |bytes: u64, text: String| {
        if bytes >= WORTH_BYTES {
            found.push(Advice { text, bytes });
        }
    };
    for (directory, what, how) in LEFTOVERS {
        add(size(directory), format!("/{directory} holds {what}: {how}"));
    }
    add(
        analysis.waste.removed_bytes,
        "files of one layer are removed by a later one, which frees nothing: remove them in the RUN that makes them".into(),
    );
    add(
        analysis.waste.overwritten_bytes,
        "files are written again by later layers (chown and chmod copy them too): use COPY --chown and --chmod, or one RUN".into(),
    );
    let (copies, bytes) = duplicates(tree);
    add(bytes, format!("{copies} files are copies of others in the image: link them, or COPY them once"));
    let docs = ["usr/share/doc", "usr/share/man", "usr/share/info"].map(size);
    let docs = docs.into_iter().fold(0, u64::saturating_add);
    if docs >= DOCS_WORTH_BYTES {
        add(
            docs,
            "documentation that nobody reads in a container: exclude it with dpkg's path-exclude=/usr/share/doc/*, or take a slim base".into(),
        );
    }
    found.extend(build_tools(&analysis.packages));
    found.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.text.cmp(&b.text)));
    found
}

fn build_tools(packages: &[Package]) -> Option<Advice> {
    let of_the_system =
        |package: &&Package| matches!(package.ecosystem, Ecosystem::Deb | Ecosystem::Apk | Ecosystem::Rpm);
    let names = packages.iter().filter(of_the_system).map(|package| package.name.as_str());
    let tools: BTreeSet<&str> = names.filter(|name| BUILD_TOOLS.contains(name)).collect();
    let list = tools.into_iter().collect::<Vec<_>>().join(", ");
    let text =
        format!("build tools are installed ({list}): build in a stage of its own and COPY --from what runs");
    (!list.is_empty()).then_some(Advice { text, bytes: 0 })
}

/// How many files are copies of others, and their bytes.
fn duplicates(tree: &Tree) -> (usize, u64) {
    let mut by_size: BTreeMap<u64, Vec<&[u8]>> = BTreeMap::new();
    for (path, node) in tree.distinct_files().filter(|(_, node)| node.size >= DUPLICATE_BYTES_MIN) {
        by_size.entry(node.size).or_default().push(path);
    }
    let (mut copies, mut bytes, mut left) = (0, 0, DUPLICATE_BYTES_READ_MAX);
    // The largest first: they are worth the reading most.
    for (size, paths) in by_size.iter().rev().filter(|(_, paths)| paths.len() > 1) {
        let Some(rest) = left.checked_sub(size.saturating_mul(paths.len() as u64)) else { continue };
        left = rest;
        let mut seen = HashSet::new();
        for path in paths {
            // A file that can't be read is no copy of anything.
            let Some(hash) = hash(tree, path) else { continue };
            if !seen.insert(hash) {
                copies += 1;
                bytes += size;
            }
        }
    }
    (copies, bytes)
}

fn hash(tree: &Tree, path: &[u8]) -> Option<blake3::Hash> {
    let mut file = tree.open(path).ok()?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match file.read(&mut buffer).ok()? {
            0 => return Some(hasher.finalize()),
            got => hasher.update(&buffer[..got]),
        };
    }
}

#[cfg(test)]
mod tests {
    use crate::analyze;
    use crate::tree::tests::layers;

    #[test]
    fn leftovers_and_copies_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let big = vec![7u8; 300 * 1024];
        let status = b"Package: gcc\nStatus: install ok installed\nVersion: 12\nArchitecture: amd64\n\nPackage: gone\nStatus: deinstall ok config-files\nVersion: 1\n";
        let inputs = layers(
            dir.path(),
            &[
                &[
                    ("var/lib/apt/lists/x", &big),
                    ("opt/a", &big),
                    ("var/lib/dpkg/status", status),
                    ("etc/os-release", b"ID=debian\nVERSION_ID=\"12\"\n"),
                ],
                &[("opt/b", &big), ("opt/a", &big)],
            ],
        );
        let found = analyze(&inputs).unwrap();
        let text: Vec<&str> = found.advice.iter().map(|advice| advice.text.as_str()).collect();
        for part in
            ["apt's package lists", "written again", "2 files are copies", "build tools are installed (gcc)"]
        {
            assert!(text.iter().any(|text| text.contains(part)), "{part}: {text:?}");
        }
        assert_eq!(found.packages.len(), 1);
        assert_eq!(found.packages[0].purl, "pkg:deb/debian/gcc@12?arch=amd64&distro=debian-12");
        assert_eq!(found.largest_directories[0].path, "opt");
        assert_eq!(found.waste.files[0].path, "opt/a");
        assert_eq!(found.distribution, "debian 12");
    }
}
