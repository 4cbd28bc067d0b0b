//! Tar archives, on this machine or behind a URL.
//!
//! The archive's SHA-256 is its tree's name. A URL's archive is not unpacked before its digest was checked; one on this machine may come without
//! a digest, and is then named by what it has.
//!
//! Read [`fetch`] first.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::digest::{Hashing, sha256};
use super::stop::blocking;
use super::{ArchiveError, Fetched, Provenance, Remembered, SourceError, download, failed, keep, kept, unpack_tree, unreadable};
use crate::event::Events;
use crate::input;
use crate::spec::Location;
use crate::store::{Kept, Lock, Store};

/// The digest of a file that looked like this: saves hashing it again.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Hashed {
    look: (u64, i64, i64, u64),
    sha256: String,
}

/// Brings the tree of an archive.
pub async fn fetch(store: &Store, location: &Location, expected: Option<&str>, events: &Events) -> Result<Fetched, SourceError> {
    match location {
        Location::Path(path) => from_path(store, path, expected).await,
        Location::Url(url) => from_url(store, url, expected, events).await,
    }
}

fn remembered(location: &str, sha256: &str) -> Remembered {
    let (location, sha256) = (location.to_owned(), sha256.to_owned());
    Remembered { digest: sha256.clone(), provenance: Provenance::Tarball { location, sha256 } }
}

async fn from_path(store: &Store, path: &Path, expected: Option<&str>) -> Result<Fetched, SourceError> {
    let found = hashed(store, path).await?;
    check(path.display().to_string(), expected, &found)?;
    unpacked(store, path.to_owned(), path.display().to_string(), found).await
}

/// SHA-256 of a file of this machine, remembered as long as the file looks the same.
pub(super) async fn hashed(store: &Store, path: &Path) -> Result<String, SourceError> {
    let metadata = input::open(path).and_then(|file| file.metadata()).map_err(unreadable(path))?;
    let look = (metadata.size(), metadata.mtime(), metadata.mtime_nsec(), metadata.ino());
    let note = format!("hashed-{}", &blake3::hash(path.as_os_str().as_encoded_bytes()).to_hex()[..32]);
    let hashed = store.recall(&note).filter(|hashed: &Hashed| hashed.look == look);
    if let Some(hashed) = hashed {
        return Ok(hashed.sha256);
    }
    let archive = path.to_owned();
    let found = blocking(move |stop| sha256(&archive, stop)).await.map_err(failed("read", path))?;
    store.remember(&note, &Hashed { look, sha256: found.clone() });
    Ok(found)
}

async fn from_url(store: &Store, url: &str, expected: Option<&str>, events: &Events) -> Result<Fetched, SourceError> {
    if let Some(sha256) = expected
        && let Some(found) = kept(store, remembered(url, sha256))?
    {
        return Ok(found);
    }
    let archive = downloaded(store, url, expected, events).await?;
    unpacked(store, archive.file.clone(), url.to_owned(), archive.sha256.clone()).await
}

/// A file that was downloaded. It is removed with the value.
#[derive(Debug)]
pub(super) struct Downloaded {
    /// The file.
    pub file: PathBuf,
    /// Its SHA-256.
    pub sha256: String,
    folder: PathBuf,
    _in_use: Lock,
}

impl Drop for Downloaded {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Downloads a file, or the rest of it, and compares it with the digest that is expected.
pub(super) async fn downloaded(store: &Store, url: &str, expected: Option<&str>, events: &Events) -> Result<Downloaded, SourceError> {
    if !(url.starts_with("https://") || url.starts_with("http://")) {
        return Err(SourceError::Unusable { what: "http: or https: URL", value: url.to_owned() });
    }
    // Beside the trees, so that an attempt that broke off is found by the next one and removed by gc if there is none.
    let part = format!("download-{}", &blake3::hash(url.as_bytes()).to_hex()[..32]);
    let in_use = store.in_use(Kept::Sources, &part)?;
    let folder = store.place(Kept::Sources, &part);
    std::fs::create_dir_all(&folder).map_err(failed("create", &folder))?;
    let file = download::download(url, &folder, events).await?;
    let mut downloaded = Downloaded { file: file.clone(), sha256: String::new(), folder, _in_use: in_use };
    downloaded.sha256 = blocking(move |stop| sha256(&file, stop)).await.map_err(failed("read", &downloaded.file))?;
    check(url.to_owned(), expected, &downloaded.sha256)?;
    Ok(downloaded)
}

/// Compares a digest with the expected one, if one is expected.
pub(super) fn check(what: String, expected: Option<&str>, found: &str) -> Result<(), SourceError> {
    match expected {
        Some(expected) if !expected.eq_ignore_ascii_case(found) => {
            Err(SourceError::Digest { what, algorithm: "SHA-256", expected: expected.to_owned(), found: found.to_owned() })
        }
        _ => Ok(()),
    }
}

async fn unpacked(store: &Store, archive: PathBuf, location: String, sha256: String) -> Result<Fetched, SourceError> {
    let remembered = remembered(&location, &sha256);
    if let Some(found) = kept(store, remembered.clone())? {
        return Ok(found);
    }
    let scratch = store.work()?;
    let store = store.clone();
    blocking(move |stop| {
        let file = input::open(&archive).map_err(unreadable(&archive))?;
        let mut bytes = Hashing::new(file, stop);
        let refused = |cause| SourceError::Archive { archive: location.clone(), cause };
        unpack_tree(&mut bytes, &scratch, stop).map_err(refused)?;
        // What was unpacked is what was checked, even if somebody wrote to the file in between.
        let again = bytes.finish().map_err(|cause| refused(ArchiveError::Damaged(cause)))?;
        check(location.clone(), Some(&sha256), &again)?;
        keep(&store, &scratch, remembered)
    })
    .await
}
