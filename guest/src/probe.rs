//! The probe of the filesystem under test: once a second a small write and fsync, outside any memory cgroup; and the journal's own count of commits.
//!
//! The probe's thread is the only one of the agent that touches the root filesystem after the boot, and it may block for ever: that is what it is for.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::thread::park_timeout;
use std::time::Duration;

use crate::beat::Clocks;
use crate::fault::{self, Fault};
use crate::mounts::ROOT;
use crate::threads::spawn_ordinary;

/// Time from the end of one probe to the start of the next, and between two looks at the journal.
const PAUSE: Duration = Duration::from_secs(1);

/// The probe's file, in the root filesystem.
const FILE: &str = ".hangproof-probe";

/// Bytes of one probe: one block of ext4.
const SIZE: usize = 4096;

/// Starts the probe and the look at the journal of `device`.
pub fn start(device: &str, clocks: &Arc<Clocks>) -> Result<(), Fault> {
    let path = Path::new(ROOT).join(FILE);
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(fault::io("open", &path))?;
    let probing = Arc::clone(clocks);
    spawn_ordinary("probe", move || {
        probing.i_probe();
        for number in 0_u64.. {
            probing.probe_begins();
            probing.probe_ends(probe(&file, number).is_ok());
            park_timeout(PAUSE);
        }
    })?;
    let counting = Arc::clone(clocks);
    let info = format!("/proc/fs/jbd2/{}-8/info", device.trim_start_matches("/dev/"));
    // Its own thread: the file is procfs and takes a spin lock only (fs/jbd2/journal.c), but opening it allocates memory, which may wait.
    spawn_ordinary("journal", move || {
        counting.i_read_the_journal();
        loop {
            counting.commits(fs::read_to_string(&info).ok().and_then(|text| commits(&text)));
            park_timeout(PAUSE);
        }
    })
}

/// One probe. Its new time stamp makes the inode dirty, so the fsync waits for a commit of the journal even though no block is allocated.
fn probe(file: &File, number: u64) -> std::io::Result<()> {
    let mut block = [0; SIZE];
    block[..8].copy_from_slice(&number.to_le_bytes());
    file.write_all_at(&block, 0)?;
    file.sync_all()
}

/// The commits in `/proc/fs/jbd2/*/info`: `N transactions (N requested), each up to N blocks`, on 3.10 `N transaction, each up to`.
fn commits(info: &str) -> Option<u64> {
    let (number, rest) = info.lines().next()?.split_once(' ')?;
    rest.starts_with("transaction").then(|| number.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::commits;

    #[test]
    fn journal_info_of_both_ages() {
        assert_eq!(commits("2384 transactions (2101 requested), each up to 4096 blocks\naverage: \n  0ms waiting"), Some(2384));
        assert_eq!(commits("17 transaction, each up to 4096 blocks\n"), Some(17));
        assert_eq!(commits("0 transactions (0 requested), each up to 4096 blocks"), Some(0));
        assert_eq!(commits(""), None);
        assert_eq!(commits("many transactions"), None);
    }
}
