//! Everything that went into a build, as a value: its key before, its record after.
//!
//! What a definition says in words (name, description, comments) is no part of the key; what changes a bit of the kernel is.
//!
//! Read [`Manifest`] first.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::compatibility::Applied;
use super::error::{BuildError, failed, unreadable};
use super::toolchain::Tools;
use crate::input;
use crate::source::Provenance;
use crate::spec::{Modules, Name};

/// Part of every key: raised when the same inputs would give another result.
pub const FORMAT: u32 = 1;

/// What a kernel was built from and how it went: `manifest.json` beside the results, and part of every report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Manifest {
    /// The kernel.
    pub kernel: Name,
    /// Its key: a digest of everything that went into it.
    pub key: String,
    /// The kernel in whose built tree it was built, if it was.
    pub base: Option<Name>,
    /// That kernel's key.
    pub base_key: Option<String>,
    /// Where the source comes from.
    pub source: Provenance,
    /// What compiled it; nothing here compiled a prebuilt kernel.
    pub toolchain: Option<Tools>,
    /// How it was configured.
    pub configuration: ConfigurationRecord,
    /// Compatibility changes that were made, in order, the base's among them.
    pub compatibility: Vec<Applied>,
    /// The user's patches in order, the base's among them.
    pub patches: Vec<FileRecord>,
    /// Settings that make a build reproducible.
    pub settings: BTreeMap<String, String>,
    /// How long it took, from the clone to the kept results.
    pub seconds: f64,
    /// Objects that were compiled.
    pub objects: u64,
    /// Signature of the loaded sections of vmlinux, if there is one.
    pub elf_signature: Option<String>,
    /// The signature is the base's: the patches change nothing that runs.
    pub unchanged_from_base: bool,
    /// Modules of the package that a guest loads at boot, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub modules: Vec<String>,
}

/// What it means that two kernels have one signature, that of what vmlinux loads.
pub const THE_SAME: &str = "what differs isn't compiled, is in a module, or compiles to the same code";

impl Manifest {
    /// Which kernel it is the same as, and what that means, if its patches change nothing that runs.
    #[must_use]
    pub fn same_as_base(&self) -> Option<String> {
        let base = self.base.as_ref().map_or("its base", |base| base.as_str());
        self.unchanged_from_base.then(|| format!("the same vmlinux as {base}: {THE_SAME}"))
    }
}

/// How a kernel was configured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ConfigurationRecord {
    /// `defconfig`, `allnoconfig`, or the file's path; a prebuilt kernel's in its package.
    pub base: String,
    /// What became of its modules.
    #[serde(default)]
    pub modules: Modules,
    /// Fragments in order, the base's among them.
    pub fragments: Vec<FileRecord>,
    /// BLAKE3 of the result.
    pub config_blake3: String,
    /// Options that are `y` in it.
    pub options_on: usize,
}

/// A file that went into a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FileRecord {
    /// Its path, relative to the definitions where it lies below them.
    pub path: PathBuf,
    /// BLAKE3 of its content.
    pub blake3: String,
}

impl FileRecord {
    /// Reads a file for its digest. `shown` is how the path is recorded.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn of(path: &Path, shown: &Path) -> Result<Self, BuildError> {
        let content = input::read(path, input::LARGEST_TEXT).map_err(unreadable(path))?;
        Ok(Self { path: shown.to_owned(), blake3: blake3::hash(&content).to_hex().to_string() })
    }
}

/// What goes into a key.
#[derive(Debug, Serialize)]
pub struct Inputs<'a> {
    /// See [`FORMAT`].
    pub format: u32,
    /// Digest of the source tree.
    pub source: &'a str,
    /// What compiles it.
    pub toolchain: &'a Tools,
    /// The configuration's base: its name, or the digest of its content.
    pub configuration: &'a str,
    /// Digests of the fragments, in order.
    pub fragments: Vec<&'a str>,
    /// Digests of what is applied to the source or to the base's tree, in order.
    pub patches: Vec<&'a str>,
    /// Settings that make a build reproducible.
    pub settings: &'a BTreeMap<String, String>,
    /// The base's key.
    pub base: Option<&'a str>,
}

impl Inputs<'_> {
    /// The key, in hex.
    ///
    /// # Errors
    /// Never in practice: plain values can be written as JSON.
    pub fn key(&self) -> Result<String, BuildError> {
        let text = serde_json::to_vec(self).map_err(|cause| failed("write", Path::new("the key"))(cause.into()))?;
        Ok(blake3::hash(&text).to_hex().to_string())
    }
}
