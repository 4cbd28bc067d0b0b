//! All that a report is made from, read once from a run's folder.
//!
//! What can't be read, or isn't what the run wrote, is named and left out: a report of what there is is worth more than none.
//!
//! Read [`Case`] first.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::kernels::{DEFINITION, Inputs, PIPELINE, load_inputs};
use super::proof::ProofSummary;
use super::seen::Seen;
use super::{KernelReport, LoadError, Report, load_trial, trial_folder};
use crate::aftermath::TEXTS;
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
    /// The texts that were collected after a hang, by the trial's name.
    pub aftermath: BTreeMap<String, Vec<String>>,
    /// What went into the kernels, as far as the run kept it.
    pub inputs: BTreeMap<Name, Inputs>,
    /// What was left out.
    pub damaged: Vec<Damage>,
    /// Whether the report says what the evidence beside it says.
    pub comparison: Comparison,
    /// The answer of `prove`, if the run was one.
    pub proof: Option<ProofSummary>,
}

/// Whether a report says what its evidence says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Comparison {
    /// Compared; where it says otherwise.
    Made(Vec<String>),
    /// Nobody can tell, and why.
    NotMade(String),
}

impl Comparison {
    /// Where the report says otherwise.
    #[must_use]
    pub fn contradictions(&self) -> &[String] {
        match self {
            Self::Made(contradictions) => contradictions,
            Self::NotMade(_) => &[],
        }
    }

    /// That nobody can tell, in a sentence.
    #[must_use]
    pub fn untold(&self) -> Option<String> {
        match self {
            Self::Made(_) => None,
            Self::NotMade(why) => Some(format!("Nobody compared this report with its evidence: {why}.")),
        }
    }
}

/// A file of the run that is missing, can't be read, or isn't what the run wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Damage {
    /// The kernel that it is about; none if it is all of them.
    pub kernel: Option<Name>,
    /// The kernel's trial that it is about; none if it went into the kernel.
    pub trial: Option<TrialId>,
    /// The file, and what is wrong with it.
    pub what: String,
}

impl Damage {
    /// About a trial.
    pub(super) fn of_trial(trial: &TrialId, what: String) -> Self {
        Self { kernel: Some(trial.kernel.clone()), trial: Some(trial.clone()), what }
    }

    /// About what went into a kernel.
    pub(super) fn of_kernel(kernel: &Name, what: String) -> Self {
        Self { kernel: Some(kernel.clone()), trial: None, what }
    }

    /// About the reproducer.
    fn of_reproducer(what: String) -> Self {
        Self { kernel: None, trial: None, what }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.trial, &self.kernel) {
            (Some(trial), _) => write!(f, "{trial}: {}", self.what),
            (None, Some(kernel)) => write!(f, "{kernel}: {}", self.what),
            (None, None) => write!(f, "the reproducer: {}", self.what),
        }
    }
}

impl Case {
    /// Reads a run's folder. Whoever didn't write it just now has to compare it with its evidence.
    ///
    /// # Errors
    /// When the report itself can't be read.
    pub fn load(run: &Path) -> Result<Self, LoadError> {
        let report = Report::load(run)?;
        let (mut trials, mut damaged, mut inputs) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
        let mut aftermath = BTreeMap::new();
        for kernel in &report.kernels {
            for result in &kernel.results {
                let folder = run.join(trial_folder(&result.trial));
                let texts: Vec<String> = TEXTS.into_iter().filter(|name| folder.join(name).is_file()).map(str::to_owned).collect();
                if !texts.is_empty() {
                    aftermath.insert(result.trial.to_string(), texts);
                }
                match load_trial(run, &result.trial) {
                    Ok(evidence) => {
                        trials.insert(result.trial.to_string(), Seen::of(&evidence, &result.observation));
                    }
                    Err(error) => damaged.push(Damage::of_trial(&result.trial, error.to_string())),
                }
            }
            if let (Some(build), Entry::Vacant(entry)) = (&kernel.build, inputs.entry(kernel.name.clone())) {
                let (found, wrong) = load_inputs(run, &kernel.name, build);
                entry.insert(found);
                damaged.extend(wrong.into_iter().map(|what| Damage::of_kernel(&kernel.name, what)));
            }
        }
        damaged.extend(reproducer_of(run, &report).err().map(Damage::of_reproducer));
        let proof = report.proof.as_ref().map(ProofSummary::of);
        Ok(Self { report, trials, aftermath, inputs, damaged, comparison: Comparison::Made(Vec::new()), proof })
    }

