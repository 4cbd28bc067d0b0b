//! What a trial saw, reduced to what a report shows of it: both clocks over time, the kills, and the stacks of a hang.
//!
//! A run may have thousands of trials, and a look at the tasks has megabytes: so each trial's evidence is read, reduced, and dropped. Pure. Nothing is
//! judged: the observation comes from the report.
//!
//! Read [`Seen`] first.

use std::collections::BTreeSet;

use hangproof_wire::{CgroupCounters, Look};
use serde::{Deserialize, Serialize};

use crate::evidence::{At, Evidence};
use crate::oracle::signature::{Kind, classify};
use crate::oracle::tasks::{self, Task};
use crate::oracle::wait::{ClosedWait, Ring};
use crate::oracle::{Hang, Observation, Witness};

/// What a report shows of a trial. Times are seconds since QEMU's start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Seen {
    /// `uname -r` of the guest.
    pub version: Option<String>,
    /// What was mounted as root, in the agent's words.
    pub root: Option<String>,
    /// When the agent was ready.
    pub ready: Option<f64>,
    /// When the reproducer started.
    pub started: Option<f64>,
    /// When the reproducer ended by itself.
    pub done: Option<f64>,
    /// When the trial ended.
    pub end: f64,
    /// The reproducer's operations over time.
    pub operations: Vec<(f64, u64)>,
    /// The agent's probes over time: the filesystem's clock outside any memory cgroup.
    pub probes: Vec<(f64, u64)>,
    /// Memory-cgroup OOM kills.
    pub kills: Vec<f64>,
    /// Looks at the tasks.
    pub looks: Vec<f64>,
    /// Who is stuck where, in the last look; empty if the trial showed no hang.
    pub stacks: Vec<Stack>,
    /// Memory cgroups' counters at the end.
    pub cgroups: Vec<CgroupCounters>,
    /// The console's last lines, if the trial showed neither a pass nor a hang.
    pub tail: Vec<String>,
}

/// Tasks that are stuck at the same place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Stack {
    /// Their part in the hang.
    pub role: Role,
    /// Their names and numbers.
    pub tasks: Vec<String>,
    /// Functions, innermost first, without the scheduler's and the wait helpers'.
    pub frames: Vec<String>,
}

/// A task's part in a hang.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The journal thread.
    Journal,
    /// Holds a handle open, and spins.
    Holder,
    /// Was told to die and can't.
    Victim,
    /// Waits.
    Waiter,
}

/// Stacks that are kept of a hang: a guest may have thousands of tasks, each somewhere else.
const STACKS: usize = 24;

/// Tasks of a stack that are named.
const TASKS: usize = 50;

/// Frames that are kept of a stack: the kernel's unwinder stops long before.
const FRAMES: usize = 64;

/// Console lines that are kept of a trial without a result.
const TAIL: usize = 40;

impl Seen {
    /// Reduces a trial's evidence.
    #[must_use]
    pub fn of(evidence: &Evidence, observation: &Observation) -> Self {
        let boot = &evidence.boot;
        let (stacks, tail) = match observation {
            Observation::Hang(hang) => (stacks(evidence, hang), Vec::new()),
            Observation::Pass(_) => (Vec::new(), Vec::new()),
            Observation::Crash { .. } | Observation::BootFailure { .. } | Observation::Invalid { .. } => (Vec::new(), tail(evidence)),
        };
        Self {
            version: boot.kernel.as_deref().and_then(uname),
            root: boot.root.clone(),
            ready: boot.ready.map(seconds),
            started: boot.started.map(seconds),
            done: evidence.reproducer.as_ref().map(|(at, _)| seconds(*at)),
            end: evidence.end.as_ref().map_or(0.0, |(at, _)| seconds(*at)),
            operations: evidence.counts.iter().map(|(at, count)| (seconds(*at), count.operations)).collect(),
            probes: evidence.beats.iter().map(|(at, beat)| (seconds(*at), beat.probes)).collect(),
            kills: kills(evidence),
            looks: evidence.looks.iter().map(|(at, _)| seconds(*at)).collect(),
            stacks,
            cgroups: evidence.counters.clone(),
            tail,
        }
    }

    /// The first stack of this part.
    #[must_use]
    pub fn stack(&self, role: Role) -> Option<&Stack> {
        self.stacks.iter().find(|stack| stack.role == role)
    }
}

/// A moment in seconds.
#[must_use]
pub fn seconds(at: At) -> f64 {
    at.0 as f64 / 1000.0
}

