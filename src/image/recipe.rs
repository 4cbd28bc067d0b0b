//! Everything that decides how an image's disks come out: the root filesystem's content, and a small Linux that puts it onto the disks.
//!
//! The recipe's hash is the image's key. Nothing is run here but programs that tell their names; `uml` cooks.
//!
//! Read [`Recipe`] first.

use std::path::{Path, PathBuf};

use super::tree::Tree;
use super::{ImageError, failed, programs, root};
use crate::spec::{Image, Layout};

/// Where the data begin on a member of the array, in MiB. Given to mdadm, so that it doesn't depend on mdadm's version.
pub const DATA_OFFSET_MIB: u64 = 1;

/// What a member needs beside the filesystem: the offset, and room for mdadm's rounding.
const MEMBER_EXTRA_MIB: u64 = DATA_OFFSET_MIB + 1;

/// What the small Linux says when everything is done.
pub const DONE: &str = "hangproof-image: done";

/// What it says when a step failed.
pub const FAILED: &str = "hangproof-image: failed";

/// The array and the name of its device in guests.
pub const ARRAY: &str = "/dev/md127";

/// Where Debian puts user-mode Linux's modules.
const MODULES: &str = "/usr/lib/uml/modules";

/// How an image's disks are made.
#[derive(Debug)]
pub struct Recipe {
    /// The user-mode Linux program.
    pub uml: PathBuf,
    /// Its version.
    pub uml_version: String,
    /// What the small Linux consists of.
    pub kitchen: Tree,
    /// What the root filesystem consists of.
    pub root: Tree,
    /// How many disks.
    pub disks: usize,
    /// Size of each in bytes.
    pub disk_size: u64,
    /// Where the filesystem begins on a disk, in bytes.
    pub offset: u64,
    /// Name of the result in the store.
    pub key: String,
}

impl Recipe {
    /// Works out how `image` is made. Blocks: it reads every file that goes in.
    pub fn new(image: &Image) -> Result<Self, ImageError> {
        programs::require(&programs::ALL)?;
        let uml = programs::UML.required()?;
        let uml_version = version(programs::UML, "--version")?;
        let root = root::tree(image)?;
        check_size(image, &root)?;
        let mut hasher = blake3::Hasher::new();
        root.hash_into(&mut hasher)?;
        hasher.update(uml_version.as_bytes());
        // The array's and the filesystem's identity follow from the content, so that the same content makes the same image.
        let uuid = uuid(hasher.clone().update(script(image, "").as_bytes()));
        let kitchen = kitchen(image, &uml_version, &script(image, &uuid))?;
        kitchen.hash_into(&mut hasher)?;
        let key = format!("{}-{}", image.name, super::short(&hasher));
        let (disks, extra) = match image.layout {
            Layout::Md => (2, MEMBER_EXTRA_MIB),
            Layout::Plain => (1, 0),
        };
        let offset = match image.layout {
            Layout::Md => DATA_OFFSET_MIB << 20,
            Layout::Plain => 0,
        };
        Ok(Self { uml, uml_version, kitchen, root, disks, disk_size: (image.size.0 + extra) << 20, offset, key })
    }
}

/// A filesystem that is too small fails early, with numbers, rather than late with `no space left on device`.
fn check_size(image: &Image, root: &Tree) -> Result<(), ImageError> {
    // ext4's journal and tables take up to an eighth of a small filesystem.
    let needed = (root.size()? >> 20) + image.size.0 / 8 + 8;
    if needed > image.size.0 {
        return Err(ImageError::TooSmall { image: image.name.to_string(), needed: (root.size()? >> 20) * 8 / 7 + 10, size: image.size.0 });
    }
    Ok(())
}

