//! What has to be done for a kernel, and its key: found out before anything is built.
//!
//! The source is fetched here, because its digest is part of the key; no tree is cloned and no make is run.
//!
//! Read [`Plan`] first.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::compatibility::{Applied, chosen};
use super::error::{BuildError, unreadable};
use super::manifest::{ConfigurationRecord, FORMAT, FileRecord, Inputs, Manifest};
use super::room::Room;
use super::toolchain::Tools;
use crate::event::{Event, Events};
use crate::input;
use crate::source::{self, Fetched, patch};
use crate::spec::{Change, ConfigurationBase, Definitions, Kernel, Modules, Toolchain};
use crate::store::Store;

/// What has to be done for a kernel.
#[derive(Debug)]
pub struct Plan {
    /// The kernel.
    pub kernel: Kernel,
    /// Digest of everything that goes into it.
    pub key: String,
    /// The plan of the kernel in whose built tree's clone it is built; none if it is built from the source.
    pub base: Option<Box<Self>>,
    /// The source.
    pub source: Fetched,
    /// The toolchain's versions.
    pub tools: Tools,
    /// Where they run.
    pub room: Room,
    /// What is applied, in order, to the source or to the base's tree.
    pub patches: Vec<PathBuf>,
    /// Compatibility changes of all kernels in the line, the base's first; how many are the base's.
    pub changes: Vec<(Change, Applied)>,
    inherited_changes: usize,
    /// Whether the configuration is made, or the base's is right as it is.
    pub configure: bool,
    records: Records,
}

#[derive(Debug)]
struct Records {
    base: String,
    base_digest: String,
    fragments: Vec<FileRecord>,
    patches: Vec<FileRecord>,
    settings: BTreeMap<String, String>,
}

/// Settings that make a build reproducible. The time is arbitrary and the same for all kernels, so that two of them differ by their code only;
/// an empty `LOCALVERSION` keeps `scripts/setlocalversion` from adding a `+` (scripts/setlocalversion, `${LOCALVERSION+set}`).
const SETTINGS: [(&str, &str); 7] = [
    ("KBUILD_BUILD_TIMESTAMP", "Thu Jan  1 00:00:00 UTC 2026"),
    ("KBUILD_BUILD_USER", "hangproof"),
    ("KBUILD_BUILD_HOST", "hangproof"),
    ("KBUILD_BUILD_VERSION", "1"),
    ("LOCALVERSION", ""),
    ("LC_ALL", "C"),
    ("TZ", "UTC"),
];

impl Plan {
    /// Plans a kernel and the kernels that it extends. Fetches their source.
    ///
    /// # Errors
    /// When the source can't be had, a program is missing, or a file of the definition can't be read.
    pub async fn of(store: &Store, definitions: &Definitions, kernel: &Kernel, events: &Events) -> Result<Self, BuildError> {
        let base = match &kernel.base {
            None => None,
            Some(name) => {
                let base = definitions.kernels.get(name).ok_or_else(|| BuildError::NoBase { base: name.clone() })?;
                let plan = if extends(kernel, base) { Some(Box::pin(Self::of(store, definitions, base, events)).await?) } else { None };
                plan.map(|plan| (plan, base))
            }
        };
        let (source, tools, room) = match &base {
            Some((plan, _)) => (plan.source.clone(), plan.tools.clone(), plan.room.clone()),
            None => {
                if matches!(kernel.toolchain, Toolchain::Debian { .. } | Toolchain::Container { .. }) {
                    events.send(Event::BuildStep { kernel: kernel.name.clone(), step: "preparing the toolchain".to_owned() });
                }
                // Missing programs are told before a long download.
                let (tools, room) = Tools::look(store, &kernel.toolchain).await?;
                (source::fetch(store, &kernel.source, events).await?, tools, room)
            }
        };
        let inherited = |count: fn(&Kernel) -> usize| base.as_ref().map_or(0, |(_, base)| count(base));
        let own_changes = chosen(&kernel.compatibility[inherited(|base| base.compatibility.len())..], &tools, &source.tree, definitions)?;
        let own_patches = own_changes.iter().filter_map(|(change, _)| if let Change::Patch(path) = change { Some(path) } else { None });
        let patches: Vec<_> = own_patches.chain(&kernel.patches[inherited(|base| base.patches.len())..]).cloned().collect();
        let more_fragments = kernel.configuration.fragments.len() > inherited(|base| base.configuration.fragments.len());
        let more_symbols = own_changes.iter().any(|(change, _)| matches!(change, Change::Configuration(_)));
        let configure = base.is_none() || more_fragments || more_symbols || touches_configuration(&patches, &kernel.configuration.base)?;
        let records = Records::read(definitions, kernel)?;
        let inherited_changes = base.as_ref().map_or(0, |(plan, _)| plan.changes.len());
        let changes: Vec<_> = base.iter().flat_map(|(plan, _)| plan.changes.clone()).chain(own_changes).collect();
        let base = base.map(|(plan, _)| Box::new(plan));
        let key = records.key(&source, &tools, &changes, base.as_deref())?;
        Ok(Self { kernel: kernel.clone(), key, base, source, tools, room, patches, changes, inherited_changes, configure, records })
    }

