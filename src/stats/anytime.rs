//! Statistics that stay true although we look after each trial.
//!
//! A fixed-size test that is repeated until it says yes says yes in the end. These are e-processes instead: bets against a hypothesis, fair or
//! worse while it is true, so that the stake ever grows by 1/alpha with a probability of at most alpha (J. Ville, "Étude critique de la notion de
//! collectif", 1939). One may look after each trial, stop for any reason and go on later. Nothing here decides; that is `proof`'s business.
//!
//! Sources: A. Wald, "Sequential Analysis", 1947; H. Robbins, Ann. Math. Statist. 41 (1970), 1397-1409 (mixtures and confidence sequences); I.
//! Waudby-Smith and A. Ramdas, J. R. Stat. Soc. B 86 (2024), 1-27 (betting on bounded means); M. F. Pérez-Ortiz, T. Lardy, R. de Heide and P. D.
//! Grünwald, Ann. Statist. 52 (2024), 1410-1432 (e-processes under an unknown scale).
//!
//! Read [`run`] first, then [`above`].

use statrs::function::beta::{beta_reg, ln_beta};

use super::Interval;

/// E-values are cut off here, so that they stay finite numbers in a report. Nobody needs to be surer.
pub const E_CAP: f64 = 1e12;

/// The e-value against "the rate is `bound` or more" of `misses` trials without a single hit: Wald's sequential ratio of the rate 0 against
/// `bound`, which bets everything on each miss. One hit loses it all, so the caller passes none: after a hit the e-value is 0 for ever.
#[must_use]
pub fn run(misses: u64, bound: f64) -> f64 {
    (-(misses as f64) * (-bound).ln_1p()).exp().min(E_CAP)
}

/// The upper bound of a rate after `misses` trials without a single hit, at `confidence`; 1 without trials. It's the rate against which [`run`]
/// reaches 1/alpha, and also the one-sided exact bound: with nothing but misses, looking after each trial costs nothing.
#[must_use]
pub fn run_bound(misses: u64, confidence: f64) -> f64 {
    if misses == 0 { 1.0 } else { -((1.0 - confidence).ln() / misses as f64).exp_m1() }
}

/// How many misses without a hit it takes until [`run_bound`] is at most `bound`. No procedure whatever needs fewer, not even one that knows
/// the other arm's rate.
#[must_use]
pub fn run_needed(bound: f64, confidence: f64) -> u64 {
    // The margin is for the rounding of the two logarithms, where their ratio is a whole number.
    ((1.0 - confidence).ln() / (-bound).ln_1p() - 1e-9).ceil() as u64
}

/// The e-value against "the rate is `bound` or less": the likelihood ratio against `bound`, mixed evenly over all rates above it (Robbins 1970).
#[must_use]
pub fn above(hits: u64, trials: u64, bound: f64) -> f64 {
    let hits = hits.min(trials);
    let (h, m) = (hits as f64, (trials - hits) as f64);
    // The upper tail is taken from the mirror image: 1 - I(x) would lose all digits where it is small.
    let tail = beta_reg(m + 1.0, h + 1.0, 1.0 - bound);
    let log = ln_beta(h + 1.0, m + 1.0) + tail.ln() - (-bound).ln_1p() - h * bound.ln() - m * (-bound).ln_1p();
    log.exp().min(E_CAP)
}

/// The confidence sequence of a rate: intervals that *all* hold it, after each trial, with a probability of `confidence`. It's the set of rates
/// against which the even mixture over all rates hasn't won 1/alpha (Robbins 1970). Wider than the exact interval: the price of looking.
#[must_use]
pub fn sequence(hits: u64, trials: u64, confidence: f64) -> Interval {
    let hits = hits.min(trials);
    let (h, m) = (hits as f64, (trials - hits) as f64);
    let least = (1.0 - confidence).ln() + ln_beta(h + 1.0, m + 1.0);
    // 0 * ln 0 is 0 here: a rate of 0 explains no hits perfectly.
    let part = |count: f64, rate: f64| if count == 0.0 { 0.0 } else { count * rate.ln() };
    let holds = |rate: f64| part(h, rate) + part(m, 1.0 - rate) >= least;
    let edge = |mut inside: f64, mut outside: f64| {
        if holds(outside) {
            return outside;
        }
        // Halving 60 times exhausts an f64.
        for _ in 0..60 {
            let middle = f64::midpoint(inside, outside);
            *(if holds(middle) { &mut inside } else { &mut outside }) = middle;
        }
        outside
    };
    let best = if trials == 0 { 0.5 } else { h / (h + m) };
    Interval { hits, trials, confidence, low: edge(best, 0.0), high: edge(best, 1.0) }
}

