//! Judges a trial's evidence: pass, hang, crash, boot failure, or invalid.
//!
//! Pure: no file, no clock, no randomness. The same function says, while the VM runs, what to do next, and, afterwards, what the trial showed; so
//! `rescore` reproduces every observation. The rules, from design.md: a hang is a result; it needs silence of the progress clock while the VM is
//! proven alive, and a second witness; silence alone counts only after a long limit. The first event is the cause. A pass needs the full duration,
//! progress to the end, and proof that the trigger fired. Our own trouble is invalid, never a result.
//!
//! Read [`Observation`] first, then [`judge`].

mod digest;
pub mod hang;
pub mod signature;
pub mod tasks;
pub mod wait;

use std::fmt;
use std::time::Duration;

use hangproof_wire::{BEAT_INTERVAL_MS, Step};
use serde::{Deserialize, Serialize};

pub use self::digest::{Digest, Fatal};
use self::hang::{Likeness, Signature, Stuck, likeness};
use self::signature::Kind;
use self::wait::ClosedWait;
use crate::evidence::{At, Beside, CpuTime, Evidence, QmpFact, ReproducerEnd, Trouble, VmEnd};
use crate::text::plain;

/// What one trial showed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "observation", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Observation {
    /// The trigger fired and the filesystem went on to the end.
    Pass(Pass),
    /// The filesystem stood still for good.
    Hang(Hang),
    /// The kernel crashed.
    Crash {
        /// The first event's line.
        title: String,
        /// When.
        at: At,
    },
    /// The kernel didn't get to the point where the reproducer starts.
    BootFailure {
        /// What is known.
        reason: String,
        /// When it was certain.
        at: At,
    },
    /// The trial shows nothing about the kernel.
    Invalid {
        /// Whose fault.
        fault: Fault,
        /// Why.
        reason: String,
    },
}

/// What a pass rests on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Pass {
    /// Operations that the reproducer counted.
    pub operations: Option<u64>,
    /// Memory-cgroup OOM kills.
    pub oom_kills: u64,
    /// Journal commits, on kernels that count them.
    pub commits: Option<u64>,
    /// Longest time without progress.
    pub standstill: Duration,
    /// What the kernel said meanwhile and what is no hang and no crash: of each kind (stuck CPU, blocked task, warning) the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub said: Vec<String>,
}

/// What a hang rests on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Hang {
    /// When the progress clock moved last.
    pub last_progress: At,
    /// When the hang was certain.
    pub at: At,
    /// What else shows it.
    pub witness: Witness,
    /// Memory-cgroup OOM kills until then.
    pub oom_kills: u64,
    /// Operations that the reproducer counted until then.
    pub operations: Option<u64>,
    /// Which hang it is.
    pub signature: Signature,
    /// Whether it is the one that the pipeline describes, if it describes one.
    pub likeness: Option<Likeness>,
}

/// The second witness of a hang, besides the progress clock's silence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Witness {
    /// The same closed wait in two looks.
    ClosedWait(ClosedWait),
    /// The long limit, while the agent answered.
    Silence {
        /// Blocked tasks that the kernel itself reported.
        reported: u64,
        /// First of these reports.
        title: Option<String>,
    },
    /// The agent fell silent too, while QEMU says that the vCPUs run.
    Guest {
        /// The kernel's report of a stuck CPU, if it made one.
        title: Option<String>,
    },
    /// The kernel panicked because of a hang that it had seen itself.
    Panic {
        /// The panic's line.
        title: String,
    },
}

/// Whose fault an invalid trial is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The host's: disk full, no memory, a stopped VM.
    Host,
    /// QEMU's: killed, silent.
    Qemu,
    /// Our agent's or ssh's.
    Guest,
    /// The reproducer's: missing, failed, ended early.
    Reproducer,
    /// The mitigation's: it ended before the trial.
    Mitigation,
    /// The trigger didn't fire: nothing was tested.
    Trigger,
    /// It stood still and was not seen to the end of that, so it may have been a hang: nobody's that we know.
    Unresolved,
    /// The user interrupted the run.
    User,
}

