//! The words of the command line, and what is wrong with each alone.
//!
//! What they name is looked up elsewhere. `bisect` has its own.
//!
//! Read [`Cli`] first.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use super::bisect::{BisectArguments, StepArguments};
use crate::aftermath::When;
use crate::proof::Design;
use crate::reporting::Format;
use crate::spec::{Name, duration};

/// Proves that a kernel patch removes a hang: builds kernels, boots each in a VM, runs a reproducer inside, and says pass or hang.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 120)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) common: Common,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(super) struct Common {
    /// Folder that holds kernels/, images/ and pipelines/ [default: the first at or above the current folder]
    #[arg(long, global = true, value_name = "DIR")]
    pub(super) definitions: Option<PathBuf>,
    /// Build this kernel, and those that extend it, from another source: a folder, a tarball or a source package; for a prebuilt kernel, its .deb
    /// or .rpm, once for each package that it needs
    #[arg(long, global = true, value_name = "KERNEL=PATH", value_parser = pair)]
    pub(super) source: Vec<(String, String)>,
    /// Where CentOS's packages come from: a URL in place of https://vault.centos.org, or a folder that holds them
    #[arg(long, global = true, env = "HANGPROOF_VAULT", value_name = "URL-or-FOLDER")]
    pub(super) vault: Option<String>,
    /// Build this kernel, and those that extend it, by another toolchain: host:COMPILER, debian:SUITE:COMPILER or container:IMAGE:COMPILER
    #[arg(long, global = true, value_name = "KERNEL=TOOLCHAIN", value_parser = pair)]
    pub(super) toolchain: Vec<(String, String)>,
    /// Configure this kernel, and those that extend it, from a file in place of its base configuration
    #[arg(long, global = true, value_name = "KERNEL=FILE", value_parser = pair)]
    pub(super) configuration: Vec<(String, String)>,
    /// Show no progress, only warnings and results
    #[arg(long, short, global = true)]
    pub(super) quiet: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
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
pub(super) struct RunArguments {
    /// The pipeline
    pub(super) pipeline: Name,
    /// Run only these kernels; others than the pipeline's are allowed and have no expectation
    #[arg(long, short, value_name = "K")]
    pub(super) kernel: Vec<Name>,
    /// Run only with these of the pipeline's mitigations; `none` is the kernel alone
    #[arg(long, short, value_name = "M")]
    pub(super) mitigation: Vec<Name>,
    /// Trials per kernel [default: the pipeline's]
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) repeats: Option<u32>,
    /// VMs at once [default: as many as fit the host's CPUs and memory]
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(super) jobs: Option<u16>,
    /// Folder for the results; must not hold a report [default: runs/PIPELINE-TIME]
    #[arg(long, short, value_name = "DIR")]
    pub(super) out: Option<PathBuf>,
    /// After which hangs to dump the guest's memory, list all tasks on the console and force a panic
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = When::First)]
    pub(super) dump: When,
    /// Set a parameter of the reproducer
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub(super) set: Vec<(String, String)>,
}

#[derive(Debug, Args)]
pub(super) struct ProveArguments {
    /// The pipeline; what it expects of its kernels doesn't matter
    pub(super) pipeline: Name,
    /// The kernel that hangs
    #[arg(long, short, value_name = "K")]
    pub(super) baseline: Name,
    /// A kernel in which the hang should be gone
    #[arg(long, short, value_name = "K", required = true)]
    pub(super) candidate: Vec<Name>,
    /// How long a trial lasts, for example 20s [default: what the pipeline says for proofs, or else what the baseline's time to hang suggests]
    #[arg(long, short, value_name = "TIME", value_parser = duration)]
    pub(super) duration: Option<Duration>,
    /// Trials of all arms after which it ends without an answer [default: twice what a design of fixed size takes]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(super) max_trials: Option<u64>,
    /// What the order of the trials is made from [default: the time]
    #[arg(long, value_name = "N")]
    pub(super) seed: Option<u64>,
    #[command(flatten)]
    pub(super) design: DesignArguments,
    #[command(flatten)]
    pub(super) common: TrialArguments,
}

#[derive(Debug, Args)]
pub(super) struct CalibrateArguments {
    /// The pipeline
    pub(super) pipeline: Name,
    /// The kernel that hangs
    #[arg(long, short, value_name = "K")]
    pub(super) kernel: Name,
    /// Trials
    #[arg(long, short = 'n', value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(3..=1000))]
    pub(super) trials: u32,
    /// How long a trial lasts if it doesn't hang, for example 60s [default: the pipeline's]
    #[arg(long, short, value_name = "TIME", value_parser = duration)]
    pub(super) duration: Option<Duration>,
    #[command(flatten)]
    pub(super) design: DesignArguments,
    #[command(flatten)]
    pub(super) common: TrialArguments,
}

/// What a proof is to show.
#[derive(Debug, Args)]
pub(super) struct DesignArguments {
    /// An answer `fixed` is wrong with a probability of at most 1 minus this
    #[arg(long, value_name = "SHARE", default_value_t = 0.95, value_parser = |text: &str| share(text, 0.5, 0.9999))]
    pub(super) confidence: f64,
    /// The hang rate per trial that a fixed candidate is shown to stay below
    #[arg(long, value_name = "RATE", default_value_t = 0.05, value_parser = |text: &str| share(text, 0.001, 0.15))]
    pub(super) residual: f64,
    /// The probability with which a baseline that hangs in a fifth of the trials is to be shown to hang, of which the limit on trials and the repeats follow
    #[arg(long, value_name = "SHARE", default_value_t = 0.95, value_parser = |text: &str| share(text, 0.5, 0.9999))]
    pub(super) power: f64,
}

/// How trials are run.
#[derive(Debug, Args)]
pub(super) struct TrialArguments {
    /// VMs at once [default: as many as fit the host's CPUs and memory]
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(super) jobs: Option<u16>,
    /// Folder for the results; must not hold a report [default: runs/PIPELINE-TIME]
    #[arg(long, short, value_name = "DIR")]
    pub(super) out: Option<PathBuf>,
    /// After which hangs to dump the guest's memory, list all tasks on the console and force a panic
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = When::Never)]
    pub(super) dump: When,
    /// Set a parameter of the reproducer
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub(super) set: Vec<(String, String)>,
}

impl DesignArguments {
    pub(super) fn design(&self, candidates: usize) -> Design {
        let Self { confidence, residual, power } = *self;
        Design { confidence, residual, power, ..Design::new(candidates) }.with_limit(candidates)
    }
}

pub(super) fn share(text: &str, least: f64, most: f64) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "write a number such as 0.95")?;
    if (least..=most).contains(&number) { Ok(number) } else { Err(format!("write a number from {least} to {most}")) }
}

pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    if key.is_empty() || value.is_empty() { Err("write it as NAME=VALUE".to_owned()) } else { Ok((key.to_owned(), value.to_owned())) }
}

/// What a command needs of the definitions.
pub(super) enum Needs<'a> {
    /// That nothing is wrong with any.
    Everything,
    /// All but the pipelines, and this one if one is named.
    Pipeline(Option<&'a Name>),
}

impl Command {
    pub(super) fn needs(&self) -> Needs<'_> {
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
