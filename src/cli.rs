//! The command line: arguments in, exit code out.
//!
//! It parses, calls the layers below, and prints their results: tables to standard output, trouble to standard error. It decides nothing about kernels.
//!
//! Read [`Cli`] in `arguments` first, then [`main`].

mod arguments;
mod bisect;
mod folder;
mod terminal;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use clap::Parser as _;
use tokio::sync::watch;

use self::arguments::{CalibrateArguments, Cli, Command, Common, Needs, ProveArguments, RunArguments, TrialArguments};
use self::folder::{claim, command_line, give_back, unwritable};
use self::terminal::{colour, complain, readable, show, theme, width};
use crate::aftermath::When;
use crate::build::BuildError;
use crate::build::gc::{self, Policy};
use crate::contents;
use crate::event::Events;
use crate::exit::Exit;
use crate::fault::Whose;
use crate::plan::{Cell, cells};
use crate::progress::Progress;
use crate::proof::Design;
use crate::prove::Wanted;
use crate::report::{self, Report, SearchReport};
use crate::reporting::{Format, Saved};
use crate::reproducer::ReproducerError;
use crate::rescore::{RULES, rescore};
use crate::run::{self, Interrupted, Plan, Run};
use crate::source::SourceError;
use crate::source::history::HistoryError;
use crate::spec::{Definitions, Expected, Kernel, Mitigation, Name, Pipeline, Problems, Source, Toolchain, load, load_for, nearest};
use crate::store::{Store, StoreError};
use crate::text::{for_a_shell, plain};
use crate::trial::stopped;
use crate::{build, doctor, image, shell};

/// A mistake in usage or in a definition: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

/// Runs the program.
#[must_use]
pub fn main() -> Exit {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            // `git bisect run` would take 2 for bad.
            let is_step = std::env::args_os().any(|word| word == "bisect-step");
            return if !error.use_stderr() {
                Exit::Expected
            } else if is_step {
                Exit::Abort
            } else {
                Exit::Usage
            };
        }
    };
    start_log();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("error: starting the runtime: {error}"));
            return Exit::Trouble;
        }
    };
    let is_step = matches!(cli.command, Command::BisectStep(_));
    let work = || {
        runtime.block_on(async {
            let _large = large_files_are_errors();
            dispatch(cli).await.unwrap_or_else(|error| explain(&error))
        })
    };
    // The message is out by then. `git bisect run` would take the usual 101 for bad.
    let exit = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or(Exit::Trouble);
    // What is left is the removal of trees. An interrupted program leaves it to the next sweep; a thread that waits for a dead guest's ssh session isn't the
    // runtime's.
    runtime.shutdown_timeout(if exit == Exit::Interrupted { Duration::from_millis(200) } else { Duration::from_secs(60) });
    if is_step { exit.of_a_step() } else { exit }
}

/// A file larger than the user's limit (`ulimit -f`) is an error of whoever writes it, and not this program's end. What it starts is not concerned: a handler
/// ends with exec.
fn large_files_are_errors() -> std::io::Result<tokio::signal::unix::Signal> {
    tokio::signal::unix::signal(tokio::signal::unix::SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))
}

/// Internals go to standard error when `HANGPROOF_LOG` asks for them, for example `HANGPROOF_LOG=hangproof=debug`.
fn start_log() {
    if let Ok(filter) = tracing_subscriber::EnvFilter::try_from_env("HANGPROOF_LOG") {
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    }
}

fn explain(error: &anyhow::Error) -> Exit {
    if let Some(problems) = error.downcast_ref::<Problems>() {
        if std::io::stderr().is_terminal() {
            complain(&problems.underlined(theme()));
        } else {
            complain(&readable(&problems.to_string()));
        }
        return Exit::Usage;
    }
    complain(&readable(&format!("error: {error:#}")));
    let fault = error.chain().find_map(fault);
    if error.is::<Interrupted>() {
        Exit::Interrupted
    } else if error.is::<Usage>() || error.is::<run::OtherSearch>() || matches!(fault, Some(Whose::Source | Whose::Definition)) {
        Exit::Usage
    } else {
        Exit::Trouble
    }
}

