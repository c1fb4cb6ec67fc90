#!/bin/bash
# Do docker's stock build clients (buildx, bake, compose) find in a server what they find in dockerd? Prints one line per
# case: pass or fail.
#
#     bench/interop/buildx.sh SOCKET PLUGIN_DIR      (run it against dockerd's socket as the control)
#
# The server must hold busybox:latest. PLUGIN_DIR holds docker-buildx and docker-compose. Images that the cases make have
# names that begin with bx-interop and are removed at the end.
set -u

export DOCKER_HOST=unix://$1
plugins=$(readlink -f "$2")
dir=$(mktemp -d /tmp/naru-interop.XXXXXX)
export DOCKER_CONFIG=$dir/config DOCKER_BUILDKIT=1 BUILDKIT_PROGRESS=plain BUILDX_METADATA_WARNINGS=0
mkdir -p "$DOCKER_CONFIG" && ln -s "$plugins" "$DOCKER_CONFIG/cli-plugins"
limit="timeout 90"
name=bx-interop
passed=0 failed=0

finish() {
    docker images -q --filter "reference=$name*" | sort -u | xargs -r docker rmi -f >/dev/null 2>&1
    docker images -q --filter "reference=*/$name*" | sort -u | xargs -r docker rmi -f >/dev/null 2>&1
    rm -rf "$dir"
    echo "$passed passed, $failed failed, $(docker version --format '{{.Server.Version}}')"
}
trap finish EXIT
cd "$dir" || exit 1

# NAME EXPECTED COMMAND...: the command's output must match the regular expression.
check() {
    local title=$1 expected=$2 output
    shift 2
    output=$($limit "$@" 2>&1 </dev/null)
    judge "$title" "$expected" "$output (code $?)"
}

# NAME EXPECTED SCRIPT: as check, with pipes and redirections.
script() {
    local output
    output=$($limit bash -c "$3" 2>&1)
    judge "$1" "$2" "$output (code $?)"
}

judge() {
    if [[ "$3" =~ $2 ]]; then
        passed=$((passed + 1)) && echo "pass $1"
    else
        failed=$((failed + 1)) && echo "FAIL $1: $(tail -c 400 <<<"$3")"
    fi
}

# PATH: a file of the context with what comes on stdin.
put() { mkdir -p "$(dirname "$1")" && cat >"$1"; }

build="docker buildx build"
# A build and a run of its image, as a script.
shown() { echo "$build -q -t $name $* >/dev/null && docker run --rm $name"; }

put ctx/Dockerfile <<'D'
ARG BASE=busybox
FROM $BASE AS make
ARG WORD=none
RUN echo "$WORD" > /word && echo on-stderr >&2
FROM busybox AS other
RUN echo other > /word
FROM make
LABEL from=file
WORKDIR /srv
COPY --chown=1000:50 --chmod=640 data ./data
COPY --from=other /word ./other
CMD ["sh", "-c", "cat /word other; stat -c '%a %u:%g' data/kept; ls -A data"]
D
echo kept >ctx/data.kept && mkdir -p ctx/data && mv ctx/data.kept ctx/data/kept && echo log >ctx/data/no.log
echo '**/*.log' >ctx/.dockerignore

