//! One trial: the one state machine that joins a VM, its evidence and the oracle.
//!
//! It boots, lets the agent get ready, starts the reproducer, and does what the oracle asks for until the oracle is certain. It decides nothing itself
//! and knows no socket: the VM is a [`Vm`], which may be a replayed one. Whatever goes wrong on our side becomes evidence too, so that a trial always
//! ends with evidence and never with an error.
//!
//! Read [`Trial`] first, then [`watch`].

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;

use hangproof_wire::{Assignment, CgroupVersion, Report, Request, Root};
use tokio::sync::watch as channel;

use crate::aftermath::{Aftermath, Collecting, collect};
use crate::event::{Event, Events};
use crate::evidence::{At, Beside, Count, Evidence, QmpFact, Rules, Trouble, VmEnd};
use crate::guest::{Command, Key, Role};
use crate::image::Payload;
use crate::image::initramfs::{self, Modules};
use crate::oracle::{Asked, Digest, Judgement, Next, Observation, judge};
use crate::plan::TrialId;
use crate::spec::{CgroupChoice, HangSignature, Limits, Machine, Trigger};
use crate::store::{self, Scratch};
use crate::vm::args::{Accelerator, Invocation};
use crate::vm::{Signal, Start, Vm};

/// Everything that a trial needs, made ready.
#[derive(Debug, Clone)]
pub struct Trial {
    /// Which one it is.
    pub id: TrialId,
    /// The kernel's bzImage.
    pub kernel: PathBuf,
    /// Kernel command line additions.
    pub boot_arguments: Vec<String>,
    /// The initramfs that all trials share.
    pub initramfs: PathBuf,
    /// What the kernel loads at boot.
    pub modules: Option<Modules>,
    /// What is laid over the root filesystem.
    pub payload: Payload,
    /// Raw disks.
    pub disks: Vec<PathBuf>,
    /// How the root lies on them.
    pub root: Root,
    /// CPUs and memory.
    pub machine: Machine,
    /// What runs the instructions.
    pub accelerator: Accelerator,
    /// Memory-cgroup hierarchy.
    pub cgroup: CgroupChoice,
    /// Loopback port for ssh; a free one if not given.
    pub ssh_port: Option<u16>,
    /// The reproducer's program and arguments.
    pub words: Vec<String>,
    /// The mitigation's program and arguments; empty if there is none.
    pub beside: Vec<String>,
    /// Unscaled limits.
    pub limits: Limits,
    /// What proves that the trigger fired.
    pub trigger: Trigger,
    /// The hang that the pipeline describes.
    pub hang: Option<HangSignature>,
    /// Where what is collected after a hang goes; nowhere if not given.
    pub collecting: Option<Collecting>,
}

/// Folder in the guest that the reproducer starts in: empty, and on the filesystem under test.
pub const GUEST_FOLDER: &str = "/var/lib/hangproof";

/// A blocked task is reported after so many seconds. EL7's and mainline's default is 120; khungtaskd's report is one witness among several, and 20 is
/// what facts/the-bug.md was measured with.
const HUNG_TASK_SECONDS: &str = "20";

/// Least time between two looks that are compared (unscaled): long against a charge's 16 reclaim retries, short against the verdict's 15 s.
const LOOK_INTERVAL: Duration = Duration::from_millis(1500);

/// From QEMU's spawn to its first QMP answer (unscaled).
const QEMU_START: Duration = Duration::from_secs(15);

/// For the memory cgroups' counters after a verdict (unscaled).
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Refused requests that are kept: the first ones.
const TROUBLE_LIMIT: usize = 100;

/// QEMU's facts that are kept: the first ones. It is asked a few times in a minute, and only when the guest is silent.
const QMP_LIMIT: usize = 10_000;

/// Lines of the reproducer's and of the mitigation's output that are kept: the last ones.
const OUTPUT_LINES: usize = 200;

/// Signals that come within this time of each other are judged together.
const BATCH: Duration = Duration::from_millis(100);

