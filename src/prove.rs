//! A proof that goes on: which trial is next, and what the ended ones mean. `run` runs them.
//!
//! Trials are recorded in the order of their starts (`starts`). It starts nothing and writes nothing.
//!
//! Read [`Proving`].

use std::collections::BTreeMap;

use crate::build::Manifest;
use crate::event::{ArmProgress, Event};
use crate::oracle::Observation;
use crate::plan::TrialId;
use crate::proof::{Arm, Design, Order, Proof};
use crate::report::{Candidate, ProofReport, Reading, Setup};
use crate::spec::Name;
use crate::starts::Starts;
use crate::stats::anytime::run_needed;

/// What is to be proved, before anything is built.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// What is to be shown.
    pub design: Design,
    /// What the order of the trials is made from.
    pub seed: u64,
    /// The kernel that hangs.
    pub baseline: Name,
    /// The kernels in which it should be gone.
    pub candidates: Vec<Name>,
    /// Nobody says how long trials last: the baseline's time to hang does, from [`CALIBRATING`] trials before the proof.
    pub calibrates: bool,
}

/// Trials that say how long those of a proof last. A baseline that hangs in 0.8 of them shows the three hangs that are needed in 98 % of such attempts.
pub const CALIBRATING: u32 = 6;

impl Wanted {
    /// The proof's set-up with trials of so many seconds, once the kernels are built.
    #[must_use]
    pub fn setup(&self, duration: f64, builds: &BTreeMap<&Name, &Manifest>) -> Setup {
        let baseline = builds.get(&self.baseline);
        let candidate = |kernel: &Name| {
            let identical = match (baseline, builds.get(kernel)) {
                (Some(one), Some(other)) => {
                    one.key == other.key || (one.elf_signature.is_some() && one.elf_signature == other.elf_signature)
                }
                (_, _) => false,
            };
            Candidate { kernel: kernel.clone(), identical }
        };
        Setup {
            design: self.design,
            seed: self.seed,
            duration,
            baseline: self.baseline.clone(),
            candidates: self.candidates.iter().map(candidate).collect(),
        }
    }
}

/// A proof that goes on.
#[derive(Debug)]
pub struct Proving {
    setup: Setup,
    proof: Proof,
    order: Order,
    reading: Reading,
    starts: Starts,
}

impl Proving {
    /// A proof without trials; those of these kernels are numbered on from here.
    #[must_use]
    pub fn new(setup: Setup, before: BTreeMap<Name, u32>) -> Self {
        Self { proof: setup.proof(), order: Order::new(setup.seed), setup, reading: Reading::default(), starts: Starts::after(before) }
    }

    /// The next trial to start; none if there is nothing to do before another one ends.
    pub fn start(&mut self) -> Option<TrialId> {
        let arm = self.order.next(&self.proof)?;
        Some(self.starts.another(self.setup.kernel(arm)?))
    }

    /// Takes in the end of a trial. None is tried again: the order of the arms would no longer be one of chance, and an invalid trial counts as one.
    pub fn ended(&mut self, trial: &TrialId, observation: &Observation, load: f64) {
        for (trial, observation, load) in self.starts.ended(trial, observation, load, false) {
            if let Some(arm) = self.setup.arm(&trial.kernel) {
                self.proof.record(self.reading.take(arm, observation, load));
            }
        }
    }

