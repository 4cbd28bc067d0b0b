//! Ten thousand simulated proofs for each point of a grid of true rates: what the answers' error really is.
//!
//! The trials go through [`Order`] and [`Proof`] as real ones do, one after another, with a look after each. All seeds are fixed, so nothing here is flaky.
//!
//! Read [`prove`] first, then [`false_fixed`].

use super::{Answer, Arm, Design, Order, Outcome, Proof, Reason, Trial, fixed_size};
use crate::stats::Random;
use crate::stats::anytime::hazard_ratio;

/// Proofs per point where a wrong answer is counted.
const PROOFS: u64 = 10_000;

/// What the proofs of a point came to.
#[derive(Debug, Default)]
struct Seen {
    proofs: u64,
    fixed: u64,
    not_fixed: u64,
    didnt_reproduce: u64,
    trials: u64,
}

impl Seen {
    fn share(&self, count: u64) -> f64 {
        count as f64 / self.proofs as f64
    }

    fn mean_trials(&self) -> f64 {
        self.share(self.trials)
    }
}

/// What is true of the trials.
#[derive(Debug, Clone, Copy)]
struct World {
    /// Hang rates of the baseline and of the candidate.
    rates: [f64; 2],
    /// Share of the trials that are invalid, whatever they would have shown.
    invalid: f64,
    /// Share of the hangs that nobody can tell from a standstill.
    unresolved: f64,
    /// Trials after which nothing hangs on this host any more.
    until: u64,
}

impl World {
    fn of(rates: [f64; 2], invalid: f64) -> Self {
        Self { rates, invalid, unresolved: 0.0, until: u64::MAX }
    }
}

/// A whole proof of one candidate.
fn prove(design: Design, world: World, seed: u64) -> (Answer, u64) {
    let World { rates, invalid, unresolved, until } = world;
    let mut proof = Proof::new(design, &[false]);
    let mut order = Order::new(seed);
    let mut chance = Random::new(!seed);
    while let Some(arm) = order.next(&proof) {
        let rate = match arm {
            _ if proof.trials() >= until => 0.0,
            Arm::Baseline => rates[0],
            Arm::Candidate(_) => rates[1],
        };
        let outcome = match chance.unit() {
            draw if draw < invalid => Outcome::Invalid,
            _ if chance.unit() < rate => {
                if unresolved > 0.0 && chance.unit() < unresolved {
                    Outcome::Unresolved
                } else {
                    Outcome::SameHang
                }
            }
            _ => Outcome::Pass,
        };
        proof.record(Trial { arm, outcome, load: 1.0 });
    }
    (proof.answer(0).unwrap_or(Answer::Inconclusive(Reason::LimitReached)), proof.trials())
}

fn simulate(design: Design, world: World, proofs: u64) -> Seen {
    let mut seen = Seen { proofs, ..Seen::default() };
    for seed in 0..proofs {
        let (answer, trials) = prove(design, world, seed);
        seen.trials += trials;
        match answer {
            Answer::Fixed => seen.fixed += 1,
            Answer::NotFixed => seen.not_fixed += 1,
            Answer::Inconclusive(Reason::BaselineDidntReproduce) => seen.didnt_reproduce += 1,
            Answer::Inconclusive(_) => {}
        }
    }
    seen
}

/// Where *fixed* would be wrong: how often it's said, at most.
fn false_fixed(design: Design, grid: &[[f64; 2]]) {
    for &rates in grid {
        let seen = simulate(design, World::of(rates, 0.02), PROOFS);
        let error = 1.0 - design.confidence;
        // Three standard errors: what chance may add to a share that is at its limit.
        let slack = 3.0 * (error * design.confidence / PROOFS as f64).sqrt();
        assert!(seen.share(seen.fixed) <= error + slack, "{rates:?}: {seen:?}");
    }
}

#[test]
fn false_fixed_of_a_candidate_at_the_residual_rate_or_above() {
    false_fixed(Design::new(1), &[[0.9, 0.05], [0.9, 0.1], [0.5, 0.05], [0.3, 0.05], [0.3, 0.07]]);
}