/// Whose fault an error is, if it is one that says so.
fn fault(cause: &(dyn std::error::Error + 'static)) -> Option<Whose> {
    let build = cause.downcast_ref().map(BuildError::fault);
    let source = || cause.downcast_ref().map(SourceError::fault);
    let history = || cause.downcast_ref().map(HistoryError::fault);
    let reproducer = || cause.downcast_ref().map(ReproducerError::fault);
    let store = || cause.downcast_ref().map(StoreError::fault);
    build.or_else(source).or_else(history).or_else(reproducer).or_else(store)
}

async fn dispatch(cli: Cli) -> Result<Exit> {
    let Cli { common, command } = cli;
    match command {
        Command::Doctor => {
            let checks = doctor::examine().await;
            show(&doctor::table(&checks))?;
            return Ok(if checks.iter().all(|check| check.fine()) { Exit::Expected } else { Exit::Trouble });
        }
        Command::Rescore { run } => return rescored(run_of(&run)),
        Command::Report { run, format, out, bundle } => return reported(run_of(&run), format, out.as_deref(), bundle.as_deref()),
        Command::Gc { keep_days, max_size, dry_run } => return collect(keep_days, max_size, dry_run),
        Command::List | Command::Build { .. } | Command::Image { .. } | Command::Run(_) | Command::Shell { .. } => {}
        Command::Prove(_) | Command::Calibrate(_) | Command::Bisect(_) | Command::BisectStep(_) => {}
    }
    let over_commits =
        matches!(&command, Command::BisectStep(_)) || matches!(&command, Command::Bisect(search) if search.is_over_commits());
    if over_commits && !common.source.is_empty() {
        let why = "--source has no effect: what is built is the repository's commits, so leave it out";
        return Err(Usage(why.to_owned()).into());
    }
    let definitions = definitions(&common, command.needs())?;
    if matches!(command, Command::List) {
        sound(definitions.kernels.values(), definitions.pipelines.values())?;
        show(&report::list(&definitions, width()))?;
        return Ok(Exit::Expected);
    }
    let store = Store::open()?;
    let (events, stream) = Events::channel();
    // Before the arguments are looked at: what a killed program left goes, whether or not this one gets to work.
    run::sweep(&store, &events);
    let mut progress = Progress::new(common.quiet);
    let mut prepared = match &command {
        Command::Run(arguments) => Some(prepare(&definitions, arguments)?),
        Command::Prove(arguments) => Some(prepare_proof(&definitions, arguments)?),
        Command::Bisect(arguments) => {
            let bring = async |events: Events| bisect::prepare(&store, &definitions, arguments, &events).await;
            Some(watched(common.quiet, bring).await?)
        }
        Command::BisectStep(arguments) => {
            let prepared = bisect::prepare_step(&definitions, arguments).await?;
            if prepared.pipeline.hang.is_none() {
                events.warn(format!(
                    "{} says nothing of its `hang`, so any hang makes a commit bad: describe the one that is looked for",
                    prepared.pipeline.name
                ));
            }
            Some(prepared)
        }
        Command::Calibrate(arguments) => Some(prepare_calibration(&definitions, arguments)?),
        _ => None,
    };
    if let Some(prepared) = &mut prepared {
        let kernels = prepared.cells.iter().filter_map(|cell| prepared.definitions.kernels.get(&cell.kernel));
        sound(kernels, [&prepared.pipeline])?;
        claim(&prepared.out, &mut progress, prepared.goes_on)?;
        if prepared.goes_on {
            bisect::take_up(prepared, &events)?;
        }
    }
    let shown = tokio::spawn(progress.show(stream));
    let stop = interrupt();
    let claimed = prepared.as_ref().filter(|prepared| !prepared.goes_on).map(|prepared| prepared.out.clone());
    // A run saves what there is; nothing else has anything to save.
    let saves = prepared.is_some();
    let work = async {
        match command {
            Command::Build { kernel, jobs } => build_one(&store, &definitions, &kernel, jobs, &events).await,
            Command::Image { image } => make_image(&store, &definitions, &image, &events).await,
            Command::Run(_) | Command::Prove(_) | Command::Calibrate(_) | Command::Bisect(_) | Command::BisectStep(_) => match prepared {
                Some(prepared) => run_pipeline(&store, prepared, &events, stop.clone()).await,
                None => Ok((Exit::Trouble, String::new())),
            },
            Command::Shell { kernel, image, ssh_port, words } => {
                sound([kernel_of(&definitions, &kernel)?], [])?;
                definitions.present([&*image_of(&definitions, &image)?.defined_in])?;
                let wanted = shell::Wanted { kernel, image, ssh_port, words };
                shell::open(&store, &definitions, wanted, &events, stop.clone()).await.map(|exit| (exit, String::new()))
            }
            Command::Doctor | Command::List | Command::Rescore { .. } | Command::Report { .. } | Command::Gc { .. } => {
                Ok((Exit::Expected, String::new()))
            }
        }
    };
    let interrupted = async {
        stopped(&mut stop.clone()).await;
        if saves {
            // It sees the interrupt itself; a second one ends the program.
            std::future::pending::<()>().await;
        }
    };
    let result = tokio::select! {
        result = work => result,
        () = interrupted => Err(anyhow!(Interrupted)),
    };
    drop(events);
    let _ = tokio::time::timeout(Duration::from_secs(2), shown).await;
    if let (Err(_), Some(out)) = (&result, &claimed) {
        give_back(out);
    }
    let (exit, text) = result?;
    if !text.is_empty() {
        show(&text)?;
    }
    Ok(exit)
}

/// Shows what happens before there is a folder for a run's events: a source package may be downloaded to see what is in it.
async fn watched<T>(quiet: bool, work: impl AsyncFnOnce(Events) -> T) -> T {
    let (events, stream) = Events::channel();
    let shown = tokio::spawn(Progress::new(quiet).show(stream));
    let result = work(events).await;
    let _ = tokio::time::timeout(Duration::from_secs(2), shown).await;
    result
}

/// Turns true at the first SIGINT, SIGTERM or SIGHUP; the second ends the program at once.
fn interrupt() -> watch::Receiver<bool> {
    use tokio::signal::unix::{SignalKind, signal};
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
        let [Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)] = kinds else {
            std::future::pending::<()>().await;
            return;
        };
        for _ in 0..2 {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
            if sender.send_replace(true) {
                // QEMU and make die with us.
                std::process::exit(Exit::Interrupted as i32);
            }
        }
    });
    receiver
}

