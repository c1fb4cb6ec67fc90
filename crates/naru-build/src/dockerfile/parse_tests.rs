//! Dockerfiles, good and bad, as tables.

use super::instruction::{Command, Dockerfile, Instruction};
use super::parse::parse;
use crate::runner::StepNetwork;
use naru_types::Error;

fn good(text: &str) -> Dockerfile {
    parse("Dockerfile", text).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

fn first(text: &str) -> Instruction {
    good(&format!("FROM a\n{text}")).stages.remove(0).steps.remove(0).instruction
}

#[test]
fn stages() {
    let file =
        good("ARG V=1\nFROM --platform=linux/amd64 a:$V as Base\nRUN x\nfrom Base\ncopy --from=Base a b");
    assert_eq!(file.global_args.len(), 1);
    assert_eq!(file.stages[0].name.as_deref(), Some("base"));
    assert_eq!(file.stages[0].platform.as_deref(), Some("linux/amd64"));
    assert_eq!((file.stages[1].base.as_str(), file.stages[1].steps.len()), ("Base", 1));
}

#[test]
fn commands() {
    assert_eq!(first("CMD [\"a\", \"b\"]"), Instruction::Cmd(Command::Exec(vec!["a".into(), "b".into()])));
    assert_eq!(first("ENTRYPOINT a  b"), Instruction::Entrypoint(Command::Shell("a  b".into())));
    assert_eq!(first("CMD []"), Instruction::Cmd(Command::Exec(vec![])));
    let shell = |text: &str| match first(text) {
        Instruction::Run(run) => match run.command {
            Command::Shell(line) => line,
            Command::Exec(words) => panic!("{words:?}"),
        },
        other => panic!("{other:?}"),
    };
    assert_eq!(shell("RUN echo \\\n a"), "echo  a");
    assert_eq!(shell("RUN <<E\na\nb\nE"), "a\nb\n");
    assert_eq!(shell("RUN <<-E\n\ta\n\tE"), "a\n");
    assert_eq!(shell("RUN cat <<A - <<B\n1\nA\n2\nB"), "cat <<A - <<B\n1\nA\n2\nB");
    match first("RUN <<E\n#!/bin/env python\nx\nE") {
        Instruction::Run(run) => assert_eq!(run.script.unwrap().content, "#!/bin/env python\nx\n"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn run_flags() {
    let Instruction::Run(run) = first(
        "RUN --mount=type=cache,target=/c,id=x,sharing=locked --mount=target=/s,from=b,source=/q --mount=type=tmpfs,dst=/t,size=1m --network=none go",
    ) else {
        panic!()
    };
    assert_eq!(run.network, Some(StepNetwork::None));
    assert_eq!(run.mounts.len(), 3);
    assert_eq!(run.mounts[1].from.as_deref(), Some("b"));
}

#[test]
fn copies() {
    let Instruction::Copy(copy) = first("COPY --chown=1:2 --chmod=755 --from=b a [b c/") else { panic!() };
    assert_eq!((copy.sources, copy.destination.as_str()), (vec!["a".to_owned(), "[b".to_owned()], "c/"));
    let Instruction::Copy(copy) = first("ADD [\"a b\", \"c\"]") else { panic!() };
    assert_eq!((copy.add, copy.sources), (true, vec!["a b".to_owned()]));
    let Instruction::Copy(copy) = first("COPY <<f.txt g /d/\nx\nf.txt") else { panic!() };
    assert_eq!((copy.sources, copy.inline[0].content.as_str()), (vec!["g".to_owned()], "x\n"));
}

#[test]
fn others() {
    let Instruction::Healthcheck(check) = first("HEALTHCHECK --interval=5s --retries=3 CMD curl x") else {
        panic!()
    };
    assert_eq!(
        (check.interval, check.retries, check.test),
        (5_000_000_000, 3, vec!["CMD-SHELL".into(), "curl x".into()])
    );
    assert_eq!(first("ONBUILD RUN <<E\nx\nE"), Instruction::OnBuild("RUN <<E\nx\nE".into()));
    assert_eq!(first("VOLUME [\"/a b\"]"), Instruction::Volume(vec!["/a b".into()]));
    assert_eq!(first("EXPOSE 80 81/udp"), Instruction::Expose("80 81/udp".into()));
    assert!(good("# syntax=x/y\nFROM a").warnings[0].contains("x/y"));
    assert!(good("# syntax=docker/dockerfile:1\nFROM a").warnings.is_empty());
}

#[test]
fn bad() {
    for (text, message, hint) in [
        ("RUNN echo hi", "Dockerfile:2: unknown instruction: RUNN (in `RUNN echo hi`)", "did you mean RUN?"),
        ("zebra", "Dockerfile:2: unknown instruction: zebra (in `zebra`)", "the instructions are ADD"),
        ("WORKDIR", "Dockerfile:2: WORKDIR requires exactly one argument (in `WORKDIR`)", ""),
        ("COPY a", "Dockerfile:2: COPY requires at least two arguments", "write COPY source destination"),
        ("COPY --chwon=1 a b", "Dockerfile:2: unknown flag: --chwon", "did you mean --chown?"),
        ("COPY --chmod=888 a b", "Dockerfile:2: invalid chmod parameter: '888'", ""),
        ("COPY --parents=x a b", "Dockerfile:2: expecting boolean value for flag --parents, not: x", ""),
        (
            "COPY --from=$X a b",
            "Dockerfile:2: variable expansion is not supported for --from",
            "FROM $VARIABLE",
        ),
        ("COPY https://x/y /z", "Dockerfile:2: source can't be a URL for COPY", "ADD"),
        ("ADD --checksum=sha256:0 a b /z", "Dockerfile:2: checksum can't be specified for multiple", ""),
        ("ADD git@github.com:a/b /z", "Dockerfile:2: ADD from the git repository", "clone it in a RUN"),
        ("ADD https://github.com/a/b.git#v1 /z", "Dockerfile:2: ADD from the git repository", "clone it"),
        ("COPY a <<E\nE", "Dockerfile:2: COPY cannot accept a heredoc as a destination", ""),
        ("CMD [1]", "Dockerfile:2: when using JSON array syntax", ""),
        ("ENV a", "Dockerfile:2: ENV must have two arguments", "ENV key=value"),
        ("ENV a=b c", "Dockerfile:2: Syntax error - can't find = in \"c\"", "quote a value"),
        ("LABEL =x", "Dockerfile:2: LABEL names can not be blank", ""),
        ("ARG =2", "Dockerfile:2: ARG names can not be blank", "ARG name"),
        ("EXPOSE 99999", "Dockerfile:2: invalid containerPort: 99999", "80/udp"),
        ("EXPOSE 80/foo", "Dockerfile:2: invalid port: \"80/foo\": invalid proto: foo", "80/udp"),
        ("EXPOSE 90-80", "Dockerfile:2: invalid containerPort: 90-80", "80/udp"),
        ("SHELL sh -c", "Dockerfile:2: SHELL requires the arguments to be in JSON form", "SHELL ["),
        ("STOPSIGNAL NOPE", "Dockerfile:2: invalid signal: NOPE", "SIGTERM"),
        ("USER", "Dockerfile:2: USER requires exactly one argument", ""),
        (
            "HEALTHCHECK curl x",
            "Dockerfile:2: Unknown type \"CURL\" in HEALTHCHECK (try CMD)",
            "HEALTHCHECK CMD",
        ),
        ("HEALTHCHECK --interval=5 CMD x", "Dockerfile:2: invalid duration \"5\" for --interval", "30s"),
        ("ONBUILD ONBUILD RUN x", "Dockerfile:2: Chaining ONBUILD", ""),
        ("ONBUILD FROM x", "Dockerfile:2: FROM isn't allowed as an ONBUILD trigger", ""),
        ("ONBUILD RUNN x", "Dockerfile:2: unknown instruction: RUNN", "did you mean RUN?"),
        ("RUN --mount=type=secret cmd", "Dockerfile:2: invalid secret mount. one of", ""),
        (
            "RUN --mount=typ=cache,target=/x cmd",
            "Dockerfile:2: unexpected key 'typ' in",
            "did you mean type?",
        ),
        ("RUN --security=insecure cmd", "Dockerfile:2: security.insecure is not allowed", "privileged"),
        ("RUN --network=foo cmd", "Dockerfile:2: invalid network mode \"foo\"", "none or host"),
        ("FROM a b", "Dockerfile:2: FROM requires either one or three arguments", "AS name"),
        (
            "FROM a AS 1x",
            "Dockerfile:2: invalid name for build stage: \"1x\", name can't start with a number",
            "begins with a letter",
        ),
        ("VOLUME [\"\"]", "Dockerfile:2: VOLUME specified can not be an empty string", ""),
        ("RUN \\\n # c\n a <<E\n", "Dockerfile:2: unterminated heredoc", "E"),
        ("WORKDIR --x /a", "Dockerfile:2: unknown flag: --x", "no flags"),
    ] {
        let error = parse("Dockerfile", &format!("FROM a\n{text}")).expect_err(text);
        let error = Error::from(error);
        assert!(error.message().starts_with(message), "{text:?}: {error}");
        assert!(error.hint().unwrap_or_default().contains(hint), "{text:?}: {:?}", error.hint());
    }
    let error = parse("Dockerfile", "RUN x\nFROM a").unwrap_err();
    assert_eq!(error.to_string(), "Dockerfile:1: no build stage in current context (in `RUN x`)");
    assert!(parse("Dockerfile", "ARG x").is_err());
}
