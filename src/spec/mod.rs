//! Definitions of kernels, images and pipelines, valid by construction.
//!
//! A value of these types has passed every check that needs no build: names resolve, files exist, sizes are possible, `extends` has no
//! cycle. [`load`] reads a folder of definitions and reports *all* errors of a file at once. What the YAML looks like is `raw`'s business, the
//! only place that names serde_yaml; nothing here opens a network connection or runs a program.
//!
//! Read [`Definitions`] first.

mod compatibility;
mod hang;
mod image;
mod kernel;
mod load;
mod marks;
mod mitigation;
mod overrides;
mod pipeline;
mod prebuilt;
mod problem;
mod raw;
mod sheet;
mod srpm;
mod toolchain;
mod words;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use compatibility::{Change, Compatibility, Condition, Requirement, Version, Versioned};
pub use hang::{HangSignature, StuckTask};
pub use load::{NoRoot, load, load_for};
pub use mitigation::Mitigation;
pub use overrides::{OverrideError, duration};
pub use problem::{Problem, Problems, nearest};
pub use srpm::{PublishedDigest, Srpm, SrpmTarball, VAULT};
pub use words::{DIR, DURATION};

/// Everything that the definition folders hold.
#[derive(Debug, Clone, Default)]
pub struct Definitions {
    /// The folder that holds `kernels/`, `patches/`, `images/` and `pipelines/`.
    pub root: PathBuf,
    /// Kernels by name.
    pub kernels: BTreeMap<Name, Kernel>,
    /// Images by name.
    pub images: BTreeMap<Name, Image>,
    /// Pipelines by name.
    pub pipelines: BTreeMap<Name, Pipeline>,
    /// Programs that a file names for its guests and that this machine hasn't, by the file.
    pub absent: BTreeMap<PathBuf, Vec<Problem>>,
}

/// A name of a kernel, image or pipeline: `[a-z0-9][a-z0-9._-]*`, at most 64 characters, so that it is safe as a file name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// Why a string is no [`Name`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a name: use up to 64 of a-z, 0-9, `.`, `_` and `-`, and begin with a letter or digit")]
pub struct BadName(pub String);

impl Name {
    /// Checks a name.
    ///
    /// # Errors
    /// When it has another form than the type's documentation says.
    pub fn new(name: &str) -> Result<Self, BadName> {
        let tail_is_fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-_".contains(c);
        let head_is_fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        if name.len() <= 64 && name.starts_with(head_is_fine) && name.chars().all(tail_is_fine) {
            Ok(Self(name.to_owned()))
        } else {
            Err(BadName(name.to_owned()))
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = BadName;
    fn try_from(name: String) -> Result<Self, BadName> {
        Self::new(&name)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl std::str::FromStr for Name {
    type Err = BadName;
    fn from_str(name: &str) -> Result<Self, BadName> {
        Self::new(name)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A buildable kernel. A *variant* has a `base` and inherits everything from it but its own patches and additions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// Its name.
    pub name: Name,
    /// One line for `hangproof list`.
    pub description: String,
    /// The file that defines it.
    pub defined_in: PathBuf,
    /// The kernel that it extends.
    pub base: Option<Name>,
    /// Where the source comes from (a variant's is its base's).
    pub source: Source,
    /// What compiles it (a variant's is its base's).
    pub toolchain: Toolchain,
    /// How it is configured (a variant's fragments follow its base's).
    pub configuration: Configuration,
    /// Changes without which the source doesn't build or boot with this toolchain; not the user's. In order, base's first; which
    /// of them are applied depends on the toolchain and the source.
    pub compatibility: Vec<Compatibility>,
    /// The whole user patch stack, base's first. Absolute paths of existing files.
    pub patches: Vec<PathBuf>,
    /// How many of `patches` come from the base.
    pub inherited_patches: usize,
    /// Kernel command line additions, base's first.
    pub boot_arguments: Vec<String>,
}

/// Where a kernel's source tree comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// A Debian package that holds a kernel source tarball, brought by apt (`linux-source-6.1`).
    Debian {
        /// The package.
        package: String,
        /// Its version; the newest that apt offers when none is given.
        version: Option<String>,
    },
    /// A tar archive (plain, gz, xz or zstd).
    Tarball {
        /// Where it is.
        location: Location,
        /// SHA-256 of the archive, lower-case hex; always given for a URL.
        sha256: Option<String>,
    },
    /// A revision of a git repository.
    Git {
        /// URL or absolute path.
        repository: String,
        /// Commit, tag or branch.
        revision: String,
    },
    /// A folder that already holds a source tree; it is copied, never built in.
    Directory {
        /// Its absolute path.
        path: PathBuf,
    },
    /// A source package of a distribution, with the patches and the configuration that it brings.
    Srpm(Srpm),
    /// No source at all: a distribution's own binary kernel. Such a kernel has [`Toolchain::None`], [`ConfigurationBase::Package`], and no patches.
    Prebuilt(Prebuilt),
}

/// Where a binary kernel package comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Prebuilt {
    /// A Debian package, brought by apt: the kernel itself, or a metapackage that depends on it (`linux-image-cloud-amd64`).
    Debian {
        /// The package.
        package: String,
        /// Its version; the newest that apt offers when none is given.
        version: Option<String>,
    },
    /// Package files (.deb or .rpm): one, or those between which the distribution divided the kernel. At least one.
    Files(Vec<PackageFile>),
}

/// A package file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PackageFile {
    /// Where it is.
    pub location: Location,
    /// SHA-256 of the package, lower-case hex. A URL without is never downloaded: it says where a user finds the file.
    pub sha256: Option<String>,
}

/// A file on this machine or behind a URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Location {
    /// Absolute path.
    Path(PathBuf),
    /// `http:` or `https:`.
    Url(String),
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Url(url) => url.fmt(f),
        }
    }
}