# Contexts and files
check build 'naming to .*bx-interop(:latest)?.*\(code 0\)' $build -t $name ctx
check result '^none.other.640 1000:50.kept \(code 0\)' docker run --rm $name
check cached '#.* CACHED.*\(code 0\)' $build -t $name ctx
check no-cache '\(code 0\)' $build --no-cache -t $name ctx
check docker-build '\(code 0\)' docker build -t $name ctx
check quiet '^sha256:[0-9a-f]{64} \(code 0\)' $build -q ctx
check other-file '^second \(code 0\)' bash -c "printf 'FROM busybox\nCMD echo second\n' > ctx/Second; $(shown -f ctx/Second ctx)"
check file-outside '^third \(code 0\)' bash -c "printf 'FROM busybox\nCMD echo third\n' > Third; $(shown -f Third ctx)"
script file-on-stdin '^fourth \(code 0\)' "printf 'FROM busybox\nCOPY data /d\nCMD echo fourth\n' | $build -q -t $name -f - ctx >/dev/null && docker run --rm $name"
script file-alone '^fifth \(code 0\)' "printf 'FROM busybox\nCMD echo fifth\n' | $build -q -t $name - >/dev/null && docker run --rm $name"
# Of an archive everything is taken: its ignore rules are not looked at.
script archive-on-stdin '^none.other.640 1000:50.kept.no.log \(code 0\)' "tar -C ctx -c . | $build -q -t $name - >/dev/null && docker run --rm $name"
script gzip-on-stdin '^none.other' "tar -C ctx -cz . | $build -q -t $name - >/dev/null && docker run --rm $name"
script own-ignore-file 'kept.*no.log|no.log.*kept' "printf 'FROM busybox\nCOPY data /d\nCMD ls /d\n' > ctx/Own; : > ctx/Own.dockerignore; $build -q -t $name -f ctx/Own ctx >/dev/null && docker run --rm $name"
check no-file 'failed to read dockerfile: open None: no such file.*\(code 1\)' $build -f ctx/None ctx
check no-context '\(code 1\)' $build nowhere

# Options
check build-arg '^given.other' bash -c "$(shown --build-arg WORD=given ctx)"
WORD=from-env check build-arg-from-environment '^from-env.other' bash -c "$(shown --build-arg WORD ctx)"
check arg-before-from '\(code 0\)' $build --build-arg BASE=busybox:latest ctx
check target '^other \(code 0\)' bash -c "$(shown --target other ctx) cat /word"
check target-unknown 'target stage "?nope"? could not be found.*\(code 1\)' $build --target nope ctx
check label '^yes file \(code 0\)' bash -c "$build -q -t $name --label mine=yes ctx >/dev/null && docker image inspect -f '{{.Config.Labels.mine}} {{.Config.Labels.from}}' $name"
check two-names '^same \(code 0\)' bash -c "$build -q -t $name:a -t $name:b ctx >/dev/null && [ \$(docker images -q $name:a) = \$(docker images -q $name:b) ] && echo same"
check iidfile '^same \(code 0\)' bash -c "$build -q -t $name --iidfile iid ctx >/dev/null && [ \$(cat iid) = \$(docker image inspect -f '{{.Id}}' $name) ] && echo same"
check metadata-file '"containerimage.config.digest": "sha256:' bash -c "$build -q -t $name --metadata-file md ctx >/dev/null && cat md"
check load '\(code 0\)' $build --load -t $name ctx
check add-host '10.9.8.7.*\(code 0\)' bash -c "printf 'FROM busybox\nRUN grep far /etc/hosts > /h\nCMD cat /h\n' > ctx/Hosts; $(shown --add-host far:10.9.8.7 -f ctx/Hosts ctx)"
check network-none '^lo \(code 0\)' bash -c "printf 'FROM busybox\nRUN ls /sys/class/net > /n\nCMD cat /n\n' > ctx/Net; $(shown --network none -f ctx/Net ctx)"
check network-host '\(code 0\)' $build --network host --no-cache -f ctx/Net ctx
check shm-size '32768.*\(code 0\)' bash -c "printf 'FROM busybox\nRUN df -k /dev/shm > /s\nCMD cat /s\n' > ctx/Shm; $(shown --shm-size 32m -f ctx/Shm ctx)"
check rawjson '"vertexes":.*\(code 0\)' $build --progress rawjson ctx
check platform '\(code 0\)' $build --platform linux/amd64 ctx
check provenance-off '\(code 0\)' $build --provenance=false ctx
check cache-from '\(code 0\)' $build --cache-from $name ctx

