//! A run: all trials of one invocation, from definitions to a report.
//!
//! It builds what is missing, boots the trials interleaved, saves each as it ends, and rewrites the report each time: a run that is cut short leaves
//! what there is. A kernel that can't be built is inconclusive and stops nobody else's trials. It prints nothing; see `event`.
//!
//! Read [`Run`] first.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::aftermath::{Collecting, When};
use crate::bisect::{Axis, Next, Searching, Stepping};
use crate::build::{self, BuildError, Built, Manifest};
use crate::event::{Event, Events};
use crate::evidence::{At, Evidence, Trouble, VmEnd};
use crate::fault::Whose;
use crate::image::{self, Disks, initramfs};
use crate::mitigation::{self, Beside};
use crate::oracle::{self, Observation};
use crate::plan::{Cell, TrialId, interleave};
use crate::program::Deadline;
use crate::proof::Design;
use crate::prove::{CALIBRATING, Proving, Wanted};
use crate::report::{
    Host, KernelReport, NotBuilt, Report, SCHEMA, SearchReport, SearchSetup, StepReport, TrialReport, calibration, forget_unfinished,
    load_of, save_inputs, save_pipeline, save_trial, trial_folder,
};
use crate::reporting::save_page;
use crate::reproducer::{self, Ready};
use crate::rescore::RULES;
use crate::spec::{Definitions, Name, Pipeline};
use crate::store::Store;
use crate::trial::{Trial, stopped};
use crate::vm::probe::Probed;

/// What is to be run.
#[derive(Debug)]
pub struct Run<'a> {
    /// The definitions, overrides applied.
    pub definitions: &'a Definitions,
    /// The pipeline, one of the definitions.
    pub pipeline: &'a Pipeline,
    /// What to run: the scoreboard's lines.
    pub cells: Vec<Cell>,
    /// Which trials of them.
    pub plan: Plan,
    /// After which hangs the memory is dumped and whatever else takes long is collected.
    pub dump: When,
    /// VMs at once; chosen by the host's CPUs and memory if not given.
    pub jobs: Option<usize>,
    /// Folder of the results: there, and nobody else's.
    pub out: PathBuf,
    /// The command that repeats the run.
    pub command: String,
    /// The store.
    pub store: &'a Store,
    /// Where events go.
    pub events: &'a Events,
    /// Turns true when the user interrupts.
    pub stop: watch::Receiver<bool>,
}

/// Which trials a run has.
#[derive(Debug)]
pub enum Plan {
    /// So many of each cell.
    Repeats(u32),
    /// As many of one cell as given, for what they propose to a proof of this design.
    Calibration(u32, Design),
    /// Those that a proof asks for. The cells are the baseline and the candidates.
    Proof(Wanted),
    /// Those that a search asks for, of kernels that are built when they are wanted. There are no cells. It goes on where the report was, if there is one.
    Search(SearchSetup, Axis, Option<Box<Report>>),
    /// Those that a step of somebody else's bisection asks for. There are no cells.
    Step(StepReport, Name, Axis),
}

impl Plan {
    /// How kernels are made that aren't built beforehand.
    fn axis(&self) -> Option<&Axis> {
        match self {
            Self::Repeats(_) | Self::Calibration(..) | Self::Proof(_) => None,
            Self::Search(_, axis, _) | Self::Step(_, _, axis) => Some(axis),
        }
    }
}

/// What says which trial is next.
#[derive(Debug)]
enum Agenda {
    Queue(VecDeque<TrialId>),
    /// Those before a proof that say how long its own last.
    Calibration(VecDeque<TrialId>),
    Proof(Box<Proving>),
    Search(Box<Searching>),
    Step(Box<Stepping>),
}

