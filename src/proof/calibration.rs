//! What a baseline's trials propose for the pipeline: how long a trial lasts, when a standstill is looked at, how many trials a proof takes.
//!
//! Pure, and only a proposal: a proof's error doesn't depend on it. A trial that is too short makes the baseline's rate low and the candidate's passes
//! cheap to get, so it's the claim that gets weaker: "per trial of that duration".
//!
//! Read [`Calibration`] first.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Arm, Design, FixedSize, LEAST_HANGS, Order, Outcome, Proof, Trial, fixed_size};
use crate::stats::survival::{Fit, fit};
use crate::stats::{Interval, Random, interval};

/// The share of the eventual hangs that a trial is long enough for.
pub const SHARE: f64 = 0.99;

/// The stall limit, in longest standstills that a kernel recovered from. Healthy kernels' longest standstills differed by that much between runs of 40 s
/// (6 s and 10 s, Linux 6.1.192 under TCG); too short a limit costs a look at the tasks, not a wrong answer.
pub const STALL_FACTOR: f64 = 2.0;

/// Seconds between two heartbeats: a hang before the first progress has this time.
const RESOLUTION: f64 = 0.5;

/// Simulated proofs from which the expected effort comes.
const PROOFS: u64 = 200;

/// A baseline's trials.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Seen {
    /// Seconds from the reproducer's start to the last progress, of each hang.
    pub hangs: Vec<f64>,
    /// Seconds of load of each pass.
    pub passes: Vec<f64>,
    /// Longest standstill, in seconds, of each trial that went on after it.
    pub recovered: Vec<f64>,
    /// Mean seconds that a trial takes besides its load.
    pub overhead: f64,
    /// Mean seconds from a hang's last progress to its trial's end, without the overhead.
    pub certainty: f64,
}

/// What a baseline's trials propose.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Calibration {
    /// Its hang rate in the trials as they were.
    pub rate: Interval,
    /// Its time to hang.
    pub fit: Fit,
    /// Seconds that a trial should last: [`SHARE`] of the hangs at the upper confidence limit, and never less than the longest time seen.
    pub duration: f64,
    /// Seconds of standstill after which the tasks should be looked at; none if no trial had a standstill that it recovered from.
    pub stall: Option<f64>,
    /// Trials of a design of fixed size.
    pub fixed_size: FixedSize,
    /// What a proof of one candidate that is fixed should take, with trials of that duration.
    pub fixed: Effort,
    /// What a proof of one candidate that hangs like the baseline should take.
    pub not_fixed: Effort,
}

/// What a proof takes, on average.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Effort {
    /// Trials of all arms.
    pub trials: f64,
    /// Seconds, if one trial runs at a time.
    pub seconds: f64,
}

impl Calibration {
    /// Calibrates for a design. None when the baseline hung less than [`LEAST_HANGS`] times.
    #[must_use]
    pub fn of(seen: &Seen, design: &Design) -> Option<Self> {
        let hangs = seen.hangs.len() as u64;
        if hangs < LEAST_HANGS {
            return None;
        }
        let (fit, duration) = proposed(&seen.hangs, &seen.passes, design.confidence)?;
        let stall = seen.recovered.iter().copied().reduce(f64::max).map(|longest| (STALL_FACTOR * longest).ceil());
        Some(Self {
            rate: interval(hangs, hangs + seen.passes.len() as u64, design.confidence),
            fit,
            duration,
            stall,
            fixed_size: fixed_size(design),
            fixed: effort(seen, design, &fit, duration, true),
            not_fixed: effort(seen, design, &fit, duration, false),
        })
    }

    /// What a given duration misses, in seconds; none if it's as long as the baseline's time to hang suggests.
    #[must_use]
    pub fn shortfall(&self, given: f64) -> Option<Shortfall> {
        (given < self.duration).then(|| Shortfall { given, proposed: self.duration, share: self.fit.share_by(given) })
    }
}

/// The fitted time to hang, and the duration in seconds that follows from it.
fn proposed(hangs: &[f64], passes: &[f64], confidence: f64) -> Option<(Fit, f64)> {
    let hangs: Vec<f64> = hangs.iter().map(|time| time.max(RESOLUTION)).collect();
    let fit = fit(&hangs, passes, confidence)?;
    Some((fit, hangs.iter().copied().fold(fit.within(SHARE), f64::max).ceil()))
}

