//! The end of a program and of everything that it started.
//!
//! A child that left the group (a daemon) is not ended: nothing of what we run does that.
//!
//! Read [`Group`] first.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::process::Child;

/// A program that leads a process group. It and its children die with the value, and are gone before anything else happens.
#[derive(Debug)]
pub struct Group(pub Child);

impl Group {
    /// Kills all of it, without waiting.
    pub fn kill(&mut self) {
        let _ = self.0.id().and_then(kill);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Without an id it has ended and been waited for.
        let Some(group) = self.0.id() else { return };
        end(group, || self.0.try_wait().is_ok_and(|ended| ended.is_some()));
    }
}

/// How long a killed process group is waited for. SIGKILL takes milliseconds; a process in uninterruptible sleep may take for ever.
const DEATH: Duration = Duration::from_secs(5);

/// Kills the group of a program that wasn't waited for yet.
fn kill(group: u32) -> Option<Pid> {
    let group = Pid::from_raw(i32::try_from(group).ok()?)?;
    let _ = kill_process_group(group, Signal::KILL);
    Some(group)
}

/// Kills the group of a program that wasn't waited for yet, and waits for its end. `is_over` waits for it without blocking.
pub(super) fn end(group: u32, mut is_over: impl FnMut() -> bool) {
    let Some(group) = kill(group) else { return };
    let start = Instant::now();
    // A process that still writes would make the removal of its folder fail. The leader is a member until it is waited for.
    while start.elapsed() < DEATH && (!is_over() || test_kill_process_group(group).is_ok()) {
        std::thread::sleep(Duration::from_millis(2));
    }
}
