#!/bin/bash
# Do podman (with conmon) and containerd's ctr get along with a runtime? Prints one line per case: pass or fail.
#
#     bench/interop/podman.sh RUNTIME_PATH [IMAGE_TAR]      (as root; with runc's path as the control)
#
# Both keep everything in a directory of their own, in network and mount namespaces of their own.
set -u

if [ "${INTEROP_INSIDE:-}" != 1 ]; then
    INTEROP_INSIDE=1 exec unshare --net --mount --propagation private bash "$0" "$@"
fi
runtime=$(readlink -f "$(dirname "$1")")/$(basename "$1")
image=${2:-$HOME/.cache/naru-base-images/busybox_latest-1.tar}
dir=$(mktemp -d /tmp/naru-interop.XXXXXX)
chmod 755 "$dir"
group=/naru-interop-$$
limit="timeout 60"
passed=0 failed=0
ctrd=""

ip link set lo up
# podman's and the runtimes' own state lies here; the host's is not seen.
mount -t tmpfs tmpfs /run

podman="podman --root $dir/root --runroot $dir/run --tmpdir $dir/tmp --runtime $runtime --cgroup-manager cgroupfs --storage-driver vfs"
ctr="ctr --address $dir/ctrd.sock"

finish() {
    $podman rm --all --force --time 0 >/dev/null 2>&1
    if [ -n "$ctrd" ]; then
        $ctr task ls -q | xargs -r -n 1 $ctr task delete --force >/dev/null 2>&1
        $ctr container ls -q | xargs -r $ctr container delete >/dev/null 2>&1
        kill "$ctrd" && wait "$ctrd" 2>/dev/null
    fi
    for root in /sys/fs/cgroup /sys/fs/cgroup/*; do
        for left in "$root$group" "$root/libpod_parent"; do
            [ -d "$left" ] && find "$left" -depth -type d -exec rmdir {} + 2>/dev/null
        done
    done
    mount | awk -v dir="$dir" 'index($3, dir) == 1 { print $3 }' | xargs -r umount -l
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

# podman asks for more descriptors and processes than a root without CAP_SYS_RESOURCE may have.
own="--network none --cgroup-parent $group --ulimit host"
run="$podman run --rm $own"

podman_cases() {
    check 'podman run' 'hello' $run busybox echo hello
    check 'podman exit code' 'code 7' $run busybox sh -c 'exit 7'
    check 'podman no such program' 'code 127' $run busybox nothing-here
    check 'podman run -it' '/dev/(pts/[0-9]|console)' script -qec "$run -it busybox tty" /dev/null
    check 'podman detach' '[0-9a-f]{64}' $podman run -d --name box $own -m 256m busybox sleep 1000
    check 'podman exec' 'uid=0' $podman exec box id
    check 'podman exec code' 'code 3' $podman exec box sh -c 'exit 3'
    check 'podman exec -it' '/dev/(pts/[0-9]|console)' script -qec "$podman exec -it box tty" /dev/null
    check 'podman exec user' 'uid=12.*gid=34' $podman exec -u 12:34 box id
    check 'podman top' 'sleep' $podman top box
    check 'podman pause' 'code 0' $podman pause box
    check 'podman unpause' 'code 0' $podman unpause box
    check 'podman update' 'code 0' $podman update -m 128m --memory-swap 128m box
    check 'podman stats' 'box' $podman stats --no-stream box
    check 'podman cp' 'code 0' $podman cp /etc/hostname box:/tmp/h
    check 'podman restart' 'code 0' $podman restart -t 0 box
    check 'podman stop' 'code 0' $podman stop -t 0 box
    check 'podman start' 'code 0' $podman start box
    check 'podman kill' 'code 0' $podman kill box
    check 'podman rm' 'code 0' $podman rm -f -t 0 box
    check 'podman logs' 'said' sh -c "$podman run --name talk $own busybox echo said >/dev/null; $podman logs talk"
    check 'podman OOM' 'code 137' $run -m 16m --memory-swap 16m busybox sh -c 'x=$(head -c 100000000 /dev/zero | tr "\0" x)'
    check 'podman init' 'init|catatonit' $run --init busybox cat /proc/1/comm
    check 'podman read-only' 'Read-only' $run --read-only busybox touch /x
    check 'podman tmpfs' 'size=1024k' $run --tmpfs /t:size=1m busybox mount
    check 'podman cap-drop' '0000000000000000' $run --cap-drop ALL busybox grep CapEff /proc/self/status
    check 'podman seccomp' 'Seccomp:.*2' $run busybox grep Seccomp: /proc/self/status
    check 'podman user' 'uid=1000' $run --user 1000 busybox id
    check 'podman uidmap' '0 +500000 +1000' $run --uidmap 0:500000:1000 busybox cat /proc/self/uid_map
    check 'podman cgroupns private' ':/' $run --cgroupns private busybox cat /proc/self/cgroup
    check 'podman cgroupns host' 'interop' $run --cgroupns host busybox cat /proc/self/cgroup
    check 'podman preserve-fds' 'kept' sh -c "echo kept >$dir/fd; $run --preserve-fds 1 busybox sh -c 'cat <&3' 3<$dir/fd"
    check 'podman pod' 'code 0' $podman run --rm --network none --ulimit host --ipc host --uts host busybox true
}

ctr_cases() {
    local at="--cgroup $group/ctr --runc-binary $runtime --rootfs"
    check 'ctr run' 'hello' $ctr run --rm $at "$dir/rootfs" one echo hello
    check 'ctr exit code' 'code 7' $ctr run --rm $at "$dir/rootfs" two sh -c 'exit 7'
    check 'ctr run -t' '/dev/(pts/[0-9]|console)' script -qec "$ctr run --rm -t $at $dir/rootfs three tty" /dev/null
    check 'ctr detach' 'code 0' $ctr run -d --null-io $at "$dir/rootfs" four sleep 1000
    check 'ctr exec' 'uid=0' $ctr task exec --exec-id e four id
    check 'ctr ps' 'PID' $ctr task ps four
    check 'ctr pause' 'code 0' $ctr task pause four
    check 'ctr resume' 'code 0' $ctr task resume four
    check 'ctr metrics' 'memory' $ctr task metrics four
    check 'ctr kill' 'code 0' $ctr task kill -s KILL four
    check 'ctr delete' 'code' $ctr task delete --force four
}

$podman import -c 'CMD sh' -c 'ENV PATH=/bin:/sbin:/usr/bin' "$image" busybox >/dev/null 2>"$dir/log" || { cat "$dir/log"; exit 1; }
podman_cases
mkdir -p "$dir/rootfs" "$dir/ctrd"
tar -xf "$image" -C "$dir/rootfs"
printf 'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n' >"$dir/ctrd.toml"
containerd --config "$dir/ctrd.toml" --root "$dir/ctrd/root" --state "$dir/ctrd/state" --address "$dir/ctrd.sock" >"$dir/ctrd.log" 2>&1 &
ctrd=$!
for _ in $(seq 100); do $ctr version >/dev/null 2>&1 && break; sleep 0.1; done
ctr_cases
