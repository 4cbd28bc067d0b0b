//! The folders that outlive a run, and the temporary ones that must not.
//!
//! The store is `$XDG_CACHE_HOME/hangproof` (or `HANGPROOF_CACHE`). What is in `sources/`, `builds/`, `buildroots/`, `trees/`, `images/` is named by its content's
//! key, written under `work/` and renamed when complete, so a folder that is there is whole. Scratch folders hold a lock file that its owner keeps
//! locked: one whose lock is free was left by a program that was killed, and [`Store::sweep`] removes it together with the processes that still
//! use it. `logs/` holds what outside programs printed, `notes/` small facts that only save work (they may vanish at any time). This file knows
//! nothing of what is stored.
//!
//! Read [`Store`] first.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::process::{Pid, Signal, geteuid, kill_process};

use crate::fault::Whose;

/// Why the store can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no home directory to put it in.
    #[error("no folder for the cache: set HANGPROOF_CACHE or HOME")]
    NoHome,
    /// Its folders can't be made.
    #[error("{} can't be the store: {cause}: name another folder with HANGPROOF_CACHE", root.display())]
    Unusable {
        /// The store's folder.
        root: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// Its path has a character that programs which work in it don't take.
    #[error(
        "{root:?} can't be the store: {found:?} in a path divides it for make or user-mode Linux: name a folder of letters, digits and `/._-+@~` with \
         HANGPROOF_CACHE"
    )]
    Name {
        /// The store's folder.
        root: PathBuf,
        /// The character.
        found: char,
    },
    /// An operation on a file failed.
    #[error("{what} {}: {cause}: HANGPROOF_CACHE and HANGPROOF_SCRATCH choose other folders", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        cause: io::Error,
    },
}

impl StoreError {
    /// Whose fault it is: the folder is the user's choice, a full or broken disk isn't.
    #[must_use]
    pub fn fault(&self) -> Whose {
        use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem};
        match self {
            Self::NoHome | Self::Name { .. } => Whose::Definition,
            Self::Unusable { cause, .. } if cause.kind() == NotFound => Whose::Definition,
            Self::Unusable { cause, .. } | Self::Io { cause, .. } => match cause.kind() {
                NotADirectory | io::ErrorKind::AlreadyExists | PermissionDenied | ReadOnlyFilesystem => Whose::Definition,
                _ => Whose::Ours,
            },
        }
    }
}

/// A kind of thing that is kept, as the folder's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Downloaded archives and unpacked source trees.
    Sources,
    /// Results of builds: bzImage, vmlinux, System.map, configuration.
    Builds,
    /// Built trees that variants are cloned from.
    Trees,
    /// Disk images and initramfs archives.
    Images,
    /// Folders of other systems' programs, in which compilers run.
    Buildroots,
}

impl Kept {
    /// All kinds.
    pub const ALL: [Self; 5] = [Self::Sources, Self::Builds, Self::Trees, Self::Images, Self::Buildroots];

    /// The folder's name.
    #[must_use]
    pub fn folder(self) -> &'static str {
        match self {
            Self::Sources => "sources",
            Self::Builds => "builds",
            Self::Trees => "trees",
            Self::Images => "images",
            Self::Buildroots => "buildroots",
        }
    }
}

/// The folders of one user.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// A lock that ends with the value.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Drop for Lock {
    /// A lock belongs to the open file, and another thread may be starting a program: until that is executed, the child has the file too. Closing
    /// ours wouldn't end the lock then.
    fn drop(&mut self) {
        let _ = flock(self.file.as_fd(), FlockOperation::Unlock);
    }
}

/// A temporary folder that is removed with the value, and by the next sweep if the program is killed.
#[derive(Debug)]
pub struct Scratch {
    folder: tempfile::TempDir,
    _lock: Lock,
}

impl Scratch {
    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove_lock_last(self.folder.path());
    }
}

/// The lock file of a scratch folder.
const LOCK: &str = ".lock";

/// Says that a folder is a cache, to backup programs too (the Cache Directory Tagging Specification, bford.info/cachedir).
const TAG: &str = "CACHEDIR.TAG";
const TAG_TEXT: &str = "Signature: 8a477f597d28d172789f06886806bc55\n# This file is a cache directory tag created by hangproof.\n";

