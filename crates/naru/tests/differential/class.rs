//! Wordings that mean one and the same: dockerd's texts change from version to version and start with other steps of
//! its own, so a text counts as its class, which is what client libraries match on.

const CLASSES: &[(&str, &[&str])] = &[
    ("conflict of names", &["Conflict. The container name "]),
    ("no such container", &["No such container: "]),
    ("no such image", &["No such image: ", "no such image: "]),
    ("not running", &["ontainer <id 0> is not running"]),
    ("already paused", &["is already paused"]),
    ("not paused", &["is not paused"]),
    ("paused", &["is paused, unpause the container before exec"]),
    (
        "removal of a running container",
        &[
            "You cannot remove a running container",
            "container is running: stop the container before removing",
        ],
    ),
    ("invalid filter", &["nvalid filter '"]),
    (
        "invalid JSON",
        &["invalid character '", "cannot unmarshal ", "invalid JSON: ", "it must be a JSON object of lists"],
    ),
    ("no such user", &["unable to find user stranger: no matching entries in passwd file"]),
    (
        "program not found",
        &[
            "executable file not found in $PATH",
            "exec: \"/no/such/program\": stat /no/such/program: no such file or directory",
            "exec: \"/no/such/program\": no such file or directory",
        ],
    ),
    (
        "program not executable",
        &[
            "exec: \"/etc/passwd\": permission denied",
            "exec: \"/etc\": permission denied",
            "exec: \"/etc\": is a directory",
        ],
    ),
    (
        "working directory is no directory",
        &["/etc/passwd is not a directory", "chdir to cwd (\"/etc/passwd\")"],
    ),
    ("no working directory", &["chdir to cwd (\"/nowhere\")"]),
    ("port taken", &["port is already allocated", "address already in use"]),
    ("network in use", &["has active endpoints"]),
    ("no such plugin", &["plugin \"nowhere\" not found", "no log driver named 'nowhere'"]),
    ("pool overlaps", &["Pool overlaps with other one on this address space"]),
    ("invalid subnet", &["invalid CIDR address: "]),
    (
        "no such build target",
        &["failed to reach build target nowhere", "target stage \"nowhere\" could not be found"],
    ),
    ("unknown instruction", &["unknown instruction: FLY"]),
    ("no build stage", &["no build stage in current context"]),
    (
        "nothing to copy",
        &["COPY failed: file not found in build context or excluded by .dockerignore: stat absent"],
    ),
    ("invalid container name", &["Invalid container name ("]),
    ("invalid mount mode", &["invalid mode: bogus"]),
    ("mount path not absolute", &["mount path must be absolute"]),
    ("invalid restart policy", &["invalid restart policy"]),
    ("invalid signal", &["nvalid signal: "]),
    ("unknown capability", &["unknown capability: \"CAP_FLY\""]),
    ("unknown runtime", &["nknown runtime specified nowhere", "unknown or invalid runtime name: nowhere"]),
    (
        "archive cut off",
        &["Error processing tar file(exit status 1): unexpected EOF", "the archive is cut off"],
    ),
    ("ps refused", &["Couldn't find PID field in ps output", "ps: unknown column"]),
    ("path is empty", &["bad parameter: path"]),
    ("upper case in a name", &["invalid reference format: repository name "]),
    ("not a number", &["parsing \"x\": invalid syntax", "invalid resize height \"x\""]),
    ("invalid network name", &["invalid name:", "invalid network name"]),
];

/// A line of an error text, or the class of error that it belongs to.
pub fn class(line: &str) -> String {
    let known = CLASSES.iter().find(|(_, wordings)| wordings.iter().any(|wording| line.contains(wording)));
    known.map_or_else(|| line.to_owned(), |(class, _)| format!("<{class}>"))
}