# What a client lends
printf hush >secret
put ctx/Secret <<'D'
FROM busybox
RUN --mount=type=secret,id=s,target=/s --mount=type=secret,id=e,env=E tr a-z A-Z </s >/out; echo "$E" >>/out
RUN --mount=type=secret,id=absent [ ! -e /run/secrets/absent ]
CMD ["cat", "/out"]
D
WORD=w check secrets '^HUSHw \(code 0\)' bash -c "$(shown --secret id=s,src=secret --secret id=e,env=WORD -f ctx/Secret ctx) | tr -d '\n'"
check secret-required 'secret missing: not found.*\(code 1\)' bash -c "printf 'FROM busybox\nRUN --mount=type=secret,id=missing,required true\n' > ctx/Req; $build -f ctx/Req ctx"
check ssh-required 'unset ssh forward key.*\(code 1\)' bash -c "printf 'FROM busybox\nRUN --mount=type=ssh,required true\n' > ctx/Ssh; $build -f ctx/Ssh ctx"
mkdir -p other && echo named >other/file
check named-directory '^named \(code 0\)' bash -c "printf 'FROM busybox\nCOPY --from=extra file /f\nCMD cat /f\n' > ctx/Named; $(shown --build-context extra=other -f ctx/Named ctx)"
check named-image '\(code 0\)' bash -c "printf 'FROM gone AS x\nRUN true\n' > ctx/Replaced; $build --build-context gone=docker-image://busybox -f ctx/Replaced ctx"

# The language
put ctx/Mounts <<'D'
FROM busybox AS src
RUN echo from-stage > /f
FROM busybox
RUN --mount=type=cache,target=/c echo x >>/c/runs; wc -l </c/runs >/runs
RUN --mount=type=tmpfs,target=/t echo x >/t/f && [ -e /t/f ]
RUN --mount=type=bind,from=src,source=/f,target=/b cat /b >/bound
RUN --mount=type=bind,target=/ctx cat /ctx/data/kept >>/bound
RUN <<S
echo heredoc >> /bound
S
COPY <<T /inline
inline
T
CMD ["sh", "-c", "cat /runs /bound /inline; ls /t /b 2>&1 | wc -l"]
D
check mounts 'from-stage.kept.heredoc.inline' bash -c "$(shown -f ctx/Mounts ctx)"
# (A dockerd with less than a fifth of its disk free prunes its cache after each build, and fails here.)
check cache-mount-lasts '^2.from-stage' bash -c "$(shown --no-cache -f ctx/Mounts ctx)"
check copy-from-image '\(code 0\)' bash -c "printf 'FROM scratch\nCOPY --from=busybox /bin/busybox /b\n' > ctx/FromImage; $build -f ctx/FromImage ctx"
check add-archive '^kept \(code 0\)' bash -c "tar -C ctx/data -cf ctx/a.tar kept; printf 'FROM busybox\nADD a.tar /x/\nCMD cat /x/kept\n' > ctx/Add; $(shown -f ctx/Add ctx)"
check config '^\[CMD-SHELL true\] 5s SIGUSR1 \[/bin/ash -c\] \(code 0\)' bash -c "printf 'FROM busybox\nSHELL [\"/bin/ash\", \"-c\"]\nSTOPSIGNAL SIGUSR1\nHEALTHCHECK --interval=5s CMD true\nONBUILD RUN echo on > /on\n' > ctx/Config; $build -q -t $name:on -f ctx/Config ctx >/dev/null && docker image inspect -f '{{.Config.Healthcheck.Test}} {{.Config.Healthcheck.Interval}} {{.Config.StopSignal}} {{.Config.Shell}}' $name:on"
check onbuild '^on \(code 0\)' bash -c "printf 'FROM $name:on\nCMD cat /on\n' > ctx/OnBuild; $(shown -f ctx/OnBuild ctx)"

# Failures
check step-fails 'process "/bin/sh -c exit 7" did not complete successfully: exit code: 7.*\(code 1\)' bash -c "printf 'FROM busybox\nRUN exit 7\n' > ctx/Fails; $build -f ctx/Fails ctx"
check unknown-instruction 'unknown instruction: RUNN.*\(code 1\)' bash -c "printf 'FROM busybox\nRUNN x\n' > ctx/Bad; $build -f ctx/Bad ctx"
check source-missing '"?/nothing"?: not found.*\(code 1\)' bash -c "printf 'FROM busybox\nCOPY nothing /\n' > ctx/Missing; $build -f ctx/Missing ctx"
check lint 'Check complete, [2-4] warnings have been found!.*MaintainerDeprecated.*\(code 1\)' bash -c "printf 'from busybox AS a\nMAINTAINER me\n' > ctx/Lint; $build --check -f ctx/Lint ctx"
check lint-clean 'no warnings found.*\(code 0\)' bash -c "printf 'FROM busybox\nRUN true\n' > ctx/Clean; $build --check -f ctx/Clean ctx"
check lint-as-error 'lint violation found for rules: MaintainerDeprecated.*\(code 1\)' bash -c "printf '# check=error=true\nFROM busybox\nMAINTAINER me\n' > ctx/LintError; $build -f ctx/LintError ctx"

