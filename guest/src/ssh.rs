//! The ssh server inside the root filesystem: dropbear, with keys only. The host key is made on every boot and lives in memory.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use ssh_key::private::Ed25519Keypair;

use crate::fault::{self, Fault};
use crate::inside;
use crate::mounts::ROOT;

/// What the server needs and leaves is in memory.
const FOLDER: &str = "/run/hangproof";

/// The host key, the same path inside the root and out: `/run` is shared.
const HOST_KEY: &str = "/run/hangproof/ssh_host_key";

/// What the server says.
const LOG: &str = "/run/hangproof/dropbear.log";

/// How long the server may take until it listens.
const DEADLINE: Duration = Duration::from_secs(60);

/// Makes the host key and returns its public half, as `algorithm base64`. Made here: dropbearkey takes 0.2 s under TCG. The kernel gets the seed too
/// ([random(4)](https://man7.org/linux/man-pages/man4/random.4.html): what is written is mixed in), for the server's own needs.
pub fn make_host_key(seed: &[u8; 32]) -> Result<String, Fault> {
    fs::write("/dev/urandom", seed).map_err(fault::io("write", "/dev/urandom"))?;
    let pair = Ed25519Keypair::from_seed(seed);
    fs::create_dir_all(FOLDER).map_err(fault::io("create", FOLDER))?;
    let options = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(HOST_KEY);
    options.and_then(|mut file| file.write_all(&dropbear_form(&pair))).map_err(fault::io("write", HOST_KEY))?;
    ssh_key::PublicKey::from(pair.public).to_openssh().map_err(|cause| fault::io("encode", HOST_KEY)(std::io::Error::other(cause)))
}

/// A key as dropbear's `buf_put_ed25519_priv_key()` writes it: the name, then private and public half as one string, each with its length before it.
fn dropbear_form(pair: &Ed25519Keypair) -> Vec<u8> {
    const NAME: &[u8] = b"ssh-ed25519";
    let mut form = Vec::new();
    for part in [NAME, &[pair.private.to_bytes(), pair.public.0].concat()] {
        // Both are shorter than 2^32.
        form.extend((part.len() as u32).to_be_bytes());
        form.extend(part);
    }
    form
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
    fn a_key_in_dropbears_form() {
        let form = dropbear_form(&Ed25519Keypair::from_seed(&[7; 32]));
        assert_eq!(form.get(..15), Some(&b"\0\0\0\x0bssh-ed25519"[..]));
        assert_eq!(form.get(15..19), Some(&[0, 0, 0, 64][..]));
        assert_eq!(form.get(19..51), Some(&[7; 32][..]), "the private half");
        assert_eq!(form.len(), 83);
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
