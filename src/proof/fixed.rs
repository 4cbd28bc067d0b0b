//! The design of fixed size that a proof is measured against.
//!
//! Nothing decides by it. It is what one would do by the textbook: fix both arms' trials beforehand, do them all, and test once.
//!
//! Read [`fixed_size`].

use serde::{Deserialize, Serialize};
use statrs::distribution::{Binomial, DiscreteCDF as _};

use super::Design;
use crate::stats::anytime::run_needed;
use crate::stats::interval;

/// Trials per arm, fixed beforehand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FixedSize {
    /// Of the baseline.
    pub baseline: u64,
    /// Of each candidate.
    pub candidate: u64,
}

/// The smallest fixed design of the same confidence: candidate trials so many that their passing shows a rate below the residual one, and baseline trials
/// so many that one that hangs at the least rate is shown to be above it with a probability of `power`.
#[must_use]
pub fn fixed_size(design: &Design) -> FixedSize {
    let Design { confidence, residual, least_rate, power, .. } = *design;
    let credible = |hits, trials| interval(hits, trials, 2.0 * confidence - 1.0).low > residual;
    let enough = |trials: u64| {
        // The fewest hangs that show it; there are some, or this many trials show nothing.
        let Some(hits) = (1..=trials).find(|&hits| credible(hits, trials)) else { return false };
        Binomial::new(least_rate, trials).is_ok_and(|binomial| 1.0 - binomial.cdf(hits - 1) >= power)
    };
    // A least rate that hardly differs from the residual one has no sensible design.
    let baseline = (1..1000).find(|&trials| enough(trials)).unwrap_or(1000);
    FixedSize { baseline, candidate: run_needed(residual, confidence) }
}