/// What compiles a kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Toolchain {
    /// The host's own compiler.
    Host {
        /// The compiler's command, without arguments (`gcc`, `gcc-12`).
        compiler: String,
    },
    /// A folder with a minimal Debian of some suite, in which the compiler and everything else runs.
    Debian {
        /// The suite (`bullseye`).
        suite: String,
        /// The compiler's command, which is also its package's name.
        compiler: String,
        /// Packages beside those that every kernel needs.
        packages: Vec<String>,
    },
    /// The content of a container's image, in which the compiler and everything else runs.
    Container {
        /// The image, as podman and docker name it (`centos:7`).
        image: String,
        /// The compiler's command.
        compiler: String,
    },
    /// Nothing is compiled: the kernel is prebuilt.
    None,
}

/// How a kernel is configured: a base, then fragments, then `olddefconfig`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    /// What the fragments are laid over.
    pub base: ConfigurationBase,
    /// What becomes of the base's modules before the fragments are laid over it.
    pub modules: Modules,
    /// Files of `CONFIG_X=...` and `# CONFIG_X is not set` lines, absolute, in order; a later one wins.
    pub fragments: Vec<PathBuf>,
}

/// What becomes of the modules of a configuration's base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Modules {
    /// They stay as they are; hangproof builds no modules.
    #[default]
    Keep,
    /// Each `=m` is turned off.
    Off,
}

/// What configuration fragments are laid over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigurationBase {
    /// `make defconfig`.
    Defconfig,
    /// `make allnoconfig`.
    Allnoconfig,
    /// A whole configuration in a file, absolute.
    File(PathBuf),
    /// A whole configuration inside the source tree, relative to it (the vendor's).
    Vendor(PathBuf),
    /// The one that the package of a prebuilt kernel holds; nothing is configured.
    Package,
}

/// The guest's disks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its name.
    pub name: Name,
    /// One line for `hangproof list`.
    pub description: String,
    /// The file that defines it.
    pub defined_in: PathBuf,
    /// How the root filesystem lies on the disks.
    pub layout: Layout,
    /// Size of the filesystem.
    pub size: MemMib,
    /// `mke2fs -O` features; a list that a 3.10 kernel mounts.
    pub features: Vec<String>,
    /// Programs of the host that are copied in with the libraries they need, absolute paths.
    pub programs: Vec<PathBuf>,
}

