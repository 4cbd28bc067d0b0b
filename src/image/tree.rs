//! A tree of files that becomes a cpio archive (initramfs) or a tar archive (root filesystem), always owned by root and always with the same bytes.
//!
//! Guests have a merged `/usr`: `/bin/x` is put at `/usr/bin/x`. It writes archives only and never unpacks one.
//!
//! Read [`Tree`] first.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use cpio::newc;

use super::{ImageError, closure, failed};

/// The folders that are links into `/usr`.
const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];

/// A tree of files. Folders come into being with what is put into them.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    /// By path without the leading `/`. Paths order by component, so a folder comes before its content.
    nodes: BTreeMap<PathBuf, Node>,
}

/// One node of a tree.
#[derive(Debug, Clone)]
enum Node {
    Folder { mode: u32 },
    File { content: Content, mode: u32 },
    Link { target: String },
    Character { mode: u32, major: u32, minor: u32 },
}

/// Where a file's bytes come from.
#[derive(Debug, Clone)]
enum Content {
    Bytes(Vec<u8>),
    Host(PathBuf),
}

impl Content {
    fn size(&self) -> Result<u64, ImageError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.len() as u64),
            Self::Host(path) => Ok(path.metadata().map_err(failed("look at", path))?.len()),
        }
    }

    fn copy(&self, mut out: impl Write) -> Result<(), ImageError> {
        match self {
            Self::Bytes(bytes) => out.write_all(bytes).map_err(failed("write", "an archive")),
            Self::Host(path) => {
                let mut file = File::open(path).map_err(failed("open", path))?;
                io::copy(&mut file, &mut out).map(drop).map_err(failed("copy", path))
            }
        }
    }
}

/// A file of a tree, for a description of what is in an image.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Described {
    /// Path in the guest.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// BLAKE3 of the content, hexadecimal.
    pub blake3: String,
}

impl Tree {
    /// A tree with the links of a merged `/usr`.
    ///
    /// # Errors
    /// Never; the paths are fixed.
    pub fn with_merged_usr() -> Result<Self, ImageError> {
        let mut tree = Self::default();
        for name in MERGED {
            tree.folder(Path::new("/usr").join(name), 0o755)?;
            tree.nodes.insert(PathBuf::from(name), Node::Link { target: format!("usr/{name}") });
        }
        Ok(tree)
    }

    /// Adds a folder.
    ///
    /// # Errors
    /// When `guest` is no path of a guest.
    pub fn folder(&mut self, guest: impl AsRef<Path>, mode: u32) -> Result<(), ImageError> {
        self.put(guest.as_ref(), Node::Folder { mode })
    }

    /// Adds a file with this content.
    ///
    /// # Errors
    /// When `guest` is no path of a guest.
    pub fn bytes(&mut self, guest: impl AsRef<Path>, content: impl Into<Vec<u8>>, mode: u32) -> Result<(), ImageError> {
        self.put(guest.as_ref(), Node::File { content: Content::Bytes(content.into()), mode })
    }