/// The small Linux: busybox, mdadm, mke2fs, the modules for RAID1, and the script.
fn kitchen(image: &Image, uml_version: &str, script: &str) -> Result<Tree, ImageError> {
    let mut tree = Tree::with_merged_usr()?;
    for folder in ["/proc", "/sys", "/dev", "/run/mdadm", "/target"] {
        tree.folder(folder, 0o755)?;
    }
    tree.character("/dev/console", 0o600, 5, 1)?;
    tree.file("/usr/bin/busybox", &programs::BUSYBOX.required()?, 0o755)?;
    tree.link("/usr/bin/sh", "busybox")?;
    for (needed, place) in [(programs::MDADM, "/usr/sbin/mdadm"), (programs::MKE2FS, "/usr/sbin/mke2fs")] {
        let program = needed.required()?;
        tree.program(&program)?;
        tree.file(place, &program, 0o755)?;
    }
    if image.layout == Layout::Md {
        let folder = Path::new(MODULES).join(uml_version).join("kernel/drivers/md");
        for module in ["md-mod.ko", "raid1.ko"] {
            let file = folder.join(module);
            file.metadata().map_err(failed("find user-mode linux's module", &file))?;
            tree.file(Path::new("/modules").join(module), &file, 0o644)?;
        }
    }
    tree.bytes("/init", script, 0o755)?;
    Ok(tree)
}

/// What the small Linux does, as a shell script. All programs by their paths: Debian's busybox prefers its own `mke2fs` to any in `PATH`.
fn script(image: &Image, uuid: &str) -> String {
    let kib = image.size.0 << 10;
    // `none` first: the list is all that the filesystem has, whatever mke2fs's own defaults are.
    let features = std::iter::once("none").chain(image.features.iter().map(String::as_str)).collect::<Vec<_>>().join(",");
    let (device, start, stop) = match image.layout {
        Layout::Plain => ("/dev/ubda", String::new(), ""),
        Layout::Md => (
            ARRAY,
            format!(
                "run $B insmod /modules/md-mod.ko\nrun $B insmod /modules/raid1.ko\nrun /usr/sbin/mdadm --create {ARRAY} --run --level=1 --raid-devices=2 --metadata=1.2 --assume-clean \
                --bitmap=none --homehost=hangproof --name=root --uuid={uuid} --data-offset={DATA_OFFSET_MIB}M --size={kib}K /dev/ubda /dev/ubdb\n"
            ),
            "run /usr/sbin/mdadm --stop /dev/md127\n",
        ),
    };
    format!(
        "#!/usr/bin/busybox sh\n\
        B=/usr/bin/busybox\n\
        run() {{ echo \"+ $*\"; \"$@\" </dev/null || {{ echo \"{FAILED}: $*\"; $B poweroff -f; $B sleep 60; }}; }}\n\
        $B mount -t devtmpfs dev /dev\n\
        run $B mount -t proc proc /proc\n\
        run $B mount -t sysfs sys /sys\n\
        {start}\
        run /usr/sbin/mke2fs -q -F -t ext4 -b 4096 -I 256 -m 0 -O {features} -U {uuid} -L hangproof \
        -E lazy_itable_init=0,lazy_journal_init=0,nodiscard,hash_seed={uuid} {device} {kib}k\n\
        run $B mount -t ext4 {device} /target\n\
        run $B tar -x -f /dev/ubd{last} -C /target\n\
        run $B umount /target\n\
        {stop}\
        $B sync\n\
        echo '{DONE}'\n\
        $B poweroff -f\n",
        last = match image.layout {
            Layout::Md => 'c',
            Layout::Plain => 'b',
        },
    )
}

/// A hash in the form of a UUID.
fn uuid(hasher: &blake3::Hasher) -> String {
    let hex = hasher.finalize().to_hex();
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default().to_owned();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

/// The first line that a program says about itself.
pub fn version(needed: programs::Needed, flag: &str) -> Result<String, ImageError> {
    let mut program = needed.program()?;
    program.command.arg(flag);
    let output = program.output_blocking()?;
    let said = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&said).lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("unknown").to_owned())
}
