//! The initramfs: a base that all trials share (the agent as `/init`, busybox, mdadm), behind it the modules of a kernel that has some, and then one
//! small segment per trial with the assignment and the payload. The kernel unpacks archives that follow each other as if they were one.
//!
//! Not compressed: under TCG the guest takes longer to decompress 7 MB than QEMU to hand them over.
//!
//! Read [`base`] and [`for_trial`] first.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use hangproof_wire::{ASSIGNMENT, Assignment, PAYLOAD};

use super::tree::Tree;
use super::{ImageError, failed, programs};
use crate::store::{Kept, Lock, Store};

/// The agent, a static program; `scripts/build-agent.rs` builds it.
static AGENT: &[u8] = include_bytes!(env!("HANGPROOF_AGENT"));

/// What one trial adds to its guest before the ssh server starts.
#[derive(Debug, Clone, Default)]
pub struct Payload(Tree);

impl Payload {
    /// A payload of nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file of the host at an absolute path of the guest; `hangproof_wire::PAYLOAD_TARGET` is the folder for what has no place of its own.
    ///
    /// # Errors
    /// When `guest` is no path of a guest.
    pub fn file(&mut self, guest: impl AsRef<Path>, host: &Path, mode: u32) -> Result<(), ImageError> {
        self.0.file(guest, host, mode)
    }

    /// Adds a file with this content at an absolute path of the guest.
    ///
    /// # Errors
    /// When `guest` is no path of a guest.
    pub fn bytes(&mut self, guest: impl AsRef<Path>, content: impl Into<Vec<u8>>, mode: u32) -> Result<(), ImageError> {
        self.0.bytes(guest, content, mode)
    }

    /// Adds a program of the host, at the path that it has there, with its libraries.
    ///
    /// # Errors
    /// When a file can't be read or a library is missing.
    pub fn program(&mut self, host: &Path) -> Result<(), ImageError> {
        self.0.program(host)
    }
}

/// The initramfs that all trials share. `gc` leaves it alone while the value lives.
#[derive(Debug)]
pub struct Base {
    /// The archive.
    pub file: PathBuf,
    _in_use: Lock,
}

/// The initramfs that all trials share, made if it isn't in the store.
///
/// # Errors
/// When a program is missing or the store can't be written.
pub fn base(store: &Store) -> Result<Base, ImageError> {
    programs::require(&[programs::BUSYBOX, programs::MDADM])?;
    let tree = base_tree()?;
    let mut hasher = blake3::Hasher::new();
    tree.hash_into(&mut hasher)?;
    let key = format!("initramfs-{}", super::short(&hasher));
    let in_use = store.in_use(Kept::Images, &key)?;
    if let Some(file) = store.find(Kept::Images, &key) {
        return Ok(Base { file, _in_use: in_use });
    }
    let work = store.work()?;
    let file = work.path().join("initramfs");
    write(&tree, File::create(&file).map_err(failed("create", &file))?)?;
    Ok(Base { file: store.keep(Kept::Images, &key, &file)?, _in_use: in_use })
}

fn base_tree() -> Result<Tree, ImageError> {
    let mut tree = Tree::with_merged_usr()?;
    tree.bytes("/init", AGENT, 0o755)?;
    for folder in ["/proc", "/sys", "/dev", "/run", "/root-fs", "/hangproof"] {
        tree.folder(folder, 0o755)?;
    }
    // The kernel opens it for PID 1 before anything is mounted.
    tree.character("/dev/console", 0o600, 5, 1)?;
    // At fixed paths: the agent doesn't search.
    tree.file("/usr/bin/busybox", &programs::BUSYBOX.required()?, 0o755)?;
    let mdadm = programs::MDADM.required()?;
    tree.program(&mdadm)?;
    tree.file("/usr/sbin/mdadm", &mdadm, 0o755)?;
    Ok(tree)
}

/// Where modules are in a guest's initramfs.
const MODULES: &str = "/hangproof/modules";

