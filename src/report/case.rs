//! All that a report is made from, read once from a run's folder.
//!
//! The only file of the reports that reads. What can't be read is named and left out: a report of what there is is worth more than none.
//!
//! Read [`Case`] first.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::kernels::{Inputs, load_inputs};
use super::proof::ProofSummary;
use super::seen::Seen;
use super::{KernelReport, LoadError, Report, load_trial};
use crate::input;
use crate::plan::TrialId;
use crate::spec::Name;

/// A run, as far as reports show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Case {
    /// The report as it was saved.
    pub report: Report,
    /// What the trials saw, by the trial's name.
    pub trials: BTreeMap<String, Seen>,
    /// What went into the kernels, as far as the run kept it.
    pub inputs: BTreeMap<Name, Inputs>,
    /// One line for each trial whose evidence is missing or can't be read.
    pub damaged: Vec<String>,
    /// The answer of `prove`, if the run was one.
    pub proof: Option<ProofSummary>,
}

impl Case {
    /// Reads a run's folder.
    ///
    /// # Errors
    /// When the report itself can't be read.
    pub fn load(run: &Path) -> Result<Self, LoadError> {
        let report = Report::load(run)?;
        let (mut trials, mut damaged, mut inputs) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
        for kernel in &report.kernels {
            for result in &kernel.results {
                match load_trial(run, &result.trial) {
                    Ok(evidence) => {
                        trials.insert(result.trial.to_string(), Seen::of(&evidence, &result.observation));
                    }
                    Err(error) => damaged.push(format!("{}: {error}", result.trial)),
                }
            }
            if let Some(build) = &kernel.build {
                inputs.insert(kernel.name.clone(), load_inputs(run, &kernel.name, build));
            }
        }
        let proof = report.proof.as_ref().map(ProofSummary::of);
        Ok(Self { report, trials, inputs, damaged, proof })
    }

    /// What a trial saw.
    #[must_use]
    pub fn seen(&self, trial: &TrialId) -> Option<&Seen> {
        self.trials.get(&trial.to_string())
    }

    /// What went into a kernel.
    #[must_use]
    pub fn inputs(&self, kernel: &Name) -> Inputs {
        self.inputs.get(kernel).cloned().unwrap_or_default()
    }

    /// `uname -r`, as the kernel's trials said it.
    #[must_use]
    pub fn version(&self, kernel: &KernelReport) -> Option<&str> {
        kernel.results.iter().find_map(|result| self.seen(&result.trial)?.version.as_deref())
    }
}

/// What a line of the scoreboard stands for, in words.
#[must_use]
pub fn arm(kernel: &KernelReport) -> String {
    kernel.mitigation.as_ref().map_or_else(|| kernel.name.to_string(), |mitigation| format!("{} with {mitigation}", kernel.name))
}

/// Reads a small text file of a run's folder; none if it isn't there.
pub(super) fn text_of(path: &Path) -> Option<String> {
    Some(String::from_utf8_lossy(&input::read(path, input::LARGEST_TEXT).ok()?).into_owned())
}
