//! The oracle's rules, one small evidence each; real evidence is judged in `tests/evidence.rs`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use hangproof_wire::{Beat, Dying, Look, Reclaim, Running, Step};

use super::wait::Ring;
use super::*;
use crate::evidence::{ConsoleLine, Count, CpuTime, Rules};
use crate::plan::TrialId;
use crate::spec::{Limits, Name, Trigger};

fn rules() -> Rules {
    let seconds = Duration::from_secs;
    Rules {
        limits: Limits { duration: seconds(40), boot: seconds(60), stall: seconds(8), silence: seconds(120) },
        trigger: Trigger { oom_kills: 10, commits: 10 },
        scale: 2.0,
        look_interval: seconds(3),
        hang: None,
    }
}

/// Booted and started at 5 s, then healthy until `until` seconds: a heartbeat and a count each second.
fn healthy(until: u64) -> Evidence {
    let trial = TrialId { kernel: Name::new("k").unwrap(), mitigation: None, repeat: 1, attempt: 1 };
    let mut evidence = Evidence::new(trial, rules());
    let boot = &mut evidence.boot;
    (boot.hello, boot.ready, boot.login, boot.started) = (Some(At(3000)), Some(At(4000)), Some(At(4500)), Some(At(5000)));
    for second in 3..=until {
        beat(&mut evidence, second, second, (second - 3) * 2);
        if second > 5 {
            evidence.counts.push((At(second * 1000 + 100), Count { operations: second * 50, oom_kills: None }));
        }
    }
    evidence
}

fn beat(evidence: &mut Evidence, second: u64, probes: u64, oom_kills: u64) {
    let beat = Beat { seq: second * 2, uptime_ms: second * 1000, probes, probe_pending_ms: 0, oom_kills, commits: Some(probes * 3) };
    evidence.beats.push((At(second * 1000), beat));
}

/// From here on only the agent lives, and its probe hangs.
fn silent(mut evidence: Evidence, until: u64) -> Evidence {
    let last = evidence.beats.last().unwrap().1;
    let last_second = last.seq / 2;
    for second in last_second + 1..=until {
        beat(&mut evidence, second, last.probes, last.oom_kills);
        evidence.beats.last_mut().unwrap().1.probe_pending_ms = (second - last_second) * 1000;
    }
    evidence
}

fn judged(evidence: &Evidence, at: u64) -> Judgement {
    judge(evidence, &Digest::of(evidence), Asked::default(), At(at * 1000))
}

/// The observation at the end, at `at` seconds.
fn seen(mut evidence: Evidence, at: u64) -> Observation {
    evidence.end.get_or_insert((At(at * 1000), VmEnd::Stopped));
    observe(&evidence)
}

#[track_caller]
fn is_invalid(observation: Observation, expected: Fault, part: &str) {
    match observation {
        Observation::Invalid { fault, reason } => assert!(fault == expected && reason.contains(part), "{fault}: {reason}"),
        other => panic!("{other:?}"),
    }
}

fn done(mut evidence: Evidence, at: u64, end: ReproducerEnd) -> Evidence {
    evidence.reproducer = Some((At(at * 1000), end));
    evidence
}

fn line(evidence: &mut Evidence, second: u64, text: &str) {
    evidence.console.push(ConsoleLine { at: At(second * 1000), text: text.to_owned() });
}

/// The founding bug as a look shows it, with these holders.
fn closed_look(holders: &[u32]) -> Look {
    let log = "\
[ 20.0] task:jbd2/md127-8    state:D stack:0 pid:46 ppid:2 flags:0x4000
[ 20.0]  jbd2_journal_wait_updates+0x5c/0xb0
[ 20.0]  jbd2_journal_commit_transaction+0x2a2/0x18d0
[ 20.0] task:ext4-oom        state:D stack:0 pid:70 ppid:1 flags:0x4000
[ 20.0]  jbd2_log_wait_commit+0x1/0x2
[ 20.0]  ext4_sync_file+0x1/0x2
";
    let stack =
        "[<0>] shrink_node+0x1/0x2\n[<0>] __filemap_add_folio+0x1/0x2\n[<0>] __getblk_gfp+0x1/0x2\n[<0>] __ext4_get_inode_loc+0x1/0x2\n";
    let running = holders.iter().map(|tid| Running {
        tid: *tid,
        tgid: *tid,
        comm: "ext4-oom".into(),
        stack: stack.into(),
        awake: 12,
        samples: 12,
        slept: 0,
    });
    let dying = vec![Dying { tid: 70, tgid: 70, comm: "ext4-oom".into(), state: 'D' }];
    Look { id: 1, uptime_ms: 20_000, log: log.into(), dying, running: running.collect(), ..Look::default() }
}

fn certain(look: &Look) -> Option<ClosedWait> {
    Ring::find(look)?.certain()
}

