//! Which is the first bad one of a line of commits, kernels or patches, when a bad one doesn't hang in each trial?
//!
//! One position is the *first bad*: from there on a trial hangs with some unknown rate, before it with another, nearly 0. Both rates have beta priors and
//! are integrated out, so a pass weighs as much as the rate that the hangs so far suggest, and no rate has to be given. The next trial is where it's expected
//! to leave the least entropy. That is the published method of git_bayesect (2026: Bayesian bisection by greedy minimisation of the expected
//! entropy, with beta-Bernoulli conjugacy), with three differences: a good one is all but sure not to hang, because a hang counts only with its
//! signature; positions that can't be tested are left out, their neighbours' answers taken together; and that the good end is bad itself is possible, too.
//!
//! When the search ends is `Hunt`'s to say. Pure: the posterior follows from the trials, in any order. This room builds and
//! boots nothing, and knows no git; a trial that shows nothing isn't told to it.
//!
//! Read [`Search`] first, then [`Rates`]; [`Hunt`] is a search with its ends proven.

mod hunt;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::ops::RangeInclusive;

pub use hunt::{Answer, Design, End, Hunt, Outcome, Place, Refusal, Unknown};
use serde::{Deserialize, Serialize};
use statrs::function::beta::ln_beta;

/// What is known of a hang rate before any trial: a beta distribution.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Prior {
    /// Weight of hanging.
    pub hang: f64,
    /// Weight of passing.
    pub pass: f64,
}

impl Prior {
    /// The rate to expect after these trials.
    fn mean(self, seen: Tally) -> f64 {
        (self.hang + seen.hang as f64) / (self.hang + self.pass + seen.trials() as f64)
    }

    /// Natural logarithm of the probability of these trials in their order, the rate integrated out.
    fn log_likelihood(self, seen: Tally) -> f64 {
        ln_beta(self.hang + seen.hang as f64, self.pass + seen.pass as f64) - ln_beta(self.hang, self.pass)
    }
}

/// What is known of both rates before any trial.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Rates {
    /// From the first bad one on.
    pub bad: Prior,
    /// Before it.
    pub good: Prior,
}

impl Default for Rates {
    /// A bad one hangs with any rate: Jeffreys' prior, as in the published method. A good one hangs, with the same signature, once in a thousand trials, which is
    /// sure to a thousand trials: the oracle's tests know no such hang, but one of them must not decide a search for good. Less sure, a hang of what is
    /// taken for good would make the next one likely there, and many hangs from the first position on would never tell that it is bad.
    fn default() -> Self {
        Self { bad: Prior { hang: 0.5, pass: 0.5 }, good: Prior { hang: 1.0, pass: 999.0 } }
    }
}

/// What was seen at a position.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Tally {
    /// Hangs with the signature that is looked for.
    pub hang: u64,
    /// Passes.
    pub pass: u64,
}

impl Tally {
    /// All trials.
    #[must_use]
    pub fn trials(self) -> u64 {
        self.hang + self.pass
    }

    fn plus(self, other: Self) -> Self {
        Self { hang: self.hang + other.hang, pass: self.pass + other.pass }
    }

    fn minus(self, other: Self) -> Self {
        Self { hang: self.hang - other.hang, pass: self.pass - other.pass }
    }
}

/// The posterior of the first bad position, with what choosing needs: all per position.
#[derive(Debug, Clone, PartialEq)]
pub struct Posterior {
    /// Probability that this one is the first bad one.
    pub first_bad: Vec<f64>,
    /// Probability that none of them is, because the good end is bad too: as likely before any trial as that one of them is.
    pub before: f64,
    // The rates to expect in a bad and in a good one, if this one is the first bad one.
    bad: Vec<f64>,
    good: Vec<f64>,
}

/// A search as it stands. Positions go from the oldest, 0, to the last, the bad end; the good end is before 0 and isn't one of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Search {
    rates: Rates,
    seen: Vec<Tally>,
    untestable: Vec<bool>,
    // What runs there is what runs at the one before: it can't be the first bad one.
    unchanged: Vec<bool>,
    // Trials of the good end: they tell what a good one does.
    good_end: Tally,
}

/// The search's answer: the first bad one, or all that can't be told from it because what lies between can't be tested.
#[derive(Debug, Clone, PartialEq)]
pub struct Culprit {
    /// Positions of which one is the first bad one.
    pub positions: RangeInclusive<usize>,
    /// The probability of that.
    pub probability: f64,
}

impl Search {
    /// A search over so many positions, at least one, none tested.
    #[must_use]
    pub fn new(positions: usize, rates: Rates) -> Self {
        let positions = positions.max(1);
        Self {
            rates,
            seen: vec![Tally::default(); positions],
            untestable: vec![false; positions],
            unchanged: vec![false; positions],
            good_end: Tally::default(),
        }
    }

