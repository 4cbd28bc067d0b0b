//! A search with its ends proven, trial by trial: what is tested next, and what is known in the end.
//!
//! A search believes that the bad end hangs and that the good end doesn't. So it begins with a hang of the bad end and a pass of the good one, and there is no
//! answer before the good end, and what is like it, passed so often that a bad one would have hung. How often that is depends on the rate, of which most is known
//! in the end; and each pass of a position that is good speaks for the good end too. A trial that shows neither
//! is *unknown*: it speaks for nothing, and a position with too many of them is left out. Pure. The posterior doesn't depend on the order of the records; what
//! is left out does, and so do trials that are invalid one after the other.
//!
//! Read [`Hunt`] first.

use super::{Culprit, Posterior, Rates, Search, Tally};
use serde::{Deserialize, Serialize};

/// The least hang rate of the bad end: one that hangs less often is refused. A search is for rates from 0.1 on, and one of these is refused once in 500 times.
pub const LEAST_RATE: f64 = 0.05;

/// Hangs that tell a rate well enough to prove the good end by it; a bad end that hung so often is not refused for hanging seldom.
const SEEN_OFTEN: u64 = 3;

/// What the posterior may leave for the others, if bad ones hung so often, so that an answer is wrong with a probability of at most `error` at each hang rate
/// that a search is for.
///
/// The posterior is right on average over all hang rates, and too sure at the low ones, where the rate is known from few hangs: passes of a bad one are then rarer
/// than they are thought to be by a power: with `h` hangs, an error of `e` is one of about `e^(h/(h+1))`. The rest was simulated (`simulation`).
fn allowed(error: f64, hangs: u64) -> f64 {
    (SHARE * error).powf(1.0 + 1.0 / hangs.max(1) as f64)
}

/// What of an error is the posterior's; the rest is for what the power leaves out.
const SHARE: f64 = 0.6;

/// Unknown trials after which a position is left out, if they are more than the others.
const UNKNOWN_ENOUGH: u64 = 3;

/// Boot failures after which a position is left out: a kernel that doesn't boot seldom boots the next time.
const BOOT_FAILURES_ENOUGH: u64 = 2;

/// Invalid trials of a place in a row after which the bad end is tried: if that shows something, what is wrong is with that place's kernel. Where one in twenty
/// is invalid by chance, three in a row come in one of fifty long searches, and four hardly ever.
const INVALID_THERE: u64 = 4;

/// Invalid trials in a row after which the search ends: what is wrong then is here.
const INVALID_ENOUGH: u64 = 8;

/// What a search is to show.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Design {
    /// An answer is wrong with a probability of at most 1 minus this.
    pub confidence: f64,
    /// Trials after which it ends without an answer.
    pub max_trials: u64,
}

/// One of the ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// That shouldn't hang.
    Good,
    /// That should.
    Bad,
}

/// Where a trial is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// At the good end, which is before position 0.
    GoodEnd,
    /// At a position; the last one is the bad end.
    At(usize),
}

/// What a trial means to a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The hang that is looked for.
    Hang,
    /// A pass.
    Pass,
    /// Neither.
    Unknown(Unknown),
}

/// Why a trial is neither good nor bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unknown {
    /// Another hang than that of the bad end.
    OtherHang,
    /// The kernel crashed.
    Crash,
    /// It didn't boot.
    BootFailure,
    /// The trigger didn't fire.
    NotTriggered,
    /// It stood still, and nobody knows whether for good.
    Standstill,
    /// Our own trouble.
    Invalid,
}

/// Why a search refuses to look, or gave up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// The bad end didn't hang, or hardly ever.
    BadEndPasses,
    /// The good end hung in the same way.
    GoodEndHangs,
    /// An end can't be built or booted, or its trials show nothing.
    Unknown(End),
    /// Both ends are the same kernel.
    Same,
    /// Invalid trials one after the other.
    Trouble,
    /// So many trials as were allowed.
    Limit,
}

/// A search's end.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// The first bad one.
    Found(Culprit),
    /// None.
    Refused(Refusal),
}

#[derive(Debug, Clone, Copy, Default)]
struct Unclear {
    unknown: u64,
    boot_failures: u64,
    invalid_in_a_row: u64,
    /// How often it was doubted for them, and the bad end showed that they weren't ours.
    doubts: u64,
}

