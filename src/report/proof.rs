//! A proof's result, as far as a report shows it: the one place where `prove` hands its answer over.
//!
//! Plain data. Nothing is computed here: the words and the numbers are the proof's own.
//!
//! Read [`ProofSummary`] first.

use serde::{Deserialize, Serialize};

use crate::stats::Interval;

/// What a sequential proof found out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ProofSummary {
    /// `fixed`, `not fixed` or `inconclusive`.
    pub answer: String,
    /// Why it is this answer, and why the proof stopped then.
    pub reason: String,
    /// The test's name and source.
    pub method: String,
    /// The answer *fixed* is wrong with a probability of at most 1 - this.
    pub confidence: f64,
    /// The arms, the baseline first.
    pub arms: Vec<ProofArm>,
}

/// One arm of a proof.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ProofArm {
    /// The arm, as the report names it.
    pub name: String,
    /// `baseline` or `candidate`.
    pub role: String,
    /// How often it hung, with the exact interval.
    pub rate: Interval,
    /// Upper bound of the residual hang rate at the proof's confidence, if there is one.
    pub bound: Option<f64>,
    /// Value of the test at the end, and what it has to reach.
    pub test: Option<(f64, f64)>,
}

impl ProofSummary {
    /// The confidence in per cent, for people.
    #[must_use]
    pub fn percent(&self) -> String {
        super::account::percent(self.confidence)
    }
}
