//! Reads the task lists that sysrq `w`, `t` and `l` print: who is where.
//!
//! Both of EL7's and today's formats are read. Frames that the unwinder marks as guesses (`? name`) are dropped, and so are the scheduler's and the
//! wait helpers', which say nothing; compiler suffixes (`.isra.0`, `.part.3`) are cut off, so that stacks of several kernels compare. What a stack means
//! is not decided here.
//!
//! Read [`Task`] first.

use std::sync::LazyLock;

use regex::Regex;

use super::signature::{compiled, without_prefix};

/// A task in a task list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Thread identifier.
    pub tid: u32,
    /// Its name.
    pub comm: String,
    /// State letter: `R`, `S`, `D`, ...
    pub state: char,
    /// The stack, innermost frame first.
    pub frames: Vec<String>,
    /// It is a thread of the kernel: its stack begins in `kthread`.
    pub is_kernel_thread: bool,
}

impl Task {
    /// A task whose stack is a bare one, as `/proc/PID/stack` shows it.
    #[must_use]
    pub fn with_stack(tid: u32, comm: &str, state: char, stack: &str) -> Self {
        let mut task = Self { tid, comm: comm.to_owned(), state, frames: Vec::new(), is_kernel_thread: false };
        stack.lines().for_each(|line| task.add(line));
        task
    }

    /// Takes a line of the stack.
    fn add(&mut self, line: &str) {
        let Some(name) = frame(line) else { return };
        self.is_kernel_thread |= name == KERNEL_THREAD;
        if !SILENT.contains(&name) {
            self.frames.push(name.to_owned());
        }
    }

    /// Whether the stack has this function.
    #[must_use]
    pub fn is_in(&self, function: &str) -> bool {
        self.frames.iter().any(|frame| frame == function)
    }

    /// Whether the stack has one of these functions.
    #[must_use]
    pub fn is_in_any(&self, functions: &[&str]) -> bool {
        functions.iter().any(|function| self.is_in(function))
    }
}

/// 5.x and later: `task:NAME state:D stack:0 pid:12 ppid:2 flags:0x...`; the name may have blanks.
static TODAY: LazyLock<Regex> = LazyLock::new(|| compiled(r"^task:(.*?)\s+state:(\S)\s.*?\bpid:\s*(\d+)"));

/// EL7: `%-15.15s %c %016lx %5lu %5d %6d 0x%08lx`: name, state, address or the words "running task", free stack, pid, parent, flags.
static EL7: LazyLock<Regex> = LazyLock::new(|| {
    compiled(r"^(\S.{0,14}?)\s+([RSDTtXZPKWxIN])\s+(?:[0-9a-f]{16}|running task)\s+\d+\s+(\d+)\s+\d+\s+0x[0-9a-f]{8}\s*$")
});

/// sysrq `l`: `CPU: 1 PID: 345 Comm: ext4-oom Not tainted 6.1`.
static ON_CPU: LazyLock<Regex> =
    LazyLock::new(|| compiled(r"^CPU: \d+ (?:UID: \d+ )?PID: (\d+) Comm: (.*?) (?:Not tainted|Tainted:|Kdump:)"));

/// `[<address>] ? name.isra.0+0x1/0x2`, with or without the address, the question mark and the suffix.
static FRAME: LazyLock<Regex> =
    LazyLock::new(|| compiled(r"^\s*(?:\[<[0-9a-f]+>\]\s*)?(\?\s+)?([A-Za-z_]\w*)(?:\.[\w.]+)?\+0x[0-9a-f]+/0x[0-9a-f]+"));

/// Where the kernel's own threads begin.
const KERNEL_THREAD: &str = "kthread";

/// Functions that every sleeping stack has.
const SILENT: &[&str] = &[
    "__schedule",
    "schedule",
    "schedule_timeout",
    "io_schedule",
    "io_schedule_timeout",
    "schedule_preempt_disabled",
    "preempt_schedule",
    "preempt_schedule_common",
    "preempt_schedule_irq",
    "_cond_resched",
    "__cond_resched",
    "dump_stack",
    "dump_stack_lvl",
    "show_stack",
    "ret_from_fork",
    "ret_from_fork_asm",
    KERNEL_THREAD,
    "entry_SYSCALL_64_after_hwframe",
    "do_syscall_64",
    "system_call_fastpath",
];

