//! Real evidence, judged again and played again.
//!
//! Each folder of `tests/evidence` is a trial of Linux 6.1.192 under QEMU 7.2 (TCG, 2 CPUs): a pass, four hangs of the founding bug, and a healthy
//! kernel that stands still for half a minute and recovers. With 4 x 8 processes the hang's holder sleeps in reclaim between its tries, as the healthy
//! kernel's does: then only the long limit tells, or the flags of its charge, which the kernel of `hang-4x8-flags` told. Judgement has to be right at every moment, not only at the end.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use hangproof::event::Events;
use hangproof::evidence::{At, Evidence, VmEnd};
use hangproof::oracle::hang::{Likeness, Signature, Stuck, likeness};
use hangproof::oracle::tasks;
use hangproof::oracle::{Asked, Digest, Hang, Judgement, Observation, Witness, judge, observe, progress};
use hangproof::plan::TrialId;
use hangproof::report::{load_trial, trial_folder};
use hangproof::rescore::RULES;
use hangproof::spec::{HangSignature, load as load_definitions};
use hangproof::trial::watch;
use hangproof::vm::{Replay, Vm};
use hangproof_wire::{Dying, Look};

/// The trials, with the kernels that they are of.
const TRIALS: [(&str, &str); 6] = [
    ("pass-4x2", "debian-6.1"),
    ("hang-4x2", "debian-6.1-el7mm-nofail-lost"),
    ("recovers-4x8", "debian-6.1-el7mm"),
    ("hang-4x8", "debian-6.1-el7mm-nofail-lost"),
    ("hang-4x8-flags", "debian-6.1-el7mm-nofail-lost"),
    ("hang-4x8-buffer", "debian-6.1-el7mm-nofail-lost"),
];

/// A trial that was given up after 120 s of silence, and its kernel: the host's CPUs were three times too busy.
const FORCED: (&str, &str) = ("forced-4x8", "debian-6.1-el7mm");

/// Unpacks a saved trial and loads it as `rescore` does.
fn load(name: &str) -> Evidence {
    let kernel = TRIALS.iter().chain([&FORCED]).find(|(trial, _)| *trial == name).unwrap().1;
    let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/evidence").join(name);
    let run = tempfile::tempdir().unwrap();
    let trial = TrialId { kernel: kernel.parse().unwrap(), mitigation: None, repeat: 1, attempt: 1 };
    let folder = run.path().join(trial_folder(&trial));
    fs::create_dir_all(&folder).unwrap();
    for file in ["evidence.json", "console.log"] {
        let bytes = fs::read(packed.join(format!("{file}.zst"))).unwrap();
        fs::write(folder.join(file), zstd::decode_all(&*bytes).unwrap()).unwrap();
    }
    load_trial(run.path(), &trial).unwrap()
}

/// What the trial had seen at `at`.
fn until(evidence: &Evidence, at: At) -> Evidence {
    let mut cut = evidence.clone();
    cut.beats.retain(|(when, _)| *when <= at);
    cut.counts.retain(|(when, _)| *when <= at);
    cut.looks.retain(|(when, _)| *when <= at);
    cut.qmp.retain(|(when, _)| *when <= at);
    cut.console.retain(|line| line.at <= at);
    cut.reproducer = cut.reproducer.filter(|(when, _)| *when <= at);
    cut.end = None;
    cut
}

/// An observation that is another one is judged by other rules: raise their number, and take the new snapshot's name for what it is.
#[test]
fn the_rules_have_a_number() {
    let names = TRIALS.iter().chain([&FORCED]).map(|(name, _)| *name);
    let seen: String = names.map(|name| format!("{name}\n{}\n", serde_json::to_string_pretty(&observe(&load(name))).unwrap())).collect();
    let mut settings = insta::Settings::clone_current();
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(format!("rules-{RULES}"), seen));
}

/// What the shipped pipeline says of its hang.
fn founding() -> HangSignature {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let definitions = load_definitions(root).unwrap();
    definitions.pipelines.values().find_map(|pipeline| pipeline.hang.clone()).unwrap()
}