impl Fault {
    /// Whether the same trial may go better once more: true for trouble of our own making.
    #[must_use]
    pub fn worth_a_retry(self) -> bool {
        match self {
            Self::Host | Self::Qemu | Self::Guest => true,
            // Trying again until it passes would select.
            Self::Reproducer | Self::Mitigation | Self::Trigger | Self::Unresolved | Self::User => false,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Host => "host",
            Self::Qemu => "qemu",
            Self::Guest => "guest tools",
            Self::Reproducer => "reproducer",
            Self::Mitigation => "mitigation",
            Self::Trigger => "trigger",
            Self::Unresolved => "unresolved",
            Self::User => "interrupted",
        })
    }
}

/// What is to be done about a trial.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and a box would be every reader's trouble")]
pub enum Judgement {
    /// Nothing is certain yet.
    Open(Next),
    /// The trial showed this.
    Closed(Observation),
}

/// What a trial does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing, until this moment or the next signal.
    Wait(At),
    /// Look at the tasks.
    Look,
    /// Ask QEMU whether the vCPUs run.
    AskStatus,
}

/// What the trial has asked for already.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked {
    /// When it last asked for a look.
    pub look: Option<At>,
    /// When it last asked QEMU.
    pub status: Option<At>,
}

/// After a fatal line, so much is waited for the rest of its report.
const SETTLE: Duration = Duration::from_secs(2);

/// An agent that sent no heartbeat for so long (scaled) is silent: ten beats.
const BEATS_MISSED: Duration = Duration::from_secs(5);

/// Looks that are taken at the shortest interval; later ones at [`SLOW_LOOK`]. A wait that closes later is still found.
const QUICK_LOOKS: usize = 6;

/// Interval of later looks.
const SLOW_LOOK: Duration = Duration::from_secs(15);

/// The long limit counts only if the guest lived through this share of it. In `tests/evidence/hang-4x8`, under TCG with 32 processes on 2 CPUs, the agent
/// made all of its heartbeats; a guest that is stopped makes none, and not one for each that it missed when it goes on.
const LIVED: f64 = 0.5;

/// A silent guest whose vCPUs waited for the host's CPUs for more than this share of the time had no chance to speak. Two that spin on a host of one CPU wait
/// for half of it, and it speaks then.
const STARVED: f64 = 0.75;

/// What to do about a guest that lived too slowly.
const FREE_CPUS: &str = "free the host's CPUs, or run fewer VMs at once";

/// A guest that lives too slowly for a judgement is given up after so many times the long limit. That long is silence no hang either while the kernel says of
/// the charges that are waited for that they are forced in the end: on a host of 2 CPUs with 6 busy threads two healthy kernels did nothing else for
/// 120 s (`tests/evidence/forced-4x8`).
const GIVE_UP: u32 = 3;

/// After its duration a reproducer gets so much (scaled) to end by itself; one that never ends has then run its full time.
const GRACE: Duration = Duration::from_secs(10);

/// A reproducer may measure its duration a little differently from us.
const EARLY: Duration = Duration::from_secs(2);

/// Judges a trial at the moment `now`: while it runs, or (with `now` at its end) afterwards.
#[must_use]
pub fn judge(evidence: &Evidence, digest: &Digest, asked: Asked, now: At) -> Judgement {
    if let Some(judgement) = broken(evidence, digest, now) {
        return judgement;
    }
    let Some(started) = evidence.boot.started else { return booting(evidence, digest, asked, now) };
    running(evidence, digest, asked, started, now)
}

/// Judges a trial that is over.
#[must_use]
pub fn observe(evidence: &Evidence) -> Observation {
    let digest = Digest::of(evidence);
    let end = evidence.end.as_ref().map_or_else(At::default, |(at, _)| *at);
    match judge(evidence, &digest, Asked::default(), end) {
        Judgement::Closed(observation) => observation,
        Judgement::Open(_) => invalid(Fault::Host, "the trial ended before anything was certain"),
    }
}

fn invalid(fault: Fault, reason: impl Into<String>) -> Observation {
    Observation::Invalid { fault, reason: reason.into() }
}

fn closed(observation: Observation) -> Judgement {
    Judgement::Closed(observation)
}

fn scaled(evidence: &Evidence, time: Duration) -> Duration {
    time.mul_f64(evidence.rules.scale)
}