    /// The plan at the bottom: the kernel that is built from the source.
    #[must_use]
    pub fn root(&self) -> &Self {
        self.base.as_deref().map_or(self, Self::root)
    }

    /// Settings that make a build reproducible, as environment variables.
    #[must_use]
    pub fn settings(&self) -> &BTreeMap<String, String> {
        &self.records.settings
    }

    /// The kernel's own compatibility changes: its base's are in the base's tree.
    #[must_use]
    pub fn own_changes(&self) -> &[(Change, Applied)] {
        &self.changes[self.inherited_changes..]
    }

    /// The last of the kernel's patches, its base's among them, that touches `file`.
    #[must_use]
    pub fn patch_of(&self, file: &str) -> Option<PathBuf> {
        let compatibility = self.changes.iter().filter_map(|(change, _)| if let Change::Patch(path) = change { Some(path) } else { None });
        let all: Vec<_> = compatibility.chain(&self.kernel.patches).collect();
        let touches = |path: &&&PathBuf| {
            let text = input::read(path, input::LARGEST_TEXT).unwrap_or_default();
            patch::read(path, &String::from_utf8_lossy(&text)).is_ok_and(|patch| patch.files.contains(Path::new(file)))
        };
        all.iter().rev().find(touches).map(|path| (*path).clone())
    }

    /// The record of a finished build.
    #[must_use]
    pub fn manifest(&self, outcome: Outcome) -> Manifest {
        let Records { base, fragments, patches, settings, .. } = &self.records;
        let Outcome { config_blake3, options_on, seconds, objects, elf_signature, unchanged_from_base } = outcome;
        Manifest {
            kernel: self.kernel.name.clone(),
            key: self.key.clone(),
            base: self.base.as_ref().map(|plan| plan.kernel.name.clone()),
            base_key: self.base.as_ref().map(|plan| plan.key.clone()),
            source: self.source.provenance.clone(),
            toolchain: Some(self.tools.clone()),
            configuration: ConfigurationRecord {
                base: base.clone(),
                modules: self.kernel.configuration.modules,
                fragments: fragments.clone(),
                config_blake3,
                options_on,
            },
            compatibility: self.changes.iter().map(|(_, applied)| applied.clone()).collect(),
            patches: patches.clone(),
            settings: settings.clone(),
            seconds,
            objects,
            elf_signature: Some(elf_signature),
            unchanged_from_base,
            modules: Vec::new(),
        }
    }
}

