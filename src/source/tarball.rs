//! Tar archives and packages, on this machine or behind a URL.
//!
//! The archive's SHA-256 is its tree's name. A URL's archive is not unpacked before its digest was checked; one on this machine may come without
//! a digest, and is then named by what it has.
//!
//! Read [`fetch`] first.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::digest::{Hashing, sha256};
use super::stop::blocking;
use super::{ArchiveError, Fetched, Provenance, Remembered, SourceError, Taken, download, failed, keep, kept, package, unpack_tree};
use crate::event::Events;
use crate::spec::Location;
use crate::store::{Kept, Store};

/// The digest of a file that looked like this: saves hashing it again.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Hashed {
    look: (u64, i64, i64, u64),
    sha256: String,
}

/// Brings the tree of an archive, or what is taken of a package.
pub async fn fetch(
    store: &Store,
    location: &Location,
    expected: Option<&str>,
    taken: Taken,
    events: &Events,
) -> Result<Fetched, SourceError> {
    match location {
        Location::Path(path) => from_path(store, path, expected, taken).await,
        Location::Url(url) => from_url(store, url, expected, taken, events).await,
    }
}

fn remembered(taken: Taken, location: &str, sha256: &str) -> Remembered {
    let (location, sha256) = (location.to_owned(), sha256.to_owned());
    match taken {
        Taken::Tree => Remembered { digest: sha256.clone(), provenance: Provenance::Tarball { location, sha256 } },
        Taken::Kernel => package::remembered(location, None, sha256),
    }
}

async fn from_path(store: &Store, path: &Path, expected: Option<&str>, taken: Taken) -> Result<Fetched, SourceError> {
    let found = hashed(store, path).await?;
    check(path.display().to_string(), expected, &found)?;
    unpacked(store, path.to_owned(), path.display().to_string(), found, taken).await
}

/// SHA-256 of a file of this machine, remembered as long as the file looks the same.
pub(super) async fn hashed(store: &Store, path: &Path) -> Result<String, SourceError> {
    let metadata = std::fs::metadata(path).map_err(failed("open", path))?;
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

async fn from_url(store: &Store, url: &str, expected: Option<&str>, taken: Taken, events: &Events) -> Result<Fetched, SourceError> {
    if !(url.starts_with("https://") || url.starts_with("http://")) {
        return Err(SourceError::Unusable { what: "http: or https: URL", value: url.to_owned() });
    }
    if let Some(sha256) = expected
        && let Some(found) = kept(store, remembered(taken, url, sha256))?
    {
        return Ok(found);
    }
    // Beside the trees, so that an attempt that broke off is found by the next one and removed by gc if there is none.
    let part = format!("download-{}", &blake3::hash(url.as_bytes()).to_hex()[..32]);
    let _in_use = store.in_use(Kept::Sources, &part)?;
    let folder = store.place(Kept::Sources, &part);
    std::fs::create_dir_all(&folder).map_err(failed("create", &folder))?;
    let archive = download::download(url, &folder, events).await?;
    let found = blocking({
        let archive = archive.clone();
        move |stop| sha256(&archive, stop)
    });
    let found = found.await.map_err(failed("read", &archive))?;
    let checked = check(url.to_owned(), expected, &found);
    let result = match checked {
        Ok(()) => unpacked(store, archive, url.to_owned(), found, taken).await,
        Err(wrong) => Err(wrong),
    };
    let _ = std::fs::remove_dir_all(&folder);
    result
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

async fn unpacked(store: &Store, archive: PathBuf, location: String, sha256: String, taken: Taken) -> Result<Fetched, SourceError> {
    let remembered = remembered(taken, &location, &sha256);
    if let Some(found) = kept(store, remembered.clone())? {
        return Ok(found);
    }
    let scratch = store.work()?;
    let store = store.clone();
    blocking(move |stop| {
        let file = File::open(&archive).map_err(failed("open", &archive))?;
        let mut bytes = Hashing::new(file, stop);
        let refused = |cause| SourceError::Archive { archive: location.clone(), cause };
        match taken {
            Taken::Tree => unpack_tree(&mut bytes, &scratch, stop).map_err(refused)?,
            Taken::Kernel => package::unpack(&mut bytes, &location, &scratch, stop)?,
        }
        // What was unpacked is what was checked, even if somebody wrote to the file in between.
        let again = bytes.finish().map_err(|cause| refused(ArchiveError::Damaged(cause)))?;
        check(location.clone(), Some(&sha256), &again)?;
        keep(&store, &scratch, remembered)
    })
    .await
}