impl Agenda {
    /// What to do next; nothing if there is nothing to do before a trial ends.
    fn next(&mut self) -> Option<Next> {
        match self {
            Self::Queue(queue) | Self::Calibration(queue) => queue.pop_front().map(Next::Trial),
            Self::Proof(proving) => proving.start().map(Next::Trial),
            Self::Search(searching) => searching.next(),
            Self::Step(stepping) => stepping.next(),
        }
    }

    /// A trial ended; `again` says that it is to be tried once more.
    fn ended(&mut self, trial: &TrialId, observation: &Observation, (load, took): (f64, Duration), again: bool) {
        match self {
            Self::Queue(queue) | Self::Calibration(queue) if again => queue.push_front(trial.retried()),
            Self::Queue(_) | Self::Calibration(_) => {}
            Self::Proof(proving) => proving.ended(trial, observation, load),
            Self::Search(searching) => searching.ended(trial, observation, took.as_secs_f64(), again),
            Self::Step(stepping) => stepping.ended(trial, observation, again),
        }
    }

    /// Whether a trial that is invalid by our own fault is tried once more. A proof counts it: were it dropped, a hang that looks like trouble of ours would be
    /// boots that nobody sees.
    fn retries(&self) -> bool {
        match self {
            Self::Proof(_) => false,
            Self::Queue(_) | Self::Calibration(_) | Self::Search(_) | Self::Step(_) => true,
        }
    }

    /// A kernel that it asked for was built, or can't be.
    fn built(&mut self, kernel: &Name, manifest: Result<&Manifest, &str>, took: Duration) {
        match (self, manifest) {
            // They ask for nothing that isn't built.
            (Self::Queue(_) | Self::Calibration(_) | Self::Proof(_), _) => {}
            (Self::Search(searching), Ok(manifest)) => {
                let seconds = manifest.base_key.as_ref().map(|_| took.as_secs_f64());
                searching.built(kernel, manifest.elf_signature.as_deref(), seconds);
            }
            (Self::Search(searching), Err(why)) => searching.unbuildable(kernel, why),
            (Self::Step(stepping), Ok(_)) => stepping.built(),
            (Self::Step(stepping), Err(why)) => stepping.unbuildable(why),
        }
    }
}

/// What the kernels share, made ready once.
#[derive(Debug)]
struct Shared {
    disks: Disks,
    initramfs: initramfs::Base,
    ready: Ready,
    mitigations: BTreeMap<Name, Beside>,
    probed: Probed,
    jobs: usize,
    /// For each kernel, whether one of its hangs was collected from.
    dumped: Mutex<BTreeMap<Name, Arc<AtomicBool>>>,
}

impl Shared {
    fn dumped(&self, kernel: &Name) -> Arc<AtomicBool> {
        self.dumped.lock().unwrap_or_else(PoisonError::into_inner).entry(kernel.clone()).or_default().clone()
    }
}

/// How often a trial is tried that is invalid by our own fault.
const ATTEMPTS: u32 = 2;

/// File name of a finished search over commits, as git's own bisection would have written it.
const BISECT_LOG: &str = "bisect.log";

/// A run's end.
#[derive(Debug)]
pub struct Ended {
    /// The report as it was saved.
    pub report: Report,
    /// The user interrupted it.
    pub interrupted: bool,
}

