//! A proof in `report.json`: its design, its trials in the order in which they were started, and what follows from them.
//!
//! Nothing is decided here: all numbers and answers are `proof`'s, computed from the trials in this record, so that they can be computed again. Which hang
//! of a candidate is the baseline's is decided here, though, by the oracle's signatures.
//!
//! Read [`ProofReport`] first; [`ProofSummary`] is what the forms of report show of it.

use comfy_table::{ContentArrangement, Table, presets};
use serde::{Deserialize, Serialize};

use super::account::percent;
use crate::evidence::Evidence;
use crate::exit::Exit;
use crate::oracle::hang::{Likeness, Signature};
use crate::oracle::{Fault, Hang, Observation};
use crate::plan::TrialId;
use crate::proof::calibration::{Shortfall, shortfall};
use crate::proof::{Answer, Arm, ArmSummary, Design, FixedSize, Outcome, Proof, Reason, Summary, Trial, fixed_size};
use crate::spec::Name;
use crate::stats::Interval;

/// The test of a proof, with its source.
pub const METHOD: &str = "the baseline by a mixture likelihood ratio (Robbins 1970), each candidate by Wald's zero-failure plan (1947), both as e-processes \
                          that may be looked at after each trial (Ville 1939)";

/// How a proof was set up, before its first trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Setup {
    /// What was to be shown.
    pub design: Design,
    /// What the order of the trials was made from.
    pub seed: u64,
    /// Seconds of load of a trial: rates are per trial of that duration.
    pub duration: f64,
    /// The kernel that hangs.
    pub baseline: Name,
    /// The kernels in which it should be gone.
    pub candidates: Vec<Candidate>,
}

/// A kernel in which the hang should be gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Candidate {
    /// The kernel.
    pub kernel: Name,
    /// What runs is the baseline's, bit by bit.
    pub identical: bool,
}

/// A trial of a proof.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ProofTrial {
    /// The trial.
    pub trial: TrialId,
    /// What it means.
    #[serde(flatten)]
    pub meaning: Trial,
}

/// A candidate's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CandidateReport {
    /// The kernel.
    pub kernel: Name,
    /// Why this is the answer, and why no more trials were needed.
    pub why: String,
    /// All numbers.
    pub summary: Summary,
}

/// A proof and what it found out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ProofReport {
    /// How it was set up.
    pub setup: Setup,
    /// The hang that the proof is about: the first of the baseline's that counts.
    pub hang: Option<Signature>,
    /// The trials that count, in the order in which they were started.
    pub trials: Vec<ProofTrial>,
    /// The baseline.
    pub baseline: ArmSummary,
    /// The candidates.
    pub candidates: Vec<CandidateReport>,
    /// Trials of a design of fixed size and the same confidence.
    pub fixed_size: FixedSize,
    /// The trials are shorter than the baseline's time to hang suggests.
    pub shortfall: Option<Shortfall>,
}

impl Setup {
    /// The proof without trials.
    #[must_use]
    pub fn proof(&self) -> Proof {
        let identical: Vec<bool> = self.candidates.iter().map(|candidate| candidate.identical).collect();
        Proof::new(self.design, &identical)
    }

    /// The kernel of an arm; none of an arm that isn't there.
    #[must_use]
    pub fn kernel(&self, arm: Arm) -> Option<&Name> {
        match arm {
            Arm::Baseline => Some(&self.baseline),
            Arm::Candidate(number) => self.candidates.get(number).map(|candidate| &candidate.kernel),
        }
    }

    /// The arm of a kernel.
    #[must_use]
    pub fn arm(&self, kernel: &Name) -> Option<Arm> {
        if *kernel == self.baseline {
            return Some(Arm::Baseline);
        }
        self.candidates.iter().position(|candidate| candidate.kernel == *kernel).map(Arm::Candidate)
    }
}

/// Trials become outcomes, in the order in which they were started: what is compared with the baseline's first hang comes after it.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    hang: Option<Signature>,
}

impl Reading {
    /// The hang that all are compared with, once there is one.
    #[must_use]
    pub fn hang(&self) -> Option<&Signature> {
        self.hang.as_ref()
    }