#[test]
fn a_healthy_trial_passes() {
    let Observation::Pass(pass) = seen(done(healthy(47), 45, ReproducerEnd::Status(0)), 47) else { panic!() };
    assert_eq!((pass.operations, pass.oom_kills), (Some(47 * 50), 88));
    assert!(pass.commits.unwrap() >= 80 && pass.standstill < Duration::from_secs(2), "{pass:?}");
}

#[test]
fn a_pass_needs_a_write_after_the_end() {
    let evidence = done(healthy(45), 45, ReproducerEnd::Status(0));
    assert!(matches!(judged(&evidence, 46), Judgement::Open(Next::Wait(_))));
}

#[test]
fn a_reproducer_that_counts_and_never_ends_has_run_its_time() {
    assert!(matches!(judged(&healthy(64), 64), Judgement::Open(Next::Wait(At(65000)))));
    assert!(matches!(seen(healthy(67), 67), Observation::Pass(_)));
    // One that doesn't count may be stuck on a lock of its own: nobody saw it work.
    let mut mute = healthy(67);
    mute.counts.clear();
    is_invalid(seen(mute.clone(), 67), Fault::Reproducer, "neither counts operations nor ended");
    assert!(matches!(seen(done(mute, 45, ReproducerEnd::Status(0)), 67), Observation::Pass(_)));
}

#[test]
fn a_filesystem_that_fails_is_no_hang() {
    // The probe comes back at once, with an error: the progress clock stands still, and nothing hangs.
    let mut evidence = silent(healthy(15), 140);
    evidence.beats.iter_mut().for_each(|(_, beat)| beat.probe_pending_ms = 0);
    is_invalid(seen(evidence.clone(), 140), Fault::Guest, "refuses the agent's probe");
    line(&mut evidence, 16, "[ 12.0] Aborting journal on device md127-8.");
    let Observation::Crash { title, .. } = seen(evidence, 140) else { panic!() };
    assert_eq!(title, "Aborting journal on device md127-8.");
}

#[test]
fn a_pass_needs_the_trigger() {
    let mut evidence = done(healthy(47), 45, ReproducerEnd::Status(0));
    evidence.beats.iter_mut().for_each(|(_, beat)| beat.oom_kills = 9);
    is_invalid(seen(evidence.clone(), 47), Fault::Trigger, "9 memory-cgroup OOM kills, 10 are needed");
    // The reproducer's own count and the console's are as good as the agent's.
    evidence.counts.last_mut().unwrap().1.oom_kills = Some(10);
    assert!(matches!(seen(evidence.clone(), 47), Observation::Pass(_)));
    // The agent's own don't count.
    evidence.beats.iter_mut().for_each(|(_, beat)| beat.commits = Some(beat.probes + 5));
    is_invalid(seen(evidence, 47), Fault::Trigger, "0 journal commits");
}

#[test]
fn a_reproducer_that_ends_at_once_proves_nothing() {
    is_invalid(seen(done(healthy(7), 6, ReproducerEnd::Status(0)), 7), Fault::Reproducer, "ended after 1.0 s of 40 s");
    is_invalid(seen(done(healthy(7), 6, ReproducerEnd::Status(127)), 7), Fault::Reproducer, "can't be executed");
    is_invalid(seen(done(healthy(7), 6, ReproducerEnd::Status(3)), 7), Fault::Reproducer, "status 3");
    is_invalid(seen(done(healthy(7), 6, ReproducerEnd::Lost("eof".into())), 7), Fault::Guest, "eof");
}

#[test]
fn a_reproducer_that_stops_working_proves_nothing() {
    let mut evidence = done(healthy(47), 45, ReproducerEnd::Status(0));
    evidence.counts.truncate(30);
    is_invalid(seen(evidence.clone(), 47), Fault::Unresolved, "did nothing for its last 9 s");
    // One that never did anything, too.
    evidence.counts.iter_mut().for_each(|(_, count)| count.operations = 0);
    is_invalid(seen(evidence, 47), Fault::Unresolved, "did nothing for its last");
}

#[test]
fn a_standstill_that_ends_is_no_hang() {
    let mut evidence = silent(healthy(15), 39);
    for second in 40..=47 {
        beat(&mut evidence, second, second, 40);
        evidence.counts.push((At(second * 1000 + 100), Count { operations: second * 50, oom_kills: None }));
    }
    let Observation::Pass(pass) = seen(done(evidence, 45, ReproducerEnd::Status(0)), 47) else { panic!() };
    assert!(pass.standstill > Duration::from_secs(24), "{pass:?}");
}