fn definitions(common: &Common, needs: Needs<'_>) -> Result<Definitions> {
    let root = match &common.definitions {
        Some(root) => root.clone(),
        None => {
            let here = std::env::current_dir().context("finding the current folder")?;
            Definitions::find_root(&here).map_err(|error| Usage(error.to_string()))?
        }
    };
    let (mut definitions, others) = match needs {
        Needs::Everything => (load(&root)?, Vec::new()),
        Needs::Pipeline(pipeline) => load_for(&root, pipeline)?,
    };
    for problem in others {
        complain(&format!("warning: another pipeline is left out: {problem}"));
    }
    if let Some(vault) = &common.vault {
        definitions = definitions.with_vault(vault).map_err(|error| Usage(error.to_string()))?;
    }
    for (number, (name, _)) in common.source.iter().enumerate() {
        if common.source[..number].iter().any(|(other, _)| other == name) {
            continue;
        }
        let paths: Vec<&Path> = common.source.iter().filter(|(other, _)| other == name).map(|(_, path)| Path::new(path)).collect();
        let kernel = Name::new(name).map_err(|error| Usage(error.to_string()))?;
        let source = Source::from_paths(&kernel, &paths).map_err(|error| Usage(error.to_string()))?;
        definitions = definitions.with_source(&kernel, &source).map_err(|error| Usage(error.to_string()))?;
    }
    for (kernel, word) in &common.toolchain {
        let kernel = Name::new(kernel).map_err(|error| Usage(error.to_string()))?;
        let toolchain = Toolchain::from_word(word).map_err(|error| Usage(error.to_string()))?;
        definitions = definitions.with_toolchain(&kernel, &toolchain).map_err(|error| Usage(error.to_string()))?;
    }
    for (kernel, path) in &common.configuration {
        let kernel = Name::new(kernel).map_err(|error| Usage(error.to_string()))?;
        definitions = definitions.with_configuration(&kernel, path.as_ref()).map_err(|error| Usage(error.to_string()))?;
    }
    Ok(definitions)
}

