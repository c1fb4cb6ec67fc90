#!/bin/bash
# Does dockerd get along with a runtime? Prints one line per case: pass or fail.
#
#     bench/interop/docker.sh RUNTIME_PATH [IMAGE_TAR]      (as root; with runc's path as the control)
#
# A dockerd of its own in network, mount and directories of its own; IMAGE_TAR is a root file system with busybox
# (cargo xtask images makes it). Everything is gone at the end.
set -u

if [ "${INTEROP_INSIDE:-}" != 1 ]; then
    INTEROP_INSIDE=1 exec unshare --net --mount --propagation private bash "$0" "$@"
fi
runtime=$(readlink -m "$1")
[ -L "$1" ] && runtime=$(readlink -f "$(dirname "$1")")/$(basename "$1")
image=${2:-$HOME/.cache/naru-base-images/busybox_latest-1.tar}
dir=$(mktemp -d /tmp/naru-interop.XXXXXX)
# dockerd with userns-remap looks at what lies above its directory.
chmod 755 "$dir"
export DOCKER_HOST=unix://$dir/sock DOCKER_BUILDKIT=0 DOCKER_CONFIG=$dir/config
# Short names for processes that only live in this script.
limit="timeout 60"
passed=0 failed=0

ip link set lo up

start_dockerd() {
    dockerd --data-root "$dir/data" --exec-root "$dir/exec" -p "$dir/pid" -H "$DOCKER_HOST" --bridge=none \
        --iptables=false --ip6tables=false --add-runtime "peer=$runtime" --default-runtime peer \
        --cgroup-parent "/naru-interop-$$" "$@" >>"$dir/log" 2>&1 &
    dockerd=$!
    for _ in $(seq 150); do docker version >/dev/null 2>&1 && return; sleep 0.2; done
    echo "dockerd does not answer: $(tail -n 3 "$dir/log")"
    exit 1
}

stop_dockerd() {
    docker ps -aq | xargs -r docker rm -f >/dev/null 2>&1
    kill "$dockerd" 2>/dev/null && wait "$dockerd" 2>/dev/null
}

