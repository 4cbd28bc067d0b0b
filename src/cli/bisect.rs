//! `bisect` and `bisect-step`: their arguments, checked against the definitions and the repository before anything is made.
//!
//! Read [`BisectArguments`] first, then [`prepare`].

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use clap::{Args, ValueEnum};

use super::arguments::{TrialArguments, share};
use super::folder::real;
use super::{Prepared, Usage, fault, prepare_trials};
use crate::bisect::{Axis, Commits, Frame, over_commits, over_config, over_kernels, over_patches, recipe};
use crate::event::Events;
use crate::fault::Whose;
use crate::report::{self, Point, Report, SearchSetup, StepDesign, StepReport};
use crate::rescore::RULES;
use crate::run::Plan;
use crate::search::Design;
use crate::source::history::Repository;
use crate::spec::{Definitions, Name, Pipeline, duration, nearest};
use crate::store::Store;

/// What a line consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Over {
    /// The commits between two revisions of --repo
    Commits,
    /// Kernels that are defined, from the oldest to the newest: --kernel, several times, or the pipeline's
    Kernels,
    /// The patches of --kernel, in their order; if its own source is a source package, the package's patches come first
    Patches,
    /// What two configurations of --kernel differ in: --good FILE --bad FILE
    Config,
}

#[derive(Debug, Args)]
pub(super) struct BisectArguments {
    /// The pipeline
    pub(super) pipeline: Name,
    /// What is searched
    #[arg(long, value_enum, default_value_t = Over::Commits)]
    over: Over,
    /// The repository; it is only read [default: the one that holds this folder]
    #[arg(long, value_name = "DIR")]
    repo: Option<PathBuf>,
    /// The end that doesn't hang: a revision, a kernel of the line, or a configuration
    #[arg(long, value_name = "END", allow_hyphen_values = false)]
    good: Option<String>,
    /// The end that hangs
    #[arg(long, value_name = "END")]
    bad: Option<String>,
    /// Look for what repaired it: the bad end is older than the good one
    #[arg(long)]
    find_fix: bool,
    /// The kernel that says how commits are built, or whose patches or configuration are searched; over kernels, the line [default: what the pipeline's have in common]
    #[arg(long, short, value_name = "K")]
    kernel: Vec<Name>,
    /// The answer is wrong with a probability of at most 1 minus this
    #[arg(long, value_name = "SHARE", default_value_t = 0.95, value_parser = |text: &str| share(text, 0.5, 0.9999))]
    confidence: f64,
    /// Leave this one of the line out, as if it couldn't be built; several times, also with --resume
    #[arg(long, value_name = "POINT")]
    skip: Vec<String>,
    /// Trials after which it ends without an answer
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    max_trials: u64,
    /// How long a trial lasts, for example 20s [default: the pipeline's]
    #[arg(long, short, value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,
    /// Go on with the search in --out, which was stopped or killed: give the same arguments again
    #[arg(long, requires = "out")]
    pub(super) resume: bool,
    #[command(flatten)]
    pub(super) common: TrialArguments,
}

impl BisectArguments {
    pub(super) fn is_over_commits(&self) -> bool {
        self.over == Over::Commits
    }
}

#[derive(Debug, Args)]
pub(super) struct StepArguments {
    /// The pipeline
    pub(super) pipeline: Name,
    /// The repository that `git bisect` has checked out; its HEAD is tested
    #[arg(long, value_name = "DIR", default_value = ".")]
    repo: PathBuf,
    /// The kernel that says how it is built [default: what the pipeline's have in common]
    #[arg(long, short, value_name = "K")]
    kernel: Option<Name>,
    /// The hang rate of a bad commit: a lower one takes more passes
    #[arg(long, value_name = "RATE", default_value_t = 0.5, value_parser = |text: &str| share(text, 0.01, 1.0))]
    hang_rate: f64,
    /// A good commit is called so wrongly with a probability of at most 1 minus this
    #[arg(long, value_name = "SHARE", default_value_t = 0.99, value_parser = |text: &str| share(text, 0.5, 0.9999))]
    confidence: f64,
    /// How long a trial lasts, for example 20s [default: the pipeline's]
    #[arg(long, short, value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,
    #[command(flatten)]
    pub(super) common: TrialArguments,
}

/// What is wrong with the arguments, or with what they name. Our own trouble stays what it is.
fn usage(error: anyhow::Error) -> anyhow::Error {
    if error.chain().find_map(fault) == Some(Whose::Ours) { error } else { anyhow!(Usage(format!("{error:#}"))) }
}

