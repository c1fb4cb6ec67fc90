//! What may differ, each with its reason. `step` and `difference` are prefixes. A fault of naru is never listed here:
//! it stays a failed step until it is mended.

pub struct Allowed {
    pub step: &'static str,
    pub difference: &'static str,
    pub reason: &'static str,
}

const fn allow(step: &'static str, difference: &'static str, reason: &'static str) -> Allowed {
    Allowed { step, difference, reason }
}

const BRIDGENF: &str = "bridge-nf-call left the API in 1.50 and means nothing to naru's firewall";
const BUILDCACHE: &str =
    "naru lists what its build cache holds; the classic builder cannot, and BuilderSize left the API in 1.42";
const BUILDSTEPS: &str = "naru makes no container for a step that only changes the configuration, so it announces none; the later lines shift";
const BUILDTIME: &str = "naru has no build time and no separate containerd, runc or commit to name: it is one reproducible binary";
const CAPS: &str = "Debian's runc 1.1 asks for capabilities that this machine withholds and fails; naru gives those that there are";
const CGROUPNS: &str = "naru gives every container its own cgroup namespace; 20.10 does on cgroup v2 only";
const CONTENT: &str = "20.10 sends no content type with a stream; later engines do";
const CREATEDNET: &str = "naru knows the network's id before the first start; 20.10 only afterwards";
const DISTRIBUTABLE: &str = "non-distributable artifacts left the API in 1.49";
const DNSORDER: &str = "the newer resolv.conf has nameserver lines first; the resolver ignores the order";
const DURATION: &str = "execDuration was added to die events by newer engines";
const EXEC127: &str = "a missing program in exec is 127 since 23.0, as in run; 20.10 has 126";
const FIELD: &str = "a field of a later API than 1.41, added by dockerd in every API version it answers";
const HISTORY: &str =
    "naru writes the instruction as BuildKit does, without the classic builder's \"#(nop)\"";
const IMAGECONFIG: &str = "the container part of an image's Config, Container and ContainerConfig were always empty or stale and left the API by 1.50";
const KERNELMEM: &str = "kernel memory limits left the API in 1.42 and the kernel in 5.16";
const KERNELSTATS: &str =
    "counters of newer kernels, passed on as the kernel has them; containerd's list is fixed";
const MASKED: &str = "/proc/interrupts is masked since 28.x; the list is one longer, so later entries shift";
const MAXAPI: &str = "the highest API version is another one";
const MERGED: &str = "the merged root is mounted in the container's own mount namespace only, so there is no such path on the host";
const MOUNTTARGET: &str =
    "naru makes mount targets outside of the container's layer, so they are no change of it";
const NETMODE: &str =
    "newer engines resolve \"default\" to the name of the network, which clients treat alike";
const REMOVED: &str = "the wording of 23.0 and later";
const RUNTIME: &str = "naru's default runtime is its own; the runtimes and commits of containerd and runc are not there to be named";
const SANDBOXKEY: &str = "naru names the network namespace by its process; the key is opaque";
const STATUS400: &str = "a malformed request is the client's fault: 400 since 23.0, where 20.10 says 500";
const USERTEXT: &str = "20.10 ignores what follows a second colon; naru refuses a malformed user";
const WAITERR: &str = "omitted when there is none since API 1.42";

const NAMELABEL: &str =
    "naru tells its own version in a daemon label, since Version has to be one that Docker's clients accept";
const OWNPS: &str = "naru reads /proc itself and needs no PID column to choose the container's rows";

