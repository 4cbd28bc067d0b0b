//! The answers of a proof, and their words.
//!
//! Plain data. When which answer stands is `proof`'s business, and which exit code it makes is the drive layer's.
//!
//! Read [`Answer`] first.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Whether the candidate is free of the baseline's hang.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It is, up to the residual rate, at the proof's confidence.
    Fixed,
    /// The same hang was seen in it.
    NotFixed,
    /// Nobody can tell.
    Inconclusive(Reason),
}

/// Why nobody can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The baseline doesn't hang, or too rarely to prove anything with it.
    BaselineDidntReproduce,
    /// In too many trials nothing was provoked.
    TriggerDidntFire,
    /// Too many trials show nothing, and what makes them so may select among the others.
    TooManyInvalid,
    /// The limit on trials came first.
    LimitReached,
    /// The baseline hung at first, and no more while the candidate passed.
    BaselineStopped,
    /// The candidate's binary is the baseline's: the patch changed nothing.
    Identical,
    /// The candidate showed something else than a pass or the baseline's hang.
    Different(Finding),
}

/// What a candidate showed that the baseline's hang isn't.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finding {
    /// A hang with another signature.
    OtherHang,
    /// A crash.
    Crash,
    /// It didn't get as far as the reproducer.
    BootFailure,
    /// A standstill of which nobody knows whether it was for good.
    Standstill,
}

impl Answer {
    /// The answer in a word or two.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::NotFixed => "not fixed",
            Self::Inconclusive(_) => "inconclusive",
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed | Self::NotFixed => f.write_str(self.word()),
            Self::Inconclusive(reason) => write!(f, "inconclusive: {reason}"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BaselineDidntReproduce => "the baseline didn't reproduce the hang; calibrate the pipeline with it first",
            Self::TriggerDidntFire => "the trigger didn't fire, so nothing was tested; press harder, or correct the pipeline's trigger",
            Self::TooManyInvalid => "too many trials are invalid; see their reasons, and repeat it on a quieter host",
            Self::LimitReached => "the limit on trials was reached; allow more",
            Self::BaselineStopped => {
                "the baseline hung at first and no more while the candidate passed; find out what changed on the host, and repeat it"
            }
            Self::Identical => "the candidate is identical to the baseline; see whether its patch touches what is built",
            Self::Different(Finding::OtherHang) => "the candidate hangs in another way; look at its stacks",
            Self::Different(Finding::Crash) => "the candidate crashes; look at its console",
            Self::Different(Finding::Standstill) => {
                "the candidate stood still in a trial, and nobody knows whether for good; look at its stacks"
            }
            Self::Different(Finding::BootFailure) => "the candidate doesn't boot; look at its console",
        })
    }
}