#[test]
fn a_standstill_at_the_end_is_waited_for() {
    // From 20 s to 70 s nothing moves; the reproducer, whose time is over at 45 s, goes on until it is seen that it does again.
    let mut evidence = silent(healthy(20), 70);
    assert!(matches!(judged(&evidence, 70), Judgement::Open(_)));
    for second in 71..=74 {
        beat(&mut evidence, second, second, 40);
        evidence.counts.push((At(second * 1000 + 100), Count { operations: second * 50, oom_kills: None }));
    }
    assert!(matches!(judged(&evidence, 74), Judgement::Open(_)), "{:?}", judged(&evidence, 74));
    beat(&mut evidence, 75, 75, 40);
    let Observation::Pass(pass) = seen(done(evidence.clone(), 74, ReproducerEnd::Status(0)), 75) else { panic!() };
    assert!(pass.standstill >= Duration::from_secs(49), "{pass:?}");
    // One that never ends has shown enough after the usual grace.
    for second in 76..=92 {
        beat(&mut evidence, second, second, 40);
        evidence.counts.push((At(second * 1000 + 100), Count { operations: second * 50, oom_kills: None }));
        assert_eq!(matches!(judged(&evidence, second), Judgement::Closed(Observation::Pass(_))), second >= 92, "at {second} s");
    }
}

#[test]
fn silence_is_looked_at_and_counts_only_after_the_long_limit() {
    let evidence = silent(healthy(15), 160);
    assert!(matches!(judged(&silent(healthy(15), 22), 22), Judgement::Open(Next::Wait(At(23100)))));
    assert_eq!(judged(&silent(healthy(15), 24), 24), Judgement::Open(Next::Look));
    let cut = silent(healthy(15), 134);
    assert!(matches!(judged(&cut, 134), Judgement::Open(_)));
    let Observation::Hang(hang) = seen(evidence, 136) else { panic!() };
    assert!(matches!(hang.witness, Witness::Silence { reported: 0, .. }));
    assert_eq!(hang.last_progress, At(15100));
}

#[test]
fn a_closed_wait_in_two_looks_is_a_hang() {
    let mut evidence = silent(healthy(15), 30);
    evidence.looks.push((At(24_000), closed_look(&[70, 71])));
    assert!(matches!(judged(&evidence, 25), Judgement::Open(_)), "one look proves nothing");
    evidence.looks.push((At(25_000), closed_look(&[70, 71])));
    assert!(matches!(judged(&evidence, 26), Judgement::Open(_)), "two looks at the same moment prove nothing");
    evidence.looks.push((At(28_000), closed_look(&[71])));
    let Observation::Hang(Hang { witness: Witness::ClosedWait(wait), at, .. }) = seen(evidence.clone(), 29) else { panic!() };
    assert_eq!((wait.holders.len(), at), (1, At(28_000)));
    assert_eq!(wait.holders.first().unwrap().tid, 71);
}

#[test]
fn looks_between_two_count_too() {
    let rings = |between: Look| {
        let mut evidence = silent(healthy(15), 30);
        evidence.looks.push((At(24_000), closed_look(&[71])));
        evidence.looks.push((At(26_000), between));
        evidence.looks.push((At(28_000), closed_look(&[71])));
        judged(&evidence, 29)
    };
    assert!(matches!(rings(closed_look(&[71])), Judgement::Closed(Observation::Hang(_))));
    assert!(matches!(rings(closed_look(&[70])), Judgement::Open(_)), "it was somebody else in between");
    // Of several holders in the last look, none was in all of them.
    let mut evidence = silent(healthy(15), 30);
    evidence.looks.extend([24_000, 26_000, 28_000].map(At).into_iter().zip([&[71][..], &[72], &[71, 72]].map(closed_look)));
    assert!(matches!(judged(&evidence, 29), Judgement::Open(_)));
    assert!(matches!(rings(Look::default()), Judgement::Open(_)), "there was nothing in between");
}

#[test]
fn a_wait_that_changes_hands_is_no_hang() {
    let mut evidence = silent(healthy(15), 30);
    evidence.looks.push((At(24_000), closed_look(&[70])));
    evidence.looks.push((At(28_000), closed_look(&[71])));
    assert!(matches!(judged(&evidence, 29), Judgement::Open(_)));
}

#[test]
fn looks_before_the_last_progress_do_not_count() {
    let mut evidence = healthy(29);
    evidence.looks.push((At(20_000), closed_look(&[70])));
    evidence.looks.push((At(28_000), closed_look(&[70])));
    let evidence = silent(evidence, 40);
    assert_eq!(judged(&evidence, 40), Judgement::Open(Next::Look));
}

#[test]
fn a_standstill_that_the_reproducers_end_ended_is_no_pass() {
    // 3.10.0-1160.el7: the reproducer killed its processes after its time, whose memory was what the others waited for.
    let mut evidence = done(silent(healthy(20), 50), 50, ReproducerEnd::Status(0));
    for second in 51..=53 {
        beat(&mut evidence, second, second, 40);
    }
    is_invalid(seen(evidence, 53), Fault::Unresolved, "stood still for the reproducer's last");
    // What stands still after the load was over, and goes on, says nothing against it: what made it may take long to die.
    let mut evidence = done(silent(healthy(46), 60), 60, ReproducerEnd::Status(0));
    (61..=63).for_each(|second| beat(&mut evidence, second, second, 90));
    is_invalid(seen(evidence.clone(), 63), Fault::Unresolved, "stood still for the reproducer's last 13.9 s");
    evidence.load_ended = Some(At(46_500));
    assert!(matches!(seen(evidence.clone(), 63), Observation::Pass(_)));
    evidence.load_ended = Some(At(40_000));
    is_invalid(seen(evidence, 63), Fault::Reproducer, "ended after 35.0 s of 40 s");
}

