//! The rules of the answers, one small proof each; their error rates are in `simulation`.

use super::*;
use crate::stats::Random;

fn trials(arm: Arm, outcome: Outcome, count: usize) -> Vec<Trial> {
    vec![Trial { arm, outcome, load: if outcome == Outcome::Pass { 60.0 } else { 5.0 } }; count]
}

/// The answer for one candidate whose arms showed this: the baseline first, but for its last hang, which comes when the candidate has its trials.
fn answer(baseline: &[(Outcome, usize)], candidate: &[(Outcome, usize)]) -> Option<Answer> {
    let arm =
        |arm, outcomes: &[(Outcome, usize)]| outcomes.iter().flat_map(|&(outcome, count)| trials(arm, outcome, count)).collect::<Vec<_>>();
    let mut before = arm(Arm::Baseline, baseline);
    let last = before.iter().rposition(|trial| trial.outcome == Outcome::SameHang).map(|last| before.remove(last));
    let sequence = [before, arm(Arm::Candidate(0), candidate), last.into_iter().collect()].concat();
    Proof::of(Design::new(1), &[false], &sequence).answer(0)
}

#[test]
fn each_answer() {
    use Outcome::{BootFailure, Crash, Invalid, NotTriggered, OtherHang, Pass, SameHang, Unresolved};
    let hangs: &[_] = &[(SameHang, 3)];
    let inconclusive = |reason| Some(Answer::Inconclusive(reason));
    assert_eq!(answer(hangs, &[(Pass, 59)]), Some(Answer::Fixed));
    assert_eq!(answer(hangs, &[(Pass, 58)]), None);
    assert_eq!(answer(hangs, &[(Pass, 58), (SameHang, 1)]), Some(Answer::NotFixed));
    // One hang after the answer was fixed, of a trial that was still going on, takes it back.
    assert_eq!(answer(hangs, &[(Pass, 60), (SameHang, 1)]), Some(Answer::NotFixed));
    assert_eq!(answer(hangs, &[(Crash, 1), (SameHang, 1)]), Some(Answer::NotFixed));
    let findings =
        [(OtherHang, Finding::OtherHang), (Crash, Finding::Crash), (BootFailure, Finding::BootFailure), (Unresolved, Finding::Standstill)];
    for (outcome, finding) in findings {
        assert_eq!(answer(hangs, &[(Pass, 80), (outcome, 1)]), inconclusive(Reason::Different(finding)));
    }
    // Too few hangs of the baseline, or too rare ones, say nothing about a candidate.
    assert_eq!(answer(&[(SameHang, 2)], &[(Pass, 59)]), None);
    assert_eq!(answer(&[(SameHang, 2)], &[(SameHang, 3)]), None);
    assert_eq!(answer(&[(SameHang, 3), (Pass, 20)], &[(Pass, 59)]), None);
    assert_eq!(answer(&[(Pass, 13)], &[]), None);
    assert_eq!(answer(&[(Pass, 14)], &[(Pass, 59)]), inconclusive(Reason::BaselineDidntReproduce));
    // Another hang or crash of the baseline isn't what is to be fixed.
    assert_eq!(answer(&[(OtherHang, 7), (Crash, 7)], &[(Pass, 59)]), inconclusive(Reason::BaselineDidntReproduce));
    assert_eq!(answer(&[(NotTriggered, 2)], &[]), None);
    assert_eq!(answer(&[(NotTriggered, 3)], &[]), inconclusive(Reason::TriggerDidntFire));
    assert_eq!(answer(hangs, &[(NotTriggered, 3)]), inconclusive(Reason::TriggerDidntFire));
    assert_eq!(answer(hangs, &[(Pass, 59), (NotTriggered, 40)]), inconclusive(Reason::TriggerDidntFire));
    assert_eq!(answer(hangs, &[(Pass, 59), (NotTriggered, 3)]), Some(Answer::Fixed));
    assert_eq!(answer(&[(SameHang, 3), (Invalid, 3)], &[(Pass, 9)]), inconclusive(Reason::TooManyInvalid));
    assert_eq!(answer(hangs, &[(Invalid, 2), (NotTriggered, 2)]), inconclusive(Reason::TooManyInvalid));
    let limit = Design::new(1).max_trials as usize;
    assert_eq!(answer(&[(SameHang, 30), (Pass, limit)], &[(Pass, 30)]), inconclusive(Reason::LimitReached));
}

