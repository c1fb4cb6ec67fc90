//! A project like those of Node.js: a few sources of one's own beside a `node_modules` of many small files. The same
//! bytes each time, from a generator of numbers with a fixed seed.

use crate::Result;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

const PACKAGES: usize = 620;
const SOURCES: usize = 240;
/// Of a package: its files lie in that many directories.
const PACKAGE_DIRS: [&str; 3] = ["", "lib", "dist"];
const PACKAGE_FILES_MAX: u64 = 44;
/// One file in so many is a bundle, and large.
const BUNDLE_EVERY: u64 = 60;
const FILE_BYTES_MAX: u64 = 9_000;
const BUNDLE_BYTES_MAX: u64 = 1_500_000;
const WORDS: [&str; 12] = [
    "const ",
    "return ",
    "exports.",
    "function",
    " => {\n",
    "};\n",
    "require('",
    "')",
    "module",
    "undefined",
    "async ",
    "value",
];

const DOCKERFILE: &str = "\
FROM bench-base
WORKDIR /app
RUN busybox echo ready > /ready
COPY package.json package-lock.json ./
RUN busybox wc -c package-lock.json > /installed
COPY . .
RUN busybox find . -type f | busybox wc -l > /count
CMD [\"busybox\", \"cat\", \"/count\"]
";

pub struct Context {
    pub dir: PathBuf,
    edits: u64,
    last: u64,
}

impl Context {
    pub fn make(dir: PathBuf) -> Result<Self> {
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
        fs::create_dir_all(dir.join("src"))?;
        fs::create_dir_all(dir.join("node_modules/.bin"))?;
        fs::write(dir.join("Dockerfile"), DOCKERFILE)?;
        fs::write(dir.join(".dockerignore"), ".git\n*.log\n")?;
        for number in 0..SOURCES {
            let size = 200 + numbers.below(FILE_BYTES_MAX);
            write(&dir.join(format!("src/part{number}.js")), size, &mut numbers)?;
        }
        for number in 0..PACKAGES {
            package(&dir.join("node_modules"), number, &mut numbers)?;
        }
        let mut context = Self { dir, edits: 0, last: 0 };
        context.edit()?;
        context.edit_dependencies()?;
        Ok(context)
    }

    /// Changes one source file. Its content is unlike that of any edit before.
    pub fn edit(&mut self) -> Result<()> {
        self.edits += 1;
        self.last = self.edits;
        Ok(fs::write(self.dir.join("src/edited.js"), self.stamp())?)
    }

    /// Changes what the steps before the copy of everything depend on.
    pub fn edit_dependencies(&mut self) -> Result<()> {
        self.edits += 1;
        fs::write(
            self.dir.join("package.json"),
            format!("{{\"name\": \"bench\", \"version\": \"1.0.{}\"}}\n", self.edits),
        )?;
        Ok(fs::write(self.dir.join("package-lock.json"), format!("{{\"lock\": {}}}\n", self.edits))?)
    }

    /// What `src/edited.js` must be in the image that was built last.
    pub fn stamp(&self) -> String {
        format!("exports.edit = {};\n", self.last)
    }

    /// Files, directories and bytes.
    pub fn measure(&self) -> Result<(u64, u64, u64)> {
        let (mut files, mut dirs, mut bytes) = (0, 0, 0);
        let mut pending = vec![self.dir.clone()];
        while let Some(dir) = pending.pop() {
            dirs += 1;
            for entry in fs::read_dir(dir)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    pending.push(entry.path());
                } else {
                    files += 1;
                    bytes += entry.metadata()?.len();
                }
            }
        }
        Ok((files, dirs, bytes))
    }
}

fn package(modules: &Path, number: usize, numbers: &mut Numbers) -> Result<()> {
    let dir = modules.join(format!("package-{number}"));
    for sub in PACKAGE_DIRS {
        fs::create_dir_all(dir.join(sub))?;
    }
    fs::write(
        dir.join("package.json"),
        format!("{{\"name\": \"package-{number}\", \"main\": \"lib/0.js\"}}\n"),
    )?;
    for file in 0..6 + numbers.below(PACKAGE_FILES_MAX) {
        let sub = PACKAGE_DIRS[numbers.below(PACKAGE_DIRS.len() as u64) as usize];
        let is_bundle = numbers.below(BUNDLE_EVERY) == 0;
        let size = 100 + numbers.below(if is_bundle { BUNDLE_BYTES_MAX } else { FILE_BYTES_MAX });
        write(&dir.join(sub).join(format!("{file}.js")), size, numbers)?;
    }
    if number.is_multiple_of(6) {
        let link = modules.join(".bin").join(format!("package-{number}"));
        std::os::unix::fs::symlink(format!("../package-{number}/lib/0.js"), link)?;
    }
    Ok(())
}

fn write(path: &Path, size: u64, numbers: &mut Numbers) -> Result<()> {
    let mut text = Vec::with_capacity(size as usize + 32);
    while (text.len() as u64) < size {
        let number = numbers.next();
        text.write_all(WORDS[(number % WORDS.len() as u64) as usize].as_bytes())?;
        if number >> 61 == 0 {
            write!(text, "{number:x}")?;
        }
    }
    text.truncate(size as usize);
    Ok(fs::write(path, text)?)
}

/// xorshift64 (Marsaglia, 2003).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 16) % limit
    }
}