/// What ended the trial at once: the first of the kernel's fatal line, our trouble, QEMU's end.
fn broken(evidence: &Evidence, digest: &Digest, now: At) -> Option<Judgement> {
    let ready = evidence.boot.ready;
    let booted = |at: At| ready.is_some_and(|ready| ready <= at);
    let fatal = digest.fatal.as_ref().map(|fatal| (fatal.at, fatal_line(evidence, digest, fatal, booted(fatal.at))));
    let trouble = evidence.trouble.iter().find_map(|(at, trouble)| Some((*at, trouble_of(trouble)?)));
    let disk = evidence.qmp.iter().find_map(|(at, fact)| match fact {
        QmpFact::BlockIoError(error) => {
            Some((*at, invalid(Fault::Host, format!("the host could not write or read a disk: {error}: make room in the scratch folder"))))
        }
        _ => None,
    });
    let exited = evidence.end.as_ref().and_then(|(at, end)| Some((*at, exit_of(evidence, end, booted(*at))?)));
    let unmitigated = evidence.mitigation.as_ref().and_then(mitigation_of);
    let (at, observation) = [fatal, trouble, disk, exited, unmitigated].into_iter().flatten().min_by_key(|(at, _)| *at)?;
    let settled = evidence.end.is_some() || now >= at.after(SETTLE) || matches!(observation, Observation::Invalid { .. });
    Some(if settled { closed(observation) } else { Judgement::Open(Next::Wait(at.after(SETTLE))) })
}

fn fatal_line(evidence: &Evidence, digest: &Digest, fatal: &Fatal, booted: bool) -> Observation {
    let (title, at) = (fatal.title.clone(), fatal.at);
    match (booted, fatal.kind) {
        (false, _) => Observation::BootFailure { reason: title, at },
        (true, Kind::HangPanic) => Observation::Hang(hang(evidence, digest, progress(evidence, at).last, at, Witness::Panic { title })),
        (true, _) => Observation::Crash { title, at },
    }
}

fn trouble_of(trouble: &Trouble) -> Option<Observation> {
    match trouble {
        Trouble::QemuStart(error) => Some(invalid(Fault::Qemu, error.clone())),
        Trouble::Host(error) => Some(invalid(Fault::Host, error.clone())),
        Trouble::Agent(error) => Some(invalid(Fault::Guest, format!("the agent's message is not understood: {error}"))),
        Trouble::Ssh(error) => Some(invalid(Fault::Guest, format!("ssh: {error}"))),
        // A refused look is missing evidence, not the end.
        Trouble::Refused(_) => None,
    }
}

/// A mitigation that has ended mitigates nothing, so the trial would be one of another cell. A lost connection doesn't prove that it has.
fn mitigation_of(beside: &Beside) -> Option<(At, Observation)> {
    let (at, end) = beside.end.as_ref()?;
    match end {
        ReproducerEnd::Status(status) => {
            let seconds = at.since(beside.started).as_secs_f64();
            let last = beside.output.last().map_or_else(String::new, |line| format!(": {line}"));
            Some((*at, invalid(Fault::Mitigation, format!("it ended by itself after {seconds:.1} s with status {status}{last}"))))
        }
        ReproducerEnd::Lost(_) => None,
    }
}

fn exit_of(evidence: &Evidence, end: &VmEnd, booted: bool) -> Option<Observation> {
    let at = evidence.end.as_ref().map_or_else(At::default, |(at, _)| *at);
    let reason = evidence.qmp.iter().rev().find_map(|(_, fact)| match fact {
        QmpFact::Shutdown(reason) => Some(reason.as_str()),
        _ => None,
    });
    match end {
        VmEnd::Stopped => None,
        VmEnd::Interrupted => Some(invalid(Fault::User, "the run was interrupted")),
        VmEnd::Exited { signal: Some(signal), stderr, .. } => {
            Some(invalid(Fault::Qemu, format!("QEMU was killed by signal {signal}{}", said(stderr))))
        }
        VmEnd::Exited { status: Some(0), .. } if booted && reason == Some("guest-shutdown") => {
            Some(invalid(Fault::Reproducer, "the guest was powered off from inside"))
        }
        VmEnd::Exited { status: Some(0), .. } if reason.is_some_and(|reason| reason.starts_with("guest")) => {
            let what = format!("the guest ended by itself ({}) without a message", reason.unwrap_or_default());
            Some(if booted { Observation::Crash { title: what, at } } else { Observation::BootFailure { reason: what, at } })
        }
        VmEnd::Exited { status, stderr, .. } => {
            let status = status.map_or_else(|| "an unknown status".to_owned(), |status| format!("status {status}"));
            Some(invalid(Fault::Qemu, format!("QEMU ended with {status}{}", said(stderr))))
        }
    }
}

