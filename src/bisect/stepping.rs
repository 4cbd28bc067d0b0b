//! One step of somebody else's bisection that goes on: build the commit, and repeat its trial until the answer stands.
//!
//! Read [`Stepping`].

use super::Next;
use crate::oracle::{Fault, Observation};
use crate::plan::TrialId;
use crate::report::StepReport;
use crate::spec::Name;

/// A step that goes on.
#[derive(Debug)]
pub struct Stepping {
    report: StepReport,
    kernel: Name,
    is_built: bool,
    running: u64,
    repeats: u32,
    again: Vec<TrialId>,
}

impl Stepping {
    /// A step without trials.
    #[must_use]
    pub fn new(report: StepReport, kernel: Name) -> Self {
        Self { report, kernel, is_built: false, running: 0, repeats: 0, again: Vec::new() }
    }

    /// What to do next; nothing if there is an answer, or nothing to do before a trial ends.
    #[expect(clippy::should_implement_trait, reason = "what is next depends on what ended in between")]
    pub fn next(&mut self) -> Option<Next> {
        if self.report.answer.is_some() {
            return None;
        }
        if !self.is_built {
            return Some(Next::Build(self.kernel.clone()));
        }
        let trial = match self.again.pop() {
            Some(trial) => trial,
            None => {
                let missing = self.report.design.passes().saturating_sub(self.report.trials.len() as u64).max(1);
                if self.running >= missing {
                    return None;
                }
                self.repeats += 1;
                TrialId { kernel: self.kernel.clone(), mitigation: None, repeat: self.repeats, attempt: 1 }
            }
        };
        self.running += 1;
        Some(Next::Trial(trial))
    }

    /// The kernel was built.
    pub fn built(&mut self) {
        self.is_built = true;
    }

    /// It can't be built.
    pub fn unbuildable(&mut self, why: &str) {
        self.report.cannot_be_built(why);
    }

    /// Takes in the end of a trial; `again` says that it is to be tried once more instead.
    pub fn ended(&mut self, trial: &TrialId, observation: &Observation, again: bool) {
        self.running = self.running.saturating_sub(1);
        if again {
            self.again.push(trial.retried());
        } else if !matches!(observation, Observation::Invalid { fault: Fault::User, .. }) {
            self.report.take(trial, observation);
        }
    }

    /// The step so far.
    #[must_use]
    pub fn report(&self) -> &StepReport {
        &self.report
    }
}