    /// Adds a file of the host.
    ///
    /// # Errors
    /// When `guest` is no path of a guest.
    pub fn file(&mut self, guest: impl AsRef<Path>, host: &Path, mode: u32) -> Result<(), ImageError> {
        self.put(guest.as_ref(), Node::File { content: Content::Host(host.to_owned()), mode })
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// When `guest` is no path of a guest.
    pub fn link(&mut self, guest: impl AsRef<Path>, target: &str) -> Result<(), ImageError> {
        self.put(guest.as_ref(), Node::Link { target: target.to_owned() })
    }

    /// Adds a character device.
    ///
    /// # Errors
    /// When `guest` is no path of a guest.
    pub fn character(&mut self, guest: impl AsRef<Path>, mode: u32, major: u32, minor: u32) -> Result<(), ImageError> {
        self.put(guest.as_ref(), Node::Character { mode, major, minor })
    }

    /// Adds a program of the host, at the path that it has there, with everything that it needs.
    ///
    /// # Errors
    /// When a file can't be read or a library is missing.
    pub fn program(&mut self, host: &Path) -> Result<(), ImageError> {
        for (guest, file) in closure::of(host)? {
            let mode = fs::metadata(&file).map_err(failed("look at", &file))?.permissions().mode();
            self.file(guest, &file, if mode & 0o111 == 0 { 0o644 } else { 0o755 })?;
        }
        Ok(())
    }

    /// Whether there is something at this path.
    #[must_use]
    pub fn has(&self, guest: impl AsRef<Path>) -> bool {
        place(guest.as_ref()).is_ok_and(|place| self.nodes.contains_key(&place))
    }

    /// Takes over everything of `other`, below the folder `guest`.
    ///
    /// # Errors
    /// When `guest` is no path of a guest.
    pub fn graft(&mut self, guest: impl AsRef<Path>, other: &Self) -> Result<(), ImageError> {
        for (path, node) in &other.nodes {
            self.put(&guest.as_ref().join(path), node.clone())?;
        }
        Ok(())
    }

    /// The content's size in bytes, rounded up to blocks of 4 KiB.
    ///
    /// # Errors
    /// When a file of the host is gone.
    pub fn size(&self) -> Result<u64, ImageError> {
        self.files().map(|(_, content)| Ok(content.size()?.next_multiple_of(4096).max(4096))).sum()
    }

    /// All files with their hashes.
    ///
    /// # Errors
    /// When a file of the host can't be read.
    pub fn describe(&self) -> Result<Vec<Described>, ImageError> {
        let described = self.files().map(|(path, content)| {
            let mut hasher = blake3::Hasher::new();
            content.copy(&mut hasher)?;
            Ok(Described { path: Path::new("/").join(path), size: content.size()?, blake3: hasher.finalize().to_hex().to_string() })
        });
        described.collect()
    }

    /// Feeds everything that decides about the archive's bytes into `hasher`.
    ///
    /// # Errors
    /// When a file of the host can't be read.
    pub fn hash_into(&self, hasher: &mut blake3::Hasher) -> Result<(), ImageError> {
        for (path, node) in &self.nodes {
            let content = match node {
                Node::File { content: Content::Bytes(bytes), .. } => blake3::hash(bytes).to_hex().to_string(),
                Node::File { content, .. } => {
                    let mut hasher = blake3::Hasher::new();
                    content.copy(&mut hasher)?;
                    hasher.finalize().to_hex().to_string()
                }
                Node::Link { target } => target.clone(),
                Node::Character { major, minor, .. } => format!("{major}:{minor}"),
                Node::Folder { .. } => String::new(),
            };
            hasher.update(format!("{path:?} {:o} {content:?}\n", node.mode()).as_bytes());
        }
        Ok(())
    }

    /// Writes a cpio archive of the kind `newc`. Its length is a multiple of 4, so that another one can follow it.
    ///
    /// # Errors
    /// When a file of the host can't be read or the archive can't be written.
    pub fn write_cpio(&self, mut out: impl Write) -> Result<(), ImageError> {
        let broken = || failed("write", "an initramfs");
        for (number, (path, node)) in (1_u32..).zip(&self.nodes) {
            let entry = newc::Builder::new(&path.to_string_lossy()).ino(number).nlink(1).mode(node.mode());
            match node {
                Node::File { content, .. } => {
                    let size = u32::try_from(content.size()?).map_err(|_| broken()(io::Error::from(io::ErrorKind::FileTooLarge)))?;
                    let mut writer = entry.write(&mut out, size);
                    content.copy(&mut writer)?;
                    writer.finish().map_err(broken())?;
                }
                Node::Link { target } => {
                    let mut writer = entry.write(&mut out, u32::try_from(target.len()).unwrap_or(u32::MAX));
                    writer.write_all(target.as_bytes()).map_err(broken())?;
                    writer.finish().map_err(broken())?;
                }
                Node::Character { major, minor, .. } => {
                    entry.rdev_major(*major).rdev_minor(*minor).write(&mut out, 0).finish().map_err(broken())?;
                }
                Node::Folder { .. } => {
                    entry.write(&mut out, 0).finish().map_err(broken())?;
                }
            }
        }
        newc::trailer(out).map(drop).map_err(broken())
    }

    /// Writes a tar archive. Its length is a multiple of 512, so that it can be read as a disk.
    ///
    /// # Errors
    /// When a file of the host can't be read or the archive can't be written.
    pub fn write_tar(&self, out: impl Write) -> Result<(), ImageError> {
        let broken = || failed("write", "a tar archive");
        let mut archive = tar::Builder::new(out);
        for (path, node) in &self.nodes {
            let mut header = tar::Header::new_gnu();
            header.set_mode(node.mode() & 0o7777);
            header.set_size(0);
            let result = match node {
                Node::Folder { .. } => {
                    header.set_entry_type(tar::EntryType::Directory);
                    archive.append_data(&mut header, path, io::empty())
                }
                Node::Link { target } => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    archive.append_link(&mut header, path, target)
                }
                Node::Character { major, minor, .. } => {
                    header.set_entry_type(tar::EntryType::Char);
                    header.set_device_major(*major).and_then(|()| header.set_device_minor(*minor)).map_err(broken())?;
                    archive.append_data(&mut header, path, io::empty())
                }
                Node::File { content, .. } => {
                    header.set_size(content.size()?);
                    match content {
                        Content::Bytes(bytes) => archive.append_data(&mut header, path, bytes.as_slice()),
                        Content::Host(host) => archive.append_data(&mut header, path, File::open(host).map_err(failed("open", host))?),
                    }
                }
            };
            result.map_err(broken())?;
        }
        archive.into_inner().and_then(|mut out| out.flush()).map_err(broken())
    }

