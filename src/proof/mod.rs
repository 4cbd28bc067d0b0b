//! Is the hang gone? The baseline against its candidates, with an answer that stands although one looks after each trial.
//!
//! **fixed** means: the baseline hangs in more than `residual` of the trials, and the candidate in less than `residual` of them; each is tested at
//! `confidence` by an e-process (`stats::anytime` names the sources), and it takes both. So the candidate hangs less often than the baseline, too. For a
//! wrong *fixed*, one of the two has to be wrong, and which one is settled by the true rates, not by chance: the error is at most 1 - confidence without
//! sharing it out (R. L. Berger, Technometrics 24 (1982), 295-300, intersection-union tests). Per candidate: several candidates are several answers.
//!
//! The candidate's test is Wald's zero-failure plan: one hang like the baseline's ends it as **not fixed**. A hang that was seen isn't gone, however rare;
//! `residual` bounds what was *not* seen. With the defaults that takes 59 passes, and nothing valid takes fewer.
//!
//! Everything else is **inconclusive**, with its [`Reason`]. No answer but that one is given before the baseline hung credibly in the same proof. Pure: an
//! answer follows from the design and the trials in the order in which they were *started*. In the order of their ends it would not be valid: hangs
//! end sooner than passes. This room starts nothing, and doesn't say which hangs are alike.
//!
//! Read [`Proof`] first, then [`Answer`]; `order` says which arm is next.

mod answer;
pub mod calibration;
mod fixed;
mod order;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use answer::{Answer, Finding, Reason};
pub use fixed::{FixedSize, fixed_size};
pub use order::Order;

use crate::stats::{Interval, anytime, interval, is_below};
use crate::verdict::INVALID_SHARE;

/// Same hangs that a baseline shows at least before anything is said of a candidate. Two can be enough for the statistics; three also show that its
/// signature is stable, and give a first idea of its time to hang.
pub const LEAST_HANGS: u64 = 3;

/// Trials of an arm that are wasted (the trigger didn't fire, or invalid) before their share ends the proof: fewer are no share.
pub const LEAST_WASTED: u64 = 3;

/// What is to be shown, and when to give up.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Design {
    /// An answer *fixed* is wrong with a probability of at most 1 - this.
    pub confidence: f64,
    /// The hang rate per trial that a fixed candidate stays below, and a credible baseline above.
    pub residual: f64,
    /// A baseline whose hang rate is shown to be below this is given up: proving anything with it would take days.
    pub least_rate: f64,
    /// The probability with which a design of fixed size shows such a baseline to hang: what the limit on trials and the repeats that a calibration proposes
    /// are made from.
    #[serde(default = "usual_power")]
    pub power: f64,
    /// Trials, of all arms together, after which the proof ends.
    pub max_trials: u64,
}

/// As sure to find a baseline's hang as to be right about a candidate.
fn usual_power() -> f64 {
    0.95
}

impl Design {
    /// The usual design for so many candidates: 0.95, 0.05, a baseline that hangs in a fifth of the trials, and trials enough for that.
    #[must_use]
    pub fn new(candidates: usize) -> Self {
        Self { confidence: 0.95, residual: 0.05, least_rate: 0.2, power: usual_power(), max_trials: 0 }.with_limit(candidates)
    }

    /// The same with a limit that such a baseline and fixed candidates usually stay below: twice what they need.
    #[must_use]
    pub fn with_limit(self, candidates: usize) -> Self {
        let FixedSize { baseline, candidate } = fixed_size(&self);
        Self { max_trials: 2 * (baseline + candidate * candidates as u64), ..self }
    }

    /// What an e-value has to reach.
    #[must_use]
    pub fn e_wanted(&self) -> f64 {
        // A whole number for the usual confidences, which 1 / (1 - 0.95) isn't quite.
        (1.0 / (1.0 - self.confidence) * 1e9).round() / 1e9
    }
}

/// An arm of a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arm {
    /// The kernel that hangs.
    Baseline,
    /// The candidate of this number, from 0.
    Candidate(usize),
}

