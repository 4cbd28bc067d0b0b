//! The guest's disks: ext4 on an md RAID1 across two raw files, or on one. Made once per content and kept in the store; a trial works on an overlay.
//!
//! That the disks are right is proven twice: user-mode Linux says so at its end, and the files themselves are read afterwards.
//!
//! Read [`make`] first.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use hangproof_wire::Root;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

use super::recipe::{self, Recipe};
use super::tree::Described;
use super::{ImageError, failed, programs, uml};
use crate::event::{Event, Events};
use crate::spec::{Image, Layout, Name};
use crate::store::{Kept, Lock, Store};

/// File of the description in an image's folder.
const DESCRIPTION: &str = "image.json";

/// Finished disks. They are never written to again.
#[derive(Debug, Clone)]
pub struct Disks {
    /// The raw files, in the order in which the guest sees them.
    pub members: Vec<PathBuf>,
    /// How the guest reaches the root filesystem on them, if they are its first virtio disks.
    pub root: Root,
    /// What is on them.
    pub description: Description,
    _in_use: Arc<Lock>,
}

/// What is on an image's disks, for the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Description {
    /// The image.
    pub image: Name,
    /// Its name in the store.
    pub key: String,
    /// How the root filesystem lies on the disks.
    pub layout: Layout,
    /// Size of the filesystem in MiB.
    pub size: u64,
    /// Features of the filesystem.
    pub features: Vec<String>,
    /// Where the filesystem begins on each disk, in bytes.
    pub offset: u64,
    /// The programs that made it and are in it, with what they say of their version.
    pub versions: Vec<(String, String)>,
    /// The files of the root filesystem.
    pub files: Vec<Described>,
}

/// The disks of `image`, made if they aren't in the store.
///
/// # Errors
/// When programs are missing, a file can't be read, the content doesn't fit, or user-mode Linux fails.
pub async fn make(store: &Store, image: &Image, events: &Events) -> Result<Disks, ImageError> {
    let start = Instant::now();
    let (disks, cached) = find_or_make(store, image, events).await?;
    events.send(Event::Image { image: image.name.clone(), seconds: Some(start.elapsed().as_secs_f64()), cached });
    Ok(disks)
}

async fn find_or_make(store: &Store, image: &Image, events: &Events) -> Result<(Disks, bool), ImageError> {
    let wanted = image.clone();
    let recipe = Arc::new(spawn_blocking(move || Recipe::new(&wanted)).await??);
    let in_use = Arc::new(store.in_use(Kept::Images, &recipe.key)?);
    if let Some(folder) = store.find(Kept::Images, &recipe.key) {
        return Ok((open(&folder, &in_use)?, true));
    }
    events.send(Event::Image { image: image.name.clone(), seconds: None, cached: false });
    let _turn = store.turn(&recipe.key).await?;
    // Somebody else may have made it while we waited.
    if let Some(folder) = store.find(Kept::Images, &recipe.key) {
        return Ok((open(&folder, &in_use)?, true));
    }
    let folder = cook(store, image, &recipe).await?;
    Ok((open(&folder, &in_use)?, false))
}

async fn cook(store: &Store, image: &Image, recipe: &Arc<Recipe>) -> Result<PathBuf, ImageError> {
    let work = store.work()?;
    let (scratch, finished) = (work.path().to_owned(), work.path().join("finished"));
    fs::create_dir(&finished).map_err(failed("create", &finished))?;
    let (preparing, into) = (Arc::clone(recipe), finished.clone());
    let prepared = spawn_blocking(move || uml::prepare(&preparing, &scratch, &into)).await??;
    uml::run(recipe, &prepared, work.path()).await?;
    let (proving, layout) = (Arc::clone(recipe), image.layout);
    let disks = prepared.disks;
    spawn_blocking(move || prove(&disks, layout, proving.offset)).await??;
    let (describing, described) = (Arc::clone(recipe), image.clone());
    let description = spawn_blocking(move || describe(&described, &describing)).await??;
    let file = finished.join(DESCRIPTION);
    let json = serde_json::to_vec_pretty(&description).map_err(|cause| ImageError::Description { path: file.clone(), cause })?;
    fs::write(&file, json).map_err(failed("write", &file))?;
    Ok(store.keep(Kept::Images, &recipe.key, &finished)?)
}

fn describe(image: &Image, recipe: &Recipe) -> Result<Description, ImageError> {
    let mut versions = vec![(programs::UML.program.to_owned(), recipe.uml_version.clone())];
    let asked = [
        (programs::MDADM, "--version"),
        (programs::MKE2FS, "-V"),
        (programs::BUSYBOX, "--help"),
        (programs::DROPBEAR, "-V"),
        (programs::FIO, "--version"),
    ];
    for (needed, flag) in asked {
        versions.push((needed.program.to_owned(), recipe::version(needed, flag)?));
    }
    Ok(Description {
        image: image.name.clone(),
        key: recipe.key.clone(),
        layout: image.layout,
        size: image.size.0,
        features: image.features.clone(),
        offset: recipe.offset,
        versions,
        files: recipe.root.describe()?,
    })
}

fn open(folder: &Path, in_use: &Arc<Lock>) -> Result<Disks, ImageError> {
    let file = folder.join(DESCRIPTION);
    let json = fs::read(&file).map_err(failed("read", &file))?;
    let description: Description = serde_json::from_slice(&json).map_err(|cause| ImageError::Description { path: file, cause })?;
    let (count, root) = match description.layout {
        Layout::Md => (2, Root::Md { array: recipe::ARRAY.to_owned(), members: vec!["/dev/vda".to_owned(), "/dev/vdb".to_owned()] }),
        Layout::Plain => (1, Root::Disk { device: "/dev/vda".to_owned() }),
    };
    let members = (0..count).map(|number| folder.join(format!("disk{number}.raw"))).collect();
    Ok(Disks { members, root, description, _in_use: Arc::clone(in_use) })
}

/// Reads the disks themselves: a clean ext4 on each, and for an array what mdadm says of each.
fn prove(disks: &[PathBuf], layout: Layout, offset: u64) -> Result<(), ImageError> {
    for disk in disks {
        let wrong = |found: String| Err(ImageError::Wrong { disk: disk.clone(), found });
        let (magic, state) = superblock(disk, offset)?;
        // `EXT4_SUPER_MAGIC` and `EXT4_VALID_FS` alone: no journal to replay, no error.
        if (magic, state) != (0xEF53, 1) {
            return wrong(format!("no clean ext4 at byte {offset} (magic {magic:#x}, state {state})"));
        }
        if layout == Layout::Md {
            let mut mdadm = programs::MDADM.program()?;
            mdadm.command.arg("--examine").arg(disk);
            let output = mdadm.output_blocking()?;
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            if !["Version : 1.2", "Raid Level : raid1", "Raid Devices : 2", "State : clean"].iter().all(|fact| said.contains(fact)) {
                return wrong(format!("mdadm --examine says: {}{}", said.trim(), String::from_utf8_lossy(&output.stderr).trim()));
            }
        }
    }
    Ok(())
}

/// Magic number and state of the ext4 at `offset`.
fn superblock(disk: &Path, offset: u64) -> Result<(u16, u16), ImageError> {
    // fs/ext4/ext4.h: the superblock is 1024 bytes in, `s_magic` at 0x38, `s_state` at 0x3A, little endian.
    let mut bytes = [0; 4];
    let file = File::open(disk).map_err(failed("open", disk))?;
    file.read_exact_at(&mut bytes, offset + 1024 + 0x38).map_err(failed("read", disk))?;
    let [a, b, c, d] = bytes;
    Ok((u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d])))
}
