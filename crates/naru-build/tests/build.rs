//! Whole builds: what they make, what the cache remembers, and what failures leave behind.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{output, request, world};
use naru_build::BuildEvent;
use naru_types::{ImageRef, Kind};
use std::sync::atomic::Ordering;

#[test]
fn a_whole_build() {
    let Some(world) = world() else { return };
    world.base();
    let context =
        world.context(&[("app/main.txt", "hello"), ("app/skip.log", "x"), (".dockerignore", "**/*.log\n")]);
    let text = "ARG TAG=latest\nFROM base:${TAG} AS build\nARG WHO=world\nENV GREETING=\"hello $WHO\"\nWORKDIR /src\n\
        COPY app .\nRUN echo \"$GREETING\" > greeting && ls > list\n\
        FROM base AS unused\nRUN false\n\
        FROM base\nCOPY --from=build --chown=app:web /src/greeting /srv/\nEXPOSE 80 53/udp\nVOLUME /data\nUSER app\n\
        LABEL a=b \"c d\"='e f'\nSTOPSIGNAL SIGINT\nHEALTHCHECK CMD true\nENTRYPOINT [\"cat\"]\nCMD [\"/srv/greeting\"]";
    let mut wanted = request(&context, text);
    wanted.tags = vec![ImageRef::parse("app").unwrap(), ImageRef::parse("app:2").unwrap()];
    wanted.labels.insert("given".into(), "yes".into());
    wanted.args.insert("WHO".into(), "you".into());
    wanted.args.insert("NOBODY".into(), "1".into());
    let built = world.build(&wanted).unwrap();
    assert_eq!(world.read(&built.id, "srv/greeting"), "hello you\n");
    let image = world.store.get("app:2").unwrap();
    assert_eq!(image.id, built.id);
    assert_eq!(image.repo_tags, ["app:2", "app:latest"]);
    let config = &image.config.config;
    assert_eq!(config.user, "app");
    assert_eq!(config.labels.get("c d").map(String::as_str), Some("e f"));
    assert_eq!(config.labels.get("given").map(String::as_str), Some("yes"));
    assert_eq!(config.exposed_ports.keys().collect::<Vec<_>>(), ["53/udp", "80/tcp"]);
    assert_eq!(config.cmd.as_deref(), Some(&["/srv/greeting".to_owned()][..]));
    assert_eq!(config.stop_signal.as_deref(), Some("SIGINT"));
    let warning = "One or more build-args [NOBODY] were not consumed".to_owned();
    assert!(built.events.contains(&BuildEvent::Warning { text: warning }));
    assert!(
        !built
            .events
            .iter()
            .any(|event| matches!(event, BuildEvent::StepStarted { stage, .. } if stage == "unused"))
    );
    let steps = built.events.iter().filter_map(|event| match event {
        BuildEvent::StepStarted { number, total, .. } => Some((*number, *total)),
        _ => None,
    });
    let steps: Vec<_> = steps.collect();
    assert_eq!(steps.first(), Some(&(1, 17)));
    assert_eq!(steps.last(), Some(&(17, 17)));
    // Every id that was shown for the last step is the image's but for the given labels.
    assert_eq!(built.events.last(), Some(&BuildEvent::Tagged { name: "app:2".into() }));
    world.assert_clean();
}

#[test]
fn the_id_shown_for_the_last_step_is_the_images() {
    let Some(world) = world() else { return };
    world.base();
    let context = world.context(&[("a", "1")]);
    let built = world.build(&request(&context, "FROM base\nCOPY a /\nCMD [\"x\"]")).unwrap();
    let shown = built.events.iter().rev().find_map(|event| match event {
        BuildEvent::StepDone { image } => Some(*image),
        _ => None,
    });
    assert_eq!(shown, Some(built.id));
}

#[test]
fn the_cache_follows_content() {
    let Some(world) = world() else { return };
    world.base();
    let text = "FROM base\nRUN echo one > /one\nCOPY a b /d/\nRUN echo two > /two\nARG V\nRUN echo $V > /v";
    let files = [("a", "1"), ("b", "2"), ("other", "x")];
    let context = world.context(&files);
    let first = world.build(&request(&context, text)).unwrap();
    assert_eq!((first.hits(), first.runs()), (0, 3));
    // Same content, other times.
    let context = world.context(&files);
    std::fs::write(context.join("other"), "changed").unwrap();
    let second = world.build(&request(&context, text)).unwrap();
    assert_eq!((second.hits(), second.runs()), (5, 0));
    assert_eq!(first.id, second.id);
    std::fs::write(context.join("b"), "3").unwrap();
    let third = world.build(&request(&context, text)).unwrap();
    assert_eq!((third.hits(), third.runs()), (1, 2));
    assert_eq!(world.read(&third.id, "d/b"), "3");
    // A mode is content; an argument's value counts where it is used.
    let mut permissions = std::fs::metadata(context.join("a")).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
    std::fs::set_permissions(context.join("a"), permissions).unwrap();
    assert_eq!(world.build(&request(&context, text)).unwrap().hits(), 1);
    let mut with_arg = request(&context, text);
    with_arg.args.insert("V".into(), "x".into());
    let fourth = world.build(&with_arg).unwrap();
    assert_eq!((fourth.hits(), fourth.runs()), (4, 1));
    let mut fresh = request(&context, text);
    fresh.no_cache = true;
    assert_eq!(world.build(&fresh).unwrap().hits(), 0);
    assert!(world.builder.prune().unwrap().entries > 0);
    assert_eq!(world.builder.cache_usage().unwrap().entries, 0);
    assert_eq!(world.build(&request(&context, text)).unwrap().hits(), 0);
}

