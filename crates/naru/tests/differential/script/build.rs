//! `build` without buildx: the classic builder's steps, cache, stages and failures.

use crate::step::{Step, text, values};

pub const FILES: &[(&str, &str)] = &[
    (
        "app/Dockerfile",
        "FROM busybox AS maker\nARG WORD=plain\nWORKDIR /src\nCOPY . .\nRUN cat hello.txt > out && echo $WORD >> out\n\n\
         FROM busybox\nLABEL made=here\nENV COLOUR=blue\nEXPOSE 80/tcp\nVOLUME /keep\nUSER nobody\nSTOPSIGNAL INT\n\
         HEALTHCHECK --interval=5s CMD true\nCOPY --from=maker /src/out /out\nENTRYPOINT [\"cat\"]\nCMD [\"/out\"]\n",
    ),
    ("app/hello.txt", "hello\n"),
    ("app/.dockerignore", "ignored\n"),
    ("app/ignored", "x\n"),
    ("broken/Dockerfile", "FROM busybox\nRUN exit 5\n"),
    ("odd/Dockerfile", "FROM busybox\nFLY away\n"),
    ("bare/Dockerfile", "RUN true\n"),
    ("absent/Dockerfile", "FROM busybox\nCOPY absent /\n"),
    ("seen/Dockerfile", "FROM busybox\nCOPY . /all\nRUN ls -A /all\n"),
    ("seen/.dockerignore", "*.log\n!keep.log\n"),
    ("seen/a.log", ""),
    ("seen/keep.log", ""),
    ("seen/b.txt", ""),
    ("empty/.keep", ""),
];

pub const STEPS: &[Step] = &[
    text("build: multi-stage", "build --no-cache -t app:1 --build-arg WORD=fine {DIR}/app"),
    text("build: cached", "build -t app:1 --build-arg WORD=fine {DIR}/app"),
    text("build: other argument", "build -t app:2 --build-arg WORD=other {DIR}/app"),
    text("build: runs", "run --rm app:1"),
    text("build: the other runs", "run --rm app:2"),
    values("build: config", "image inspect app:1 --format '{{json .Config}}'"),
    text("build: history", "history app:1 --format '{{.CreatedBy}}'"),
    text("build --target", "build --target maker -t app:maker {DIR}/app").only_code(),
    text("build --target: runs", "run --rm app:maker cat /src/out"),
    text("build --target: missing", "build --target nowhere {DIR}/app"),
    text("build -q", "build -q --build-arg WORD=fine {DIR}/app"),
    text("build --label", "build -q --label extra=1 -t app:3 {DIR}/app"),
    text("build: the label", "image inspect app:3 --format '{{.Config.Labels}}'"),
    text("build -f", "build -q -f {DIR}/app/Dockerfile {DIR}/app").only_code(),
    text("build: .dockerignore", "build --no-cache -t seen:1 {DIR}/seen"),
    text("build: what was sent", "run --rm seen:1 ls -A /all"),
    text("build: a step fails", "build -t broken:1 {DIR}/broken"),
    text("build: unknown instruction", "build {DIR}/odd"),
    text("build: no FROM", "build {DIR}/bare"),
    text("build: COPY of nothing", "build {DIR}/absent"),
    text("build: no Dockerfile", "build {DIR}/empty"),
    text("build: no context", "build {DIR}/nowhere"),
    text("build: unused argument", "build -q --build-arg UNUSED=1 {DIR}/seen"),
    text("build: from standard input", "build -q -").input("FROM busybox\nRUN echo in\n"),
    text("build: rmi", "rmi -f app:1 app:2 app:3 app:maker seen:1").only_code(),
];