#[test]
fn whoever_sleeps_in_reclaim_holds_nothing_up() {
    let mut look = closed_look(&[70]);
    look.running[0].stack = format!("[<0>] reclaim_throttle+0x1/0x2\n{}", look.running[0].stack);
    assert_eq!(certain(&look), None);
    let mut now_and_then = closed_look(&[70]);
    now_and_then.running[0].awake = 6;
    assert_eq!(certain(&now_and_then), None);
    let mut dozes = closed_look(&[70]);
    dozes.running[0].slept = u64::from(dozes.running[0].samples) / 4;
    assert_eq!(certain(&dozes), None);
    // 3.10's reclaim takes a mutex now and then.
    let mut contends = closed_look(&[70]);
    contends.running[0].slept = u64::from(contends.running[0].samples) / 7;
    assert!(certain(&contends).is_some());
    let mut nobody_dies = closed_look(&[70]);
    nobody_dies.dying.clear();
    assert_eq!(certain(&nobody_dies), None);
    let mut no_handle = closed_look(&[70]);
    no_handle.running[0].stack = "[<0>] __getblk_gfp+0x1/0x2\n[<0>] blkdev_read+0x1/0x2\n".into();
    assert_eq!(certain(&no_handle), None);
}

#[test]
fn a_killed_task_may_wait_for_a_buffer_that_the_holder_locked() {
    // 4 x 8 processes on Linux 6.1: all victims of the holder's cgroup asked for the block of inodes whose bitmap the holder asked for.
    let mut look = closed_look(&[71]);
    look.log = look.log.replace("jbd2_log_wait_commit+0x1/0x2", "__lock_buffer+0x1/0x2").replace("ext4_sync_file", "__ext4_get_inode_loc");
    let wait = certain(&look).unwrap();
    assert_eq!((wait.dying.first().unwrap().tid, wait.waiters), (70, 0));
    assert!(wait.title().ends_with("0 wait for the commit, 1 for a buffer that it may have locked"), "{}", wait.title());
    let ring = |look: &Look| hang::Signature::of([&hang::Stuck::of(look, &tasks::parse(&look.log))], "").ring;
    assert!(ring(&look));
    // Somebody else has the buffer.
    let mut other = look.clone();
    other.log = other.log.replace("__ext4_get_inode_loc", "ext4_read_block_bitmap_nowait");
    assert_eq!(certain(&other), None);
    look.running[0].stack = look.running[0].stack.replace("__ext4_get_inode_loc", "ext4_getblk");
    assert_eq!(certain(&look), None);
    assert!(!ring(&look));
}

/// A look whose holder sleeps in reclaim below a charge, and the flags of its tries before and during the look.
fn sleeping_look(before: &[&str], during: &[&str]) -> Look {
    let mut look = closed_look(&[]);
    look.log.push_str(
        "[ 20.0] task:ext4-oom        state:D stack:0 pid:71 ppid:1 flags:0x4000\n[ 20.0]  reclaim_throttle+0x1/0x2\n\
         [ 20.0]  try_to_free_mem_cgroup_pages+0x1/0x2\n[ 20.0]  try_charge_memcg+0x1/0x2\n[ 20.0]  __getblk_gfp+0x1/0x2\n[ 20.0]  __ext4_get_inode_loc+0x1/0x2\n",
    );
    look.all_reclaims = true;
    let reclaim = |flags: &&str, before, during| Reclaim { tid: 71, flags: (*flags).to_owned(), before, during };
    look.reclaims.extend(before.iter().map(|flags| reclaim(flags, 2, 0)));
    look.reclaims.extend(during.iter().map(|flags| reclaim(flags, 0, 1)));
    look
}

