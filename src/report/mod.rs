//! What a run leaves behind: `report.json`, the trials' evidence, and the scoreboard.
//!
//! Everything here returns text or writes files of a run's folder; nothing is judged, and nothing is printed. A file is written beside its place and
//! renamed, so a report is whole or the one before.
//!
//! Read [`Report`] first.

mod account;
mod bugzilla;
mod bundle;
mod calibration;
mod case;
mod html;
mod json;
mod junit;
mod kernels;
mod list;
mod load;
mod markdown;
mod materials;
mod proof;
mod provenance;
mod redact;
mod scoreboard;
mod search;
mod seen;
mod step;
mod text;
mod timeline;
mod trials;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use self::bugzilla::bugzilla;
pub use self::bundle::bundle;
pub use self::calibration::{CalibrationReport, calibration};
pub use self::case::{Case, Comparison, Damage, arm};
pub use self::html::{PAGE, html};
pub use self::json::json;
pub use self::junit::junit;
pub use self::kernels::{forget_pipeline, save_inputs, save_pipeline};
pub use self::list::list;
pub use self::load::LoadError;
use self::load::parsed;
pub use self::markdown::markdown;
pub use self::proof::{Candidate, ProofArm, ProofReport, ProofSummary, Reading, Setup, load as load_of};
pub use self::redact::{Private, Redactor, tells};
pub use self::scoreboard::scoreboard;
pub use self::search::{Course, Over, Point, SearchAnswer, SearchReport, SearchSetup};
pub use self::step::{StepAnswer, StepDesign, StepReport};
pub(crate) use self::text::counted;
pub use self::trials::{TRIALS, forget_unfinished, load_trial, save_trial, trial_folder, unlisted};
use crate::build::Manifest;
use crate::exit::Exit;
use crate::image::Description;
use crate::input;
use crate::mitigation;
use crate::oracle::hang::Likeness;
use crate::oracle::{Fault, Observation};
use crate::plan::{Cell, TrialId};
use crate::rescore::RULES;
use crate::spec::{Expected, Limits, Machine, Name, Trigger};
use crate::stats::{Interval, interval};
use crate::text::in_one_line;
use crate::verdict::{Counts, Verdict, weigh};
use crate::vm::args::Accelerator;

/// Version of the report's form; raised when a reader of the former one would misread it.
pub const SCHEMA: u32 = 2;

/// File name of the report in a run's folder.
pub const FILE: &str = "report.json";

/// The folders that a run makes in its own.
pub const FOLDERS: [&str; 3] = [kernels::PIPELINE, kernels::KERNELS, trials::TRIALS];

/// Largest report: ten thousand trials have 20 MB.
const LARGEST: u64 = 1 << 30;

/// Confidence of the intervals in the report.
const CONFIDENCE: f64 = 0.95;

/// A run's report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Version of hangproof.
    pub hangproof: String,
    /// Number of the rules by which it judged: [`RULES`](crate::rescore::RULES).
    #[serde(default)]
    pub rules: u32,
    /// The pipeline.
    pub pipeline: Name,
    /// When the run began (UTC).
    pub started: jiff::Timestamp,
    /// When the report was written (UTC).
    pub written: jiff::Timestamp,
    /// All trials that were planned have ended.
    pub complete: bool,
    /// The command that repeats the run.
    pub command: String,
    /// The folder of definitions that it read.
    pub definitions: PathBuf,
    /// The host, as far as it bears on the result.
    pub host: Host,
    /// The guest's size.
    pub machine: Machine,
    /// Limits, unscaled.
    pub limits: Limits,
    /// What proves that the trigger fired.
    pub trigger: Trigger,
    /// The reproducer's command line in the guest.
    pub reproducer: Vec<String>,
    /// SHA-256 of the reproducer's source or program.
    pub reproducer_sha256: String,
    /// That file, relative to the run's folder; none in runs of before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reproducer_source: Option<PathBuf>,
    /// The mitigations' command lines in the guest, by name; empty in a pipeline without that dimension.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub mitigations: BTreeMap<Name, Vec<String>>,
    /// Which programs those are, by the mitigation's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub mitigation_programs: BTreeMap<Name, mitigation::Provenance>,
    /// What is on the disks.
    pub image: Option<Description>,
    /// The kernels, in the pipeline's order, each with each mitigation.
    pub kernels: Vec<KernelReport>,
    /// The proof, if the run was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<ProofReport>,
    /// What the trials propose for the pipeline, if the run was a calibration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<CalibrationReport>,
    /// The search, if the run was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<SearchReport>,
    /// The step of somebody else's bisection, if the run was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<StepReport>,
}

/// The host, as far as it bears on the result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Host {
    /// What ran the guests.
    pub accelerator: Accelerator,
    /// Why this one.
    pub reason: String,
    /// QEMU's version.
    pub qemu: String,
    /// CPUs.
    pub cpus: usize,
    /// VMs that ran at once.
    pub jobs: usize,
}