pub const ALLOWED: &[Allowed] = &[
    allow("info: json", ".Labels", NAMELABEL),
    allow("GET info", ".Labels", NAMELABEL),
    allow("top: without process ids", "", OWNPS),
    allow("POST tag: bad name", "code:", STATUS400),
    allow("version: json", ".BuildTime", BUILDTIME),
    allow("version: json", ".Components[].Details", BUILDTIME),
    allow("GET version", ".Components[].Details.GitCommit", BUILDTIME),
    allow("info: json", ".ContainerdCommit.Expected", RUNTIME),
    allow("info: json", ".RuncCommit.Expected", RUNTIME),
    allow("info: json", ".Runtimes.", RUNTIME),
    allow("info: json", ".KernelMemory", KERNELMEM),
    allow("info: json", ".CDISpecDirs", FIELD),
    allow("info: json", ".FirewallBackend", FIELD),
    allow("GET info", ".ContainerdCommit.Expected", RUNTIME),
    allow("GET info", ".RuncCommit.Expected", RUNTIME),
    allow("GET info", ".Runtimes.", RUNTIME),
    allow("GET info", ".KernelMemory", KERNELMEM),
    allow("GET info", ".CDISpecDirs", FIELD),
    allow("GET info", ".FirewallBackend", FIELD),
    allow("GET info", ".InitCommit.Expected", RUNTIME),
    allow("GET info", ".BridgeNfIp", BRIDGENF),
    allow("GET info", ".RegistryConfig.AllowNondistributable", DISTRIBUTABLE),
    allow("info: formats", "stdout:", RUNTIME),
    allow("image inspect: shape", "[].Config.AttachStd", IMAGECONFIG),
    allow("image inspect: shape", "[].Config.Domainname", IMAGECONFIG),
    allow("image inspect: shape", "[].Config.Hostname", IMAGECONFIG),
    allow("image inspect: shape", "[].Config.Image:", IMAGECONFIG),
    allow("image inspect: shape", "[].Config.OpenStdin", IMAGECONFIG),
    allow("image inspect: shape", "[].Config.StdinOnce", IMAGECONFIG),
    allow("image inspect: shape", "[].Config.Tty", IMAGECONFIG),
    allow("image inspect: shape", "[].Container", IMAGECONFIG),
    allow("image inspect: shape", "[].GraphDriver.Data.", MERGED),
    allow("commit: inspect shape", "[].Config.AttachStd", IMAGECONFIG),
    allow("commit: inspect shape", "[].Config.Domainname", IMAGECONFIG),
    allow("commit: inspect shape", "[].Config.Hostname", IMAGECONFIG),
    allow("commit: inspect shape", "[].Config.Image:", IMAGECONFIG),
    allow("commit: inspect shape", "[].Config.OpenStdin", IMAGECONFIG),
    allow("commit: inspect shape", "[].Config.StdinOnce", IMAGECONFIG),
    allow("commit: inspect shape", "[].Config.Tty", IMAGECONFIG),
    allow("commit: inspect shape", "[].Container", IMAGECONFIG),
    allow("commit: inspect shape", "[].GraphDriver.Data.", MERGED),
    allow("GET image", ".Config.AttachStd", IMAGECONFIG),
    allow("GET image", ".Config.Domainname", IMAGECONFIG),
    allow("GET image", ".Config.Hostname", IMAGECONFIG),
    allow("GET image", ".Config.Image:", IMAGECONFIG),
    allow("GET image", ".Config.OpenStdin", IMAGECONFIG),
    allow("GET image", ".Config.StdinOnce", IMAGECONFIG),
    allow("GET image", ".Config.Tty", IMAGECONFIG),
    allow("GET image", ".Container", IMAGECONFIG),
    allow("GET image", ".GraphDriver.Data.", MERGED),
    allow("run --dns", "stdout:", DNSORDER),
    allow("run --privileged", "", CAPS),
    allow("exec --privileged", "", CAPS),
    allow("inspect", "[].GraphDriver.Data.MergedDir", MERGED),
    allow("inspect", "[].GraphDriver.Data.ID", FIELD),
    allow("GET inspect", ".GraphDriver.Data.MergedDir", MERGED),
    allow("GET inspect", ".GraphDriver.Data.ID", FIELD),
    allow("inspect", "[].HostConfig.KernelMemory", KERNELMEM),
    allow("GET inspect", ".HostConfig.KernelMemory", KERNELMEM),
    allow("inspect", "[].NetworkSettings.Networks.bridge.", FIELD),
    allow("inspect", ".Networks.bridge.DNSNames", FIELD),
    allow("inspect", "[].NetworkSettings.Networks.river.", FIELD),
    allow("inspect", ".Networks.river.DNSNames", FIELD),
    allow("GET inspect", ".NetworkSettings.Networks.bridge.", FIELD),
    allow("GET containers", "[].NetworkSettings.Networks.bridge.", FIELD),
    allow("inspect", ".CgroupnsMode", CGROUPNS),
    allow("inspect", ".MaskedPaths", MASKED),
    allow("inspect", ".NetworkMode", NETMODE),
    allow("inspect", ".Runtime", RUNTIME),
    allow("inspect", ".SandboxKey", SANDBOXKEY),
    allow("inspect: plain NetworkSettings", ".Networks.bridge.NetworkID", CREATEDNET),
    allow("exec: no program", "code:", EXEC127),
    allow("events: json", "[].Actor.Attributes.execDuration", DURATION),
    allow("diff: of the dock", "stdout:", MOUNTTARGET),
    allow("network inspect", "[].EnableIPv4", FIELD),
    allow("GET networks", "[].EnableIPv4", FIELD),
    allow("GET network", ".EnableIPv4", FIELD),
    allow("build: multi-stage", "stdout:", BUILDSTEPS),
    allow("build: other argument", "stdout:", BUILDSTEPS),
    allow("build: history", "stdout:", HISTORY),
    allow("build: .dockerignore", "stdout: \"Removing intermediate", REMOVED),
    allow("bad: user", "", USERTEXT),
    allow("POST create: no JSON", "code:", STATUS400),
    allow("POST create: wrong type", "code:", STATUS400),
    allow("GET containers: bad filters", "code:", STATUS400),
    allow("PUT archive: no archive", "code:", STATUS400),
    allow("POST network: no name", "code:", STATUS400),
    allow("POST wait: bad condition", "", STATUS400),
    allow("POST wait", ".Error", WAITERR),
    allow("GET logs", "content type:", CONTENT),
    allow("GET stats", ".memory_stats.stats.", KERNELSTATS),
    allow("GET: version too new", "stderr:", MAXAPI),
    allow("GET system/df", ".BuildCache", BUILDCACHE),
    allow("GET system/df", ".BuilderSize", BUILDCACHE),
];

/// The entry that allows it.
pub fn find(step: &str, difference: &str) -> Option<usize> {
    ALLOWED.iter().position(|entry| step.starts_with(entry.step) && difference.starts_with(entry.difference))
}

pub fn reason(entry: usize) -> &'static str {
    ALLOWED[entry].reason
}