/// What a trial means for a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// A pass, with the trigger fired.
    Pass,
    /// The hang that the proof is about.
    SameHang,
    /// A hang with another signature.
    OtherHang,
    /// A crash.
    Crash,
    /// It didn't get as far as the reproducer.
    BootFailure,
    /// The trigger didn't fire, so nothing was tested.
    NotTriggered,
    /// It stood still, and nobody knows whether for good.
    Unresolved,
    /// Our own trouble. Only those that weren't repeated.
    Invalid,
}

/// A trial of a proof.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Trial {
    /// Of which arm.
    pub arm: Arm,
    /// What it means.
    pub outcome: Outcome,
    /// Seconds of load: until the last progress for a hang, the duration for a pass.
    pub load: f64,
}

/// How often each outcome was seen in an arm.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Tally {
    /// [`Outcome::Pass`].
    pub pass: u64,
    /// [`Outcome::SameHang`].
    pub same_hang: u64,
    /// [`Outcome::OtherHang`].
    pub other_hang: u64,
    /// [`Outcome::Crash`].
    pub crash: u64,
    /// [`Outcome::BootFailure`].
    pub boot_failure: u64,
    /// [`Outcome::NotTriggered`].
    pub not_triggered: u64,
    /// [`Outcome::Unresolved`].
    #[serde(default)]
    pub unresolved: u64,
    /// [`Outcome::Invalid`].
    pub invalid: u64,
    /// Seconds of load in the valid trials.
    pub load: f64,
}

impl Tally {
    fn add(&mut self, outcome: Outcome, load: f64) {
        let (count, valid) = match outcome {
            Outcome::Pass => (&mut self.pass, true),
            Outcome::SameHang => (&mut self.same_hang, true),
            Outcome::OtherHang => (&mut self.other_hang, true),
            Outcome::Crash => (&mut self.crash, true),
            Outcome::BootFailure => (&mut self.boot_failure, true),
            Outcome::NotTriggered => (&mut self.not_triggered, false),
            Outcome::Unresolved => (&mut self.unresolved, false),
            Outcome::Invalid => (&mut self.invalid, false),
        };
        *count += 1;
        if valid {
            self.load += load;
        }
    }

    /// Trials that show something: the denominator.
    #[must_use]
    pub fn valid(&self) -> u64 {
        self.pass + self.same_hang + self.other_hang + self.crash + self.boot_failure
    }

    /// All trials.
    #[must_use]
    pub fn all(&self) -> u64 {
        self.valid() + self.wasted()
    }

    /// Trials that show nothing.
    #[must_use]
    pub fn wasted(&self) -> u64 {
        self.not_triggered + self.unresolved + self.invalid
    }

    /// Whether so many of the trials are too large a share to trust the others.
    fn too_many(&self, wasted: u64) -> bool {
        wasted >= LEAST_WASTED && wasted as f64 > INVALID_SHARE * self.all() as f64
    }
}

/// A proof as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Proof {
    design: Design,
    baseline: Tally,
    candidates: Vec<Candidate>,
    // Asked for far more often than they change.
    baseline_e: f64,
    baseline_is_rare: bool,
    passes_needed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Candidate {
    identical: bool,
    tally: Tally,
    /// Its passes when the baseline hung last.
    confirmed: u64,
}

impl Proof {
    /// A proof without trials. For each candidate: whether what is compared of its binary (the ELF signature) is the baseline's.
    #[must_use]
    pub fn new(design: Design, identical: &[bool]) -> Self {
        let candidates = identical.iter().map(|&identical| Candidate { identical, tally: Tally::default(), confirmed: 0 }).collect();
        let passes_needed = anytime::run_needed(design.residual, design.confidence);
        Self { design, baseline: Tally::default(), candidates, baseline_e: 1.0, baseline_is_rare: false, passes_needed }
    }

    /// The proof that a sequence of trials makes: how `rescore` gets there.
    #[must_use]
    pub fn of(design: Design, identical: &[bool], trials: &[Trial]) -> Self {
        let mut proof = Self::new(design, identical);
        trials.iter().for_each(|trial| proof.record(*trial));
        proof
    }

