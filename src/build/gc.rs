//! What may be removed from the store, and its removal.
//!
//! A thing is removed when nobody used it for long, or the least recently used first until the rest is small enough. What is in use is never
//! touched: its lock is asked first. Removal begins with a rename out of the way, so an interrupted one leaves nothing that looks whole.
//!
//! Read [`gc`] first.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::error::{BuildError, failed};
use crate::store::{Kept, Store};

/// What may stay.
#[derive(Debug, Clone, Copy, Default)]
pub struct Policy {
    /// Remove what wasn't used for so long.
    pub keep: Option<Duration>,
    /// Remove the least recently used until the rest has at most so many bytes.
    pub max_size: Option<u64>,
}

/// Something in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What it is.
    pub kind: Kept,
    /// Its key.
    pub key: String,
    /// Where it is.
    pub path: PathBuf,
    /// When it was last used.
    pub used: SystemTime,
    /// Bytes on the disk. A file that several things share counts for the most recently used of them, which is the last to go.
    pub bytes: u64,
}

/// What `gc` did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// What was removed, or would be.
    pub removed: Vec<Item>,
    /// What was due and stays because somebody uses it.
    pub in_use: Vec<Item>,
    /// What stays.
    pub kept: Vec<Item>,
}

/// Removes what a policy lets go, or only finds it if `pretend` is set. Old logs go too.
///
/// # Errors
/// When the store can't be read or something can't be moved out of the way.
pub fn gc(store: &Store, policy: Policy, pretend: bool) -> Result<Collected, BuildError> {
    let now = SystemTime::now();
    let mut items = items(store)?;
    let mut bytes: u64 = items.iter().map(|item| item.bytes).sum();
    // The least recently used first.
    items.sort_by_key(|item| item.used);
    let mut collected = Collected::default();
    for item in items {
        let old = policy.keep.is_some_and(|keep| is_older(now, item.used, keep));
        let too_much = policy.max_size.is_some_and(|max| bytes > max);
        if !(old || too_much) {
            collected.kept.push(item);
            continue;
        }
        match store.try_unused(item.kind, &item.key)? {
            None => collected.in_use.push(item),
            Some(_right) => {
                bytes -= item.bytes;
                if !pretend {
                    remove(store, &item)?;
                }
                collected.removed.push(item);
            }
        }
    }
    if let Some(keep) = policy.keep.filter(|_| !pretend) {
        remove_old_files(&store.log(""), now, keep)?;
    }
    Ok(collected)
}

fn is_older(now: SystemTime, used: SystemTime, keep: Duration) -> bool {
    now.duration_since(used).is_ok_and(|age| age > keep)
}

/// Everything in the store.
///
/// # Errors
/// When it can't be read.
pub fn items(store: &Store) -> Result<Vec<Item>, BuildError> {
    let mut items = Vec::new();
    for kind in Kept::ALL {
        let folder = store.place(kind, "");
        for entry in fs::read_dir(&folder).map_err(failed("read", &folder))? {
            let entry = entry.map_err(failed("read", &folder))?;
            let path = entry.path();
            // It may be gone by now: another gc.
            let Ok(used) = entry.metadata().and_then(|metadata| metadata.modified()) else { continue };
            items.push(Item { kind, key: entry.file_name().to_string_lossy().into_owned(), path, used, bytes: 0 });
        }
    }
    items.sort_by_key(|item| std::cmp::Reverse(item.used));
    let mut seen = HashSet::new();
    for item in &mut items {
        item.bytes = size(&item.path, &mut seen);
    }
    Ok(items)
}

/// Bytes on the disk of what wasn't seen before.
fn size(path: &Path, seen: &mut HashSet<(u64, u64)>) -> u64 {
    let files = walkdir::WalkDir::new(path).into_iter().flatten().filter_map(|entry| entry.metadata().ok());
    let unseen = files.filter(|file| file.is_dir() || file.nlink() == 1 || seen.insert((file.dev(), file.ino())));
    // `st_blocks` counts units of 512 bytes, whatever the filesystem's block size (stat(2)).
    unseen.map(|file| file.blocks() * 512).sum()
}

fn remove(store: &Store, item: &Item) -> Result<(), BuildError> {
    let scratch = store.work()?;
    let away = scratch.path().join("removed");
    match fs::rename(&item.path, &away) {
        Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => Err(failed("remove", &item.path)(cause)),
        // The scratch folder takes it along.
        _ => Ok(()),
    }
}

fn remove_old_files(folder: &Path, now: SystemTime, keep: Duration) -> Result<(), BuildError> {
    for entry in fs::read_dir(folder).map_err(failed("read", folder))?.flatten() {
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        if modified.is_ok_and(|time| is_older(now, time, keep)) {
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn store_with(things: &[(Kept, &str, u64)]) -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open_at(folder.path()).unwrap();
        for (kind, key, days) in things {
            let path = store.place(*kind, key);
            fs::create_dir(&path).unwrap();
            fs::write(path.join("content"), vec![1; 100_000]).unwrap();
            let time = SystemTime::now() - Duration::from_secs(days * 86_400);
            fs::File::open(&path).unwrap().set_modified(time).unwrap();
        }
        (folder, store)
    }

    fn keys(items: &[Item]) -> Vec<&str> {
        items.iter().map(|item| item.key.as_str()).collect()
    }

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn the_old_go_and_what_is_in_use_stays() {
        let (_folder, store) = store_with(&[(Kept::Builds, "new", 1), (Kept::Trees, "old", 9), (Kept::Sources, "held", 9)]);
        let held = store.in_use(Kept::Sources, "held").unwrap();
        let policy = Policy { keep: Some(7 * DAY), max_size: None };
        let pretended = gc(&store, policy, true).unwrap();
        assert!(store.place(Kept::Trees, "old").exists());
        let collected = gc(&store, policy, false).unwrap();
        assert_eq!(keys(&pretended.removed), keys(&collected.removed));
        assert_eq!((keys(&collected.removed), keys(&collected.in_use), keys(&collected.kept)), (vec!["old"], vec!["held"], vec!["new"]));
        assert!(!store.place(Kept::Trees, "old").exists());
        drop(held);
        assert_eq!(keys(&gc(&store, policy, false).unwrap().removed), ["held"]);
    }

    #[test]
    fn the_least_recently_used_go_until_the_rest_is_small_enough() {
        let (_folder, store) = store_with(&[(Kept::Builds, "a", 3), (Kept::Trees, "b", 2), (Kept::Images, "c", 1)]);
        let policy = Policy { keep: None, max_size: Some(250_000) };
        assert_eq!(keys(&gc(&store, policy, false).unwrap().removed), ["a"]);
        assert_eq!(keys(&gc(&store, policy, false).unwrap().removed), Vec::<&str>::new());
    }

    #[test]
    fn shared_files_count_once_for_the_last_to_go() {
        let (_folder, store) = store_with(&[(Kept::Sources, "old", 2), (Kept::Trees, "new", 1)]);
        let (old, new) = (store.place(Kept::Sources, "old").join("shared"), store.place(Kept::Trees, "new").join("shared"));
        fs::write(&old, vec![1; 1_000_000]).unwrap();
        fs::hard_link(&old, &new).unwrap();
        let time = SystemTime::now() - 2 * DAY;
        fs::File::open(store.place(Kept::Sources, "old")).unwrap().set_modified(time).unwrap();
        let items = items(&store).unwrap();
        let bytes = |key: &str| items.iter().find(|item| item.key == key).unwrap().bytes;
        assert!(bytes("new") > 1_000_000 && bytes("old") < 200_000, "{items:?}");
    }
}