impl Trial {
    /// The rules that the trial is judged by.
    #[must_use]
    pub fn rules(&self) -> Rules {
        let scale = self.accelerator.scale();
        let limits = Limits {
            duration: self.limits.duration,
            boot: self.limits.boot.mul_f64(scale),
            stall: self.limits.stall.mul_f64(scale),
            silence: self.limits.silence.mul_f64(scale),
        };
        Rules { limits, trigger: self.trigger, scale, look_interval: LOOK_INTERVAL.mul_f64(scale), hang: self.hang.clone() }
    }

    /// Runs the trial to its end. `stop` turning true ends it at once.
    pub async fn run(&self, events: &Events, mut stop: channel::Receiver<bool>) -> Evidence {
        let mut evidence = Evidence::new(self.id.clone(), self.rules());
        // A VM whose start is given up is killed with the future.
        let started = tokio::select! {
            started = self.start() => started,
            () = stopped(&mut stop) => {
                evidence.end = Some((At::default(), VmEnd::Interrupted));
                return evidence;
            }
        };
        match started {
            Ok((mut vm, key, scratch)) => {
                let mut watching = Watch::new(&mut evidence, events, stop.clone());
                let hung = watching.run(&mut vm, |host_key| self.commands(&key, host_key)).await;
                if let (Some(found), Some(collecting)) = (hung, &self.collecting) {
                    let found =
                        collect(&mut vm, collecting, scratch.path(), self.accelerator.scale(), evidence.boot.vmcoreinfo.as_deref(), found);
                    tokio::select! {
                        found = found => if let Some(found) = found { kept(&found, collecting, events) },
                        () = stopped(&mut stop) => {}
                    }
                }
                vm.stop().await;
            }
            Err(trouble) => {
                evidence.trouble.push((At::default(), trouble));
                evidence.end = Some((At::default(), VmEnd::Stopped));
            }
        }
        evidence
    }

    /// Starts the VM. The scratch folder must live as long as it.
    ///
    /// # Errors
    /// When anything on the host fails.
    pub async fn start(&self) -> Result<(Vm, Key, Scratch), Trouble> {
        let host = |error: String| Trouble::Host(error);
        let scratch = store::trial_scratch().map_err(|error| host(error.to_string()))?;
        let key = Key::new().map_err(|error| host(format!("no ssh key: {error}")))?;
        let initrd = scratch.path().join("initrd");
        initramfs::for_trial(&self.initramfs, self.modules.as_ref(), &self.assignment(&key), &self.payload, &initrd)
            .map_err(|error| host(error.to_string()))?;
        let invocation = Invocation {
            accelerator: self.accelerator,
            machine: self.machine,
            kernel: self.kernel.clone(),
            initrd: initrd.clone(),
            boot_arguments: self.boot_arguments.clone(),
            disks: self.disks.clone(),
            sockets: scratch.path().to_owned(),
            ssh_port: self.ssh_port,
        };
        let deadline = QEMU_START.mul_f64(self.accelerator.scale());
        let vm = Start { invocation, temporary: scratch.path().to_owned(), deadline }.start().await;
        let vm = vm.map_err(|error| Trouble::QemuStart(error.to_string()))?;
        // QEMU has read it into the guest's memory.
        let _ = std::fs::remove_file(initrd);
        Ok((vm, key, scratch))
    }

    fn assignment(&self, key: &Key) -> Assignment {
        let sysctls = [
            ("kernel/hung_task_timeout_secs", HUNG_TASK_SECONDS),
            ("kernel/hung_task_warnings", "-1"),
            ("kernel/hung_task_panic", "0"),
            ("kernel/softlockup_panic", "0"),
            ("kernel/unknown_nmi_panic", "1"),
            ("kernel/panic_on_oops", "1"),
            ("kernel/sysrq", "1"),
        ];
        Assignment {
            root: self.root.clone(),
            cgroup: match self.cgroup {
                CgroupChoice::Auto => CgroupVersion::Auto,
                CgroupChoice::V1 => CgroupVersion::V1,
                CgroupChoice::V2 => CgroupVersion::V2,
            },
            authorized_key: key.public().to_owned(),
            host_key_seed: key.seed(),
            sysctls: sysctls.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            modules: self.modules.as_ref().map(|modules| modules.order.clone()).unwrap_or_default(),
        }
    }

