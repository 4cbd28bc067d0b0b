//! The root filesystem's content: busybox, an ssh server, fio, and what the image's definition adds, with the few files that they read.
//!
//! There is no service manager and no package database: the agent starts what is started.

use std::path::Path;

use super::tree::Tree;
use super::{ImageError, programs};
use crate::spec::Image;

/// Files that programs of the root filesystem read, with their content.
const FILES: [(&str, &str); 9] = [
    // No password: the ssh server lets keys in only, and there is no other way in.
    ("/etc/passwd", "root:*:0:0:root:/root:/bin/sh\nnobody:*:65534:65534:nobody:/:/bin/false\n"),
    ("/etc/group", "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n"),
    // The ssh server lets nobody in whose shell is not in here.
    ("/etc/shells", "/bin/sh\n"),
    ("/etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files\n"),
    ("/etc/hosts", "127.0.0.1 localhost hangproof\n"),
    ("/etc/hostname", "hangproof\n"),
    ("/etc/profile", "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin\nPS1='\\h:\\w# '\n"),
    // For mount without arguments and df.
    ("/etc/fstab", ""),
    ("/etc/motd", ""),
];

/// Folders that are there beside those of the files, with their modes.
const FOLDERS: [(&str, u32); 11] = [
    ("/proc", 0o555),
    ("/sys", 0o555),
    ("/dev", 0o755),
    ("/run", 0o755),
    ("/tmp", 0o1777),
    ("/root", 0o700),
    ("/mnt", 0o755),
    ("/opt/hangproof", 0o755),
    ("/usr/local/bin", 0o755),
    ("/var/tmp", 0o1777),
    ("/var/log", 0o755),
];

/// The root filesystem's content.
pub fn tree(image: &Image) -> Result<Tree, ImageError> {
    let mut tree = Tree::with_merged_usr()?;
    for (path, mode) in FOLDERS {
        tree.folder(path, mode)?;
    }
    for (path, content) in FILES {
        tree.bytes(path, content, 0o644)?;
    }
    tree.link("/var/run", "../run")?;
    tree.link("/etc/mtab", "../proc/self/mounts")?;
    for needed in [programs::DROPBEAR, programs::DROPBEARKEY, programs::FIO] {
        tree.program(&needed.required()?)?;
    }
    for program in &image.programs {
        tree.program(program)?;
    }
    let busybox = programs::BUSYBOX.required()?;
    tree.file("/usr/bin/busybox", &busybox, 0o755)?;
    // Last, so that a real program wins over busybox's applet of that name.
    for applet in applets()? {
        let path = Path::new("/usr/bin").join(&applet);
        if !tree.has(&path) && !tree.has(Path::new("/usr/sbin").join(&applet)) {
            tree.link(path, "busybox")?;
        }
    }
    Ok(tree)
}

/// The names that busybox answers to. This runs the host's own busybox.
fn applets() -> Result<Vec<String>, ImageError> {
    let mut busybox = programs::BUSYBOX.program()?;
    busybox.command.arg("--list");
    let output = busybox.output_blocking()?;
    let names = String::from_utf8_lossy(&output.stdout).lines().map(str::trim).map(str::to_owned).collect::<Vec<_>>();
    Ok(names.into_iter().filter(|name| !name.is_empty() && !name.contains('/') && name != "busybox").collect())
}
