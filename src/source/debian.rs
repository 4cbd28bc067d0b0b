//! Debian packages that hold a kernel's source tarball or a binary kernel, brought by apt without root.
//!
//! apt decides which version there is; a version that was fetched before is used again without asking it when the definition names that version,
//! and with a warning when apt has no network. Nothing is installed.
//!
//! Read [`fetch`] first.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::digest::{Hashing, sha256};
use super::stop::{Stop, blocking};
use super::{
    ArchiveError, Fetched, PackageRecord, Provenance, Remembered, SourceError, TREE, Taken, download, failed, keep, kept, package,
    prebuilt, unpack_tree,
};
use crate::event::Events;
use crate::program::Program;
use crate::store::{Scratch, Store};

/// What apt's index says of a package.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    version: String,
    sha256: String,
    size: Option<u64>,
    /// The kernel's package that a metapackage depends on.
    kernel: Option<(String, Option<String>)>,
}

/// Brings the source tree of a package, or its kernel.
pub async fn fetch(store: &Store, package: &str, version: Option<&str>, taken: Taken, events: &Events) -> Result<Fetched, SourceError> {
    check_name(package, "name of a Debian package", "+-.")?;
    if let Some(version) = version {
        check_name(version, "version of a Debian package", "+-.:~")?;
    }
    let note = match taken {
        Taken::Tree => format!("debian-{package}"),
        Taken::Kernel => format!("prebuilt-{package}"),
    };
    let before: Vec<Remembered> = store.recall(&note).unwrap_or_default();
    let find = |wanted: &str| match before.iter().find(|one| is_version(one, wanted)) {
        Some(one) => kept(store, one.clone()),
        None => Ok(None),
    };
    if let Some(version) = version
        && let Some(found) = find(version)?
    {
        return Ok(found);
    }
    let fresh = match offered(store, package, version, taken, !before.is_empty()).await {
        Ok((package, record)) => match find(&record.version)? {
            Some(found) => return Ok(found),
            None => bring(store, &package, &record, taken, events).await,
        },
        Err(failure) => Err(failure),
    };
    match fresh {
        Ok(fetched) => {
            let one = Remembered { digest: fetched.digest.clone(), provenance: fetched.provenance.clone() };
            let mut known = before;
            known.retain(|other| other.digest != one.digest);
            known.push(one);
            store.remember(&note, &known);
            Ok(fetched)
        }
        // A newer version that can't be had is no reason not to work; a damaged or hostile one is.
        Err(failure @ (SourceError::Program(_) | SourceError::NoPackage { .. })) if version.is_none() => {
            for one in before.into_iter().rev() {
                if let Some(found) = kept(store, one)? {
                    let Some(version) = version_of(&found.provenance) else { continue };
                    events.warn(format!("using {package} {version}, which was fetched before: {failure}"));
                    return Ok(found);
                }
            }
            Err(failure)
        }
        Err(failure) => Err(failure),
    }
}

fn is_version(one: &Remembered, wanted: &str) -> bool {
    version_of(&one.provenance).is_some_and(|version| version == wanted)
}

fn version_of(provenance: &Provenance) -> Option<&str> {
    match provenance {
        Provenance::Debian { version, .. } => Some(version),
        Provenance::Prebuilt { version, .. } => version.as_deref(),
        Provenance::Tarball { .. } | Provenance::Git { .. } | Provenance::Directory { .. } | Provenance::Srpm { .. } => None,
    }
}

/// Most metapackages that are followed to the kernel's own package: Debian has one, its derivatives two.
const METAPACKAGES: usize = 3;

/// What apt would bring: the package, or the kernel's package that it stands for.
async fn offered(
    store: &Store,
    package: &str,
    version: Option<&str>,
    taken: Taken,
    fetched: bool,
) -> Result<(String, Record), SourceError> {
    let mut package = package.to_owned();
    let mut record = known_record(store, &package, version, fetched).await?;
    for _ in 0..METAPACKAGES {
        let Some((kernel, version)) = record.kernel.take().filter(|_| taken == Taken::Kernel) else { break };
        record = known_record(store, &kernel, version.as_deref(), fetched).await?;
        package = kernel;
    }
    Ok((package, record))
}

