//! Judges a run's saved evidence again, without a VM.
//!
//! It reads what the trials saved and applies today's oracle; the saved report is not changed. What comes out otherwise is listed. A trial whose evidence
//! can't be read proves nothing: it counts as invalid, and the others are judged all the same. A change by other
//! rules is nobody's fault; by the same ones it is an edit.
//!
//! Read [`rescore`].

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::evidence::Rules;
use crate::oracle::{Fault, Observation, observe};
use crate::plan::TrialId;
use crate::proof::Summary;
use crate::report::{
    Course, KernelReport, ProofReport, Report, StepReport, TrialReport, arm, calibration, load_of, load_trial, observed, unlisted,
};

/// Number of the rules of judgement, the oracle's as well as those of verdicts, proofs and searches; raised with each change by which a saved run may be judged
/// otherwise. 0 are those of runs from before they had numbers.
pub const RULES: u32 = 5;

/// A run, judged again.
#[derive(Debug)]
pub struct Rescored {
    /// The report as it is now.
    pub report: Report,
    /// Trials that were judged.
    pub trials: usize,
    /// One line for each observation and verdict that is another than the saved one.
    pub changes: Vec<String>,
    /// One line for each trial whose evidence is missing or can't be read.
    pub damaged: Vec<String>,
    /// The rules of the saved report are these, so that it says otherwise only if somebody edited it or its evidence.
    pub same_rules: bool,
}

/// Judges all trials of the run in `folder` again.
#[must_use]
pub fn rescore(folder: &Path, saved: &Report) -> Rescored {
    let (mut changes, mut damaged) = (Vec::new(), Vec::new());
    let mut trials = 0;
    let mut kernels = Vec::new();
    let mut loads = HashMap::new();
    for kernel in &saved.kernels {
        // What is lost contradicts nothing: there the saved observation is believed.
        let (mut results, mut believed, before) = (Vec::new(), Vec::new(), changes.len());
        for result in &kernel.results {
            let observation = match load_trial(folder, &result.trial) {
                Ok(evidence) => {
                    let observation = observe(&evidence);
                    if let Some(what) = other_rule(saved, result, &evidence.rules) {
                        changes.push(format!("{}: it was judged by {what} that isn't the report's", result.trial));
                    }
                    loads.insert(result.trial.clone(), load_of(&evidence, &observation));
                    believed.push(TrialReport { observation: observation.clone(), ..result.clone() });
                    if observation != result.observation {
                        let (before, after) = (&result.observation, &observation);
                        let (was, is) = (before.detail(), after.detail());
                        changes.push(format!("{}: was {} ({was}), is {} ({is})", result.trial, before.word(), after.word()));
                    }
                    observation
                }
                Err(error) => {
                    damaged.push(format!("{}: {error}", result.trial));
                    believed.push(result.clone());
                    Observation::Invalid { fault: Fault::Host, reason: "its evidence can't be read any more".to_owned() }
                }
            };
            trials += 1;
            results.push(TrialReport { observation, ..result.clone() });
        }
        let (arm, known) = (arm(kernel), KernelReport::new(kernel.cell(), believed, kernel.built()));
        if known.verdict != kernel.verdict {
            changes.push(format!("{arm}: the verdict was {}, is {}", kernel.verdict, known.verdict));
        }
        // Other observations have other counts.
        if changes.len() == before && counts(&known) != counts(kernel) {
            changes.push(format!("{arm}: its counts weren't those of its trials"));
        }
        kernels.push(KernelReport::new(kernel.cell(), results, kernel.built()));
    }
    // One that was cut short has trials that it didn't get to write down.
    if saved.complete {
        let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let unlisted = unlisted(folder, saved).unwrap_or_default();
        changes.extend(unlisted.iter().map(|path| format!("{}: there is such a trial, and the report doesn't have it", name(path))));
    }
    let mut report = Report { kernels, ..saved.clone() };
    let told_by_trials = changes.len();
    report.proof = saved.proof.as_ref().map(|proof| proved(proof, &report, &loads, &mut changes));
    if let Some(before) = &saved.search {
        let order: Vec<TrialId> = before.trials.iter().map(|trial| trial.trial.clone()).collect();
        let now = Course::of(before.setup.clone(), &report.kernels, &order, &before.went_on).report();
        // A number that was written and read isn't the same to the last bit.
        if now.told() != before.told() {
            changes.push(format!("the search said: {}; it says: {}", before.told(), now.told()));
        }
        report.search = Some(now);
    }
    if let Some(before) = &saved.step {
        let mut now = StepReport::new(before.design, before.commit.clone());
        before.unbuildable.iter().for_each(|why| now.cannot_be_built(why));
        let observed = observed(&report.kernels);
        before
            .trials
            .iter()
            .filter_map(|trial| Some((&trial.trial, observed.get(&trial.trial)?)))
            .for_each(|(id, seen)| now.take(id, seen));
        if now.answer != before.answer {
            changes.push(format!("the step said: {}; it says: {}", before.board().trim_end(), now.board().trim_end()));
        }
        report.step = Some(now);
    }
    if let Some(before) = &saved.calibration
        && damaged.is_empty()
        && let Ok(now) = calibration(folder, &report, before.design)
    {
        let (was, is) = (before.board(saved), now.board(&report));
        if was != is {
            changes.push(format!("the calibration said: {}; it says: {}", told(&was), told(&is)));
        }
        report.calibration = Some(now);
    }
    if !damaged.is_empty() {
        changes.truncate(told_by_trials);
    }
    Rescored { report, trials, changes, damaged, same_rules: saved.rules == RULES }
}