fn said(stderr: &str) -> String {
    stderr.lines().last().map_or_else(String::new, |line| format!(": {line}"))
}

/// Before the reproducer's start.
fn booting(evidence: &Evidence, digest: &Digest, asked: Asked, now: At) -> Judgement {
    let boot = &evidence.boot;
    if let Some((at, step, error)) = &boot.failed {
        let reason = format!("the agent's step {step:?} failed: {error}");
        return closed(match step {
            // What the kernel has to bring: modules that it loads, disks, md, ext4, sysctls, a network.
            Step::Modules | Step::Array | Step::Root | Step::Settings | Step::Network => Observation::BootFailure { reason, at: *at },
            // What we bring.
            Step::Start | Step::Payload | Step::Ssh => invalid(Fault::Guest, reason),
        });
    }
    let limit = evidence.rules.limits.boot;
    if now < At::default().after(limit) {
        return Judgement::Open(Next::Wait(At::default().after(limit)));
    }
    // Not the kernel's fault if it had no time. A trial that is over can't ask any more.
    let end = At::default().after(limit);
    let status = latest_status(evidence, end).map(|(_, status)| status);
    if let Some(observation) = status.and_then(stopped) {
        return closed(observation);
    }
    if status.is_none() && evidence.end.is_none() {
        let quiet = scaled(evidence, BEATS_MISSED);
        return Judgement::Open(match asked.status {
            Some(at) if at >= end && now < at.after(quiet) => Next::Wait(at.after(quiet)),
            _ => Next::AskStatus,
        });
    }
    if let (Some((since, _)), lived) = (evidence.beats.first(), lived(evidence, At::default()))
        && lived < now.since(*since).mul_f64(LIVED)
    {
        let (lived, booted) = (lived.as_secs(), now.since(*since).as_secs());
        return closed(invalid(Fault::Host, format!("the guest lived for {lived} s of {booted} s of its boot: {FREE_CPUS}")));
    }
    let seconds = limit.as_secs();
    if boot.ready.is_some() {
        return closed(invalid(Fault::Guest, format!("the reproducer was not started within {seconds} s")));
    }
    let last = digest.last_line.as_deref().unwrap_or("(the console is empty)");
    let reason = match boot.step {
        Some((_, step)) => format!("not ready within {seconds} s, in the agent's step {step:?}; last line: {last}"),
        None => format!("no sign of the agent within {seconds} s; last line: {last}"),
    };
    closed(Observation::BootFailure { reason, at: now })
}

/// The progress clock, read from beats and counts.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// When it moved last.
    pub last: At,
    /// When the reproducer's own count moved last, if it counts.
    pub last_operation: Option<At>,
    /// The longest time that it stood still.
    pub standstill: Duration,
}

/// Reads the progress clock up to `now`, from the reproducer's start on.
#[must_use]
pub fn progress(evidence: &Evidence, now: At) -> Progress {
    let started = evidence.boot.started.unwrap_or_default();
    let mut moments: Vec<At> = moved(evidence).filter(|at| *at >= started && *at <= now).collect();
    moments.extend([started.min(now)]);
    moments.sort_unstable();
    let last = moments.last().copied().unwrap_or(started);
    moments.push(now.max(last));
    let standstill = moments.windows(2).map(|pair| pair[1].since(pair[0])).max().unwrap_or_default();
    Progress { last, last_operation: operated(evidence).last(), standstill }
}

/// When the progress clock moved: first by the agent's probes, then by the reproducer's count.
fn moved(evidence: &Evidence) -> impl Iterator<Item = At> {
    let probed = evidence.beats.windows(2).filter(|pair| pair[1].1.probes > pair[0].1.probes).map(|pair| pair[1].0);
    probed.chain(operated(evidence))
}

/// When the reproducer's count rose.
fn operated(evidence: &Evidence) -> impl Iterator<Item = At> {
    let mut counted = 0;
    evidence.counts.iter().filter_map(move |(at, count)| {
        let rises = count.operations > counted;
        counted = counted.max(count.operations);
        rises.then_some(*at)
    })
}

fn oom_kills(evidence: &Evidence, digest: &Digest) -> u64 {
    let agent = evidence.beats.last().map_or(0, |(_, beat)| beat.oom_kills);
    let reproducer = evidence.counts.iter().rev().find_map(|(_, count)| count.oom_kills).unwrap_or(0);
    agent.max(reproducer).max(digest.oom_kills)
}