/// What a run found out about a kernel, with one mitigation if the pipeline has that dimension.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct KernelReport {
    /// The kernel.
    pub name: Name,
    /// What ran beside the reproducer; none in a pipeline without that dimension.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mitigation: Option<Name>,
    /// What all trials together show.
    pub verdict: Verdict,
    /// What was expected.
    pub expected: Option<Expected>,
    /// How often each observation was made.
    pub trials: Counts,
    /// The hang rate over the valid trials, with its exact interval.
    pub hang_rate: Interval,
    /// Each trial.
    pub results: Vec<TrialReport>,
    /// Everything that went into the build.
    pub build: Option<Manifest>,
    /// Why there is no build.
    pub build_error: Option<String>,
    /// Whether that was our fault or the machine's (no network, a full disk), not the kernel's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub build_trouble: bool,
}

/// What one trial showed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TrialReport {
    /// The trial.
    pub trial: TrialId,
    /// What it showed.
    pub observation: Observation,
    /// From QEMU's start to its end, in seconds.
    pub seconds: f64,
    /// Its evidence, relative to the run's folder.
    pub evidence: PathBuf,
    /// It was invalid and tried again; it doesn't count.
    pub repeated: bool,
    /// It was for the duration of a proof's trials, and is none of them; it doesn't count.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub calibrates: bool,
}

impl TrialReport {
    /// Whether it counts for a verdict.
    #[must_use]
    pub fn counts(&self) -> bool {
        !self.repeated && !self.calibrates
    }
}

/// What every report says of its form.
#[derive(Debug, Deserialize)]
struct Form {
    schema: u32,
    hangproof: String,
}

/// Why a kernel wasn't built.
#[derive(Debug, Clone)]
pub struct NotBuilt {
    /// What the build said.
    pub why: String,
    /// Whether it was our fault or the machine's.
    pub trouble: bool,
}

impl KernelReport {
    /// The report of a cell's trials so far.
    #[must_use]
    pub fn new(cell: Cell, results: Vec<TrialReport>, build: Result<Manifest, NotBuilt>) -> Self {
        let Cell { kernel: name, mitigation, expected } = cell;
        let counted = results.iter().filter(|result| result.counts()).map(|result| &result.observation);
        let repeated = results.iter().filter(|result| result.repeated).count() as u64;
        let trials = Counts { repeated, ..Counts::of(counted) };
        let (build, build_error, build_trouble) = match build {
            Ok(manifest) => (Some(manifest), None, false),
            Err(NotBuilt { why, trouble }) => (None, Some(why), trouble),
        };
        let hang_rate = interval(trials.hang, trials.valid(), CONFIDENCE);
        Self { name, mitigation, verdict: weigh(trials), expected, trials, hang_rate, results, build, build_error, build_trouble }
    }

    /// What went into the kernel, or why it wasn't built.
    ///
    /// # Errors
    /// When it wasn't.
    pub fn built(&self) -> Result<Manifest, NotBuilt> {
        self.build.clone().ok_or_else(|| NotBuilt { why: self.build_error.clone().unwrap_or_default(), trouble: self.build_trouble })
    }

    /// Which line of the scoreboard it is.
    #[must_use]
    pub fn cell(&self) -> Cell {
        Cell { kernel: self.name.clone(), mitigation: self.mitigation.clone(), expected: self.expected }
    }

    /// Whether the trial is one of its.
    #[must_use]
    pub fn holds(&self, trial: &TrialId) -> bool {
        self.name == trial.kernel && self.mitigation == trial.mitigation
    }

    /// Why the verdict is inconclusive, if it is.
    #[must_use]
    pub fn why_inconclusive(&self) -> Option<String> {
        if self.verdict != Verdict::Inconclusive {
            return None;
        }
        if let Some(error) = &self.build_error {
            return Some(format!("not built: {}", in_one_line(error)));
        }
        Some(match self.decisive().map(|result| &result.observation) {
            Some(seen @ Observation::Invalid { .. }) => seen.detail(),
            Some(seen) => format!("{} in {} of {} trials: {}", seen.word(), self.trials.boot_failure, self.trials.valid(), seen.detail()),
            None => "no trial".to_owned(),
        })
    }

    /// The trial that the verdict rests on: the first one that showed what the verdict says. A hang that isn't the pipeline's comes before one that is.
    #[must_use]
    pub fn decisive(&self) -> Option<&TrialReport> {
        let first = |word: &str| self.results.iter().filter(|result| result.counts()).find(|result| result.observation.word() == word);
        match self.verdict {
            Verdict::Hang => self.other_hang().or_else(|| first("hang")),
            Verdict::Pass | Verdict::Crash | Verdict::BootFailure => first(&self.verdict.to_string()),
            // Without the invalid ones it would be another verdict, or else it boots sometimes.
            Verdict::Inconclusive if weigh(Counts { invalid: 0, ..self.trials }) == Verdict::Inconclusive && self.trials.valid() > 0 => {
                first("boot-failure")
            }
            Verdict::Inconclusive => first("invalid").or(self.results.last()),
        }
    }
}