/// The kernel that the pipeline's are made from, if it is one.
fn common_root(definitions: &Definitions, pipeline: &Pipeline) -> Result<Name> {
    let mut roots: Vec<&Name> = pipeline.kernels.iter().filter_map(|(name, _)| definitions.origin(name)).collect();
    roots.sort();
    roots.dedup();
    match roots.as_slice() {
        [root] => Ok((*root).clone()),
        roots => {
            let names: Vec<_> = roots.iter().map(|name| name.as_str()).collect();
            let names = names.join(", ");
            Err(anyhow!(Usage(format!("the kernels of {} have several bases ({names}): choose one by --kernel", pipeline.name))))
        }
    }
}

fn one_kernel(definitions: &Definitions, pipeline: &Pipeline, given: &[Name]) -> Result<Name> {
    match given {
        [] => common_root(definitions, pipeline),
        [one] => Ok(one.clone()),
        _ => Err(anyhow!(Usage("--kernel is for one kernel here: only `--over kernels` takes several".to_owned()))),
    }
}

/// Checks the arguments of a search and makes its line.
pub(super) async fn prepare(store: &Store, definitions: &Definitions, arguments: &BisectArguments, events: &Events) -> Result<Prepared> {
    let BisectArguments { pipeline, confidence, max_trials, find_fix, duration, common, resume, .. } = arguments;
    let nothing = Plan::Repeats(0);
    let mut prepared = prepare_trials(definitions, pipeline, &[], *duration, common, nothing)?;
    let design = Design { confidence: *confidence, max_trials: *max_trials };
    let seconds = prepared.pipeline.limits.duration.as_secs_f64();
    let frame = Frame { design, find_fix: *find_fix, duration: seconds };
    let (mut setup, axis) = line(store, &mut prepared, arguments, frame, events).await.map_err(usage)?;
    setup.skip = skipped(&setup, &axis, &arguments.skip).await.map_err(usage)?;
    setup.recipe = recipe(&prepared.definitions, &setup, &prepared.pipeline).map_err(usage)?;
    prepared.plan = Plan::Search(setup, axis, None);
    prepared.goes_on = *resume;
    Ok(prepared)
}

/// Takes up what a search that was cut short left in its folder, which nobody else has now.
pub(super) fn take_up(prepared: &mut Prepared, events: &Events) -> Result<()> {
    if let Plan::Search(setup, _, before) = &mut prepared.plan {
        *before = resumed(&prepared.out, setup)?.map(Box::new);
        let skipped = before.iter().filter_map(|before| before.search.as_ref()).flat_map(|search| &search.setup.skip);
        for kernel in skipped {
            if !setup.skip.contains(kernel) {
                events.warn(format!("{kernel} is skipped, as it was before"));
                setup.skip.push(kernel.clone());
            }
        }
    }
    Ok(())
}