/// Journal commits since the reproducer's start, but for those that the agent's probes ask for: one each.
fn commits(evidence: &Evidence) -> Option<u64> {
    let started = evidence.boot.started?;
    let mut counted = evidence.beats.iter().filter_map(|(at, beat)| Some((*at, beat.commits?, beat.probes)));
    let (_, commits, probes) = counted.clone().rfind(|(at, ..)| *at <= started).or_else(|| counted.next())?;
    let last = evidence.beats.iter().rev().find_map(|(_, beat)| Some((beat.commits?, beat.probes)))?;
    Some(last.0.saturating_sub(commits).saturating_sub(last.1.saturating_sub(probes)))
}

fn hang(evidence: &Evidence, digest: &Digest, last_progress: At, at: At, witness: Witness) -> Hang {
    let operations = evidence.counts.last().map(|(_, count)| count.operations);
    let mut stuck: Vec<&Stuck> =
        digest.stuck.iter().filter(|(when, _)| *when > last_progress && *when <= at).map(|(_, stuck)| stuck).collect();
    let reported;
    if stuck.is_empty() {
        reported = Stuck::reported(&console_since(evidence, last_progress));
        stuck.push(&reported);
    }
    let signature = Signature::of(stuck.iter().copied(), &witness.to_string());
    let likeness = evidence.rules.hang.as_ref().map(|expected| likeness(expected, stuck.iter().copied()));
    Hang { last_progress, at, oom_kills: oom_kills(evidence, digest), operations, witness, signature, likeness }
}

/// The console from a moment on: all that is left of a guest that fell silent as a whole.
fn console_since(evidence: &Evidence, moment: At) -> String {
    evidence.console.iter().filter(|line| line.at > moment).map(|line| format!("{}\n", line.text)).collect()
}

/// From the reproducer's start on.
fn running(evidence: &Evidence, digest: &Digest, asked: Asked, started: At, now: At) -> Judgement {
    let limits = &evidence.rules.limits;
    let progress = progress(evidence, now);
    let silence = now.since(progress.last);
    let done = match &evidence.reproducer {
        Some((at, _)) => Some(*at),
        None => overdue(evidence, started, now),
    };
    if silence >= limits.stall {
        return silent(evidence, digest, asked, progress.last, now);
    }
    let next_silence = progress.last.after(limits.stall);
    let Some(done) = done else {
        let end = started.after(limits.duration + scaled(evidence, GRACE));
        return Judgement::Open(Next::Wait(next_silence.min(end)));
    };
    if !probed_after(evidence, done) {
        return Judgement::Open(Next::Wait(next_silence));
    }
    closed(finished(evidence, digest, started, done, &progress))
}

/// When a reproducer that hasn't ended has run its full time: [`GRACE`] after it, or, if nothing moved then, after things went on again.
fn overdue(evidence: &Evidence, started: At, now: At) -> Option<At> {
    let grace = scaled(evidence, GRACE);
    let mut end = started.after(evidence.rules.limits.duration + grace);
    while end <= now {
        let still = end.since(progress(evidence, end).last);
        if still < evidence.rules.limits.stall {
            return Some(end);
        }
        end = moved(evidence).filter(|moment| *moment > end).min()?.after(grace);
    }
    None
}

/// Whether the filesystem took a write after `moment`.
fn probed_after(evidence: &Evidence, moment: At) -> bool {
    let before = evidence.beats.iter().rfind(|(at, _)| *at <= moment).map_or(0, |(_, beat)| beat.probes);
    evidence.beats.last().is_some_and(|(at, beat)| *at > moment && beat.probes > before)
}