    /// How many positions there are.
    #[must_use]
    pub fn positions(&self) -> usize {
        self.seen.len()
    }

    /// What was seen at a position.
    #[must_use]
    pub fn seen(&self, position: usize) -> Tally {
        self.seen.get(position).copied().unwrap_or_default()
    }

    /// Takes in trials of a position; of one that isn't there it takes nothing.
    pub fn record(&mut self, position: usize, trials: Tally) {
        if let Some(seen) = self.seen.get_mut(position) {
            *seen = seen.plus(trials);
        }
    }

    /// Takes in trials of the good end.
    pub fn record_good_end(&mut self, trials: Tally) {
        self.good_end = self.good_end.plus(trials);
    }

    /// Leaves out a position: it can't be built, doesn't boot, or its trials show nothing. What it showed before stays. The bad end can't be left out.
    pub fn leave_out(&mut self, position: usize) {
        if position + 1 < self.positions() {
            self.untestable[position] = true;
        }
    }

    /// The same kernel, bit by bit, runs at `from` (the good end, if none) and at the later `to`: neither `to` nor any between is the first bad one.
    /// Returns false, and changes nothing, if none would be left: then the ends are the same.
    pub fn same(&mut self, from: Option<usize>, to: usize) -> bool {
        let mut unchanged = self.unchanged.clone();
        let start = from.map_or(0, |from| from + 1);
        unchanged.iter_mut().take(to + 1).skip(start).for_each(|unchanged| *unchanged = true);
        let some_left = unchanged.contains(&false);
        if some_left {
            self.unchanged = unchanged;
        }
        some_left
    }

    /// Whether a position was left out.
    #[must_use]
    pub fn is_left_out(&self, position: usize) -> bool {
        self.untestable.get(position) == Some(&true)
    }

    /// Whether this position can be the first bad one, for all that is known of what runs there.
    #[must_use]
    pub fn is_possible(&self, position: usize) -> bool {
        self.unchanged.get(position) == Some(&false)
    }

    /// The posterior. Evenly spread before any trial.
    #[must_use]
    pub fn posterior(&self) -> Posterior {
        let Rates { bad, good } = self.rates;
        let mut right = self.seen.iter().fold(Tally::default(), |sum, seen| sum.plus(*seen));
        let mut left = self.good_end;
        let of = |left, right| (bad.log_likelihood(right) + good.log_likelihood(left), bad.mean(right), good.mean(left));
        let mut here = of(left, right);
        let per_position: Vec<_> = self
            .seen
            .iter()
            .map(|seen| {
                let found = here;
                // Between trials nothing changes, which makes a long history cheap.
                if seen.trials() > 0 {
                    (left, right) = (left.plus(*seen), right.minus(*seen));
                    here = of(left, right);
                }
                found
            })
            .collect();
        let possible = |(position, (log, ..)): (usize, &(f64, f64, f64))| if self.unchanged[position] { f64::NEG_INFINITY } else { *log };
        let best = per_position.iter().enumerate().map(possible).fold(f64::NEG_INFINITY, f64::max);
        let mut first_bad: Vec<_> = per_position.iter().enumerate().map(|item| (possible(item) - best).exp()).collect();
        let sum: f64 = first_bad.iter().sum();
        let possible = self.unchanged.iter().filter(|unchanged| !**unchanged).count().max(1);
        let all = self.seen.iter().fold(self.good_end, |sum, seen| sum.plus(*seen));
        let before = 1.0 / (1.0 + sum / possible as f64 * (best - bad.log_likelihood(all)).exp());
        first_bad.iter_mut().for_each(|weight| *weight /= sum);
        let (bad, good) = per_position.into_iter().map(|(_, bad, good)| (bad, good)).unzip();
        Posterior { first_bad, before, bad, good }
    }

    /// The likeliest answer, positions that were left out taken together with the next that wasn't.
    #[must_use]
    pub fn likeliest(&self, posterior: &Posterior) -> Culprit {
        self.best(posterior, |position| self.untestable[position])
    }

    /// The likeliest answer, which takes only those positions together of which nothing is known: some showed something before they were left out.
    #[must_use]
    pub fn narrowest(&self, posterior: &Posterior) -> Culprit {
        self.best(posterior, |position| self.untestable[position] && self.seen[position].trials() == 0)
    }

