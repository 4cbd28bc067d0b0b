//! A VM that plays saved evidence: what a trial saw once comes again, at the same times.
//!
//! It starts nothing. Under tokio's paused clock a trial of minutes is played in milliseconds, which makes it the test double of the trial's
//! state machine; `rescore` doesn't need it, because judgement reads the evidence itself.
//!
//! Read [`Replay`] first.

use std::collections::VecDeque;

use hangproof_wire::Report;

use super::{Clock, Signal};
use crate::evidence::{At, Evidence};

/// Signals that come at their times.
#[derive(Debug)]
pub struct Replay {
    clock: Clock,
    signals: VecDeque<(At, Signal)>,
}

impl Replay {
    /// Plays a list of signals, which is sorted by time.
    #[must_use]
    pub fn new(mut signals: Vec<(At, Signal)>) -> Self {
        signals.sort_by_key(|(at, _)| *at);
        Self { clock: Clock::start(), signals: signals.into() }
    }

    /// Plays what a trial saved.
    #[must_use]
    pub fn of(evidence: &Evidence) -> Self {
        Self::new(signals_of(evidence))
    }

    pub(super) fn clock(&self) -> Clock {
        self.clock
    }

    pub(super) async fn signal(&mut self) -> Option<(At, Signal)> {
        let at = self.signals.front()?.0;
        tokio::time::sleep_until(self.clock.instant(at)).await;
        self.signals.pop_front()
    }
}

/// The signals that would bring a trial to this evidence.
#[must_use]
pub fn signals_of(evidence: &Evidence) -> Vec<(At, Signal)> {
    let mut signals = Vec::new();
    let boot = &evidence.boot;
    if let Some(at) = boot.hello {
        let kernel = boot.kernel.clone().unwrap_or_default();
        let hello =
            Report::Hello { agent: String::new(), kernel, command_line: String::new(), vmcoreinfo: boot.vmcoreinfo.clone(), uptime_ms: 0 };
        signals.push((at, Signal::Agent(hello)));
    }
    signals.extend(boot.step.map(|(at, step)| (at, Signal::Agent(Report::Step { step, uptime_ms: 0 }))));
    signals.extend(boot.failed.clone().map(|(at, step, error)| (at, Signal::Agent(Report::Failed { step, error, uptime_ms: 0 }))));
    if let Some(at) = boot.ready {
        let root = boot.root.clone().unwrap_or_default();
        let ready = Report::Ready { host_key: String::new(), root, cgroup: 2, missing_sysctls: Vec::new(), uptime_ms: 0 };
        signals.push((at, Signal::Agent(ready)));
    }
    signals.extend(boot.login.map(|at| (at, Signal::Login)));
    signals.extend(boot.started.map(|at| (at, Signal::Started)));
    signals.extend(evidence.beats.iter().map(|(at, beat)| (*at, Signal::Agent(Report::Beat(*beat)))));
    signals.extend(evidence.counts.iter().map(|(at, count)| (*at, Signal::Output(count.line()))));
    signals.extend(evidence.looks.iter().map(|(at, look)| (*at, Signal::Agent(Report::Look(look.clone())))));
    signals.extend(evidence.console.iter().map(|line| (line.at, Signal::Console(line.clone()))));
    signals.extend(evidence.qmp.iter().map(|(at, fact)| (*at, Signal::Qmp(fact.clone()))));
    signals.extend(evidence.trouble.iter().map(|(at, trouble)| (*at, Signal::Trouble(trouble.clone()))));
    if let Some(beside) = &evidence.mitigation {
        signals.push((beside.started, Signal::MitigationStarted));
        signals.extend(beside.output.iter().map(|line| (beside.started, Signal::MitigationOutput(line.clone()))));
        signals.extend(beside.end.clone().map(|(at, end)| (at, Signal::MitigationEnded(end))));
    }
    signals.extend(evidence.reproducer.clone().map(|(at, end)| (at, Signal::ReproducerEnded(end))));
    if let Some((at, end @ crate::evidence::VmEnd::Exited { .. })) = evidence.end.clone() {
        signals.push((at, Signal::Exited(end)));
    }
    signals.sort_by_key(|(at, _)| *at);
    signals
}
