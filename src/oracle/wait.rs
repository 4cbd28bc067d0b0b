//! The closed wait of the founding bug, read from one look at the tasks.
//!
//! A commit waits for a handle to be closed; the handle's holder runs, and retries a page-cache charge to its memory cgroup; the charge fails
//! until a task that was told to die is gone; that task waits for the commit, or is the holder itself. Nobody outside this ring can end it. A task
//! that *sleeps* in reclaim below such a charge, if only between two tries, is not a holder in this sense: kernels without the bug look like that for
//! tens of seconds, with the same frames, and recover (facts/the-bug.md, last table). One look proves nothing: see [`ClosedWait::lasts`].
//!
//! Read [`ClosedWait`] first.

use std::collections::BTreeSet;

use hangproof_wire::{Look, Running};
use serde::{Deserialize, Serialize};

use super::tasks::{self, Task};

/// Where a commit waits for its handles: the journal thread, on all kernels from 3.10 on.
const COMMIT: &str = "jbd2_journal_commit_transaction";

/// Where a task waits for a commit: `fsync`, or the start of a handle while the transaction is locked.
const WAITS_FOR_COMMIT: &[&str] = &["jbd2_log_wait_commit", "wait_transaction_locked"];

/// Where a buffer's page is asked for, again and again: 3.10 has `grow_dev_page` and `free_more_memory`, later kernels inline them.
pub(super) const RETRIES: &[&str] = &[
    "free_more_memory",
    "grow_dev_page",
    "grow_buffers",
    "__getblk_slow",
    "__getblk",
    "__getblk_gfp",
    "bdev_getblk",
    "alloc_page_buffers",
];

/// Prefixes of the functions below which a handle is held.
const HOLDS_HANDLE: &[&str] = &["ext4_", "__ext4_", "jbd2_journal_get_"];

/// Where reclaim sleeps: whoever is here gets on, if slowly. Not `wait_iff_congested`: 3.10 only yields there while no device is congested.
const SLEEPS_IN_RECLAIM: &[&str] = &["reclaim_throttle", "congestion_wait", "mem_cgroup_oom_synchronize"];

/// A task, as far as two looks are compared by it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Party {
    /// Thread identifier.
    pub tid: u32,
    /// Name.
    pub comm: String,
}

/// The ring in one look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ClosedWait {
    /// The journal thread, in a commit.
    pub journal: Party,
    /// Tasks that run, hold a handle, and retry a buffer's page.
    pub holders: BTreeSet<Party>,
    /// Tasks that were told to die and can't: holders, or waiting for the commit.
    pub dying: BTreeSet<Party>,
    /// How many tasks wait for the commit: victims, not culprits.
    pub waiters: usize,
}

impl ClosedWait {
    /// Finds the ring in a look.
    #[must_use]
    pub fn find(look: &Look) -> Option<Self> {
        Self::find_in(look, &tasks::parse(&look.log))
    }

    /// The same, when the look's log was read already.
    #[must_use]
    pub fn find_in(look: &Look, asleep: &[Task]) -> Option<Self> {
        let journal = asleep.iter().find(|task| task.comm.starts_with("jbd2/") && task.state == 'D' && task.is_in(COMMIT))?;
        let holders: BTreeSet<Party> = spinning(look).iter().filter(|task| is_holder(task)).map(party).collect();
        let waiting: BTreeSet<Party> = asleep.iter().filter(|task| waits_for_commit(task)).map(party).collect();
        let dying: BTreeSet<Party> = look
            .dying
            .iter()
            .map(|task| Party { tid: task.tid, comm: task.comm.clone() })
            .filter(|task| holders.contains(task) || waiting.contains(task))
            .collect();
        let closed = !holders.is_empty() && !dying.is_empty();
        closed.then(|| Self { journal: party(journal), waiters: waiting.len(), holders, dying })
    }

    /// What is the same in a later look, if it is still a ring.
    #[must_use]
    pub fn lasts(&self, later: &Self) -> Option<Self> {
        let same = |a: &BTreeSet<Party>, b: &BTreeSet<Party>| a.intersection(b).cloned().collect::<BTreeSet<_>>();
        let (holders, dying) = (same(&self.holders, &later.holders), same(&self.dying, &later.dying));
        let closed = self.journal == later.journal && !holders.is_empty() && !dying.is_empty();
        closed.then(|| Self { journal: later.journal.clone(), holders, dying, waiters: later.waiters })
    }

    /// One line that says who waits for whom.
    #[must_use]
    pub fn title(&self) -> String {
        let retry = if self.holders.len() == 1 { "which retries" } else { "which retry" };
        format!(
            "{} waits in a commit for {}, {retry} a memory-cgroup charge with a handle open; killed and can't die: {}; {} wait for the commit",
            self.journal.comm,
            listed(&self.holders),
            listed(&self.dying),
            self.waiters,
        )
    }
}

/// The first parties by name and number, and how many more there are.
fn listed(parties: &BTreeSet<Party>) -> String {
    const SHOWN: usize = 3;
    let names: Vec<String> = parties.iter().take(SHOWN).map(|party| format!("{}:{}", party.comm, party.tid)).collect();
    let more = parties.len().saturating_sub(SHOWN);
    if more == 0 { names.join(", ") } else { format!("{} and {more} more", names.join(", ")) }
}

/// Of a look's samples, the share in which a task has to be awake to count as spinning. A healthy kernel under pressure sleeps 100 ms between two tries
/// of a charge and is seen awake now and then; a holder that spins is seen awake in nearly every sample: giving up the CPU (`yield`, `cond_resched`) isn't
/// sleeping, to the scheduler's counters either.
const SPINS: f64 = 0.75;

/// Of a look's samples, the share in which it may have gone to sleep since the one before. On 6.1 it never does; on 3.10 it waits a moment now and then for
/// a mutex of reclaim (`vmpressure`) that all tasks of the cgroup take: 2 and 3 times in 20 samples in 3.10.0-1160.el7.
const SLEEPS: f64 = 0.2;

/// The tasks that run all the time, with the stacks that the agent sampled.
pub(super) fn spinning(look: &Look) -> Vec<Task> {
    let awake = |task: &Running| f64::from(task.awake) >= SPINS * f64::from(task.samples.max(1));
    let restless = |task: &Running| task.slept as f64 <= SLEEPS * f64::from(task.samples);
    look.running.iter().filter(|task| awake(task) && restless(task)).map(task_of).collect()
}

/// The tasks that were seen running, if only once.
pub(super) fn running(look: &Look) -> Vec<Task> {
    look.running.iter().map(task_of).collect()
}

fn task_of(task: &Running) -> Task {
    Task::with_stack(task.tid, &task.comm, 'R', &task.stack)
}

/// Whether a task waits for a commit, or for a locked transaction.
pub(super) fn waits_for_commit(task: &Task) -> bool {
    task.is_in_any(WAITS_FOR_COMMIT)
}

/// Whether a task asks for a buffer's page with a handle open, asleep or not.
pub(super) fn retries_with_handle(task: &Task) -> bool {
    let Some(retries) = task.frames.iter().position(|frame| RETRIES.contains(&frame.as_str())) else { return false };
    task.frames[retries..].iter().any(|frame| HOLDS_HANDLE.iter().any(|prefix| frame.starts_with(prefix)))
}

fn is_holder(task: &Task) -> bool {
    retries_with_handle(task) && !task.is_in_any(SLEEPS_IN_RECLAIM)
}

fn party(task: &Task) -> Party {
    Party { tid: task.tid, comm: task.comm.clone() }
}
