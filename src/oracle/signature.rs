//! Which lines of a console are events, and of what kind: a table.
//!
//! A row is a pattern and a kind; `tests/console/` has a log that matches and a near miss that doesn't for every row. The first event is the
//! cause, what follows is a consequence: so a classifier returns events in order and never picks "the worst". It doesn't decide what a trial
//! showed; [`super::judge`] does.
//!
//! Read [`TABLE`] first, then [`classify`].

use std::sync::LazyLock;

use regex::Regex;

/// What a console line tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The kernel can't go on: oops, BUG, panic.
    Crash,
    /// A panic that only reports a hang (`hung_task: blocked tasks`, `softlockup: hung tasks`).
    HangPanic,
    /// A CPU or the scheduler is stuck: soft or hard lockup, RCU stall, workqueue lockup.
    Lockup,
    /// khungtaskd saw a task that is blocked. A symptom: passing kernels print it too.
    Blocked,
    /// A memory-cgroup OOM kill.
    OomKill,
    /// The filesystem or its journal reports an error.
    Filesystem,
    /// The journal had no memory, and tries again.
    Memory,
    /// Memory or the kernel's own data isn't what it should be, and the kernel goes on with it.
    Damage,
    /// A warning of the kernel.
    Warning,
    /// The kernel's first line.
    Banner,
}

/// A row of the table.
#[derive(Debug)]
pub struct Signature {
    /// Stable name, used in reports and as the corpus's file names.
    pub name: &'static str,
    /// What it tells.
    pub kind: Kind,
    /// The line, after its prefix was removed.
    pub pattern: &'static str,
    /// The kernel's source file that prints it.
    pub printed_by: &'static str,
}

/// All rows; the first that matches wins. Sources: kernel/hung_task.c and so on, of 3.10.0-1160.el7 and 6.1, as the last column says.
pub const TABLE: &[Signature] = &[
    row("panic-hung-task", Kind::HangPanic, r"^Kernel panic - not syncing: hung_task: blocked tasks", "kernel/hung_task.c"),
    row("panic-softlockup", Kind::HangPanic, r"^Kernel panic - not syncing: softlockup: hung tasks", "kernel/watchdog.c"),
    row(
        "panic-hard-lockup",
        Kind::HangPanic,
        r"^Kernel panic - not syncing: (?:Watchdog detected )?[Hh]ard LOCKUP",
        "kernel/watchdog_hld.c",
    ),
    row("panic-rcu-stall", Kind::HangPanic, r"^Kernel panic - not syncing: RCU Stall", "kernel/rcu/tree_stall.h"),
    row("panic", Kind::Crash, r"^Kernel panic - not syncing: .*", "kernel/panic.c"),
    row(
        "null-pointer",
        Kind::Crash,
        r"^BUG: (?:unable to handle kernel NULL pointer dereference|kernel NULL pointer dereference, address:).*",
        "arch/x86/mm/fault.c",
    ),
    row("page-fault", Kind::Crash, r"^BUG: unable to handle (?:kernel paging request at|page fault for address:).*", "arch/x86/mm/fault.c"),
    row("general-protection", Kind::Crash, r"^general protection fault.*", "arch/x86/kernel/traps.c"),
    row("kernel-bug", Kind::Crash, r"^kernel BUG at .+:\d+!", "lib/bug.c"),
    row("oops", Kind::Crash, r"^\S.*: [0-9a-f]{4} \[#\d+\].*", "arch/x86/kernel/dumpstack.c"),
    row("atomic", Kind::Crash, r"^BUG: scheduling while atomic.*", "kernel/sched/core.c"),
    row("unknown-nmi", Kind::Crash, r"^Uhhuh\. NMI received for unknown reason.*", "arch/x86/kernel/nmi.c"),
    row(
        "soft-lockup",
        Kind::Lockup,
        r"^(?:NMI )?(?:watchdog: )?BUG: soft lockup - CPU#\d+ stuck for \d+s! \[.*:\d+\]",
        "kernel/watchdog.c",
    ),
    row("hard-lockup", Kind::Lockup, r"^(?:NMI )?(?:watchdog: )?Watchdog detected hard LOCKUP on cpu \d+", "kernel/watchdog_hld.c"),
    row(
        "rcu-stall",
        Kind::Lockup,
        r"^(?:rcu: )?INFO: rcu_\w+ (?:self-detected stall on CPU|detected (?:expedited )?stalls on CPUs/tasks)",
        "kernel/rcu/tree_stall.h",
    ),
    row("rcu-starved", Kind::Lockup, r"^(?:rcu: )?rcu_\w+ kthread starved for \d+ jiffies", "kernel/rcu/tree_stall.h"),
    row("workqueue", Kind::Lockup, r"^BUG: workqueue lockup - pool .* stuck for \d+s!", "kernel/workqueue.c"),
    row("hung-task", Kind::Blocked, r"^INFO: task .+:\d+ blocked (?:in I/O wait )?for more than \d+ seconds", "kernel/hung_task.c"),
    row("memcg-oom", Kind::OomKill, r"^Memory cgroup out of memory: Kill(?:ed)? process \d+ \(.+\)", "mm/oom_kill.c"),
    // What 3.10 says when the load takes the memory that it needs for a moment: seen in a healthy 3.10.0-514.el7 at a memory cgroup's limit.
    row("ext4-enomem", Kind::Warning, r"^EXT4-fs error \(device \S+\)(?::| in) \w+:\d+: Out of memory$", "fs/ext4/super.c"),
    row("ext4-error", Kind::Filesystem, r"^EXT4-fs error \(device \S+\)(?::| in) \w+:\d+: .*", "fs/ext4/super.c"),
    row("ext4-read-only", Kind::Filesystem, r"^EXT4-fs \(\S+\): Remounting filesystem read-only", "fs/ext4/super.c"),
    row(
        "jbd2-abort",
        Kind::Filesystem,
        r"^(?:JBD2: )?(?:Aborting journal on device \S+\.|Detected aborted journal|Detected IO errors .*while flushing file data)",
        "fs/jbd2/journal.c",
    ),
    row("jbd2-enomem", Kind::Memory, r"^(?:JBD2?: )?ENOMEM in \w+, retrying\.", "fs/jbd2/transaction.c"),
    row("sanitizer", Kind::Damage, r"^BUG: (?:KASAN|KFENCE|KMSAN): .*", "mm/kasan/report.c"),
    row(
        "bad-page",
        Kind::Damage,
        r"^BUG: Bad (?:page (?:state in process|map in process|cache in process)|rss-counter state) .*",
        "mm/page_alloc.c",
    ),
    row("slab", Kind::Damage, r"^BUG \S+ \((?:Not tainted|Tainted)[^)]*\): .*", "mm/slub.c"),
    row("list", Kind::Damage, r"^list_(?:add|del) corruption.*", "lib/list_debug.c"),
    row("warning", Kind::Warning, r"^WARNING: CPU: \d+ PID: \d+ at .*", "kernel/panic.c"),
    row("banner", Kind::Banner, r"^Linux version \S+", "init/main.c"),
];

