//! Dockerfiles: parsed, outlined and linted.

use crate::Target;
use crate::random::Random;

/// Lines that the language has, and some that it nearly has.
const LINES: [&str; 48] = [
    "# syntax=docker/dockerfile:1",
    "# escape=`",
    "# check=skip=all;error=true",
    "# comment",
    "",
    "ARG V=1",
    "ARG A=${V:-x} B",
    "FROM a",
    "FROM a:${V} AS b",
    "FROM --platform=$BUILDPLATFORM scratch AS c",
    "FROM b",
    "from 0 as B",
    "RUN echo $V",
    "RUN [\"a\", \"b\"]",
    "RUN [\"a\", b]",
    "RUN --mount=type=cache,target=/x,id=y,sharing=locked x",
    "RUN --mount=type=bind,from=b,source=/a,target=/b,rw --network=none x",
    "RUN --mount=type=secret,id=s,env=S,required x",
    "RUN <<EOF\na\nEOF",
    "RUN <<-'X' <<\"Y\" cat\n\ta\n\tX\nb\nY",
    "RUN a \\\n  # no\n  b \\\n\n  c",
    "COPY a b",
    "COPY --from=b --chown=1:2 --chmod=u+x,go= --link a* /b/",
    "COPY --parents --exclude=*.x **/a ./b",
    "COPY <<X /x\n$V\nX",
    "COPY [\"a b\", \"c\"]",
    "ADD --checksum=sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 http://x/y /z",
    "ADD --unpack=true a.tar /",
    "ENV a=\"b $c\" d='e' f=\\\"",
    "ENV a b c",
    "LABEL x=y \"a b\"=c",
    "EXPOSE 80-81/udp $P 0",
    "VOLUME /a /b",
    "VOLUME [\"/a\"]",
    "USER a:b",
    "WORKDIR ../$V",
    "SHELL [\"sh\", \"-c\"]",
    "STOPSIGNAL SIGRTMIN+3",
    "HEALTHCHECK --interval=5s --start-interval=1ms --retries=3 CMD [\"a\"]",
    "HEALTHCHECK NONE",
    "ONBUILD COPY a b",
    "ONBUILD ONBUILD RUN x",
    "CMD x",
    "ENTRYPOINT [\"x\"]",
    "MAINTAINER x",
    "RUNN x",
    "COPY a",
    "한국어 x",
];

pub struct Dockerfiles;

impl Target for Dockerfiles {
    fn name(&self) -> &'static str {
        "dockerfile"
    }

    fn generate(&mut self, random: &mut Random) -> Vec<u8> {
        let mut text = if random.one_in(2) { "FROM a\n".to_owned() } else { String::new() };
        for _ in 0..=random.below(8) {
            text.push_str(random.pick(&LINES));
            text.push_str(random.pick(&["\n", "\n", "\n", "\r\n", " \\\n", "", "\n\n"]));
        }
        let mut input = text.into_bytes();
        if random.one_in(2) {
            crate::mutate::mutate(&mut input, self.words(), random);
        }
        input
    }

    fn words(&self) -> &'static [&'static [u8]] {
        &[
            b"\n",
            b"\r\n",
            b"\\\n",
            b"<<E\n",
            b"\nE\n",
            b"${",
            b"}",
            b"\"",
            b"'",
            b"[\"",
            b"\"]",
            b"--mount=",
            b"--",
            b"=",
            b",",
            b"# ",
            b"FROM ",
            b"ONBUILD ",
            b"\xef\xbb\xbf",
            b"\0",
            b"`\n",
            b"$",
            b"\xe2\x80\xa8",
            b"\x0b",
        ]
    }

    fn check(&mut self, input: &[u8]) -> Result<(), String> {
        naru_build::fuzzing::dockerfile(&String::from_utf8_lossy(input)).map(drop)
    }
}