/// The progress clock is silent: look, ask, and wait for a second witness or the long limit.
fn silent(evidence: &Evidence, digest: &Digest, asked: Asked, last_progress: At, now: At) -> Judgement {
    let rules = &evidence.rules;
    let limit = last_progress.after(rules.limits.silence);
    let lived = lived(evidence, last_progress);
    let slow = lived < rules.limits.silence.mul_f64(LIVED);
    let hang = |at, witness| closed(Observation::Hang(hang(evidence, digest, last_progress, at, witness)));
    if let Some((at, wait)) = digest.lasting_wait(last_progress, rules.look_interval) {
        return hang(at, Witness::ClosedWait(wait));
    }
    let beat = evidence.beats.last().map_or_else(At::default, |(at, _)| *at);
    let quiet = scaled(evidence, BEATS_MISSED);
    if now.since(beat) <= quiet {
        let patient = slow || digest.waits_for_forced(last_progress);
        let limit = if patient { last_progress.after(rules.limits.silence * GIVE_UP) } else { limit };
        if now >= limit && slow {
            let (lived, silence) = (lived.as_secs(), now.since(last_progress).as_secs());
            let reason = format!("the guest lived for {lived} s of {silence} s without progress: {FREE_CPUS}");
            return closed(invalid(Fault::Host, reason));
        }
        if now >= limit {
            let title = digest.first_lockup.as_ref().or(digest.first_blocked.as_ref()).cloned();
            return if blocked_probe(evidence) {
                hang(now, Witness::Silence { reported: digest.blocked, title })
            } else {
                closed(refused(digest, now))
            };
        }
        let taken = digest.waits.iter().filter(|(at, _)| *at > last_progress).count();
        let interval = if taken < QUICK_LOOKS { rules.look_interval } else { rules.look_interval.max(SLOW_LOOK) };
        return match asked.look {
            Some(at) if at > last_progress && now < at.after(interval) => {
                Judgement::Open(Next::Wait(at.after(interval).min(limit).min(beat.after(quiet + Duration::from_millis(1)))))
            }
            _ => Judgement::Open(Next::Look),
        };
    }
    if let Some(observation) = latest_status(evidence, beat).and_then(|(_, status)| stopped(status)) {
        return closed(observation);
    }
    // As long as the filesystem may be silent, the agent may be.
    let sure = limit.max(beat.after(rules.limits.silence));
    // QEMU's word is good for as long as the agent may miss its beats, but not at once: a VM that was stopped answers before its guest does.
    // What the host gave its CPUs is a difference of two words.
    let words = cpu_times(evidence, beat).count();
    let word = latest_status(evidence, beat).map(|(at, _)| at).filter(|at| now.since(*at) <= quiet && words != 1);
    if let Some(at) = word.filter(|at| now >= sure && now.since(*at) < quiet / 2) {
        return Judgement::Open(Next::Wait(at.after(quiet / 2)));
    }
    if now >= sure && word.is_some() {
        return match starved(evidence, beat) {
            Some((waited, of)) => {
                let (waited, of) = (waited.as_secs(), of.as_secs());
                closed(invalid(Fault::Host, format!("the guest's CPUs waited for the host's for {waited} s of {of} s: {FREE_CPUS}")))
            }
            None => hang(now, Witness::Guest { title: digest.first_lockup.clone() }),
        };
    }
    match asked.status {
        Some(at) if at > beat && now < at.after(quiet) => Judgement::Open(Next::Wait(at.after(quiet))),
        _ => Judgement::Open(Next::AskStatus),
    }
}

/// What the host gave the vCPUs, each time it was asked since `moment`.
fn cpu_times(evidence: &Evidence, moment: At) -> impl DoubleEndedIterator<Item = (At, CpuTime)> {
    evidence.qmp.iter().filter(move |(at, _)| *at > moment).filter_map(|(at, fact)| match fact {
        QmpFact::Cpus(time) => Some((*at, *time)),
        _ => None,
    })
}

/// How long each vCPU on average waited for a CPU of the host since `moment`, and of how long a time, if it was too much of it. One that slept had nothing to
/// do: the guest's deadlock may be such that nobody spins.
fn starved(evidence: &Evidence, moment: At) -> Option<(Duration, Duration)> {
    let mut times = cpu_times(evidence, moment);
    let (since, first) = times.next()?;
    let (until, last) = times.next_back()?;
    let waited = Duration::from_millis(last.waited.saturating_sub(first.waited) / u64::from(last.cpus.max(1)));
    let of = until.since(since);
    (waited > of.mul_f64(STARVED)).then_some((waited, of))
}

/// How long the guest has lived since the last progress, by the heartbeats that its agent made: one that is stopped or starved makes none. Heartbeats that
/// brought no news aren't kept, so it is counted from the last one before the progress, less the time from there to it.
fn lived(evidence: &Evidence, last_progress: At) -> Duration {
    let before = evidence.beats.iter().rfind(|(at, _)| *at <= last_progress).or(evidence.beats.first());
    let (Some((since, first)), Some((_, last))) = (before, evidence.beats.last()) else { return Duration::ZERO };
    let beats = u32::try_from(last.seq.saturating_sub(first.seq)).unwrap_or(u32::MAX);
    Duration::from_millis(BEAT_INTERVAL_MS).saturating_mul(beats).saturating_sub(last_progress.since(*since))
}