#[test]
fn a_holder_that_sleeps_is_one_if_the_kernel_says_that_its_charge_may_fail() {
    const LOST: &str = "GFP_NOFS|__GFP_ACCOUNT";
    const KEPT: &str = "GFP_NOFS|__GFP_NOFAIL|__GFP_ACCOUNT";
    const KEPT_ON_3_10: &str = "GFP_NOFS|GFP_NOFAIL";
    let lasting = |first: &[&str], before: &[&str], during: &[&str]| {
        let mut evidence = silent(healthy(15), 30);
        evidence.looks.push((At(24_000), sleeping_look(first, &[])));
        evidence.looks.push((At(28_000), sleeping_look(before, during)));
        match judged(&evidence, 29) {
            Judgement::Closed(Observation::Hang(Hang { witness: Witness::ClosedWait(wait), .. })) => Some(wait),
            Judgement::Open(_) => None,
            other => panic!("{other:?}"),
        }
    };
    let wait = lasting(&[], &[LOST], &[]).unwrap();
    assert_eq!(wait.flags.iter().collect::<Vec<_>>(), [LOST]);
    assert!(wait.title().contains("charge (GFP_NOFS|__GFP_ACCOUNT, without __GFP_NOFAIL) with a handle open"), "{}", wait.title());
    assert!(lasting(&[KEPT], &[LOST], &[LOST]).is_some());
    // What was said before the first look may be of another charge: the later one's word counts.
    for (before, during) in [(&[][..], &[][..]), (&[KEPT], &[]), (&[KEPT_ON_3_10], &[]), (&[LOST, KEPT], &[]), (&[LOST], &[KEPT])] {
        assert_eq!(lasting(&[LOST], before, during), None, "{before:?} {during:?}");
    }
    // A long try that ended after the stacks were taken, and an ordinary one after it.
    assert_eq!(lasting(&[LOST], &[], &[LOST]), None);
    // Nor is it certain if some tries are missing, the one that the holder is in among them.
    let mut flooded = sleeping_look(&[LOST], &[]);
    assert!(certain(&flooded).is_some());
    flooded.all_reclaims = false;
    assert_eq!(certain(&flooded), None);
    // One that spins is none either if its charge will be forced.
    let mut spins = closed_look(&[71]);
    assert!(certain(&spins).is_some());
    spins.reclaims = vec![Reclaim { tid: 71, flags: KEPT.to_owned(), before: 1, during: 0 }];
    assert_eq!(certain(&spins), None);
}

#[test]
fn silence_takes_longer_while_the_charges_that_are_waited_for_are_forced() {
    const LOST: &str = "GFP_NOFS|__GFP_ACCOUNT";
    const KEPT: &str = "GFP_NOFS|__GFP_NOFAIL|__GFP_ACCOUNT";
    let after = |looks: &[&Look]| {
        let mut evidence = silent(healthy(15), 140);
        evidence.looks.extend(looks.iter().zip(1..).map(|(look, number)| (At(100_000 + 10_000 * number), (*look).clone())));
        match judged(&evidence, 140) {
            Judgement::Closed(Observation::Hang(_)) => "hang",
            Judgement::Open(_) => "open",
            other => panic!("{other:?}"),
        }
    };
    let (kept, untold) = (sleeping_look(&[KEPT], &[]), sleeping_look(&[], &[]));
    assert_eq!(after(&[&kept]), "open");
    // One look tells nothing when its charge made no try meanwhile; three don't tell nothing by chance.
    assert_eq!(after(&[&kept, &untold, &untold]), "open");
    assert_eq!(after(&[&kept, &untold, &untold, &untold]), "hang");
    assert_eq!(after(&[&kept, &sleeping_look(&[LOST], &[])]), "hang");
    // Who dies makes no difference, and nor does it that others' tries were lost.
    let mut nobody_dies = kept.clone();
    nobody_dies.dying.clear();
    assert_eq!(after(&[&nobody_dies]), "open");
    let mut lost_some = kept.clone();
    lost_some.all_reclaims = false;
    assert_eq!(after(&[&lost_some]), "open");
    // A second holder, unknown and then known.
    let mut two = kept.clone();
    two.log
        .push_str(&kept.log[kept.log.find("[ 20.0] task:ext4-oom        state:D stack:0 pid:71").unwrap()..].replace("pid:71", "pid:72"));
    assert_eq!(after(&[&two]), "hang");
    assert_eq!(after(&[&kept, &two]), "open");
    let other = |flags: &str| {
        let mut two = two.clone();
        two.reclaims.push(Reclaim { tid: 72, flags: flags.to_owned(), before: 1, during: 0 });
        after(&[&kept, &two])
    };
    assert_eq!((other(KEPT), other(LOST)), ("open", "hang"));
    // An agent that is starved for a moment has as long as the filesystem.
    let mut starved = silent(healthy(15), 140);
    starved.looks.push((At(130_000), kept));
    starved.qmp.push((At(151_000), QmpFact::Status("running".into())));
    assert!(matches!(judged(&starved, 152), Judgement::Open(_)), "{:?}", judged(&starved, 152));
}

#[test]
fn a_holder_that_spins_in_a_forced_try_is_none() {
    let mut noted = closed_look(&[71]);
    noted.all_reclaims = true;
    noted.reclaims.push(Reclaim { tid: 71, flags: "GFP_NOFS|__GFP_NOFAIL".to_owned(), before: 1, during: 0 });
    let untold = closed_look(&[71]);
    let ring = |look: &Look| Ring::find(look).unwrap();
    assert!(ring(&untold).lasts(&ring(&untold)).is_some());
    assert_eq!(ring(&noted).lasts(&ring(&untold)), None);
    // It would try again many times in a second if it weren't in a long try, of which nobody knows whether it is forced.
    noted.reclaims.clear();
    assert_eq!(ring(&noted).lasts(&ring(&noted)), None);
    noted.reclaims.push(Reclaim { tid: 71, flags: "GFP_NOFS".to_owned(), before: 0, during: 30 });
    assert!(ring(&noted).lasts(&ring(&noted)).is_some());
}