/// What is only known after a build.
#[derive(Debug)]
pub struct Outcome {
    /// BLAKE3 of the configuration.
    pub config_blake3: String,
    /// Options that are `y` in it.
    pub options_on: usize,
    /// How long it took.
    pub seconds: f64,
    /// Objects that were compiled.
    pub objects: u64,
    /// Signature of vmlinux.
    pub elf_signature: String,
    /// It is the base's.
    pub unchanged_from_base: bool,
}

/// Whether `kernel` differs from `base` only by what comes after what `base` has, so that it can be built in a clone of its tree.
fn extends(kernel: &Kernel, base: &Kernel) -> bool {
    kernel.source == base.source
        && kernel.toolchain == base.toolchain
        && kernel.configuration.base == base.configuration.base
        && kernel.configuration.modules == base.configuration.modules
        && kernel.configuration.fragments.starts_with(&base.configuration.fragments)
        && kernel.compatibility.starts_with(&base.compatibility)
        && kernel.patches.starts_with(&base.patches)
}

/// Whether a patch changes what the configuration is made of, so that the base's isn't right any more.
fn touches_configuration(patches: &[PathBuf], base: &ConfigurationBase) -> Result<bool, BuildError> {
    let made_of = |file: &Path| {
        let kconfig = file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("Kconfig"));
        kconfig
            || match base {
                ConfigurationBase::Vendor(path) => file == path,
                // `arch/x86/configs/x86_64_defconfig`, and `kernel/configs/` for good measure.
                ConfigurationBase::Defconfig => file.components().any(|part| part.as_os_str() == "configs"),
                ConfigurationBase::Allnoconfig | ConfigurationBase::File(_) | ConfigurationBase::Package => false,
            }
    };
    for path in patches {
        let text = input::read(path, input::LARGEST_TEXT).map_err(unreadable(path))?;
        let files = patch::read(path, &String::from_utf8_lossy(&text))?.files;
        if files.iter().any(|file| made_of(file)) {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Records {
    fn read(definitions: &Definitions, kernel: &Kernel) -> Result<Self, BuildError> {
        let record = |path: &PathBuf| FileRecord::of(path, definitions.shown(path));
        let records = |paths: &[PathBuf]| paths.iter().map(record).collect::<Result<Vec<_>, _>>();
        let (base, base_digest) = match &kernel.configuration.base {
            ConfigurationBase::Defconfig => ("defconfig".to_owned(), "defconfig".to_owned()),
            ConfigurationBase::Allnoconfig => ("allnoconfig".to_owned(), "allnoconfig".to_owned()),
            ConfigurationBase::File(path) => (definitions.shown(path).display().to_string(), record(path)?.blake3),
            // The source's digest covers its content.
            ConfigurationBase::Vendor(path) => (path.display().to_string(), format!("vendor {}", path.display())),
            ConfigurationBase::Package => ("package".to_owned(), "package".to_owned()),
        };
        let base_digest = match kernel.configuration.modules {
            Modules::Keep => base_digest,
            Modules::Off => format!("{base_digest} modules off"),
        };
        Ok(Self {
            base,
            base_digest,
            fragments: records(&kernel.configuration.fragments)?,
            patches: records(&kernel.patches)?,
            settings: SETTINGS.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        })
    }

    fn key(&self, source: &Fetched, tools: &Tools, changes: &[(Change, Applied)], base: Option<&Plan>) -> Result<String, BuildError> {
        let digests = |records: &'_ [FileRecord]| records.iter().map(|record| record.blake3.clone()).collect::<Vec<_>>();
        let (fragments, patches) = (digests(&self.fragments), digests(&self.patches));
        let inputs = Inputs {
            format: FORMAT,
            source: &source.digest,
            toolchain: tools,
            configuration: &self.base_digest,
            fragments: fragments.iter().map(String::as_str).collect(),
            patches: changes
                .iter()
                .map(|(_, applied)| applied.digest())
                .chain(["then"])
                .chain(patches.iter().map(String::as_str))
                .collect(),
            settings: &self.settings,
            base: base.map(|base| base.key.as_str()),
        };
        inputs.key()
    }
}
