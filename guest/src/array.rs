//! The disks: waits for them and assembles the md array. It creates and repairs nothing: what is missing stays missing and is reported.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use hangproof_wire::Root;

use crate::fault::{self, Fault};

/// How long a disk may take to appear. Generous, because under TCG on a loaded host everything is slow; the host has its own deadline.
const DISK_DEADLINE: Duration = Duration::from_secs(60);

/// How long to wait for the other members once one is there: an array comes up degraded too.
const MEMBER_DEADLINE: Duration = Duration::from_secs(5);

/// Time between two looks for a device node.
const PAUSE: Duration = Duration::from_millis(5);

/// Brings the device up that holds the root filesystem, and returns it.
pub fn bring_up(root: &Root) -> Result<&str, Fault> {
    match root {
        Root::Disk { device } => wait_for(device).map(|()| device.as_str()),
        Root::Md { array, members } => {
            assemble(array, members)?;
            wait_for(array).map(|()| array.as_str())
        }
    }
}

fn assemble(array: &str, members: &[String]) -> Result<(), Fault> {
    let there = |member: &&String| Path::new(member).exists();
    if !wait_until(DISK_DEADLINE, || members.iter().any(|member| there(&member))) {
        return Err(Fault::Missing { what: members.join(" or "), after: DISK_DEADLINE });
    }
    // One that never comes leaves the array degraded, which is the host's to judge.
    wait_until(MEMBER_DEADLINE, || members.iter().all(|member| there(&member)));
    // `--run` starts a degraded array; no configuration file, so that only the named members count.
    let mut mdadm = Command::new("/usr/sbin/mdadm");
    mdadm.args(["--assemble", "--run", "--config=none", array]).args(members.iter().filter(there));
    fs::create_dir_all("/run/mdadm").map_err(fault::io("create", "/run/mdadm"))?;
    fault::run(&mut mdadm).map(drop)
}

fn wait_for(device: &str) -> Result<(), Fault> {
    let appeared = wait_until(DISK_DEADLINE, || Path::new(device).exists());
    if appeared { Ok(()) } else { Err(Fault::Missing { what: device.to_owned(), after: DISK_DEADLINE }) }
}

/// Waits until `condition` holds; whether it did before the deadline.
fn wait_until(deadline: Duration, condition: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if condition() {
            return true;
        }
        if start.elapsed() > deadline {
            return false;
        }
        sleep(PAUSE);
    }
}

/// The array's state, for the report; nothing for a plain disk.
pub fn described(root: &Root) -> Option<String> {
    let Root::Md { array, .. } = root else { return None };
    let folder = Path::new("/sys/block").join(array.strip_prefix("/dev/")?).join("md");
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default().trim().to_owned();
    Some(format!(
        "{} {} of {} disks, {} missing, metadata {}",
        read("level"),
        read("array_state"),
        read("raid_disks"),
        read("degraded"),
        read("metadata_version")
    ))
}