    /// What a trial saw.
    #[must_use]
    pub fn seen(&self, trial: &TrialId) -> Option<&Seen> {
        self.trials.get(&trial.to_string())
    }

    /// The texts that were collected after a trial's hang.
    #[must_use]
    pub fn aftermath(&self, trial: &TrialId) -> &[String] {
        self.aftermath.get(&trial.to_string()).map_or(&[], Vec::as_slice)
    }

    /// What went into a kernel.
    #[must_use]
    pub fn inputs(&self, kernel: &Name) -> Inputs {
        self.inputs.get(kernel).cloned().unwrap_or_default()
    }

    /// What is wrong with a trial's files, or else with what went into a kernel, or else with the reproducer.
    pub(super) fn damage(&self, kernel: Option<&Name>, trial: Option<&TrialId>) -> Vec<&str> {
        let about = |damage: &&Damage| damage.kernel.as_ref() == kernel && damage.trial.as_ref() == trial;
        self.damaged.iter().filter(about).map(|damage| damage.what.as_str()).collect()
    }

    /// `uname -r`, as the kernel's trials said it.
    ///
    /// # Errors
    /// With why nobody knows it.
    pub fn version(&self, kernel: &KernelReport) -> Result<&str, &'static str> {
        let version = kernel.results.iter().find_map(|result| self.seen(&result.trial)?.version.as_deref());
        let lost = kernel.results.iter().any(|result| self.seen(&result.trial).is_none());
        version.ok_or(if lost { "unknown: its trials' evidence is missing" } else { "not booted" })
    }
}

/// What a line of the scoreboard stands for, in words.
#[must_use]
pub fn arm(kernel: &KernelReport) -> String {
    kernel.mitigation.as_ref().map_or_else(|| kernel.name.to_string(), |mitigation| format!("{} with {mitigation}", kernel.name))
}

/// The run's reproducer, and the definition of its pipeline, as far as the run kept them: by their places in its folder.
///
/// # Errors
/// When one isn't there, or isn't what the run used.
pub(super) fn reproducer_of(run: &Path, report: &Report) -> Result<Vec<(PathBuf, Vec<u8>)>, String> {
    let Some(path) = &report.reproducer_source else { return Ok(Vec::new()) };
    // What an edited report names is none of the run's files.
    let name = path.strip_prefix(PIPELINE).ok().filter(|name| name.components().count() == 1 && name.file_name().is_some());
    let name = name.ok_or_else(|| format!("{}: the run keeps none there", path.display()))?;
    let (path, definition) = (Path::new(PIPELINE).join(name), Path::new(PIPELINE).join(DEFINITION));
    let content = kept(run, &path).map_err(|error| error.to_string())?;
    if format!("{:x}", Sha256::digest(&content)) != report.reproducer_sha256 {
        return Err(format!("{}: it isn't what the run used", run.join(path).display()));
    }
    let defined = kept(run, &definition).map_err(|error| error.to_string())?;
    Ok(vec![(path, content), (definition, defined)])
}

/// Reads a file of the run's folder, in which there is something. A link is none of them.
pub(super) fn kept(run: &Path, path: &Path) -> io::Result<Vec<u8>> {
    match kept_or_empty(run, path)? {
        content if content.is_empty() => Err(io::Error::other(format!("{}: it is empty", run.join(path).display()))),
        content => Ok(content),
    }
}

/// As [`kept`], of a file that may be empty.
pub(super) fn kept_or_empty(run: &Path, path: &Path) -> io::Result<Vec<u8>> {
    let path = run.join(path);
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    if fs::symlink_metadata(&path).map_err(named)?.is_symlink() {
        return Err(named(io::Error::other("it is a link, and none of the run's files is one")));
    }
    input::read(&path, input::LARGEST_TEXT).map_err(named)
}
