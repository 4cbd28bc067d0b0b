//! The closed wait of the founding bug, read from one look at the tasks.
//!
//! A commit waits for a handle to be closed; the handle's holder retries a page-cache charge to its memory cgroup; the charge fails until a task that was
//! told to die is gone; that task waits for the commit or for a buffer that the holder locked, or is the holder itself. Nobody outside this ring can end
//! it. That a task is in such a charge with a handle open is not enough: kernels without the bug look like that for tens of seconds, with the same frames,
//! because one charge tries 16 times to reclaim at up to 13 priorities and may sleep 100 ms at each, and then it is forced (facts/the-bug.md, last table).
//! What proves a holder is that it
//! *spins*, or that the kernel itself says of its tries to reclaim that they are made for a charge that may fail, without `__GFP_NOFAIL`. One look proves
//! nothing: see [`Ring::lasts`].
//!
//! Read [`Ring`] first, then [`ClosedWait`].

use std::collections::{BTreeMap, BTreeSet};

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

/// Where a task waits for a buffer's lock.
const WAITS_FOR_BUFFER: &str = "__lock_buffer";

/// Locks the buffer of an inode's block, and with it locked asks for the page of the inode bitmap's (fs/ext4/inode.c, from 3.10 to 6.1). Before, it asks for
/// that of the block itself, which no stack tells from the other: that the buffer is locked, and is the one that others wait for, is likely only. A charge that may
/// fail is what makes a ring of it.
const LOCKS_BUFFER: &str = "__ext4_get_inode_loc";

/// A try to make room for a charge.
const RECLAIM: &str = "try_to_free_mem_cgroup_pages";

/// From 6.7 on a buffer's page may be asked for once, by callers who can do without.
const GIVES_UP: &str = "bdev_getblk";

/// A charge with this flag is forced over the limit if nothing else helps; 3.10 prints it without the underscores.
const FORCED: &str = "GFP_NOFAIL";

/// Prefixes of the functions below which a handle is held.
const HOLDS_HANDLE: &[&str] = &["ext4_", "__ext4_", "jbd2_journal_get_"];

/// Where reclaim sleeps: whoever is here doesn't spin. Not `wait_iff_congested`: 3.10 only yields there while no device is congested.
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

/// A ring that stood in two looks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ClosedWait {
    /// The journal thread, in a commit.
    pub journal: Party,
    /// Tasks that hold a handle and retry a buffer's page.
    pub holders: BTreeSet<Party>,
    /// The flags of their charges, in the kernel's words, where it tells: none has `__GFP_NOFAIL`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub flags: BTreeSet<String>,
    /// Tasks that were told to die and can't: holders, or waiting for the commit or for a buffer that a holder locked.
    pub dying: BTreeSet<Party>,
    /// How many tasks wait for the commit: victims, not culprits.
    pub waiters: usize,
    /// How many wait for a buffer, of those that a holder may have locked.
    #[serde(default, skip_serializing_if = "is_nobody")]
    pub shut_out: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_nobody(tasks: &usize) -> bool {
    *tasks == 0
}

/// What a look shows of a ring: who may be in it, and of which holders it is certain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ring {
    journal: Party,
    holders: BTreeMap<Party, Charge>,
    waiting: BTreeSet<Party>,
    /// Tasks that wait for a buffer which some holder may have locked.
    shut_out: BTreeSet<Party>,
    dying: BTreeSet<Party>,
}

/// What a look says of the charges that a commit waits for, whoever dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charges {
    /// One of them fails if there is no room.
    MayFail,
    /// All are forced when they were tried often enough. A victim that they all wait for may keep them from that, but then it isn't the flag.
    Forced,
}

impl Charges {
    /// None if no commit waits, or not all of its charges are known.
    #[must_use]
    pub fn of(look: &Look, asleep: &[Task]) -> Option<Self> {
        journal(asleep)?;
        let holders = holders(look, asleep);
        if holders.values().any(|charge| charge.may_fail() && !charge.flags.is_empty()) {
            return Some(Self::MayFail);
        }
        (!holders.is_empty() && holders.values().all(Charge::is_forced)).then_some(Self::Forced)
    }
}

/// The journal thread, in a commit.
fn journal(asleep: &[Task]) -> Option<&Task> {
    asleep.iter().find(|task| task.comm.starts_with("jbd2/") && task.state == 'D' && task.is_in(COMMIT))
}

