//! A look at all tasks: what sysrq `w`, `t` and `l` print, who was told to die, where the running tasks are, for which charges memory is reclaimed, and
//! the memory cgroups' counters.
//!
//! Sysrq runs in a thread that is given up if it doesn't come back; the log is collected beside it. Nothing is judged here.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::sleep;
use std::time::{Duration, Instant};

use hangproof_wire::{LINE_LIMIT, Look};

use crate::cgroup::{self, Hierarchy};
use crate::clock::uptime_ms;
use crate::fault::{self, Fault};
use crate::kmsg::{self, Tail};
use crate::reclaims;
use crate::tasks;
use crate::threads::spawn;

/// Where sysrq keys go.
const TRIGGER: &str = "/proc/sysrq-trigger";

/// The console's log level.
const PRINTK: &str = "/proc/sys/kernel/printk";

/// The keys of a look: blocked tasks, all tasks, running tasks. In this order, so that the most telling part is there if the rest isn't.
const KEYS: [&str; 3] = ["w", "t", "l"];

/// How long sysrq may take; a look under TCG with 100 tasks takes a fraction of a second.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long reading the memory cgroups' counters may take: a few small files.
const COUNTERS: Duration = Duration::from_secs(1);

/// How long reading the tracepoint may take: some thousand lines at most.
const RECLAIMS: Duration = Duration::from_secs(2);

/// Most bytes of the log: in JSON a line end or a backslash takes two bytes, and the tasks need room too.
const LOG_LIMIT: usize = LINE_LIMIT / 2 - 1024 * 1024;

/// Held while the console's log level is not the user's.
static LEVEL: Mutex<()> = Mutex::new(());

/// Takes a look.
pub fn take(id: u64, hierarchy: Option<Hierarchy>) -> Result<Look, Fault> {
    let began = uptime_ms();
    let before = aside("reclaims", reclaims::taken)?.recv_timeout(RECLAIMS).unwrap_or_default();
    let mut tail = Tail::from_now().map_err(fault::io("open", kmsg::DEVICE))?;
    let pressed = Arc::new(AtomicBool::new(false));
    let done = Arc::clone(&pressed);
    spawn("sysrq", move || {
        // Only errors: what EL7 prints without a level is level 4, and the serial console takes 90 microseconds for every byte.
        at_console_level("4", || {
            for key in KEYS {
                let _ = fs::write(TRIGGER, key);
            }
        });
        done.store(true, Relaxed);
    })?;
    let (dying, running) = (aside("dying", tasks::dying)?, aside("running", tasks::running)?);
    let start = Instant::now();
    let mut log = String::new();
    loop {
        // In this order: sysrq prints before its write returns, so what is drained after that is all.
        let complete = pressed.load(Relaxed);
        tail.drain(&mut log, LOG_LIMIT).map_err(fault::io("read", kmsg::DEVICE))?;
        if complete {
            break;
        }
        if start.elapsed() > DEADLINE || log.len() >= LOG_LIMIT {
            log.push_str("\n(the look ends here: sysrq did not come back, or its output is too long)");
            break;
        }
        sleep(Duration::from_millis(5));
    }
    let left = || DEADLINE.saturating_sub(start.elapsed());
    let dying = dying.recv_timeout(left()).unwrap_or_default();
    let running = running.recv_timeout(left()).unwrap_or_default();
    let cgroups = aside("counters", move || hierarchy.and_then(|hierarchy| cgroup::counters(hierarchy).ok()).unwrap_or_default())?;
    let cgroups = cgroups.recv_timeout(COUNTERS).unwrap_or_default();
    let during = aside("reclaims", reclaims::taken)?.recv_timeout(RECLAIMS).unwrap_or_default();
    let (reclaims, all_reclaims) = reclaims::together(&before, &during);
    Ok(Look { id, uptime_ms: began, log, dying, running, cgroups, reclaims, all_reclaims })
}

/// Looks through `/proc` in a thread of its own, which is given up if it doesn't come back.
fn aside<T: Send + 'static>(name: &'static str, look: impl FnOnce() -> T + Send + 'static) -> Result<mpsc::Receiver<T>, Fault> {
    let (sender, receiver) = mpsc::channel();
    spawn(name, move || {
        let _ = sender.send(look());
    })?;
    Ok(receiver)
}

/// The whole kernel log.
pub fn kernel_log() -> Result<String, Fault> {
    let mut log = String::new();
    Tail::from_start().and_then(|mut tail| tail.drain(&mut log, LOG_LIMIT)).map_err(fault::io("read", kmsg::DEVICE))?;
    Ok(log)
}

/// Presses a key so that its output reaches the console.
pub fn press(key: char) -> Result<(), Fault> {
    at_console_level("8", || fs::write(TRIGGER, key.to_string())).map_err(fault::io("write", TRIGGER))
}

/// Does `work` at another log level of the console. While somebody else has changed the level it stays as it is: better than to wait for somebody who
/// may never come back.
fn at_console_level<T>(level: &str, work: impl FnOnce() -> T) -> T {
    let held = match LEVEL.try_lock() {
        Ok(held) => Some(held),
        Err(std::sync::TryLockError::Poisoned(poisoned)) => Some(PoisonError::into_inner(poisoned)),
        Err(std::sync::TryLockError::WouldBlock) => None,
    };
    let before = held.is_some().then(|| fs::read_to_string(PRINTK).ok()).flatten();
    if before.is_some() {
        let _ = fs::write(PRINTK, level);
    }
    let result = work();
    if let Some(before) = before {
        let _ = fs::write(PRINTK, before);
    }
    result
}
