//! The command line: arguments in, exit code out.
//!
//! It parses, calls the layers below, and prints their results: tables to standard output, trouble to standard error. It decides nothing about kernels.
//!
//! Read [`Cli`] first, then [`main`].

mod bisect;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use clap::{Args, Parser, Subcommand};
use tokio::sync::watch;

use self::bisect::{BisectArguments, StepArguments};
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
use crate::spec::{
    Definitions, Expected, Kernel, Mitigation, Name, Pipeline, Problems, Source, Toolchain, duration, load, load_for, nearest,
};
use crate::store::{Store, StoreError};
use crate::text::{for_a_shell, plain};
use crate::trial::stopped;
use crate::{build, doctor, image, shell};

/// Proves that a kernel patch removes a hang: builds kernels, boots each in a VM, runs a reproducer inside, and says pass or hang.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 120)]
pub struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
struct Common {
    /// Folder that holds kernels/, images/ and pipelines/ [default: the first at or above the current folder]
    #[arg(long, global = true, value_name = "DIR")]
    definitions: Option<PathBuf>,
    /// Build this kernel, and those that extend it, from another source: a folder, a tarball or a source package; for a prebuilt kernel, its .deb
    /// or .rpm, once for each package that it needs
    #[arg(long, global = true, value_name = "KERNEL=PATH", value_parser = pair)]
    source: Vec<(String, String)>,
    /// Where CentOS's packages come from: a URL in place of https://vault.centos.org, or a folder that holds them
    #[arg(long, global = true, env = "HANGPROOF_VAULT", value_name = "URL-or-FOLDER")]
    vault: Option<String>,
    /// Build this kernel, and those that extend it, by another toolchain: host:COMPILER, debian:SUITE:COMPILER or container:IMAGE:COMPILER
    #[arg(long, global = true, value_name = "KERNEL=TOOLCHAIN", value_parser = pair)]
    toolchain: Vec<(String, String)>,
    /// Configure this kernel, and those that extend it, from a file in place of its base configuration
    #[arg(long, global = true, value_name = "KERNEL=FILE", value_parser = pair)]
    configuration: Vec<(String, String)>,
    /// Show no progress, only warnings and results
    #[arg(long, short, global = true)]
    quiet: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check what this machine has: QEMU, KVM, compilers, the programs that images are made with
    Doctor,
    /// Show the kernels, images and pipelines that are defined
    List,
    /// Build a kernel
    Build {
        /// The kernel
        kernel: Name,
        /// Compilers at once [default: all CPUs]
        #[arg(long, short, value_parser = clap::value_parser!(u16).range(1..))]
        jobs: Option<u16>,
    },
    /// Make an image's disks
    Image {
        /// The image
        image: Name,
    },
    /// Run a pipeline: build its kernels, boot each, run the reproducer, and score them
    Run(RunArguments),
    /// Prove that candidates are free of a baseline's hang: interleaved trials, as many as it takes
    Prove(ProveArguments),
    /// Run a kernel that hangs, and propose how long a trial of the pipeline should last and how many a proof takes
    Calibrate(CalibrateArguments),
    #[command(mut_arg("out", |out| out.help("Folder for the results; must not hold a report [default: runs/PIPELINE-TIME; begun inside the repository, below .git/hangproof]")))]
    /// Find the commit, kernel, patch or configuration symbol that brought a hang, with a reproducer that doesn't always hang
    Bisect(BisectArguments),
    #[command(mut_arg("out", |out| out.help("Folder that holds the steps' folders, COMMIT-TIME [default: runs; inside the repository, .git/hangproof]")))]
    /// Test the checked-out commit for `git bisect run`: exits with 0 for good, 1 for bad, 125 if that can't be told, 128 for our own trouble
    BisectStep(StepArguments),
    /// Judge a run's saved evidence again, without a VM: exits as the verdicts are now, or with 2 if the report says otherwise than its evidence although
    /// it was judged by the same rules
    Rescore {
        /// The run's folder
        run: PathBuf,
    },
    /// Write a run's report for others: host and user names, home and cache folders and keys are replaced
    Report {
        /// The run's folder
        run: PathBuf,
        /// The form
        #[arg(long, short, value_enum, required_unless_present = "bundle")]
        format: Option<Format>,
        /// File for it, which is replaced if it is there [default: standard output]
        #[arg(long, short, value_name = "FILE", requires = "format")]
        out: Option<PathBuf>,
        /// Write everything into one archive, which is replaced if it is there: reports, evidence, configurations, patches, provenance, digests
        #[arg(long, value_name = "FILE.tar.zst")]
        bundle: Option<PathBuf>,
    },
    /// Boot a kernel and open a shell in it, or run a command
    Shell {
        /// The kernel
        kernel: Name,
        /// The image
        #[arg(long, default_value = "ext4-on-md")]
        image: Name,
        /// Loopback port for ssh [default: a free one]
        #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
        ssh_port: Option<u16>,
        /// Program and arguments to run instead of a shell
        #[arg(last = true)]
        words: Vec<String>,
    },
    /// Remove what wasn't used for long from the store
    Gc {
        /// Remove what wasn't used for so many days
        #[arg(long, value_name = "N", default_value_t = 30)]
        keep_days: u32,
        /// Remove the least recently used until the rest is smaller than this many GiB
        #[arg(long, value_name = "GIB")]
        max_size: Option<u64>,
        /// Only say what would be removed
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Debug, Args)]
struct RunArguments {
    /// The pipeline
    pipeline: Name,
    /// Run only these kernels; others than the pipeline's are allowed and have no expectation
    #[arg(long, short, value_name = "K")]
    kernel: Vec<Name>,
    /// Run only with these of the pipeline's mitigations; `none` is the kernel alone
    #[arg(long, short, value_name = "M")]
    mitigation: Vec<Name>,
    /// Trials per kernel [default: the pipeline's]
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    repeats: Option<u32>,
    /// VMs at once [default: as many as fit the host's CPUs and memory]
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,
    /// Folder for the results; must not hold a report [default: runs/PIPELINE-TIME]
    #[arg(long, short, value_name = "DIR")]
    out: Option<PathBuf>,
    /// After which hangs to dump the guest's memory, list all tasks on the console and force a panic
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = When::First)]
    dump: When,
    /// Set a parameter of the reproducer
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    set: Vec<(String, String)>,
}