    fn best(&self, posterior: &Posterior, is_merged: impl Fn(usize) -> bool) -> Culprit {
        let mut best = Culprit { positions: 0..=0, probability: 0.0 };
        let (mut start, mut probability) = (0, 0.0);
        for (position, share) in posterior.first_bad.iter().enumerate() {
            probability += share;
            if is_merged(position) {
                continue;
            }
            if probability > best.probability {
                best = Culprit { positions: start..=position, probability };
            }
            (start, probability) = (position + 1, 0.0);
        }
        best
    }

    /// The answer, if it reaches a confidence: the published method's end. [`Hunt`] asks for more where hangs are rare.
    #[cfg(test)]
    fn answer(&self, posterior: &Posterior, confidence: f64) -> Option<Culprit> {
        Some(self.likeliest(posterior)).filter(|culprit| culprit.probability >= confidence)
    }

    /// The probability that a trial of a position hangs.
    #[must_use]
    pub fn hang_expected(&self, posterior: &Posterior, position: usize) -> f64 {
        let Posterior { first_bad, before: _, bad, good } = posterior;
        let each = first_bad.iter().zip(bad).zip(good).enumerate();
        each.map(|(first, ((share, bad), good))| share * if first <= position { bad } else { good }).sum()
    }

    /// Where to test next: where a trial is expected to tell most about which one is the first bad one. The bad end is one of the places: its trials tell
    /// the rate that passes elsewhere are weighed with.
    ///
    /// What a trial tells is the entropy of its outcome without the noise that stays when the first bad one is known; entropy expected afterwards is
    /// today's less that. A place is worth what it tells for its `cost`, in any unit: one that has to be built first costs more than a boot; and what it tells,
    /// it tells only if it can be tested.
    #[must_use]
    pub fn next(&self, posterior: &Posterior, cost: impl Fn(usize) -> f64) -> usize {
        let Posterior { first_bad, before: _, bad, good } = posterior;
        let per_position = || first_bad.iter().zip(bad).zip(good).map(|((share, bad), good)| (*share, *bad, *good));
        // The first bad one is at or before a position: it's bad. Else it's good. At first it's good for all.
        let (mut hangs, mut noise) =
            per_position().fold((0.0, 0.0), |(hangs, noise), (share, _, good)| (hangs + share * good, noise + share * entropy(good)));
        let testable = self.testable();
        let mut best = (f64::NEG_INFINITY, self.positions() - 1);
        let mut cached = (f64::NAN, f64::NAN, 0.0);
        for (position, (share, bad, good)) in per_position().enumerate() {
            if (cached.0, cached.1) != (bad, good) {
                cached = (bad, good, entropy(bad) - entropy(good));
            }
            hangs += share * (bad - good);
            noise += share * cached.2;
            if self.untestable[position] {
                continue;
            }
            let worth = (entropy(hangs) - noise) * testable[position] / cost(position);
            if worth > best.0 {
                best = (worth, position);
            }
        }
        best.1
    }

    /// The probability that a position can be tested, as far as its neighbours tell. What can't be tested comes in stretches: from the commit that breaks the
    /// build to the one that mends it. Of a stretch of which `n` positions are known, all lengths being as likely (on a logarithmic scale), one
    /// goes on for `d` more with a probability of n / (n + d): Gott's argument (Nature 363, 1993), one-sided. What was tested ends it.
    fn testable(&self) -> Vec<f64> {
        let mut guesses = vec![1.0; self.positions()];
        let mut start = 0;
        for end in 0..=self.positions() {
            if self.seen.get(end).is_some_and(|seen| seen.trials() == 0) {
                continue;
            }
            let left_out: Vec<usize> = (start..end).filter(|position| self.untestable[*position]).collect();
            if let (Some(first), Some(last)) = (left_out.first(), left_out.last()) {
                let known = (last - first + 1) as f64;
                for (position, guess) in guesses.iter_mut().enumerate().take(end).skip(start) {
                    let after = left_out.partition_point(|other| *other < position);
                    let neighbours = left_out[..after].last().into_iter().chain(left_out.get(after));
                    let distance = neighbours.map(|other| position.abs_diff(*other)).min().unwrap_or_default() as f64;
                    *guess = distance / (distance + known);
                }
            }
            start = end + 1;
        }
        guesses
    }
}

impl Posterior {
    /// How many bits are missing to certainty.
    #[must_use]
    pub fn entropy(&self) -> f64 {
        self.first_bad.iter().map(|share| if *share <= 0.0 { 0.0 } else { -share * share.log2() }).sum()
    }
}

/// The entropy of a trial with this hang rate, in bits.
fn entropy(rate: f64) -> f64 {
    let part = |rate: f64| if rate <= 0.0 { 0.0 } else { -rate * rate.log2() };
    part(rate) + part(1.0 - rate)
}
