//! Simulated searches: how often the answer is wrong.
//!
//! Small, because it runs in a debug build; boots are counted in here, but held against nothing yet.
//!
//! Read [`search`] first.

use super::*;
use crate::stats::Random;

const CONFIDENCE: f64 = 0.95;

/// Searches for a random first bad one. Returns whether the answer is right, and the boots.
fn search(positions: usize, rates: Rates, hang_rate: f64, invalid: f64, random: &mut Random) -> (bool, u64) {
    let first_bad = random.below(positions);
    let mut search = Search::new(positions, rates, CONFIDENCE);
    let (mut boots, mut proven) = (0, 0);
    // The bad end is proven first: until it hung three times.
    while proven < 3 {
        boots += 1;
        let hang = random.unit() < hang_rate;
        search.record(positions - 1, Tally { hang: hang.into(), pass: (!hang).into() });
        proven += u64::from(hang);
    }
    loop {
        let posterior = search.posterior();
        if let Some(culprit) = search.answer(&posterior) {
            return (culprit.positions == (first_bad..=first_bad), boots);
        }
        let position = search.next(&posterior, |_| 1.0);
        boots += 1;
        // A search that doesn't end is a wrong one.
        if boots > 500 {
            return (false, boots);
        }
        if random.unit() < invalid {
            continue;
        }
        let hang = position >= first_bad && random.unit() < hang_rate;
        search.record(position, Tally { hang: hang.into(), pass: (!hang).into() });
    }
}

/// Share of wrong answers, and mean boots.
fn many(positions: usize, rates: Rates, hang_rate: f64, invalid: f64, searches: u64) -> (f64, f64) {
    let mut random = Random::new(positions as u64);
    let (mut wrong, mut boots) = (0, 0);
    for _ in 0..searches {
        let (right, took) = search(positions, rates, hang_rate, invalid, &mut random);
        wrong += u64::from(!right);
        boots += took;
    }
    (wrong as f64 / searches as f64, boots as f64 / searches as f64)
}

#[test]
fn wrong_answers_are_as_rare_as_promised() {
    for (positions, searches) in [(10, 100), (100, 20)] {
        for (hang_rate, invalid) in [(1.0, 0.0), (0.8, 0.0), (0.5, 0.05), (0.3, 0.0), (0.1, 0.05)] {
            let (wrong, boots) = many(positions, Rates::default(), hang_rate, invalid, searches);
            // Three standard errors on top: what chance may add.
            let error = 1.0 - CONFIDENCE;
            let slack = 3.0 * (error * CONFIDENCE / searches as f64).sqrt();
            assert!(wrong <= error + slack, "{positions} {hang_rate}: {wrong}, {boots} boots");
        }
    }
}