#[test]
fn what_the_kernel_says_in_a_pass_is_named_and_damage_is_none() {
    let with = |text: &str| {
        let mut evidence = done(healthy(47), 45, ReproducerEnd::Status(0));
        line(&mut evidence, 20, text);
        seen(evidence, 47)
    };
    for text in [
        "EXT4-fs error (device md127): ext4_find_entry:1465: inode #2: comm ext4-oom: reading directory lblock 0",
        "JBD2: Detected aborted journal",
        "BUG: KASAN: use-after-free in jbd2_journal_commit_transaction+0x12/0x34",
        "BUG: Bad page state in process ext4-oom  pfn:12345",
    ] {
        let Observation::Crash { title, at } = with(text) else { panic!("{text}: {:?}", with(text)) };
        assert!(text.starts_with(&title) && at == At(20_000), "{title}");
    }
    for text in [
        "watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [ext4-oom:345]",
        "INFO: task ext4-oom:345 blocked for more than 20 seconds.",
        "WARNING: CPU: 1 PID: 345 at fs/jbd2/transaction.c:1066 do_get_write_access+0x12/0x34",
    ] {
        let seen = with(text);
        let named = seen.detail().split_once("; the kernel said: ").is_some_and(|(_, said)| text.starts_with(said));
        assert!(matches!(seen, Observation::Pass(_)) && named, "{}", seen.detail());
    }
}

#[test]
fn whom_a_holder_shuts_out_stands_only_with_that_holder() {
    let shut_out = |holders: &[u32]| {
        let mut look = closed_look(holders);
        look.log =
            look.log.replace("jbd2_log_wait_commit+0x1/0x2", "__lock_buffer+0x1/0x2").replace("ext4_sync_file", "__ext4_get_inode_loc");
        look.running[0].stack = look.running[0].stack.replace("__ext4_get_inode_loc", "ext4_getblk");
        Ring::find(&look).unwrap()
    };
    // 71 locks nothing; 72 and 73 do, one after the other.
    assert!(shut_out(&[71, 72]).lasts(&shut_out(&[71, 72])).is_some());
    assert_eq!(shut_out(&[71, 73]).lasts(&shut_out(&[71, 72])), None);
}

#[test]
fn a_silent_agent_needs_qemus_word() {
    let mut evidence = healthy(15);
    assert_eq!(judged(&evidence, 30), Judgement::Open(Next::AskStatus));
    evidence.qmp.push((At(31_000), QmpFact::Status("paused".into())));
    is_invalid(seen(evidence.clone(), 31), Fault::Host, "paused");
    evidence.qmp[0].1 = QmpFact::Silent;
    is_invalid(seen(evidence.clone(), 31), Fault::Qemu, "neither the agent nor QEMU");
    evidence.qmp[0].1 = QmpFact::Status("running".into());
    assert!(matches!(judged(&evidence, 100), Judgement::Open(_)));
    // Its word of 109 s ago is none, and it may have been stopped since. One of a moment ago may be of a VM that was stopped and goes on.
    assert_eq!(judged(&evidence, 140), Judgement::Open(Next::AskStatus));
    let mut just = evidence.clone();
    just.qmp.push((At(139_000), QmpFact::Status("running".into())));
    assert_eq!(judged(&just, 140), Judgement::Open(Next::Wait(At(144_000))));
    let mut stopped = evidence.clone();
    stopped.qmp.push((At(40_000), QmpFact::Stop));
    is_invalid(seen(stopped.clone(), 140), Fault::Host, "was stopped");
    stopped.qmp.extend([(At(90_000), QmpFact::Resume), (At(134_000), QmpFact::Status("running".into()))]);
    assert!(matches!(seen(stopped, 140), Observation::Hang(_)));
    evidence.qmp.push((At(134_000), QmpFact::Status("running".into())));
    line(&mut evidence, 50, "[ 40.0] watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [ext4-oom:345]");
    let Observation::Hang(Hang { witness: Witness::Guest { title }, .. }) = seen(evidence.clone(), 140) else { panic!() };
    assert!(title.unwrap().contains("soft lockup"));
    // Its CPUs spin, or sleep, or wait for the host's: 2 of them for 103 s.
    let mut with = |ran: u64, waited: u64| {
        let cpus = |at, ran, waited| (At(at), QmpFact::Cpus(CpuTime { cpus: 2, ran, waited }));
        evidence.qmp.retain(|(_, fact)| !matches!(fact, QmpFact::Cpus(_)));
        evidence.qmp.extend([cpus(31_000, 20_000, 5_000), cpus(134_000, 20_000 + ran, 5_000 + waited)]);
        seen(evidence.clone(), 140)
    };
    assert!(matches!(with(216_000, 0), Observation::Hang(_)));
    assert!(matches!(with(300, 20), Observation::Hang(_)));
    assert!(matches!(with(103_000, 103_000), Observation::Hang(_)));
    is_invalid(with(40_000, 166_000), Fault::Host, "the guest's CPUs waited for the host's for 83 s of 103 s: free the host's CPUs");
    // One word of the host is no difference.
    evidence.qmp.retain(|(at, fact)| *at > At(100_000) || !matches!(fact, QmpFact::Cpus(_)));
    assert_eq!(judged(&evidence, 140), Judgement::Open(Next::AskStatus));
}

