//! Times to hang, some of them censored by a pass: which distribution they fit.
//!
//! A pass after 60 s means that the hang would have come later, or never. Both are fitted at once: a share of the boots that hang eventually, and a
//! Weibull or exponential time for these (J. W. Boag, J. R. Stat. Soc. B 11 (1949), 15-53, mixture cure model), by maximum likelihood through the EM
//! algorithm (A. P. Dempster, N. M. Laird and D. B. Rubin, J. R. Stat. Soc. B 39 (1977), 1-38). What follows for a pipeline is `proof::calibration`'s
//! business.
//!
//! Read [`fit`] first.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ChiSquared, ContinuousCDF as _};

/// Hangs from which on a Weibull distribution is tried: with fewer its shape is noise.
const LEAST_FOR_SHAPE: usize = 5;

/// By how much the Weibull distribution's log-likelihood has to be better: the likelihood-ratio test of shape 1 at 0.95, half of 3.84 (chi-squared, 1).
const SHAPE_IS_WORTH: f64 = 1.92;

/// Shapes that are tried. Above, the times are all but equal.
const SHAPES: (f64, f64) = (0.05, 50.0);

/// A fitted distribution of the time to hang.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Fit {
    /// Share of the boots that hang sooner or later.
    pub eventual: f64,
    /// Weibull shape: 1 is exponential, a hang as likely in each second; below 1 it comes early or takes long.
    pub shape: f64,
    /// Weibull scale in seconds: by then 63 % of the eventual hangs came. The mean, if the shape is 1.
    pub scale: f64,
    /// Upper confidence limit of the scale, the shape taken as known.
    pub scale_high: f64,
    /// Natural logarithm of the likelihood.
    pub log_likelihood: f64,
}

impl Fit {
    /// Probability that a boot hangs within so many seconds.
    #[must_use]
    pub fn hung_by(&self, seconds: f64) -> f64 {
        self.eventual * self.share_by(seconds)
    }

    /// Share of the eventual hangs that come within so many seconds.
    #[must_use]
    pub fn share_by(&self, seconds: f64) -> f64 {
        -(-(seconds / self.scale).powf(self.shape)).exp_m1()
    }

    /// Seconds within which this share of the eventual hangs comes, at the scale's upper confidence limit.
    #[must_use]
    pub fn within(&self, share: f64) -> f64 {
        self.scale_high * (-(-share).ln_1p()).powf(1.0 / self.shape)
    }
}

/// Fits times to hang and the durations of passes, both in seconds and above 0. None without a hang.
#[must_use]
pub fn fit(hangs: &[f64], passes: &[f64], confidence: f64) -> Option<Fit> {
    if hangs.is_empty() || hangs.iter().chain(passes).any(|time| *time <= 0.0) {
        return None;
    }
    let exponential = expect_and_maximise(hangs, passes, |weights| (1.0, scale(hangs, passes, weights, 1.0)));
    let weibull = expect_and_maximise(hangs, passes, |weights| {
        let shape = shape(hangs, passes, weights);
        (shape, scale(hangs, passes, weights, shape))
    });
    let worth = hangs.len() >= LEAST_FOR_SHAPE && weibull.log_likelihood > exponential.log_likelihood + SHAPE_IS_WORTH;
    let fit = if worth { weibull } else { exponential };
    // A time to the power of the shape is exponential, and twice the total over its mean is chi-squared (B. Epstein and M. Sobel, J. Am. Stat. Assoc. 48 (1953)).
    let freedom = 2.0 * hangs.len() as f64;
    let quantile = ChiSquared::new(freedom).ok()?.inverse_cdf(1.0 - confidence);
    Some(Fit { scale_high: fit.scale * (freedom / quantile).powf(1.0 / fit.shape), ..fit })
}

/// EM: how likely each passed boot is one that would have hung, then the best distribution for that, until neither moves.
fn expect_and_maximise(hangs: &[f64], passes: &[f64], maximise: impl Fn(&[f64]) -> (f64, f64)) -> Fit {
    let all = (hangs.len() + passes.len()) as f64;
    let mut weights = vec![0.5; passes.len()];
    let mut fit = Fit { eventual: 0.0, shape: 1.0, scale: 1.0, scale_high: 1.0, log_likelihood: f64::NEG_INFINITY };
    // It never gets worse, and stops where it gains nothing; the bound is for a flat top.
    for _ in 0..1000 {
        let (shape, scale) = maximise(&weights);
        let eventual = (hangs.len() as f64 + weights.iter().sum::<f64>()) / all;
        let mut next = Fit { eventual, shape, scale, scale_high: scale, log_likelihood: 0.0 };
        next.log_likelihood = log_likelihood(&next, hangs, passes);
        let gain = next.log_likelihood - fit.log_likelihood;
        fit = next;
        if gain < 1e-9 {
            break;
        }
        for (weight, pass) in weights.iter_mut().zip(passes) {
            let later = fit.eventual * (1.0 - fit.share_by(*pass));
            *weight = later / (1.0 - fit.eventual + later);
        }
    }
    fit
}

fn log_likelihood(fit: &Fit, hangs: &[f64], passes: &[f64]) -> f64 {
    let hang = |time: &f64| {
        let x = time / fit.scale;
        (fit.eventual * fit.shape / fit.scale).ln() + (fit.shape - 1.0) * x.ln() - x.powf(fit.shape)
    };
    hangs.iter().map(hang).sum::<f64>() + passes.iter().map(|pass| (1.0 - fit.hung_by(*pass)).ln()).sum::<f64>()
}

