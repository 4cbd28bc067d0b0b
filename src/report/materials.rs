//! Where a kernel's source comes from, in the words that each reader needs: people, and programs that read provenance.
//!
//! Read [`Material`].

use std::collections::BTreeMap;

use crate::build::Manifest;
use crate::source::Provenance;

/// A source, named and with its digests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Material {
    /// What people call it; a package's name and version where it is one.
    pub name: String,
    /// A URI: a package URL where there is one.
    pub uri: String,
    /// Digests by algorithm, as in-toto names them.
    pub digest: BTreeMap<&'static str, String>,
}

impl Material {
    /// The source of a build.
    #[must_use]
    pub fn of(source: &Provenance) -> Self {
        let one = |algorithm, digest: &str| BTreeMap::from([(algorithm, digest.to_owned())]);
        match source {
            Provenance::Debian { package, version, deb_sha256, .. } => {
                Self { name: format!("{package} {version}"), uri: debian(package, version), digest: one("sha256", deb_sha256) }
            }
            Provenance::Tarball { location, sha256 } => {
                Self { name: location.clone(), uri: location.clone(), digest: one("sha256", sha256) }
            }
            Provenance::Git { repository, revision, commit } => Self {
                name: format!("{repository} {revision}"),
                uri: format!("git+{repository}@{commit}"),
                digest: one("gitCommit", commit),
            },
            Provenance::Directory { path, blake3 } => {
                let path = path.display().to_string();
                Self { name: path.clone(), uri: path, digest: one("blake3", blake3) }
            }
            Provenance::Prebuilt { package, version: Some(version), sha256, more: _ } => {
                Self { name: format!("{package} {version}"), uri: debian(package, version), digest: one("sha256", sha256) }
            }
            Provenance::Prebuilt { package, version: None, sha256, more: _ } => Self::file(package, sha256),
            Provenance::Srpm { location, sha256, tarball_sha256, .. } => Self::file(location, sha256.as_ref().unwrap_or(tarball_sha256)),
        }
    }

    /// The source of a build, and the other packages of a kernel that a distribution divided.
    #[must_use]
    pub fn all(source: &Provenance) -> Vec<Self> {
        let more = match source {
            Provenance::Prebuilt { more, .. } => more.as_slice(),
            Provenance::Debian { .. }
            | Provenance::Tarball { .. }
            | Provenance::Git { .. }
            | Provenance::Directory { .. }
            | Provenance::Srpm { .. } => &[],
        };
        let more = more.iter().map(|one| Self::file(&one.package, &one.sha256));
        [Self::of(source)].into_iter().chain(more).collect()
    }

    /// A package file: people know it by its name and version, which the file's name is.
    fn file(location: &str, sha256: &str) -> Self {
        let name = location.rsplit('/').next().unwrap_or(location).to_owned();
        Self { name, uri: location.to_owned(), digest: BTreeMap::from([("sha256", sha256.to_owned())]) }
    }

    /// The digest, for people.
    #[must_use]
    pub fn digest(&self) -> String {
        self.digest.iter().map(|(algorithm, digest)| format!("{algorithm} {digest}")).collect::<Vec<_>>().join(", ")
    }
}

fn debian(package: &str, version: &str) -> String {
    format!("pkg:deb/debian/{package}@{}", version.replace(':', "%3A").replace('+', "%2B"))
}

/// What a source package's spec file did, in lines: a reader of the report is to know what the kernel was made of before any patch of ours.
#[must_use]
pub fn own_changes(source: &Provenance) -> Vec<String> {
    let Provenance::Srpm { signed_by, patches, unrepeated, extraversion, .. } = source else { return Vec::new() };
    let named =
        |applied: bool| patches.iter().filter(|patch| patch.applied == applied).map(|patch| patch.name.as_str()).collect::<Vec<_>>();
    let said = |what: &str, names: Vec<&str>| (!names.is_empty()).then(|| format!("{what} {}", names.join(", ")));
    let lines = [
        said("its own patches:", named(true)),
        said("of its patches left out, as its spec file does:", named(false)),
        extraversion.as_ref().map(|extraversion| format!("EXTRAVERSION {extraversion}")),
        signed_by.as_ref().map(|key| format!("signed by {key}")),
    ];
    lines.into_iter().flatten().chain(unrepeated.iter().map(|line| format!("not repeated: {line}"))).collect()
}

/// What compiled a kernel, in one line.
#[must_use]
pub fn toolchain(build: &Manifest) -> String {
    let Some(tools) = &build.toolchain else { return "the distribution's, which built the package".to_owned() };
    format!("{}, {}, {}", tools.compiler, tools.binutils, tools.make)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::srpm::PatchRecord;

    #[test]
    fn what_a_spec_file_did_is_told() {
        let patch = |name: &str, applied| PatchRecord { name: name.to_owned(), sha256: "0".to_owned(), applied };
        let source = Provenance::Srpm {
            location: "k.src.rpm".to_owned(),
            sha256: None,
            signed_by: Some("ABCD".to_owned()),
            tarball: "k.tar.xz".to_owned(),
            tarball_sha256: "1".to_owned(),
            tarball_sha1: "2".to_owned(),
            patches: vec![patch("empty.patch", false), patch("one.patch", true), patch("two.patch", true)],
            unrepeated: vec!["k.spec line 3: sed -i x".to_owned()],
            extraversion: Some("-1.el7".to_owned()),
            configurations: Vec::new(),
        };
        let expected = [
            "its own patches: one.patch, two.patch",
            "of its patches left out, as its spec file does: empty.patch",
            "EXTRAVERSION -1.el7",
            "signed by ABCD",
            "not repeated: k.spec line 3: sed -i x",
        ];
        assert_eq!(own_changes(&source), expected);
    }
}