    /// What a trial means; `load` is its seconds of load.
    pub fn take(&mut self, arm: Arm, observation: &Observation, load: f64) -> Trial {
        let outcome = match observation {
            Observation::Pass(_) => Outcome::Pass,
            Observation::Hang(hang) => self.which(arm, hang),
            Observation::Crash { .. } => Outcome::Crash,
            Observation::BootFailure { .. } => Outcome::BootFailure,
            Observation::Invalid { fault: Fault::Trigger, .. } => Outcome::NotTriggered,
            Observation::Invalid { fault: Fault::Unresolved, .. } => Outcome::Unresolved,
            Observation::Invalid { .. } => Outcome::Invalid,
        };
        Trial { arm, outcome, load }
    }

    /// The pipeline's description decides, if there is one, but for a hang that is like one that it fits: a look may have missed a waiter.
    fn which(&mut self, arm: Arm, hang: &Hang) -> Outcome {
        let described = match hang.likeness {
            Some(Likeness::Same) => true,
            Some(Likeness::Different(_)) => false,
            None => self.hang.is_none() && arm == Arm::Baseline,
        };
        if described && self.hang.is_none() && arm == Arm::Baseline {
            self.hang = Some(hang.signature.clone());
        }
        let same = described || self.hang.as_ref().is_some_and(|first| first.is_like(&hang.signature));
        if same { Outcome::SameHang } else { Outcome::OtherHang }
    }
}

/// Seconds of load of a trial, from its evidence and what it showed.
#[must_use]
pub fn load(evidence: &Evidence, observation: &Observation) -> f64 {
    let Some(started) = evidence.boot.started else { return 0.0 };
    match observation {
        Observation::Pass(_) => evidence.rules.limits.duration.as_secs_f64(),
        Observation::Hang(hang) => hang.last_progress.since(started).as_secs_f64(),
        Observation::Crash { at, .. } => at.since(started).as_secs_f64(),
        Observation::BootFailure { .. } | Observation::Invalid { .. } => 0.0,
    }
}

