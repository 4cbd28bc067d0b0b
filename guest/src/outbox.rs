//! What waits to be sent to the host: one writer thread owns the port, everybody else drops lines here and goes on at once.
//!
//! A host that doesn't read must not stop the agent, so nothing here waits: a beat replaces the beat that was not sent yet, and a line that doesn't
//! fit is dropped.
//!
//! Read [`Outbox`] first.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::Duration;

use hangproof_wire::{Beat, LINE_LIMIT, Report};

use crate::fault::Fault;
use crate::threads::spawn;

/// Most bytes that wait: two of the longest lines.
const WAITING_LIMIT: usize = 2 * LINE_LIMIT;

/// The sending side. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Outbox(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    beat: Option<Beat>,
}

impl Outbox {
    /// Sends a report.
    pub fn send(&self, report: &Report) {
        let Some(line) = line(report) else { return };
        let mut waiting = self.waiting();
        if waiting.bytes + line.len() <= WAITING_LIMIT {
            waiting.bytes += line.len();
            waiting.lines.push_back(line);
            self.0.news.notify_one();
        }
    }

    /// Sends a beat, in place of one that still waits.
    pub fn beat(&self, beat: Beat) {
        self.waiting().beat = Some(beat);
        self.0.news.notify_one();
    }

    /// Starts the thread that writes to `port`.
    pub fn start(&self, mut port: impl Write + Send + 'static) -> Result<(), Fault> {
        let outbox = self.clone();
        spawn("writer", move || {
            let mut torn = false;
            loop {
                let mut line = outbox.next();
                if torn {
                    line.insert(0, b'\n');
                }
                torn = port.write_all(&line).is_err();
                if torn {
                    sleep(Duration::from_millis(100));
                }
            }
        })
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Vec<u8> {
        let mut waiting = self.waiting();
        loop {
            if let Some(line) = waiting.lines.pop_front() {
                waiting.bytes -= line.len();
                return line;
            }
            if let Some(line) = waiting.beat.take().and_then(|beat| line(&Report::Beat(beat))) {
                return line;
            }
            waiting = self.0.news.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn line(report: &Report) -> Option<Vec<u8>> {
    let mut line = serde_json::to_vec(report).ok()?;
    line.push(b'\n');
    (line.len() <= LINE_LIMIT).then_some(line)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn beat(seq: u64) -> Beat {
        Beat { seq, uptime_ms: 0, probes: 0, probe_pending_ms: 0, oom_kills: 0, commits: None }
    }

    #[test]
    fn a_host_that_does_not_read_sees_the_last_beat_only() {
        let outbox = Outbox::default();
        outbox.beat(beat(1));
        outbox.send(&Report::Refused { id: 7, error: "first".into() });
        outbox.beat(beat(2));
        let refused: Report = serde_json::from_slice(&outbox.next()).unwrap();
        assert!(matches!(refused, Report::Refused { id: 7, .. }));
        assert_eq!(serde_json::from_slice::<Report>(&outbox.next()).unwrap(), Report::Beat(beat(2)));
        assert!(outbox.waiting().beat.is_none());
    }

    #[test]
    fn waiting_lines_are_bounded() {
        let outbox = Outbox::default();
        let error = "x".repeat(LINE_LIMIT / 2);
        for id in 0..10 {
            outbox.send(&Report::Refused { id, error: error.clone() });
        }
        assert!(outbox.waiting().bytes <= WAITING_LIMIT);
        assert_eq!(outbox.waiting().lines.len(), 3);
    }
}