/// Who asks for a buffer's page with a handle open.
fn holders(look: &Look, asleep: &[Task]) -> BTreeMap<Party, Charge> {
    let mut holders: BTreeMap<Party, Charge> = BTreeMap::new();
    for task in asleep.iter().chain(&running(look)).filter(|task| retries_with_handle(task)) {
        let charge = holders.entry(party(task)).or_default();
        charge.reclaims |= task.is_in(RECLAIM) && !task.is_in(GIVES_UP);
        charge.locks |= locks_buffer(task);
    }
    for task in spinning(look).iter().filter(|task| spins_with_handle(task)) {
        holders.entry(party(task)).or_default().spins = true;
    }
    for (party, charge) in &mut holders {
        charge.is_noted = look.all_reclaims;
        for reclaim in look.reclaims.iter().filter(|reclaim| reclaim.tid == party.tid) {
            charge.flags.insert(reclaim.flags.clone());
            charge.tried |= reclaim.before > 0 && look.all_reclaims;
        }
    }
    holders
}

/// What is known of a holder's charge.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Charge {
    /// It runs all the time, and doesn't sleep in reclaim.
    spins: bool,
    /// It is in a try to reclaim.
    reclaims: bool,
    /// It may have locked a buffer that others ask for.
    locks: bool,
    /// The flags of the tries that were noted, and whether these are all and one of them began before the stacks were taken.
    flags: BTreeSet<String>,
    tried: bool,
    /// The kernel notes all tries, so that one that retries all the time has one among them.
    is_noted: bool,
}

impl Charge {
    /// Whether nothing but room ends it. One that spins makes many tries in a second, or else is in a long one, of which nobody knows whether it is forced. A
    /// try that its task was in when the stacks were taken began before the look before this one, then nothing else was tried between the two; or it began
    /// since then, and is among those that were noted.
    fn may_fail(&self) -> bool {
        let forced = self.flags.iter().any(|flags| flags.contains(FORCED));
        let spins = self.spins && (!self.is_noted || !self.flags.is_empty());
        !forced && (spins || (self.reclaims && self.tried))
    }

    /// Whether all that was noted of it is for a charge that is forced after so many tries.
    fn is_forced(&self) -> bool {
        !self.flags.is_empty() && self.flags.iter().all(|flags| flags.contains(FORCED))
    }
}

impl Ring {
    /// Finds a ring in a look, if everybody is there who has to be; of its holders nothing may be certain.
    #[must_use]
    pub fn find(look: &Look) -> Option<Self> {
        Self::find_in(look, &tasks::parse(&look.log))
    }

    /// The same, when the look's log was read already.
    #[must_use]
    pub fn find_in(look: &Look, asleep: &[Task]) -> Option<Self> {
        let (journal, holders) = (journal(asleep)?, holders(look, asleep));
        let waiting: BTreeSet<Party> = asleep.iter().filter(|task| waits_for_commit(task)).map(party).collect();
        let shut_out = asleep.iter().filter(|task| waits_for_buffer(task)).map(party).collect();
        let dying = look.dying.iter().map(|task| Party { tid: task.tid, comm: task.comm.clone() }).collect();
        let ring = Self { journal: party(journal), holders, waiting, shut_out, dying };
        ring.closed(|_, _| true).is_some().then_some(ring)
    }

    /// The ring with those of its holders that `counts`; none if it isn't closed then.
    fn closed(&self, counts: impl Fn(&Party, &Charge) -> bool) -> Option<ClosedWait> {
        let counting = || self.holders.iter().filter(|(party, charge)| counts(party, charge));
        let holders: BTreeSet<Party> = counting().map(|(party, _)| party.clone()).collect();
        let locked = counting().any(|(_, charge)| charge.locks);
        let stands = |task: &Party| holders.contains(task) || self.waiting.contains(task) || (locked && self.shut_out.contains(task));
        let dying = self.dying.iter().filter(|task| stands(task)).cloned().collect();
        let flags = counting().flat_map(|(_, charge)| charge.flags.clone()).collect();
        let shut_out = if locked { self.shut_out.len() } else { 0 };
        let ring = ClosedWait { journal: self.journal.clone(), holders, flags, dying, waiters: self.waiting.len(), shut_out };
        ring.is_closed().then_some(ring)
    }

