//! How the binary is linked. `naru oci` is started several times for each container, and most of what such a start took
//! was the start of a large program.
//!
//! * It is entered at `naru_entry` (crates/naru-kernel/src/entry.rs), which knows a shorter way for `naru oci`.
//! * It has a fixed address, as the binaries of runc, containerd and podman have: a static program that can be anywhere
//!   relocates itself, which writes to each page with a pointer in it, 24,000 places in 100 pages, before `main`. The
//!   stack, the heap and all mappings are still at random addresses. The code stays independent of its position; only the
//!   linker is told.
//!
//! Only where both were measured; on other processors the binary is linked in Rust's usual way.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|own| own == value);
    let static_gnu = std::env::var("CARGO_CFG_TARGET_FEATURE")
        .is_ok_and(|features| features.split(',').any(|feature| feature == "crt-static"))
        && is("CARGO_CFG_TARGET_ENV", "gnu");
    if is("CARGO_CFG_TARGET_ARCH", "x86_64") && static_gnu {
        // The last word on the kind of program counts (gcc, "Options for Linking"), and rustc has said -static-pie.
        for argument in ["-static", "-no-pie", "-Wl,-e,naru_entry"] {
            println!("cargo::rustc-link-arg-bins={argument}");
        }
    }
}