/// What a given duration misses by times to hang and the durations of passes; none if it is long enough, or the hangs are less than [`LEAST_HANGS`].
#[must_use]
pub fn shortfall(hangs: &[f64], passes: &[f64], confidence: f64, given: f64) -> Option<Shortfall> {
    if (hangs.len() as u64) < LEAST_HANGS {
        return None;
    }
    let (fit, duration) = proposed(hangs, passes, confidence)?;
    (given < duration).then(|| Shortfall { given, proposed: duration, share: fit.share_by(given) })
}

/// A trial's duration is shorter than the baseline's time to hang suggests.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Shortfall {
    /// The given duration in seconds.
    pub given: f64,
    /// The proposed one.
    pub proposed: f64,
    /// Share of the eventual hangs that come within the given one, by the fit itself.
    pub share: f64,
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { given, proposed, share } = self;
        let percent = 100.0 * share;
        write!(
            f,
            "trials of {given} s are shorter than the baseline's time to hang suggests ({percent:.0} % of its hangs come within that); "
        )?;
        write!(f, "let them last {proposed} s")
    }
}

/// Plays proofs with the fitted times, through the rules themselves: a formula would be a second version of them.
fn effort(seen: &Seen, design: &Design, fit: &Fit, duration: f64, fixed: bool) -> Effort {
    let mut sum = Effort::default();
    for seed in 0..PROOFS {
        let mut proof = Proof::new(*design, &[false]);
        let (mut order, mut chance) = (Order::new(seed), Random::new(!seed));
        while let Some(arm) = order.next(&proof) {
            let time = fit.scale * (-(1.0 - chance.unit()).ln()).powf(1.0 / fit.shape);
            let hangs = chance.unit() < fit.eventual && time < duration && (arm == Arm::Baseline || !fixed);
            let (outcome, load, rest) = if hangs { (Outcome::SameHang, time, seen.certainty) } else { (Outcome::Pass, duration, 0.0) };
            proof.record(Trial { arm, outcome, load });
            sum.trials += 1.0;
            sum.seconds += load + rest + seen.overhead;
        }
    }
    Effort { trials: sum.trials / PROOFS as f64, seconds: sum.seconds / PROOFS as f64 }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    /// Like the founding bug's baseline: a hang after some seconds, certain 13 s later, and 5 s of booting and saving.
    fn founding() -> Seen {
        let hangs = vec![2.0, 4.0, 4.5, 5.0, 6.0, 7.5, 8.0, 11.0];
        Seen { hangs, passes: vec![], recovered: vec![2.0, 6.0, 3.5], overhead: 5.0, certainty: 13.0 }
    }

    #[test]
    fn the_founding_bug() {
        let design = Design::new(1);
        let found = Calibration::of(&founding(), &design).unwrap();
        assert!((found.fit.eventual, found.rate.hits, found.rate.trials, found.stall) == (1.0, 8, 8, Some(12.0)), "{found:?}");
        assert!(found.duration > 12.0 && found.duration < 60.0, "{found:?}");
        assert!(found.fixed.trials > 64.0 && found.fixed.trials < 70.0 && found.not_fixed.trials < 8.0, "{found:?}");
        let passes = 59.0 * (found.duration + 5.0);
        assert!(found.fixed.seconds > passes && found.fixed.seconds < passes + 240.0, "{found:?}");
        assert_eq!(found.shortfall(found.duration), None);
        let words = found.shortfall(6.0).unwrap().to_string();
        let end = format!("let them last {} s", found.duration);
        assert!(
            words.starts_with("trials of 6 s are shorter than the baseline's time to hang suggests (") && words.ends_with(&end),
            "{words}"
        );
    }

    #[test]
    fn too_few_hangs_calibrate_nothing() {
        let seen = Seen { hangs: vec![3.0, 4.0], passes: vec![60.0; 20], ..founding() };
        assert_eq!(Calibration::of(&seen, &Design::new(1)), None);
        // No trial that recovered: no word about the stall limit.
        let seen = Seen { recovered: vec![], ..founding() };
        assert_eq!(Calibration::of(&seen, &Design::new(1)).unwrap().stall, None);
    }

    #[test]
    fn a_longer_time_to_hang_asks_for_more() {
        let slow = Seen { hangs: founding().hangs.iter().map(|time| 10.0 * time).collect(), ..founding() };
        let [fast, slow] = [founding(), slow].map(|seen| Calibration::of(&seen, &Design::new(1)).unwrap());
        assert!((slow.duration / fast.duration - 10.0).abs() < 0.6 && slow.fixed.seconds > 5.0 * fast.fixed.seconds);
        assert!(fast.shortfall(60.0).is_none() && slow.shortfall(60.0).is_some());
    }
}
