//! A report as JUnit XML, for continuous integration.
//!
//! One suite for the run: that all its trials have ended, and that it says what its evidence says. One per kernel: a case for its verdict, and one for each
//! trial. One for a proof: a case for each answer. *Error* is ours: a run that was cut short, an invalid trial, a kernel that wasn't built, a verdict that
//! nobody can give. *Failure* is the kernel's: a verdict contrary to what was expected, and the trials that make it
//! so. A trial that was tried again carries its former attempts as reruns. What a kernel was made of besides its source, patches and compatibility changes,
//! are its suite's properties.
//!
//! Read [`junit`].

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report as Document, TestCase, TestCaseStatus, TestRerun, TestSuite, XmlString};

use super::account::NOT_THE_EVIDENCE;
use super::case::{Case, Comparison, arm};
use super::{KernelReport, ProofReport, TrialReport};
use crate::oracle::{Fault, Observation};
use crate::proof::Answer;
use crate::text::plain;
use crate::verdict::Verdict;

/// The report as JUnit XML.
///
/// # Errors
/// Never in practice: everything in it is text.
pub fn junit(case: &Case) -> Result<String, quick_junit::SerializeError> {
    let report = &case.report;
    let mut document = Document::new(format!("hangproof {}", report.pipeline));
    document.add_test_suite(whole(case));
    document.add_test_suites(report.kernels.iter().map(|kernel| suite(case, kernel)));
    document.add_test_suites(report.proof.as_ref().map(answers));
    document.to_string()
}

/// What holds for all of the run.
fn whole(case: &Case) -> TestSuite {
    let mut suite = TestSuite::new("run");
    let ended = if case.report.complete {
        TestCaseStatus::success()
    } else {
        not(NonSuccessKind::Error, "cut-short", "the run was cut short: its other trials are missing")
    };
    let supported = match &case.comparison {
        Comparison::Made(contradictions) if contradictions.is_empty() => TestCaseStatus::success(),
        Comparison::Made(contradictions) => {
            not(NonSuccessKind::Error, "not-the-evidence", &format!("{NOT_THE_EVIDENCE}\n{}", contradictions.join("\n")))
        }
        Comparison::NotMade(why) => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(plain(why));
            status
        }
    };
    for (name, status) in [("all trials have ended", ended), ("says what its evidence says", supported)] {
        let mut one = TestCase::new(name, status);
        one.set_classname("run");
        for what in case.damage(None, None) {
            one.set_system_out(format!("missing or damaged: {}", plain(what)));
        }
        suite.add_test_case(one);
    }
    suite
}

/// A proof's answers: not fixed is a failure, no answer an error.
fn answers(proof: &ProofReport) -> TestSuite {
    let mut suite = TestSuite::new("proof");
    for candidate in &proof.candidates {
        let status = |kind| {
            let mut status = TestCaseStatus::non_success(kind);
            status.set_message(plain(&candidate.why));
            status
        };
        let status = match candidate.summary.answer {
            Some(Answer::Fixed) => TestCaseStatus::success(),
            Some(Answer::NotFixed) => status(NonSuccessKind::Failure),
            Some(Answer::Inconclusive(_)) | None => status(NonSuccessKind::Error),
        };
        let mut answer = TestCase::new(format!("{} is fixed", candidate.kernel), status);
        answer.set_classname("proof").set_system_out(plain(&candidate.why));
        suite.add_test_case(answer);
    }
    suite
}

fn suite(case: &Case, kernel: &KernelReport) -> TestSuite {
    let report = &case.report;
    let arm = arm(kernel);
    let mut suite = TestSuite::new(XmlString::new(&arm));
    let mut verdict = TestCase::new("verdict", status(kernel));
    verdict.set_classname(XmlString::new(&arm)).set_system_out(super::account::odds(&kernel.hang_rate));
    suite.add_test_case(verdict);
    // The last attempt is the trial; those before it are its reruns.
    // One that was interrupted isn't one, if the run went on after it.
    let interrupted = |result: &TrialReport| matches!(result.observation, Observation::Invalid { fault: Fault::User, .. });
    for last in kernel.results.iter().filter(|result| result.counts() && !(report.complete && interrupted(result))) {
        let earlier = kernel.results.iter().filter(|result| result.repeated && result.trial.repeat == last.trial.repeat);
        let mut trial = TestCase::new(format!("trial {}", last.trial.repeat), trial_status(kernel, last, earlier));
        let damaged =
            case.damage(Some(&kernel.name), Some(&last.trial)).into_iter().map(|what| format!("\nmissing or damaged: {}", plain(what)));
        let said = plain(&last.observation.detail()) + &damaged.collect::<String>();
        trial.set_classname(XmlString::new(&arm)).set_time(time(last)).set_system_out(said);
        suite.add_test_case(trial);
    }
    let total: f64 = kernel.results.iter().map(|result| result.seconds).sum();
    suite.set_time(Duration::try_from_secs_f64(total).unwrap_or_default());
    if let Ok(version) = case.version(kernel) {
        suite.add_property(("uname", plain(version).as_str()));
    }
    let build = kernel.build.iter();
    for (what, change) in build.flat_map(|build| {
        let compatibility = build.compatibility.iter().map(|applied| ("compatibility", applied.shown()));
        compatibility.chain(build.patches.iter().map(|patch| ("patch", patch.path.display().to_string())))
    }) {
        suite.add_property((what, plain(&change).as_str()));
    }
    for what in case.damage(Some(&kernel.name), None) {
        suite.add_property(("missing or damaged", plain(what).as_str()));
    }
    suite
}

fn time(result: &TrialReport) -> Duration {
    Duration::try_from_secs_f64(result.seconds).unwrap_or_default()
}

fn contrary(kernel: &KernelReport) -> bool {
    kernel.verdict != Verdict::Inconclusive && !kernel.is_as_expected()
}

fn status(kernel: &KernelReport) -> TestCaseStatus {
    let expected = kernel.expected.map_or_else(|| "nothing".to_owned(), |expected| expected.to_string());
    if let Some(why) = kernel.why_inconclusive() {
        return not(NonSuccessKind::Error, "inconclusive", &why);
    }
    if contrary(kernel) {
        return not(NonSuccessKind::Failure, &kernel.verdict.to_string(), &format!("expected {expected}, found {}", kernel.verdict));
    }
    TestCaseStatus::success()
}

fn not(kind: NonSuccessKind, word: &str, message: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(kind);
    status.set_type(XmlString::new(word)).set_message(plain(message));
    status
}

fn trial_status<'a>(kernel: &KernelReport, last: &TrialReport, earlier: impl Iterator<Item = &'a TrialReport>) -> TestCaseStatus {
    let (word, detail) = (last.observation.word(), last.observation.detail());
    let invalid = matches!(last.observation, Observation::Invalid { .. });
    let mut status = if invalid {
        not(NonSuccessKind::Error, word, &detail)
    } else if contrary(kernel) && word == kernel.verdict.to_string() {
        not(NonSuccessKind::Failure, word, &detail)
    } else {
        TestCaseStatus::success()
    };
    for attempt in earlier {
        let mut rerun = TestRerun::new(NonSuccessKind::Error);
        rerun.set_type(attempt.observation.word()).set_message(plain(&attempt.observation.detail())).set_time(time(attempt));
        status.add_rerun(rerun);
    }
    status
}