const fn row(name: &'static str, kind: Kind, pattern: &'static str, printed_by: &'static str) -> Signature {
    Signature { name, kind, pattern, printed_by }
}

/// A line that matched a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Match<'a> {
    /// The row's name.
    pub name: &'static str,
    /// What it tells.
    pub kind: Kind,
    /// The part of the line that matched.
    pub title: &'a str,
}

/// `<6>[   12.345678][  T123] `: level, time, and caller, each optional.
static PREFIX: LazyLock<Regex> = LazyLock::new(|| compiled(r"^(?:<\d+>)?(?:\[\s*\d+\.\d+\](?:\[\s*[TC]\s*\d+\])?\s?)?"));

static PATTERNS: LazyLock<Vec<Regex>> = LazyLock::new(|| TABLE.iter().map(|row| compiled(row.pattern)).collect());

#[expect(clippy::expect_used, reason = "the patterns are constants and a test compiles each")]
pub(super) fn compiled(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a constant pattern is a regular expression")
}

/// A console line without level, time and caller.
#[must_use]
pub fn without_prefix(line: &str) -> &str {
    PREFIX.find(line).map_or(line, |prefix| &line[prefix.end()..])
}

/// The row that a console line matches.
#[must_use]
pub fn classify(line: &str) -> Option<Match<'_>> {
    let text = without_prefix(line);
    let (row, found) = TABLE.iter().zip(PATTERNS.iter()).find_map(|(row, pattern)| Some((row, pattern.find(text)?)))?;
    Some(Match { name: row.name, kind: row.kind, title: found.as_str().trim_end() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every row has a folder entry `tests/console/NAME.hit` and `NAME.miss`: lines that the row must match, and lines near by that it must not.
    #[test]
    fn every_row_matches_its_corpus_and_not_its_near_misses() {
        let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/console");
        for row in TABLE {
            let lines = |kind: &str| {
                let path = corpus.join(format!("{}.{kind}", row.name));
                std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
            };
            for line in lines("hit").lines() {
                assert_eq!(classify(line).map(|found| found.name), Some(row.name), "{line}");
            }
            for line in lines("miss").lines() {
                assert_ne!(classify(line).map(|found| found.name), Some(row.name), "{line}");
            }
        }
    }

    #[test]
    fn prefixes_are_removed() {
        for line in ["<6>[   12.345678] text", "[    0.000000] text", "[  3.5][  T123] text", "[ 3.5][    C1] text", "text"] {
            assert_eq!(without_prefix(line), "text", "{line}");
        }
        assert_eq!(without_prefix("[<ffffffff816a94e9>] schedule"), "[<ffffffff816a94e9>] schedule");
    }
}
