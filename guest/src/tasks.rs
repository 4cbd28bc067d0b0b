//! Tasks that were told to die and have not, and the stacks of tasks that run, from `/proc/*/task/*`.
//!
//! Of a sleeping task it reads `status` only, which takes spin locks (`fs/proc/array.c`): `cmdline`, `maps` and `environ` need the memory map's lock,
//! `stack` needs `exec_update_lock` (EL7: `cred_guard_mutex`), and a hung task may hold either. `stack` is read of tasks that are awake: those can't
//! sleep with such a lock held. One that falls asleep in between may block the reader; so callers run this in a thread that they can give up.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hangproof_wire::{Dying, Running};

/// Most tasks that are listed.
pub const LIMIT: usize = 4096;

/// SIGKILL in a pending mask: signal 9 is bit 8.
const KILL: u64 = 1 << 8;

/// All tasks with a pending SIGKILL.
pub fn dying() -> Vec<Dying> {
    threads().filter_map(|thread| parse(&fs::read_to_string(thread.join("status")).ok()?)).take(LIMIT).collect()
}

/// How often running tasks are sampled: a running task shows its whole stack only at some moments, and how often it is awake tells a task that spins
/// from one that sleeps 100 ms between two tries (`reclaim_throttle`).
const SAMPLES: u32 = 20;

/// Between two samples. Longer than a scheduler tick of 4 ms (HZ=250); all samples together span five of those sleeps.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(25);

/// Most running tasks that are shown: a stack has up to 64 lines, and the whole look has to fit into one line on the wire.
const RUNNING_LIMIT: usize = 256;

/// The stacks of tasks that run or are ready to, but our own; of each the deepest of some samples.
pub fn running() -> Vec<Running> {
    // `slept` holds the counter's first value until the end; its last value stands beside.
    let mut deepest: BTreeMap<u32, (Running, u64)> = BTreeMap::new();
    for sample in 0..SAMPLES {
        if sample > 0 {
            std::thread::sleep(SAMPLE_INTERVAL);
        }
        for found in threads().filter_map(|thread| awake(&thread)).take(LIMIT) {
            let (known, last) = deepest.entry(found.tid).or_insert_with(|| (found.clone(), 0));
            known.awake += 1;
            *last = found.slept;
            if found.stack.lines().count() > known.stack.lines().count() {
                known.stack = found.stack;
            }
        }
    }
    let sleeps = |(task, last): (Running, u64)| Running { slept: last.saturating_sub(task.slept), ..task };
    deepest.into_values().map(sleeps).take(RUNNING_LIMIT).collect()
}

/// The thread of this folder with its stack, if it runs and isn't ours.
fn awake(thread: &Path) -> Option<Running> {
    let status = fs::read_to_string(thread.join("status")).ok()?;
    let tgid = field(&status, "Tgid")?.parse().ok()?;
    if tgid == std::process::id() || !field(&status, "State")?.starts_with('R') {
        return None;
    }
    let stack = fs::read_to_string(thread.join("stack")).ok()?;
    Some(Running {
        tid: field(&status, "Pid")?.parse().ok()?,
        tgid,
        comm: field(&status, "Name")?.to_owned(),
        stack,
        awake: 0,
        samples: SAMPLES,
        slept: field(&status, "voluntary_ctxt_switches")?.parse().ok()?,
    })
}

fn threads() -> impl Iterator<Item = PathBuf> {
    numbered(Path::new("/proc")).flat_map(|process| numbered(&process.join("task")))
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

fn numbered(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit)).map(|entry| entry.path())
}

/// The task of a `status` file, if it has a pending SIGKILL and still lives.
fn parse(status: &str) -> Option<Dying> {
    let field = |name: &str| field(status, name);
    let mask = |name: &str| field(name).and_then(|mask| u64::from_str_radix(mask, 16).ok()).unwrap_or(0);
    if (mask("SigPnd") | mask("ShdPnd")) & KILL == 0 {
        return None;
    }
    let state = field("State")?.chars().next()?;
    // A zombie has died; that nobody waits for it is no hang.
    let dead = matches!(state, 'Z' | 'X' | 'x');
    (!dead).then_some(Dying {
        tid: field("Pid")?.parse().ok()?,
        tgid: field("Tgid")?.parse().ok()?,
        comm: field("Name")?.to_owned(),
        state,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\text4-oom\nUmask:\t0022\nState:\tD (disk sleep)\nTgid:\t97\nNgid:\t0\nPid:\t99\nPPid:\t90\nSigQ:\t1/7\n\
        SigPnd:\t0000000000000100\nShdPnd:\t0000000000000000\nSigBlk:\t0000000000000000\n";

    #[test]
    fn a_pending_kill_is_found_in_either_mask() {
        let expected = Dying { tid: 99, tgid: 97, comm: "ext4-oom".into(), state: 'D' };
        assert_eq!(parse(STATUS), Some(expected.clone()));
        let shared = STATUS
            .replace("SigPnd:\t0000000000000100", "SigPnd:\t0000000000000000")
            .replace("ShdPnd:\t0000000000000000", "ShdPnd:\t0000000000004100");
        assert_eq!(parse(&shared), Some(expected));
    }

    #[test]
    fn other_signals_and_the_dead_do_not_count() {
        assert_eq!(parse(&STATUS.replace("00000100", "00004000")), None);
        assert_eq!(parse(&STATUS.replace("State:\tD (disk sleep)", "State:\tZ (zombie)")), None);
        assert_eq!(parse(""), None);
    }
}
