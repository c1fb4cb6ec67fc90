# Runs in the guest, as root, from naru-guest.service: does what /payload/job says and prints it in lines that
# `cargo xtask guest` reads. The machine goes off when this script ends.
# shellcheck shell=sh

# How this guest is what it is meant to be; a missing one fails the run.
fact() {
    if eval "$2" >/dev/null 2>&1; then echo "::fact ok $1"; else echo "::fact missing $1"; fi
}
controllers="$(cat /sys/fs/cgroup/cgroup.controllers)"
fact 'systemd is pid 1' '[ "$(cat /proc/1/comm)" = systemd ]'
fact 'only cgroup v2' '[ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ] && ! grep -q "^cgroup " /proc/mounts && [ ! -e /proc/self/cgroup ] || [ "$(wc -l < /proc/self/cgroup)" = 1 ]'
for controller in cpu memory pids io cpuset hugetlb; do
    fact "the $controller controller" "case ' $controllers ' in *' $controller '*) ;; *) false ;; esac"
done
fact 'AppArmor' '[ "$(cat /sys/module/apparmor/parameters/enabled)" = Y ] && [ -w /sys/kernel/security/apparmor/.replace ]'
fact 'user namespaces' 'unshare --user --map-root-user true'
fact 'time namespaces' '[ -e /proc/self/ns/time ]'
fact 'user namespaces for everybody' 'runuser -u student -- unshare --user --map-root-user true'
fact 'a user manager for student' 'systemctl is-active user@1000.service'
fact 'controllers delegated to student' 'grep -q memory /sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/cgroup.controllers'
echo "::note $(uname -r), $(systemctl --version | head -1), $(nproc) CPUs"

# The host's paths, as links into this disk.
link() {
    mkdir -p "$(dirname "$1")"
    [ -e "$1" ] || ln -s "/payload/files$1" "$1"
}

user=root seconds=600 filter=''

as_user() {
    if [ "$user" = root ]; then
        "$@"
        return
    fi
    runtime="/run/user/$(id -u "$user")"
    # A part of the cgroup tree of their own, as a rootless engine's unit has it.
    runuser -u "$user" -- env -C "$PWD" XDG_RUNTIME_DIR="$runtime" DBUS_SESSION_BUS_ADDRESS="unix:path=$runtime/bus" \
        systemd-run --user --quiet --wait --pipe --collect --same-dir -p Delegate=yes -E RUST_BACKTRACE \
        -E CARGO_MANIFEST_DIR -E NARU_GUEST -- "$@"
}

export HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin RUST_BACKTRACE=1 NARU_GUEST=1 TERM=dumb
chmod 755 /payload
while read -r word first second third; do
    case "$word" in
    file) link "$first" ;;
    user) user="$first" ;;
    seconds) seconds="$first" ;;
    filter) filter="$first $second $third" ;;
    test)
        echo "::begin $first"
        # A link would hide the place from programs that look beside themselves.
        program="/payload/files$third"
        cd "$second" || exit 1
        export CARGO_MANIFEST_DIR="$second"
        # shellcheck disable=SC2086
        as_user timeout --kill-after=10 "$seconds" "$program" --show-output --test-threads=2 --color=never $filter </dev/null 2>&1
        echo "::end $? $first"
        ;;
    esac
done </payload/job
echo "::done $(cut -d. -f1 /proc/uptime)"