/// The upper bound of how often a hang comes per second of load, relative to the baseline's, when the baseline hung `hangs` times in
/// `baseline` seconds and the candidate not once in `candidate` seconds. None without a hang or without load.
///
/// This is what the likelihood ratio becomes when the baseline's unknown rate is mixed out by its invariant prior (Pérez-Ortiz et al. 2024):
/// (1 + ratio * candidate / baseline) ^ hangs. It holds *only if* a hang is as likely in each second of load and in each boot: 7 boots of 60 s
/// then count as 420 s. A hang that comes in the first seconds after boot or not at all breaks it, and boots that differ do too. So it's
/// reported, and decides nothing.
#[must_use]
pub fn hazard_ratio(hangs: u64, baseline: f64, candidate: f64, confidence: f64) -> Option<f64> {
    let known = hangs > 0 && baseline > 0.0 && candidate > 0.0;
    known.then(|| (-(1.0 - confidence).ln() / hangs as f64).exp_m1() * baseline / candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        // The zero-failure plan: 0.95^59 = 0.0485, 0.95^58 = 0.0510.
        assert_eq!((run_needed(0.05, 0.95), run_needed(0.01, 0.95), run_needed(0.2, 0.95), run_needed(0.5, 0.75)), (59, 299, 14, 2));
        assert!(run(59, 0.05) >= 20.0 && run(58, 0.05) < 20.0);
        assert!((run_bound(59, 0.95) - 0.049_508).abs() < 1e-6, "{}", run_bound(59, 0.95));
        // One hit of one against 0.05: the mean of p / 0.05 over 0.05 to 1, which is 10.5. Two of two: (1 - 0.05^3) / 3 / 0.95 / 0.05^2.
        assert!((above(1, 1, 0.05) - 10.5).abs() < 1e-9);
        assert!((above(2, 2, 0.05) - 140.333_333).abs() < 1e-3, "{}", above(2, 2, 0.05));
        assert!((above(0, 0, 0.05) - 1.0).abs() < 1e-9);
        let nothing = sequence(0, 0, 0.95);
        assert_eq!((nothing.low, nothing.high), (0.0, 1.0));
        // No hits in n: (1 - p)^n = 0.05 / (n + 1).
        assert!((sequence(0, 59, 0.95).high - (1.0 - (0.05f64 / 60.0).powf(1.0 / 59.0))).abs() < 1e-9);
        // 10 hangs in 50 s, none in 350 s: (1 + r * 7)^10 = 20.
        assert!((hazard_ratio(10, 50.0, 350.0, 0.95).unwrap_or(1.0) - 0.049_9).abs() < 1e-4);
        assert_eq!((hazard_ratio(0, 50.0, 350.0, 0.95), hazard_ratio(3, 5.0, 0.0, 0.95)), (None, None));
    }

    /// The mean of an e-value under its hypothesis is at most 1, whatever the number of trials: added up over all outcomes, exactly.
    #[test]
    fn a_bet_against_the_truth_is_fair_at_best() {
        for (trials, rate, bound) in [(1, 0.05, 0.05), (8, 0.05, 0.05), (20, 0.02, 0.05), (15, 0.2, 0.2), (60, 0.1, 0.2)] {
            let mut chance = (1.0f64 - rate).powi(trials);
            let mut mean = 0.0;
            for hits in 0..=trials {
                mean += chance * above(hits as u64, trials as u64, bound);
                chance *= f64::from(trials - hits) / f64::from(hits + 1) * rate / (1.0 - rate);
            }
            assert!(mean <= 1.0 + 1e-9 && (rate < bound || mean > 1.0 - 1e-9), "{trials} {rate} {bound}: {mean}");
        }
    }

    proptest::proptest! {
        #[test]
        fn bounds_are_ordered_and_monotone(trials in 1u64..300, share in 0.0f64..=1.0, bound in 0.01f64..0.5) {
            let hits = (trials as f64 * share) as u64;
            let found = sequence(hits, trials, 0.95);
            let exact = super::super::interval(hits, trials, 0.95);
            proptest::prop_assert!(found.low <= exact.low + 1e-9 && found.high >= exact.high - 1e-9, "{found:?} {exact:?}");
            proptest::prop_assert!(above(hits, trials + 1, bound) <= above(hits, trials, bound) * (1.0 + 1e-9));
            proptest::prop_assert!(above(hits + 1, trials + 1, bound) >= above(hits, trials, bound) * (1.0 - 1e-9));
            proptest::prop_assert!(run_bound(trials, 0.95) > run_bound(trials + 1, 0.95));
            let needed = run_needed(bound, 0.95);
            proptest::prop_assert!(run_bound(needed, 0.95) <= bound + 1e-9 && run_bound(needed - 1, 0.95) > bound);
        }
    }
}