fn kernel_of<'a>(definitions: &'a Definitions, name: &Name) -> Result<&'a crate::spec::Kernel> {
    let remedy = || nearest(name.as_str(), definitions.kernels.keys().map(Name::as_str));
    definitions.kernels.get(name).ok_or_else(|| anyhow!(Usage(format!("kernel {name} is not defined: {}", remedy()))))
}

fn image_of<'a>(definitions: &'a Definitions, name: &Name) -> Result<&'a crate::spec::Image> {
    let remedy = || nearest(name.as_str(), definitions.images.keys().map(Name::as_str));
    definitions.images.get(name).ok_or_else(|| anyhow!(Usage(format!("image {name} is not defined: {}", remedy()))))
}

async fn build_one(store: &Store, definitions: &Definitions, name: &Name, jobs: Option<u16>, events: &Events) -> Result<(Exit, String)> {
    let kernel = kernel_of(definitions, name)?;
    sound([kernel], [])?;
    let jobs = jobs.map_or_else(run::cpus, usize::from);
    let built = build::build(store, definitions, kernel, events, jobs).await.with_context(|| format!("building {name}"))?;
    Ok((Exit::Expected, built.folder.display().to_string()))
}

async fn make_image(store: &Store, definitions: &Definitions, name: &Name, events: &Events) -> Result<(Exit, String)> {
    let image = image_of(definitions, name)?;
    definitions.present([&*image.defined_in])?;
    let disks = image::make(store, image, events).await.with_context(|| format!("making the image {name}"))?;
    let paths: Vec<String> = disks.members.iter().map(|path| path.display().to_string()).collect();
    Ok((Exit::Expected, paths.join("\n")))
}

/// Nothing is built of files that can't be what definitions take them for.
fn sound<'a>(kernels: impl IntoIterator<Item = &'a Kernel>, pipelines: impl IntoIterator<Item = &'a Pipeline>) -> Result<()> {
    Ok(contents::check(kernels, pipelines).map_err(|wrong| Usage(wrong.to_string()))?)
}

/// A run's arguments after they were checked against the definitions.
struct Prepared {
    definitions: Definitions,
    pipeline: Pipeline,
    cells: Vec<Cell>,
    plan: Plan,
    jobs: Option<usize>,
    out: PathBuf,
    dump: When,
    /// The folder holds a search that goes on.
    goes_on: bool,
}