/// A search as it stands, its ends included.
#[derive(Debug, Clone)]
pub struct Hunt {
    search: Search,
    design: Design,
    good_end: Tally,
    unclear: Vec<Unclear>,
    unclear_good: Unclear,
    trials: u64,
    invalid_in_a_row: u64,
    goes_back: bool,
    // The good end was refused for invalid trials, which the next session may not have.
    doubts_good_end: bool,
    refusal: Option<Refusal>,
}

impl Hunt {
    /// A search over so many positions, at least one, nothing tested.
    #[must_use]
    pub fn new(positions: usize, design: Design) -> Self {
        let search = Search::new(positions, Rates::default());
        Self {
            unclear: vec![Unclear::default(); search.positions()],
            search,
            design,
            good_end: Tally::default(),
            unclear_good: Unclear::default(),
            trials: 0,
            invalid_in_a_row: 0,
            goes_back: false,
            doubts_good_end: false,
            refusal: None,
        }
    }

    /// What was seen, position by position.
    #[must_use]
    pub fn search(&self) -> &Search {
        &self.search
    }

    /// What was seen at the good end.
    #[must_use]
    pub fn good_end(&self) -> Tally {
        self.good_end
    }

    /// Trials so far.
    #[must_use]
    pub fn trials(&self) -> u64 {
        self.trials
    }

    /// Takes in a trial.
    pub fn record(&mut self, place: Place, outcome: Outcome) {
        self.trials += 1;
        self.invalid_in_a_row = if outcome == Outcome::Unknown(Unknown::Invalid) { self.invalid_in_a_row + 1 } else { 0 };
        self.doubt(place, outcome);
        let tally = match outcome {
            Outcome::Hang => Tally { hang: 1, pass: 0 },
            Outcome::Pass => Tally { hang: 0, pass: 1 },
            Outcome::Unknown(unknown) => return self.unclear(place, unknown),
        };
        match place {
            Place::GoodEnd => {
                self.good_end = self.good_end.plus(tally);
                self.search.record_good_end(tally);
            }
            Place::At(position) => self.search.record(position, tally),
        }
    }

    /// Whether invalid trials are a kernel's doing (the reproducer needs something that it lacks, nobody can log in) or ours: the bad end, which hung
    /// before, tells. Its trials can be told from ours only as long as it shows something.
    fn doubt(&mut self, place: Place, outcome: Outcome) {
        let invalid = outcome == Outcome::Unknown(Unknown::Invalid);
        if let (Some(unclear), _) = self.known(place) {
            unclear.invalid_in_a_row = if invalid { unclear.invalid_in_a_row + 1 } else { 0 };
        }
        if place == Place::At(self.bad_end()) && matches!(outcome, Outcome::Hang | Outcome::Pass) {
            for place in self.doubted() {
                let (Some(unclear), seen) = self.known(place) else { continue };
                unclear.doubts += 1;
                unclear.invalid_in_a_row = 0;
                // What happens to this machine for a while happens to a kernel that showed something, too, but seldom twice.
                if seen.trials() == 0 || unclear.doubts > 1 && unclear.doubts * INVALID_THERE > seen.trials() {
                    self.doubts_good_end |= place == Place::GoodEnd;
                    self.leave_out(place);
                }
            }
        }
    }

    /// Places that wait for a trial of the bad end, which tells whether their invalid trials are their kernels' doing.
    fn doubted(&self) -> Vec<Place> {
        let positions = self.unclear.iter().enumerate().map(|(position, unclear)| (Place::At(position), unclear));
        let all = positions.chain([(Place::GoodEnd, &self.unclear_good)]);
        let waits = |(place, unclear): &(Place, &Unclear)| unclear.invalid_in_a_row >= INVALID_THERE && !self.is_left_out(*place);
        all.filter(waits).map(|(place, _)| place).collect()
    }

    /// What is known of a place's trials that show nothing, and what the others showed.
    fn known(&mut self, place: Place) -> (Option<&mut Unclear>, Tally) {
        match place {
            Place::GoodEnd => (Some(&mut self.unclear_good), self.good_end),
            Place::At(position) => (self.unclear.get_mut(position), self.search.seen(position)),
        }
    }

