# Makes syscalls.csv from the table of numbers that libseccomp keeps of the kernel's (src/syscalls.csv in its source):
#   LC_ALL=C awk -f syscalls.awk libseccomp/src/syscalls.csv > syscalls.csv
# Kept: one number per architecture, empty where it does not have the call. Added: the operation under which
# socketcall(2) (100 + SYS_… of linux/net.h) or ipc(2) (200 + linux/ipc.h) do the same.

BEGIN {
    FS = ","
    split("socket bind connect listen accept getsockname getpeername socketpair send recv sendto recvfrom shutdown setsockopt getsockopt sendmsg recvmsg accept4 recvmmsg sendmmsg", socketcall, " ")
    for (i in socketcall) operation[socketcall[i]] = 100 + i
    operation["semop"] = 201; operation["semget"] = 202; operation["semctl"] = 203; operation["semtimedop"] = 204
    operation["msgsnd"] = 211; operation["msgrcv"] = 212; operation["msgget"] = 213; operation["msgctl"] = 214
    operation["shmat"] = 221; operation["shmdt"] = 222; operation["shmget"] = 223; operation["shmctl"] = 224
    sort = "sort"
}
NR == 1 {
    line = "name,operation"
    for (i = 2; i <= NF; i += 2) line = line "," $i
    print line
    fflush()
    next
}
{
    line = $1 "," operation[$1]
    found = 0
    for (i = 2; i <= NF; i += 2) {
        found += $i != "PNR"
        line = line "," ($i == "PNR" ? "" : $i)
    }
    if (found || operation[$1]) print line | sort
}