/// Each time with its weight: 1 for a hang.
fn weighted<'a>(hangs: &'a [f64], passes: &'a [f64], weights: &'a [f64]) -> impl Iterator<Item = (f64, f64)> + 'a {
    hangs.iter().map(|time| (*time, 1.0)).chain(passes.iter().copied().zip(weights.iter().copied()))
}

/// The best scale for a shape.
fn scale(hangs: &[f64], passes: &[f64], weights: &[f64], shape: f64) -> f64 {
    let sum: f64 = weighted(hangs, passes, weights).map(|(time, weight)| weight * time.powf(shape)).sum();
    (sum / hangs.len() as f64).powf(1.0 / shape)
}

/// The best shape: where the profile likelihood's slope is 0. The slope is monotone (J. F. Lawless, "Statistical Models and Methods for Lifetime Data").
fn shape(hangs: &[f64], passes: &[f64], weights: &[f64]) -> f64 {
    let mean_log = hangs.iter().map(|time| time.ln()).sum::<f64>() / hangs.len() as f64;
    // Times are scaled by the longest one, or their powers would overflow.
    let longest = hangs.iter().chain(passes).copied().fold(0.0, f64::max);
    let too_large = |shape: f64| {
        let (mut sum, mut sum_log) = (0.0, 0.0);
        for (time, weight) in weighted(hangs, passes, weights) {
            let power = weight * (time / longest).powf(shape);
            sum += power;
            sum_log += power * time.ln();
        }
        sum_log / sum - 1.0 / shape - mean_log > 0.0
    };
    let (mut low, mut high) = SHAPES;
    for _ in 0..50 {
        let middle = f64::midpoint(low, high);
        *(if too_large(middle) { &mut high } else { &mut low }) = middle;
    }
    low
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    /// Remission times under 6-mercaptopurine (E. J. Freireich et al., Blood 21 (1963), 699-716), the textbooks' censored sample: exponential rate 9/359,
    /// Weibull shape 1.354 and scale 33.77.
    #[test]
    fn published_values() {
        let events = [6.0, 6.0, 6.0, 7.0, 10.0, 13.0, 16.0, 22.0, 23.0];
        let censored = [6.0, 9.0, 10.0, 11.0, 17.0, 19.0, 20.0, 25.0, 32.0, 32.0, 34.0, 35.0];
        let weights = [1.0; 12];
        assert!((scale(&events, &censored, &weights, 1.0) - 359.0 / 9.0).abs() < 1e-9);
        let shape = shape(&events, &censored, &weights);
        assert!((shape - 1.354).abs() < 1e-3 && (scale(&events, &censored, &weights, shape) - 33.77).abs() < 0.02, "{shape}");
    }

    #[test]
    fn small_samples() {
        assert_eq!((fit(&[], &[60.0], 0.95), fit(&[0.0], &[], 0.95)), (None, None));
        // All hung: the mean, and its limit 2 * 15 / 1.635 (chi-squared, 6, 0.05).
        let all = fit(&[4.0, 5.0, 6.0], &[], 0.95).unwrap();
        assert!((all.scale - 5.0).abs() < 1e-9 && (all.scale_high - 18.345).abs() < 0.01 && all.eventual == 1.0, "{all:?}");
        // Passes that lasted far longer than any hang took are boots that don't hang.
        let half = fit(&[4.0, 5.0, 6.0], &[60.0, 60.0, 60.0], 0.95).unwrap();
        assert!((half.eventual - 0.5).abs() < 1e-3 && (half.scale - 5.0).abs() < 0.01, "{half:?}");
        // The same time each time: the shape ends at its bound, nothing overflows.
        let equal = fit(&[5.0; 8], &[], 0.95).unwrap();
        assert!(equal.shape > 49.0 && (equal.scale - 5.0).abs() < 0.1 && equal.within(0.99) < 5.5, "{equal:?}");
    }

    #[test]
    fn large_samples_give_back_what_made_them() {
        let mut random = crate::stats::Random::new(2);
        for (shape, scale, eventual) in [(1.0, 5.0, 1.0), (2.0, 10.0, 0.8), (0.7, 6.0, 0.9), (1.0, 30.0, 1.0)] {
            let (mut hangs, mut passes) = (Vec::new(), Vec::new());
            for _ in 0..800 {
                let time = scale * (-(1.0 - random.unit()).ln()).powf(1.0 / shape);
                if random.unit() < eventual && time < 60.0 { hangs.push(time) } else { passes.push(60.0) }
            }
            let found = fit(&hangs, &passes, 0.95).unwrap();
            let close = |a: f64, b: f64| (a / b - 1.0).abs() < 0.15;
            assert!(close(found.shape, shape) && close(found.scale, scale) && close(found.eventual, eventual), "{found:?}");
            assert!(found.scale_high > found.scale && (found.hung_by(60.0) - hangs.len() as f64 / 800.0).abs() < 0.01, "{found:?}");
        }
    }

    proptest::proptest! {
        /// No distribution nearby is likelier.
        #[test]
        fn the_fit_is_a_maximum(
            hangs in proptest::collection::vec(0.5f64..30.0, 5..20),
            passes in proptest::collection::vec(20.0f64..60.0, 0..10),
            change in 0.97f64..1.03,
        ) {
            let found = fit(&hangs, &passes, 0.95).unwrap();
            let other = |fit: Fit| log_likelihood(&fit, &hangs, &passes) <= found.log_likelihood + 1e-3;
            proptest::prop_assert!(other(Fit { scale: found.scale * change, ..found }), "{found:?}");
            proptest::prop_assert!(other(Fit { eventual: (found.eventual * change).min(1.0), ..found }), "{found:?}");
            proptest::prop_assert!((0.0..=1.0).contains(&found.eventual) && found.within(0.99) > found.within(0.5));
        }
    }
}