    fn unclear(&mut self, place: Place, why: Unknown) {
        let (Some(unclear), seen) = self.known(place) else { return };
        match why {
            // Most often our trouble, which says nothing of the kernel: see `doubt`.
            Unknown::Invalid => return,
            Unknown::BootFailure => unclear.boot_failures += 1,
            Unknown::OtherHang | Unknown::Crash | Unknown::NotTriggered | Unknown::Standstill => {}
        }
        unclear.unknown += 1;
        let enough = unclear.boot_failures >= BOOT_FAILURES_ENOUGH || unclear.unknown >= UNKNOWN_ENOUGH;
        if enough && unclear.unknown > seen.trials() {
            self.leave_out(place);
        }
    }

    /// A kernel can't be tested. Of an end, that ends the search.
    pub fn leave_out(&mut self, place: Place) {
        match place {
            Place::GoodEnd => self.refuse(Refusal::Unknown(End::Good)),
            Place::At(position) if position == self.bad_end() => self.refuse(Refusal::Unknown(End::Bad)),
            Place::At(position) => self.search.leave_out(position),
        }
    }

    /// Whether a place can't be tested.
    #[must_use]
    pub fn is_left_out(&self, place: Place) -> bool {
        match place {
            Place::GoodEnd => self.refusal == Some(Refusal::Unknown(End::Good)),
            Place::At(position) if position == self.bad_end() => self.refusal == Some(Refusal::Unknown(End::Bad)),
            Place::At(position) => self.search.is_left_out(position),
        }
    }

    /// The search goes on after somebody has looked: what went wrong in a row before doesn't count, nor that the good end was refused for it.
    pub fn go_on(&mut self) {
        if std::mem::take(&mut self.doubts_good_end) {
            self.refusal = self.refusal.filter(|refusal| *refusal != Refusal::Unknown(End::Good));
        }
        self.invalid_in_a_row = 0;
        self.unclear.iter_mut().chain([&mut self.unclear_good]).for_each(|unclear| (unclear.invalid_in_a_row, unclear.doubts) = (0, 0));
    }

    /// The same kernel, bit by bit, is at both places. If that leaves no position where the hang can have come, a change was taken back and made again in
    /// between; it is then left out of account, unless the places are the ends.
    pub fn same(&mut self, one: Place, other: Place) {
        let number = |place| match place {
            Place::GoodEnd => None,
            Place::At(position) => Some(position),
        };
        let (from, to) = if number(one) < number(other) { (one, other) } else { (other, one) };
        if let Some(to) = number(to)
            && !self.search.same(number(from), to)
        {
            if from == Place::GoodEnd && to == self.bad_end() {
                self.refuse(Refusal::Same);
            } else {
                self.goes_back = true;
            }
        }
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.refusal.get_or_insert(refusal);
    }

    fn bad_end(&self) -> usize {
        self.search.positions() - 1
    }

    /// Whether the same kernels were found on both sides of each position: the line isn't good first and bad then.
    #[must_use]
    pub fn goes_back(&self) -> bool {
        self.goes_back
    }

    /// Whether the bad end hung.
    #[must_use]
    pub fn bad_end_hung(&self) -> bool {
        self.search.seen(self.bad_end()).hang > 0
    }

    /// Whether the good end passed.
    #[must_use]
    pub fn good_end_passed(&self) -> bool {
        self.good_end.pass > 0
    }

    /// Hangs of what is bad if this is the answer.
    fn hangs(&self, culprit: &Culprit) -> u64 {
        (*culprit.positions.end()..self.search.positions()).map(|position| self.search.seen(position).hang).sum()
    }

    /// The likeliest answer, if it is sure enough, and whether the good end is, too. The narrower one, if that is.
    fn culprit(&self, posterior: &Posterior) -> Option<(Culprit, bool)> {
        let sure = |culprit: Culprit| {
            let allowed = allowed(1.0 - self.design.confidence, self.hangs(&culprit));
            (1.0 - culprit.probability <= allowed).then_some((culprit, posterior.before <= allowed))
        };
        sure(self.search.narrowest(posterior)).or_else(|| sure(self.search.likeliest(posterior)))
    }