fn hang(mut evidence: Evidence) -> Hang {
    evidence.rules.hang = Some(founding());
    match observe(&evidence) {
        Observation::Hang(hang) => hang,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_pass_is_a_pass() {
    let Observation::Pass(pass) = observe(&load("pass-4x2")) else { panic!() };
    assert!(pass.operations.unwrap() > 1000 && pass.oom_kills > 50 && pass.commits.unwrap() > 100, "{pass:?}");
}

#[test]
fn the_founding_bug_is_a_closed_wait() {
    let Observation::Hang(Hang { witness: Witness::ClosedWait(wait), last_progress, at, .. }) = observe(&load("hang-4x2")) else {
        panic!()
    };
    assert_eq!(wait.journal.comm, "jbd2/md127-8");
    assert!(!wait.holders.is_empty() && !wait.dying.is_empty() && wait.waiters > 2, "{wait:?}");
    assert!(at.since(last_progress).as_secs() < 15);
}

#[test]
fn a_hang_that_looks_like_a_standstill_takes_the_long_limit() {
    let evidence = load("hang-4x8");
    let Observation::Hang(Hang { witness: Witness::Silence { reported, .. }, last_progress, at, .. }) = observe(&evidence) else {
        panic!()
    };
    assert!(reported > 10);
    assert!(at.since(last_progress) >= evidence.rules.limits.silence);
}

#[test]
fn a_victim_may_wait_for_a_buffer_that_the_holder_locked() {
    let mut evidence = load("hang-4x8-buffer");
    let at = evidence.end.take().unwrap().0;
    // Of those who can't die, only the ones that wait for the buffer.
    for (_, look) in &mut evidence.looks {
        let tasks = tasks::parse(&look.log);
        let waits = |tid: u32| tasks.iter().any(|task| task.tid == tid && task.is_in("__lock_buffer"));
        look.dying.retain(|task| waits(task.tid));
        assert!(look.dying.len() >= 2, "{:?}", look.dying);
    }
    let Judgement::Closed(Observation::Hang(Hang { witness: Witness::ClosedWait(wait), last_progress, .. })) =
        judge(&evidence, &Digest::of(&evidence), Asked::default(), at)
    else {
        panic!()
    };
    assert!(wait.shut_out >= wait.dying.len() && wait.title().contains(" for a buffer that it may have locked"), "{}", wait.title());
    assert!(at.since(last_progress).as_secs() < 15);
}

#[test]
fn the_flags_of_the_charge_tell_it_from_a_standstill() {
    let mut evidence = load("hang-4x8-flags");
    let Observation::Hang(Hang { witness: Witness::ClosedWait(wait), last_progress, at, .. }) = observe(&evidence) else { panic!() };
    assert_eq!(wait.flags.iter().collect::<Vec<_>>(), ["GFP_NOFS|__GFP_HIGHMEM|__GFP_HARDWALL|__GFP_MOVABLE"]);
    assert!(at.since(last_progress).as_secs() < 15);
    // With the flag it would be a healthy kernel's charge, for all that is known.
    evidence.looks.iter_mut().flat_map(|(_, look)| &mut look.reclaims).for_each(|reclaim| reclaim.flags.push_str("|__GFP_NOFAIL"));
    evidence.end = None;
    let judgement = judge(&evidence, &Digest::of(&evidence), Asked::default(), at);
    assert!(matches!(judgement, Judgement::Open(_)), "{judgement:?}");
}

#[test]
fn two_trials_of_one_deadlock_have_one_signature() {
    // One was seen as a closed wait, of 8 tasks; the other as silence, of 32.
    let [few, many] = ["hang-4x2", "hang-4x8"].map(|name| hang(load(name)));
    assert_eq!(few.signature.id, many.signature.id, "{:#?} {:#?}", few.signature, many.signature);
    assert!(few.signature.ring && many.signature.ring && few.signature.is_like(&many.signature));
    assert_eq!((few.likeness, many.likeness), (Some(Likeness::Same), Some(Likeness::Same)));
    // Each of its looks alone tells the same.
    for name in ["hang-4x2", "hang-4x8"] {
        for (at, look) in &load(name).looks {
            let stuck = Stuck::of(look, &tasks::parse(&look.log));
            assert!(Signature::of([&stuck], "").is_like(&few.signature), "{name} at {at}");
        }
    }
}

/// A file of `tests/hangs`: `dying:` and a task list.
fn look(text: &str) -> Stuck {
    let (first, log) = text.split_once('\n').unwrap();
    let dying = first.strip_prefix("dying:").unwrap().split_whitespace();
    let dying = dying.map(|tid| Dying { tid: tid.parse().unwrap(), tgid: tid.parse().unwrap(), comm: String::new(), state: 'D' });
    let look = Look { id: 1, uptime_ms: 0, log: log.to_owned(), dying: dying.collect(), ..Look::default() };
    Stuck::of(&look, &tasks::parse(log))
}

#[test]
fn other_kernels_show_the_same_hang_and_other_hangs_do_not() {
    let real = hang(load("hang-4x2")).signature;
    let mut seen = String::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hangs");
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        let stuck = look(&fs::read_to_string(&path).unwrap());
        let signature = Signature::of([&stuck], "");
        let (name, hit) = (path.file_name().unwrap().to_str().unwrap(), path.extension().unwrap() == "hit");
        assert_eq!(signature.is_like(&real), hit, "{name}: {signature:#?}");
        assert_eq!(real.is_like(&signature), hit, "{name}");
        let likeness = likeness(&founding(), [&stuck]);
        assert_eq!(likeness == Likeness::Same, hit, "{name}: {likeness:?}");
        writeln!(seen, "{name}: {} {}\n  {likeness:?}", signature.id, signature.title).unwrap();
    }
    insta::assert_snapshot!(seen);
}

#[test]
fn a_standstill_that_recovers_is_no_hang_at_any_moment() {
    let evidence = load("recovers-4x8");
    let Observation::Pass(pass) = observe(&evidence) else { panic!("{:?}", observe(&evidence)) };
    assert!(pass.standstill.as_secs() >= 24 && evidence.looks.len() > 2, "{pass:?}");
    let end = evidence.end.as_ref().unwrap().0;
    for second in 0..end.0 / 1000 {
        let cut = until(&evidence, At(second * 1000));
        let judgement = judge(&cut, &Digest::of(&cut), Asked::default(), At(second * 1000));
        assert!(matches!(judgement, Judgement::Open(_)), "at {second} s: {judgement:?}");
    }
}

#[test]
fn silence_is_no_hang_so_soon_while_the_charges_that_are_waited_for_are_forced() {
    let mut evidence = load(FORCED.0);
    let (end, limit) = (evidence.end.take().unwrap().0, evidence.rules.limits.silence);
    let judged = |evidence: &Evidence| judge(evidence, &Digest::of(evidence), Asked::default(), end);
    let last = progress(&evidence, end).last;
    assert!(end.since(last) >= limit);
    assert!(matches!(judged(&evidence), Judgement::Open(_)), "{:?}", judged(&evidence));
    let ring = |evidence: &Evidence| {
        let (_, look) = evidence.looks.last().unwrap();
        Signature::of([&Stuck::of(look, &tasks::parse(&look.log))], "").ring
    };
    assert!(!ring(&evidence));
    // Without the kernel's word it is what a lost flag looks like.
    evidence.looks.iter_mut().for_each(|(_, look)| look.reclaims.clear());
    assert!(ring(&evidence));
    let Judgement::Closed(Observation::Hang(hang)) = judged(&evidence) else { panic!("{:?}", judged(&evidence)) };
    assert!(matches!(hang.witness, Witness::Silence { .. }));
    // Nor does it take for ever.
    let mut evidence = load(FORCED.0);
    let later = last.after(limit * 3);
    evidence.beats.extend(evidence.beats.last().cloned().map(|(_, mut beat)| {
        beat.seq += 2 * later.since(end).as_secs();
        (later, beat)
    }));
    evidence.end = Some((later, VmEnd::Stopped));
    assert!(matches!(observe(&evidence), Observation::Hang(_)), "{:?}", observe(&evidence));
}

#[tokio::test(start_paused = true)]
async fn a_replayed_trial_ends_as_the_real_one_did() {
    for (name, _) in TRIALS {
        let saved = load(name);
        let mut again = Evidence::new(saved.trial.clone(), saved.rules.clone());
        let (_stop, stopped) = tokio::sync::watch::channel(false);
        let mut vm = Vm::Replay(Replay::of(&saved));
        watch(&mut vm, &mut again, &Events::ignored(), stopped).await;
        let (before, after) = (observe(&saved), observe(&again));
        assert_eq!(before.word(), after.word(), "{name}: {before:?} {after:?}");
        assert!(matches!(again.end, Some((_, VmEnd::Stopped))), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_trial_keeps_what_it_saw() {
    let saved = load("pass-4x2");
    let mut again = Evidence::new(saved.trial.clone(), saved.rules.clone());
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut vm = Vm::Replay(Replay::of(&saved));
    let events = Events::ignored();
    let watching = watch(&mut vm, &mut again, &events, stopped);
    let interrupting = async {
        tokio::time::sleep(std::time::Duration::from_secs(20)).await;
        stop.send_replace(true);
    };
    tokio::join!(watching, interrupting);
    assert!(matches!(again.end, Some((At(19_900..=20_200), VmEnd::Interrupted))), "{:?}", again.end);
    assert!(!again.beats.is_empty() && !again.console.is_empty());
}
