//! Which hang it is: who is stuck where, in words that two trials and two kernels share.
//!
//! A task list names numbers, devices, offsets and whoever happened to be around; two trials of one deadlock differ in all of them. So each stuck task
//! becomes a [`Stand`]: its kind, what it waits for, and the innermost function that says something. Those who wait for a blocked journal are victims: they
//! look the same in every hang of the filesystem and don't count as long as anybody else is stuck. Whether it *is* a hang is not decided here; a healthy
//! kernel under pressure has stands too.
//!
//! Read [`Signature`] first, then [`Signature::is_like`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use hangproof_wire::Look;
use serde::{Deserialize, Serialize};

use super::tasks::{self, Task};
use super::wait;
use crate::spec::{HangSignature, StuckTask};

/// What a hang looks like, whichever tasks it met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Signature {
    /// Eight hexadecimal digits, the same for the same core.
    pub id: String,
    /// The core in one line.
    pub title: String,
    /// Everybody's roles are known: commit, handle, charge, killed task.
    pub ring: bool,
    /// Who is stuck where, victims included.
    pub stands: BTreeSet<Stand>,
}

/// Where tasks of one kind are stuck.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Stand {
    /// A kernel thread's name without numbers and devices (`jbd2/*`, `loop*`); `task` for any other task, whose name is the reproducer's choice.
    pub who: String,
    /// What it waits for.
    pub why: Why,
    /// The innermost function that says something, by its name on today's kernels.
    pub place: String,
}

/// What a stuck task waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// For somebody to wake it.
    Event,
    /// For a disk, or for a page or buffer on its way there.
    Io,
    /// For a mutex or a semaphore.
    Lock,
    /// For room in its memory cgroup.
    Charge,
    /// For room in memory.
    Memory,
}

/// Whether a hang is the one that the pipeline describes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Likeness {
    /// Every task of the description is there.
    Same,
    /// These are not; each in the pipeline's words.
    Different(Vec<String>),
}

/// The stuck tasks of a look, and the running ones: one that holds up the others needn't sleep.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stuck {
    tasks: Vec<(String, Vec<String>)>,
    stands: BTreeSet<Stand>,
    ring: bool,
}

/// From this share of common culprits on, two hangs without a known ring are the same. The nearest of the misses in `tests/hangs`, a handle that leaked,
/// shares one culprit, the commit, with the founding bug, and each has another one at least.
const ALIKE: f64 = 0.5;

/// Functions of a sleep, by how their names begin; whoever called them is meant. With them, what is waited for.
const SLEEPS: &[(&str, Why)] = &[
    ("bit_wait_io", Why::Io),
    ("bit_wait", Why::Event),
    ("out_of_line_wait_on_", Why::Event),
    ("wait_on_page_", Why::Io),
    ("__wait_on_page_", Why::Io),
    ("wait_on_buffer", Why::Io),
    ("__wait_on_buffer", Why::Io),
    ("folio_wait_", Why::Io),
    ("sleep_on_", Why::Io),
    ("__wait_on_", Why::Event),
    ("wait_on_", Why::Event),
    ("io_schedule", Why::Io),
    ("schedule", Why::Event),
    ("wait_for_completion", Why::Event),
    ("wait_for_common", Why::Event),
    ("__wait_for_common", Why::Event),
    ("mutex_lock", Why::Lock),
    ("__mutex_lock", Why::Lock),
    ("rwsem_down_", Why::Lock),
    ("call_rwsem_down_", Why::Lock),
    ("down_", Why::Lock),
    ("__down", Why::Lock),
];

/// Functions of reclaim and of the page cache, by how their names begin; whoever wanted the memory is meant.
const MEMORY: &[&str] = &[
    "reclaim_throttle",
    "congestion_wait",
    "wait_iff_congested",
    "shrink_",
    "do_shrink_",
    "do_try_to_free_pages",
    "try_to_free_",
    "isolate_lru_",
    "throttle_direct_reclaim",
    "__alloc_pages",
    "alloc_pages",
    "yield",
    "out_of_memory",
    "pagecache_get_page",
    "find_or_create_page",
    "filemap_add_folio",
    "__filemap_add_folio",
    "__filemap_get_folio",
    "add_to_page_cache_",
    "__add_to_page_cache_",
];

/// The same in a charge to a memory cgroup.
const CHARGE: &[&str] = &["try_charge", "charge_memcg", "mem_cgroup_", "__mem_cgroup_", "memcg_"];