    /// Passes of the good end that are missing to its proof, when that is all that is missing, or as many as trials are allowed if it is more; none before there is a likeliest answer that is sure enough.
    #[must_use]
    pub fn passes_missing(&self, posterior: &Posterior) -> Option<u64> {
        let (culprit, _) = self.culprit(posterior)?;
        Some(self.passes_to_prove(&culprit, posterior))
    }

    /// Passes of the good end that its proof would take if the likeliest answer were sure now; before the rate is known, as if the bad end had hung each time
    /// until it was.
    #[must_use]
    pub fn passes_expected(&self, posterior: &Posterior) -> u64 {
        let missing = SEEN_OFTEN.saturating_sub(self.hangs(&self.search.likeliest(posterior)));
        let mut known = self.clone();
        known.search.record(self.bad_end(), Tally { hang: missing, pass: 0 });
        let posterior = known.search.posterior();
        known.passes_to_prove(&known.search.likeliest(&posterior), &posterior)
    }

    fn passes_to_prove(&self, culprit: &Culprit, posterior: &Posterior) -> u64 {
        let allowed = allowed(1.0 - self.design.confidence, self.hangs(culprit));
        if posterior.before <= allowed {
            return 0;
        }
        let proven_by = |passes| {
            let mut search = self.search.clone();
            search.record_good_end(Tally { hang: 0, pass: passes });
            search.posterior().before <= allowed
        };
        // Each pass speaks for it, so the least number lies between two powers of two.
        let mut powers = (0..u64::BITS - 1).map(|power| 1 << power);
        let mut enough = powers.find(|passes| *passes >= self.design.max_trials || proven_by(*passes)).unwrap_or(u64::MAX);
        let mut few = enough / 2;
        while few + 1 < enough {
            let middle = few.midpoint(enough);
            if proven_by(middle) { enough = middle } else { few = middle }
        }
        enough.min(self.design.max_trials)
    }

    /// Takes in a trial that goes on as if it had shown what is likelier: so trials at once aren't all made where one of them would tell most.
    pub fn expect(&mut self, place: Place) {
        let posterior = self.search.posterior();
        let hangs = match place {
            Place::GoodEnd => posterior.before > 0.5,
            Place::At(position) => self.search.hang_expected(&posterior, position) > 0.5,
        };
        self.record(place, if hangs { Outcome::Hang } else { Outcome::Pass });
    }

    /// Passes of the bad end in a row that say that it hangs less often than [`LEAST_RATE`].
    fn too_many_passes(&self) -> u64 {
        ((1.0 - self.design.confidence).ln() / (1.0 - LEAST_RATE).ln()).ceil() as u64
    }

    /// The answer, once there is one.
    #[must_use]
    pub fn answer(&self, posterior: &Posterior) -> Option<Answer> {
        let refused = |refusal| Some(Answer::Refused(refusal));
        if let Some(refusal) = self.refusal {
            return refused(refusal);
        }
        if self.good_end.hang > 0 {
            return refused(Refusal::GoodEndHangs);
        }
        let bad = self.search.seen(self.bad_end());
        let unlikely = (bad.hang + 1) * self.too_many_passes();
        if bad.hang < SEEN_OFTEN && bad.trials() >= unlikely {
            return refused(Refusal::BadEndPasses);
        }
        if self.bad_end_hung()
            && self.good_end_passed()
            && let Some((culprit, true)) = self.culprit(posterior)
        {
            return Some(Answer::Found(culprit));
        }
        if self.invalid_in_a_row >= INVALID_ENOUGH {
            return refused(Refusal::Trouble);
        }
        if self.trials >= self.design.max_trials { refused(Refusal::Limit) } else { None }
    }

