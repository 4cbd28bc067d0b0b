//! For which charges memory is reclaimed, as the kernel's tracepoint `vmscan:mm_vmscan_memcg_reclaim_begin` says: who, and with which allocation flags.
//!
//! No stack shows flags, and they decide whether a charge that finds no room fails or is forced. The tracepoint is there since 2.6.36 wherever events are
//! compiled in (EL7's and Debian's own kernels have them); where they aren't, nothing is said. It is off until the first look, so that a trial without a
//! standstill runs as it would without us. Nothing is judged here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use hangproof_wire::Reclaim;
use rustix::fs::OFlags;
use rustix::mount::MountFlags;

use crate::mounts;

/// The filesystem, where it is mounted, and its folder of traces: the first one from 4.1 on, the second one before.
const PLACES: [(&str, &str, &str); 2] = [("tracefs", "/sys/kernel/tracing", ""), ("debugfs", "/sys/kernel/debug", "tracing")];

/// Below the folder of traces.
const SWITCH: &str = "events/vmscan/mm_vmscan_memcg_reclaim_begin/enable";

/// Only charges that may not enter the filesystem, as those below an open handle: of all others there may be thousands in a second, more than is held. The
/// flag is 0x80 from 2.6 to 6.x; a kernel that doesn't know such filters (they came with 3.19) notes all.
const FILTER: &str = "events/vmscan/mm_vmscan_memcg_reclaim_begin/filter";
const WITHOUT_FS: &str = "!(gfp_flags & 0x80)";

/// How a line names the event.
const EVENT: &str = ": mm_vmscan_memcg_reclaim_begin: ";

/// For each CPU: some thousand tries; the default of 1.4 MB takes a second to print under TCG.
const BUFFER_KB: &str = "256";

/// Most bytes of a trace that are read.
const TRACE_LIMIT: u64 = 4 << 20;

/// Most entries that are reported, and most characters of flags: a look has to fit into one line on the wire.
const LIMIT: usize = 4096;
const FLAGS_LIMIT: usize = 200;

/// Mounts what the tracepoint is read from, if the kernel has it.
pub fn bring_up() {
    let nothing = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    for (kind, target, _) in PLACES {
        // sysfs has the folder if the kernel has the filesystem.
        if Path::new(target).is_dir() && mounts::kernel(kind, target, nothing, None).is_ok() && folder().is_some() {
            return;
        }
    }
}

fn folder() -> Option<PathBuf> {
    PLACES.iter().map(|(_, target, below)| Path::new(target).join(below)).find(|folder| folder.join(SWITCH).exists())
}

/// Has the kernel note tries from now on, if it doesn't yet.
fn watch(folder: &Path) {
    let switch = folder.join(SWITCH);
    if fs::read_to_string(&switch).is_ok_and(|state| state.starts_with('1')) {
        return;
    }
    let _ = fs::write(folder.join("buffer_size_kb"), BUFFER_KB);
    let _ = fs::write(folder.join(FILTER), WITHOUT_FS);
    // Names of tasks are known from elsewhere, and noting them hooks every switch of tasks.
    let _ = fs::write(folder.join("options/record-cmd"), "0");
    let _ = fs::write(switch, "1");
}

/// The tries since the last call.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tries {
    /// How many, by task and flags.
    counts: BTreeMap<(u32, String), u32>,
    /// Whether none is missing: else the one that a task is in might be.
    all: bool,
}

/// Takes the tries since the last call; the first call only makes the kernel note them.
pub fn taken() -> Tries {
    let Some(folder) = folder() else { return Tries::default() };
    watch(&folder);
    let mut trace = Vec::new();
    // It gives each try once, and the kernel goes on noting meanwhile: what is read isn't emptied afterwards, with what came in between.
    let pipe = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(folder.join("trace_pipe"));
    let Ok(pipe) = pipe else { return Tries::default() };
    // With what is there it ends in EAGAIN.
    let empty = matches!(pipe.take(TRACE_LIMIT).read_to_end(&mut trace), Err(error) if error.kind() == ErrorKind::WouldBlock);
    let tries = counted(&String::from_utf8_lossy(&trace));
    Tries { all: tries.all && empty, ..tries }
}

/// What was noted before and during a look, and whether that is all.
pub fn together(before: &Tries, during: &Tries) -> (Vec<Reclaim>, bool) {
    let keys: BTreeSet<_> = before.counts.keys().chain(during.counts.keys()).collect();
    let reclaim = |key: &(u32, String)| Reclaim {
        tid: key.0,
        flags: key.1.chars().take(FLAGS_LIMIT).collect(),
        before: before.counts.get(key).copied().unwrap_or(0),
        during: during.counts.get(key).copied().unwrap_or(0),
    };
    let all = before.all && during.all && keys.len() <= LIMIT;
    (keys.into_iter().take(LIMIT).map(reclaim).collect(), all)
}

fn counted(trace: &str) -> Tries {
    let mut counts = BTreeMap::new();
    for (tid, flags) in trace.lines().filter_map(parse) {
        let times: &mut u32 = counts.entry((tid, flags.to_owned())).or_default();
        *times = times.saturating_add(1);
    }
    // `CPU:1 [LOST 17 EVENTS]`
    Tries { counts, all: !trace.lines().any(|line| line.starts_with("CPU:") && line.contains("[LOST ")) }
}

/// The thread and the flags of a line `COMM-TID  [CPU] FLAGS TIME: EVENT: order=0 gfp_flags=...`; a name may hold anything.
fn parse(line: &str) -> Option<(u32, &str)> {
    let (head, event) = line.rsplit_once(EVENT)?;
    let (task, _) = head.rsplit_once(" [")?;
    let (_, tid) = task.trim_end().rsplit_once('-')?;
    let (_, flags) = event.split_once("gfp_flags=")?;
    Some((tid.parse().ok()?, flags.split_whitespace().next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "\
        \x20          <...>-71      [001] ...1.    20.100001: mm_vmscan_memcg_reclaim_begin: order=0 gfp_flags=GFP_NOFS|__GFP_NOFAIL\n\
        \x20    a-7 [0] b-c-71      [000] ...1.    20.200001: mm_vmscan_memcg_reclaim_begin: order=0 gfp_flags=GFP_NOFS|__GFP_NOFAIL\n\
        \x20          <...>-71      [001] d..1    20.300001: mm_vmscan_memcg_reclaim_begin: order=0 may_writepage=1 gfp_flags=GFP_NOFS\n\
        \x20          <...>-72      [001] ...1.    20.400001: mm_vmscan_memcg_reclaim_end: nr_reclaimed=0\n";

    #[test]
    fn tries_are_counted_by_task_and_flags() {
        let reclaim = |flags: &str, before, during| Reclaim { tid: 71, flags: flags.to_owned(), before, during };
        let seen = together(&counted(TRACE), &counted(""));
        assert_eq!(seen, (vec![reclaim("GFP_NOFS", 1, 0), reclaim("GFP_NOFS|__GFP_NOFAIL", 2, 0)], true));
        assert_eq!(together(&counted(""), &counted(TRACE)).0[1], reclaim("GFP_NOFS|__GFP_NOFAIL", 0, 2));
    }

    #[test]
    fn it_is_told_that_tries_are_missing() {
        let flooded = format!("CPU:1 [LOST 17 EVENTS]\n{TRACE}");
        assert!(counted(TRACE).all && !counted(&flooded).all && counted("").all);
        let seen = together(&counted(TRACE), &counted(&flooded));
        assert_eq!((seen.0.len(), seen.1), (2, false));
        assert_eq!(together(&Tries::default(), &Tries::default()), (vec![], false));
    }
}