#[derive(Debug, Args)]
struct ProveArguments {
    /// The pipeline; what it expects of its kernels doesn't matter
    pipeline: Name,
    /// The kernel that hangs
    #[arg(long, short, value_name = "K")]
    baseline: Name,
    /// A kernel in which the hang should be gone
    #[arg(long, short, value_name = "K", required = true)]
    candidate: Vec<Name>,
    /// How long a trial lasts, for example 20s [default: what the pipeline says for proofs, or else what the baseline's time to hang suggests]
    #[arg(long, short, value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,
    /// Trials of all arms after which it ends without an answer [default: twice what a design of fixed size takes]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    max_trials: Option<u64>,
    /// What the order of the trials is made from [default: the time]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    #[command(flatten)]
    design: DesignArguments,
    #[command(flatten)]
    common: TrialArguments,
}

#[derive(Debug, Args)]
struct CalibrateArguments {
    /// The pipeline
    pipeline: Name,
    /// The kernel that hangs
    #[arg(long, short, value_name = "K")]
    kernel: Name,
    /// Trials
    #[arg(long, short = 'n', value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(3..=1000))]
    trials: u32,
    /// How long a trial lasts if it doesn't hang, for example 60s [default: the pipeline's]
    #[arg(long, short, value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,
    #[command(flatten)]
    design: DesignArguments,
    #[command(flatten)]
    common: TrialArguments,
}

/// What a proof is to show.
#[derive(Debug, Args)]
struct DesignArguments {
    /// An answer `fixed` is wrong with a probability of at most 1 minus this
    #[arg(long, value_name = "SHARE", default_value_t = 0.95, value_parser = |text: &str| share(text, 0.5, 0.9999))]
    confidence: f64,
    /// The hang rate per trial that a fixed candidate is shown to stay below
    #[arg(long, value_name = "RATE", default_value_t = 0.05, value_parser = |text: &str| share(text, 0.001, 0.15))]
    residual: f64,
    /// The probability with which a baseline that hangs in a fifth of the trials is to be shown to hang, of which the limit on trials and the repeats follow
    #[arg(long, value_name = "SHARE", default_value_t = 0.95, value_parser = |text: &str| share(text, 0.5, 0.9999))]
    power: f64,
}