#[test]
fn a_baseline_that_stops_hanging_proves_nothing_more() {
    let (hang, passes) = (|count| trials(Arm::Baseline, Outcome::SameHang, count), |count| trials(Arm::Candidate(0), Outcome::Pass, count));
    let answer = |sequence: &[Vec<Trial>]| Proof::of(Design::new(1), &[false], &sequence.concat()).answer(0);
    assert_eq!(answer(&[hang(3), passes(59)]), None);
    assert_eq!(answer(&[hang(3), passes(29), hang(1), passes(30)]), None);
    assert_eq!(answer(&[hang(3), passes(30), hang(1), passes(29)]), Some(Answer::Fixed));
    assert_eq!(answer(&[hang(3), passes(59), hang(1)]), Some(Answer::Fixed));
    let controls = trials(Arm::Baseline, Outcome::Pass, 4);
    assert_eq!(answer(&[hang(3), passes(59), controls]), None);
    let limit = Design::new(1).max_trials as usize;
    assert_eq!(answer(&[hang(9), passes(limit - 9)]), Some(Answer::Inconclusive(Reason::BaselineStopped)));
}

#[test]
fn a_candidate_that_is_the_baseline_is_never_fixed() {
    let hangs = |count| trials(Arm::Baseline, Outcome::SameHang, count);
    let passes = |number| trials(Arm::Candidate(number), Outcome::Pass, 99);
    let sequence = [hangs(2), passes(0), passes(1), hangs(1)].concat();
    let proof = Proof::of(Design::new(2), &[true, false], &sequence);
    assert_eq!(proof.answer(0), Some(Answer::Inconclusive(Reason::Identical)));
    assert_eq!((proof.answer(1), proof.answer(2), proof.is_done()), (Some(Answer::Fixed), None, true));
}

#[test]
fn the_words() {
    let reasons = [
        Reason::BaselineDidntReproduce,
        Reason::TriggerDidntFire,
        Reason::TooManyInvalid,
        Reason::LimitReached,
        Reason::BaselineStopped,
        Reason::Identical,
        Reason::Different(Finding::Standstill),
        Reason::Different(Finding::OtherHang),
        Reason::Different(Finding::Crash),
        Reason::Different(Finding::BootFailure),
    ];
    let answers = [Answer::Fixed, Answer::NotFixed].into_iter().chain(reasons.map(Answer::Inconclusive));
    let lines: Vec<_> = answers.map(|answer| answer.to_string()).collect();
    assert_eq!(
        lines,
        [
            "fixed",
            "not fixed",
            "inconclusive: the baseline didn't reproduce the hang; calibrate the pipeline with it first",
            "inconclusive: the trigger didn't fire, so nothing was tested; press harder, or correct the pipeline's trigger",
            "inconclusive: too many trials are invalid; see their reasons, and repeat it on a quieter host",
            "inconclusive: the limit on trials was reached; allow more",
            "inconclusive: the baseline hung at first and no more while the candidate passed; find out what changed on the host, and repeat it",
            "inconclusive: the candidate is identical to the baseline; see whether its patch touches what is built",
            "inconclusive: the candidate stood still in a trial, and nobody knows whether for good; look at its stacks",
            "inconclusive: the candidate hangs in another way; look at its stacks",
            "inconclusive: the candidate crashes; look at its console",
            "inconclusive: the candidate doesn't boot; look at its console",
        ]
    );
}