    /// What is run in the guest, each when the one before has started: the mitigation is there before there is anything to mitigate.
    fn commands(&self, key: &Key, host_key: &str) -> VecDeque<Command> {
        let reproducer = self.command(key, host_key);
        let folder = "/".to_owned();
        let mitigation =
            Command { role: Role::Mitigation, words: self.beside.clone(), folder, environment: Vec::new(), ..reproducer.clone() };
        if self.beside.is_empty() { VecDeque::from([reproducer]) } else { VecDeque::from([mitigation, reproducer]) }
    }

    /// The reproducer's command line, for a guest with this host key.
    #[must_use]
    pub fn command(&self, key: &Key, host_key: &str) -> Command {
        let rules = self.rules();
        Command {
            role: Role::Reproducer,
            words: self.words.clone(),
            folder: GUEST_FOLDER.to_owned(),
            environment: vec![("HANGPROOF_DURATION".to_owned(), self.limits.duration.as_secs().to_string())],
            key: key.clone(),
            host_key: host_key.to_owned(),
            login: rules.limits.boot,
            // The oracle ends the trial long before; this only bounds the thread's life.
            run: rules.limits.duration + rules.limits.silence * 4 + Duration::from_secs(600),
        }
    }
}

/// Saves what isn't judged and is of use to whoever looks for the cause.
fn kept(aftermath: &Aftermath, collecting: &Collecting, events: &Events) {
    match aftermath.save(&collecting.folder) {
        Ok(()) => events.send(Event::Wrote { what: aftermath.title(), path: collecting.folder.clone() }),
        Err(error) => events.warn(format!("{}: {error}", collecting.folder.display())),
    }
}

/// The state machine: a VM's signals become evidence, the oracle's wishes become requests.
struct Watch<'a> {
    evidence: &'a mut Evidence,
    digest: Digest,
    asked: Asked,
    looks: u64,
    answered: u64,
    host_key: Option<String>,
    /// The reproducer has ended: the oracle waits for a write after it.
    probe: bool,
    commands: VecDeque<Command>,
    /// The next command is to be started.
    next: bool,
    phase: &'static str,
    rate: VecDeque<(At, u64)>,
    reported: At,
    events: &'a Events,
    stop: channel::Receiver<bool>,
}

/// Watches a VM until the oracle is certain. The evidence is complete afterwards.
pub async fn watch(vm: &mut Vm, evidence: &mut Evidence, events: &Events, stop: channel::Receiver<bool>) {
    // A replayed VM is told to run something too, and does nothing: so the command may be any.
    let Ok(key) = Key::new() else { return };
    let command = move |host_key: &str| Command {
        role: Role::Reproducer,
        words: Vec::new(),
        folder: String::new(),
        environment: Vec::new(),
        key: key.clone(),
        host_key: host_key.to_owned(),
        login: Duration::ZERO,
        run: Duration::ZERO,
    };
    Watch::new(evidence, events, stop).run(vm, |host_key| VecDeque::from([command(host_key)])).await;
}

impl<'a> Watch<'a> {
    fn new(evidence: &'a mut Evidence, events: &'a Events, stop: channel::Receiver<bool>) -> Self {
        Self {
            evidence,
            digest: Digest::default(),
            asked: Asked::default(),
            looks: 0,
            answered: 0,
            host_key: None,
            probe: false,
            commands: VecDeque::new(),
            next: false,
            phase: "",
            rate: VecDeque::new(),
            reported: At::default(),
            events,
            stop,
        }
    }