#[test]
fn steps_that_read_alike_are_told_apart() {
    let Some(world) = world() else { return };
    world.base();
    let context = world.context(&[("a", "1"), ("b", "2")]);
    for (one, two) in [
        ("ENV A=\"b C=d\"\nRUN echo $A-$C", "ENV A=b C=d\nRUN echo $A-$C"),
        ("COPY [\"a\", \"/b c/\"]\nRUN ls /", "COPY [\"a\", \"/b\", \"c/\"]\nRUN ls /"),
        ("SHELL [\"/bin/sh\", \"-c\"]\nRUN echo $0", "SHELL [\"/bin/sh\", \"-ec\"]\nRUN echo $0"),
    ] {
        let build = |text: &str| world.build(&request(&context, &format!("FROM base\n{text}")));
        build(one).unwrap();
        assert_eq!(build(two).map_or(0, |built| built.hits()), 0, "{two}");
    }
}

#[test]
fn the_cache_keeps_its_layers_and_gives_them_back() {
    let Some(world) = world() else { return };
    world.base();
    let context = world.context(&[("a", "1")]);
    let text = "FROM base\nRUN echo one > /one";
    let first = world.build(&request(&context, text)).unwrap();
    let layer = *world.store.get_by_id(&first.id).unwrap().layers().last().unwrap();
    let users = |_: &naru_types::Digest| Vec::new();
    let options = naru_image::RemoveOptions { force: true, keep_parents: false, users: &users };
    world.store.remove(&first.id.to_string(), &options).unwrap();
    // The image is gone; the cache pins the layer.
    world.store.collect(&|_| false).unwrap();
    assert_eq!(world.build(&request(&context, text)).unwrap().hits(), 1);
    world.store.remove(&first.id.to_string(), &options).unwrap();
    world.builder.prune().unwrap();
    world.store.collect(&|_| false).unwrap();
    assert!(world.store.layer_dir(&layer).is_err());
    assert_eq!(world.build(&request(&context, text)).unwrap().hits(), 0);
}

#[test]
fn broken_dockerfiles_change_nothing() {
    let Some(world) = world() else { return };
    world.base();
    let context = world.context(&[("a", "1"), ("dir/x", "2")]);
    let before = world.store.list().unwrap().len();
    for (text, message, kind) in [
        ("FROM base\nRUNN x", "Dockerfile:2: unknown instruction: RUNN (in `RUNN x`)", Kind::InvalidInput),
        (
            "FROM base\nRUN exit 3",
            "The command '/bin/sh -c exit 3' returned a non-zero code: 3",
            Kind::InvalidInput,
        ),
        (
            "FROM base\nCOPY nope /",
            "Dockerfile:2: COPY failed: file not found in build context or excluded by .dockerignore: stat nope: file does not exist (in `COPY nope /`)",
            Kind::InvalidInput,
        ),
        ("FROM base\nCOPY a dir /x", "Dockerfile:2: cannot copy to non-directory: /x", Kind::InvalidInput),
        (
            "FROM base\nCOPY --chown=nobody a /",
            "Dockerfile:2: unable to find user nobody",
            Kind::InvalidInput,
        ),
        ("FROM base\nCOPY a /bin/sh/x", "Dockerfile:2: cannot copy to /bin/sh/x", Kind::InvalidInput),
        (
            "FROM base\nCOPY dir /bin/sh",
            "Dockerfile:2: cannot copy to non-directory: /bin/busybox",
            Kind::InvalidInput,
        ),
        ("FROM base\nCOPY --from=5 a /", "Dockerfile:2: invalid stage index 5", Kind::InvalidInput),
        (
            "FROM base\nWORKDIR /bin/sh",
            "Dockerfile:2: /bin/sh exists in the image and is not a directory",
            Kind::InvalidInput,
        ),
        ("FROM $NOPE", "Dockerfile:1: base name ($NOPE) should not be blank", Kind::InvalidInput),
        (
            "FROM --platform=linux/s390x base",
            "Dockerfile:1: platform linux/s390x is not supported",
            Kind::NotImplemented,
        ),
        (
            "FROM base\nENV a=${b",
            "Dockerfile:2: failed to process \"${b\": syntax error: missing '}'",
            Kind::InvalidInput,
        ),
        ("FROM a//b", "Dockerfile:1: ", Kind::InvalidInput),
    ] {
        let mut wanted = request(&context, text);
        wanted.tags = vec![ImageRef::parse("broken").unwrap()];
        let (result, events) = world.build_events(&wanted);
        let error = result.err().unwrap_or_else(|| panic!("{text}"));
        assert!(error.message().starts_with(message), "{text}: {error}");
        assert_eq!(error.kind(), kind, "{text}");
        assert!(
            !events.iter().any(|event| matches!(event, BuildEvent::Built { .. } | BuildEvent::Tagged { .. }))
        );
        world.assert_clean();
    }
    assert_eq!(world.store.list().unwrap().len(), before);
    assert!(world.store.get("broken").is_err());
    let mut nothing = request(&context, "FROM base");
    nothing.dockerfile = naru_build::DockerfileSource::InContext("Nope".into());
    assert!(world.build(&nothing).err().unwrap().message().contains("Dockerfile path: Nope"));
    nothing.dockerfile = naru_build::DockerfileSource::InContext("../../../etc/passwd".into());
    assert!(world.build(&nothing).is_err());
    nothing = request(&context, "FROM base");
    nothing.target = Some("nope".into());
    assert_eq!(world.build(&nothing).err().unwrap().message(), "target stage \"nope\" could not be found");
}