    /// Takes in a trial; trials come in the order in which they were started. One of an arm that isn't there changes nothing.
    pub fn record(&mut self, trial: Trial) {
        match trial.arm {
            Arm::Baseline => {
                self.baseline.add(trial.outcome, trial.load);
                let Design { confidence, residual, least_rate, .. } = self.design;
                let (hits, trials) = (self.baseline.same_hang, self.baseline.valid());
                self.baseline_e = anytime::above(hits, trials, residual);
                if trial.outcome == Outcome::SameHang {
                    self.candidates.iter_mut().for_each(|candidate| candidate.confirmed = candidate.tally.pass);
                }
                self.baseline_is_rare = !self.baseline_hangs() && is_below(hits, trials, least_rate, confidence);
            }
            Arm::Candidate(number) => {
                if let Some(candidate) = self.candidates.get_mut(number) {
                    candidate.tally.add(trial.outcome, trial.load);
                }
            }
        }
    }

    /// The design.
    #[must_use]
    pub fn design(&self) -> &Design {
        &self.design
    }

    /// How many candidates there are.
    #[must_use]
    pub fn candidates(&self) -> usize {
        self.candidates.len()
    }

    /// Trials of all arms.
    #[must_use]
    pub fn trials(&self) -> u64 {
        self.baseline.all() + self.candidates.iter().map(|candidate| candidate.tally.all()).sum::<u64>()
    }

    /// The tally of an arm; an empty one of an arm that isn't there.
    #[must_use]
    pub fn tally(&self, arm: Arm) -> Tally {
        match arm {
            Arm::Baseline => self.baseline,
            Arm::Candidate(number) => self.candidates.get(number).map_or_else(Tally::default, |candidate| candidate.tally),
        }
    }

    /// Whether the baseline hangs credibly: above the residual rate, and often enough.
    #[must_use]
    pub fn baseline_hangs(&self) -> bool {
        self.baseline.same_hang >= LEAST_HANGS && self.baseline_e >= self.design.e_wanted()
    }

    /// Whether the baseline still hung when the candidate had made half of its passes: what stopped its hangs on the host would make the candidate pass, too.
    fn is_confirmed(&self, candidate: Candidate) -> bool {
        candidate.confirmed * 2 >= self.passes_needed
    }

    /// Whether it's no use to go on with this baseline. The exact bound is looked at after each trial, so it errs more often than it says; towards
    /// *inconclusive*, which is no claim.
    fn baseline_is_given_up(&self) -> bool {
        self.baseline_is_rare
    }

    /// What a candidate's own trials say, apart from the baseline's; none while they say nothing yet.
    fn found(&self, tally: Tally) -> Option<Answer> {
        let finding = [
            (tally.other_hang, Finding::OtherHang),
            (tally.crash, Finding::Crash),
            (tally.boot_failure, Finding::BootFailure),
            (tally.unresolved, Finding::Standstill),
        ];
        if tally.same_hang > 0 {
            Some(Answer::NotFixed)
        } else if let Some((_, finding)) = finding.into_iter().find(|(count, _)| *count > 0) {
            Some(Answer::Inconclusive(Reason::Different(finding)))
        } else if let Some(reason) = Self::wasted(tally) {
            Some(Answer::Inconclusive(reason))
        } else {
            (tally.pass >= self.passes_needed).then_some(Answer::Fixed)
        }
    }

    fn wasted(tally: Tally) -> Option<Reason> {
        if tally.too_many(tally.not_triggered) {
            Some(Reason::TriggerDidntFire)
        } else {
            tally.too_many(tally.wasted()).then_some(Reason::TooManyInvalid)
        }
    }

    /// Whether the candidate's own trials are done, so that more of them would be wasted.
    #[must_use]
    pub fn settled(&self, number: usize) -> bool {
        self.candidates.get(number).is_none_or(|candidate| candidate.identical || self.found(candidate.tally).is_some())
    }

