//! From a pipeline to trials: which boots there are, in which order.
//!
//! Pure data and functions: no file is opened, nothing is built. Trials are interleaved over the kernels, so that a host that gets slow or
//! fails half-way hits all arms alike and a run that is cut short has something of each.
//!
//! Read [`Cell`] first, then [`TrialId`].

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::spec::{Expected, Mitigation, Name};

/// One line of the scoreboard: a kernel, and what runs beside the reproducer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// The kernel.
    pub kernel: Name,
    /// The mitigation; none if the pipeline has no such dimension.
    pub mitigation: Option<Name>,
    /// What is expected.
    pub expected: Option<Expected>,
}

/// The scoreboard's lines: each kernel with each mitigation.
#[must_use]
pub fn cells(kernels: &[(Name, Option<Expected>)], mitigations: &[Mitigation]) -> Vec<Cell> {
    let of = |(kernel, alone): &(Name, Option<Expected>)| {
        let cell = |mitigation, expected| Cell { kernel: kernel.clone(), mitigation, expected };
        if mitigations.is_empty() {
            return vec![cell(None, *alone)];
        }
        let with = |mitigation: &Mitigation| {
            let expected = if mitigation.program.is_some() { mitigation.expected.get(kernel).copied() } else { *alone };
            cell(Some(mitigation.name.clone()), expected)
        };
        mitigations.iter().map(with).collect()
    };
    kernels.iter().flat_map(of).collect()
}

/// One boot of one kernel with one reproducer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TrialId {
    /// The kernel.
    pub kernel: Name,
    /// What runs beside the reproducer; none if the pipeline has no such dimension.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mitigation: Option<Name>,
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
        write!(f, "{}", self.kernel)?;
        if let Some(mitigation) = &self.mitigation {
            // No name has a `+`.
            write!(f, "+{mitigation}")?;
        }
        write!(f, ".{}", self.repeat)?;
        if self.attempt > 1 { write!(f, ".retry{}", self.attempt - 1) } else { Ok(()) }
    }
}

/// The trials of a run, repeat by repeat, each over all cells.
#[must_use]
pub fn interleave(cells: &[Cell], repeats: u32) -> Vec<TrialId> {
    let trial = |cell: &Cell, repeat| TrialId { kernel: cell.kernel.clone(), mitigation: cell.mitigation.clone(), repeat, attempt: 1 };
    (1..=repeats).flat_map(|repeat| cells.iter().map(move |cell| trial(cell, repeat))).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn each_kernel_is_tried_with_each_mitigation() {
        let name = |name: &str| Name::new(name).unwrap();
        let kernels = [(name("lost"), Some(Expected::Hang)), (name("restored"), None)];
        let mitigation = |called: &str, program: Option<&str>| Mitigation {
            name: name(called),
            program: program.map(Into::into),
            arguments: Vec::new(),
            expected: program.map(|_| (name("lost"), Expected::Pass)).into_iter().collect(),
        };
        let shown = |cells: &[Cell]| interleave(cells, 2).iter().map(TrialId::to_string).collect::<Vec<_>>().join(" ");
        let alone = cells(&kernels, &[]);
        assert_eq!(shown(&alone), "lost.1 restored.1 lost.2 restored.2");
        assert_eq!(alone[0].expected, Some(Expected::Hang));
        let both = cells(&kernels, &[mitigation("none", None), mitigation("earlyoom", Some("/usr/bin/earlyoom"))]);
        let once = "lost+none.1 lost+earlyoom.1 restored+none.1 restored+earlyoom.1";
        assert_eq!(shown(&both), format!("{once} {}", once.replace(".1", ".2")));
        let expected: Vec<_> = both.iter().map(|cell| cell.expected).collect();
        assert_eq!(expected, [Some(Expected::Hang), Some(Expected::Pass), None, None]);
    }

    #[test]
    fn a_trial_without_a_mitigation_is_saved_as_ever() {
        let text = r#"{"kernel":"k","repeat":1,"attempt":1}"#;
        let id: TrialId = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&id).unwrap(), text);
    }
}