/// Makes the folder of a store and tags it, if it isn't one. One that was made before there were tags has a folder of locks with something in it.
fn tag(root: &Path) -> io::Result<()> {
    if !root.exists() {
        fs::create_dir_all(root)?;
    }
    let tag = root.join(TAG);
    if tag.exists() {
        return Ok(());
    }
    let is_empty = fs::read_dir(root)?.next().is_none();
    let is_older = || fs::read_dir(root.join("locks")).is_ok_and(|mut locks| locks.next().is_some()) && root.join("notes").is_dir();
    if is_empty || is_older() {
        return fs::write(tag, TAG_TEXT);
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "it holds files that aren't hangproof's"))
}

/// How scratch folders' names begin; processes are recognised by it too.
pub const SCRATCH_PREFIX: &str = "hangproof-";

fn failed<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> StoreError + use<'a> {
    move |cause| StoreError::Io { what, path: path.to_owned(), cause }
}

impl Store {
    /// Opens the store at its usual place and makes its folders.
    ///
    /// # Errors
    /// When there is no home directory or a folder can't be made.
    pub fn open() -> Result<Self, StoreError> {
        Self::open_at(&Self::users_own()?)
    }

    /// Where the user's store is, or would be.
    ///
    /// # Errors
    /// When there is no home.
    pub fn users_own() -> Result<PathBuf, StoreError> {
        let root = match std::env::var_os("HANGPROOF_CACHE") {
            Some(root) if !root.is_empty() => PathBuf::from(root),
            _ => {
                use etcetera::BaseStrategy as _;
                etcetera::choose_base_strategy().map_err(|_| StoreError::NoHome)?.cache_dir().join("hangproof")
            }
        };
        std::path::absolute(&root).map_err(failed("resolve", &root))
    }

    /// Opens the store at a given place and makes its folders.
    ///
    /// # Errors
    /// When a folder can't be made, or it holds something else, for `gc` removes what lies in it; or when its path has a character that kernels' makefiles or
    /// user-mode Linux don't take.
    pub fn open_at(root: &Path) -> Result<Self, StoreError> {
        if let Some(found) = root.to_string_lossy().chars().find(|one| !(one.is_alphanumeric() || "/._-+@~".contains(*one))) {
            return Err(StoreError::Name { root: root.to_owned(), found });
        }
        tag(root).map_err(|cause| StoreError::Unusable { root: root.to_owned(), cause })?;
        for folder in Kept::ALL.map(Kept::folder).into_iter().chain(["work", "locks", "logs", "notes"]) {
            let path = root.join(folder);
            fs::create_dir_all(&path).map_err(|cause| StoreError::Unusable { root: root.to_owned(), cause })?;
        }
        Ok(Self { root: root.to_owned() })
    }

    /// The store's folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the thing of this kind and key is, or would be.
    #[must_use]
    pub fn place(&self, kept: Kept, key: &str) -> PathBuf {
        self.root.join(kept.folder()).join(key)
    }

