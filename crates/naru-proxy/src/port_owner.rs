//! Who holds a TCP port that we wanted: read from /proc (proc_pid_net(5), proc_pid_fd(5)).
//!
//! For an error message only, so everything that cannot be read is passed over in silence.

use std::net::SocketAddr;

/// `nginx (pid 812)`, or a phrase that admits that it is not known.
pub(crate) fn describe(address: SocketAddr) -> String {
    owner(address.port()).unwrap_or_else(|| "another program (which one is not visible to this user)".into())
}

fn owner(port: u16) -> Option<String> {
    let inode = ["/proc/self/net/tcp", "/proc/self/net/tcp6"]
        .iter()
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .find_map(|table| listening_inode(&table, port))?;
    let wanted = format!("socket:[{inode}]");
    let processes = std::fs::read_dir("/proc").ok()?;
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.into_iter().find(|pid| holds(*pid, &wanted)).map(|pid| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        format!("{} (pid {pid})", name.trim())
    })
}

fn holds(pid: u32, socket: &str) -> bool {
    let Ok(descriptors) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    descriptors
        .flatten()
        .any(|entry| std::fs::read_link(entry.path()).is_ok_and(|link| link.as_os_str() == socket))
}

/// Columns: number, local address, remote address, state (0A is LISTEN), …, inode as the tenth.
fn listening_inode(table: &str, port: u16) -> Option<String> {
    table.lines().skip(1).find_map(|line| {
        let mut columns = line.split_ascii_whitespace();
        let local = columns.nth(1)?;
        let state = columns.nth(1)?;
        let inode = columns.nth(5)?;
        let at = u16::from_str_radix(local.rsplit(':').next()?, 16).ok()?;
        (at == port && state == "0A").then(|| inode.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_ourselves() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let said = describe(listener.local_addr().unwrap());
        assert!(said.contains(&format!("(pid {})", std::process::id())), "{said}");
    }
}
