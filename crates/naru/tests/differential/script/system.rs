//! `version` and `info`, and the base image that all later steps use.

use crate::step::{Step, shape, sorted, text, values};

pub const STEPS: &[Step] = &[
    text("version: formats", "version --format '{{.Server.Os}}/{{.Server.Arch}} {{.Client.APIVersion}}'"),
    shape("version: json", "version --format '{{json .Server}}'"),
    shape("info: json", "info --format '{{json .}}'"),
    text(
        "info: formats",
        "info --format '{{.Driver}} {{.CgroupDriver}} {{.CgroupVersion}} {{.OSType}} {{.Swarm.LocalNodeState}} {{.Containers}} {{.Images}} {{.DefaultRuntime}}'",
    ),
    text("images: none", "images"),
    text("ps: none", "ps -a"),
    text(
        "import: with changes",
        "import -c 'CMD [\"sh\"]' -c 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' -m base {DIR}/busybox.tar busybox:latest",
    ),
    sorted("network ls: the default ones", "network ls --format '{{.Name}} {{.Driver}} {{.Scope}}'"),
    values("network inspect: none", "network inspect none --format '{{json .IPAM}}'"),
];