# Results elsewhere
check output-directory '^none \(code 0\)' bash -c "$build -q --target make -o type=local,dest=out ctx >/dev/null && cat out/word"
check output-archive 'word.*\(code 0\)' bash -c "$build -q --target make -o type=tar,dest=out.tar ctx && tar tf out.tar | grep '^word'"
check output-stdout 'word.*\(code 0\)' bash -c "$build -q --target make -o - ctx | tar t | grep '^word'"
check output-short '^none \(code 0\)' bash -c "$build -q --target make -o out2 ctx >/dev/null && cat out2/word"

# bake
put docker-bake.hcl <<'D'
variable "WORD" { default = "var" }
group "default" { targets = ["one", "two"] }
target "base" { context = "ctx" }
target "one" {
  inherits = ["base"]
  tags = ["bx-interop:one"]
  args = { WORD = "${WORD}-one" }
}
target "two" {
  inherits = ["base"]
  tags = ["bx-interop:two"]
  target = "other"
}
D
check bake '\(code 0\)' docker buildx bake
check bake-results '^var-one.other.*other \(code 0\)' bash -c "docker run --rm $name:one; docker run --rm $name:two cat /word"
WORD=env check bake-variable '^env-one' bash -c "docker buildx bake one >/dev/null 2>&1; docker run --rm $name:one"
check bake-set '^set.other' bash -c "docker buildx bake --set one.args.WORD=set one >/dev/null 2>&1; docker run --rm $name:one"
check bake-print '"WORD": "var-one".*\(code 0\)' docker buildx bake --print
check bake-json '^json.other' bash -c "echo '{\"target\":{\"j\":{\"context\":\"ctx\",\"tags\":[\"$name:j\"],\"args\":{\"WORD\":\"json\"}}}}' > b.json; docker buildx bake -f b.json j >/dev/null 2>&1; docker run --rm $name:j"
check bake-linked '^none.linked \(code 0\)' bash -c "printf 'FROM linked\nRUN echo linked >> /word\nCMD cat /word\n' > ctx/Linked; printf 'target \"a\" {\n context = \"ctx\"\n target = \"make\"\n}\ntarget \"b\" {\n context = \"ctx\"\n dockerfile = \"Linked\"\n contexts = { linked = \"target:a\" }\n tags = [\"$name:linked\"]\n}\n' > l.hcl; docker buildx bake -f l.hcl b >/dev/null 2>&1; docker run --rm $name:linked"
check bake-output '^none \(code 0\)' bash -c "docker buildx bake --set '*.output=type=local,dest=baked' --set two.target=make two >/dev/null 2>&1; cat baked/word"

# compose
put compose.yaml <<'D'
name: bx-interop
services:
  web:
    image: bx-interop:web
    build:
      context: ctx
      args: { WORD: composed }
  tool:
    image: bx-interop:tool
    build:
      context: .
      dockerfile_inline: |
        FROM busybox
        COPY other/file /f
        CMD cat /f
D
check compose-build '\(code 0\)' docker compose build
check compose-results '^composed.other.*named \(code 0\)' bash -c "docker run --rm $name:web; docker run --rm $name:tool"
check compose-build-one '\(code 0\)' docker compose build --no-cache tool
check compose-build-arg '^again.other' bash -c "docker compose build -q --build-arg WORD=again web; docker run --rm $name:web"

# The builder itself
check list 'default.*docker.*running.*\(code 0\)' docker buildx ls
check inspect 'Driver: +docker.*linux/amd64.*\(code 0\)' docker buildx inspect
check usage 'Total:.*\(code 0\)' docker buildx du
check history '\(code 0\)' docker buildx history ls
check prune 'Total:.*\(code 0\)' docker buildx prune -af
check after-prune '\(code 0\)' $build -t $name ctx