impl ProofReport {
    /// What the trials show, each with its observation and its seconds of load, in the order in which they were started.
    #[must_use]
    pub fn of<'a>(setup: Setup, trials: impl IntoIterator<Item = (TrialId, &'a Observation, f64)>) -> Self {
        let (mut proof, mut reading, mut recorded) = (setup.proof(), Reading::default(), Vec::new());
        for (trial, observation, load) in trials {
            let Some(arm) = setup.arm(&trial.kernel) else { continue };
            let meaning = reading.take(arm, observation, load);
            proof.record(meaning);
            recorded.push(ProofTrial { trial, meaning });
        }
        let candidates = setup.candidates.iter().enumerate().filter_map(|(number, candidate)| {
            let summary = proof.summary(number)?;
            Some(CandidateReport { kernel: candidate.kernel.clone(), why: why(&setup, &summary), summary })
        });
        let loads = |outcome: Outcome| {
            let of = recorded.iter().map(|trial: &ProofTrial| trial.meaning);
            of.filter(|trial| trial.arm == Arm::Baseline && trial.outcome == outcome).map(|trial| trial.load).collect::<Vec<_>>()
        };
        Self {
            candidates: candidates.collect(),
            hang: reading.hang,
            baseline: proof.arm(Arm::Baseline),
            fixed_size: fixed_size(&setup.design),
            shortfall: shortfall(&loads(Outcome::SameHang), &loads(Outcome::Pass), setup.design.confidence, setup.duration),
            trials: recorded,
            setup,
        }
    }

    /// The exit code that it stands for; `ours` says whether trials of a kernel are invalid by our own fault.
    #[must_use]
    pub fn exit(&self, ours: impl Fn(&Name) -> bool) -> Exit {
        let exit = |candidate: &CandidateReport| match candidate.summary.answer {
            Some(Answer::Fixed) => Exit::Expected,
            Some(Answer::NotFixed) => Exit::Contrary,
            Some(Answer::Inconclusive(Reason::TooManyInvalid)) if ours(&candidate.kernel) || ours(&self.setup.baseline) => Exit::Trouble,
            Some(Answer::Inconclusive(_)) | None => Exit::Inconclusive,
        };
        let exits: Vec<Exit> = self.candidates.iter().map(exit).collect();
        // A hang that was seen is the news, whatever else went wrong.
        let order = [Exit::Contrary, Exit::Trouble, Exit::Inconclusive];
        order.into_iter().find(|exit| exits.contains(exit)).unwrap_or(Exit::Expected)
    }

    /// Each arm with its kernel and, of a candidate, its report; the baseline first.
    fn arms(&self) -> impl Iterator<Item = (&Name, ArmSummary, Option<&CandidateReport>)> {
        let candidates = self.candidates.iter().map(|candidate| (&candidate.kernel, candidate.summary.candidate, Some(candidate)));
        std::iter::once((&self.setup.baseline, self.baseline, None)).chain(candidates)
    }

    /// The proof's conditions: every rate in it is one per trial of that duration.
    fn terms(&self) -> String {
        let Setup { design, duration, seed, .. } = &self.setup;
        format!(
            "per trial of {duration} s, at {} % confidence, residual hang rate {}, seed {seed}",
            percent(design.confidence),
            design.residual
        )
    }

    /// What a design of fixed size would have taken.
    fn effort(&self) -> String {
        let (FixedSize { baseline, candidate }, taken) = (self.fixed_size, self.trials.len());
        let fixed = baseline + candidate * self.candidates.len() as u64;
        format!("{taken} trials; a design of fixed size and the same confidence takes {fixed}")
    }

    /// The proof for a terminal.
    #[must_use]
    pub fn board(&self, width: Option<u16>) -> String {
        let per_cent = percent(self.setup.design.confidence);
        let mut table = Table::new();
        table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic).force_no_tty();
        if let Some(width) = width {
            table.set_width(width);
        }
        let wanted = self.setup.design.e_wanted();
        table.set_header(vec![
            "ARM".to_owned(),
            "KERNEL".to_owned(),
            "SAME HANG".to_owned(),
            format!("EXACT ({per_cent} %)"),
            format!("ANYTIME ({per_cent} %)"),
            format!("E-VALUE ({wanted} WANTED)"),
            "RESIDUAL RATE".to_owned(),
        ]);
        for (kernel, arm, candidate) in self.arms() {
            let rate = |rate: &Interval| format!("{:.3} to {:.3}", rate.low, rate.high);
            let clean = candidate.map(|candidate| candidate.summary.residual_bound).filter(|bound| *bound < 1.0);
            let bound = clean.map_or_else(|| "-".to_owned(), |bound| format!("at most {bound:.3}"));
            let role = if candidate.is_some() { "candidate" } else { "baseline" };
            table.add_row(vec![
                role.to_owned(),
                kernel.to_string(),
                format!("{}/{}", arm.exact.hits, arm.exact.trials),
                rate(&arm.exact),
                rate(&arm.anytime),
                format!("{:.1}", arm.e_value),
                bound,
            ]);
        }
        let mut text: String = table.lines().map(|line| format!("{}\n", line.trim_end())).collect();
        for candidate in &self.candidates {
            text.push_str(&format!("{}: {}: {}\n", candidate.kernel, word(&candidate.summary), candidate.why));
            text.extend(candidate.summary.hazard_ratio.map(|ratio| format!("  {}\n", hazard(ratio))));
        }
        text.push_str(&format!("{}\n{}\n", self.terms(), self.effort()));
        text.extend(self.shortfall.map(|shortfall| format!("note: {shortfall}\n")));
        text
    }
}

fn word(summary: &Summary) -> &'static str {
    summary.answer.map_or("no answer yet", Answer::word)
}

fn hazard(ratio: f64) -> String {
    format!("it hangs at most {ratio:.3} times as often per second of load, if a hang is as likely in each second (decides nothing)")
}

