//! The search against brute force: everything enumerated and integrated, one position after another.

use super::*;
use proptest::prelude::*;

/// Posterior of each position, and that of all being bad, the good end too, straight from the definition: the rates on a fine grid, each trial's probability
/// multiplied in.
fn brute_force(search: &Search) -> (Vec<f64>, f64) {
    const STEPS: u32 = 1000;
    let density = |prior: Prior, rate: f64| rate.powf(prior.hang - 1.0) * (1.0 - rate).powf(prior.pass - 1.0);
    let integral = |prior: Prior, seen: Tally| -> f64 {
        let at = |step| (f64::from(step) + 0.5) / f64::from(STEPS);
        let weigh = |rate: f64| rate.powf(seen.hang as f64) * (1.0 - rate).powf(seen.pass as f64);
        let total: f64 = (0..STEPS).map(|step| density(prior, at(step))).sum();
        (0..STEPS).map(|step| density(prior, at(step)) * weigh(at(step))).sum::<f64>() / total
    };
    let sum = |range: std::ops::Range<usize>| range.fold(Tally::default(), |sum, position| sum.plus(search.seen(position)));
    let weights: Vec<_> = (0..search.positions())
        .map(|first| {
            integral(search.rates.bad, sum(first..search.positions())) * integral(search.rates.good, sum(0..first).plus(search.good_end))
        })
        .collect();
    let total: f64 = weights.iter().sum();
    // As likely before any trial as that one of the positions is the first bad one.
    let all_bad = integral(search.rates.bad, sum(0..search.positions()).plus(search.good_end));
    let before = all_bad / (all_bad + total / search.positions() as f64);
    (weights.iter().map(|weight| weight / total).collect(), before)
}

/// Bits of entropy that a trial at `position` is expected to leave: both outcomes recorded, each weighed with its probability.
fn expected_entropy(search: &Search, position: usize) -> f64 {
    let now = search.posterior();
    let share = |first: usize| if first <= position { now.bad[first] } else { now.good[first] };
    let hangs: f64 = now.first_bad.iter().enumerate().map(|(first, weight)| weight * share(first)).sum();
    let after = |trial: Tally| {
        let mut search = search.clone();
        search.record(position, trial);
        search.posterior().first_bad.iter().map(|weight| if *weight > 0.0 { -weight * weight.log2() } else { 0.0 }).sum::<f64>()
    };
    hangs * after(Tally { hang: 1, pass: 0 }) + (1.0 - hangs) * after(Tally { hang: 0, pass: 1 })
}

/// Small searches with priors that a grid can integrate.
fn searches() -> impl Strategy<Value = Search> {
    let rates = Rates { bad: Prior { hang: 1.0, pass: 1.0 }, good: Prior { hang: 1.0, pass: 20.0 } };
    let positions = prop::collection::vec((0u64..4, 0u64..5, prop::bool::weighted(0.2)), 1..9);
    (positions, 0u64..2, 0u64..9).prop_map(move |(positions, hang, pass)| {
        let mut search = Search::new(positions.len(), rates);
        search.record_good_end(Tally { hang, pass });
        for (position, (hang, pass, untestable)) in positions.into_iter().enumerate() {
            search.record(position, Tally { hang, pass });
            if untestable {
                search.leave_out(position);
            }
        }
        search
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    #[test]
    fn the_posterior_is_that_of_brute_force(search in searches()) {
        let (posterior, (first_bad, before)) = (search.posterior(), brute_force(&search));
        for (found, expected) in posterior.first_bad.iter().zip(first_bad) {
            prop_assert!((found - expected).abs() < 1e-3, "{found} {expected}");
        }
        prop_assert!((posterior.before - before).abs() < 1e-3, "{} {before}", posterior.before);
    }

    #[test]
    fn the_choice_leaves_the_least_entropy(search in searches()) {
        let testable: Vec<_> = (0..search.positions()).filter(|position| !search.untestable[*position]).collect();
        let chosen = search.next(&search.posterior(), |_| 1.0);
        prop_assert!(testable.contains(&chosen));
        let (now, guesses) = (search.posterior().entropy(), search.testable());
        let told = |position: usize| (now - expected_entropy(&search, position)) * guesses[position];
        let most = testable.iter().map(|position| told(*position)).fold(f64::NEG_INFINITY, f64::max);
        prop_assert!(told(chosen) > most - 1e-9);
    }

    /// The posterior is of the tallies: a search that is resumed from its saved state goes on where it was.
    #[test]
    fn a_saved_search_is_the_same(search in searches()) {
        let json = serde_json::to_string(&search).unwrap_or_default();
        prop_assert_eq!(serde_json::from_str::<Search>(&json).ok(), Some(search));
    }
}

#[test]
fn a_hang_rules_out_what_comes_later_and_passes_only_fade() {
    let mut search = Search::new(10, Rates::default());
    let hangs = |count| Tally { hang: count, pass: 0 };
    let passes = |count| Tally { hang: 0, pass: count };
    assert!(search.posterior().first_bad.iter().all(|share| (share - 0.1).abs() < 1e-12));
    search.record(9, hangs(3));
    search.record(5, hangs(1));
    let after: f64 = search.posterior().first_bad[6..].iter().sum();
    assert!(after < 0.01, "{after}");
    // Passes speak for good by as much as the rate says: at 4 of 4 hangs one pass is much, at 4 of 44 little.
    search.record(2, passes(1));
    let sure: f64 = search.posterior().first_bad[..3].iter().sum();
    search.record(9, passes(40));
    let unsure: f64 = search.posterior().first_bad[..3].iter().sum();
    assert!(sure < 0.25 && unsure > 0.4, "{sure} {unsure}");
}

#[test]
fn what_cannot_be_tested_is_guessed_to_go_on_for_as_long_as_it_is_known() {
    let mut search = Search::new(100, Rates::default());
    assert!(search.testable().iter().all(|guess| *guess == 1.0));
    search.leave_out(50);
    let guesses = search.testable();
    assert_eq!([guesses[50], guesses[49], guesses[53], guesses[59]], [0.0, 0.5, 0.75, 0.9]);
    search.leave_out(59);
    let guesses = search.testable();
    // Ten are known: from one end of them to ten further it's an even bet, and in between it is none.
    assert_eq!([guesses[40], guesses[69], guesses[54]], [0.5, 0.5, 4.0 / 14.0]);
    // What was tested ends it.
    search.record(62, Tally { hang: 0, pass: 1 });
    let guesses = search.testable();
    assert_eq!([guesses[61], guesses[62], guesses[63]], [2.0 / 12.0, 1.0, 1.0]);
}

#[test]
fn what_cannot_be_told_apart_is_one_answer() {
    let mut search = Search::new(6, Rates::default());
    assert_eq!(search.answer(&search.posterior(), 0.9), None);
    search.leave_out(2);
    search.leave_out(3);
    search.leave_out(5);
    search.record(4, Tally { hang: 20, pass: 0 });
    search.record(1, Tally { hang: 0, pass: 20 });
    let found = search.answer(&search.posterior(), 0.9);
    assert_eq!(found.map(|culprit| culprit.positions), Some(2..=4));
    // The bad end can't be left out.
    let mut search = Search::new(2, Rates::default());
    search.leave_out(0);
    search.leave_out(1);
    assert_eq!(search.next(&search.posterior(), |_| 1.0), 1);
    assert_eq!(search.answer(&search.posterior(), 0.95).map(|culprit| culprit.positions), Some(0..=1));
}