#[test]
fn the_first_event_is_the_cause() {
    let mut evidence = healthy(15);
    line(&mut evidence, 10, "[ 5.0] BUG: kernel NULL pointer dereference, address: 0000000000000010");
    line(&mut evidence, 11, "[ 5.1] Kernel panic - not syncing: Fatal exception");
    assert!(matches!(judged(&evidence, 11), Judgement::Open(Next::Wait(At(12_000)))), "the rest of the report is waited for");
    evidence.end = Some((At(11_500), VmEnd::Exited { status: Some(0), signal: None, stderr: String::new() }));
    let Observation::Crash { title, .. } = seen(evidence, 12) else { panic!() };
    assert!(title.starts_with("BUG: kernel NULL pointer"));
}

#[test]
fn a_panic_over_a_hang_is_a_hang() {
    let mut evidence = healthy(15);
    line(&mut evidence, 40, "[ 35.0] Kernel panic - not syncing: hung_task: blocked tasks");
    let Observation::Hang(Hang { witness: Witness::Panic { .. }, last_progress, .. }) = seen(evidence, 43) else { panic!() };
    assert_eq!(last_progress, At(15_100));
}

#[test]
fn a_kernel_that_does_not_boot_is_evidence() {
    let reset = |reason: &str| {
        let mut evidence = healthy(3);
        evidence.boot = crate::evidence::Boot::default();
        evidence.qmp.push((At(900), QmpFact::Shutdown(reason.into())));
        evidence.end = Some((At(1000), VmEnd::Exited { status: Some(0), signal: None, stderr: String::new() }));
        evidence
    };
    let reason = |evidence, at| match seen(evidence, at) {
        Observation::BootFailure { reason, .. } => reason,
        other => panic!("{other:?}"),
    };
    assert!(reason(reset("guest-reset"), 1).contains("guest-reset"));
    let mut panics = reset("guest-reset");
    line(&mut panics, 0, "[ 0.5] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)");
    assert!(reason(panics, 1).contains("VFS"));
    let mut stuck = healthy(3);
    (4..=60).for_each(|second| beat(&mut stuck, second, 0, 0));
    stuck.boot = crate::evidence::Boot { hello: Some(At(3000)), step: Some((At(3100), Step::Array)), ..Default::default() };
    assert!(matches!(judged(&stuck, 59), Judgement::Open(Next::Wait(At(60_000)))));
    assert!(reason(stuck.clone(), 60).contains("Array"));
    // While it runs, QEMU is asked whether the CPUs do.
    assert_eq!(judged(&stuck, 60), Judgement::Open(Next::AskStatus));
    let asked = Asked { status: Some(At(60_000)), ..Asked::default() };
    assert!(matches!(judge(&stuck, &Digest::of(&stuck), asked, At(61_000)), Judgement::Open(Next::Wait(At(70_000)))));
    stuck.qmp.push((At(60_500), QmpFact::Status("running".into())));
    assert!(matches!(judged(&stuck, 61), Judgement::Closed(Observation::BootFailure { .. })));
    stuck.qmp[0].1 = QmpFact::Status("paused".into());
    is_invalid(seen(stuck.clone(), 61), Fault::Host, "paused");
    stuck.qmp.clear();
    // Few heartbeats: the host was busy with something else.
    let mut starved = stuck.clone();
    beat(&mut starved, 20, 0, 0);
    starved.beats.last_mut().unwrap().1.seq = starved.beats[0].1.seq + 40;
    is_invalid(seen(starved, 60), Fault::Host, "the guest lived for 20 s of 57 s of its boot: free the host's CPUs");
    stuck.boot.failed = Some((At(4000), Step::Root, "no such device".into()));
    assert!(reason(stuck, 5).contains("no such device"));
}

#[test]
fn qemus_death_is_ours() {
    let mut evidence = healthy(15);
    evidence.end = Some((At(15_000), VmEnd::Exited { status: None, signal: Some(9), stderr: String::new() }));
    is_invalid(seen(evidence.clone(), 15), Fault::Qemu, "signal 9");
    evidence.end = Some((At(15_000), VmEnd::Exited { status: Some(1), signal: None, stderr: "qemu: no".into() }));
    is_invalid(seen(evidence, 15), Fault::Qemu, "qemu: no");
    let mut evidence = healthy(15);
    evidence.qmp.push((At(14_000), QmpFact::BlockIoError("No space left on device".into())));
    is_invalid(seen(evidence, 15), Fault::Host, "No space left");
    let mut evidence = healthy(15);
    evidence.end = Some((At(15_000), VmEnd::Interrupted));
    is_invalid(seen(evidence, 15), Fault::User, "interrupted");
    let mut evidence = healthy(3);
    evidence.trouble.push((At(0), Trouble::QemuStart("no QEMU".into())));
    is_invalid(seen(evidence, 3), Fault::Qemu, "no QEMU");
}