    fn files(&self) -> impl Iterator<Item = (&PathBuf, &Content)> {
        self.nodes.iter().filter_map(|(path, node)| match node {
            Node::File { content, .. } => Some((path, content)),
            Node::Folder { .. } | Node::Link { .. } | Node::Character { .. } => None,
        })
    }

    fn put(&mut self, guest: &Path, node: Node) -> Result<(), ImageError> {
        let place = place(guest)?;
        for parent in place.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()) {
            self.nodes.entry(parent.to_owned()).or_insert(Node::Folder { mode: 0o755 });
        }
        self.nodes.insert(place, node);
        Ok(())
    }
}

impl Node {
    /// Kind and permissions, as `st_mode`.
    fn mode(&self) -> u32 {
        match self {
            Self::Folder { mode } => 0o040_000 | mode,
            Self::File { mode, .. } => 0o100_000 | mode,
            Self::Link { .. } => 0o120_777,
            Self::Character { mode, .. } => 0o020_000 | mode,
        }
    }
}

/// The key of a guest's path: without the leading `/`, and below `usr` where the guest's folder is a link.
fn place(guest: &Path) -> Result<PathBuf, ImageError> {
    let mut parts = guest.components();
    let rooted = parts.next() == Some(Component::RootDir);
    let rest = parts.as_path();
    if !rooted || rest.as_os_str().is_empty() || !rest.components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(ImageError::GuestPath(guest.to_owned()));
    }
    let merged = MERGED.iter().any(|name| rest.starts_with(name) && rest != Path::new(name));
    Ok(if merged { Path::new("usr").join(rest) } else { rest.to_owned() })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn sample() -> Tree {
        let mut tree = Tree::with_merged_usr().unwrap();
        tree.bytes("/bin/x", "program", 0o755).unwrap();
        tree.bytes("/a/b/odd", "123", 0o600).unwrap();
        tree.link("/a/link", "b/odd").unwrap();
        tree.character("/dev/console", 0o600, 5, 1).unwrap();
        tree
    }

    #[test]
    fn cpio_can_be_read_back_and_is_aligned() {
        let mut bytes = Vec::new();
        sample().write_cpio(&mut bytes).unwrap();
        assert_eq!(bytes.len() % 4, 0);
        let mut rest = bytes.as_slice();
        let mut seen = Vec::new();
        loop {
            let reader = newc::Reader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                break;
            }
            seen.push((reader.entry().name().to_owned(), reader.entry().mode()));
            rest = reader.finish().unwrap();
        }
        let expected = [
            ("a", 0o040_755),
            ("a/b", 0o040_755),
            ("a/b/odd", 0o100_600),
            ("a/link", 0o120_777),
            ("bin", 0o120_777),
            ("dev", 0o040_755),
            ("dev/console", 0o020_600),
            ("lib", 0o120_777),
            ("lib64", 0o120_777),
            ("sbin", 0o120_777),
            ("usr", 0o040_755),
            ("usr/bin", 0o040_755),
            ("usr/bin/x", 0o100_755),
            ("usr/lib", 0o040_755),
            ("usr/lib64", 0o040_755),
            ("usr/sbin", 0o040_755),
        ];
        assert_eq!(seen, expected.map(|(name, mode)| (name.to_owned(), mode)));
    }

    #[test]
    fn tar_can_be_read_back() {
        let mut bytes = Vec::new();
        sample().write_tar(&mut bytes).unwrap();
        assert_eq!(bytes.len() % 512, 0);
        let mut archive = tar::Archive::new(bytes.as_slice());
        let names: Vec<_> = archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned()).collect();
        assert_eq!(names.len(), 16);
        assert!(names.contains(&PathBuf::from("usr/bin/x")));
    }

    #[test]
    fn the_hash_depends_on_content_mode_and_path() {
        let hash = |tree: &Tree| {
            let mut hasher = blake3::Hasher::new();
            tree.hash_into(&mut hasher).unwrap();
            hasher.finalize()
        };
        let same = hash(&sample());
        assert_eq!(same, hash(&sample()));
        for change in [("/bin/x", "Program", 0o755), ("/bin/x", "program", 0o700), ("/bin/y", "program", 0o755)] {
            let mut tree = sample();
            tree.bytes(change.0, change.1, change.2).unwrap();
            assert_ne!(same, hash(&tree), "{change:?}");
        }
    }

    #[test]
    fn paths_that_leave_the_guest_are_refused() {
        for path in ["relative", "/", "/../etc/passwd", "/a/../b", ""] {
            assert!(matches!(Tree::default().bytes(path, "", 0o644), Err(ImageError::GuestPath(_))), "{path}");
        }
    }
}