/// Whether the agent's probe hangs in the filesystem. One that comes back with an error at once doesn't move the progress clock either.
fn blocked_probe(evidence: &Evidence) -> bool {
    let pending = evidence.beats.last().map_or(0, |(_, beat)| beat.probe_pending_ms);
    Duration::from_millis(pending) >= evidence.rules.limits.stall
}

/// The filesystem answers, with errors: it has shut itself down.
fn refused(digest: &Digest, at: At) -> Observation {
    match &digest.first_damage {
        Some((_, title)) => Observation::Crash { title: title.clone(), at },
        None => invalid(Fault::Guest, "the filesystem refuses the agent's probe, and the kernel doesn't say why"),
    }
}

/// What a VM shows that QEMU says doesn't run, or of which it says nothing.
fn stopped(fact: &QmpFact) -> Option<Observation> {
    match fact {
        QmpFact::Silent => Some(invalid(Fault::Qemu, "neither the agent nor QEMU answers")),
        QmpFact::Status(status) if status != "running" => Some(invalid(Fault::Host, format!("the VM does not run: QEMU says {status:?}"))),
        QmpFact::Stop => Some(invalid(Fault::Host, "the VM does not run: QEMU says that it was stopped")),
        _ => None,
    }
}

/// The last word on whether the vCPUs run, and when it came.
fn latest_status(evidence: &Evidence, after: At) -> Option<(At, &QmpFact)> {
    let mut facts = evidence.qmp.iter().rev().filter(|(at, _)| *at > after).map(|(at, fact)| (*at, fact));
    facts.find(|(_, fact)| matches!(fact, QmpFact::Status(_) | QmpFact::Silent | QmpFact::Stop | QmpFact::Resume))
}

/// How long a reproducer that counts did nothing before `done`, although the filesystem took writes all that time.
fn idle(evidence: &Evidence, progress: &Progress, started: At, done: At) -> Option<Duration> {
    if evidence.counts.is_empty() {
        return None;
    }
    let last = progress.last_operation.unwrap_or(started);
    let probed = evidence.beats.windows(2).filter(|pair| pair[1].1.probes > pair[0].1.probes).map(|pair| pair[1].0);
    let mut after = probed.filter(|at| *at > last && *at <= done);
    let first = after.next()?;
    Some(after.next_back()?.since(first))
}

/// The reproducer is done and the filesystem took a write after it.
fn finished(evidence: &Evidence, digest: &Digest, started: At, done: At, progress: &Progress) -> Observation {
    let rules = &evidence.rules;
    let duration = rules.limits.duration;
    // What ends when it was over may take its time to die.
    let load_ended = evidence.load_ended.map_or(done, |at| at.min(done));
    let ran = load_ended.since(started);
    let last_words = || evidence.output.last().map_or_else(String::new, |line| format!(": {line}"));
    match &evidence.reproducer {
        Some((_, ReproducerEnd::Lost(why))) => return invalid(Fault::Guest, format!("the reproducer's connection was lost: {why}")),
        Some((_, ReproducerEnd::Status(status @ (126 | 127)))) => {
            return invalid(Fault::Reproducer, format!("the reproducer can't be executed in the guest (status {status}){}", last_words()));
        }
        None if evidence.counts.is_empty() => {
            let what = "the reproducer neither counts operations nor ended";
            return invalid(Fault::Reproducer, format!("{what}: let it end after its time, or print `hangproof: t=.. ops=..` lines"));
        }
        Some((_, ReproducerEnd::Status(0))) | None => {}
        Some((_, ReproducerEnd::Status(status))) => {
            return invalid(Fault::Reproducer, format!("the reproducer failed with status {status}{}", last_words()));
        }
    }
    if ran + EARLY < duration {
        let (ran, wanted) = (ran.as_secs_f64(), duration.as_secs());
        return invalid(Fault::Reproducer, format!("the reproducer ended after {ran:.1} s of {wanted} s"));
    }
    let still = load_ended.since(self::progress(evidence, load_ended).last);
    if still >= rules.limits.stall {
        let still = still.as_secs_f64();
        let what = format!("the filesystem stood still for the reproducer's last {still:.1} s and went on when that ended");
        return invalid(Fault::Unresolved, format!("{what}: let it keep its load up while nothing moves"));
    }
    if let Some(idle) = idle(evidence, progress, started, load_ended).filter(|idle| *idle >= rules.limits.stall) {
        let idle = idle.as_secs();
        return invalid(Fault::Unresolved, format!("the reproducer did nothing for its last {idle} s, while the filesystem went on"));
    }
    if let Some((_, ReproducerEnd::Lost(why))) = evidence.mitigation.as_ref().and_then(|beside| beside.end.as_ref()) {
        return invalid(Fault::Mitigation, format!("its connection was lost, so nobody knows whether it ran to the end: {why}"));
    }
    if evidence.counts.last().is_some_and(|(_, count)| count.operations == 0) {
        return invalid(Fault::Reproducer, "the reproducer counted no operation");
    }
    let (kills, commits, trigger) = (oom_kills(evidence, digest), commits(evidence), rules.trigger);
    if kills < trigger.oom_kills {
        return invalid(Fault::Trigger, format!("{kills} memory-cgroup OOM kills, {} are needed for a pass", trigger.oom_kills));
    }
    if let Some(commits) = commits
        && commits < trigger.commits
    {
        return invalid(Fault::Trigger, format!("{commits} journal commits, {} are needed for a pass", trigger.commits));
    }
    // It goes on, and nothing that it says can be trusted any more.
    if let Some((at, title)) = &digest.first_damage {
        return Observation::Crash { title: title.clone(), at: *at };
    }
    Observation::Pass(Pass {
        operations: evidence.counts.last().map(|(_, count)| count.operations),
        oom_kills: kills,
        commits,
        standstill: progress.standstill,
        said: [&digest.first_lockup, &digest.first_blocked, &digest.first_warning].into_iter().flatten().cloned().collect(),
    })
}