fn prepare(definitions: &Definitions, arguments: &RunArguments) -> Result<Prepared> {
    let (definitions, pipeline) = pipeline_of(definitions, &arguments.pipeline, &arguments.set)?;
    let kernels = if arguments.kernel.is_empty() {
        pipeline.kernels.clone()
    } else {
        let expected = |kernel: &Name| pipeline.kernels.iter().find(|(name, _)| name == kernel).and_then(|(_, expected)| *expected);
        let mut kernels: Vec<(Name, Option<Expected>)> = Vec::new();
        for kernel in &arguments.kernel {
            kernel_of(&definitions, kernel)?;
            if kernels.iter().all(|(name, _)| name != kernel) {
                kernels.push((kernel.clone(), expected(kernel)));
            }
        }
        kernels
    };
    let cells = cells(&kernels, &mitigations_of(&pipeline, &arguments.mitigation)?);
    let out = folder(arguments.out.as_ref(), &pipeline.name);
    let plan = Plan::Repeats(arguments.repeats.unwrap_or(pipeline.repeats));
    Ok(Prepared { definitions, pipeline, cells, plan, jobs: arguments.jobs.map(usize::from), out, dump: arguments.dump, goes_on: false })
}

fn prepare_proof(definitions: &Definitions, arguments: &ProveArguments) -> Result<Prepared> {
    let ProveArguments { pipeline, baseline, candidate, duration, max_trials, seed, design, common } = arguments;
    let mut kernels: Vec<Name> = vec![baseline.clone()];
    for kernel in candidate {
        if kernels.contains(kernel) {
            return Err(anyhow!(Usage(format!("{kernel} is named twice: name each kernel of a proof once"))));
        }
        kernels.push(kernel.clone());
    }
    let design = design.design(candidate.len());
    let design = Design { max_trials: max_trials.unwrap_or(design.max_trials), ..design };
    // Any number will do, as long as it is recorded.
    let seed = seed.unwrap_or_else(|| jiff::Timestamp::now().as_microsecond().unsigned_abs());
    let given = definitions.pipelines.get(pipeline).and_then(|pipeline| pipeline.proof_duration);
    let duration = duration.or(given);
    let calibrates = duration.is_none();
    let wanted = Wanted { design, seed, baseline: baseline.clone(), candidates: candidate.clone(), calibrates };
    prepare_trials(definitions, pipeline, &kernels, duration, common, Plan::Proof(wanted))
}

fn prepare_calibration(definitions: &Definitions, arguments: &CalibrateArguments) -> Result<Prepared> {
    let CalibrateArguments { pipeline, kernel, trials, duration, design, common } = arguments;
    let plan = Plan::Calibration(*trials, design.design(1));
    prepare_trials(definitions, pipeline, std::slice::from_ref(kernel), *duration, common, plan)
}

/// Trials of kernels of which nothing is expected, each alone, without a mitigation.
fn prepare_trials(
    definitions: &Definitions,
    pipeline: &Name,
    kernels: &[Name],
    duration: Option<Duration>,
    common: &TrialArguments,
    plan: Plan,
) -> Result<Prepared> {
    let (definitions, mut pipeline) = pipeline_of(definitions, pipeline, &common.set)?;
    for kernel in kernels {
        kernel_of(&definitions, kernel)?;
    }
    pipeline.limits.duration = duration.unwrap_or(pipeline.limits.duration);
    let kernels: Vec<_> = kernels.iter().map(|kernel| (kernel.clone(), None)).collect();
    let out = folder(common.out.as_ref(), &pipeline.name);
    Ok(Prepared {
        definitions,
        pipeline,
        cells: cells(&kernels, &[]),
        plan,
        jobs: common.jobs.map(usize::from),
        out,
        dump: common.dump,
        goes_on: false,
    })
}

/// The pipeline, with values for its reproducer's parameters.
fn pipeline_of(definitions: &Definitions, name: &Name, set: &[(String, String)]) -> Result<(Definitions, Pipeline)> {
    if !definitions.pipelines.contains_key(name) {
        let remedy = nearest(name.as_str(), definitions.pipelines.keys().map(Name::as_str));
        return Err(anyhow!(Usage(format!("pipeline {name} is not defined: {remedy}"))));
    }
    let mut definitions = definitions.clone();
    for (key, value) in set {
        definitions = definitions.with_parameter(name, key, value).map_err(|error| Usage(error.to_string()))?;
    }
    let pipeline = definitions.pipelines.get(name).context("the pipeline is there")?.clone();
    let image = image_of(&definitions, &pipeline.image)?;
    definitions.present([&*pipeline.defined_in, &*image.defined_in])?;
    Ok((definitions, pipeline))
}

