//! Memory cgroups of both versions: mounts the hierarchy, and reads limits, usage and kill counts. It creates and changes no cgroup.
//!
//! It reads files that return counters, not `memory.stat`, which flushes the statistics of all CPUs and may wait.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hangproof_wire::{CgroupCounters, CgroupVersion};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::fault::{self, Fault};
use crate::mounts;

/// Where hierarchies are mounted.
const FOLDER: &str = "/sys/fs/cgroup";

/// The memory hierarchy of version 1.
const FOLDER_V1: &str = "/sys/fs/cgroup/memory";

/// Most cgroups that are reported.
const LIMIT: usize = 4096;

/// The hierarchy that is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hierarchy {
    /// Version 1.
    V1,
    /// Version 2.
    V2,
}

impl Hierarchy {
    /// Its number.
    pub fn number(self) -> u8 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }
}

/// Mounts the wanted hierarchy.
pub fn bring_up(wanted: CgroupVersion) -> Result<Hierarchy, Fault> {
    match wanted {
        CgroupVersion::V1 => mount_v1(),
        CgroupVersion::V2 => mount_v2(),
        CgroupVersion::Auto => mount_v2().or_else(|_| mount_v1()),
    }
}

fn mount_v2() -> Result<Hierarchy, Fault> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("cgroup2", FOLDER, "cgroup2", flags, None).map_err(fault::io("mount as cgroup2", FOLDER))?;
    let controllers = fs::read_to_string(Path::new(FOLDER).join("cgroup.controllers")).unwrap_or_default();
    if !controllers.split_whitespace().any(|name| name == "memory") {
        // Version 1 can't have the controller while this is mounted.
        let _ = unmount(FOLDER, UnmountFlags::empty());
        return Err(Fault::Cgroup(format!("version 2 offers {:?}", controllers.trim())));
    }
    let control = Path::new(FOLDER).join("cgroup.subtree_control");
    fs::write(&control, "+memory").map_err(fault::io("enable memory in", &control))?;
    Ok(Hierarchy::V2)
}

fn mount_v1() -> Result<Hierarchy, Fault> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mounts::kernel("tmpfs", FOLDER, flags, Some(c"mode=755"))?;
    fs::create_dir_all(FOLDER_V1).map_err(fault::io("create", FOLDER_V1))?;
    match mount("cgroup", FOLDER_V1, "cgroup", flags, Some(c"memory")) {
        Err(Errno::INVAL | Errno::NODEV | Errno::NOENT) => Err(Fault::Cgroup("version 1 has no memory controller".to_owned())),
        result => result.map(|()| Hierarchy::V1).map_err(fault::io("mount as cgroup", FOLDER_V1)),
    }
}

/// Counters of every memory cgroup that has a limit.
pub fn counters(hierarchy: Hierarchy) -> Result<Vec<CgroupCounters>, Fault> {
    let (top, read): (_, fn(&Path) -> Option<Numbers>) = match hierarchy {
        Hierarchy::V1 => (Path::new(FOLDER_V1), read_v1),
        Hierarchy::V2 => (Path::new(FOLDER), read_v2),
    };
    let mut found = Vec::new();
    let mut folders = vec![top.to_owned()];
    while let Some(folder) = folders.pop() {
        folders.extend(below(&folder).map_err(fault::io("list", &folder))?);
        if let Some(numbers) = read(&folder)
            && found.len() < LIMIT
        {
            let path = folder.strip_prefix(top).unwrap_or(&folder).display().to_string();
            found.push(CgroupCounters {
                path,
                usage: numbers.usage,
                limit: numbers.limit,
                hits: numbers.hits,
                oom_kills: numbers.oom_kills,
            });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

struct Numbers {
    usage: u64,
    limit: u64,
    hits: u64,
    oom_kills: Option<u64>,
}

fn below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(entries) => {
            Ok(entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect())
        }
        // It was removed meanwhile.
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(cause) => Err(cause),
    }
}

fn number(folder: &Path, file: &str) -> Option<u64> {
    fs::read_to_string(folder.join(file)).ok()?.trim().parse().ok()
}

fn read_v2(folder: &Path) -> Option<Numbers> {
    // A cgroup without a limit says `max`, which is no number.
    let limit = number(folder, "memory.max")?;
    let events = fs::read_to_string(folder.join("memory.events")).unwrap_or_default();
    Some(Numbers {
        limit,
        usage: number(folder, "memory.current")?,
        hits: keyed(&events, "max").unwrap_or(0),
        oom_kills: keyed(&events, "oom_kill"),
    })
}

fn read_v1(folder: &Path) -> Option<Numbers> {
    let limit = number(folder, "memory.limit_in_bytes")?;
    let control = fs::read_to_string(folder.join("memory.oom_control")).unwrap_or_default();
    let numbers = Numbers {
        limit,
        usage: number(folder, "memory.usage_in_bytes")?,
        hits: number(folder, "memory.failcnt").unwrap_or(0),
        oom_kills: keyed(&control, "oom_kill"),
    };
    // No limit is the largest number of whole pages, or on 3.10 the largest of bytes.
    (limit < u64::MAX / 4).then_some(numbers)
}

/// The value of `key` in lines of `key value`.
fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::keyed;

    #[test]
    fn keys_match_as_a_whole() {
        let events = "low 0\nhigh 0\nmax 312\noom 20\noom_kill 19\noom_group_kill 0\n";
        assert_eq!(keyed(events, "max"), Some(312));
        assert_eq!(keyed(events, "oom_kill"), Some(19));
        assert_eq!(keyed("oom_kill_disable 0\nunder_oom 0\n", "oom_kill"), None);
    }
}
