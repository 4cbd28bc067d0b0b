//! The ssh server inside the root filesystem: dropbear, with keys only. The host key is made on every boot and lives in memory.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::fault::{self, Fault};
use crate::inside;
use crate::mounts::ROOT;

/// The host key, the same path inside the root and out: `/run` is shared.
const HOST_KEY: &str = "/run/hangproof/ssh_host_key";

/// What the server says.
const LOG: &str = "/run/hangproof/dropbear.log";

/// How long the server may take until it listens.
const DEADLINE: Duration = Duration::from_secs(60);

/// Makes the host key and returns its public half, as `algorithm base64`.
pub fn make_host_key() -> Result<String, Fault> {
    fs::create_dir_all("/run/hangproof").map_err(fault::io("create", "/run/hangproof"))?;
    let mut dropbearkey = inside::command(Path::new(ROOT), "dropbearkey");
    let said = fault::run(dropbearkey.args(["-t", "ed25519", "-f", HOST_KEY]))?;
    public_key(&said).ok_or_else(|| Fault::Missing { what: "public key in dropbearkey's output".to_owned(), after: Duration::ZERO })
}

/// The line of dropbearkey's output that holds the public key, without its comment.
fn public_key(said: &str) -> Option<String> {
    let line = said.lines().find(|line| line.starts_with("ssh-"))?;
    let mut words = line.split(' ');
    Some(format!("{} {}", words.next()?, words.next()?))
}

/// Lets this key, and no other, log in as root.
pub fn authorize(key: &str) -> Result<(), Fault> {
    let home = Path::new(ROOT).join("root");
    let folder = home.join(".ssh");
    let file = folder.join("authorized_keys");
    fs::create_dir_all(&folder).map_err(fault::io("create", &folder))?;
    fs::write(&file, format!("{}\n", key.trim())).map_err(fault::io("write", &file))?;
    for (path, mode) in [(&home, 0o700), (&folder, 0o700), (&file, 0o600)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(fault::io("set the mode of", path))?;
    }
    Ok(())
}

/// Starts the server and waits until it listens.
pub fn start() -> Result<Child, Fault> {
    let log = File::create(LOG).map_err(fault::io("create", LOG))?;
    let mut server = inside::command(Path::new(ROOT), "dropbear");
    // In the foreground, messages to standard error, no passwords.
    server.args(["-F", "-E", "-s", "-p", "22", "-P", "/run/hangproof/dropbear.pid", "-r", HOST_KEY]);
    server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let program = "dropbear".to_owned();
    let mut child = server.spawn().map_err(|cause| Fault::Spawn { program: program.clone(), cause })?;
    let start = Instant::now();
    while !fs::read_to_string("/proc/net/tcp").is_ok_and(|table| listens(&table)) {
        if let Ok(Some(status)) = child.try_wait() {
            let output = fs::read_to_string(LOG).unwrap_or_default().trim().replace('\n', "; ");
            return Err(Fault::Program { program, status, output });
        }
        if start.elapsed() > DEADLINE {
            return Err(Fault::Missing { what: "ssh server on port 22".to_owned(), after: DEADLINE });
        }
        sleep(Duration::from_millis(2));
    }
    Ok(child)
}

/// Whether `/proc/net/tcp` shows a listener (state 0A) on port 22 (hexadecimal 16).
fn listens(table: &str) -> bool {
    table.lines().any(|line| {
        let mut words = line.split_whitespace().skip(1);
        words.next().is_some_and(|local| local.ends_with(":0016")) && words.nth(1) == Some("0A")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_key_is_found() {
        let said = "Generating 256 bit ed25519 key, this may take a while...\nPublic key portion is:\nssh-ed25519 AAAAC3Nza root@(none)\n\
            Fingerprint: SHA256:x\n";
        assert_eq!(public_key(said).as_deref(), Some("ssh-ed25519 AAAAC3Nza"));
        assert_eq!(public_key("Exited: couldn't read"), None);
    }

    #[test]
    fn only_a_listener_on_port_22_counts() {
        let head = "  sl  local_address rem_address   st tx_queue rx_queue\n";
        assert!(listens(&format!("{head}   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000\n")));
        assert!(!listens(&format!("{head}   0: 0F02000A:0016 0202000A:C0DE 01 00000000:00000000 00:00000000\n")));
        assert!(!listens(&format!("{head}   0: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000\n")));
        assert!(!listens(head));
    }
}
