# What a container's programs may do where AppArmor is enabled: the policy that `naru-default.policy` is compiled from
# (how: see apparmor.rs). It stands behind the capabilities, the seccomp filter and the read-only paths, so that a
# container that got around one of these still meets a wall. Its meaning is that of Docker's docker-default.
#
# The rules of 3.0 are understood by every kernel since 5.10, and by newer ones as they were meant.
abi <abi/3.0>,

profile naru-default flags=(attach_disconnected,mediate_deleted) {
  # Files, sockets and capabilities are not AppArmor's part here, but for what is denied below.
  file,
  network,
  capability,
  umount,

  # Signals from the host and among programs with this profile; debugging only among the latter.
  signal (receive) peer=unconfined,
  signal (send, receive) peer=naru-default,
  ptrace (trace, read, tracedby, readby) peer=naru-default,

  # A mount could put a file where the rules below don't see it.
  deny mount,

  # Below /proc a container writes to processes (numbers) and to its own IPC settings (sys/kernel/shm*), nothing else.
  deny /proc/* w,
  deny /proc/{[^1-9],[^1-9][^0-9],[^1-9s][^0-9y][^0-9s],[^1-9][^0-9][^0-9][^0-9/]*}/** w,
  deny /proc/sys/[^k]** w,
  deny /proc/sys/kernel/{?,??,[^s][^h][^m]**} w,
  deny /proc/sysrq-trigger rwklx,
  deny /proc/kcore rwklx,

  # Below /sys it writes to its control group (/sys/fs/cgroup), nothing else.
  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/fs/cg[^r]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,
}
