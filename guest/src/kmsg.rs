//! The kernel log as `/dev/kmsg` gives it: records, the text that a person reads, and the count of memory-cgroup OOM kills.
//!
//! It recognises no hang: that is the oracle's business on the host.
//!
//! Read [`Record`] first.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::fs::OFlags;

use crate::beat::Clocks;
use crate::fault::{self, Fault};
use crate::threads::spawn;

/// The device.
pub const DEVICE: &str = "/dev/kmsg";

/// More bytes than any record has (`CONSOLE_EXT_LOG_MAX` of `include/linux/printk.h` is 8192); a shorter buffer is refused with EINVAL.
const RECORD_LIMIT: usize = 16 * 1024;

/// One record of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Microseconds of the log's clock.
    pub micros: u64,
    /// It goes on where the record before it ended (3.10's `+`).
    pub continues: bool,
    /// The text; may hold several lines.
    pub text: String,
}

impl Record {
    /// Parses `LEVEL,SEQUENCE,MICROSECONDS,FLAG[,...];TEXT` and drops the ` KEY=VALUE` lines that follow.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let whole = String::from_utf8_lossy(bytes);
        let (head, body) = whole.split_once(';')?;
        let mut fields = head.split(',').skip(2);
        let micros = fields.next()?.parse().ok()?;
        let continues = fields.next() == Some("+");
        Some(Self { micros, continues, text: unescape(body.split('\n').next().unwrap_or_default()) })
    }

    /// Appends the record to a log as the console would show it.
    pub fn write_to(&self, log: &mut String) {
        use std::fmt::Write as _;
        for (number, line) in self.text.split('\n').enumerate() {
            if number == 0 && self.continues {
                log.push_str(line);
                continue;
            }
            if !log.is_empty() {
                log.push('\n');
            }
            let _ = write!(log, "[{:5}.{:06}] {line}", self.micros / 1_000_000, self.micros % 1_000_000);
        }
    }
}

/// Undoes the `\xNN` of `msg_print_ext_body()` for what is text: tabs, line ends, backslashes. Anything else stays escaped.
fn unescape(text: &str) -> String {
    let mut pieces = text.split("\\x");
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (code, rest) = piece.split_at_checked(2).unwrap_or(("", piece));
        match code {
            "09" => plain.push('\t'),
            "0a" => plain.push('\n'),
            "5c" => plain.push('\\'),
            _ => {
                plain.push_str("\\x");
                plain.push_str(code);
            }
        }
        plain.push_str(rest);
    }
    plain
}

/// Whether a record tells of a memory-cgroup OOM kill. Each kill has exactly one such line: EL7 says `Kill process N (NAME) score` (and then, without
/// this beginning, `Killed process N`), 6.x says `Killed process N (NAME)`.
pub fn is_oom_kill(text: &str) -> bool {
    text.strip_prefix("Memory cgroup out of memory: Kill")
        .is_some_and(|rest| rest.starts_with(" process ") || rest.starts_with("ed process "))
}

/// Starts the thread that reads the log and counts kills.
pub fn start(clocks: Arc<Clocks>) -> Result<(), Fault> {
    let mut file = File::open(DEVICE).map_err(fault::io("open", DEVICE))?;
    spawn("kmsg", move || {
        let mut buffer = vec![0; RECORD_LIMIT];
        loop {
            match file.read(&mut buffer) {
                Ok(count) => {
                    let record = Record::parse(buffer.get(..count).unwrap_or_default());
                    if record.is_some_and(|record| is_oom_kill(&record.text)) {
                        clocks.oom_kill();
                    }
                }
                // Records were overwritten before they were read; the next read goes on behind the gap.
                Err(cause) if cause.kind() == ErrorKind::BrokenPipe || cause.kind() == ErrorKind::Interrupted => {}
                Err(_) => thread::sleep(Duration::from_millis(100)),
            }
        }
    })
}

/// The log from now on, read without waiting.
#[derive(Debug)]
pub struct Tail {
    file: File,
    buffer: Vec<u8>,
}

impl Tail {
    /// Begins behind the last record.
    pub fn from_now() -> std::io::Result<Self> {
        let mut tail = Self::from_start()?;
        tail.file.seek(SeekFrom::End(0))?;
        Ok(tail)
    }

    /// Begins with the oldest record that the kernel still has.
    pub fn from_start() -> std::io::Result<Self> {
        let file = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(DEVICE)?;
        Ok(Self { file, buffer: vec![0; RECORD_LIMIT] })
    }

    /// Appends to `log` what has come since, until it is longer than `limit`.
    pub fn drain(&mut self, log: &mut String, limit: usize) -> std::io::Result<()> {
        while log.len() < limit {
            match self.file.read(&mut self.buffer) {
                Ok(count) => {
                    if let Some(record) = Record::parse(self.buffer.get(..count).unwrap_or_default()) {
                        record.write_to(log);
                    }
                }
                Err(cause) if cause.kind() == ErrorKind::BrokenPipe => log.push_str("\n(records were lost here)"),
                Err(cause) if cause.kind() == ErrorKind::Interrupted => {}
                Err(cause) if cause.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(cause) => return Err(cause),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn records_become_console_lines() {
        let mut log = String::new();
        for bytes in [
            &b"6,339,5140900,-;NET: Registered\x20protocol family 10\n SUBSYSTEM=net\n DEVICE=n1\n"[..],
            b"4,340,105140900,c,caller=T1;jbd2/md127-8   D \n",
            b"4,341,105140901,+; ffff88003d80 0 71 2\n",
            b"6,342,105140902,-;two\\x0alines, \\x5c and \\xe2; done\n",
        ] {
            Record::parse(bytes).unwrap().write_to(&mut log);
        }
        let expected = "[    5.140900] NET: Registered protocol family 10\n[  105.140900] jbd2/md127-8   D  ffff88003d80 0 71 2\n\
            [  105.140902] two\n[  105.140902] lines, \\ and \\xe2; done";
        assert_eq!(log, expected);
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for bytes in [&b""[..], b"6,339", b"6,339;text", b"6,339,x,-;text"] {
            assert_eq!(Record::parse(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn every_kill_counts_once() {
        assert!(is_oom_kill("Memory cgroup out of memory: Kill process 1234 (ext4-oom) score 970 or sacrifice child"));
        assert!(!is_oom_kill("Killed process 1234 (ext4-oom) total-vm:26840kB, anon-rss:23044kB, file-rss:1188kB, shmem-rss:0kB"));
        assert!(is_oom_kill("Memory cgroup out of memory: Killed process 97 (ext4-oom) total-vm:26892kB, anon-rss:22656kB"));
        assert!(!is_oom_kill("Out of memory: Killed process 97 (ext4-oom) total-vm:26892kB"));
        assert!(!is_oom_kill("Memory cgroup out of memory: Killing nobody"));
        assert!(!is_oom_kill("oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,task=ext4-oom,pid=97,uid=0"));
    }
}
