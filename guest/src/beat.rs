//! The heartbeat: both clocks, twice a second, from memory only.
//!
//! The thread here reads atomics and hands a line to the outbox; it opens no file and waits for nobody. What may block (the probe of the
//! filesystem, the kernel's files) is done by other threads, which leave their numbers in [`Clocks`].
//!
//! Read [`Clocks`] first.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use hangproof_wire::{BEAT_INTERVAL_MS, Beat};

use crate::clock::uptime_ms;
use crate::fault::Fault;
use crate::outbox::Outbox;
use crate::threads::spawn;

/// Commits that nobody knows.
const UNKNOWN: u64 = u64::MAX;

/// The numbers that a beat carries.
#[derive(Debug)]
pub struct Clocks {
    probes: AtomicU64,
    /// When the probe under way began, in milliseconds since the kernel started; 0 when none is.
    probing_since: AtomicU64,
    oom_kills: AtomicU64,
    commits: AtomicU64,
    /// The host waits for a probe, what the journal says after it, and a beat with both: each thread wakes the next.
    asked: AtomicBool,
    probed: AtomicBool,
    prober: OnceLock<Thread>,
    journal: OnceLock<Thread>,
    beating: OnceLock<Thread>,
}

impl Clocks {
    /// All at the start.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            probes: AtomicU64::new(0),
            probing_since: AtomicU64::new(0),
            oom_kills: AtomicU64::new(0),
            commits: AtomicU64::new(UNKNOWN),
            asked: AtomicBool::new(false),
            probed: AtomicBool::new(false),
            prober: OnceLock::new(),
            journal: OnceLock::new(),
            beating: OnceLock::new(),
        })
    }

    /// The host asks for a probe now.
    pub fn ask(&self) {
        self.asked.store(true, Relaxed);
        wake(&self.prober);
    }

    /// The calling thread probes the filesystem; it parks between two probes.
    pub fn i_probe(&self) {
        let _ = self.prober.set(thread::current());
    }

    /// The calling thread reads the journal's numbers; it parks between two reads.
    pub fn i_read_the_journal(&self) {
        let _ = self.journal.set(thread::current());
    }

    /// A probe of the filesystem begins.
    pub fn probe_begins(&self) {
        self.probing_since.store(uptime_ms().max(1), Relaxed);
    }

    /// The probe has come back; `done` when it succeeded.
    pub fn probe_ends(&self, done: bool) {
        self.probing_since.store(0, Relaxed);
        self.probes.fetch_add(u64::from(done), Relaxed);
        if self.asked.swap(false, Relaxed) {
            self.probed.store(true, Relaxed);
            wake(&self.journal);
        }
    }

    /// The kernel log shows one more memory-cgroup OOM kill.
    pub fn oom_kill(&self) {
        self.oom_kills.fetch_add(1, Relaxed);
    }

    /// The journal has committed so many transactions, or nobody knows how many.
    pub fn commits(&self, commits: Option<u64>) {
        if let Some(commits) = commits {
            self.commits.store(commits, Relaxed);
        }
        if self.probed.swap(false, Relaxed) {
            wake(&self.beating);
        }
    }

    fn beat(&self, seq: u64) -> Beat {
        let now = uptime_ms();
        let since = self.probing_since.load(Relaxed);
        let commits = self.commits.load(Relaxed);
        Beat {
            seq,
            uptime_ms: now,
            probes: self.probes.load(Relaxed),
            probe_pending_ms: if since == 0 { 0 } else { now.saturating_sub(since) },
            oom_kills: self.oom_kills.load(Relaxed),
            commits: (commits != UNKNOWN).then_some(commits),
        }
    }
}

fn wake(thread: &OnceLock<Thread>) {
    if let Some(thread) = thread.get() {
        thread.unpark();
    }
}

/// Starts the heartbeat.
pub fn start(clocks: Arc<Clocks>, outbox: Outbox) -> Result<(), Fault> {
    spawn("beat", move || {
        let interval = Duration::from_millis(BEAT_INTERVAL_MS);
        let _ = clocks.beating.set(thread::current());
        let mut due = Instant::now();
        for seq in 0.. {
            outbox.beat(clocks.beat(seq));
            let now = Instant::now();
            if now >= due {
                // By the clock, so that beats don't drift; after a standstill the missed ones are not made up for.
                due = (due + interval).max(now);
            }
            thread::park_timeout(due.saturating_duration_since(now));
        }
    })
}