    /// If it hung, what came since that was judged.
    async fn run(&mut self, vm: &mut Vm, commands: impl Fn(&str) -> VecDeque<Command>) -> Option<Aftermath> {
        self.enter("booting");
        loop {
            let now = vm.clock().now();
            self.report(now);
            if let Some(host_key) = self.host_key.take() {
                self.enter("logging in");
                self.commands = commands(&host_key);
                self.next = true;
            }
            if std::mem::take(&mut self.next)
                && let Some(command) = self.commands.pop_front()
            {
                vm.run(command);
            }
            if std::mem::take(&mut self.probe) {
                vm.request(Request::Probe);
            }
            if *self.stop.borrow() {
                self.evidence.end.get_or_insert((now, VmEnd::Interrupted));
                return None;
            }
            match judge(self.evidence, &self.digest, self.asked, now) {
                Judgement::Closed(observation) => {
                    self.evidence.end.get_or_insert((now, VmEnd::Stopped));
                    return if matches!(observation, Observation::Hang(_)) { Some(self.last_words(vm).await) } else { None };
                }
                Judgement::Open(Next::Look) => {
                    self.enter("looking");
                    self.asked.look = Some(now);
                    self.looks += 1;
                    vm.request(Request::Look { id: self.looks });
                }
                Judgement::Open(Next::AskStatus) => {
                    self.asked.status = Some(now);
                    vm.ask_status();
                }
                Judgement::Open(Next::Wait(until)) => self.absorb(vm, until.min(now.after(Duration::from_secs(1)))).await,
            }
        }
    }

    /// Takes signals until `until`, or until a moment after the first.
    async fn absorb(&mut self, vm: &mut Vm, until: At) {
        let clock = vm.clock();
        // Always some time, or two judgements at the same millisecond would spin.
        let mut until = until.max(clock.now().after(Duration::from_millis(1)));
        loop {
            tokio::select! {
                biased;
                () = stopped(&mut self.stop) => return,
                signal = vm.signal() => match signal {
                    Some((at, signal)) => {
                        self.record(at, signal);
                        let now = clock.now();
                        // A guest that floods us must not keep us from judging.
                        if now >= until {
                            return;
                        }
                        until = until.min(now.after(BATCH));
                    }
                    None => {
                        tokio::time::sleep_until(clock.instant(until)).await;
                        return;
                    }
                },
                () = tokio::time::sleep_until(clock.instant(until)) => return,
            }
        }
    }

    /// After a hang: what the memory cgroups say. Nothing else becomes evidence, so that judging again sees what was judged: it is the aftermath's.
    async fn last_words(&mut self, vm: &mut Vm) -> Aftermath {
        self.enter("collecting");
        vm.request(Request::Counters { id: 0 });
        let deadline = LAST_WORDS.mul_f64(self.evidence.rules.scale);
        let mut aftermath = Aftermath::default();
        let answer = async {
            while let Some(signal) = vm.signal().await {
                match signal {
                    (_, Signal::Agent(Report::Counters { cgroups, .. })) => return Some(cgroups),
                    other => aftermath.take(other),
                }
            }
            None
        };
        if let Ok(Some(cgroups)) = tokio::time::timeout(deadline, answer).await {
            self.evidence.counters = cgroups;
        }
        aftermath
    }