    /// The thing of this kind and key, if it is there (then it is whole). Marks it as used for [`Store::sweep`]'s neighbour `gc`.
    #[must_use]
    pub fn find(&self, kept: Kept, key: &str) -> Option<PathBuf> {
        let path = self.place(kept, key);
        let there = path.exists();
        if there {
            let now = rustix::fs::Timestamps {
                last_access: rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW },
                last_modification: rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW },
            };
            let _ = rustix::fs::utimensat(rustix::fs::CWD, &path, &now, rustix::fs::AtFlags::empty());
        }
        there.then_some(path)
    }

    /// A scratch folder with a fixed name, for work whose result depends on the path it was made at. The caller holds a lock for the name;
    /// what a killed program left there is removed first.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn work_at(&self, name: &str) -> Result<Scratch, StoreError> {
        let parent = self.root.join("work");
        let name = format!("{SCRATCH_PREFIX}{name}");
        let path = parent.join(&name);
        if path.exists() {
            remove_stale(&path);
        }
        scratch_in(&parent, &name, 0)
    }

    /// A scratch folder on the store's own filesystem, so that what is made in it can be renamed into place.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn work(&self) -> Result<Scratch, StoreError> {
        scratch_in(&self.root.join("work"), SCRATCH_PREFIX, 6)
    }

    /// Renames a finished file or folder into its place. What another process put there first stays.
    ///
    /// # Errors
    /// When the rename fails.
    pub fn keep(&self, kept: Kept, key: &str, finished: &Path) -> Result<PathBuf, StoreError> {
        let place = self.place(kept, key);
        match fs::rename(finished, &place) {
            Ok(()) => Ok(place),
            Err(_) if place.exists() => Ok(place),
            Err(cause) => Err(StoreError::Io { what: "rename into place", path: place, cause }),
        }
    }

    /// Writes a file into its place, whole.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn keep_file(&self, kept: Kept, key: &str, content: &[u8]) -> Result<PathBuf, StoreError> {
        let scratch = self.work()?;
        let path = scratch.path().join(key);
        fs::write(&path, content).map_err(|cause| StoreError::Io { what: "write", path: path.clone(), cause })?;
        self.keep(kept, key, &path)
    }

    /// The lock of this name, if nobody holds it.
    ///
    /// # Errors
    /// When the lock file can't be made.
    pub fn try_lock(&self, name: &str) -> Result<Option<Lock>, StoreError> {
        let path = self.root.join("locks").join(name);
        let file = open_lock(&path)?;
        match flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Lock { file })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(cause) => Err(failed("lock", &path)(cause.into())),
        }
    }

    /// Waits for the lock of this name without blocking the thread, so that an interrupt ends the wait.
    ///
    /// # Errors
    /// When the lock file can't be made.
    pub async fn turn(&self, name: &str) -> Result<Lock, StoreError> {
        loop {
            if let Some(lock) = self.try_lock(name)? {
                return Ok(lock);
            }
            tokio::time::sleep(TURN_POLL).await;
        }
    }

    /// Marks the thing of this kind and key as in use, for as long as the lock lives: `gc` leaves it alone. Take it before [`Store::find`].
    ///
    /// # Errors
    /// When the lock file can't be made.
    pub fn in_use(&self, kept: Kept, key: &str) -> Result<Lock, StoreError> {
        let path = self.root.join("locks").join(use_lock(kept, key));
        let file = open_lock(&path)?;
        flock(file.as_fd(), FlockOperation::LockShared).map_err(|e| failed("lock", &path)(e.into()))?;
        Ok(Lock { file })
    }

    /// The right to remove the thing of this kind and key; none while somebody uses it.
    ///
    /// # Errors
    /// When the lock file can't be made.
    pub fn try_unused(&self, kept: Kept, key: &str) -> Result<Option<Lock>, StoreError> {
        self.try_lock(&use_lock(kept, key))
    }

    /// Where a log of this name is kept.
    #[must_use]
    pub fn log(&self, name: &str) -> PathBuf {
        self.root.join("logs").join(name)
    }

    /// A note of this name, if there is one that can be read.
    #[must_use]
    pub fn recall<T: serde::de::DeserializeOwned>(&self, name: &str) -> Option<T> {
        let note = fs::read(self.root.join("notes").join(name)).ok()?;
        serde_json::from_slice(&note).ok()
    }

    /// Writes a note. A note only saves work, so that it couldn't be written is no error.
    pub fn remember<T: serde::Serialize>(&self, name: &str, note: &T) {
        let folder = self.root.join("notes");
        let (Ok(scratch), Ok(text)) = (self.work(), serde_json::to_vec(note)) else { return };
        let new = scratch.path().join("note");
        if fs::write(&new, text).is_ok() {
            let _ = fs::rename(new, folder.join(name));
        }
    }

    /// Removes scratch folders whose owner is dead, and kills the processes that still use them. Returns what was removed.
    #[must_use]
    pub fn sweep(&self) -> Vec<PathBuf> {
        [self.root.join("work"), trial_folder()].iter().flat_map(|parent| sweep_folder(parent)).collect()
    }
}

/// How often a waiting program looks whether it is its turn.
const TURN_POLL: std::time::Duration = std::time::Duration::from_millis(50);

fn use_lock(kept: Kept, key: &str) -> String {
    format!("use-{}-{key}", kept.folder())
}

fn open_lock(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(failed("open", path))
}

fn scratch_in(parent: &Path, prefix: &str, random: usize) -> Result<Scratch, StoreError> {
    let mut builder = tempfile::Builder::new();
    let folder = builder.prefix(prefix).rand_bytes(random).tempdir_in(parent).map_err(failed("create a folder in", parent))?;
    // Locked before it has its name, or a sweep could take it in between.
    let (new, path) = (folder.path().join(".lock.new"), folder.path().join(LOCK));
    let file = open_lock(&new)?;
    flock(file.as_fd(), FlockOperation::LockExclusive).map_err(|e| failed("lock", &new)(e.into()))?;
    fs::rename(&new, &path).map_err(failed("rename", &new))?;
    Ok(Scratch { folder, _lock: Lock { file } })
}