/// Where a system call, an interrupt or a thread begins: says nothing about the wait.
const ENTRIES: &[&str] =
    &["entry_", "x64_sys_call", "do_syscall_", "system_call", "tracesys", "asm_exc_", "kthread", "worker_thread", "process_one_work"];

/// Who waits for the journal: victims when that itself is blocked.
const VICTIMS: &[&str] = &["jbd2_log_wait_commit", "wait_transaction_locked"];

/// Another name for the same place. Kernels up to 5.18 wait for handles in the commit itself, and 3.10.0-693 for a locked transaction in the start of
/// a handle.
const OTHER_NAMES: &[(&str, &str)] =
    &[("jbd2_journal_wait_updates", "jbd2_journal_commit_transaction"), ("start_this_handle", "wait_transaction_locked")];

/// A page fault, whichever function of it is seen.
const PAGE_FAULT: &[&str] =
    &["handle_mm_fault", "__handle_mm_fault", "handle_pte_fault", "do_anonymous_page", "exc_page_fault", "__do_page_fault"];

/// The founding bug's core: all roles of the ring, whoever plays them.
const RING: &str = "a commit waits for a handle, its holder for a memory-cgroup charge, the charge for a killed task, that for the commit";

impl Stuck {
    /// The stuck tasks of a look.
    #[must_use]
    pub fn of(look: &Look, asleep: &[Task]) -> Self {
        let running = wait::running(look);
        let dying: BTreeSet<u32> = look.dying.iter().map(|task| task.tid).collect();
        Self::from_tasks(asleep, &running, &wait::spinning(look), &dying, &wait::forced(look))
    }

    /// The stuck tasks of the reports that khungtaskd writes to the console.
    #[must_use]
    pub fn reported(console: &str) -> Self {
        Self::from_tasks(&tasks::parse(console), &[], &[], &BTreeSet::new(), &BTreeSet::new())
    }

    /// `spinning` tasks are stuck as sleeping ones are; one that runs and sleeps by turns can hold a handle all the same. One whose charge is `forced`
    /// isn't the ring's.
    fn from_tasks(listed: &[Task], running: &[Task], spinning: &[Task], dying: &BTreeSet<u32>, forced: &BTreeSet<u32>) -> Self {
        let asleep: BTreeMap<u32, &Task> = listed.iter().filter(|task| task.state == 'D').map(|task| (task.tid, task)).collect();
        let stuck = || asleep.values().copied().chain(spinning);
        let journal =
            asleep.values().any(|task| task.comm.starts_with("jbd2/") && Stand::of(task).is_some_and(|stand| stand.waits_for_handles()));
        let awake = || listed.iter().filter(|task| task.state == 'R').chain(running);
        let all = || asleep.values().copied().chain(awake());
        let holding = || all().filter(|task| wait::retries_with_handle(task) && !forced.contains(&task.tid));
        let holders: BTreeSet<u32> = holding().map(|task| task.tid).collect();
        let locked = holding().any(wait::locks_buffer);
        let waits = |task: &&Task| wait::waits_for_commit(task) || (locked && wait::waits_for_buffer(task));
        let dies = dying.iter().any(|tid| holders.contains(tid) || asleep.get(tid).is_some_and(waits));
        Self {
            tasks: all().map(|task| (task.comm.clone(), task.frames.iter().map(|frame| canonical(frame)).collect())).collect(),
            stands: stuck().filter_map(Stand::of).collect(),
            ring: journal && !holders.is_empty() && dies,
        }
    }
}

impl Stand {
    fn of(task: &Task) -> Option<Self> {
        let begins = |frame: &str, names: &[&str]| names.iter().any(|name| frame.starts_with(name));
        let mut why = Why::Event;
        for frame in &task.frames {
            let sleep = SLEEPS.iter().find(|(name, _)| frame.starts_with(name));
            if let Some((_, kind)) = sleep {
                why = why.max(*kind);
            } else if begins(frame, CHARGE) {
                why = Why::Charge;
            } else if begins(frame, MEMORY) {
                why = if why == Why::Charge { why } else { Why::Memory };
            } else if !begins(frame, ENTRIES) {
                return Some(Self { who: who(task), why, place: canonical(frame) });
            }
        }
        None
    }