/// The modules of a kernel that has some: an archive that follows the base in the initramfs, and what of it is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Modules {
    /// The archive.
    pub archive: PathBuf,
    /// Paths in the guest, in the order in which they are loaded.
    pub order: Vec<String>,
}

impl Modules {
    /// The modules of these names, in this order, of an archive that [`of_modules`] wrote.
    #[must_use]
    pub fn new(archive: PathBuf, names: &[String]) -> Self {
        Self { archive, order: names.iter().map(|name| in_guest(name)).collect() }
    }
}

fn in_guest(name: &str) -> String {
    format!("{MODULES}/{name}.ko")
}

/// Writes the archive of a kernel's modules to `into`: by their names, files of the host.
///
/// # Errors
/// When a file can't be read or written.
pub fn of_modules(modules: &[(String, PathBuf)], into: &Path) -> Result<(), ImageError> {
    let mut tree = Tree::default();
    for (name, file) in modules {
        tree.file(in_guest(name), file, 0o600)?;
    }
    write(&tree, File::create(into).map_err(failed("create", into))?)
}

/// Writes the initramfs of one trial to `into`: the base, the kernel's modules, and this trial's segment.
///
/// # Errors
/// When a file can't be read or written.
pub fn for_trial(
    base: &Path,
    modules: Option<&Modules>,
    assignment: &Assignment,
    payload: &Payload,
    into: &Path,
) -> Result<(), ImageError> {
    let mut tree = Tree::default();
    let json = serde_json::to_vec(assignment).map_err(|cause| ImageError::Description { path: PathBuf::from(ASSIGNMENT), cause })?;
    // It holds no secret (the key in it is public), but nobody else needs it.
    tree.bytes(ASSIGNMENT, json, 0o600)?;
    tree.graft(PAYLOAD, &payload.0)?;
    fs::copy(base, into).map_err(failed("copy the initramfs to", into))?;
    let mut file = OpenOptions::new().append(true).open(into).map_err(failed("open", into))?;
    if let Some(Modules { archive, .. }) = modules {
        let mut archive = File::open(archive).map_err(failed("open", archive))?;
        std::io::copy(&mut archive, &mut file).map_err(failed("write", into))?;
    }
    write(&tree, file)
}

fn write(tree: &Tree, file: File) -> Result<(), ImageError> {
    let mut out = BufWriter::with_capacity(1 << 20, file);
    tree.write_cpio(&mut out)?;
    out.flush().map_err(failed("write", "an initramfs"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use hangproof_wire::{CgroupVersion, Root};

    use super::*;

    #[test]
    fn a_trial_is_the_base_and_a_segment() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open_at(&folder.path().join("store")).unwrap();
        let base_file = base(&store).unwrap().file;
        assert_eq!(base(&store).unwrap().file, base_file, "the second time it is in the store");
        let assignment = Assignment {
            root: Root::Disk { device: "/dev/vda".into() },
            cgroup: CgroupVersion::Auto,
            authorized_key: "ssh-ed25519 AAAA".into(),
            host_key_seed: [7; 32],
            sysctls: vec![],
            modules: vec![],
        };
        let mut payload = Payload::new();
        payload.bytes("/opt/hangproof/x", "#!/bin/sh\n", 0o755).unwrap();
        let trial = folder.path().join("trial");
        for_trial(&base_file, None, &assignment, &payload, &trial).unwrap();
        let (base_bytes, trial_bytes) = (fs::read(&base_file).unwrap(), fs::read(&trial).unwrap());
        let segment = trial_bytes.strip_prefix(base_bytes.as_slice()).unwrap();
        assert_eq!(base_bytes.len() % 4, 0, "the kernel wants an archive to begin at a multiple of 4");
        let mut names = Vec::new();
        let mut rest = segment;
        loop {
            let reader = cpio::newc::Reader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                break;
            }
            names.push(reader.entry().name().to_owned());
            rest = reader.finish().unwrap();
        }
        assert!(names.contains(&"hangproof/assignment.json".to_owned()), "{names:?}");
        assert!(names.contains(&"hangproof/payload/opt/hangproof/x".to_owned()), "{names:?}");
    }
}