/// Which rule of the report's isn't the one by which a trial was judged. A trial's limits are the report's, scaled.
fn other_rule(report: &Report, result: &TrialReport, rules: &Rules) -> Option<&'static str> {
    let differ = |one: Duration, other: Duration| one.abs_diff(other) > Duration::from_millis(1);
    let scaled = |limit: Duration| limit.mul_f64(rules.scale);
    let (told, judged) = (&report.limits, &rules.limits);
    let duration = match (&report.proof, &report.search) {
        (Some(proof), _) => Duration::try_from_secs_f64(proof.setup.duration).ok(),
        (None, Some(search)) => Duration::try_from_secs_f64(search.setup.duration).ok(),
        (None, None) => Some(told.duration),
    };
    let pairs = [
        // What calibrates may last longer than the proof's trials.
        ("a duration", !result.calibrates && duration.is_none_or(|duration| differ(duration, judged.duration))),
        ("a limit of the boot", differ(scaled(told.boot), judged.boot)),
        ("a stall", differ(scaled(told.stall), judged.stall)),
        ("a silence", differ(scaled(told.silence), judged.silence)),
        ("a trigger", report.trigger != rules.trigger),
        // A search may go on with another one.
        ("an accelerator's factor", report.search.is_none() && report.host.accelerator.scale() != rules.scale),
    ];
    pairs.into_iter().find(|(_, differs)| *differs).map(|(what, _)| what)
}

/// What is counted of a kernel's trials. A number that was written and read isn't the same to the last bit.
fn counts(kernel: &KernelReport) -> String {
    format!("{:?} {:.6?}", kernel.trials, kernel.hang_rate)
}

/// Lines as one.
fn told(board: &str) -> String {
    board.lines().collect::<Vec<_>>().join("; ")
}

/// The proof of the observations as they are now, in the order in which the trials were started.
fn proved(before: &ProofReport, report: &Report, loads: &HashMap<TrialId, f64>, changes: &mut Vec<String>) -> ProofReport {
    let results = observed(&report.kernels);
    let lost = Observation::Invalid { fault: Fault::Host, reason: "the report has no such trial any more".to_owned() };
    let trial = |trial: &TrialId| (trial.clone(), *results.get(trial).unwrap_or(&&lost), loads.get(trial).copied().unwrap_or_default());
    let now = ProofReport::of(before.setup.clone(), before.trials.iter().map(|recorded| trial(&recorded.trial)));
    for (one, other) in before.candidates.iter().zip(&now.candidates) {
        if one.summary.answer != other.summary.answer {
            let word = |summary: &Summary| summary.answer.map_or_else(|| "not given".to_owned(), |answer| answer.to_string());
            changes.push(format!("{}: the answer was {}, is {}", one.kernel, word(&one.summary), word(&other.summary)));
        }
    }
    now
}