#[test]
fn the_summary_of_the_founding_bug() {
    let mut sequence = trials(Arm::Baseline, Outcome::SameHang, 4);
    sequence.extend(trials(Arm::Candidate(0), Outcome::Pass, 59));
    sequence.extend(trials(Arm::Baseline, Outcome::SameHang, 1));
    let summary = Proof::of(Design::new(1), &[false], &sequence).summary(0);
    let Some(Summary { answer: Some(Answer::Fixed), baseline, candidate, residual_bound, hazard_ratio: Some(ratio), e_wanted }) = summary
    else {
        panic!("{summary:?}")
    };
    assert_eq!((baseline.tally.same_hang, baseline.exact.trials, candidate.tally.pass, e_wanted), (5, 5, 59, 20.0));
    assert!((residual_bound - 0.0495).abs() < 1e-4 && (candidate.e_value - 20.62).abs() < 0.01 && baseline.e_value > 1e5);
    // 25 s of the baseline's load, 3540 s of the candidate's: 5 * (20^(1/5) - 1) / 708.
    assert!((ratio - 0.005_798).abs() < 1e-5, "{ratio}");
    assert!(candidate.anytime.high > candidate.exact.high);
    let json = serde_json::to_string(&summary).unwrap_or_default();
    assert!(json.contains(r#""answer":"fixed""#) && !json.contains("null"), "{json}");
    assert_eq!(serde_json::from_str::<Option<Summary>>(&json).ok().flatten().and_then(|summary| summary.answer), Some(Answer::Fixed));
}

#[test]
fn the_order_is_random_balanced_and_repeatable() {
    let run = |seed, hangs: bool| {
        let mut proof = Proof::new(Design::new(2), &[false, false]);
        let mut order = Order::new(seed);
        let mut arms = Vec::new();
        while let Some(arm) = order.next(&proof) {
            arms.push(arm);
            let outcome = if hangs && arm == Arm::Baseline { Outcome::SameHang } else { Outcome::Pass };
            proof.record(Trial { arm, outcome, load: 1.0 });
            let [one, other] = [0, 1].map(|number| proof.tally(Arm::Candidate(number)).all());
            assert!(one.abs_diff(other) <= 10, "{one} {other}");
        }
        arms
    };
    let arms = run(7, true);
    assert_eq!(arms, run(7, true));
    assert_ne!(arms, run(8, true));
    // The baseline first, then one of each until it hung three times; then a control in each block of 21.
    assert_eq!(arms[0], Arm::Baseline);
    assert_eq!(arms[1..7].iter().filter(|arm| **arm == Arm::Baseline).count(), 2);
    for block in arms[7..].chunks_exact(21) {
        assert_eq!(block.iter().filter(|arm| **arm == Arm::Baseline).count(), 1);
    }
    assert_eq!([0, 1].map(|number| arms.iter().filter(|arm| **arm == Arm::Candidate(number)).count()), [59, 59]);
    // A baseline that doesn't hang costs no candidate anything.
    assert_eq!(run(7, false), [Arm::Baseline; 14]);
}

#[test]
fn the_design_of_fixed_size() {
    let design = Design::new(1);
    let size = fixed_size(&design);
    assert_eq!((size.candidate, design.max_trials), (59, 2 * (59 + size.baseline)));
    // One that hangs in half of the trials is shown to hang sooner, and a bound of 0.01 takes 299 passes.
    assert!(fixed_size(&Design { least_rate: 0.5, ..design }).baseline < size.baseline);
    assert!(fixed_size(&Design { power: 0.5, ..design }).baseline < size.baseline);
    assert_eq!(fixed_size(&Design { residual: 0.01, ..design }).candidate, 299);
}

fn outcome() -> impl proptest::strategy::Strategy<Value = Outcome> {
    use Outcome::{BootFailure, Crash, Invalid, NotTriggered, OtherHang, Pass, SameHang, Unresolved};
    use proptest::prelude::{Just, prop_oneof};
    prop_oneof![60 => Just(Pass), 2 => Just(SameHang), 1 => Just(OtherHang), 1 => Just(Crash), 1 => Just(BootFailure), 1 => Just(NotTriggered), 1 => Just(Unresolved), 1 => Just(Invalid)]
}

proptest::proptest! {
    #[test]
    fn what_fixed_rests_on(
        baseline in proptest::collection::vec((outcome(), proptest::bool::ANY), 0..30),
        candidate in proptest::collection::vec(outcome(), 0..100),
        seed in 0u64..1000,
    ) {
        // Half of the baseline's trials hang, or it would hardly ever be credible.
        let baseline = baseline.iter().map(|(outcome, hangs)| if *hangs { Outcome::SameHang } else { *outcome });
        let mut sequence: Vec<_> = baseline.map(|outcome| Trial { arm: Arm::Baseline, outcome, load: 1.0 }).collect();
        sequence.extend(candidate.iter().map(|&outcome| Trial { arm: Arm::Candidate(0), outcome, load: 1.0 }));
        let design = Design::new(1);
        let proof = Proof::of(design, &[false], &sequence);
        let (b, c) = (proof.tally(Arm::Baseline), proof.tally(Arm::Candidate(0)));
        let found = proof.answer(0);
        if found == Some(Answer::Fixed) {
            proptest::prop_assert!(b.same_hang >= LEAST_HANGS && c.pass >= 59 && c.valid() == c.pass && c.unresolved == 0, "{b:?} {c:?}");
        }
        if matches!(found, Some(Answer::Fixed | Answer::NotFixed)) {
            proptest::prop_assert!(proof.baseline_hangs());
        }
        // The answer is of the counts: another order of the same trials can only take back *fixed*, or give it, by when the baseline hung last.
        Random::new(seed).shuffle(&mut sequence);
        let other = Proof::of(design, &[false], &sequence).answer(0);
        let open = [None, Some(Answer::Fixed), Some(Answer::Inconclusive(Reason::BaselineStopped))];
        proptest::prop_assert!(other == found || (open.contains(&other) && open.contains(&found)), "{other:?} {found:?}");
        // A hang of the candidate never helps it.
        sequence.push(Trial { arm: Arm::Candidate(0), outcome: Outcome::SameHang, load: 1.0 });
        proptest::prop_assert_ne!(Proof::of(design, &[false], &sequence).answer(0), Some(Answer::Fixed));
    }
}