/// How trials are run.
#[derive(Debug, Args)]
struct TrialArguments {
    /// VMs at once [default: as many as fit the host's CPUs and memory]
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,
    /// Folder for the results; must not hold a report [default: runs/PIPELINE-TIME]
    #[arg(long, short, value_name = "DIR")]
    out: Option<PathBuf>,
    /// After which hangs to dump the guest's memory, list all tasks on the console and force a panic
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = When::Never)]
    dump: When,
    /// Set a parameter of the reproducer
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    set: Vec<(String, String)>,
}

impl DesignArguments {
    fn design(&self, candidates: usize) -> Design {
        let Self { confidence, residual, power } = *self;
        Design { confidence, residual, power, ..Design::new(candidates) }.with_limit(candidates)
    }
}

fn share(text: &str, least: f64, most: f64) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "write a number such as 0.95")?;
    if (least..=most).contains(&number) { Ok(number) } else { Err(format!("write a number from {least} to {most}")) }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    if key.is_empty() || value.is_empty() { Err("write it as NAME=VALUE".to_owned()) } else { Ok((key.to_owned(), value.to_owned())) }
}

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

fn theme() -> miette::GraphicalTheme {
    if colour() { miette::GraphicalTheme::unicode() } else { miette::GraphicalTheme::unicode_nocolor() }
}

/// Whether to colour standard output: a terminal, and `NO_COLOR` isn't set.
fn colour() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn width() -> Option<u16> {
    let stdout = std::io::stdout();
    if !stdout.is_terminal() {
        return Some(160);
    }
    // A terminal that doesn't know its size says 0.
    Some(rustix::termios::tcgetwinsize(stdout).map_or(0, |size| size.ws_col)).map(|columns| if columns < 40 { 80 } else { columns })
}

/// Says it on standard error, if that can be written.
fn complain(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{}", text.trim_end());
}

/// Lines of ours with words of others in them, without what a terminal would take for itself.
fn readable(text: &str) -> String {
    text.lines().map(plain).collect::<Vec<_>>().join("\n")
}

/// Prints a result; a reader that has gone away (`| head`) is no trouble.
///
/// # Errors
/// When it can't be written otherwise: into a file on a full disk.
fn show(text: &str) -> Result<()> {
    use std::io::Write as _;
    let mut stdout = std::io::stdout();
    match writeln!(stdout, "{}", text.trim_end()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("writing to standard output"),
        _ => Ok(()),
    }
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

/// What a command needs of the definitions.
enum Needs<'a> {
    /// That nothing is wrong with any.
    Everything,
    /// All but the pipelines, and this one if one is named.
    Pipeline(Option<&'a Name>),
}

impl Command {
    fn needs(&self) -> Needs<'_> {
        match self {
            Self::Doctor | Self::List | Self::Rescore { .. } | Self::Report { .. } | Self::Gc { .. } => Needs::Everything,
            Self::Build { .. } | Self::Image { .. } | Self::Shell { .. } => Needs::Pipeline(None),
            Self::Run(RunArguments { pipeline, .. })
            | Self::Prove(ProveArguments { pipeline, .. })
            | Self::Calibrate(CalibrateArguments { pipeline, .. })
            | Self::Bisect(BisectArguments { pipeline, .. })
            | Self::BisectStep(StepArguments { pipeline, .. }) => Needs::Pipeline(Some(pipeline)),
        }
    }
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

/// Makes a run's folder and takes possession of it: the event log is created there, which only one run can do.
fn claim(out: &std::path::Path, progress: &mut Progress, goes_on: bool) -> Result<()> {
    let unusable = |error: std::io::Error| {
        anyhow!(Usage(format!("{} can't take the results: {error}: choose another folder with --out", out.display())))
    };
    if goes_on {
        return progress.log_on(out).map_err(|error| match error.kind() {
            std::io::ErrorKind::WouldBlock => {
                anyhow!(Usage(format!("{}: another hangproof works in it: wait until that has ended, or stop it", out.display())))
            }
            std::io::ErrorKind::NotFound => {
                anyhow!(Usage(format!("{} holds no search to go on with: leave out --resume, or name its folder", out.display())))
            }
            _ => unusable(error),
        });
    }
    let absolute = real(out).map_err(unusable)?;
    let is_run = |folder: &&Path| [report::FILE, crate::progress::EVENTS].iter().all(|name| folder.join(name).exists());
    if let Some(run) = absolute.ancestors().skip(1).find(is_run) {
        return Err(anyhow!(Usage(format!(
            "{} lies in another run's folder, {}: choose another one with --out",
            out.display(),
            run.display()
        ))));
    }
    std::fs::create_dir_all(out).map_err(unusable)?;
    if out.join(report::FILE).exists() {
        return Err(anyhow!(Usage(format!("{} holds a report already: choose another folder with --out", out.display()))));
    }
    // They may be anybody's: `kernels` is a folder of the definitions, too.
    if let Some(name) = report::FOLDERS.into_iter().find(|name| out.join(name).symlink_metadata().is_ok()) {
        return Err(anyhow!(Usage(format!("{} holds {name} already, as a run makes it: choose another folder with --out", out.display()))));
    }
    progress.log_to(out).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            anyhow!(Usage(format!("{} is another run's folder: choose another one with --out", out.display())))
        }
        _ => unusable(error),
    })
}

