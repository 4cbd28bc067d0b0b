//! From a pipeline to trials: which boots there are, in which order.
//!
//! Pure data and functions: no file is opened, nothing is built. Trials are interleaved over the kernels, so that a host that gets slow or
//! fails half-way hits all arms alike and a run that is cut short has something of each.
//!
//! Read [`TrialId`] first.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::spec::Name;

/// One boot of one kernel with one reproducer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TrialId {
    /// The kernel.
    pub kernel: Name,
    /// Number of the repeat, from 1.
    pub repeat: u32,
    /// Number of the attempt, from 1; above 1 only after an invalid trial of our own making.
    pub attempt: u32,
}

impl TrialId {
    /// The same trial once more.
    #[must_use]
    pub fn retried(&self) -> Self {
        Self { attempt: self.attempt + 1, ..self.clone() }
    }
}

impl fmt::Display for TrialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.kernel, self.repeat)?;
        if self.attempt > 1 { write!(f, ".retry{}", self.attempt - 1) } else { Ok(()) }
    }
}

/// The trials of a run, repeat by repeat, each over all kernels.
#[must_use]
pub fn interleave(kernels: &[Name], repeats: u32) -> Vec<TrialId> {
    (1..=repeats).flat_map(|repeat| kernels.iter().map(move |kernel| TrialId { kernel: kernel.clone(), repeat, attempt: 1 })).collect()
}
