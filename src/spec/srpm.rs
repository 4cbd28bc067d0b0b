//! Source packages (SRPMs) in definitions: what names one, and the vault that it comes from.
//!
//! A digest is wanted for everything that a network may bring: the package's own, or that of the tarball in it, which distributions publish. No
//! package is opened here.
//!
//! Read [`Srpm`] first.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::marks::Node;
use super::overrides::OverrideError;
use super::sheet::Sheet;
use super::words::{self, argument, file_below, inside, sha1, sha256, wrong};
use super::{Definitions, Location, PackageFile, Prebuilt, Source, raw};

/// Where CentOS keeps its old releases.
pub const VAULT: &str = "https://vault.centos.org";

/// A source package (SRPM) of a distribution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Srpm {
    /// The package's file name, `kernel-3.10.0-1160.el7.src.rpm`.
    pub file: String,
    /// Its folder below the vault; may be empty.
    pub path: PathBuf,
    /// The vault: a URL without a slash at its end, or a folder of this machine.
    pub vault: Location,
    /// SHA-256 of the package, lower-case hex.
    pub sha256: Option<String>,
    /// The source tarball in it; the one that the spec file calls the first source when none is given.
    pub tarball: Option<SrpmTarball>,
    /// An ASCII-armoured file of OpenPGP public keys, absolute; one of them must have signed the package.
    pub key: Option<PathBuf>,
}

/// The tarball in a source package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SrpmTarball {
    /// Its file name.
    pub name: String,
    /// What it hashes to.
    pub digest: PublishedDigest,
}

/// A digest that somebody else published, lower-case hex.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PublishedDigest {
    /// SHA-1, which is what CentOS published of its tarballs.
    Sha1(String),
    /// SHA-256.
    Sha256(String),
}

/// Checks `source: srpm:`.
pub(super) fn check(sheet: &mut Sheet, srpm: raw::Srpm, marks: &Node, kernels: &Path) -> Option<Source> {
    let raw::Srpm { file, path, sha256: digest, tarball, key } = srpm;
    let whole = digest.is_some() || tarball.is_some() || marks.excuses("sha256") || marks.excuses("tarball");
    if !whole {
        let remedy = "add `sha256:` of the package, or `tarball:` with the name and digest of the tarball in it";
        sheet.say(marks.place, "a package without a digest can't be trusted", remedy);
    }
    let file = sheet.required(file, marks, "file").and_then(|text| sheet.value(package_file(&text), marks.at("file").place));
    let path = path.map(|text| sheet.value(below_the_vault(&text), marks.at("path").place));
    let digest = digest.map(|text| sheet.value(sha256(&text), marks.at("sha256").place));
    let tarball = tarball.map(|tarball| tarball_of(sheet, tarball, marks.at("tarball")));
    let key = key.map(|text| sheet.value(file_below(kernels, "kernels", &text), marks.at("key").place));
    Some(Source::Srpm(Srpm {
        file: file?,
        path: path.unwrap_or_else(|| Some(PathBuf::new()))?,
        vault: Location::Url(VAULT.to_owned()),
        sha256: digest.map_or(Some(None), |digest| digest.map(Some))?,
        tarball: tarball.map_or(Some(None), |tarball| tarball.map(Some))?,
        key: key.map_or(Some(None), |key| key.map(Some))?,
    }))
}

fn tarball_of(sheet: &mut Sheet, tarball: raw::SrpmTarball, marks: &Node) -> Option<SrpmTarball> {
    let name = sheet.required(tarball.name, marks, "name");
    let name = name.and_then(|text| sheet.value(argument(&text, "file name", ".-_+~^"), marks.at("name").place));
    let digest = match (tarball.sha1, tarball.sha256) {
        (Some(text), None) => sheet.value(sha1(&text), marks.at("sha1").place).map(PublishedDigest::Sha1),
        (None, Some(text)) => sheet.value(sha256(&text), marks.at("sha256").place).map(PublishedDigest::Sha256),
        _ => {
            if marks.lost.is_empty() {
                sheet.say(marks.place, "a tarball in a package has exactly one of `sha1` and `sha256`", "write one of the two");
            }
            None
        }
    };
    Some(SrpmTarball { name: name?, digest: digest? })
}

/// How a source package's name ends.
pub(super) const ENDING: &str = ".src.rpm";

fn package_file(text: &str) -> Result<String, words::Wrong> {
    let file = argument(text, "file name of a source package", ".-_+~^")?;
    if file.ends_with(ENDING) {
        return Ok(file);
    }
    wrong(format!("{text:?} is no source package"), format!("write a file name that ends in `{ENDING}`; its folder goes into `path`"))
}

/// A folder that becomes part of a URL.
fn below_the_vault(text: &str) -> Result<PathBuf, words::Wrong> {
    argument(text, "path below the vault", ".-_+~/")?;
    inside(text, "the vault")
}

impl Srpm {
    /// The package at a path of this machine, which the user names and so trusts.
    pub(super) fn at(path: &Path) -> Option<Self> {
        let file = path.file_name()?.to_str()?.to_owned();
        let vault = Location::Path(path.parent()?.to_owned());
        Some(Self { file, path: PathBuf::new(), vault, sha256: None, tarball: None, key: None })
    }
}

impl PackageFile {
    /// Takes a package of the vault from another one. What a folder lacks is left where it is: then its definition has a digest, or the user is told.
    fn take_from(&mut self, vault: &Location) {
        let Location::Url(url) = &self.location else { return };
        let Some(path) = url.strip_prefix(VAULT).and_then(|rest| rest.strip_prefix('/')) else { return };
        match vault {
            Location::Url(base) => self.location = Location::Url(format!("{base}/{path}")),
            Location::Path(folder) => {
                let name = path.rsplit('/').next().unwrap_or(path);
                let found = [folder.join(path), folder.join(name)].into_iter().find(|path| path.is_file());
                self.location = found.map_or_else(|| self.location.clone(), Location::Path);
            }
        }
    }
}

impl Definitions {
    /// Takes source packages, and kernels' packages of the same vault, from another one: a URL, or a folder that holds them.
    ///
    /// # Errors
    /// When it is neither.
    pub fn with_vault(mut self, vault: &str) -> Result<Self, OverrideError> {
        let url = vault.strip_prefix("https://").or_else(|| vault.strip_prefix("http://"));
        let location = match url {
            Some(rest) if !rest.is_empty() && vault.chars().all(|c| c.is_ascii_graphic()) => {
                Location::Url(vault.trim_end_matches('/').to_owned())
            }
            _ => match Path::new(vault).canonicalize() {
                Ok(folder) if folder.is_dir() => Location::Path(folder),
                _ => return Err(OverrideError::NoVault { vault: vault.to_owned() }),
            },
        };
        for kernel in self.kernels.values_mut() {
            match &mut kernel.source {
                Source::Srpm(srpm) => srpm.vault = location.clone(),
                Source::Prebuilt(Prebuilt::Files(files)) => files.iter_mut().for_each(|file| file.take_from(&location)),
                Source::Prebuilt(Prebuilt::Debian { .. })
                | Source::Debian { .. }
                | Source::Tarball { .. }
                | Source::Git { .. }
                | Source::Directory { .. } => {}
            }
        }
        Ok(self)
    }
}