/// The folder of the results.
fn folder(given: Option<&PathBuf>, pipeline: &Name) -> PathBuf {
    given.cloned().unwrap_or_else(|| {
        let time = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string();
        PathBuf::from("runs").join(format!("{pipeline}-{time}-{}", std::process::id()))
    })
}

/// The pipeline's mitigations, or those of them that are `wanted`.
fn mitigations_of(pipeline: &Pipeline, wanted: &[Name]) -> Result<Vec<Mitigation>> {
    let all = &pipeline.mitigations;
    if let Some(unknown) = wanted.iter().find(|name| all.iter().all(|mitigation| mitigation.name != **name)) {
        let remedy = match all.as_slice() {
            [] => "leave out --mitigation".to_owned(),
            all => nearest(unknown.as_str(), all.iter().map(|mitigation| mitigation.name.as_str())),
        };
        return Err(anyhow!(Usage(format!("pipeline {} has no mitigation {unknown}: {remedy}", pipeline.name))));
    }
    Ok(all.iter().filter(|mitigation| wanted.is_empty() || wanted.contains(&mitigation.name)).cloned().collect())
}

async fn run_pipeline(store: &Store, prepared: Prepared, events: &Events, stop: watch::Receiver<bool>) -> Result<(Exit, String)> {
    let Prepared { definitions, pipeline, cells, plan, jobs, out, dump, goes_on: _ } = prepared;
    let run = Run {
        definitions: &definitions,
        pipeline: &pipeline,
        cells,
        plan,
        dump,
        jobs,
        out: out.clone(),
        command: command_line(),
        store,
        events,
        stop,
    };
    let ended = run.run().await?;
    let board = board(&ended.report);
    let exit = if ended.interrupted { Exit::Interrupted } else { ended.report.exit() };
    let go_on = match &ended.report.search {
        Some(SearchReport { answer: None, .. }) => {
            format!("\nto go on: {} --out {} --resume", ended.report.command, for_a_shell(&out.display().to_string()))
        }
        Some(_) | None => String::new(),
    };
    Ok((exit, format!("{board}results: {}{go_on}", out.display())))
}

/// What a run found out, for standard output.
fn board(report: &Report) -> String {
    let mut text = report::scoreboard(report, width(), colour());
    text.extend(report.proof.as_ref().map(|proof| format!("\n{}", proof.board(width()))));
    text.extend(report.search.as_ref().map(|search| format!("\n{}", search.board(width()))));
    text.extend(report.step.as_ref().map(|step| format!("\n{}", step.board())));
    text.extend(report.calibration.as_ref().map(|calibration| format!("\n{}", calibration.board(report))));
    text
}

