//! Simulated searches: how often the answer is wrong, and how many boots it takes, beside two other ways.
//!
//! The first one is `git bisect run` with as many repeats as hold the same error rate, for which it has to be told the hang rate. The other one is the
//! published method as it is (git_bayesect, 2026): Jeffreys priors on both rates, stopping at the same confidence; it doesn't prove its ends.
//! `scripts/bench search` prints the table. The other way's figures are those of its method in our words; what it publishes is a program that simulates it.
//!
//! Read [`Line`] first.

use super::*;
use crate::stats::Random;

const CONFIDENCE: f64 = 0.95;

/// Boots after which a search that has no answer is a wrong one.
const ENOUGH: u64 = 5000;

/// A line with its hang, and the hazards of testing it.
#[derive(Clone, Copy)]
struct Line {
    positions: usize,
    hang_rate: f64,
    invalid: f64,
}

/// What a way of searching came to.
#[derive(Default)]
struct Account {
    searches: u64,
    wrong: u64,
    boots: u64,
}

impl Account {
    fn take(&mut self, (right, boots): (bool, u64)) {
        self.searches += 1;
        self.wrong += u64::from(!right);
        self.boots += boots;
    }

    fn boots(&self) -> f64 {
        self.boots as f64 / self.searches as f64
    }
}

impl Line {
    /// Our way, both ends proven in it.
    fn hunt(self, random: &mut Random) -> (bool, u64) {
        let first_bad = random.below(self.positions);
        let (answer, boots) = self.ended(CONFIDENCE, first_bad, 0.0, random);
        (matches!(&answer, Answer::Found(culprit) if culprit.positions == (first_bad..=first_bad)), boots)
    }

    /// A search to its end; the good end hangs at a rate of its own.
    fn ended(self, confidence: f64, first_bad: usize, good_end: f64, random: &mut Random) -> (Answer, u64) {
        self.troubled(confidence, first_bad, good_end, 0..0, random)
    }

    /// The same, all trials of a while invalid.
    fn troubled(
        self,
        confidence: f64,
        first_bad: usize,
        good_end: f64,
        trouble: std::ops::Range<u64>,
        random: &mut Random,
    ) -> (Answer, u64) {
        let mut hunt = Hunt::new(self.positions, Design { confidence, max_trials: ENOUGH });
        loop {
            let posterior = hunt.search().posterior();
            if let Some(answer) = hunt.answer(&posterior) {
                return (answer, hunt.trials());
            }
            let place = hunt.next(&posterior, |_| 1.0);
            assert!(!matches!(place, Place::At(position) if hunt.search().is_left_out(position)));
            let rate = match place {
                Place::GoodEnd => good_end,
                Place::At(position) if position >= first_bad => self.hang_rate,
                Place::At(_) => 0.0,
            };
            let outcome = if random.unit() < self.invalid || trouble.contains(&hunt.trials()) {
                Outcome::Unknown(Unknown::Invalid)
            } else if random.unit() < rate {
                Outcome::Hang
            } else {
                Outcome::Pass
            };
            hunt.record(place, outcome);
        }
    }

    /// The published way. Its line begins with the good end, which it takes for good without a proof.
    #[cfg(feature = "measure")]
    fn anchor(self, random: &mut Random) -> (bool, u64) {
        let first_bad = 1 + random.below(self.positions);
        let jeffreys = Prior { hang: 0.5, pass: 0.5 };
        let mut search = Search::new(self.positions + 1, Rates { bad: jeffreys, good: jeffreys });
        search.same(None, 0);
        for boots in 0..ENOUGH {
            let posterior = search.posterior();
            if let Some(culprit) = search.answer(&posterior, CONFIDENCE) {
                return (culprit.positions == (first_bad..=first_bad), boots);
            }
            let position = search.next(&posterior, |_| 1.0);
            if random.unit() >= self.invalid {
                let hang = position >= first_bad && random.unit() < self.hang_rate;
                search.record(position, Tally { hang: hang.into(), pass: (!hang).into() });
            }
        }
        (false, ENOUGH)
    }