/// Package names and versions become arguments of apt, so they begin with a letter or digit and have no surprising characters.
fn check_name(value: &str, what: &'static str, others: &str) -> Result<(), SourceError> {
    let fine =
        value.starts_with(|c: char| c.is_ascii_alphanumeric()) && value.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c));
    if fine { Ok(()) } else { Err(SourceError::Unusable { what, value: value.to_owned() }) }
}

fn argument(package: &str, version: Option<&str>) -> String {
    version.map_or_else(|| package.to_owned(), |version| format!("{package}={version}"))
}

/// What apt said, and the state in which it said it.
#[derive(Debug, Serialize, Deserialize)]
struct Said {
    state: Vec<Option<SystemTime>>,
    record: Record,
}

/// What decides apt's answer: its lists, where they come from, and preferences. apt.conf(5), apt_preferences(5).
const APT: [&str; 7] = [
    "/var/lib/apt/lists",
    "/etc/apt/sources.list",
    "/etc/apt/sources.list.d",
    "/etc/apt/preferences",
    "/etc/apt/preferences.d",
    "/etc/apt/apt.conf",
    "/etc/apt/apt.conf.d",
];

/// What apt's index says, asked again only if it may say something else: asking takes most of a second, and a run plans many kernels.
async fn known_record(store: &Store, package: &str, version: Option<&str>, fetched: bool) -> Result<Record, SourceError> {
    let note = format!("apt-{}", argument(package, version));
    let state: Vec<_> = APT.iter().map(|path| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok()).collect();
    if let Some(Said { record, .. }) = store.recall(&note).filter(|said: &Said| said.state == state) {
        return Ok(record);
    }
    let record = record(package, version, fetched).await?;
    let said = Said { state, record };
    store.remember(&note, &said);
    Ok(said.record)
}

/// What apt's index says of the version that it would take.
async fn record(package: &str, version: Option<&str>, fetched: bool) -> Result<Record, SourceError> {
    let wanted = argument(package, version);
    let mut show = Program::new("apt-cache", "apt");
    show.command.args(["show", "--no-all-versions", "--quiet", &wanted]);
    let output = show.output().await?;
    let text = String::from_utf8_lossy(&output.stdout);
    parse_record(&text).ok_or(SourceError::NoPackage { wanted, fetched })
}

fn parse_record(text: &str) -> Option<Record> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(|value| value.trim().to_owned());
    let size = field("Size").and_then(|size| size.parse().ok());
    let kernel = field("Depends").and_then(|depends| depends.split(',').find_map(kernel_dependency));
    Some(Record { version: field("Version")?, sha256: field("SHA256")?, size, kernel })
}

/// `linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2)`.
fn kernel_dependency(depends: &str) -> Option<(String, Option<String>)> {
    let (name, version) = match depends.trim().split_once(" (= ") {
        Some((name, version)) => (name, Some(version.strip_suffix(')')?.to_owned())),
        None => (depends.trim(), None),
    };
    (name.starts_with("linux-image-") && !name.contains(' ')).then(|| (name.to_owned(), version))
}

/// Downloads a package and takes the tree or the kernel out of it.
async fn bring(store: &Store, package: &str, record: &Record, taken: Taken, events: &Events) -> Result<Fetched, SourceError> {
    let scratch = Arc::new(store.work()?);
    let folder = scratch.path().join("download");
    std::fs::create_dir(&folder).map_err(failed("create", &folder))?;
    let wanted = argument(package, Some(&record.version));
    let mut get = Program::new("apt-get", "apt").within(download::still(&folder));
    get.command.args(["download", "--quiet", &wanted]).current_dir(&folder);
    let output = download::watched(get.output(), &folder, &wanted, || record.size, events).await?;
    if !output.status.success() {
        return Err(get.failed(&output).into());
    }
    let deb = downloaded(&folder).ok_or_else(|| SourceError::NoPackage { wanted: wanted.clone(), fetched: false })?;
    let (store, package, version, expected) = (store.clone(), package.to_owned(), record.version.clone(), record.sha256.clone());
    blocking(move |stop| {
        let found = sha256(&deb, stop).map_err(failed("read", &deb))?;
        if found != expected {
            return Err(SourceError::Digest { what: wanted, algorithm: "SHA-256", expected, found });
        }
        let remembered = match taken {
            Taken::Tree => {
                let (tarball, tarball_sha256) = unpack_deb(&deb, &package, &scratch, stop)?;
                let provenance =
                    Provenance::Debian { package, version, deb_sha256: found, tarball, tarball_sha256: tarball_sha256.clone() };
                Remembered { digest: tarball_sha256, provenance }
            }
            Taken::Kernel => {
                let file = std::fs::File::open(&deb).map_err(failed("open", &deb))?;
                let tree = scratch.path().join(TREE);
                std::fs::create_dir(&tree).map_err(failed("create", &tree))?;
                package::unpack(file, &package, &tree, stop)?;
                prebuilt::remembered(PackageRecord { package, sha256: found }, Some(version), Vec::new())
            }
        };
        keep(&store, &scratch, remembered)
    })
    .await
}

