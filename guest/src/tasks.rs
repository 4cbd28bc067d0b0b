//! Tasks that were told to die and have not, from `/proc/*/task/*/status`.
//!
//! It reads nothing else of a task: `cmdline`, `maps` and `environ` need the memory map's lock, `stack` needs `exec_update_lock`, and a hung task may
//! hold either; `status` takes spin locks only (`fs/proc/array.c`).

use std::fs;
use std::path::Path;

use hangproof_wire::Dying;

/// Most tasks that are listed.
pub const LIMIT: usize = 4096;

/// SIGKILL in a pending mask: signal 9 is bit 8.
const KILL: u64 = 1 << 8;

/// All tasks with a pending SIGKILL.
pub fn dying() -> Vec<Dying> {
    let threads = numbered(Path::new("/proc")).flat_map(|process| numbered(&process.join("task")));
    threads.filter_map(|thread| parse(&fs::read_to_string(thread.join("status")).ok()?)).take(LIMIT).collect()
}

fn numbered(folder: &Path) -> impl Iterator<Item = std::path::PathBuf> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit)).map(|entry| entry.path())
}

/// The task of a `status` file, if it has a pending SIGKILL and still lives.
fn parse(status: &str) -> Option<Dying> {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
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