/// How the root filesystem lies on the disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// ext4 on `/dev/md127`: RAID1, metadata 1.2, two virtio disks.
    Md,
    /// ext4 on one virtio disk.
    Plain,
}

/// A size in MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MemMib(pub u64);

/// CPUs and memory of a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Machine {
    /// Number of vCPUs, 1 to 64.
    pub cpus: u32,
    /// Memory, 256 MiB or more.
    pub memory: MemMib,
}

/// Kernels x image x reproducer x limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pipeline {
    /// Its name: also the name of its folder.
    pub name: Name,
    /// One line for `hangproof list`.
    pub description: String,
    /// The file that defines it.
    pub defined_in: PathBuf,
    /// The kernels, in the order of the scoreboard, with what is expected of each.
    pub kernels: Vec<(Name, Option<Expected>)>,
    /// What runs beside the reproducer: each kernel is tried with each. Empty if the pipeline has no such dimension.
    pub mitigations: Vec<Mitigation>,
    /// The guest's disks.
    pub image: Name,
    /// The guest's size.
    pub machine: Machine,
    /// Kernel command line additions of this pipeline.
    pub boot_arguments: Vec<String>,
    /// Memory-cgroup hierarchy.
    pub cgroup: CgroupChoice,
    /// What is run.
    pub reproducer: Reproducer,
    /// When it ends.
    pub limits: Limits,
    /// What proves that the trigger fired.
    pub trigger: Trigger,
    /// The hang that is looked for; another one is not as expected.
    pub hang: Option<HangSignature>,
    /// How long the trials of a proof last, if not as long as others.
    pub proof_duration: Option<Duration>,
    /// Trials per kernel.
    pub repeats: u32,
}

/// Which memory-cgroup hierarchy the guest mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CgroupChoice {
    /// The newest that the kernel has.
    #[default]
    Auto,
    /// Version 1.
    V1,
    /// Version 2.
    V2,
}

/// What the user expects of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expected {
    /// Passes.
    Pass,
    /// Hangs.
    Hang,
    /// Crashes.
    Crash,
    /// Doesn't boot.
    BootFailure,
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pass => "pass",
            Self::Hang => "hang",
            Self::Crash => "crash",
            Self::BootFailure => "boot-failure",
        })
    }
}

/// The program that provokes the hang.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reproducer {
    /// What is run in the guest.
    pub program: Program,
    /// `--key value` arguments by key, in the file's order; an option of `run` overrides a value.
    pub parameters: Vec<(String, String)>,
    /// Programs of the host that the reproducer needs in the guest, absolute paths; each comes with its libraries.
    pub adds: Vec<PathBuf>,
}

/// What is run in the guest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    /// One C file, compiled by the host's compiler as a static program. Absolute path.
    C(PathBuf),
    /// A script or a static program that is copied as it is. Absolute path.
    File(PathBuf),
}

/// When a trial ends. Times marked *scaled* are multiplied by the accelerator's factor; the workload's duration is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Limits {
    /// How long the reproducer runs.
    pub duration: Duration,
    /// From QEMU's start to the reproducer's start; scaled.
    pub boot: Duration,
    /// Silence of the progress clock after which the task list is looked at; scaled.
    pub stall: Duration,
    /// Silence of the progress clock that is a hang without a closed wait; scaled.
    pub silence: Duration,
}

/// What proves that the trigger fired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Trigger {
    /// A pass needs at least so many memory-cgroup OOM kills.
    pub oom_kills: u64,
    /// A pass needs at least so many journal commits besides those of the agent's probes, on kernels that count them.
    pub commits: u64,
}

impl Definitions {
    /// Whether a kernel extends `name`.
    #[must_use]
    pub fn is_base(&self, name: &Name) -> bool {
        self.kernels.values().any(|kernel| kernel.base.as_ref() == Some(name))
    }

    /// `path` as it is shown to the user: relative to the definitions' root where it lies below it.
    #[must_use]
    pub fn shown<'a>(&self, path: &'a Path) -> &'a Path {
        path.strip_prefix(&self.root).unwrap_or(path)
    }
}