    fn record(&mut self, at: At, signal: Signal) {
        let evidence = &mut *self.evidence;
        match signal {
            Signal::Console(line) => {
                self.digest.line(&line);
                evidence.console.push(line);
            }
            Signal::ConsoleDropped(bytes) => evidence.console_dropped = bytes,
            Signal::Agent(report) => self.record_report(at, report),
            // The guest may panic a thousand times, for QEMU.
            Signal::Qmp(fact @ QmpFact::GuestPanicked) if evidence.qmp.iter().any(|(_, known)| *known == fact) => {}
            Signal::Qmp(fact) => {
                if evidence.qmp.len() < QMP_LIMIT {
                    evidence.qmp.push((at, fact));
                }
            }
            Signal::Login => evidence.boot.login = Some(at),
            Signal::Started => {
                evidence.boot.started.get_or_insert(at);
                self.enter("running");
            }
            Signal::Output(line) => {
                let (count, is_last) = (Count::parse(&line), Count::is_last(&line));
                if is_last {
                    evidence.load_ended.get_or_insert(at);
                }
                if let Some(count) = count {
                    if self.rate.back().is_none_or(|(last, _)| at.since(*last) >= GRAIN) {
                        self.rate.push_back((at, count.operations));
                    }
                    thin(&mut evidence.counts, at, count, |count| *count);
                }
                if is_last || count.is_none() {
                    keep_last(&mut evidence.output, line);
                }
            }
            Signal::MitigationStarted => {
                evidence.mitigation = Some(Beside { started: at, output: Vec::new(), end: None });
                self.next = true;
            }
            Signal::MitigationOutput(line) => {
                if let Some(beside) = &mut evidence.mitigation {
                    keep_last(&mut beside.output, line);
                }
            }
            Signal::MitigationEnded(end) => {
                if let Some(beside) = &mut evidence.mitigation {
                    beside.end = Some((at, end));
                }
            }
            Signal::ReproducerEnded(end) => {
                evidence.reproducer = Some((at, end));
                self.probe = true;
                self.enter("finishing");
            }
            Signal::Trouble(trouble) => evidence.trouble.push((at, trouble)),
            Signal::Exited(end) => {
                evidence.end.get_or_insert((at, end));
            }
        }
    }

    fn record_report(&mut self, at: At, report: Report) {
        let evidence = &mut *self.evidence;
        match report {
            Report::Hello { kernel, vmcoreinfo, .. } => {
                evidence.boot.hello = Some(at);
                evidence.boot.kernel = Some(kernel);
                evidence.boot.vmcoreinfo = vmcoreinfo;
            }
            Report::Step { step, .. } => evidence.boot.step = Some((at, step)),
            // Only the first: another one would start another reproducer.
            Report::Ready { .. } if evidence.boot.ready.is_some() => {}
            Report::Ready { host_key, root, .. } => {
                evidence.boot.ready = Some(at);
                evidence.boot.root = Some(root);
                self.host_key = Some(host_key);
            }
            Report::Failed { step, error, .. } => evidence.boot.failed = Some((at, step, error)),
            Report::Beat(beat) => {
                thin(&mut evidence.beats, at, beat, |beat| (beat.probes, beat.oom_kills, beat.commits));
            }
            // One that nobody asked for is dropped: each may have megabytes.
            Report::Look(look) if look.id <= self.answered || look.id > self.looks => {}
            Report::Look(look) => {
                self.answered = look.id;
                self.digest.look(at, &look);
                evidence.looks.push((at, look));
            }
            Report::Counters { cgroups, .. } => evidence.counters = cgroups,
            // They are asked for after the judgement, by who reads them itself.
            Report::Log { .. } | Report::Pressed { .. } => {}
            Report::Refused { error, .. } if evidence.trouble.len() < TROUBLE_LIMIT => evidence.trouble.push((at, Trouble::Refused(error))),
            Report::Refused { .. } => {}
        }
    }

    fn enter(&mut self, phase: &'static str) {
        if self.phase != phase {
            self.phase = phase;
            self.events.send(Event::TrialPhase { trial: self.evidence.trial.clone(), phase: phase.to_owned() });
        }
    }

    /// Sends a progress event, at most one a second.
    fn report(&mut self, now: At) {
        let Some(started) = self.evidence.boot.started else { return };
        if now.since(self.reported) < Duration::from_secs(1) {
            return;
        }
        self.reported = now;
        while self.rate.front().is_some_and(|(at, _)| now.since(*at) > Duration::from_secs(5)) {
            self.rate.pop_front();
        }
        let rate = |(first, last): (&(At, u64), &(At, u64))| {
            let seconds = now.since(first.0).as_secs_f64().max(1.0);
            last.1.saturating_sub(first.1) as f64 / seconds
        };
        let counts = !self.evidence.counts.is_empty();
        let operations = counts.then(|| self.rate.front().zip(self.rate.back()).map_or(0.0, rate));
        let progress = crate::oracle::progress(self.evidence, now);
        if now.since(progress.last) < self.evidence.rules.limits.stall && self.phase == "looking" {
            self.enter("running");
        }
        self.events.send(Event::TrialProgress {
            trial: self.evidence.trial.clone(),
            operations_per_second: operations,
            oom_kills: self.evidence.beats.last().map_or(0, |(_, beat)| beat.oom_kills),
            silent: now.since(progress.last).as_secs_f64(),
            elapsed: now.since(started).as_secs_f64(),
            limit: self.evidence.rules.limits.duration.as_secs_f64(),
        });
    }
}