#[test]
fn run_in_all_its_forms() {
    let Some(world) = world() else { return };
    world.base();
    let context = world.context(&[("src/in", "bound\n")]);
    let text = "FROM base\nSHELL [\"/bin/sh\", \"-ec\"]\nRUN [\"/bin/echo\", \"exec $HOME\"]\nRUN <<EOF\necho line one\necho line two\nEOF\n\
        RUN <<EOF\n#!/bin/sh\necho script $0\nEOF\n\
        RUN --mount=target=/in,source=src --mount=type=tmpfs,target=/scratch cat /in/in && touch /scratch/x\n\
        RUN --mount=type=cache,target=/cache/dir,id=c echo kept >> /cache/dir/f\n\
        RUN --mount=type=cache,target=/cache/dir,id=c,sharing=locked cat /cache/dir/f\n\
        USER app\nWORKDIR /tmp\nENV A=1\nARG B=2\nRUN id -u; pwd; echo $A$B$http_proxy";
    let mut wanted = request(&context, text);
    wanted.args.insert("http_proxy".into(), "p".into());
    let built = world.build(&wanted).unwrap();
    assert_eq!(
        built.output(),
        "exec $HOME\nline one\nline two\nscript /dev/pipes/EOF\nbound\nkept\n10\n/tmp\n12p\n"
    );
    // What was made only to mount on is gone again.
    for gone in ["in", "scratch", "cache", "dev"] {
        assert_eq!(world.find(&built.id, gone), None, "{gone}");
    }
    let history: Vec<_> = world.store.get_by_id(&built.id).unwrap().config.history;
    assert_eq!(
        history.last().unwrap().created_by.as_deref(),
        Some("RUN |1 B=2 /bin/sh -ec id -u; pwd; echo $A$B$http_proxy")
    );
    world.assert_clean();
}

#[test]
fn onbuild_runs_in_the_child() {
    let Some(world) = world() else { return };
    world.base();
    let context = world.context(&[("f", "1")]);
    let mut parent = request(&context, "FROM base\nONBUILD COPY f /f\nONBUILD RUN cat /f");
    parent.tags = vec![ImageRef::parse("parent").unwrap()];
    let parent = world.build(&parent).unwrap();
    assert_eq!(world.find(&parent.id, "f"), None);
    let child = world.build(&request(&context, "FROM parent\nENV x=y")).unwrap();
    assert_eq!(child.output(), "1");
    assert!(child.events.contains(&BuildEvent::Triggers { count: 2 }));
    assert_eq!(world.store.get_by_id(&child.id).unwrap().config.config.on_build, None);
}

#[test]
fn a_cancelled_build_leaves_nothing() {
    let Some(world) = world() else { return };
    world.base();
    let context = world.context(&[("f", "1")]);
    let mut wanted = request(&context, "FROM base\nRUN echo a\nRUN echo b");
    wanted.tags = vec![ImageRef::parse("cancelled").unwrap()];
    let cancel = wanted.cancel.clone();
    let mut seen = Vec::new();
    let error = world
        .builder
        .build(&wanted, &mut |event| {
            if matches!(event, BuildEvent::Output { .. }) {
                cancel.store(true, Ordering::Relaxed);
            }
            seen.push(event);
        })
        .unwrap_err();
    assert_eq!(error.message(), "build cancelled");
    assert_eq!(output(&seen), "a\n");
    assert!(world.store.get("cancelled").is_err());
    world.assert_clean();
}

#[test]
fn a_finding_ends_the_build_where_that_is_wanted() {
    let Some(world) = world() else { return };
    world.base();
    let context = world.context(&[]);
    let text = "# check=error=true\nFROM base\nCMD true\nMAINTAINER me\n";
    let error = world.build(&request(&context, text)).map(drop).unwrap_err().to_string();
    assert_eq!(error, "lint violation found for rules: JSONArgsRecommended, MaintainerDeprecated");
    let skipped = text.replace("error", "skip=all;error");
    world.build(&request(&context, &skipped)).unwrap();
    world.build(&request(&context, &text.replace("true\nFROM", "false\nFROM"))).unwrap();
    world.assert_clean();
}