    fn waits_for_handles(&self) -> bool {
        self.why == Why::Event && self.place == "jbd2_journal_commit_transaction"
    }

    fn is_victim(&self) -> bool {
        VICTIMS.contains(&self.place.as_str())
    }
}

/// A function by its name on today's kernels.
fn canonical(frame: &str) -> String {
    let call = ["__x64_sys_", "__se_sys_", "__do_sys_", "SYSC_", "SyS_", "ksys_"].iter().find_map(|prefix| frame.strip_prefix(prefix));
    if let Some(call) = call {
        return format!("sys_{call}");
    }
    if wait::RETRIES.contains(&frame) {
        return "__getblk".to_owned();
    }
    if PAGE_FAULT.contains(&frame) {
        return "page fault".to_owned();
    }
    OTHER_NAMES.iter().find(|(other, _)| *other == frame).map_or(frame, |(_, name)| name).to_owned()
}

/// `jbd2/md127-8` is `jbd2/*`, `loop0` is `loop*`; what isn't a kernel thread is a `task`.
fn who(task: &Task) -> String {
    if !task.is_kernel_thread {
        return "task".to_owned();
    }
    if let Some((kind, _)) = task.comm.split_once('/') {
        return format!("{kind}/*");
    }
    let mut name = String::new();
    for c in task.comm.chars() {
        match c {
            '0'..='9' if name.ends_with('*') => {}
            '0'..='9' => name.push('*'),
            c => name.push(c),
        }
    }
    name
}

impl Signature {
    /// The signature of a hang of which `looks` were taken while nothing moved; `title` stands for it when nobody was seen.
    #[must_use]
    pub fn of<'a>(looks: impl IntoIterator<Item = &'a Stuck>, title: &str) -> Self {
        let (mut stands, mut ring) = (BTreeSet::new(), false);
        for look in looks {
            stands.extend(look.stands.iter().cloned());
            ring |= look.ring;
        }
        let core: Vec<String> = culprits(&stands).into_iter().map(Stand::to_string).collect();
        let title = match (ring, core.is_empty()) {
            (true, _) => RING.to_owned(),
            (false, true) => without_numbers(title),
            (false, false) => core.join("; "),
        };
        let id = blake3::hash(title.as_bytes()).to_hex()[..8].to_owned();
        Self { id, title, ring, stands }
    }

    /// Whether two trials hung in the same way: the same core, or at least half of the culprits' stands in common.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        if self.id == other.id {
            return true;
        }
        let (ours, theirs) = (culprits(&self.stands), culprits(&other.stands));
        let (common, all) = (ours.intersection(&theirs).count(), ours.union(&theirs).count());
        // A ring that only one of them shows may have been missed in the other, but then its holder was, and that is the culprit.
        self.ring == other.ring && common as f64 >= ALIKE * all.max(1) as f64
    }
}

/// Those who aren't victims; all, if all are.
fn culprits(stands: &BTreeSet<Stand>) -> BTreeSet<&Stand> {
    let culprits: BTreeSet<&Stand> = stands.iter().filter(|stand| !stand.is_victim()).collect();
    if culprits.is_empty() { stands.iter().collect() } else { culprits }
}

/// Addresses, process numbers and seconds differ from trial to trial.
fn without_numbers(title: &str) -> String {
    title.chars().map(|c| if c.is_ascii_digit() { '#' } else { c }).collect()
}

/// Compares the looks of a hang with the pipeline's description of it.
#[must_use]
pub fn likeness<'a>(expected: &HangSignature, looks: impl IntoIterator<Item = &'a Stuck>) -> Likeness {
    let seen: Vec<_> = looks.into_iter().flat_map(|look| &look.tasks).collect();
    let is_there = |wanted: &StuckTask| {
        let function = canonical(&wanted.function);
        seen.iter().any(|(comm, frames)| wanted.names(comm) && frames.contains(&function))
    };
    let missing: Vec<String> = expected.tasks.iter().filter(|task| !is_there(task)).map(StuckTask::to_string).collect();
    if missing.is_empty() { Likeness::Same } else { Likeness::Different(missing) }
}

impl fmt::Display for Stand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.why {
            Why::Event => "",
            Why::Io => ", for I/O",
            Why::Lock => ", for a lock",
            Why::Charge => ", for room in its memory cgroup",
            Why::Memory => ", for memory",
        };
        write!(f, "{} in {}{why}", self.who, self.place)
    }
}