#[test]
fn an_early_end_is_no_result() {
    is_invalid(seen(healthy(15), 16), Fault::Host, "before anything was certain");
}

#[test]
fn a_mitigation_that_ends_spoils_its_trial() {
    let mut evidence = done(healthy(47), 45, ReproducerEnd::Status(0));
    let with = |end| Some(Beside { started: At(4800), output: vec!["no memory".to_owned()], end });
    evidence.mitigation = with(None);
    assert!(matches!(seen(evidence.clone(), 47), Observation::Pass(_)));
    // Nobody knows whether it has ended: no proof that it has, and none that it ran.
    evidence.mitigation = with(Some((At(9800), ReproducerEnd::Lost("eof".to_owned()))));
    is_invalid(seen(evidence.clone(), 47), Fault::Mitigation, "nobody knows whether it ran to the end: eof");
    evidence.mitigation = with(Some((At(9800), ReproducerEnd::Status(13))));
    is_invalid(seen(evidence.clone(), 47), Fault::Mitigation, "it ended by itself after 5.0 s with status 13: no memory");
    // A crash that came before is the kernel's.
    line(&mut evidence, 9, "Kernel panic - not syncing: test");
    assert!(matches!(seen(evidence, 47), Observation::Crash { .. }));
}

/// Everything that was seen at some second up to the end judges the trial open.
#[track_caller]
fn is_open_throughout(evidence: &Evidence, seconds: std::ops::Range<u64>) {
    for second in seconds {
        let mut cut = evidence.clone();
        cut.beats.retain(|(at, _)| *at <= At(second * 1000));
        cut.counts.retain(|(at, _)| *at <= At(second * 1000));
        cut.qmp.retain(|(at, _)| *at <= At(second * 1000));
        cut.reproducer = None;
        let judgement = judged(&cut, second);
        assert!(matches!(judgement, Judgement::Open(_)), "at {second} s: {judgement:?}");
    }
}

#[test]
fn a_vm_that_is_stopped_for_long_and_goes_on_is_no_hang() {
    // Its clock may have stopped with it or jump at its end, and a probe was under way: nothing of that is the filesystem's fault.
    let mut evidence = healthy(15);
    evidence.qmp.push((At(26_000), QmpFact::Status("running".into())));
    evidence
        .beats
        .push((At(170_000), Beat { seq: 31, uptime_ms: 169_000, probes: 15, probe_pending_ms: 154_000, oom_kills: 24, commits: Some(45) }));
    is_open_throughout(&evidence, 15..170);
    assert!(matches!(judged(&evidence, 170), Judgement::Open(_)));
    for second in 171..=180 {
        beat(&mut evidence, second, second, 40);
        evidence.counts.push((At(second * 1000 + 100), Count { operations: second * 50, oom_kills: None }));
    }
    assert!(matches!(seen(done(evidence, 179, ReproducerEnd::Status(0)), 180), Observation::Pass(_)));
}

#[test]
fn a_guest_that_hardly_lives_is_no_hang_and_is_given_up_at_last() {
    // One heartbeat in four seconds: the host is busy with something else.
    let mut evidence = healthy(15);
    let last = evidence.beats.last().unwrap().1;
    for step in 1..=90u64 {
        let beat = Beat { seq: last.seq + step, probe_pending_ms: step * 4000, ..last };
        evidence.beats.push((At(15_000 + step * 4000), beat));
    }
    is_open_throughout(&evidence, 15..375);
    is_invalid(seen(evidence, 376), Fault::Host, "the guest lived for 44 s of 360 s without progress: free the host's CPUs");
}

#[test]
fn heartbeats_without_news_are_not_kept_and_count_all_the_same() {
    // As the trial thins them: the reproducer's count came last, and of all heartbeats since then only the newest is there.
    let mut evidence = healthy(15);
    evidence.counts.push((At(15_400), Count { operations: 751, oom_kills: None }));
    let last = evidence.beats.last().unwrap().1;
    for second in (16..=136).step_by(10) {
        evidence.beats.retain(|(at, _)| *at <= At(15_000));
        let beat = Beat { seq: last.seq + (second - 15) * 2, uptime_ms: second * 1000, probe_pending_ms: (second - 15) * 1000, ..last };
        evidence.beats.push((At(second * 1000), beat));
        let judgement = judged(&evidence, second);
        assert_eq!(matches!(judgement, Judgement::Closed(Observation::Hang(_))), second == 136, "at {second} s: {judgement:?}");
    }
}