    /// The proof so far. When nothing runs any more, that is all of it.
    #[must_use]
    pub fn report(&self) -> ProofReport {
        let recorded = self.starts.recorded().map(|(trial, observation, load)| (trial.clone(), observation, load));
        ProofReport::of(self.setup.clone(), recorded)
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Event {
        let arms = std::iter::once(Arm::Baseline).chain((0..self.proof.candidates()).map(Arm::Candidate));
        let arm = |arm| {
            let tally = self.proof.tally(arm);
            Some(ArmProgress { kernel: self.setup.kernel(arm)?.clone(), hangs: tally.same_hang, trials: tally.valid() })
        };
        let design = self.proof.design();
        Event::ProofProgress {
            arms: arms.filter_map(arm).collect(),
            reproduced: self.proof.baseline_hangs(),
            passes_needed: run_needed(design.residual, design.confidence),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::evidence::At;
    use crate::exit::Exit;
    use crate::oracle::hang::{Likeness, Signature};
    use crate::oracle::{Fault, Hang, Pass, Witness};
    use crate::proof::{Answer, Finding, Reason};
    use crate::stats::Random;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn setup(candidates: &[&str]) -> Setup {
        Setup {
            design: Design::new(candidates.len()),
            seed: 7,
            duration: 10.0,
            baseline: name("lost"),
            candidates: candidates.iter().map(|kernel| Candidate { kernel: name(kernel), identical: false }).collect(),
        }
    }

    fn pass() -> Observation {
        Observation::Pass(Pass {
            operations: Some(900),
            oom_kills: 30,
            commits: Some(90),
            standstill: Duration::from_secs(1),
            said: Vec::new(),
        })
    }

    /// A hang whose signature is of this title.
    fn hang(title: &str, likeness: Option<Likeness>) -> Observation {
        Observation::Hang(Hang {
            last_progress: At(9000),
            at: At(20_000),
            witness: Witness::Silence { reported: 0, title: None },
            oom_kills: 12,
            operations: Some(50),
            signature: Signature::of([], title),
            likeness,
        })
    }

    fn invalid(fault: Fault) -> Observation {
        Observation::Invalid { fault, reason: "a test's".to_owned() }
    }

    /// Plays a proof, `jobs` trials at once that end in an order of chance; `show` says what each trial shows.
    fn played(setup: Setup, jobs: usize, mut show: impl FnMut(&TrialId) -> Observation) -> ProofReport {
        let (mut proving, mut chance, mut running) = (Proving::new(setup, BTreeMap::new()), Random::new(3), Vec::new());
        loop {
            while running.len() < jobs {
                let Some(trial) = proving.start() else { break };
                running.push(trial);
            }
            if running.is_empty() {
                return proving.report();
            }
            let trial = running.swap_remove(chance.below(running.len()));
            let observation = show(&trial);
            proving.ended(&trial, &observation, 4.0);
        }
    }

    fn answer(report: &ProofReport) -> Answer {
        report.candidates[0].summary.answer.unwrap()
    }

    #[test]
    fn each_answer_and_its_exit_code() {
        let is = |kernel: &str, trial: &TrialId| trial.kernel.as_str() == kernel;
        for jobs in [1, 2, 5] {
            let fixed = played(setup(&["fix"]), jobs, |trial| if is("fix", trial) { pass() } else { hang("ring", None) });
            assert_eq!((answer(&fixed), fixed.exit(|_| true)), (Answer::Fixed, Exit::Expected));
            let passes = fixed.trials.iter().filter(|trial| trial.meaning.arm != Arm::Baseline).count();
            assert!(passes >= 59 && (jobs > 1 || passes == 59), "{passes}");
            let twin = played(setup(&["fix"]), jobs, |_| hang("ring", None));
            assert_eq!((answer(&twin), twin.exit(|_| true)), (Answer::NotFixed, Exit::Contrary));
            let good = played(setup(&["fix"]), jobs, |_| pass());
            assert_eq!((answer(&good), good.exit(|_| true)), (Answer::Inconclusive(Reason::BaselineDidntReproduce), Exit::Inconclusive));
            let idle = played(setup(&["fix"]), jobs, |_| invalid(Fault::Trigger));
            assert_eq!((answer(&idle), idle.exit(|_| true)), (Answer::Inconclusive(Reason::TriggerDidntFire), Exit::Inconclusive));
            let broken = played(setup(&["fix"]), jobs, |_| invalid(Fault::Qemu));
            assert_eq!(answer(&broken), Answer::Inconclusive(Reason::TooManyInvalid));
            assert_eq!((broken.exit(|_| true), broken.exit(|_| false)), (Exit::Trouble, Exit::Inconclusive));
            let other = played(setup(&["fix"]), jobs, |trial| hang(if is("fix", trial) { "another" } else { "ring" }, None));
            assert_eq!(answer(&other), Answer::Inconclusive(Reason::Different(Finding::OtherHang)));
        }
    }

    #[test]
    fn a_pipelines_description_says_which_hang_it_is() {
        let different = || Some(Likeness::Different(vec!["in x".to_owned()]));
        // Nothing that the baseline shows is the hang that is looked for.
        let none = played(setup(&["fix"]), 1, |_| hang("ring", different()));
        assert_eq!((answer(&none), none.hang.clone()), (Answer::Inconclusive(Reason::BaselineDidntReproduce), None));
        // A look that missed somebody is of the same hang if the signature is.
        let missed = |trial: &TrialId| hang("ring", if trial.repeat == 2 { different() } else { Some(Likeness::Same) });
        let report = played(setup(&["fix"]), 1, missed);
        assert_eq!((answer(&report), report.baseline.tally.other_hang), (Answer::NotFixed, 0));
    }

    #[test]
    fn a_trial_waits_for_those_that_were_started_before_it() {
        let mut proving = Proving::new(setup(&["fix"]), BTreeMap::new());
        let [first, second] = [(); 2].map(|()| proving.start().unwrap());
        proving.ended(&second, &hang("ring", None), 3.0);
        assert_eq!(proving.report().trials.len(), 0);
        proving.ended(&first, &pass(), 10.0);
        let order: Vec<_> = proving.report().trials.into_iter().map(|trial| trial.trial).collect();
        assert_eq!(order, [first, second]);
    }

    #[test]
    fn an_invalid_trial_is_recorded_and_an_interrupted_one_isnt() {
        let mut proving = Proving::new(setup(&["fix"]), BTreeMap::new());
        let [broken, stopped, passed] = [(); 3].map(|()| proving.start().unwrap());
        proving.ended(&broken, &invalid(Fault::Host), 0.0);
        proving.ended(&stopped, &invalid(Fault::User), 0.0);
        proving.ended(&passed, &pass(), 10.0);
        let order: Vec<_> = proving.report().trials.into_iter().map(|trial| trial.trial).collect();
        assert_eq!(order, [broken, passed]);
    }

    #[test]
    fn the_words_of_a_proof() {
        let report = played(setup(&["fix", "twin"]), 1, |trial| if trial.kernel.as_str() == "fix" { pass() } else { hang("ring", None) });
        insta::assert_snapshot!(report.board(Some(160)));
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<ProofReport>(&text).unwrap(), report);
    }
}
