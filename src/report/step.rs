//! One step of somebody else's bisection in `report.json`: is this commit good or bad, and how sure is that?
//!
//! `git bisect run` believes each answer, and asks a dozen times. So a commit is good only after so many passes that a bad one would have hung among them; one
//! hang of the right kind makes it bad. It knows no other commit; [`super::SearchReport`] is for who can choose them.
//!
//! Read [`StepReport`].

use serde::{Deserialize, Serialize};

use crate::exit::Exit;
use crate::oracle::hang::Likeness;
use crate::oracle::{Fault, Observation};
use crate::plan::TrialId;
use crate::search::{Outcome, Unknown};
use crate::text::in_one_line;

use super::search::SearchTrial;

/// What a step is to show.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StepDesign {
    /// The hang rate of a bad commit: the least that is to be noticed.
    pub hang_rate: f64,
    /// The answer *good* is wrong with a probability of at most 1 minus this.
    pub confidence: f64,
}

impl StepDesign {
    /// Passes that show it: all of a bad commit's would pass in a share of 1 - confidence of all cases.
    #[must_use]
    pub fn passes(&self) -> u64 {
        let passes = (1.0 - self.confidence).ln() / (1.0 - self.hang_rate).ln();
        // A commit that hangs each time takes one pass; the logarithm of 0 makes that 0.
        (passes.ceil() as u64).max(1)
    }
}

/// What a step found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepAnswer {
    /// It hung.
    Bad,
    /// It passed as often as it had to.
    Good,
    /// It can't be built or booted, or its trials show nothing.
    Skip,
}

/// Unknown trials after which a step gives up.
const UNKNOWN_ENOUGH: usize = 3;

/// A step and its answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StepReport {
    /// What was to be shown.
    pub design: StepDesign,
    /// The commit.
    pub commit: String,
    /// The trials in their order.
    pub trials: Vec<SearchTrial>,
    /// Why it can't be built, if it can't.
    pub unbuildable: Option<String>,
    /// The answer, once there is one.
    pub answer: Option<StepAnswer>,
    /// Why this is the answer.
    pub why: String,
    /// Whether what can't be told is our own fault: then the bisection is better stopped than misled.
    pub our_trouble: bool,
}

fn counted_passes(passes: usize) -> String {
    format!("{passes} {}", if passes == 1 { "pass" } else { "passes" })
}

impl StepReport {
    /// A step without trials.
    #[must_use]
    pub fn new(design: StepDesign, commit: String) -> Self {
        let why = "it was cut short".to_owned();
        Self { design, commit, trials: Vec::new(), unbuildable: None, answer: None, why, our_trouble: false }
    }

    /// The commit can't be built.
    pub fn cannot_be_built(&mut self, why: &str) {
        let why = in_one_line(why);
        (self.answer, self.why) = (Some(StepAnswer::Skip), format!("not built: {why}"));
        self.unbuildable = Some(why);
    }

    /// Takes in a trial. A hang counts unless the pipeline describes another one.
    pub fn take(&mut self, trial: &TrialId, observation: &Observation) {
        let (outcome, ours) = match observation {
            Observation::Pass(_) => (Outcome::Pass, false),
            Observation::Hang(hang) => match hang.likeness {
                Some(Likeness::Different(_)) => (Outcome::Unknown(Unknown::OtherHang), false),
                Some(Likeness::Same) | None => (Outcome::Hang, false),
            },
            Observation::Crash { .. } => (Outcome::Unknown(Unknown::Crash), false),
            Observation::BootFailure { .. } => (Outcome::Unknown(Unknown::BootFailure), false),
            Observation::Invalid { fault: Fault::Trigger, .. } => (Outcome::Unknown(Unknown::NotTriggered), false),
            Observation::Invalid { fault: Fault::Unresolved, .. } => (Outcome::Unknown(Unknown::Standstill), false),
            Observation::Invalid {
                fault: Fault::Reproducer | Fault::Mitigation | Fault::User | Fault::Host | Fault::Qemu | Fault::Guest,
                ..
            } => (Outcome::Unknown(Unknown::Invalid), true),
        };
        self.trials.push(SearchTrial { trial: trial.clone(), outcome });
        let count = |wanted: fn(Outcome) -> bool| self.trials.iter().filter(|trial| wanted(trial.outcome)).count();
        let passes = count(|outcome| outcome == Outcome::Pass);
        let unknown = count(|outcome| matches!(outcome, Outcome::Unknown(_)));
        let needed = self.design.passes();
        if self.answer.is_some() {
            // A trial that was running when it was clear already.
            return;
        }
        if outcome == Outcome::Hang {
            (self.answer, self.why) =
                (Some(StepAnswer::Bad), format!("it hung after {}: {}", counted_passes(passes), observation.detail()));
        } else if passes as u64 >= needed {
            let StepDesign { hang_rate, confidence } = self.design;
            let why = format!(
                "{}; one that hangs in {hang_rate} of the trials does that with a probability below {:.4}",
                counted_passes(passes),
                1.0 - confidence
            );
            (self.answer, self.why) = (Some(StepAnswer::Good), why);
        } else if unknown >= UNKNOWN_ENOUGH {
            (self.answer, self.why) = (Some(StepAnswer::Skip), format!("{}: {}", observation.word(), observation.detail()));
            self.our_trouble = ours;
        }
    }

    /// The step for a terminal.
    #[must_use]
    pub fn board(&self) -> String {
        let word = match self.answer {
            Some(StepAnswer::Bad) => "bad",
            Some(StepAnswer::Good) => "good",
            Some(StepAnswer::Skip) => "can't be told",
            None => "no answer",
        };
        format!("{}: {word}: {}\n", self.commit, self.why)
    }

    /// The exit code for `git bisect run`.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self.answer {
            Some(StepAnswer::Good) => Exit::Expected,
            Some(StepAnswer::Bad) => Exit::Contrary,
            Some(StepAnswer::Skip) if !self.our_trouble => Exit::Skip,
            Some(StepAnswer::Skip) | None => Exit::Abort,
        }
    }
}