/// The tasks of a log, in order. A task that is listed more than once (in `w`, in `t`, and in `l` as running) has more than one entry.
#[must_use]
pub fn parse(log: &str) -> Vec<Task> {
    let mut tasks: Vec<Task> = Vec::new();
    // Frames belong to the head line before them; a line of another kind between them is an interleaved message.
    let mut open = false;
    for line in log.lines() {
        let text = without_prefix(line);
        if let Some(task) = head(text) {
            tasks.push(task);
            open = true;
        } else if text.starts_with("NMI backtrace for cpu") || text.starts_with("sysrq:") || text.starts_with("SysRq :") {
            open = false;
        } else if let (true, Some(task)) = (open, tasks.last_mut()) {
            task.add(text);
        }
    }
    tasks
}

/// The function of a stack's line; none for guesses.
fn frame(text: &str) -> Option<&str> {
    let found = FRAME.captures(text)?;
    if found.get(1).is_some() { None } else { Some(found.get(2)?.as_str()) }
}

fn head(text: &str) -> Option<Task> {
    let task = |comm: &str, state: &str, tid: &str| Some(Task::with_stack(tid.parse().ok()?, comm, state.chars().next()?, ""));
    if let Some(found) = TODAY.captures(text).or_else(|| EL7.captures(text)) {
        return task(&found[1], &found[2], &found[3]);
    }
    let found = ON_CPU.captures(text)?;
    task(&found[2], "R", &found[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_are_read() {
        let today = "\
[   52.1] sysrq: Show Blocked State
[   52.1] task:jbd2/md127-8    state:D stack:0     pid:98    ppid:2      flags:0x00004000
[   52.1] Call Trace:
[   52.1]  <TASK>
[   52.1]  __schedule+0x1fa/0x7d0
[   52.1]  ? prepare_to_wait+0x1/0x2
[   52.1]  jbd2_journal_wait_updates.isra.0+0x6e/0xd0
[   52.1]  jbd2_journal_commit_transaction+0x2d6/0x1a70
[   52.1]  </TASK>
[   52.1] task:a name with blanks state:R  running task     stack:0     pid:120   ppid:1      flags:0x00004002";
        let tasks = parse(today);
        assert_eq!(tasks.len(), 2);
        assert_eq!((tasks[0].tid, tasks[0].state), (98, 'D'));
        assert_eq!(tasks[0].frames, ["jbd2_journal_wait_updates", "jbd2_journal_commit_transaction"]);
        assert_eq!((tasks[1].comm.as_str(), tasks[1].tid, tasks[1].state), ("a name with blanks", 120, 'R'));

        let el7 = "\
[  152.1] jbd2/md127-8    D ffff88003d1a8000     0   345      2 0x00000000
[  152.1]  ffff88003bb0fcd0 0000000000000046 ffff88003d1a8000 ffff88003bb0ffd8
[  152.1] Call Trace:
[  152.1]  [<ffffffff816ab8a9>] schedule+0x29/0x70
[  152.1]  [<ffffffffc02d2a32>] jbd2_journal_commit_transaction+0x242/0x19a0 [jbd2]
[  152.1]  [<ffffffff810b1910>] ? wake_up_atomic_t+0x30/0x30
[  152.1] ext4-oom        R  running task        0   400    390 0x00000084";
        let tasks = parse(el7);
        assert_eq!(tasks.len(), 2);
        assert_eq!((tasks[0].comm.as_str(), tasks[0].tid), ("jbd2/md127-8", 345));
        assert_eq!(tasks[0].frames, ["jbd2_journal_commit_transaction"]);
        assert_eq!((tasks[1].tid, tasks[1].state), (400, 'R'));
    }

    #[test]
    fn a_running_task_comes_from_the_backtrace_of_its_cpu() {
        let log = "\
[   60.0] NMI backtrace for cpu 1
[   60.0] CPU: 1 PID: 120 Comm: ext4-oom Not tainted 6.1.192 #1
[   60.0] RIP: 0010:__find_get_block+0x1b/0x300
[   60.0] Call Trace:
[   60.0]  <TASK>
[   60.0]  __getblk_gfp+0x2b/0x2f0
[   60.0]  ext4_getblk+0x8a/0x2b0";
        let tasks = parse(log);
        assert_eq!(tasks[0].frames, ["__getblk_gfp", "ext4_getblk"]);
    }

    proptest::proptest! {
        #[test]
        fn any_log_is_read_without_panic(log: String) {
            let _ = parse(&log);
        }
    }
}
