//! A store, and a folder for whatever a test needs beside it. What is fetched or built with it is each test's own business.
//!
//! Read [`Bench`].

use std::fs;
use std::path::PathBuf;

use hangproof::store::Store;

/// Both are gone with the value.
pub struct Bench {
    pub folder: tempfile::TempDir,
    pub store: Store,
}

impl Bench {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open_at(&folder.path().join("store")).unwrap();
        Self { folder, store }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// How many scratch folders there are in the store.
    pub fn scratch_folders(&self) -> usize {
        fs::read_dir(self.store.root().join("work")).unwrap().count()
    }
}
