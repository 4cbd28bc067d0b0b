//! A binary kernel in package files, on this machine or behind URLs: one package, or those between which the distribution divided it.
//!
//! A file that a network brings is used only if its digest is known before; one on this machine is its owner's word. How the kernel is taken out of a
//! package is [`super::package`]'s business.
//!
//! Read [`fetch`] first.

use std::fs;
use std::path::PathBuf;

use super::digest::Hashing;
use super::stop::blocking;
use super::tarball::{self, Downloaded};
use super::{ArchiveError, Fetched, PackageRecord, Provenance, Remembered, SourceError, TREE, failed, keep, kept, package, unreadable};
use crate::event::Events;
use crate::input;
use crate::spec::{Location, PackageFile};
use crate::store::Store;

/// A package whose content is known.
struct Brought {
    file: PathBuf,
    location: String,
    sha256: String,
    /// Removes what was downloaded.
    _download: Option<Downloaded>,
}

/// What is known of packages that were unpacked into one tree; the first one comes from an index if it has a version.
pub fn remembered(first: PackageRecord, version: Option<String>, more: Vec<PackageRecord>) -> Remembered {
    let PackageRecord { package, sha256 } = first;
    let digest = if more.is_empty() {
        format!("package-{sha256}")
    } else {
        let all: Vec<&str> = [&sha256].into_iter().chain(more.iter().map(|one| &one.sha256)).map(String::as_str).collect();
        format!("packages-{}", blake3::hash(all.join(" ").as_bytes()).to_hex())
    };
    Remembered { digest, provenance: Provenance::Prebuilt { package, version, sha256, more } }
}

/// Brings the kernel of package files.
pub async fn fetch(store: &Store, files: &[PackageFile], events: &Events) -> Result<Fetched, SourceError> {
    let known = files.iter().map(|file| Some(record(&file.location.to_string(), file.sha256.as_ref()?)));
    // With a network that is gone, too.
    if let Some(found) = known.collect::<Option<Vec<_>>>().and_then(together)
        && files.iter().all(|file| matches!(file.location, Location::Url(_)))
        && let Some(found) = kept(store, found)?
    {
        return Ok(found);
    }
    let mut brought = Vec::new();
    for file in files {
        brought.push(bring(store, file, events).await?);
    }
    let records = brought.iter().map(|one| record(&one.location, &one.sha256)).collect();
    let Some(remembered) = together(records) else { return Err(SourceError::NoPackageFile { package: "nothing".to_owned() }) };
    if let Some(found) = kept(store, remembered.clone())? {
        return Ok(found);
    }
    let scratch = store.work()?;
    let store = store.clone();
    blocking(move |stop| {
        let tree = scratch.path().join(TREE);
        fs::create_dir(&tree).map_err(failed("create", &tree))?;
        for Brought { file, location, sha256, .. } in &brought {
            let mut bytes = Hashing::new(input::open(file).map_err(unreadable(file))?, stop);
            package::unpack(&mut bytes, location, &tree, stop)?;
            // What was unpacked is what was checked, even if somebody wrote to the file in between.
            let again =
                bytes.finish().map_err(|cause| SourceError::Archive { archive: location.clone(), cause: ArchiveError::Damaged(cause) })?;
            tarball::check(location.clone(), Some(sha256), &again)?;
        }
        keep(&store, &scratch, remembered)
    })
    .await
}

fn record(package: &str, sha256: &str) -> PackageRecord {
    PackageRecord { package: package.to_owned(), sha256: sha256.to_owned() }
}

fn together(records: Vec<PackageRecord>) -> Option<Remembered> {
    let mut records = records.into_iter();
    Some(remembered(records.next()?, None, records.collect()))
}

async fn bring(store: &Store, file: &PackageFile, events: &Events) -> Result<Brought, SourceError> {
    let location = file.location.to_string();
    match (&file.location, file.sha256.as_deref()) {
        (Location::Path(path), expected) => {
            let sha256 = tarball::hashed(store, path).await?;
            tarball::check(location.clone(), expected, &sha256)?;
            Ok(Brought { file: path.clone(), location, sha256, _download: None })
        }
        (Location::Url(url), Some(expected)) => {
            let download = tarball::downloaded(store, url, Some(expected), events).await?;
            Ok(Brought { file: download.file.clone(), location, sha256: download.sha256.clone(), _download: Some(download) })
        }
        (Location::Url(_), None) => Err(SourceError::UnknownDigest { url: location }),
    }
}