/// Where trials' folders are made: `HANGPROOF_SCRATCH`, else the system's temporary folder. Short, because a unix socket's path has 107 bytes.
#[must_use]
pub fn trial_folder() -> PathBuf {
    std::env::var_os("HANGPROOF_SCRATCH").filter(|s| !s.is_empty()).map_or_else(std::env::temp_dir, PathBuf::from)
}

/// A scratch folder for a trial's sockets, disks and keys.
///
/// # Errors
/// When it can't be made.
pub fn trial_scratch() -> Result<Scratch, StoreError> {
    scratch_in(&trial_folder(), SCRATCH_PREFIX, 6)
}

fn sweep_folder(parent: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else { return Vec::new() };
    let stale = entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(SCRATCH_PREFIX))
        // Everybody may write to the system's temporary folder: what another user made there is not for us to open or remove.
        .filter(|entry| entry.metadata().is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == geteuid().as_raw()))
        .map(|entry| entry.path())
        .filter(|path| owner_is_dead(path));
    stale.inspect(|path| remove_stale(path)).collect()
}

/// A folder's owner is dead when its lock is free. A folder without a lock file is being made or removed right now, or is not ours.
fn owner_is_dead(folder: &Path) -> bool {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let Ok(file) = OpenOptions::new().write(true).custom_flags(flags).open(folder.join(LOCK)) else { return false };
    flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive).is_ok()
}

fn remove_stale(folder: &Path) {
    for pid in processes_naming(folder) {
        let _ = kill_process(pid, Signal::KILL);
    }
    remove_lock_last(folder);
}