finish() {
    stop_dockerd
    for root in /sys/fs/cgroup /sys/fs/cgroup/*; do
        [ -d "$root/naru-interop-$$" ] && find "$root/naru-interop-$$" -depth -type d -exec rmdir {} + 2>/dev/null
    done
    umount "$dir"/exec/netns/* 2>/dev/null
    rm -rf "$dir"
    echo "$passed passed, $failed failed, runtime $runtime"
}
trap finish EXIT

# NAME EXPECTED COMMAND...: the command's output must match the regular expression.
check() {
    local name=$1 expected=$2 output
    shift 2
    output=$($limit "$@" 2>&1 </dev/null)
    local code=$?
    if [[ "$output (code $code)" =~ $expected ]]; then
        passed=$((passed + 1)) && echo "pass $name"
    else
        failed=$((failed + 1)) && echo "FAIL $name: code $code: ${output:0:300}"
    fi
}

run="docker run --rm --network none"

cases() {
    check run '^hello.*code 0' $run busybox echo hello
    check 'exit code' 'code 7' $run busybox sh -c 'exit 7'
    check 'no such program' 'not found.*code 127' $run busybox nothing-here
    check 'not executable' 'code 126' $run busybox /etc
    check 'run -t' '/dev/(pts/[0-9]|console)' script -qec "$run -t busybox tty" /dev/null
    check 'run -it' 'got:word' script -qec "echo word | $run -i busybox sh -c 'read x; echo got:\$x'" /dev/null
    check detach '[0-9a-f]{64}' docker run -d --name box --network none -m 256m --pids-limit 64 busybox sleep 1000
    check ps 'Up ' docker ps
    check exec 'uid=0' docker exec box id
    check 'exec code' 'code 3' docker exec box sh -c 'exit 3'
    check 'exec -it' '/dev/(pts/[0-9]|console)' script -qec 'docker exec -it box tty' /dev/null
    check 'exec user env workdir' 'uid=12.* gid=34.*/tmp:v' docker exec -u 12:34 -e A=v -w /tmp box sh -c 'echo $(id) $PWD:$A'
    check 'exec privileged' 'CapEff:.*ff[ef]ffffff' docker exec --privileged box grep CapEff /proc/self/status
    check 'exec no such program' 'code 12[67]' docker exec box nothing-here
    check 'exec detached' 'code 0' docker exec -d box sh -c 'sleep 500'
    check top 'sleep 1000' docker top box
    check pause 'code 0' docker pause box
    check 'is paused' 'true' docker inspect -f '{{.State.Paused}}' box
    check unpause 'code 0' docker unpause box
    check update 'code 0' docker update -m 128m --memory-swap 128m --cpus 0.5 box
    check 'update is in force' '134217728' docker exec box sh -c 'cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max'
    check stats 'iB / 128MiB' docker stats --no-stream box
    check cp-in 'code 0' docker cp /etc/hostname box:/tmp/h
    check cp-out 'code 0' docker cp box:/tmp/h "$dir/h"
    check diff 'A /tmp/h' docker diff box
    check kill-signal 'code 0' docker kill -s USR1 box
    check restart 'code 0' docker restart -t 0 box
    check 'runs after restart' 'uid=0' docker exec box id
    check stop 'code 0' docker stop -t 1 box
    check start 'code 0' docker start box
    check kill 'code 0' docker kill box
    check 'exit code of kill' '137' docker wait box
    check rm 'code 0' docker rm box
    check logs-run 'code 0' docker run --name logs --network none busybox sh -c 'echo out; echo err >&2'
    check logs 'out.*err|err.*out' docker logs logs
    check OOM 'code 137' docker run --name oom --network none -m 16m --memory-swap 16m busybox sh -c 'x=$(head -c 100000000 /dev/zero | tr "\0" x)'
    check 'OOM is told' 'true' docker inspect -f '{{.State.OOMKilled}}' oom
    check init 'init|tini' $run --init busybox cat /proc/1/comm
    check privileged 'CapEff:.*ff[ef]ffffff' $run --privileged busybox grep CapEff /proc/self/status
    check read-only 'Read-only file system' $run --read-only busybox touch /x
    check tmpfs 'tmpfs on /t .*size=1024k' $run --tmpfs /t:size=1m busybox mount
    check volume 'inside' $run -v "$dir:/v" busybox sh -c 'echo inside >/v/f; cat /v/f'
    check 'volume ro' 'Read-only' $run -v "$dir:/v:ro" busybox touch /v/f
    check cap-add 'CapEff:.*00000000a80435fb' $run --cap-add NET_ADMIN busybox grep CapEff /proc/self/status
    check cap-drop 'CapEff:.*0000000000000000' $run --cap-drop ALL busybox grep CapEff /proc/self/status
    check user 'uid=1000 gid=1001' $run --user 1000:1001 busybox id
    check group-add '77' $run --group-add 77 busybox id
    check ulimit '^111' $run --ulimit nofile=111:222 busybox sh -c 'ulimit -n'
    check sysctl '^7' $run --sysctl kernel.msgmax=7 busybox cat /proc/sys/kernel/msgmax
    check 'seccomp default' 'Seccomp:.*2' $run busybox grep Seccomp: /proc/self/status
    check 'seccomp=unconfined' 'Seccomp:.*0' $run --security-opt seccomp=unconfined busybox grep Seccomp: /proc/self/status
    check no-new-privileges 'NoNewPrivs:.*1' $run --security-opt no-new-privileges busybox grep NoNewPrivs /proc/self/status
    check hostname '^box' $run --hostname box busybox hostname
    check 'host network' 'lo' docker run --rm --network host busybox ip -o link
    check 'pid host' 'code 0' $run --pid host busybox sh -c 'test $$ -gt 1'
    check 'ipc host' 'code 0' $run --ipc host busybox ls /dev/shm
    check 'uts host' "$(hostname)" $run --uts host busybox hostname
    check 'cgroupns private' '0::/|:/$' $run --cgroupns private busybox cat /proc/self/cgroup
    check device '1, *7' $run --device /dev/full busybox ls -l /dev/full
    check 'device forbidden' 'not permitted' $run busybox sh -c 'mknod /tmp/k b 7 0 && dd if=/tmp/k of=/dev/null count=1'
    check shm-size 'size=2048k' $run --shm-size 2m busybox mount
    check oom-score-adj '^100' $run --oom-score-adj 100 busybox cat /proc/self/oom_score_adj
    check 'cpuset' 'Cpus_allowed_list:.*0' $run --cpuset-cpus 0 busybox grep Cpus_allowed_list /proc/self/status
    check 'masked path' 'code 0' $run busybox sh -c '! head -c 1 /proc/kcore | grep -q .'
    check 'proc/sys is read-only' 'Read-only' $run busybox sh -c 'echo 1 >/proc/sys/kernel/domainname'
    printf 'FROM busybox\nRUN echo built >/b\nCMD cat /b\n' >"$dir/Dockerfile"
    check build 'Successfully tagged' docker build --network none -t built -f "$dir/Dockerfile" "$dir/config"
    check 'run built' 'built' $run built
    check commit 'sha256' sh -c 'docker run --name made --network none busybox touch /made && docker commit made made'
    check 'join pid namespace' 'sleep 999' sh -c "docker run -d --name pids --network none busybox sleep 999 && $run --pid container:pids busybox ps"
    check 'restart policy' '[1-9]' sh -c 'docker run -d --name again --restart always --network none busybox sh -c "sleep 0.3"; sleep 3; docker inspect -f {{.RestartCount}} again; docker rm -f again'
}

mkdir -p "$dir/config"
start_dockerd
docker import -c 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' -c 'CMD ["sh"]' "$image" busybox >/dev/null || exit 1
cases
stop_dockerd
# Root in the container is an ordinary user outside.
grep -q '^dockremap:' /etc/subuid 2>/dev/null && remap=default || remap=
if [ -z "$remap" ]; then
    cp /etc/passwd /etc/group "$dir/" && echo 'dockremap:x:993:993::/:/bin/false' >>"$dir/passwd" && echo 'dockremap:x:993:' >>"$dir/group"
    echo 'dockremap:500000:65536' >"$dir/subid"
    # Seen only in this mount namespace.
    for pair in passwd:passwd group:group subid:subuid subid:subgid; do
        [ -e "/etc/${pair#*:}" ] && mount --bind "$dir/${pair%:*}" "/etc/${pair#*:}"
    done
fi
start_dockerd --userns-remap default
docker import -c 'ENV PATH=/bin:/sbin:/usr/bin' "$image" busybox >/dev/null || exit 1
check 'userns-remap' '0 +500000 +65536' $run busybox cat /proc/self/uid_map
check 'userns-remap exec' 'uid=0' sh -c 'docker run -d --name user --network none busybox sleep 99 && docker exec user id'