/// Why this is the answer, with the counts that it rests on.
fn why(setup: &Setup, summary: &Summary) -> String {
    let (baseline, candidate) = (summary.baseline.tally, summary.candidate.tally);
    let hung = format!("the baseline hung in {} of {} trials", baseline.same_hang, baseline.valid());
    let seconds = setup.duration;
    let wasted = match candidate.wasted() {
        0 => String::new(),
        1 => "; another one of its trials shows nothing".to_owned(),
        wasted => format!("; another {wasted} of its trials show nothing"),
    };
    let told = match summary.answer {
        Some(Answer::Fixed) => format!(
            "{} passes of {seconds} s and no hang, {hung}; it hangs in less than {:.3} of such trials",
            candidate.pass, summary.residual_bound
        ),
        Some(Answer::NotFixed) => {
            format!("the baseline's hang came in {} of {} trials, {hung}", candidate.same_hang, candidate.valid())
        }
        Some(Answer::Inconclusive(reason)) => {
            format!("{reason} ({hung}, the candidate in {} of {})", candidate.same_hang, candidate.valid())
        }
        None => format!("it was cut short ({hung}, the candidate in {} of {})", candidate.same_hang, candidate.valid()),
    };
    told + &wasted
}

/// What the forms of report show of a proof.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ProofSummary {
    /// `fixed`, `not fixed` or `inconclusive`; of several candidates, each with its name.
    pub answer: String,
    /// Why it is this answer, and why the proof stopped then.
    pub reason: String,
    /// The test's name and source.
    pub method: String,
    /// The answer *fixed* is wrong with a probability of at most 1 - this.
    pub confidence: f64,
    /// The arms, the baseline first.
    pub arms: Vec<ProofArm>,
}

/// One arm of a proof.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ProofArm {
    /// The arm, as the report names it.
    pub name: String,
    /// `baseline` or `candidate`.
    pub role: String,
    /// How often it hung, with the exact interval.
    pub rate: Interval,
    /// The interval that holds although one looks after each trial.
    pub anytime: Interval,
    /// Upper bound of the residual hang rate at the proof's confidence, if there is one.
    pub bound: Option<f64>,
    /// Value of the test at the end, and what it has to reach.
    pub test: Option<(f64, f64)>,
}

impl ProofSummary {
    /// What reports show of a proof.
    #[must_use]
    pub fn of(proof: &ProofReport) -> Self {
        let wanted = proof.setup.design.e_wanted();
        let arms = proof.arms().map(|(kernel, arm, candidate)| ProofArm {
            name: kernel.to_string(),
            role: if candidate.is_some() { "candidate" } else { "baseline" }.to_owned(),
            rate: arm.exact,
            anytime: arm.anytime,
            bound: candidate.map(|candidate| candidate.summary.residual_bound),
            test: Some((arm.e_value, wanted)),
        });
        let named = |tell: &dyn Fn(&CandidateReport) -> String| match proof.candidates.as_slice() {
            [only] => tell(only),
            all => all.iter().map(|one| format!("{}: {}", one.kernel, tell(one))).collect::<Vec<_>>().join("; "),
        };
        let mut reason = format!("{}. Rates are {}. {}", named(&|one| one.why.clone()), proof.terms(), capitalised(&proof.effort()));
        if let [CandidateReport { summary: Summary { hazard_ratio: Some(ratio), .. }, .. }] = proof.candidates.as_slice() {
            reason.push_str(&format!(". {}", capitalised(&hazard(*ratio))));
        }
        reason.extend(proof.shortfall.map(|shortfall| format!(". {}", capitalised(&shortfall.to_string()))));
        Self {
            answer: named(&|one| word(&one.summary).to_owned()),
            reason,
            method: METHOD.to_owned(),
            confidence: proof.setup.design.confidence,
            arms: arms.collect(),
        }
    }

    /// The confidence in per cent, for people.
    #[must_use]
    pub fn percent(&self) -> String {
        percent(self.confidence)
    }

    /// The class of the answer's colour.
    #[must_use]
    pub fn class(&self) -> &'static str {
        if self.answer.contains("not fixed") {
            "hang"
        } else if self.answer.contains("inconclusive") || self.answer.contains("no answer") {
            "inconclusive"
        } else {
            "pass"
        }
    }
}

/// A sentence's beginning.
fn capitalised(text: &str) -> String {
    let mut rest = text.chars();
    rest.next().map_or_else(String::new, |first| first.to_uppercase().chain(rest).collect())
}