fn downloaded(folder: &Path) -> Option<PathBuf> {
    let mut files = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    files.find(|path| path.extension().is_some_and(|extension| extension == "deb"))
}

/// Unpacks the tarball in a package into the scratch folder, in one pass and without a file in between. Returns the tarball's name and SHA-256.
fn unpack_deb(deb: &Path, package: &str, scratch: &Scratch, stop: &Stop) -> Result<(String, String), SourceError> {
    let mut files = Program::new("dpkg-deb", "dpkg");
    files.command.arg("--fsys-tarfile").arg(deb);
    let mut files = files.stream()?;
    let result = unpack_tarball_of(&mut files, package, scratch, stop);
    files.finish()?;
    result
}

fn unpack_tarball_of(files: impl Read, package: &str, scratch: &Scratch, stop: &Stop) -> Result<(String, String), SourceError> {
    let damaged = |cause| SourceError::Archive { archive: format!("package {package}"), cause: ArchiveError::Damaged(cause) };
    let mut files = tar::Archive::new(files);
    for entry in files.entries().map_err(damaged)? {
        let entry = entry.map_err(damaged)?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let Some(name) = path.trim_start_matches("./").strip_prefix("usr/src/") else { continue };
        if !entry.header().entry_type().is_file() || !is_tarball(name) {
            continue;
        }
        let mut tarball = Hashing::new(entry, stop);
        unpack_tree(&mut tarball, scratch, stop).map_err(|cause| SourceError::Archive { archive: path.clone(), cause })?;
        let sha256 = tarball.finish().map_err(damaged)?;
        return Ok((name.to_owned(), sha256));
    }
    Err(SourceError::NoTarball { package: package.to_owned() })
}

fn is_tarball(name: &str) -> bool {
    !name.contains('/') && [".tar", ".tar.xz", ".tar.gz", ".tar.zst"].iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_first_record_of_apt_cache() {
        let text = "Package: linux-source-6.1\nSource: linux\nVersion: 6.1.192-2\nSize: 139331676\nSHA256: abc\nDescription: x\n";
        let record = Record { version: "6.1.192-2".into(), sha256: "abc".into(), size: Some(139_331_676), kernel: None };
        assert_eq!(parse_record(text), Some(record));
        assert_eq!(parse_record("Package: x\n"), None);
    }

    #[test]
    fn a_metapackage_names_the_kernel_that_it_stands_for() {
        let kernel =
            |depends: &str| parse_record(&format!("Version: 1\nSHA256: abc\nDepends: {depends}\n")).and_then(|record| record.kernel);
        let named = |name: &str, version: Option<&str>| Some((name.to_owned(), version.map(str::to_owned)));
        assert_eq!(kernel("linux-image-6.1.0-56-amd64 (= 6.1.192-2)"), named("linux-image-6.1.0-56-amd64", Some("6.1.192-2")));
        assert_eq!(kernel("linux-firmware, linux-image-5.15.0-91-generic"), named("linux-image-5.15.0-91-generic", None));
        assert_eq!(kernel("kmod, linux-base (>= 4.3~), initramfs-tools (>= 0.120) | linux-initramfs-tool"), None);
    }

    #[test]
    fn an_option_is_no_package_name() {
        assert!(check_name("-oDir=/tmp", "name of a Debian package", "+-.").is_err());
        assert!(check_name("linux-source-6.1", "name of a Debian package", "+-.").is_ok());
        assert!(check_name("6.1.192-2 x", "version of a Debian package", "+-.:~").is_err());
    }
}