#[test]
fn false_fixed_of_a_twin() {
    false_fixed(Design::new(1), &[1.0, 0.9, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02].map(|rate| [rate, rate]));
}

#[test]
fn false_fixed_with_a_baseline_that_hardly_hangs() {
    false_fixed(Design::new(1), &[[0.05, 0.0], [0.04, 0.0], [0.02, 0.0], [0.1, 0.05]]);
}

#[test]
fn false_fixed_at_other_levels() {
    for (confidence, residual) in [(0.99, 0.1), (0.8, 0.2)] {
        let design = Design { confidence, residual, least_rate: 0.5, power: confidence, max_trials: 0 }.with_limit(1);
        false_fixed(design, &[[0.9, residual], [residual, 0.0]]);
    }
}

/// Invalid trials that hide hangs select, so one of them in a candidate is enough to say nothing.
#[test]
fn false_fixed_where_hangs_look_like_standstills() {
    for unresolved in [0.3, 1.0] {
        for rate in [0.05, 0.1, 0.3] {
            let seen = simulate(Design::new(1), World { unresolved, ..World::of([0.9, rate], 0.02) }, PROOFS);
            assert!(seen.share(seen.fixed) <= 0.057, "{unresolved} {rate}: {seen:?}");
        }
    }
}

/// A host on which nothing hangs any more is no fix.
#[test]
fn false_fixed_where_the_hangs_stop() {
    for until in [3, 8, 30] {
        for rate in [0.9, 0.5, 0.1] {
            let seen = simulate(Design::new(1), World { until, ..World::of([0.9, rate], 0.02) }, 1000);
            assert_eq!(seen.fixed, 0, "{until} {rate}: {seen:?}");
        }
    }
}

#[test]
fn twins_are_told_quickly_and_fixes_are_found() {
    let design = Design::new(1);
    for rate in [1.0, 0.9, 0.5] {
        let seen = simulate(design, World::of([rate, rate], 0.0), 1000);
        assert!(seen.share(seen.not_fixed) > 0.98 && seen.mean_trials() < 16.0, "{rate}: {seen:?}");
    }
    let by_the_book = fixed_size(&design);
    for rate in [1.0, 0.9, 0.5] {
        let seen = simulate(design, World::of([rate, 0.0], 0.0), 1000);
        let share = seen.mean_trials() / (by_the_book.baseline + by_the_book.candidate) as f64;
        assert!(seen.share(seen.fixed) > 0.98 && share < 0.7, "{rate}: {seen:?} of {by_the_book:?}");
    }
    let seen = simulate(design, World::of([0.0, 0.0], 0.0), 10);
    assert_eq!((seen.didnt_reproduce, seen.trials), (10, 140));
}

/// The bound that only holds for hangs that are as likely in each second holds there at every look; and not where a tenth of the boots decide.
#[test]
fn the_hazard_ratio_holds_under_its_condition_only() {
    const DURATION: f64 = 60.0;
    // The candidate hangs at a tenth of the baseline's rate, or exactly like it in a tenth of its boots.
    let missed = |by_boot: bool| {
        let mut missed = 0;
        for seed in 0..PROOFS {
            let mut chance = Random::new(seed);
            let mut time = |mean: f64| (-mean * (1.0 - chance.unit()).ln()).min(DURATION);
            let (mut hangs, mut baseline, mut candidate) = (0, 0.0, 0.0);
            for _ in 0..20 {
                let took = time(5.0);
                hangs += u64::from(took < DURATION);
                baseline += took;
                let took = if !by_boot {
                    time(50.0)
                } else if time(1.0) < -(0.9f64.ln()) {
                    time(5.0)
                } else {
                    DURATION
                };
                if took < DURATION {
                    break;
                }
                candidate += took;
                if hazard_ratio(hangs, baseline, candidate, 0.95).is_some_and(|ratio| ratio < 0.1) {
                    missed += 1;
                    break;
                }
            }
        }
        missed as f64 / PROOFS as f64
    };
    assert!(missed(false) <= 0.05, "{}", missed(false));
    assert!(missed(true) > 0.3, "{}", missed(true));
}
