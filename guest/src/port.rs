//! The virtio-serial port, found by its name, and the lines that come out of it. What they mean is the business of `requests`.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use hangproof_wire::PORT;

use crate::fault::{self, Fault};

/// How long the port may take to appear.
const DEADLINE: Duration = Duration::from_secs(30);

/// Where the kernel lists ports.
const CLASS: &str = "/sys/class/virtio-ports";

/// Most bytes of a request: requests are short.
const REQUEST_LIMIT: usize = 64 * 1024;

/// Opens the port. The kernel lets one opener in, so both directions share this file.
pub fn open() -> Result<File, Fault> {
    let start = Instant::now();
    loop {
        if let Some(node) = find(Path::new(CLASS)) {
            return OpenOptions::new().read(true).write(true).open(&node).map_err(fault::io("open", &node));
        }
        if start.elapsed() > DEADLINE {
            return Err(Fault::Missing { what: format!("virtio-serial port {PORT}"), after: DEADLINE });
        }
        sleep(Duration::from_millis(5));
    }
}

fn find(class: &Path) -> Option<PathBuf> {
    let ports = fs::read_dir(class).ok()?.flatten();
    let named = |port: &fs::DirEntry| fs::read_to_string(port.path().join("name")).is_ok_and(|name| name.trim() == PORT);
    ports.into_iter().find(named).map(|port| Path::new("/dev").join(port.file_name()))
}

/// Calls `work` with every line that the host sends, for ever. A line that is too long is cut into lines that nobody understands.
pub fn read_lines(mut port: impl Read, mut work: impl FnMut(&[u8])) -> ! {
    let mut line = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match port.read(&mut chunk) {
            // No host at the other end, for now.
            Ok(0) | Err(_) => sleep(Duration::from_millis(100)),
            Ok(count) => take_lines(&mut line, chunk.get(..count).unwrap_or_default(), &mut work),
        }
    }
}

fn take_lines(line: &mut Vec<u8>, bytes: &[u8], work: &mut impl FnMut(&[u8])) {
    for &byte in bytes {
        if byte == b'\n' || line.len() == REQUEST_LIMIT {
            work(line);
            line.clear();
        }
        if byte != b'\n' {
            line.push(byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_survive_any_cut() {
        let mut line = Vec::new();
        let mut seen = Vec::new();
        for bytes in [&b"on"[..], b"e\ntwo\nth", b"ree", b"\n"] {
            take_lines(&mut line, bytes, &mut |line| seen.push(line.to_vec()));
        }
        assert_eq!(seen, [b"one".to_vec(), b"two".to_vec(), b"three".to_vec()]);
        take_lines(&mut line, &vec![b'x'; 3 * REQUEST_LIMIT], &mut |_| {});
        assert!(line.len() <= REQUEST_LIMIT);
    }
}