impl Run<'_> {
    /// Runs everything. Ends early, with what there is, when `stop` turns true.
    ///
    /// # Errors
    /// When nothing can be run at all: no QEMU, no image, a reproducer that doesn't compile, results that can't be written.
    pub async fn run(self) -> Result<Ended> {
        let started = jiff::Timestamp::now();
        let compiled = self.store.work().context("making room for the reproducer")?;
        let mut stop = self.stop.clone();
        let mut shared = tokio::select! {
            shared = self.share(compiled.path()) => shared?,
            () = stopped(&mut stop) => bail!(Interrupted),
        };
        let mut report = self.empty_report(started, &shared).await;
        let kept = save_pipeline(&self.out, &self.pipeline.defined_in, &shared.ready.source);
        report.reproducer_source = kept.with_context(|| format!("keeping the pipeline in {}", self.out.display()))?;
        if let Plan::Search(_, _, Some(before)) = &self.plan {
            if let Some(what) = other_experiment(before, &report) {
                bail!(OtherSearch { what: what.to_owned(), command: before.command.clone() });
            }
            forget_unfinished(&self.out, before).with_context(|| format!("removing what was cut short in {}", self.out.display()))?;
            // Its arguments may have been added to.
            report = Report { complete: false, command: report.command, ..(**before).clone() };
        }
        let mut built: BTreeMap<Name, Built> = BTreeMap::new();
        // What can't be built isn't tried again for each kernel that extends it.
        let mut unbuildable: BTreeMap<Name, (String, Whose)> = BTreeMap::new();
        for name in self.kernels() {
            let kernel = self.definitions.kernels.get(name).with_context(|| format!("kernel {name} is not defined"))?;
            let jobs = cpus();
            let result = match self.failed_before(name, &unbuildable) {
                Some(error) => {
                    self.events.send(Event::BuildFailed { kernel: name.clone(), error: error.to_string() });
                    Err(error)
                }
                None => tokio::select! {
                    result = build::build(self.store, self.definitions, kernel, self.events, jobs) => result,
                    () = stopped(&mut stop) => return self.interrupted(report),
                },
            };
            if let Err(error) = &result
                && error.fault() != Whose::Ours
            {
                let (mut name, mut error) = (name, error);
                unbuildable.insert(name.clone(), (error.to_string(), error.fault()));
                while let BuildError::Base { base, cause } = error {
                    (name, error) = (base, cause);
                    unbuildable.insert(name.clone(), (error.to_string(), error.fault()));
                }
            }
            let manifest = match result {
                Ok(kernel) => {
                    let manifest = kernel.manifest.clone();
                    self.keep_inputs(&kernel).await?;
                    built.insert(name.clone(), kernel);
                    Ok(manifest)
                }
                // A proof without one of its arms proves nothing.
                Err(error) if matches!(self.plan, Plan::Proof(_)) => return Err(error).with_context(|| format!("building {name}")),
                Err(error) => Err(NotBuilt { trouble: error.fault() == Whose::Ours, why: error.to_string() }),
            };
            for cell in report.kernels.iter_mut().filter(|cell| cell.name == *name) {
                *cell = KernelReport::new(cell.cell(), Vec::new(), manifest.clone());
            }
            self.save(&mut report)?;
        }
        let calibrated = self.calibrate(&mut report, &mut built, &mut shared, compiled.path()).await?;
        let run = Run { pipeline: calibrated.as_ref().unwrap_or(self.pipeline), ..self };
        run.go(report, built, shared).await
    }

    /// Why a kernel can't be built, if it or one that it extends was tried in vain.
    fn failed_before(&self, name: &Name, unbuildable: &BTreeMap<Name, (String, Whose)>) -> Option<BuildError> {
        if let Some((why, fault)) = unbuildable.get(name) {
            return Some(BuildError::Before { why: why.clone(), fault: *fault });
        }
        let base = self.definitions.kernels.get(name)?.base.as_ref()?;
        let cause = Box::new(self.failed_before(base, unbuildable)?);
        Some(BuildError::Base { base: base.clone(), cause })
    }

    /// How long the trials of a proof last, if nobody has said it: the pipeline with that duration.
    async fn calibrate(
        &self,
        report: &mut Report,
        built: &mut BTreeMap<Name, Built>,
        shared: &mut Shared,
        compiled: &Path,
    ) -> Result<Option<Pipeline>> {
        let Plan::Proof(Wanted { calibrates: true, baseline, design, .. }) = &self.plan else { return Ok(None) };
        let cells: Vec<Cell> = self.cells.iter().filter(|cell| cell.kernel == *baseline).cloned().collect();
        let queue = interleave(&cells, CALIBRATING).into();
        self.trials(report, built, shared, Agenda::Calibration(queue)).await?;
        if *self.stop.borrow() {
            return Ok(None);
        }
        let found = calibration(&self.out, report, *design).context("reading the trials for the calibration")?;
        let proposed = found.proposal;
        report.calibration = Some(found);
        let Some(proposed) = proposed else {
            let seconds = self.pipeline.limits.duration.as_secs_f64();
            self.events.warn(format!(
                "the baseline hung too seldom to say how long trials should last: they last {seconds} s, as the pipeline says"
            ));
            return Ok(None);
        };
        let mut pipeline = self.pipeline.clone();
        // How a trial that is longer than all that were seen goes on is a guess of the fit's.
        let seconds = proposed.duration.min(pipeline.limits.duration.as_secs_f64());
        pipeline.limits.duration = Duration::from_secs_f64(seconds);
        // Its parameters may name the duration.
        shared.ready = reproducer::prepare(&pipeline, compiled).await?;
        (report.limits, report.reproducer) = (pipeline.limits, shared.ready.words.clone());
        let effort = proposed.fixed;
        let (trials, minutes) = (effort.trials, effort.seconds / 60.0);
        self.events.send(Event::Calibrated { seconds, suggested: proposed.duration, trials, minutes });
        Ok(Some(pipeline))
    }

    /// Runs the trials of the plan, now that all is there for them.
    async fn go(self, mut report: Report, mut built: BTreeMap<Name, Built>, shared: Shared) -> Result<Ended> {
        let agenda = self.agenda(&report, &built, &shared)?;
        self.trials(&mut report, &mut built, &shared, agenda).await?;
        if let Plan::Calibration(_, design) = &self.plan {
            report.calibration = Some(calibration(&self.out, &report, *design).context("reading the trials for the calibration")?);
        }
        if *self.stop.borrow() {
            return self.interrupted(report);
        }
        report.complete = true;
        self.save(&mut report)?;
        if let Some(log) = report.search.as_ref().and_then(SearchReport::git_bisect_log) {
            let path = self.out.join(BISECT_LOG);
            crate::report::write_whole(&path, log.as_bytes()).with_context(|| format!("writing {}", path.display()))?;
            self.events.send(Event::Wrote { what: "log for `git bisect replay`".to_owned(), path });
        }
        self.events.send(Event::Wrote { what: "report".to_owned(), path: self.out.join(crate::report::FILE) });
        self.page();
        Ok(Ended { report, interrupted: false })
    }

    /// What says which trial is next, now that the kernels are built.
    fn agenda(&self, report: &Report, built: &BTreeMap<Name, Built>, shared: &Shared) -> Result<Agenda> {
        let queue = |repeats| {
            let cells: Vec<Cell> = self.cells.iter().filter(|cell| built.contains_key(&cell.kernel)).cloned().collect();
            Agenda::Queue(interleave(&cells, repeats).into())
        };
        Ok(match &self.plan {
            Plan::Repeats(repeats) | Plan::Calibration(repeats, _) => queue(*repeats),
            Plan::Proof(wanted) => {
                let builds: BTreeMap<&Name, &Manifest> = built.iter().map(|(name, built)| (name, &built.manifest)).collect();
                let setup = wanted.setup(self.pipeline.limits.duration.as_secs_f64(), &builds);
                let last =
                    |kernel: &KernelReport| Some((kernel.name.clone(), kernel.results.iter().map(|result| result.trial.repeat).max()?));
                Agenda::Proof(Box::new(Proving::new(setup, report.kernels.iter().filter_map(last).collect())))
            }
            Plan::Search(setup, _, before) => Agenda::Search(Box::new(Searching::new(setup.clone(), before.as_deref(), shared.jobs))),
            Plan::Step(step, kernel, _) => Agenda::Step(Box::new(Stepping::new(step.clone(), kernel.clone()))),
        })
    }

    /// Says how far a proof or a search is, and keeps its record up to date.
    fn went_on(&self, report: &mut Report, agenda: &Agenda) {
        match agenda {
            Agenda::Queue(_) | Agenda::Calibration(_) => {}
            Agenda::Proof(proving) => {
                self.events.send(proving.progress());
                let proof = proving.report();
                let warned = report.proof.as_ref().is_some_and(|before| before.shortfall.is_some());
                if let (Some(shortfall), false) = (&proof.shortfall, warned) {
                    self.events.warn(shortfall.to_string());
                }
                report.proof = Some(proof);
            }
            Agenda::Search(searching) => {
                let search = searching.report();
                self.events.send(searching.progress(&search));
                report.search = Some(search);
            }
            Agenda::Step(stepping) => report.step = Some(stepping.report().clone()),
        }
    }

    /// The kernels of the cells, each once, in the cells' order.
    fn kernels(&self) -> impl Iterator<Item = &Name> {
        let mut seen = BTreeSet::new();
        self.cells.iter().map(|cell| &cell.kernel).filter(move |kernel| seen.insert(*kernel))
    }

    fn interrupted(&self, mut report: Report) -> Result<Ended> {
        self.save(&mut report)?;
        self.page();
        Ok(Ended { report, interrupted: true })
    }

    /// Keeps what went into a kernel, so that reports need neither the store nor the definitions.
    async fn keep_inputs(&self, built: &Built) -> Result<()> {
        let (out, definitions, kernel) = (self.out.clone(), self.definitions.root.clone(), built.clone());
        let name = &built.manifest.kernel;
        let keeping = tokio::task::spawn_blocking(move || save_inputs(&out, &definitions, &kernel));
        let missing = keeping.await?.with_context(|| format!("keeping what went into {name} below {}", self.out.display()))?;
        missing.into_iter().for_each(|line| self.events.warn(line));
        Ok(())
    }

    /// Writes the page beside the report. The run is done and saved: a page that can't be written is a warning.
    fn page(&self) {
        match save_page(&self.out, self.store.root()) {
            Ok(path) => self.events.send(Event::Wrote { what: "page".to_owned(), path }),
            Err(error) => self.events.warn(format!("no {}: {error:#}: `hangproof report` makes it", crate::report::PAGE)),
        }
    }

    /// What all kernels share. Everything that can fail quickly is tried before anything is built.
    async fn share(&self, folder: &Path) -> Result<Shared> {
        let version = qemu_version().await;
        if let (Ok(qemu), false) = (crate::vm::find_qemu(), version.contains("QEMU")) {
            bail!("{} is no QEMU: `--version` says {version:?}; set HANGPROOF_QEMU to one, or unset it", qemu.display());
        }
        let probed = crate::vm::probe::probe(folder).await?;
        // Each trial makes one.
        drop(crate::store::trial_scratch()?);
        let accelerator = probed.accelerator.name().to_owned();
        self.events.send(Event::Accelerator { accelerator, reason: probed.reason.clone() });
        let ready = reproducer::prepare(self.pipeline, folder).await?;
        let wanted = |name: &Name| self.cells.iter().any(|cell| cell.mitigation.as_ref() == Some(name));
        let mitigations = self.pipeline.mitigations.iter().filter(|mitigation| wanted(&mitigation.name));
        let mitigations = mitigation::prepare(mitigations, &ready.payload)?;
        let image = self.definitions.images.get(&self.pipeline.image).with_context(|| format!("image {}", self.pipeline.image))?;
        let disks = image::make(self.store, image, self.events).await.with_context(|| format!("making the image {}", image.name))?;
        let store = self.store.clone();
        let initramfs = tokio::task::spawn_blocking(move || initramfs::base(&store)).await??;
        let jobs = self.jobs.unwrap_or_else(|| fitting_jobs(self.pipeline.machine.cpus, self.pipeline.machine.memory.0));
        Ok(Shared { disks, initramfs, ready, mitigations, probed, jobs, dumped: Mutex::default() })
    }

    /// Runs the trials, some at once, and keeps the report up to date.
    async fn trials(&self, report: &mut Report, built: &mut BTreeMap<Name, Built>, shared: &Shared, mut agenda: Agenda) -> Result<()> {
        let mut running = JoinSet::new();
        let mut ids = HashMap::new();
        let mut failed = None;
        self.went_on(report, &agenda);
        // A search that is killed during its first build goes on all the same.
        self.save(report)?;
        loop {
            while running.len() < shared.jobs && !*self.stop.borrow() && failed.is_none() {
                let id = match agenda.next() {
                    Some(Next::Trial(id)) => id,
                    Some(Next::Build(kernel)) => {
                        if let Err(error) = self.build_now(report, built, &mut agenda, &kernel).await {
                            failed.get_or_insert(error);
                        }
                        continue;
                    }
                    None => break,
                };
                let Some(built) = built.get(&id.kernel) else { continue };
                let trial = self.trial(id.clone(), built, shared);
                let (events, stop) = (self.events.clone(), self.stop.clone());
                events.send(Event::TrialStarted { trial: id.clone() });
                let rules = trial.rules();
                let task = running.spawn(async move {
                    let start = Instant::now();
                    let evidence = trial.run(&events, stop).await;
                    (evidence, start.elapsed())
                });
                ids.insert(task.id(), (id, rules));
            }
            let Some(ended) = running.join_next_with_id().await else { return failed.map_or(Ok(()), Err) };
            let (evidence, took) = match ended {
                Ok((_, ended)) => ended,
                // A trial's task that panics is one lost trial, not a lost run.
                Err(error) => {
                    let Some((id, rules)) = ids.remove(&error.id()) else { continue };
                    let mut evidence = Evidence::new(id, rules);
                    evidence.trouble.push((At::default(), Trouble::Host(format!("our own mistake, please report it: {error}"))));
                    evidence.end = Some((At::default(), VmEnd::Stopped));
                    (evidence, Duration::ZERO)
                }
            };
            let id = evidence.trial.clone();
            let judging = tokio::task::spawn_blocking(move || (oracle::observe(&evidence), evidence));
            let (observation, evidence) = judging.await.context("judging a trial")?;
            let load = load_of(&evidence, &observation);
            let saved = save_trial(&self.out, &evidence).with_context(|| {
                format!("saving the evidence of {id} below {} (make room there, or choose another folder with --out)", self.out.display())
            });
            self.finished(&id, &observation, took);
            if let Err(error) = saved {
                // The other trials end, and are saved if they can be, before the run gives up.
                failed.get_or_insert(error);
                continue;
            }
            let again = matches!(&observation, Observation::Invalid { fault, .. } if fault.worth_a_retry())
                && id.attempt < ATTEMPTS
                && agenda.retries()
                && !*self.stop.borrow();
            agenda.ended(&id, &observation, (load, took), again);
            let Some(kernel) = report.kernels.iter_mut().find(|kernel| kernel.holds(&id)) else { continue };
            let mut results = std::mem::take(&mut kernel.results);
            results.push(TrialReport {
                evidence: trial_folder(&id).join("evidence.json"),
                trial: id.clone(),
                observation,
                seconds: took.as_secs_f64(),
                repeated: again,
                calibrates: matches!(agenda, Agenda::Calibration(_)),
            });
            let build = kernel.built();
            *kernel = KernelReport::new(kernel.cell(), results, build);
            self.went_on(report, &agenda);
            self.save(report)?;
        }
    }

    /// Builds a kernel that is wanted now. What is wrong with the kernel is a result; what is wrong here is an error.
    async fn build_now(&self, report: &mut Report, built: &mut BTreeMap<Name, Built>, agenda: &mut Agenda, kernel: &Name) -> Result<()> {
        let Some(axis) = self.plan.axis() else { return Ok(()) };
        let (began, mut stop) = (Instant::now(), self.stop.clone());
        let result = tokio::select! {
            result = axis.build(self.store, self.definitions, kernel, self.events, cpus()) => result,
            // The loop sees it too.
            () = stopped(&mut stop) => return Ok(()),
        };
        let manifest = match result {
            Ok(made) => {
                self.keep_inputs(&made).await?;
                let manifest = made.manifest.clone();
                built.insert(kernel.clone(), made);
                Ok(manifest)
            }
            Err(error) if error.fault() == Whose::Source => Err(NotBuilt { why: error.to_string(), trouble: false }),
            Err(error) => return Err(error).with_context(|| format!("building {kernel}")),
        };
        let known = report.kernels.iter().find(|other| other.name == *kernel).and_then(|known| known.build.as_ref());
        if let (Some(known), Ok(now)) = (known, &manifest)
            && (known.elf_signature.is_none() || known.elf_signature != now.elf_signature)
            && known.key != now.key
        {
            bail!(OtherSearch { what: format!("{kernel}, which was built anew,"), command: report.command.clone() });
        }
        if let (Some(_), Err(NotBuilt { why, .. })) = (known, &manifest) {
            bail!(OtherSearch { what: format!("{kernel}, which can't be built any more ({why}),"), command: report.command.clone() });
        }
        agenda.built(kernel, manifest.as_ref().map_err(|not_built| not_built.why.as_str()), began.elapsed());
        // A search that goes on has it already.
        if report.kernels.iter().all(|other| other.name != *kernel) {
            let cell = Cell { kernel: kernel.clone(), mitigation: None, expected: None };
            report.kernels.push(KernelReport::new(cell, Vec::new(), manifest));
        }
        self.went_on(report, agenda);
        self.save(report)
    }

    fn finished(&self, id: &TrialId, observation: &Observation, took: Duration) {
        self.events.send(Event::TrialFinished {
            trial: id.clone(),
            observation: observation.word().to_owned(),
            detail: observation.detail(),
            seconds: took.as_secs_f64(),
        });
    }

    fn trial(&self, id: TrialId, built: &Built, shared: &Shared) -> Trial {
        let defined = || self.definitions.kernels.get(&id.kernel).map_or(&[][..], |kernel| &kernel.boot_arguments);
        let arguments = self.plan.axis().map_or_else(defined, |axis| axis.boot_arguments(self.definitions, &id.kernel));
        let beside = id.mitigation.as_ref().and_then(|name| shared.mitigations.get(name));
        Trial {
            kernel: built.image.clone(),
            boot_arguments: arguments.iter().chain(&self.pipeline.boot_arguments).cloned().collect(),
            initramfs: shared.initramfs.file.clone(),
            modules: built.modules.clone(),
            payload: beside.map_or(&shared.ready.payload, |beside| &beside.payload).clone(),
            disks: shared.disks.members.clone(),
            root: shared.disks.root.clone(),
            machine: self.pipeline.machine,
            accelerator: shared.probed.accelerator,
            cgroup: self.pipeline.cgroup,
            ssh_port: None,
            words: shared.ready.words.clone(),
            beside: beside.map(|beside| beside.words.clone()).unwrap_or_default(),
            limits: self.pipeline.limits,
            trigger: self.pipeline.trigger,
            hang: self.pipeline.hang.clone(),
            collecting: Some(Collecting { folder: self.out.join(trial_folder(&id)), when: self.dump, taken: shared.dumped(&id.kernel) }),
            id,
        }
    }

    async fn empty_report(&self, started: jiff::Timestamp, shared: &Shared) -> Report {
        let kernel = |cell: &Cell| {
            KernelReport::new(
                cell.clone(),
                Vec::new(),
                Err(NotBuilt { why: "the run ended before it was built".to_owned(), trouble: false }),
            )
        };
        Report {
            schema: SCHEMA,
            hangproof: env!("CARGO_PKG_VERSION").to_owned(),
            rules: RULES,
            pipeline: self.pipeline.name.clone(),
            started,
            written: started,
            complete: false,
            command: self.command.clone(),
            definitions: self.definitions.root.clone(),
            host: Host {
                accelerator: shared.probed.accelerator,
                reason: shared.probed.reason.clone(),
                qemu: qemu_version().await,
                cpus: cpus(),
                jobs: shared.jobs,
            },
            machine: self.pipeline.machine,
            limits: self.pipeline.limits,
            trigger: self.pipeline.trigger,
            reproducer: shared.ready.words.clone(),
            reproducer_sha256: shared.ready.sha256.clone(),
            reproducer_source: None,
            mitigations: shared.mitigations.iter().map(|(name, beside)| (name.clone(), beside.words.clone())).collect(),
            mitigation_programs: shared.mitigations.iter().filter_map(|(name, one)| Some((name.clone(), one.program.clone()?))).collect(),
            image: Some(shared.disks.description.clone()),
            kernels: self.cells.iter().map(kernel).collect(),
            proof: None,
            calibration: None,
            search: None,
            step: None,
        }
    }

    fn save(&self, report: &mut Report) -> Result<()> {
        report.written = jiff::Timestamp::now();
        report.save(&self.out).with_context(|| format!("writing the report into {}", self.out.display()))?;
        Ok(())
    }
}

