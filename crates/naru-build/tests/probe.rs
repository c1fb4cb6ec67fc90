mod common;
use common::{request, world};
use std::os::unix::fs::{symlink, PermissionsExt};
#[test]
fn probe() {
    let Some(world) = world() else { return };
    world.base();
    let context = world.context(&[("a[b].txt", "br"), ("x.txt", "x"), ("y.txt", "y"), ("d/one", "1"), ("sp ace", "s"), ("s.sh", "#!/bin/sh\necho hi")]);
    symlink("d", context.join("dl")).unwrap();
    for text in [
        "COPY a[[]b].txt /o/\nRUN ls /o", "COPY \"sp ace\" /o/\nRUN ls /o", "COPY [\"sp ace\", \"/o/\"]\nRUN ls /o",
        "COPY x.txt y.txt /o\nRUN ls /o", "COPY dl /o\nRUN ls /o", "COPY dl/ /o\nRUN ls /o", "COPY d /o/x\nRUN ls /o/x", "COPY nope* /o/", "COPY nope /o/",
        "COPY x.txt /bin/sh/foo", "COPY x.txt /bin/sh/", "WORKDIR a\nWORKDIR b\nRUN pwd", "WORKDIR /a\nWORKDIR $HOME\nRUN pwd",
        "ENV A=1\nENV A=2 B=$A\nRUN echo $B", "ENV A 1 2 3\nRUN echo \"$A\"", "ARG X=1\nENV X=2\nRUN echo $X", "ARG X=1\nARG Y=${X}3\nRUN echo $Y",
        "RUN <<EOF\necho one\necho two\nEOF", "RUN <<EOF cat\nq\nEOF", "COPY <<a <<b /o/\n1\na\n2\nb\nRUN cat /o/a /o/b", "RUN cat <<EOF > /q && cat /q\nz\nEOF",
        "SHELL [\"/bin/sh\",\"-xc\"]\nRUN echo $0", "RUN [\"/bin/echo\", \"$HOME\"]", "COPY --chown=nobody x.txt /", "COPY --chown=app:nogrp x.txt /", "COPY --chmod=u+x x.txt /",
        "COPY --from=nosuchstage x.txt /", "COPY --frm=x x.txt /", "ADD https://example.com/x /", "RUNN x", "run echo lower", "RUN", "COPY x.txt", "EXPOSE 99999", "EXPOSE 80-90/udp 443", "ENV", "ENV A", "LABEL a", "HEALTHCHECK --interval=x CMD a",
        "STOPSIGNAL FOO", "USER", "VOLUME", "CMD [\"a\", 'b']\nRUN echo x", "ONBUILD ONBUILD RUN x", "ONBUILD FROM x", "RUN echo \\\n# comment\n  hi", "RUN echo \"a\\\n\n b\"", "ARG 1x=2\nRUN echo", "COPY x.txt $UNSET", "COPY --exclude=*.sh . /o\nRUN ls /o", "COPY --parents d/one /o/\nRUN ls /o",
        "RUN --mount=type=secret,id=x cat /run/secrets/x", "RUN --mount=type=cache,target=/c echo x > /c/f\nRUN --mount=type=cache,target=/c cat /c/f", "RUN exit 3", "COPY / /o\nRUN ls /o","COPY d/* /o\nRUN cat /o", "COPY d x.txt /o/\nRUN ls /o",
        "MAINTAINER me\nRUN echo ok", "USER app\nWORKDIR /home/w\nRUN stat -c %u /home/w", "USER app\nCOPY x.txt /h/\nRUN stat -c %u /h/x.txt", "FROM", "COPY --link x.txt /tmp/\nRUN stat -c %a /tmp",
    ] {
        let (r, ev) = world.build_events(&request(&context, &format!("FROM base\n{text}")));
        let out = common::output(&ev);
        println!("{text:?}\n   => {} | {:?}", match r { Ok(_) => "ok".to_string(), Err(e) => format!("ERR {} | hint {:?}", e.message(), e.hint()) }, out);
    }
    // cache
    let ctx = world.context(&[("f", "1"), ("g", "2")]);
    let df = "FROM base\nCOPY . /c\nRUN ls /c";
    let mut b = |what: &str| { let r = world.build(&request(&ctx, df)).unwrap(); println!("{what}: hits {}", r.hits()); };
    b("first"); b("same");
    std::fs::set_permissions(ctx.join("f"), std::fs::Permissions::from_mode(0o600)).unwrap(); b("chmod only");
    std::fs::File::options().append(true).open(ctx.join("f")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap(); b("mtime only");
    std::fs::rename(ctx.join("g"), ctx.join("h")).unwrap(); b("renamed");
    symlink("f", ctx.join("l")).unwrap(); b("link"); std::fs::remove_file(ctx.join("l")).unwrap(); symlink("h", ctx.join("l")).unwrap(); b("retarget");
    std::fs::remove_file(ctx.join("h")).unwrap(); b("deleted"); 
    std::fs::create_dir(ctx.join("e")).unwrap(); b("empty dir"); std::fs::rename(ctx.join("e"), ctx.join("f2")).unwrap(); b("dir renamed");
}
