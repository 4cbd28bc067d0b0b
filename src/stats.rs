//! The statistics of trials: how sure a count makes us.
//!
//! Pure functions of counts. What follows from them is `verdict`'s business.
//!
//! Read [`interval`] first; [`anytime`] has what stays true although one looks after each trial, [`survival`] fits
//! times to hang.

pub mod anytime;
mod random;
pub mod survival;

pub use random::Random;
use serde::{Deserialize, Serialize};
use statrs::distribution::{Beta, ContinuousCDF as _};
use statrs::function::beta::beta_reg;

/// A confidence interval of a rate, with what it was computed from.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Interval {
    /// How often it happened.
    pub hits: u64,
    /// Of so many trials.
    pub trials: u64,
    /// Confidence, for example 0.95.
    pub confidence: f64,
    /// Lower bound of the rate.
    pub low: f64,
    /// Upper bound of the rate.
    pub high: f64,
}

impl Interval {
    /// With two digits, which say no more than is known: rounded outwards.
    #[must_use]
    pub fn outward(&self) -> String {
        // A bound that is whole hundredths isn't to the last bit.
        let (low, high) = ((self.low * 100.0 + 1e-9).floor() / 100.0, (self.high * 100.0 - 1e-9).ceil() / 100.0);
        format!("{low:.2} to {high:.2}")
    }
}

/// The exact (Clopper-Pearson) two-sided interval of a binomial rate: C. J. Clopper and E. S. Pearson, Biometrika 26 (1934), 404-413, through the
/// quantiles of the beta distribution. With no trials it is 0 to 1.
#[must_use]
pub fn interval(hits: u64, trials: u64, confidence: f64) -> Interval {
    let hits = hits.min(trials);
    let tail = (1.0 - confidence) / 2.0;
    let quantile = |a: u64, b: u64, p: f64| Beta::new(a as f64, b as f64).map(|beta| beta.inverse_cdf(p));
    let low = if hits == 0 { 0.0 } else { quantile(hits, trials - hits + 1, tail).unwrap_or(0.0) };
    let high = if hits == trials { 1.0 } else { quantile(hits + 1, trials - hits, 1.0 - tail).unwrap_or(1.0) };
    Interval { hits, trials, confidence, low, high }
}

/// Whether the exact one-sided upper bound of a rate is below `bound`: whether that few hits or fewer are less likely than 1 - `confidence` there.
#[must_use]
pub fn is_below(hits: u64, trials: u64, bound: f64, confidence: f64) -> bool {
    hits < trials && beta_reg((trials - hits) as f64, hits as f64 + 1.0, 1.0 - bound) < 1.0 - confidence
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use statrs::distribution::{Binomial, DiscreteCDF as _};

    #[test]
    fn published_values() {
        // Of 10 trials 0 hits: 1 - (alpha/2)^(1/10); all hits: its mirror image.
        let none = interval(0, 10, 0.95);
        assert!((none.low, (none.high - 0.308_497).abs() < 1e-5) == (0.0, true), "{none:?}");
        let all = interval(3, 3, 0.95);
        assert!(((all.low - 0.292_402).abs() < 1e-5, all.high) == (true, 1.0), "{all:?}");
        assert_eq!((interval(0, 0, 0.95).low, interval(0, 0, 0.95).high), (0.0, 1.0));
    }

    proptest::proptest! {
        /// The definition itself: at either bound, an outcome at least as extreme has a probability of half the error.
        #[test]
        fn bounds_are_exact(trials in 1u64..200, share in 0.0f64..=1.0) {
            let hits = (trials as f64 * share) as u64;
            let found = interval(hits, trials, 0.95);
            proptest::prop_assert!(found.low <= hits as f64 / trials as f64 && hits as f64 / trials as f64 <= found.high);
            if hits > 0 {
                let at_least = 1.0 - Binomial::new(found.low, trials).unwrap().cdf(hits - 1);
                proptest::prop_assert!((at_least - 0.025).abs() < 1e-6, "{at_least}");
            }
            if hits < trials {
                let at_most = Binomial::new(found.high, trials).unwrap().cdf(hits);
                proptest::prop_assert!((at_most - 0.025).abs() < 1e-6, "{at_most}");
            }
            proptest::prop_assert!(is_below(hits, trials, found.high + 1e-6, 0.975) == (hits < trials));
            proptest::prop_assert!(!is_below(hits, trials, found.high - 1e-6, 0.975));
        }
    }
}