fn rescored(folder: &std::path::Path) -> Result<Exit> {
    let saved = Report::load(folder).map_err(|error| Usage(error.to_string()))?;
    let again = rescore(folder, &saved);
    show(&board(&again.report))?;
    for change in &again.changes {
        show(change)?;
    }
    if again.changes.is_empty() {
        let trials = if again.trials == 1 { "1 trial".to_owned() } else { format!("{} trials", again.trials) };
        show(&format!("{trials} judged again: every observation as saved"))?;
    }
    if !again.damaged.is_empty() {
        let (count, list) = (again.damaged.len(), again.damaged.join("\n  "));
        let what = format!("{count} of {} trials can't be judged again and count as invalid here:\n  {list}", again.trials);
        return Err(Usage(format!("{what}\nbring back the run's folder as it was written")).into());
    }
    if !again.changes.is_empty() && again.same_rules {
        let places = report::counted(again.changes.len() as u64, "place");
        return Err(Usage(format!(
            "{} says otherwise than the evidence beside it, in {places}: one of them was edited: bring back the run's folder as it was written",
            folder.join(report::FILE).display()
        ))
        .into());
    }
    if !again.same_rules {
        let (wrote, this) = (&saved.hangproof, env!("CARGO_PKG_VERSION"));
        show(&format!("hangproof {wrote} judged by rules {}, this is {this} with rules {RULES}", saved.rules))?;
    }
    if !saved.complete {
        show("the run was cut short: its other trials are missing")?;
    }
    // What has shown nothing so far isn't as expected.
    let nothing_yet = !saved.complete || again.trials == 0;
    Ok(match again.report.exit() {
        Exit::Expected if nothing_yet => Exit::Inconclusive,
        exit => exit,
    })
}

/// The run's folder, of which one may have named the report.
fn run_of(named: &Path) -> &Path {
    let folder = named.parent().filter(|_| named.ends_with(report::FILE) && named.is_file());
    folder.map_or(named, |folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder })
}

fn reported(
    run: &std::path::Path,
    format: Option<Format>,
    out: Option<&std::path::Path>,
    bundle: Option<&std::path::Path>,
) -> Result<Exit> {
    let mut source = Saved::open(run).map_err(|error| Usage(error.to_string()))?;
    let out = out.map(|out| source.place(out, format)).transpose().map_err(Usage)?;
    let bundle = bundle.map(|bundle| source.place(bundle, None)).transpose().map_err(Usage)?;
    if let (Some(one), true) = (&out, out == bundle) {
        return Err(Usage(format!("--out and --bundle are one file, {}: name two", one.display())).into());
    }
    if let Some(format) = format {
        let text = source.render(format)?;
        match out {
            Some(out) => report::write_whole(&out, text.as_bytes()).map_err(|error| unwritable(&out, error))?,
            None => show(&text)?,
        }
    }
    if let Some(place) = bundle {
        source.bundle(&place).map_err(|error| unwritable(&place, error))?;
    }
    if let Some(untold) = source.comparison().untold() {
        complain(&plain(&format!("warning: {untold}")));
    }
    source.damaged().iter().for_each(|line| complain(&plain(&format!("warning: left out: {line}"))));
    let contradictions = source.comparison().contradictions();
    if contradictions.is_empty() {
        return Ok(Exit::Expected);
    }
    let (report, list) = (run.join(report::FILE), contradictions.join("\n  "));
    let told = "says otherwise than the evidence beside it, and so does what was made here: one of them was edited";
    Err(Usage(format!("{} {told}:\n  {list}", report.display())).into())
}

fn collect(keep_days: u32, max_size: Option<u64>, dry_run: bool) -> Result<Exit> {
    let store = Store::open()?;
    let day = Duration::from_secs(24 * 60 * 60);
    let policy = Policy { keep: Some(day * keep_days), max_size: max_size.map(|gib| gib.saturating_mul(1 << 30)) };
    if !dry_run {
        let _ = store.sweep();
    }
    let collected = gc::gc(&store, policy, dry_run)?;
    let mib = |bytes: u64| bytes / (1 << 20);
    let verb = if dry_run { "would remove" } else { "removed" };
    for item in &collected.removed {
        show(&format!("{verb} {} ({} MiB)", item.path.display(), mib(item.bytes)))?;
    }
    for item in &collected.in_use {
        show(&format!("in use: {} ({} MiB)", item.path.display(), mib(item.bytes)))?;
    }
    let kept: u64 = collected.kept.iter().chain(&collected.in_use).map(|item| item.bytes).sum();
    show(&format!("{} MiB stay in {}", mib(kept), store.root().display()))?;
    Ok(Exit::Expected)
}