/// A path whose folders may not all be there: links and `..` resolved as far as they are.
fn real(path: &Path) -> std::io::Result<PathBuf> {
    let whole = std::path::absolute(path)?;
    for known in whole.ancestors() {
        if let (Ok(found), Ok(rest)) = (known.canonicalize(), whole.strip_prefix(known)) {
            return Ok(found.join(rest));
        }
    }
    Ok(whole)
}

/// Removes the folder of a run that came to nothing, so that the same command can be given again.
fn give_back(out: &Path) {
    match Report::load(out) {
        Ok(report) if report.kernels.is_empty() => {
            report::forget_pipeline(out, report.reproducer_source.as_deref());
            let _ = std::fs::remove_file(out.join(report::FILE));
        }
        Err(_) if !out.join(report::FILE).exists() => {}
        Ok(_) | Err(_) => return,
    }
    let _ = std::fs::remove_file(out.join(crate::progress::EVENTS));
    let _ = std::fs::remove_dir(out);
}

/// The command that repeats the run, quoted for a shell: as it was given, but for the folder of the results, which is taken now.
fn command_line() -> String {
    let words = repeatable(std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()));
    std::iter::once("hangproof".to_owned()).chain(words.iter().map(|word| for_a_shell(word))).collect::<Vec<_>>().join(" ")
}

/// The words without `--out DIR`, in all its forms, and `--resume`.
fn repeatable(mut words: impl Iterator<Item = String>) -> Vec<String> {
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        if word == "--" {
            kept.push(word);
            kept.extend(words);
            break;
        }
        let short = word.strip_prefix('-').filter(|rest| !rest.starts_with('-'));
        // `-o DIR`, `-oDIR` and `-qo DIR`: the only short option without a value is `-q`.
        let flags = short.map_or("", |rest| rest.trim_start_matches('q'));
        if word == "--out" || flags == "o" {
            words.next();
            kept.extend(short.filter(|rest| rest.len() > 1).map(|_| "-q".to_owned()));
        } else if flags.starts_with('o') {
            kept.extend(short.filter(|rest| rest.starts_with('q')).map(|_| "-q".to_owned()));
        } else if !word.starts_with("--out=") && word != "--resume" {
            kept.push(word);
        }
    }
    kept
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

/// A file that can't be written: where it is to be is the user's choice, a full disk isn't.
fn unwritable(place: &Path, error: std::io::Error) -> anyhow::Error {
    use std::io::ErrorKind::{IsADirectory, NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem};
    let choice = matches!(error.kind(), IsADirectory | NotADirectory | NotFound | PermissionDenied | ReadOnlyFilesystem);
    // Without the name of the temporary file beside it.
    let cause = error.raw_os_error().map_or_else(|| std::io::Error::from(error.kind()), std::io::Error::from_raw_os_error);
    if choice {
        anyhow!(Usage(format!("{} can't be written: {cause}: choose another file", place.display())))
    } else {
        anyhow!(cause).context(format!("writing {}", place.display()))
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_repeated_without_its_folder() {
        let kept = |line: &str| repeatable(line.split(' ').map(str::to_owned)).join(" ");
        for line in ["run p --out a", "run p --out=a", "run p -o a", "run p -oa", "run p -o=a", "run p --resume -o a"] {
            assert_eq!(kept(line), "run p", "{line}");
        }
        assert_eq!((kept("-qo a run p"), kept("run -qoa p"), kept("run p -q")), ("-q run p".into(), "run -q p".into(), "run p -q".into()));
        assert_eq!(kept("run p --set out=3 -k only -- --out x"), "run p --set out=3 -k only -- --out x");
    }
}