/// Waits until the user interrupts; for ever if nobody can.
pub(crate) async fn stopped(stop: &mut channel::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn keep_last(output: &mut Vec<String>, line: String) {
    if output.len() == OUTPUT_LINES {
        output.remove(0);
    }
    output.push(line);
}

/// What the clocks tell apart: a tenth of the shortest interval of beats. A guest may say more often how far it is; it isn't kept.
const GRAIN: Duration = Duration::from_millis(100);

/// Appends an entry, dropping the one before it if it and its neighbours say the same (the first and the last of a run of equals are kept), or if it
/// stands within [`GRAIN`] between them.
fn thin<T, K: PartialEq>(entries: &mut Vec<(At, T)>, at: At, entry: T, says: impl Fn(&T) -> K) {
    if let [.., (since, before), (_, last)] = entries.as_slice()
        && (at.since(*since) < GRAIN || says(before) == says(last) && says(last) == says(&entry))
    {
        entries.pop();
    }
    entries.push((at, entry));
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_repeats_itself_fills_nothing_and_starts_nothing() {
        let limits = Limits { duration: Duration::ZERO, boot: Duration::ZERO, stall: Duration::ZERO, silence: Duration::ZERO };
        let rules = Rules { limits, trigger: Trigger { oom_kills: 1, commits: 0 }, scale: 1.0, look_interval: Duration::ZERO, hang: None };
        let id = TrialId { kernel: crate::spec::Name::new("k").unwrap(), mitigation: None, repeat: 1, attempt: 1 };
        let (mut evidence, (events, _stream), (_sender, stop)) = (Evidence::new(id, rules), Events::channel(), channel::channel(false));
        let mut watch = Watch::new(&mut evidence, &events, stop);
        for number in 0..20_000u64 {
            watch.record(At(number), Signal::Qmp(QmpFact::GuestPanicked));
            watch.record(At(number), Signal::Qmp(QmpFact::Stop));
            let host_key = format!("key {number}");
            let ready = Report::Ready { host_key, root: String::new(), cgroup: 2, missing_sysctls: Vec::new(), uptime_ms: number };
            watch.record(At(number), Signal::Agent(ready));
            watch.record(At(number + 5), Signal::Started);
        }
        assert_eq!(watch.host_key.as_deref(), Some("key 0"));
        assert_eq!((evidence.boot.ready, evidence.boot.started), (Some(At(0)), Some(At(5))));
        assert_eq!(evidence.qmp.iter().filter(|(_, fact)| *fact == QmpFact::GuestPanicked).count(), 1);
        assert!(evidence.qmp.len() <= QMP_LIMIT, "{}", evidence.qmp.len());
    }

    #[test]
    fn what_a_guest_says_too_often_is_not_kept() {
        let mut entries = Vec::new();
        (0..1_000_000u64).for_each(|n| thin(&mut entries, At(n / 100), n, |n| *n));
        assert!(entries.len() <= 250, "{}", entries.len());
        assert_eq!((entries.first().unwrap().1, entries.last().unwrap().1), (0, 999_999));
        let gaps = entries.windows(2).map(|two| two[1].0.since(two[0].0));
        assert!(gaps.max().unwrap() <= GRAIN, "progress is late by the grain at most");
    }

    #[test]
    fn slow_words_are_all_kept_but_for_repetitions() {
        let mut entries = Vec::new();
        [1, 2, 2, 2, 2, 3].into_iter().enumerate().for_each(|(index, n)| thin(&mut entries, At(200 * index as u64), n, |n| *n));
        assert_eq!(entries.iter().map(|(_, n)| *n).collect::<Vec<_>>(), [1, 2, 2, 3]);
    }
}