    /// The ring with the holders of which this look by itself is certain.
    #[must_use]
    pub fn certain(&self) -> Option<ClosedWait> {
        self.closed(|_, charge| charge.may_fail())
    }

    /// What stands in this look and in a later one, whose word it is on the holders' charges: what the kernel said of tries before this look may have been
    /// of other charges.
    #[must_use]
    pub fn lasts(&self, later: &Self) -> Option<ClosedWait> {
        // Whom a holder shuts out counts only if that holder is there in both.
        let before = self.closed(|party, _| later.holders.contains_key(party))?;
        // One that was forced, and made no try since, may be in the same one.
        let was_forced = |party: &Party, charge: &Charge| charge.flags.is_empty() && self.holders.get(party).is_some_and(Charge::is_forced);
        let after = later.closed(|party, charge| charge.may_fail() && self.holders.contains_key(party) && !was_forced(party, charge))?;
        (before.journal == after.journal).then(|| after.and(&before)).flatten()
    }
}

impl ClosedWait {
    /// What of it stands in another one too, if that is still a ring.
    #[must_use]
    pub fn and(&self, other: &Self) -> Option<Self> {
        let same = |a: &BTreeSet<Party>, b: &BTreeSet<Party>| a.intersection(b).cloned().collect();
        let (holders, dying) = (same(&self.holders, &other.holders), same(&self.dying, &other.dying));
        let ring = Self { holders, dying, ..self.clone() };
        ring.is_closed().then_some(ring)
    }

    fn is_closed(&self) -> bool {
        !self.holders.is_empty() && !self.dying.is_empty()
    }

    /// One line that says who waits for whom.
    #[must_use]
    pub fn title(&self) -> String {
        let retry = if self.holders.len() == 1 { "which retries" } else { "which retry" };
        let flags: Vec<&str> = self.flags.iter().map(String::as_str).collect();
        let flags = if flags.is_empty() { String::new() } else { format!(" ({}, without __{FORCED})", flags.join(" and ")) };
        let who = if self.holders.len() == 1 { "it" } else { "they" };
        let shut_out =
            if self.shut_out == 0 { String::new() } else { format!(", {} for a buffer that {who} may have locked", self.shut_out) };
        format!(
            "{} waits in a commit for {}, {retry} a memory-cgroup charge{flags} with a handle open; killed and can't die: {}; {} wait for the \
             commit{shut_out}",
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

/// The tasks of which the kernel notes only charges that are forced after so many tries; none if not all was noted.
pub(super) fn forced(look: &Look) -> BTreeSet<u32> {
    if !look.all_reclaims {
        return BTreeSet::new();
    }
    let forced = |tid: u32| look.reclaims.iter().filter(|reclaim| reclaim.tid == tid).all(|reclaim| reclaim.flags.contains(FORCED));
    look.reclaims.iter().map(|reclaim| reclaim.tid).filter(|tid| forced(*tid)).collect()
}

/// Whether a task waits for a commit, or for a locked transaction.
pub(super) fn waits_for_commit(task: &Task) -> bool {
    task.is_in_any(WAITS_FOR_COMMIT)
}

/// Whether a task waits for a buffer that a holder may have locked ([`locks_buffer`]).
pub(super) fn waits_for_buffer(task: &Task) -> bool {
    task.is_in(WAITS_FOR_BUFFER) && task.is_in(LOCKS_BUFFER)
}

/// Whether a task that asks for a buffer's page may have locked another buffer by then.
pub(super) fn locks_buffer(task: &Task) -> bool {
    retries_with_handle(task) && task.is_in(LOCKS_BUFFER)
}

/// Whether a task asks for a buffer's page with a handle open, asleep or not.
pub(super) fn retries_with_handle(task: &Task) -> bool {
    let Some(retries) = task.frames.iter().position(|frame| RETRIES.contains(&frame.as_str())) else { return false };
    task.frames[retries..].iter().any(|frame| HOLDS_HANDLE.iter().any(|prefix| frame.starts_with(prefix)))
}

fn spins_with_handle(task: &Task) -> bool {
    retries_with_handle(task) && !task.is_in_any(SLEEPS_IN_RECLAIM)
}

fn party(task: &Task) -> Party {
    Party { tid: task.tid, comm: task.comm.clone() }
}