/// A search can't go on as it was begun.
#[derive(Debug, thiserror::Error)]
#[error(
    "{what} is another one than this search was begun with: bring back what it was, or begin another search with another --out ({command})"
)]
pub struct OtherSearch {
    what: String,
    command: String,
}

/// What differs between a search and how it is to go on, if trials of both can't be counted together.
fn other_experiment(before: &Report, now: &Report) -> Option<&'static str> {
    let pairs = [
        ("the reproducer's command line", before.reproducer != now.reproducer),
        ("the reproducer", before.reproducer_sha256 != now.reproducer_sha256),
        ("the machine", before.machine != now.machine),
        ("a limit of the pipeline", before.limits != now.limits),
        ("the pipeline's trigger", before.trigger != now.trigger),
        ("the image", before.image != now.image),
    ];
    pairs.into_iter().find(|(_, differs)| *differs).map(|(what, _)| what)
}

/// The user interrupted the work before there was anything to save.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// The host's CPUs that we may use.
#[must_use]
pub fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// VMs that fit: their CPUs into the host's, their memory into four fifths of what is available.
fn fitting_jobs(cpus_each: u32, mib_each: u64) -> usize {
    let by_cpu = cpus() / cpus_each.max(1) as usize;
    let available = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    });
    let by_memory = available.map_or(usize::MAX, |kib| usize::try_from(kib / 1024 * 4 / 5 / mib_each.max(1)).unwrap_or(usize::MAX));
    by_cpu.min(by_memory).max(1)
}

/// For QEMU to say its version.
const VERSION: Duration = Duration::from_secs(10);

/// First line of `qemu-system-x86_64 --version`.
async fn qemu_version() -> String {
    let Ok(qemu) = crate::vm::find_qemu() else { return String::new() };
    let mut program = crate::vm::program(&qemu);
    program = program.within(Deadline::Total(VERSION));
    program.command.arg("--version");
    let said = program.success().await.unwrap_or_default();
    String::from_utf8_lossy(&said).lines().next().unwrap_or_default().to_owned()
}

/// Sweeps what killed programs left, and says so.
pub fn sweep(store: &Store, events: &Events) {
    for path in store.sweep() {
        events.warn(format!("removed {}, left by a hangproof that was cut short", path.display()));
    }
}
