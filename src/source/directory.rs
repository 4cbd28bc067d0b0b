//! Folders that already hold a source tree: copied, never built in.
//!
//! The copy's content is its name, so a folder that changed is another tree and one that only was touched isn't. `.git` stays behind.
//!
//! Read [`fetch`] first.

use std::path::Path;

use super::stop::blocking;
use super::{Fetched, Provenance, Remembered, SourceError, TREE, keep, kept, tree};
use crate::store::Store;

/// Brings a copy of a folder.
pub async fn fetch(store: &Store, path: &Path) -> Result<Fetched, SourceError> {
    if !path.is_dir() {
        return Err(SourceError::NoFolder { path: path.to_owned() });
    }
    let path = path.canonicalize().map_err(super::failed("resolve", path))?;
    let (store, scratch) = (store.clone(), store.work()?);
    blocking(move |stop| {
        let remembered = |blake3: String| Remembered {
            digest: format!("directory-{blake3}"),
            provenance: Provenance::Directory { path: path.clone(), blake3 },
        };
        if let Some(found) = kept(&store, remembered(tree::content(&path, stop)?))? {
            return Ok(found);
        }
        let copy = scratch.path().join(TREE);
        tree::copy(&path, &copy, stop)?;
        // The copy is what is built, so it is the copy that is hashed: somebody may be editing the folder.
        let digest = tree::content(&copy, stop)?;
        keep(&store, &scratch, remembered(digest))
    })
    .await
}