    /// git's way, with repeats for this hang rate: none of the steps may call a bad one good.
    #[cfg(feature = "measure")]
    fn fixed(self, random: &mut Random) -> (bool, u64) {
        let first_bad = random.below(self.positions);
        let steps = (self.positions as f64).log2().ceil().max(1.0);
        let miss = 1.0 - CONFIDENCE.powf(1.0 / steps);
        let repeats = (miss.ln() / (1.0 - self.hang_rate).ln()).ceil().max(1.0) as u64;
        let (mut low, mut high, mut boots) = (0, self.positions - 1, 0);
        while low < high {
            let middle = (low + high) / 2;
            let mut valid = 0;
            let mut hung = false;
            while valid < repeats && !hung {
                boots += 1;
                if random.unit() >= self.invalid {
                    valid += 1;
                    hung = middle >= first_bad && random.unit() < self.hang_rate;
                }
            }
            if hung {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        (low == first_bad, boots)
    }
}

fn many(searches: u64, line: Line, way: fn(Line, &mut Random) -> (bool, u64)) -> Account {
    let mut random = Random::new(line.positions as u64);
    let mut account = Account::default();
    (0..searches).for_each(|_| account.take(way(line, &mut random)));
    account
}

/// What chance may add to an error that is as large as it may be: three standard errors.
fn at_most(error: f64, searches: u64) -> f64 {
    error + 3.0 * (error * (1.0 - error) / searches as f64).sqrt()
}

#[test]
fn wrong_answers_are_as_rare_as_promised() {
    for (positions, searches) in [(1, 100), (2, 300), (5, 200), (10, 300), (100, 200)] {
        for (hang_rate, invalid) in [(1.0, 0.0), (0.8, 0.0), (0.5, 0.05), (0.3, 0.0), (0.1, 0.05)] {
            let account = many(searches, Line { positions, hang_rate, invalid }, Line::hunt);
            let wrong = account.wrong as f64 / searches as f64;
            assert!(wrong <= at_most(1.0 - CONFIDENCE, searches), "{positions} {hang_rate}: {wrong}, {} boots", account.boots());
        }
    }
}

#[test]
fn a_higher_confidence_is_held_too() {
    let mut random = Random::new(11);
    for (confidence, searches) in [(0.95, 400), (0.99, 400)] {
        for hang_rate in [0.5, 0.1] {
            let line = Line { positions: 3, hang_rate, invalid: 0.0 };
            let wrong = (0..searches).filter(|number| {
                let first_bad = *number as usize % 3;
                !matches!(line.ended(confidence, first_bad, 0.0, &mut random).0, Answer::Found(found) if found.positions == (first_bad..=first_bad))
            });
            let wrong = wrong.count() as f64 / searches as f64;
            assert!(wrong <= at_most(1.0 - confidence, searches), "{confidence} {hang_rate}: {wrong}");
        }
    }
}

/// The bug came with the first position: then nothing but the good end's trials speaks for it.
#[test]
fn a_good_end_that_hangs_is_found_out() {
    let mut random = Random::new(12);
    for hang_rate in [1.0, 0.5, 0.2, 0.1] {
        let line = Line { positions: 4, hang_rate, invalid: 0.0 };
        let searches = 300;
        let missed =
            (0..searches).filter(|_| line.ended(CONFIDENCE, 0, hang_rate, &mut random).0 != Answer::Refused(Refusal::GoodEndHangs));
        let missed = missed.count() as f64 / searches as f64;
        assert!(missed <= at_most(1.0 - CONFIDENCE, searches), "{hang_rate}: {missed}");
    }
}

/// What came with the first position, or was there before it, and hangs seldom: a hang of what is taken for good must not excuse the next one.
#[test]
fn what_is_bad_from_the_start_is_found_soon() {
    let mut random = Random::new(13);
    for (positions, hang_rate, confidence, boots) in
        [(30, 0.1, 0.95, 300), (100, 0.1, 0.95, 350), (100, 0.2, 0.95, 200), (30, 0.3, 0.99, 120), (1000, 0.2, 0.95, 250)]
    {
        let line = Line { positions, hang_rate, invalid: 0.0 };
        let mut took = [0, 0];
        let searches = 20;
        for _ in 0..searches {
            for (took, good_end) in took.iter_mut().zip([0.0, hang_rate]) {
                let (answer, trials) = line.ended(confidence, 0, good_end, &mut random);
                assert!(matches!(answer, Answer::Found(_) | Answer::Refused(Refusal::GoodEndHangs)), "{positions} {hang_rate}: {answer:?}");
                *took += trials;
            }
        }
        let took = took.map(|took| took / searches);
        assert!(took[0] <= boots && took[1] <= boots, "{positions} {hang_rate} {confidence}: {took:?}");
    }
}

/// One in twenty trials is invalid, which says nothing of the kernel: no position is left out for it, and no end refused.
#[test]
fn invalid_trials_by_chance_leave_nothing_out() {
    let mut random = Random::new(10);
    let line = Line { positions: 10, hang_rate: 0.1, invalid: 0.05 };
    let searches = 500;
    let lost = |answer: &Answer| match answer {
        Answer::Found(culprit) => culprit.positions.clone().count() > 1,
        Answer::Refused(why) => matches!(why, Refusal::Unknown(_) | Refusal::Trouble),
    };
    let lost = (0..searches).filter(|number| lost(&line.ended(CONFIDENCE, number % 10, 0.0, &mut random).0)).count();
    assert!(lost <= 3, "{lost} of {searches} searches lost a position or an end");
}

/// So does a while in which this machine is in trouble.
#[test]
fn a_while_of_invalid_trials_leaves_nothing_out() {
    let mut random = Random::new(15);
    let line = Line { positions: 30, hang_rate: 0.3, invalid: 0.0 };
    let searches = 200;
    let lost = |number: usize, random: &mut Random| {
        let begin = 2 + random.below(40) as u64;
        let answer = line.troubled(CONFIDENCE, number % 30, 0.0, begin..begin + 4 + number as u64 % 4, random).0;
        !matches!(answer, Answer::Found(culprit) if culprit.positions.clone().count() == 1)
    };
    let lost = (0..searches).filter(|number| lost(*number, &mut random)).count();
    assert!(lost <= 30, "{lost} of {searches} searches lost a position or an end");
}

/// A commit breaks the build, and a later one mends it: what lies between isn't tried one by one.
#[test]
fn a_stretch_that_cannot_be_built_costs_few_builds() {
    for (positions, broken, first_bad, hang_rate) in [
        (1000, 400..600, 700, 1.0),
        (500, 200..300, 100, 0.5),
        (500, 200..300, 250, 0.8),
        (10_000, 4000..6000, 9000, 1.0),
        (26, 11..12, 14, 0.8),
    ] {
        let mut random = Random::new(16);
        let mut hunt = Hunt::new(positions, Design { confidence: CONFIDENCE, max_trials: ENOUGH });
        let mut failed = 0;
        let answer = loop {
            let posterior = hunt.search().posterior();
            if let Some(answer) = hunt.answer(&posterior) {
                break answer;
            }
            let place = hunt.next(&posterior, |_| 1.0);
            match place {
                Place::At(position) if broken.contains(&position) => {
                    hunt.leave_out(place);
                    failed += 1;
                }
                Place::At(position) if position >= first_bad && random.unit() < hang_rate => hunt.record(place, Outcome::Hang),
                Place::At(_) | Place::GoodEnd => hunt.record(place, Outcome::Pass),
            }
        };
        // One that is broken can only be told from its neighbours by having tried all of them.
        let most = if broken.contains(&first_bad) { broken.len() } else { 12 };
        assert!(matches!(&answer, Answer::Found(found) if found.positions.contains(&first_bad)), "{positions}: {answer:?}");
        assert!(failed <= most, "{positions}: {failed} of {} builds failed, {} trials", broken.len(), hunt.trials());
    }
}

/// Ten thousand positions, few searches: that it ends, and takes no more boots than it should.
#[test]
fn a_long_line_takes_few_boots() {
    let account = many(30, Line { positions: 10_000, hang_rate: 0.5, invalid: 0.05 }, Line::hunt);
    assert!(account.wrong <= 5 && account.boots() < 120.0, "{} wrong, {} boots", account.wrong, account.boots());
}

#[test]
#[cfg(feature = "measure")]
#[expect(clippy::print_stdout, reason = "the table is what it is for")]
fn boots_beside_other_ways() {
    println!(
        "{:>9} {:>5} {:>8} | {:>6} {:>7} | {:>6} {:>7} | {:>6} {:>7} | ratio",
        "positions", "rate", "invalid", "boots", "wrong", "git", "wrong", "anchor", "wrong"
    );
    let (mut ours, mut theirs) = (0.0, 0.0);
    for positions in [10, 100, 1000, 10_000] {
        for hang_rate in [1.0, 0.8, 0.5, 0.3, 0.1] {
            for invalid in [0.0, 0.05] {
                let line = Line { positions, hang_rate, invalid };
                let searches = 1_000_000 / (positions as u64 + 1000);
                let [hunt, git, anchor] = [Line::hunt, Line::fixed, Line::anchor].map(|way| many(searches, line, way));
                let wrong = |account: &Account| format!("{:.2} %", 100.0 * account.wrong as f64 / account.searches as f64);
                println!(
                    "{positions:>9} {hang_rate:>5} {invalid:>8} | {:>6.1} {:>7} | {:>6.1} {:>7} | {:>6.1} {:>7} | {:.2}",
                    hunt.boots(),
                    wrong(&hunt),
                    git.boots(),
                    wrong(&git),
                    anchor.boots(),
                    wrong(&anchor),
                    hunt.boots() / anchor.boots()
                );
                (ours, theirs) = (ours + hunt.boots().ln(), theirs + anchor.boots().ln());
                assert!(hunt.wrong as f64 / searches as f64 <= at_most(1.0 - CONFIDENCE, searches));
            }
        }
    }
    println!("boots beside the anchor's, geometric mean: {:.2}", ((ours - theirs) / 40.0_f64).exp());
}