async fn line(
    store: &Store,
    prepared: &mut Prepared,
    arguments: &BisectArguments,
    frame: Frame,
    events: &Events,
) -> Result<(SearchSetup, Axis)> {
    let BisectArguments { over, repo, good, bad, kernel, find_fix, common, .. } = arguments;
    let Prepared { definitions, pipeline, .. } = prepared;
    if *over != Over::Commits && repo.is_some() {
        anyhow::bail!("--repo is for the commits of a repository: leave it out, or search `--over commits`");
    }
    let both = |what: &str| match (good, bad) {
        (Some(good), Some(bad)) => Ok(if *find_fix { [bad.as_str(), good.as_str()] } else { [good.as_str(), bad.as_str()] }),
        (_, _) => Err(anyhow!("--good and --bad are both needed: {what}")),
    };
    match over {
        Over::Commits => {
            let template = one_kernel(definitions, pipeline, kernel)?;
            let ends = both("two revisions of the repository")?;
            let (setup, commits) = over_commits(definitions, &template, repo.as_deref().unwrap_or(Path::new(".")), ends, frame).await?;
            match &common.out {
                Some(out) if real(out)? == in_gits_folder(commits.repository()) => {
                    anyhow::bail!("{} is for folders of searches that have no --out: name another one with --out", out.display());
                }
                Some(out) => beside_its_files(commits.repository(), out).await?,
                None => prepared.out = beside(commits.repository()).map_or_else(|| prepared.out.clone(), |out| out.join(&prepared.out)),
            }
            Ok((setup, Axis::Commits(Box::new(commits))))
        }
        Over::Kernels => {
            let all: Vec<Name> =
                if kernel.is_empty() { pipeline.kernels.iter().map(|(name, _)| name.clone()).collect() } else { kernel.clone() };
            let place = |end: &Option<String>, default: usize| match end {
                None => Ok(default),
                Some(end) => all
                    .iter()
                    .position(|name| name.as_str() == end)
                    .with_context(|| format!("{end} is none of the line's kernels: {}", nearest(end, all.iter().map(Name::as_str)))),
            };
            if all.len() < 2 {
                anyhow::bail!("a line has two kernels at least: name them by --kernel, from the oldest to the newest");
            }
            let last = all.len().saturating_sub(1);
            let (old, new) = if *find_fix { (bad, good) } else { (good, bad) };
            let (old, new) = (place(old, 0)?, place(new, last)?);
            if old >= new {
                let remedy = if *find_fix { "leave out --find-fix" } else { "add --find-fix to look for what repaired it" };
                anyhow::bail!(
                    "the ends are swapped or the same: the line goes from the oldest kernel to the newest; exchange --good and --bad, or {remedy}"
                );
            }
            Ok((over_kernels(definitions, &all[old..=new], frame)?, Axis::Defined))
        }
        Over::Patches => {
            let [kernel] = kernel.as_slice() else { anyhow::bail!("--kernel names the kernel whose patches are searched: give one") };
            if good.is_some() || bad.is_some() {
                anyhow::bail!("the ends are the kernel without its patches and with all of them: leave out --good and --bad");
            }
            let kernel = kernel.clone();
            over_patches(store, definitions, &kernel, frame, events).await
        }
        Over::Config => {
            let kernel = one_kernel(definitions, pipeline, kernel)?;
            let ends = both("two configurations, as files")?.map(Path::new);
            let (setup, symbols) = over_config(definitions, &kernel, ends, frame)?;
            Ok((setup, Axis::Symbols(Box::new(symbols))))
        }
    }
}

/// The kernels of the points that aren't to be tested.
async fn skipped(setup: &SearchSetup, axis: &Axis, skip: &[String]) -> Result<Vec<Name>> {
    let mut kernels = Vec::new();
    let line: Vec<&Point> = std::iter::once(&setup.good_end).chain(&setup.points).collect();
    let is_end = |point: &Point| *point == setup.good_end || Some(point) == setup.points.last();
    for what in skip {
        let commit = match axis {
            Axis::Commits(commits) => Some(commits.repository().commit(what).await?.id),
            Axis::Defined | Axis::Package(_) | Axis::Symbols(_) => None,
        };
        // Patches and symbols by their short names, too, as definitions and people write them.
        let full = commit.as_deref().unwrap_or(what);
        let by_name: Vec<&Point> = line.iter().copied().filter(|point| point.what == full).collect();
        let named = |point: &&Point| point.what.strip_prefix("CONFIG_") == Some(full) || point.what.ends_with(&format!("/{full}"));
        let found = if by_name.is_empty() { line.iter().copied().filter(named).collect() } else { by_name };
        let point = match found.as_slice() {
            [point] => *point,
            [] => {
                let between = line.iter().copied().filter(|point| !is_end(point));
                let remedy = match axis {
                    Axis::Commits(_) => "name a commit between the ends, on their line of first parents".to_owned(),
                    Axis::Defined | Axis::Package(_) | Axis::Symbols(_) if line.len() < 3 => "leave it out".to_owned(),
                    Axis::Defined | Axis::Package(_) | Axis::Symbols(_) => nearest(what, between.map(|point| point.what.as_str())),
                };
                anyhow::bail!("--skip {what}: it is not on the line: {remedy}");
            }
            several => {
                let names: Vec<_> = several.iter().map(|point| point.what.as_str()).collect();
                anyhow::bail!("--skip {what}: several of the line are called so: name one of {}", names.join(", "));
            }
        };
        if is_end(point) {
            anyhow::bail!("--skip {what}: it is an end, without which there is no search: leave it out, or search between other ends");
        }
        kernels.push(point.kernel.clone());
    }
    Ok(kernels)
}