/// Removes a scratch folder, its lock last: whatever interrupts this leaves a folder that the next sweep knows.
fn remove_lock_last(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten().filter(|entry| entry.file_name() != LOCK) {
        let path = entry.path();
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let removed = if is_folder { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        if removed.is_err_and(|cause| cause.kind() == io::ErrorKind::PermissionDenied) {
            remove_as_their_owner(&path);
        }
    }
    let _ = fs::remove_dir_all(folder);
}

/// Removes what belongs to the user's subordinate ids (subuid(5)), as an mmdebstrap leaves it that was interrupted: in a user namespace where those are ours.
fn remove_as_their_owner(path: &Path) {
    let mut unshare = Command::new("unshare");
    unshare.args(["--map-root-user", "--map-auto", "--", "rm", "-rf", "--one-file-system", "--"]).arg(path);
    // Without util-linux 2.38 or a range of ids it stays, and the next sweep tries again.
    let _ = unshare.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
}

/// The processes of this user whose command line names a path below `folder`, or that work in it (a make and its compilers name only relative
/// paths).
fn processes_naming(folder: &Path) -> Vec<Pid> {
    let needle = format!("{}/", folder.display()).into_bytes();
    let names_it = |pid: i32| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.windows(needle.len()).any(|w| w == needle));
    let works_in_it = |pid: i32| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|&pid| names_it(pid) || works_in_it(pid)).filter_map(Pid::from_raw).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open_at(folder.path()).unwrap();
        (folder, store)
    }

    #[test]
    fn sweep_removes_only_what_nobody_holds() {
        let (_folder, store) = store();
        let held = store.work().unwrap();
        let stale = store.root().join("work").join("hangproof-stale");
        fs::create_dir(&stale).unwrap();
        fs::write(stale.join(LOCK), "").unwrap();
        assert_eq!(sweep_folder(&store.root().join("work")), std::slice::from_ref(&stale));
        assert!(held.path().exists());
        assert!(!stale.exists());
    }

    #[test]
    fn a_lock_ends_although_a_child_that_is_being_started_has_its_file() {
        let (_folder, store) = store();
        let held = store.in_use(Kept::Trees, "key").unwrap();
        let _the_childs = held.file.try_clone().unwrap();
        assert!(store.try_unused(Kept::Trees, "key").unwrap().is_none());
        drop(held);
        assert!(store.try_unused(Kept::Trees, "key").unwrap().is_some());
    }

    #[test]
    fn sweep_leaves_and_opens_nothing_of_others() {
        let folder = tempfile::tempdir().unwrap();
        let [link, waiting] = ["hangproof-link", "hangproof-fifo"].map(|name| folder.path().join(name));
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(elsewhere.path().join(LOCK), "").unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), &link).unwrap();
        fs::create_dir(&waiting).unwrap();
        // A plain open of it for writing never returns.
        rustix::fs::mknodat(
            rustix::fs::CWD,
            waiting.join(LOCK),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        let others = folder.path().join("hangproof-others");
        fs::create_dir(&others).unwrap();
        fs::write(others.join(LOCK), "").unwrap();
        let given = std::os::unix::fs::chown(&others, Some(65_534), None);
        let swept = sweep_folder(folder.path());
        // Without root the folder can't be another's.
        assert_eq!(swept, if given.is_ok() { vec![] } else { vec![others] });
        assert!(link.exists() && waiting.exists() && elsewhere.path().join(LOCK).exists());
    }

    #[test]
    fn sweep_kills_a_process_that_uses_a_stale_folder() {
        let (_folder, store) = store();
        let stale = store.root().join("work").join("hangproof-stale");
        fs::create_dir(&stale).unwrap();
        fs::write(stale.join(LOCK), "").unwrap();
        let fifo = stale.join("fifo");
        let mut child = Command::new("tail").args(["-f", "/dev/null"]).arg(&fifo).stderr(Stdio::null()).spawn().unwrap();
        while processes_naming(&stale).is_empty() {
            std::thread::yield_now();
        }
        assert_eq!(sweep_folder(&store.root().join("work")), [stale]);
        use std::os::unix::process::ExitStatusExt as _;
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }

    /// Says that a test's process is the child of another test.
    const CHILD: &str = "HANGPROOF_TEST_HAS_SUBORDINATE_IDS";

    /// As an ordinary user, because root can remove everything; with ids for it, whatever this machine's own files say.
    #[test]
    fn what_belongs_to_subordinate_ids_is_removed_too() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let test = folder.path().join("test");
        fs::copy(std::env::current_exe().unwrap(), &test).unwrap();
        let own = ["--exact", "store::tests::child_has_subordinate_ids"];
        let mut child = if rustix::process::geteuid().is_root() {
            let ids = folder.path().join("ids");
            fs::write(&ids, "nobody:100000:65536\n").unwrap();
            let script = "mount --bind \"$0\" /etc/subuid && mount --bind \"$0\" /etc/subgid && exec setpriv --reuid nobody --regid nogroup --clear-groups -- \"$@\"";
            let mut unshare = Command::new("unshare");
            unshare.args(["--mount", "sh", "-c", script]).arg(ids).arg(test);
            unshare
        } else {
            Command::new(test)
        };
        let output = child.args(own).env(CHILD, folder.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said} {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Part of the test before it, by itself nothing.
    #[test]
    fn child_has_subordinate_ids() {
        let Some(parent) = std::env::var_os(CHILD).map(PathBuf::from) else { return };
        let occupy = |folder: &Path| {
            let script = "mkdir -m 700 root root/dev && echo x > root/dev/file && chown -R 1000:1000 root";
            let mut unshare = Command::new("unshare");
            unshare.args(["--map-root-user", "--map-auto", "--", "sh", "-c", script]).current_dir(folder);
            assert!(unshare.status().unwrap().success());
            let owner = fs::metadata(folder.join("root")).unwrap().uid();
            assert_ne!(owner, rustix::process::geteuid().as_raw());
            assert!(fs::remove_dir_all(folder.join("root")).is_err());
        };
        let scratch = scratch_in(&parent, SCRATCH_PREFIX, 6).unwrap();
        occupy(scratch.path());
        let path = scratch.path().to_owned();
        drop(scratch);
        assert!(!path.exists(), "an end cleans up");
        let stale = parent.join("hangproof-stale");
        fs::create_dir(&stale).unwrap();
        fs::write(stale.join(LOCK), "").unwrap();
        occupy(&stale);
        assert_eq!(sweep_folder(&parent), std::slice::from_ref(&stale));
        assert!(!stale.exists(), "a sweep cleans up");
    }

    #[test]
    fn keep_is_atomic_and_first_come() {
        let (_folder, store) = store();
        for content in ["first", "second"] {
            let work = store.work().unwrap();
            let made = work.path().join("made");
            fs::create_dir(&made).unwrap();
            fs::write(made.join("content"), content).unwrap();
            store.keep(Kept::Builds, "key", &made).unwrap();
        }
        let kept = store.find(Kept::Builds, "key").unwrap();
        assert_eq!(fs::read_to_string(kept.join("content")).unwrap(), "first");
    }
}