    /// The answer for a candidate, if it stands; none of a candidate that isn't there.
    #[must_use]
    pub fn answer(&self, number: usize) -> Option<Answer> {
        let candidate = *self.candidates.get(number)?;
        let Candidate { identical, tally, .. } = candidate;
        if identical {
            return Some(Answer::Inconclusive(Reason::Identical));
        }
        if let Some(reason) = Self::wasted(self.baseline) {
            return Some(Answer::Inconclusive(reason));
        }
        let found = self.found(tally);
        match found {
            Some(Answer::NotFixed) if self.baseline_hangs() => return Some(Answer::NotFixed),
            Some(Answer::Fixed) if self.baseline_hangs() && self.is_confirmed(candidate) => return Some(Answer::Fixed),
            Some(answer @ Answer::Inconclusive(_)) => return Some(answer),
            Some(Answer::Fixed | Answer::NotFixed) | None => {}
        }
        let limit = if found == Some(Answer::Fixed) && self.baseline_hangs() { Reason::BaselineStopped } else { Reason::LimitReached };
        if self.baseline_is_given_up() {
            Some(Answer::Inconclusive(Reason::BaselineDidntReproduce))
        } else {
            (self.trials() >= self.design.max_trials).then_some(Answer::Inconclusive(limit))
        }
    }

    /// Whether each candidate has its answer: nothing is left to do.
    #[must_use]
    pub fn is_done(&self) -> bool {
        (0..self.candidates.len()).all(|number| self.answer(number).is_some())
    }

    /// Everything that a report says about an arm.
    #[must_use]
    pub fn arm(&self, arm: Arm) -> ArmSummary {
        let tally = self.tally(arm);
        let Design { confidence, residual, .. } = self.design;
        let (hits, trials) = (tally.same_hang, tally.valid());
        let e_value = match arm {
            Arm::Baseline => self.baseline_e,
            Arm::Candidate(_) if hits == 0 => anytime::run(tally.pass, residual),
            Arm::Candidate(_) => 0.0,
        };
        ArmSummary { arm, tally, exact: interval(hits, trials, confidence), anytime: anytime::sequence(hits, trials, confidence), e_value }
    }

    /// Everything that a report says about a candidate.
    #[must_use]
    pub fn summary(&self, number: usize) -> Option<Summary> {
        let Candidate { tally, .. } = *self.candidates.get(number)?;
        let Design { confidence, .. } = self.design;
        let clean = tally.same_hang == 0;
        Some(Summary {
            answer: self.answer(number),
            baseline: self.arm(Arm::Baseline),
            candidate: self.arm(Arm::Candidate(number)),
            residual_bound: if clean { anytime::run_bound(tally.pass, confidence) } else { 1.0 },
            hazard_ratio: anytime::hazard_ratio(self.baseline.same_hang, self.baseline.load, tally.load, confidence).filter(|_| clean),
            e_wanted: self.design.e_wanted(),
        })
    }
}

/// What a report says about an arm.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ArmSummary {
    /// Which.
    pub arm: Arm,
    /// How often each outcome was seen.
    pub tally: Tally,
    /// The exact interval of its rate of same hangs, as if the number of trials had been fixed.
    pub exact: Interval,
    /// The confidence sequence of that rate: true although we looked after each trial.
    pub anytime: Interval,
    /// Against "at most the residual rate" for the baseline, against "at least the residual rate" for a candidate.
    pub e_value: f64,
}

/// What a report says about a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Summary {
    /// The answer; none while it doesn't stand.
    pub answer: Option<Answer>,
    /// The baseline.
    pub baseline: ArmSummary,
    /// The candidate.
    pub candidate: ArmSummary,
    /// Upper bound of the candidate's residual hang rate per trial; 1 once it hung.
    pub residual_bound: f64,
    /// Upper bound of its hangs per second of load, relative to the baseline's, under the condition that [`anytime::hazard_ratio`] states; decides nothing.
    pub hazard_ratio: Option<f64>,
    /// What both e-values have to reach for *fixed*.
    pub e_wanted: f64,
}
