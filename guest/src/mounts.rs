//! What is mounted where: the kernel's own filesystems for the agent, the root filesystem under test at [`ROOT`], and the former once more inside
//! the latter. It knows nothing of disks and arrays.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use rustix::mount::{MountFlags, mount, mount_bind_recursive};

use crate::fault::{self, Fault};

/// Where the root filesystem under test is mounted in the initramfs.
pub const ROOT: &str = "/root-fs";

/// Says a line on the console: the last resort when the host can't be reached.
pub fn say(line: &str) {
    // Standard error of PID 1 is the console, if the kernel could open one in the initramfs; after `early` there is a device node for sure.
    let console = fs::OpenOptions::new().write(true).open("/dev/console");
    let _ = match console {
        Ok(mut console) => writeln!(console, "{line}"),
        Err(_) => writeln!(std::io::stderr(), "{line}"),
    };
}

/// Mounts what the agent itself needs.
pub fn early() -> Result<(), Fault> {
    let nothing = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    kernel("proc", "/proc", nothing, None)?;
    kernel("sysfs", "/sys", nothing, None)?;
    kernel("devtmpfs", "/dev", MountFlags::NOSUID, None)?;
    kernel("devpts", "/dev/pts", MountFlags::NOSUID | MountFlags::NOEXEC, Some(c"mode=620,ptmxmode=666,gid=5"))?;
    kernel("tmpfs", "/dev/shm", MountFlags::NOSUID | MountFlags::NODEV, Some(c"mode=1777"))?;
    kernel("tmpfs", "/run", MountFlags::NOSUID | MountFlags::NODEV, Some(c"mode=755"))
}

/// Mounts a filesystem without a device.
pub fn kernel(kind: &'static str, target: &str, flags: MountFlags, options: Option<&std::ffi::CStr>) -> Result<(), Fault> {
    fs::create_dir_all(target).map_err(fault::io("create", target))?;
    match mount(kind, target, kind, flags, options) {
        // DEVTMPFS_MOUNT kernels may have mounted it before.
        Err(rustix::io::Errno::BUSY) => Ok(()),
        result => result.map_err(fault::io("mount", target)),
    }
}

/// Mounts the root filesystem under test.
pub fn root(device: &str) -> Result<(), Fault> {
    fs::create_dir_all(ROOT).map_err(fault::io("create", ROOT))?;
    mount(device, ROOT, "ext4", MountFlags::empty(), None).map_err(fault::io("mount as ext4", device))
}

/// Shows the kernel's filesystems inside the root filesystem. Comes after everything below them is mounted.
pub fn inside() -> Result<(), Fault> {
    for folder in ["proc", "sys", "dev", "run"] {
        let target = Path::new(ROOT).join(folder);
        fs::create_dir_all(&target).map_err(fault::io("create", &target))?;
        mount_bind_recursive(Path::new("/").join(folder), &target).map_err(fault::io("bind mount", &target))?;
    }
    Ok(())
}

/// What is mounted as the root under test, for the report.
pub fn root_described() -> String {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut shown = mounts.lines().rev().filter_map(|line| {
        let mut words = line.split(' ');
        let (device, target, kind, options) = (words.next()?, words.next()?, words.next()?, words.next()?);
        (target == ROOT).then(|| format!("{kind} on {device} ({options})"))
    });
    shown.next().unwrap_or_else(|| "unknown".to_owned())
}