impl Observation {
    /// One word.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Pass(_) => "pass",
            Self::Hang(_) => "hang",
            Self::Crash { .. } => "crash",
            Self::BootFailure { .. } => "boot-failure",
            Self::Invalid { .. } => "invalid",
        }
    }

    /// One line about it, of at most 500 characters. The guest's words in it are clean.
    #[must_use]
    pub fn detail(&self) -> String {
        const MOST: usize = 500;
        let line = plain(&self.line());
        if line.chars().count() <= MOST { line } else { line.chars().take(MOST - 1).chain(['…']).collect() }
    }

    fn line(&self) -> String {
        match self {
            Self::Pass(pass) => {
                let operations = pass.operations.map_or_else(String::new, |n| format!("{n} operations, "));
                let commits = pass.commits.map_or_else(String::new, |n| format!("{n} commits, "));
                let still = pass.standstill.as_secs_f64();
                let said = pass.said.iter().map(|line| format!("; the kernel said: {line}")).collect::<String>();
                format!("{operations}{commits}{} OOM kills, longest standstill {still:.1} s{said}", pass.oom_kills)
            }
            Self::Hang(hang) => {
                let (last, took) = (hang.last_progress, hang.at.since(hang.last_progress).as_secs_f64());
                let which = match &hang.likeness {
                    None => format!("hang {}", hang.signature.id),
                    Some(Likeness::Same) => format!("the pipeline's hang ({})", hang.signature.id),
                    Some(Likeness::Different(missing)) => {
                        format!(
                            "another hang than the pipeline's ({}: {}; nobody is {})",
                            hang.signature.id,
                            hang.signature.title,
                            missing.join(", ")
                        )
                    }
                };
                format!("{which}: last progress {last} after QEMU's start, certain {took:.1} s later: {}", hang.witness)
            }
            Self::Crash { title, at } => format!("{title} (at {at})"),
            Self::BootFailure { reason, .. } => reason.clone(),
            Self::Invalid { fault, reason } => format!("{fault}: {reason}"),
        }
    }
}

impl fmt::Display for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClosedWait(wait) => f.write_str(&wait.title()),
            Self::Silence { title: Some(title), reported } => write!(f, "{title} ({reported} such reports)"),
            Self::Silence { title: None, .. } => f.write_str("the guest answers, its filesystem does not"),
            Self::Guest { title: Some(title) } => write!(f, "the whole guest is silent: {title}"),
            Self::Guest { title: None } => f.write_str("the whole guest is silent, its CPUs run"),
            Self::Panic { title } => f.write_str(title),
        }
    }
}

#[cfg(test)]
mod tests;
