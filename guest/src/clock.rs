//! The agent's one clock: time since the kernel started. It offers no wall-clock time; the guest has none worth reporting.

use rustix::time::{ClockId, clock_gettime};

/// Milliseconds since the kernel started, suspended time included.
pub fn uptime_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let (seconds, nanoseconds) = (u64::try_from(now.tv_sec).unwrap_or(0), u64::try_from(now.tv_nsec).unwrap_or(0));
    seconds * 1000 + nanoseconds / 1_000_000
}
