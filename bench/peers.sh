#!/bin/bash
# Installs the runtimes that naru is measured against into a directory outside the repository:
#
#     bench/peers.sh [DIR]        (default /tmp/lab; needs root, Debian, go and cargo)
#
# DIR/bin then has crun (Debian's newest), runc (the newest Go module), runc-debian and youki (crates.io). A step that
# fails is named and the next one goes on: a bench leaves out a peer that is not there. Nothing here is part of naru or
# linked into it.
set -u

dir=${1:-/tmp/lab}
mkdir -p "$dir/bin" "$dir/log"
failed=""

step() {
    local name=$1
    shift
    echo "peers: $name"
    "$@" >"$dir/log/$name.log" 2>&1 || { failed="$failed $name"; echo "peers: $name failed, see $dir/log/$name.log"; }
}

# dockerd is here for bench/interop only, podman and skopeo for p6 too; naru itself never starts them.
packages() {
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq && apt-get install -y -qq --no-install-recommends \
        mmdebstrap patchelf pkg-config gcc libc6-dev libseccomp-dev git jq busybox-static \
        runc crun containerd docker.io podman conmon catatonit docker-registry skopeo
    cp -f "$(command -v runc)" "$dir/bin/runc-debian"
}

# The mirror is the one this machine already uses; only the suite's name differs.
mirror() {
    apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | grep -i debian | grep -vi security | sort | uniq -c |
        sort -rn | awk 'NR == 1 { print $2 }'
}

# crun of Debian's unstable suite, with the libraries it was built against.
crun() {
    local root=$dir/sid
    if [ ! -x "$root/usr/bin/crun" ]; then
        rm -rf "$root"
        mmdebstrap --variant=extract --include=crun --aptopt='Acquire::Check-Valid-Until "false"' \
            sid "$root" "$(mirror)" || return 1
    fi
    local lib=$root/usr/lib/x86_64-linux-gnu
    cp -f "$root/usr/bin/crun" "$dir/bin/crun"
    patchelf --set-interpreter "$lib/ld-linux-x86-64.so.2" --set-rpath "$lib" "$dir/bin/crun"
    "$dir/bin/crun" --version
}

# A main package whose go.mod has "replace" lines can't be installed by name: build it in a copy of the module.
go_module() {
    local module=$1 version=$2 copy=$3
    local path
    path=$(cd "$dir" && GOFLAGS=-mod=mod go mod download -json "$module@$version" | jq -r .Dir) || return 1
    [ -d "$path" ] || return 1
    rm -rf "$copy"
    cp -r "$path" "$copy" && chmod -R u+w "$copy"
}

runc() {
    go_module github.com/opencontainers/runc latest "$dir/runc-src" &&
        (cd "$dir/runc-src" && CGO_ENABLED=1 go build -trimpath -buildvcs=false -tags seccomp -ldflags '-s -w' -o "$dir/bin/runc" .) &&
        "$dir/bin/runc" --version
}

youki() {
    cargo install --locked --features v1,v2,systemd,seccomp --root "$dir/youki" youki && cp -f "$dir/youki/bin/youki" "$dir/bin/youki" &&
        "$dir/bin/youki" --version
}

step packages packages
step crun crun
step runc runc
step youki youki
[ -z "$failed" ] || { echo "peers: without$failed"; exit 1; }
