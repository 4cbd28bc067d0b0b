//! What all trials of a kernel together show.
//!
//! Pure. A verdict counts observations; it doesn't look at evidence again. Invalid trials leave the denominator, and above a share they make the
//! verdict inconclusive. Whether a *patch* removes the hang is a comparison of two kernels and isn't decided here.
//!
//! Read [`Verdict`] first, then [`weigh`].

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::oracle::Observation;
use crate::spec::Expected;

/// What a kernel does with the pipeline's reproducer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Passes: every valid trial passed.
    Pass,
    /// Hangs: at least one trial hung.
    Hang,
    /// Crashes: at least one trial crashed, none hung.
    Crash,
    /// Doesn't boot.
    BootFailure,
    /// Nobody can tell.
    Inconclusive,
}

/// How often each observation was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Counts {
    /// Passes.
    pub pass: u64,
    /// Hangs.
    pub hang: u64,
    /// Crashes.
    pub crash: u64,
    /// Boots that failed.
    pub boot_failure: u64,
    /// Trials that show nothing.
    pub invalid: u64,
    /// Invalid trials that were tried once more, and don't count.
    pub repeated: u64,
}

/// A verdict is inconclusive if more than this share of the trials is invalid: with more, what makes trials invalid may select among the outcomes.
pub const INVALID_SHARE: f64 = 0.34;

impl Counts {
    /// Counts observations. An invalid one that was repeated doesn't count: its repetition does.
    pub fn of<'a>(observations: impl IntoIterator<Item = &'a Observation>) -> Self {
        let mut counts = Self::default();
        for observation in observations {
            *(match observation {
                Observation::Pass(_) => &mut counts.pass,
                Observation::Hang(_) => &mut counts.hang,
                Observation::Crash { .. } => &mut counts.crash,
                Observation::BootFailure { .. } => &mut counts.boot_failure,
                Observation::Invalid { .. } => &mut counts.invalid,
            }) += 1;
        }
        counts
    }

    /// Trials that show something about the kernel.
    #[must_use]
    pub fn valid(&self) -> u64 {
        self.pass + self.hang + self.crash + self.boot_failure
    }
}

/// Weighs the observations of one kernel.
#[must_use]
pub fn weigh(counts: Counts) -> Verdict {
    let (valid, all) = (counts.valid(), counts.valid() + counts.invalid);
    if valid == 0 || counts.invalid as f64 > INVALID_SHARE * all as f64 {
        return Verdict::Inconclusive;
    }
    let Counts { pass, hang, crash, boot_failure, invalid: _, repeated: _ } = counts;
    if hang > 0 {
        Verdict::Hang
    } else if crash > 0 {
        Verdict::Crash
    } else if boot_failure == valid {
        Verdict::BootFailure
    } else if pass == valid {
        Verdict::Pass
    } else {
        Verdict::Inconclusive
    }
}

impl Verdict {
    /// Whether it is what was expected; no expectation is met by any verdict but [`Verdict::Inconclusive`].
    #[must_use]
    pub fn meets(self, expected: Option<Expected>) -> bool {
        match (self, expected) {
            (Self::Inconclusive, _) => false,
            (_, None)
            | (Self::Pass, Some(Expected::Pass))
            | (Self::Hang, Some(Expected::Hang))
            | (Self::Crash, Some(Expected::Crash))
            | (Self::BootFailure, Some(Expected::BootFailure)) => true,
            (Self::Pass | Self::Hang | Self::Crash | Self::BootFailure, Some(_)) => false,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pass => "pass",
            Self::Hang => "hang",
            Self::Crash => "crash",
            Self::BootFailure => "boot-failure",
            Self::Inconclusive => "inconclusive",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        let check = |[pass, hang, crash, boot_failure, invalid]: [u64; 5], expected| {
            assert_eq!(
                weigh(Counts { pass, hang, crash, boot_failure, invalid, repeated: 0 }),
                expected,
                "{pass} {hang} {crash} {boot_failure} {invalid}"
            );
        };
        check([3, 0, 0, 0, 0], Verdict::Pass);
        check([2, 1, 0, 0, 0], Verdict::Hang);
        check([2, 0, 1, 0, 0], Verdict::Crash);
        check([0, 1, 1, 0, 0], Verdict::Hang);
        check([0, 0, 0, 2, 0], Verdict::BootFailure);
        check([1, 0, 0, 1, 0], Verdict::Inconclusive);
        check([0, 0, 0, 0, 0], Verdict::Inconclusive);
        check([0, 0, 0, 0, 3], Verdict::Inconclusive);
        check([2, 0, 0, 0, 1], Verdict::Pass);
        check([1, 0, 0, 0, 1], Verdict::Inconclusive);
    }

    #[test]
    fn an_inconclusive_verdict_meets_no_expectation() {
        assert!(!Verdict::Inconclusive.meets(None));
        assert!(Verdict::Hang.meets(None));
        assert!(!Verdict::Hang.meets(Some(Expected::Pass)));
    }
}
