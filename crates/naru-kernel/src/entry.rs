//! The first instructions of the program, before its C library: the quick way into the read-only mount that
//! [`crate::own_exe`] describes.
//!
//! A process that makes containers must run from that mount, so it executes itself a second time. By then an ordinary
//! start has relocated the program, asked the processor for its caches (each question a trip to the hypervisor in a
//! virtual machine) and set up Rust's runtime, all of it thrown away: more than half a millisecond. The linker enters the
//! program at `naru_entry` instead (`crates/naru/build.rs`), which looks at the arguments and, if they are those of such a
//! process, goes straight to the second execution.
//!
//! Nothing depends on it: whatever it does not know or cannot do it leaves to `_start`, the usual entry, and
//! [`crate::own_exe::make_read_only`] does the same in its time. It is assembly because nothing else is sure to run
//! before relocation; other processors than x86-64 go without.

// The stack at the start of a process is as the System V ABI for AMD64 says in "Process Initialization": argc, the
// arguments, NULL, the environment, NULL. The kernel keeps the strings together with at least eight more bytes behind
// them, so that reading eight bytes of one never leaves the stack. System calls change rax, rcx and r11.
#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    ".pushsection .text.naru_entry, \"ax\", @progbits",
    ".globl naru_entry",
    ".type naru_entry, @function",
    "naru_entry:",
    "mov rbp, rsp",
    "mov r12, [rsp]",              // argc
    "lea r13, [rsp + 8]",          // argv
    "lea r14, [rsp + r12*8 + 16]", // envp
    "cmp r12, 2",
    "jb 8f",
    // Is the file's name naru-oci, or the first argument `oci`?
    "mov rsi, [r13]",
    "xor ecx, ecx",
    "2:",
    "cmp byte ptr [rsi + rcx], 0",
    "je 3f",
    "inc rcx",
    "jmp 2b",
    "3:",
    "cmp rcx, 8",
    "jb 4f",
    "mov rax, [rip + 70f]",
    "cmp [rsi + rcx - 8], rax",
    "je 5f",
    "4:",
    "mov rsi, [r13 + 8]",
    "cmp dword ptr [rsi], 0x0069636f", // "oci\0"
    "jne 8f",
    // Does it make a process in a container: `run`, `exec`, `create`?
    "5:",
    "lea rbx, [r13 + 8]",
    "6:",
    "mov rsi, [rbx]",
    "test rsi, rsi",
    "jz 8f",
    "add rbx, 8",
    "mov rax, [rsi]",
    "cmp eax, 0x006e7572", // "run\0"
    "je 7f",
    "mov rcx, rax",
    "shl rcx, 24",
    "cmp rcx, [rip + 71f]", // "exec\0"
    "je 7f",
    "shl rax, 8",
    "cmp rax, [rip + 73f]", // "create\0"
    "jne 6b",
    // Read-only already? statfs(2): f_flags with ST_RDONLY.
    "7:",
    "sub rsp, 256",
    "mov eax, {statfs}",
    "lea rdi, [rip + 74f]",
    "mov rsi, rsp",
    "syscall",
    "test rax, rax",
    "jnz 8f",
    "test byte ptr [rsp + {f_flags}], {st_rdonly}",
    "jnz 8f",
    // A detached copy of the mount, made read-only, and the program executed from there. The descriptor stays open
    // (own_exe::take_mount).
    "mov eax, {open_tree}",
    "mov rdi, {at_fdcwd}",
    "lea rsi, [rip + 74f]",
    "mov edx, {open_tree_clone}",
    "syscall",
    "test rax, rax",
    "js 8f",
    "mov r15, rax",
    "mov eax, {mount_setattr}",
    "mov rdi, r15",
    "lea rsi, [rip + 75f]",
    "mov edx, {at_empty_path}",
    "lea r10, [rip + 76f]",
    "mov r8d, {mount_attr_bytes}",
    "syscall",
    "test rax, rax",
    "jnz 77f",
    "mov eax, {execveat}",
    "mov rdi, r15",
    "lea rsi, [rip + 75f]",
    "mov rdx, r13",
    "mov r10, r14",
    "mov r8d, {at_empty_path}",
    "syscall",
    "77:",
    "mov eax, {close}",
    "mov rdi, r15",
    "syscall",
    // The usual way, with the registers that it expects: the stack pointer of before, no function for atexit(3) in rdx.
    "8:",
    "mov rsp, rbp",
    "xor ebp, ebp",
    "xor edx, edx",
    "jmp _start",
    ".size naru_entry, . - naru_entry",
    ".popsection",
    ".pushsection .rodata.naru_entry, \"a\", @progbits",
    ".balign 8",
    "70:",
    ".ascii \"naru-oci\"",
    "71:",
    ".ascii \"\\0\\0\\0exec\\0\"",
    "73:",
    ".ascii \"\\0create\\0\"",
    "76:", // struct mount_attr: attr_set, attr_clr, propagation, userns_fd
    ".quad {mount_attr_rdonly}, 0, 0, 0",
    "74:",
    ".asciz \"/proc/self/exe\"",
    "75:",
    ".byte 0",
    ".popsection",
    statfs = const libc::SYS_statfs,
    open_tree = const libc::SYS_open_tree,
    mount_setattr = const libc::SYS_mount_setattr,
    execveat = const libc::SYS_execveat,
    close = const libc::SYS_close,
    f_flags = const STATFS_FLAGS,
    st_rdonly = const libc::ST_RDONLY,
    at_fdcwd = const libc::AT_FDCWD,
    at_empty_path = const libc::AT_EMPTY_PATH,
    open_tree_clone = const OPEN_TREE_CLONE,
    mount_attr_rdonly = const crate::mount::RDONLY,
    mount_attr_bytes = const 32,
);

/// Where `f_flags` is in struct statfs of asm-generic/statfs.h, whose words have 8 bytes each.
#[cfg(target_arch = "x86_64")]
const STATFS_FLAGS: usize = 80;

/// linux/mount.h.
#[cfg(target_arch = "x86_64")]
const OPEN_TREE_CLONE: i32 = 1;
