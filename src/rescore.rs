//! Judges a run's saved evidence again, without a VM.
//!
//! It reads what the trials saved and applies today's oracle; the saved report is not changed. What comes out otherwise is listed. A trial whose evidence
//! can't be read proves nothing: it counts as invalid, and the others are judged all the same.
//!
//! Read [`rescore`].

use std::path::Path;

use crate::oracle::{Fault, Observation, observe};
use crate::report::{KernelReport, Report, TrialReport, load_trial};

/// A run, judged again.
#[derive(Debug)]
pub struct Rescored {
    /// The report as it is now.
    pub report: Report,
    /// Trials that were judged.
    pub trials: usize,
    /// One line for each observation and verdict that is another than the saved one.
    pub changes: Vec<String>,
    /// One line for each trial whose evidence is missing or can't be read.
    pub damaged: Vec<String>,
}

/// Judges all trials of the run in `folder` again.
#[must_use]
pub fn rescore(folder: &Path, saved: &Report) -> Rescored {
    let (mut changes, mut damaged) = (Vec::new(), Vec::new());
    let mut trials = 0;
    let mut kernels = Vec::new();
    for kernel in &saved.kernels {
        let mut results = Vec::new();
        for result in &kernel.results {
            let observation = match load_trial(folder, &result.trial) {
                Ok(evidence) => observe(&evidence),
                Err(error) => {
                    damaged.push(format!("{}: {error}", result.trial));
                    Observation::Invalid { fault: Fault::Host, reason: "its evidence can't be read any more".to_owned() }
                }
            };
            trials += 1;
            if observation != result.observation {
                let (before, after) = (&result.observation, &observation);
                let line =
                    format!("{}: was {} ({}), is {} ({})", result.trial, before.word(), before.detail(), after.word(), after.detail());
                changes.push(line);
            }
            results.push(TrialReport { observation, ..result.clone() });
        }
        let build = kernel.build.clone().ok_or_else(|| kernel.build_error.clone().unwrap_or_default());
        let now = KernelReport::new(kernel.cell(), results, build);
        if now.verdict != kernel.verdict {
            let with = kernel.mitigation.as_ref().map_or_else(String::new, |mitigation| format!(" with {mitigation}"));
            changes.push(format!("{}{with}: the verdict was {}, is {}", kernel.name, kernel.verdict, now.verdict));
        }
        kernels.push(now);
    }
    Rescored { report: Report { kernels, ..saved.clone() }, trials, changes, damaged }
}