/// Refuses a folder for results in which the repository, or git, has files.
async fn beside_its_files(repository: &Repository, out: &Path) -> Result<()> {
    let (real, git) = (real(out)?, repository.git_folder());
    if real.starts_with(git) && !real.starts_with(in_gits_folder(repository)) {
        anyhow::bail!("{} lies in git's own folder: name another one with --out", out.display());
    }
    if repository.tracks(&real).await? {
        anyhow::bail!("{} holds files of the repository, between which results would lie: name another folder with --out", out.display());
    }
    Ok(())
}

/// Our place in git's own folder.
fn in_gits_folder(repository: &Repository) -> PathBuf {
    repository.git_folder().join("hangproof")
}

/// Where results go if they would lie in the user's checkout: beside git's own state of a bisection.
fn beside(repository: &Repository) -> Option<PathBuf> {
    let here = std::env::current_dir().ok()?.canonicalize().ok()?;
    here.starts_with(repository.path()).then(|| in_gits_folder(repository))
}

/// The report of a search that goes on, and nothing of trials that aren't in it.
fn resumed(out: &Path, setup: &SearchSetup) -> Result<Option<Report>> {
    let unusable = |why: String| anyhow!(Usage(format!("{}: {why}", out.display())));
    if !out.join(report::FILE).exists() {
        if out.join(report::TRIALS).exists() {
            return Err(unusable(format!("it holds trials, and its {} is gone: bring it back, or name another folder", report::FILE)));
        }
        // It was cut short before there was anything to save.
        return Ok(None);
    }
    let report = Report::load(out).map_err(|error| anyhow!(Usage(error.to_string())))?;
    let Some(search) = &report.search else { return Err(unusable("this is no search's folder: leave out --resume".to_owned())) };
    if report.rules != RULES {
        let (wrote, theirs) = (&report.hangproof, report.rules);
        let why = format!("its trials were judged by rules {theirs} of hangproof {wrote}, and these are rules {RULES}");
        return Err(unusable(format!("{why}: go on with that hangproof, or leave out --resume and name another folder")));
    }
    let differ = |one: &SearchSetup, other: &SearchSetup| {
        let pairs = [
            ("what is searched", one.over != other.over || one.find_fix != other.find_fix),
            ("the line or its ends", one.good_end != other.good_end || one.points != other.points),
            ("the trials' duration", one.duration != other.duration),
            ("the confidence", one.design.confidence != other.design.confidence),
            ("how its kernels are defined, or the pipeline's cgroup, boot-arguments or hang,", one.recipe != other.recipe),
        ];
        pairs.into_iter().find(|(_, differs)| *differs).map(|(what, _)| what)
    };
    if let Some(what) = differ(&search.setup, setup) {
        let (good, bad) = (&search.setup.good_end.what, search.setup.points.last().map_or("", |point| point.what.as_str()));
        let again = format!("give the arguments and the definitions that it was started with; its ends are {good} and {bad}");
        return Err(unusable(format!("{what} is another one in this search: {again} ({})", report.command)));
    }
    Ok(Some(report))
}

/// Checks the arguments of a step.
pub(super) async fn prepare_step(definitions: &Definitions, arguments: &StepArguments) -> Result<Prepared> {
    let StepArguments { pipeline, repo, kernel, hang_rate, confidence, duration, common } = arguments;
    let mut prepared = prepare_trials(definitions, pipeline, &[], *duration, common, Plan::Repeats(0))?;
    let template = match kernel {
        Some(kernel) => kernel.clone(),
        None => common_root(&prepared.definitions, &prepared.pipeline)?,
    };
    let made = async {
        let repository = Repository::open(repo).await?;
        repository.whole().await?;
        let head = repository.commit("HEAD").await?;
        let commits = Commits::new(&prepared.definitions, &template, repository, std::iter::once(&head))?;
        commits.check_step(&head).await?;
        if let Some(out) = &common.out {
            beside_its_files(commits.repository(), out).await?;
        }
        anyhow::Ok((head, commits))
    };
    let (head, commits) = made.await.map_err(usage)?;
    // Each step of a bisection has a folder of its own.
    let below = common.out.clone().or_else(|| beside(commits.repository())).unwrap_or_else(|| "runs".into());
    let time = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string();
    prepared.out = below.join(format!("{}-{time}-{}", head.short(), std::process::id()));
    let step = StepReport::new(StepDesign { hang_rate: *hang_rate, confidence: *confidence }, head.id.clone());
    prepared.plan = Plan::Step(step, Commits::kernel(&head), Axis::Commits(Box::new(commits)));
    Ok(prepared)
}