/// What each trial of these kernels showed.
#[must_use]
pub fn observed(kernels: &[KernelReport]) -> HashMap<&TrialId, &Observation> {
    kernels.iter().flat_map(|kernel| &kernel.results).map(|result| (&result.trial, &result.observation)).collect()
}

impl KernelReport {
    /// A trial that hung otherwise than the pipeline's hang, in a kernel that should hang: a finding of its own, not what was expected.
    #[must_use]
    pub fn other_hang(&self) -> Option<&TrialReport> {
        let other = |result: &&TrialReport| match &result.observation {
            Observation::Hang(hang) => matches!(hang.likeness, Some(Likeness::Different(_))),
            Observation::Pass(_) | Observation::Crash { .. } | Observation::BootFailure { .. } | Observation::Invalid { .. } => false,
        };
        self.results.iter().filter(|result| self.expected == Some(Expected::Hang) && result.counts()).find(other)
    }

    /// Whether the build failed, or a trial that counts is invalid, by our own fault or the machine's.
    fn has_our_trouble(&self) -> bool {
        self.build_trouble
            || self.results.iter().any(|result| match &result.observation {
                Observation::Invalid { fault: Fault::Host | Fault::Qemu | Fault::Guest, .. } => result.counts(),
                Observation::Invalid {
                    fault: Fault::Reproducer | Fault::Mitigation | Fault::Trigger | Fault::Unresolved | Fault::User,
                    ..
                }
                | Observation::Pass(_)
                | Observation::Hang(_)
                | Observation::Crash { .. }
                | Observation::BootFailure { .. } => false,
            })
    }

    /// Whether the verdict is what was expected, and each hang the one that was.
    #[must_use]
    pub fn is_as_expected(&self) -> bool {
        self.verdict.meets(self.expected) && self.other_hang().is_none()
    }
}

impl Report {
    /// The exit code that the report stands for.
    #[must_use]
    pub fn exit(&self) -> Exit {
        if let Some(proof) = &self.proof {
            return proof.exit(|name| self.kernels.iter().any(|kernel| kernel.name == *name && kernel.has_our_trouble()));
        }
        if let Some(search) = &self.search {
            return search.exit();
        }
        if let Some(step) = &self.step {
            return step.exit();
        }
        let kernel = |kernel: &KernelReport| match kernel.verdict {
            Verdict::Inconclusive if kernel.has_our_trouble() => Exit::Trouble,
            Verdict::Inconclusive => Exit::Inconclusive,
            Verdict::Pass | Verdict::Hang | Verdict::Crash | Verdict::BootFailure if kernel.is_as_expected() => Exit::Expected,
            Verdict::Pass | Verdict::Hang | Verdict::Crash | Verdict::BootFailure => Exit::Contrary,
        };
        let exits: Vec<Exit> = self.kernels.iter().map(kernel).collect();
        // A verdict that contradicts is the news, whatever else went wrong.
        let order = [Exit::Contrary, Exit::Trouble, Exit::Inconclusive];
        order.into_iter().find(|exit| exits.contains(exit)).unwrap_or(Exit::Expected)
    }

    /// Writes the report into the run's folder.
    ///
    /// # Errors
    /// When it can't be written; the former report is then untouched.
    pub fn save(&self, folder: &Path) -> io::Result<PathBuf> {
        let path = folder.join(FILE);
        write_whole(&path, &serde_json::to_vec_pretty(self)?)?;
        Ok(path)
    }

    /// Reads the report of a run's folder.
    ///
    /// # Errors
    /// When it can't be read, or is of another form.
    pub fn load(folder: &Path) -> Result<Self, LoadError> {
        let path = folder.join(FILE);
        let text = match input::read(&path, LARGEST) {
            Ok(text) => text,
            // The remedy is a folder, not another file.
            Err(cause) if cause.kind() == io::ErrorKind::InvalidInput => {
                return Err(LoadError::Unreadable { path, cause: io::Error::new(cause.kind(), "it is no regular file") });
            }
            Err(cause) => return Err(LoadError::Unreadable { path, cause }),
        };
        // Another form may lack what this one has, so the form is asked first.
        let form: Form = parsed(&path, &text)?;
        if form.schema != SCHEMA {
            return Err(LoadError::Form { path, schema: form.schema, hangproof: form.hangproof });
        }
        let report: Self = parsed(&path, &text)?;
        if report.rules > RULES {
            return Err(LoadError::Rules { path, rules: report.rules, known: RULES, hangproof: report.hangproof });
        }
        if let Some(SearchReport { setup, .. }) = &report.search
            && (setup.points.is_empty() || !(0.5..1.0).contains(&setup.design.confidence))
        {
            let problem = "its search has no line, or a confidence that is none".to_owned();
            return Err(LoadError::Damaged { path, problem });
        }
        Ok(report)
    }
}

/// Writes a file beside its place and renames it.
pub(crate) fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".writing-").tempfile_in(folder)?;
    file.write_all(content)?;
    // tempfile makes private files; a report is to be read by whoever may read the folder.
    use std::os::unix::fs::PermissionsExt as _;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}