    /// Where the next trial is to be made, while there is no answer: at the bad end until it hung, at the good end until it passed, then where it tells most
    /// for its `cost`; when all that is missing is the good end's proof, at the culprit until it hung often enough, and then at the good end.
    #[must_use]
    pub fn next(&self, posterior: &Posterior, cost: impl Fn(usize) -> f64) -> Place {
        if !self.bad_end_hung() || !self.doubted().is_empty() {
            return Place::At(self.bad_end());
        }
        if !self.good_end_passed() {
            return Place::GoodEnd;
        }
        match self.culprit(posterior) {
            None => Place::At(self.search.next(posterior, cost)),
            // With a rate that is hardly known no number of passes is many.
            Some((culprit, _)) if self.hangs(&culprit) < SEEN_OFTEN => {
                // It may have been left out after it hung: what comes after it is bad, too.
                let mut bad = *culprit.positions.end()..self.bad_end();
                Place::At(bad.find(|position| !self.search.is_left_out(*position)).unwrap_or(self.bad_end()))
            }
            Some(_) => Place::GoodEnd,
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn hunt() -> Hunt {
        Hunt::new(8, Design { confidence: 0.95, max_trials: 300 })
    }

    fn next(hunt: &Hunt) -> Place {
        hunt.next(&hunt.search.posterior(), |_| 1.0)
    }

    fn answer(hunt: &Hunt) -> Option<Answer> {
        hunt.answer(&hunt.search.posterior())
    }

    const BAD: Place = Place::At(7);

    #[test]
    fn both_ends_come_first_and_the_good_one_takes_more_where_hangs_are_rare() {
        let mut often = hunt();
        assert_eq!(next(&often), BAD);
        often.record(BAD, Outcome::Pass);
        assert_eq!(next(&often), BAD);
        often.record(BAD, Outcome::Hang);
        assert_eq!(next(&often), Place::GoodEnd);
        often.record(Place::GoodEnd, Outcome::Pass);
        assert_ne!(next(&often), Place::GoodEnd);
        assert_eq!(often.passes_expected(&often.search.posterior()), 7);
        // All bad: only the good end can tell whether the hang was there before.
        const FIRST: Place = Place::At(0);
        (0..8).for_each(|_| often.record(FIRST, Outcome::Hang));
        let mut rare = often.clone();
        (0..50).for_each(|_| rare.record(FIRST, Outcome::Pass));
        let missing = [&often, &rare].map(|hunt| hunt.passes_missing(&hunt.search.posterior()));
        assert_eq!(missing, [Some(3), Some(49)]);
        let mut passes = [0, 0];
        for (hunt, passes) in [&mut often, &mut rare].into_iter().zip(&mut passes) {
            while answer(hunt).is_none() {
                hunt.record(Place::GoodEnd, Outcome::Pass);
                *passes += 1;
            }
        }
        assert_eq!(passes, [3, 49]);
    }

    #[test]
    fn passes_of_good_ones_speak_for_the_good_end_and_hangs_for_the_rate() {
        let mut hunt = hunt();
        hunt.record(BAD, Outcome::Hang);
        hunt.record(Place::GoodEnd, Outcome::Pass);
        (0..60).for_each(|_| hunt.record(Place::At(6), Outcome::Pass));
        assert_eq!((answer(&hunt), next(&hunt)), (None, BAD));
        hunt.record(BAD, Outcome::Hang);
        hunt.record(BAD, Outcome::Hang);
        assert!(matches!(answer(&hunt), Some(Answer::Found(Culprit { positions, .. })) if positions == (7..=7)));
    }

    #[test]
    fn one_position_is_answered_when_its_ends_are_proven() {
        for (every, most) in [(1, 12), (10, 125)] {
            let mut hunt = Hunt::new(1, Design { confidence: 0.95, max_trials: 300 });
            while answer(&hunt).is_none() {
                let place = next(&hunt);
                let bad: u64 = hunt.search.seen(0).trials() + 1;
                let outcome = if place == Place::At(0) && bad.is_multiple_of(every) { Outcome::Hang } else { Outcome::Pass };
                let missing = |hunt: &Hunt| hunt.passes_missing(&hunt.search.posterior()).unwrap();
                let before = missing(&hunt);
                hunt.record(place, outcome);
                if place == Place::GoodEnd && (2..300).contains(&before) {
                    assert_eq!(missing(&hunt), before - 1);
                }
            }
            // A culprit that hangs seldom is asked until it hung so often that its rate is known.
            assert_eq!(hunt.search.seen(0).hang, SEEN_OFTEN);
            assert!(
                matches!(answer(&hunt), Some(Answer::Found(_))) && hunt.trials() <= most,
                "{every}: {} {:?}",
                hunt.trials(),
                answer(&hunt)
            );
        }
    }

    #[test]
    fn ends_that_are_not_what_they_should_be_are_refused() {
        let mut passes = hunt();
        (0..59).for_each(|_| passes.record(BAD, Outcome::Pass));
        assert_eq!(answer(&passes), Some(Answer::Refused(Refusal::BadEndPasses)));
        let mut hangs = hunt();
        (0..3).for_each(|_| hangs.record(BAD, Outcome::Hang));
        hangs.record(Place::GoodEnd, Outcome::Hang);
        assert_eq!(answer(&hangs), Some(Answer::Refused(Refusal::GoodEndHangs)));
        let mut unbuilt = hunt();
        unbuilt.leave_out(BAD);
        assert_eq!(answer(&unbuilt), Some(Answer::Refused(Refusal::Unknown(End::Bad))));
        let mut same = hunt();
        same.same(BAD, Place::GoodEnd);
        assert_eq!(answer(&same), Some(Answer::Refused(Refusal::Same)));
        let mut trouble = hunt();
        (0..7).for_each(|_| trouble.record(BAD, Outcome::Unknown(Unknown::Invalid)));
        assert_eq!(answer(&trouble), None);
        trouble.record(BAD, Outcome::Unknown(Unknown::Invalid));
        assert_eq!(answer(&trouble), Some(Answer::Refused(Refusal::Trouble)));
        trouble.go_on();
        assert_eq!(answer(&trouble), None);
        let mut slow = hunt();
        slow.record(BAD, Outcome::Hang);
        (0..2).for_each(|_| slow.record(BAD, Outcome::Unknown(Unknown::BootFailure)));
        assert_eq!(answer(&slow), Some(Answer::Refused(Refusal::Unknown(End::Bad))));
        let mut limited = Hunt::new(8, Design { confidence: 0.95, max_trials: 3 });
        (0..3).for_each(|_| limited.record(BAD, Outcome::Pass));
        assert_eq!(answer(&limited), Some(Answer::Refused(Refusal::Limit)));
    }

    #[test]
    fn a_kernel_whose_trials_are_invalid_is_left_out_if_the_bad_end_shows_that_it_is_its_own_doing() {
        let invalid = Outcome::Unknown(Unknown::Invalid);
        let started = || {
            let mut hunt = hunt();
            hunt.record(BAD, Outcome::Hang);
            hunt.record(Place::GoodEnd, Outcome::Pass);
            hunt
        };
        let mut its_own = started();
        let place = next(&its_own);
        assert_ne!(place, BAD);
        (0..3).for_each(|_| its_own.record(place, invalid));
        assert_eq!(next(&its_own), place);
        its_own.record(place, invalid);
        assert_eq!(next(&its_own), BAD);
        its_own.record(BAD, Outcome::Hang);
        let Place::At(position) = place else { panic!("{place:?}") };
        assert!(its_own.search.is_left_out(position) && next(&its_own) != place && answer(&its_own).is_none());
        // One that shows something in between isn't in doubt.
        let mut sometimes = started();
        for outcome in [invalid, invalid, invalid, Outcome::Pass, invalid, invalid] {
            sometimes.record(place, outcome);
        }
        sometimes.record(BAD, Outcome::Hang);
        assert!(!sometimes.search.is_left_out(position));
        // The trouble is ours.
        let mut ours = started();
        (0..4).for_each(|_| ours.record(place, invalid));
        (0..3).for_each(|_| ours.record(BAD, invalid));
        assert_eq!((answer(&ours), next(&ours)), (None, BAD));
        ours.record(BAD, invalid);
        assert_eq!(answer(&ours), Some(Answer::Refused(Refusal::Trouble)));
        ours.go_on();
        assert_eq!((answer(&ours), next(&ours)), (None, place));
        // One that showed something can be tested: what goes wrong there now is ours.
        let mut once = started();
        once.record(place, Outcome::Pass);
        (0..7).for_each(|_| once.record(place, invalid));
        assert_eq!((answer(&once), once.search.is_left_out(position)), (None, false));
        once.record(place, invalid);
        assert_eq!(answer(&once), Some(Answer::Refused(Refusal::Trouble)));
        // Unless it happens again.
        let mut twice = started();
        twice.record(place, Outcome::Pass);
        for left_out in [false, true] {
            assert!(!twice.search.is_left_out(position));
            (0..4).for_each(|_| twice.record(place, invalid));
            assert_eq!(next(&twice), BAD);
            twice.record(BAD, Outcome::Hang);
            assert_eq!(twice.search.is_left_out(position), left_out);
        }
        // Without the good end there is no search.
        let mut end = hunt();
        end.record(BAD, Outcome::Hang);
        (0..4).for_each(|_| end.record(Place::GoodEnd, invalid));
        assert_eq!(next(&end), BAD);
        end.record(BAD, Outcome::Hang);
        assert_eq!(answer(&end), Some(Answer::Refused(Refusal::Unknown(End::Good))));
        // Unless somebody has looked, and mended something.
        end.go_on();
        assert_eq!((answer(&end), next(&end)), (None, Place::GoodEnd));
    }

    #[test]
    fn what_was_left_out_is_not_tested_to_learn_its_rate() {
        let mut hunt = Hunt::new(2, Design { confidence: 0.95, max_trials: 300 });
        const END: Place = Place::At(1);
        hunt.record(END, Outcome::Hang);
        hunt.record(Place::GoodEnd, Outcome::Pass);
        hunt.record(Place::At(0), Outcome::Hang);
        (0..3).for_each(|_| hunt.record(Place::At(0), Outcome::Unknown(Unknown::Crash)));
        assert!(hunt.search.is_left_out(0));
        let trials = hunt.trials();
        while answer(&hunt).is_none() {
            let place = next(&hunt);
            assert_ne!(place, Place::At(0));
            hunt.record(place, if place == END { Outcome::Hang } else { Outcome::Pass });
        }
        assert!(
            matches!(answer(&hunt), Some(Answer::Found(Culprit { positions, .. })) if positions == (0..=0)) && hunt.trials() < trials + 30
        );
    }

    #[test]
    fn what_a_position_showed_counts_after_it_was_left_out() {
        let mut hunt = hunt();
        (0..6).for_each(|_| hunt.record(BAD, Outcome::Hang));
        (0..12).for_each(|_| hunt.record(Place::GoodEnd, Outcome::Pass));
        (0..12).for_each(|_| hunt.record(Place::At(3), Outcome::Pass));
        (0..6).for_each(|_| hunt.record(Place::At(4), Outcome::Hang));
        hunt.leave_out(Place::At(3));
        hunt.leave_out(Place::At(4));
        assert!(matches!(answer(&hunt), Some(Answer::Found(Culprit { positions, .. })) if positions == (4..=4)), "{:?}", answer(&hunt));
        // What it showed isn't enough: then the ones that can't be told apart are the answer.
        let mut hunt = self::hunt();
        (0..6).for_each(|_| hunt.record(BAD, Outcome::Hang));
        (0..12).for_each(|_| hunt.record(Place::GoodEnd, Outcome::Pass));
        (0..12).for_each(|_| hunt.record(Place::At(2), Outcome::Pass));
        hunt.record(Place::At(3), Outcome::Pass);
        (0..6).for_each(|_| hunt.record(Place::At(4), Outcome::Hang));
        hunt.leave_out(Place::At(3));
        assert!(matches!(answer(&hunt), Some(Answer::Found(Culprit { positions, .. })) if positions == (3..=4)), "{:?}", answer(&hunt));
    }

    #[test]
    fn what_cannot_be_tested_is_left_out_and_the_same_kernel_counts_once() {
        let mut hunt = hunt();
        (0..4).for_each(|_| hunt.record(BAD, Outcome::Hang));
        (0..9).for_each(|_| hunt.record(Place::GoodEnd, Outcome::Pass));
        (0..2).for_each(|_| hunt.record(Place::At(3), Outcome::Unknown(Unknown::BootFailure)));
        assert_ne!(next(&hunt), Place::At(3));
        // Positions 4 to 7 are one kernel, and so are the good end and 0 to 2: it came with 3, which doesn't boot.
        hunt.same(Place::At(4), BAD);
        hunt.same(Place::At(2), Place::GoodEnd);
        assert_eq!(answer(&hunt), Some(Answer::Found(Culprit { positions: 3..=4, probability: 1.0 })));
        assert!(hunt.search.is_possible(3) && hunt.search.is_possible(4) && !hunt.search.is_possible(5));
    }
}