/// The release in `Linux version 6.1.192 (...) ...`.
fn uname(banner: &str) -> Option<String> {
    Some(banner.strip_prefix("Linux version ")?.split_whitespace().next()?.to_owned())
}

/// From the console, which has the moment of each; where it shows none, from the heartbeats.
fn kills(evidence: &Evidence) -> Vec<f64> {
    let is_kill = |text: &str| classify(text).is_some_and(|found| found.kind == Kind::OomKill);
    let shown: Vec<f64> = evidence.console.iter().filter(|line| is_kill(&line.text)).map(|line| seconds(line.at)).collect();
    if !shown.is_empty() {
        return shown;
    }
    evidence.beats.windows(2).filter(|pair| pair[1].1.oom_kills > pair[0].1.oom_kills).map(|pair| seconds(pair[1].0)).collect()
}

fn tail(evidence: &Evidence) -> Vec<String> {
    let skipped = evidence.console.len().saturating_sub(TAIL);
    evidence.console.iter().skip(skipped).map(|line| line.text.clone()).collect()
}

/// The stuck tasks of the last look before the hang was certain, those at the same place together.
fn stacks(evidence: &Evidence, hang: &Hang) -> Vec<Stack> {
    let Some((_, look)) = evidence.looks.iter().rev().find(|(at, _)| *at <= hang.at).or(evidence.looks.last()) else {
        return Vec::new();
    };
    let ring = match &hang.witness {
        Witness::ClosedWait(wait) => Some(wait.clone()),
        Witness::Silence { .. } | Witness::Guest { .. } | Witness::Panic { .. } => Ring::find(look).and_then(|ring| ring.certain()),
    };
    let mut found: Vec<Stack> = Vec::new();
    for (role, task, frames) in stuck(look, ring.as_ref()) {
        match found.iter_mut().find(|stack| stack.role == role && stack.frames == frames) {
            Some(stack) if stack.tasks.len() < TASKS => stack.tasks.push(task),
            Some(_) => {}
            None => found.push(Stack { role, tasks: vec![task], frames }),
        }
    }
    found.sort_by_key(|stack| (stack.role, std::cmp::Reverse(stack.tasks.len())));
    found.truncate(STACKS);
    found
}

fn stuck(look: &Look, ring: Option<&ClosedWait>) -> Vec<(Role, String, Vec<String>)> {
    let holds = |tid: u32| ring.is_some_and(|ring| ring.holders.iter().any(|party| party.tid == tid));
    let dies = |tid: u32| match ring {
        Some(ring) => ring.dying.iter().any(|party| party.tid == tid),
        None => look.dying.iter().any(|task| task.tid == tid),
    };
    let named = |comm: &str, tid: u32| format!("{comm}:{tid}");
    let kept = |frames: Vec<String>| frames.into_iter().take(FRAMES).collect::<Vec<_>>();
    let running = look.running.iter().filter(|task| holds(task.tid));
    let frames = |tid, comm: &str, stack: &str| kept(Task::with_stack(tid, comm, 'R', stack).frames);
    let mut all: Vec<_> =
        running.map(|task| (Role::Holder, named(&task.comm, task.tid), frames(task.tid, &task.comm, &task.stack))).collect();
    // A blocked task is in the list of blocked tasks and in that of all tasks.
    let mut known = BTreeSet::new();
    for task in tasks::parse(&look.log) {
        // One that runs and sleeps by turns is there already.
        let shown = holds(task.tid) && look.running.iter().any(|running| running.tid == task.tid);
        if task.state != 'D' || shown || !known.insert(task.tid) {
            continue;
        }
        let role = if holds(task.tid) {
            Role::Holder
        } else if task.comm.starts_with("jbd2/") {
            Role::Journal
        } else if dies(task.tid) {
            Role::Victim
        } else {
            Role::Waiter
        };
        all.push((role, named(&task.comm, task.tid), kept(task.frames)));
    }
    all
}

impl Role {
    /// Who it is, in a word or two.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Journal => "journal thread",
            Self::Holder => "holder",
            Self::Victim => "victim",
            Self::Waiter => "waiter",
        }
    }

    /// What it does.
    #[must_use]
    pub fn does(self) -> &'static str {
        match self {
            Self::Journal => "waits in a commit",
            Self::Holder => "retries a charge with a handle open",
            Self::Victim => "was killed and can't die",
            Self::Waiter => "is blocked behind them",
        }
    }
}
